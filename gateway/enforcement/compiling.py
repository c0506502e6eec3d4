"""Compiling a policy beside the event loop, where it takes long enough to be felt.

A thousand models under a thousand directives take a tenth of a second. A small policy is compiled at once: to hand it
to a thread and back would take longer.
"""

import asyncio
import gc
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import count
from typing import TypeVar

from gateway.policy.document import Document
from gateway.policy.snapshot import Snapshot

SMALL_OBJECTS = 50
"""Models, restrictions and so on, 0.05 ms each: below it the loop waits 2.5 ms at the most."""

SMALL_BYTES = 16 * 1024
"""Of a document, some 0.2 µs each to read and to check."""

LOOKED_THROUGH = 16
"""How often what is left out of garbage collections is taken in again: cycles that froze with it are freed then."""

_Made = TypeVar("_Made")
_times = count(1)


async def compiled(document: Document, revision: int) -> Snapshot:
    """The policy as it counts by now. What begins while this runs may be missing: ``outlived`` tells."""
    return await beside(document, Snapshot, document, revision, datetime.now(UTC))


def outlived(snapshot: Snapshot) -> bool:
    """Whether something that denies has begun since a snapshot was compiled."""
    return snapshot.next_boundary is not None and snapshot.next_boundary <= datetime.now(UTC)


async def beside(size_of: Document | bytes, work: Callable[..., _Made], *arguments: object) -> _Made:
    """Do work that takes as long as something is large: at once, or in a thread."""
    return work(*arguments) if _small(size_of) else await asyncio.to_thread(_quietly, work, *arguments)


def _quietly(work: Callable[..., _Made], *arguments: object) -> _Made:
    """Work without garbage collections, and leave what it made out of later ones.

    A policy has no cycles, and a pass over a large one stops the loop, and every thread, for tens of milliseconds.
    """
    gc.disable()
    try:
        return work(*arguments)
    finally:
        if next(_times) % LOOKED_THROUGH:
            gc.freeze()
        else:
            gc.unfreeze()
        gc.enable()


def _small(what: Document | bytes) -> bool:
    if isinstance(what, bytes):
        return len(what) <= SMALL_BYTES
    parts = (what.models, what.holds, what.directives, what.orgs, what.groups, what.terms)
    return sum(len(part) for part in parts) <= SMALL_OBJECTS
