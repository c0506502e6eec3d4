"""The arithmetic of leases, and the clock they run on.

A replica may serve a model until ``t0 + D(1-ε) - guard``, t0 taken before the renewal was sent; the control side
waits until ``t_commit + D(1+ε) + guard``, t_commit taken after the commit's reply. With clock rates within 1±ε
the first is always over before the second (Gray & Cheriton 1989).
"""

import time

EPSILON = 0.01
"""How far two clocks' rates may be apart: a hundred times the 100 ppm that crystal oscillators are allowed."""

SLOWEST = 1 - EPSILON

GUARD = 0.05
"""Seconds between the check of a deadline and the write that it allows."""

RENEW_EVERY = 1.0
RENEW_TIMEOUT = 0.5
RENEWALS_PER_LEASE = 3
"""A lease outlives two renewals that get lost, as leases commonly do."""

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def now() -> float:
    """Seconds on a clock that no one sets and that runs while the machine sleeps."""
    return time.clock_gettime(_CLOCK)


def renew_every(shortest: float) -> float:
    """Seconds between renewals where the shortest ``max_stale`` is this one."""
    return min(RENEW_EVERY, shortest / RENEWALS_PER_LEASE)


def serve_until(renewed_at: float, max_stale: float) -> float:
    """Until when a replica may serve a model on a renewal that was sent at ``renewed_at``."""
    return renewed_at + max_stale * SLOWEST - GUARD


def wait_until(committed_at: float, max_stale: float) -> float:
    """From when on every lease granted before a commit is over."""
    return committed_at + max_stale * (1 + EPSILON) + GUARD
