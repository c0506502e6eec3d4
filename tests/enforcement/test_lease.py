"""A lease that a replica holds is over before the control side says so."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.enforcement import lease
from gateway.enforcement.lease import EPSILON, GUARD, serve_until, wait_until

moments = st.floats(0, 1e9)
ages = st.floats(1.0, 3600.0)
rates = st.floats(1 - EPSILON, 1 + EPSILON)


@given(moments, st.floats(0, 1e6), ages)
def test_on_one_clock(renewed_at, later, max_stale):
    """t0 is taken before the renewal is sent, t_commit after the commit's reply: t0 <= t_commit."""
    assert serve_until(renewed_at, max_stale) < wait_until(renewed_at + later, max_stale)


@given(ages, rates, rates, st.floats(0, 1000), st.floats(0, 1e6), st.floats(0, 1e6))
def test_on_two_clocks_that_differ_as_much_as_allowed(max_stale, replicas_rate, controls_rate, later, here, there):
    """In true time, of two clocks that were set to anything and run at any allowed rate."""
    renewed_at, committed_at = 0.0, later
    replica_stops = (serve_until(here, max_stale) - here) / replicas_rate + renewed_at
    control_knows = (wait_until(there, max_stale) - there) / controls_rate + committed_at
    assert replica_stops < control_knows


@pytest.mark.parametrize("rates", [(1 - 3 * EPSILON, 1), (1, 1 + 3 * EPSILON)])
def test_beyond_that_it_would_not_hold(rates):
    """The property above is no tautology: clocks that differ more break it."""
    replicas_rate, controls_rate = rates
    max_stale = 3600.0
    assert serve_until(0, max_stale) / replicas_rate > wait_until(0, max_stale) / controls_rate


def test_the_guard_is_on_both_sides():
    assert serve_until(0, 10) == pytest.approx(10 * (1 - EPSILON) - GUARD)
    assert wait_until(0, 10) == pytest.approx(10 * (1 + EPSILON) + GUARD)
    assert lease.RENEW_TIMEOUT < lease.RENEW_EVERY < serve_until(0, 1.0) + lease.RENEW_EVERY


@given(ages)
def test_two_renewals_in_a_row_may_be_lost(max_stale):
    """Also of the shortest lease that a policy may give."""
    assert 2 * lease.renew_every(max_stale) < serve_until(0, max_stale)
    assert lease.renew_every(max_stale) <= lease.RENEW_EVERY


def test_the_clock_is_none_that_anybody_sets(monkeypatch):
    before = lease.now()
    monkeypatch.setattr(time, "time", lambda: 0.0)
    monkeypatch.setattr(time, "monotonic", lambda: 0.0)
    assert before <= lease.now() < before + 5
