"""A worker's cache of callers, by the fingerprint of their keys: bounded, and never older than its revision.

Loads go to Redis; a load that raced an eviction is thrown away and made again, so that what the cache holds is
never older than the last revision that named the caller.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from gateway.identity.records import CallerRecord
from gateway.policy.caller import Caller
from gateway.tasks import spawn

Load = Callable[[str], Awaitable[CallerRecord | None]]
"""Look a fingerprint up in Redis: the verified record that holds it, or ``None``."""

ATTEMPTS = 5
CONCURRENT_LOADS = 32
"""Look-ups under way at once; the others wait their turn, below the client's limit of 100 connections."""


OUTSTANDING_LOADS = 1024
"""Keys under way or waiting; who comes beyond is told to come again. The queue is some 10 ms of Redis long then."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """No caller has this key."""


UNKNOWN = Unknown()


class RacedError(Exception):
    """Evictions kept overtaking the load; the request is to be refused as stale."""


class BusyError(Exception):
    """Too many keys are being looked up; the request is to be refused for now."""


class Directory:
    """Callers by fingerprint. ``size`` bounds known and unknown keys each: made-up keys push no caller out.

    A known caller takes some 0.8 KB, an unknown key 0.2 KB.
    """

    def __init__(self, load: Load, size: int = 100_000) -> None:
        self._load = load
        self._size = size
        self._known: OrderedDict[str, Caller] = OrderedDict()
        self._unknown: OrderedDict[str, None] = OrderedDict()
        self._keys_of: dict[str, set[str]] = {}
        self._generation = 0
        self._loading: dict[str, asyncio.Task[Caller | Unknown]] = {}
        self._turns = asyncio.Semaphore(CONCURRENT_LOADS)

    def __len__(self) -> int:
        return len(self._known)

    def cached(self, fingerprint: str) -> Caller | Unknown | None:
        """The caller, or that there is none; ``None`` if Redis has to be asked."""
        caller = self._known.get(fingerprint)
        if caller is not None:
            return caller
        return UNKNOWN if fingerprint in self._unknown else None

    async def look_up(self, fingerprint: str) -> Caller | Unknown:
        """Ask Redis, and remember. However many ask for the same key at once, Redis is asked once.

        Raises:
            BusyError: too many others are being looked up.
            RacedError: five revisions in a row evicted what was being loaded.
            OSError: Redis does not answer.
        """
        loading = self._loading.get(fingerprint)
        if loading is None:
            if len(self._loading) >= OUTSTANDING_LOADS:
                raise BusyError
            loading = self._loading[fingerprint] = spawn(self._look_up(fingerprint), "directory-load", awaited=True)
            loading.add_done_callback(lambda _: self._loading.pop(fingerprint, None))
        return await asyncio.shield(loading)

    async def _look_up(self, fingerprint: str) -> Caller | Unknown:
        for _ in range(ATTEMPTS):
            generation = self._generation
            async with self._turns:
                record = await self._load(fingerprint)
            if generation == self._generation:
                return self._remember(fingerprint, record)
        raise RacedError

    def evict(self, callers: Iterable[str] | Literal["all"]) -> None:
        """Forget callers that a revision names, and every key that had no caller: it may have one now."""
        self._generation += 1
        self._unknown.clear()
        if callers == "all":
            self._known.clear()
            self._keys_of.clear()
            return
        for caller_id in callers:
            for fingerprint in self._keys_of.pop(caller_id, ()):
                self._known.pop(fingerprint, None)

    def _remember(self, fingerprint: str, record: CallerRecord | None) -> Caller | Unknown:
        if record is None:
            self._unknown[fingerprint] = None
            if len(self._unknown) > self._size:
                self._unknown.popitem(last=False)
            return UNKNOWN
        caller = record.caller()
        self._known[fingerprint] = caller
        self._keys_of.setdefault(caller.id, set()).add(fingerprint)
        if len(self._known) > self._size:
            oldest, dropped = self._known.popitem(last=False)
            keys = self._keys_of[dropped.id]
            keys.discard(oldest)
            if not keys:
                del self._keys_of[dropped.id]
        return caller
