"""Keeps the evidence: chains what happened, mirrors it to disk, signs where it ends, and hands that to others.

Every half second: what waits goes into the chain (the notary), what is new there is verified and written to this
machine's mirror. A head is signed over what the mirror has: after each receipt, and every minute.
"""

import asyncio
import platform
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import structlog
from redis.exceptions import RedisError

from gateway import tasks
from gateway.control.couriers import couriers
from gateway.enforcement.chain import Head, Place, signed_head
from gateway.enforcement.mirror import HEADS, Mirror, append
from gateway.enforcement.notary import Notary, witness
from gateway.enforcement.signing import ForgedError
from gateway.enforcement.store import NotInitialisedError, Store
from gateway.observability.metrics import Counters
from gateway.policy.document import canonical
from gateway.settings import Settings

LOOK_SECONDS = 0.5
HEAD_SECONDS = 60.0
PRUNE_SECONDS = 3600.0
SIGNED_IN_AGAIN = 3600.0
"""Seconds after which the same operator from the same address has signed in anew."""
MOST_SEEN = 10_000
DAY = 86_400.0

Reach = Callable[[Store, int, Sequence[str]], Awaitable[None]]

_NOT_NOW = (RedisError, OSError, TimeoutError, ForgedError, NotInitialisedError)
_log = structlog.get_logger("portcullis.evidence")


class Evidence:
    """One of these belongs to each control process."""

    def __init__(self, settings: Settings, store: Store, counters: Counters, reach: Reach) -> None:
        """Open the mirror. ``reach`` tells who can use what since a revision that is about orders.

        Raises:
            OSError, ForgedError: it cannot be used.
        """
        self._settings = settings
        self._store = store
        self._counters = counters
        self._reach = reach
        self.mirror = Mirror(settings.mirror, store.signer)
        self._notary = Notary(store, lambda: self.mirror.last, settings.audit.keep_entries)
        self._couriers = couriers(settings.audit, self.mirror.directory, counters)
        self._lock = asyncio.Lock()
        self._reaching: set[asyncio.Task[None]] = set()
        self._head: Head | None = None
        self._head_at = self._pruned_at = float("-inf")
        self._failing: str | None = None
        self._seen: OrderedDict[tuple[str, str], float] = OrderedDict()

    async def run(self) -> None:
        """Keep it, until cancelled."""
        carrying = [tasks.spawn(courier.run(), "evidence-courier") for courier in self._couriers]
        try:
            while True:
                await self._look()
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            await tasks.cancel(*carrying)
            self.mirror.close()

    async def _look(self) -> None:
        try:
            await self.turn()
        except _NOT_NOW as error:
            cause = type(error).__name__
            self._counters.add("portcullis_evidence_failures_total", (cause,))
            if cause != self._failing:
                _log.error("evidence_not_kept", cause=cause, error=str(error))
            self._failing = cause
            return
        if self._failing is not None:
            _log.info("evidence_kept_again")
        self._failing = None
        await self._prune()

    async def turn(self) -> None:
        """Chain and mirror what there is; sign a head where that is due.

        Raises:
            RedisError, OSError, ForgedError: not now, or the chain in Redis is none of ours.
        """
        async with self._lock:
            kinds = await self._gather()
            due = time.monotonic() - self._head_at >= HEAD_SECONDS
            if self.mirror.last is not None and ("receipt" in kinds or due):
                await self._sign(self.mirror.last)

    async def _gather(self) -> set[str]:
        for revision, orders in await self._notary.turn():
            if orders:
                task = tasks.spawn(self._tell_reach(revision, orders), f"evidence-reach-{revision}")
                self._reaching.add(task)
                task.add_done_callback(self._reaching.discard)
        return await self.mirror.catch_up(self._store.redis, self._store.keys)

    async def _tell_reach(self, revision: int, orders: tuple[str, ...]) -> None:
        try:
            await self._reach(self._store, revision, orders)
        except (*_NOT_NOW, ValueError) as error:
            _log.error("reach_not_told", revision=revision, error=type(error).__name__)

    async def settle(self) -> Head | None:
        """A head over everything, what is still being found out included.

        Raises:
            RedisError, OSError, ForgedError: not now.
        """
        await self.turn()
        while self._reaching:
            await asyncio.wait(set(self._reaching))
            await self.turn()
        return await self.head()

    async def head(self) -> Head | None:
        """A head of this moment, over everything that there is.

        Raises:
            RedisError, OSError, ForgedError: not now.
        """
        async with self._lock:
            await self._gather()
            return None if self.mirror.last is None else await self._sign(self.mirror.last)

    async def _sign(self, place: Place) -> Head:
        gateway, now = self._settings.gateway, datetime.now(UTC).isoformat(timespec="milliseconds")
        head = signed_head(self._store.signer, gateway, now, place, platform.node())
        await asyncio.to_thread(append, self.mirror.directory / HEADS, canonical(head.view()) + b"\n")
        self._head, self._head_at = head, time.monotonic()
        for courier in self._couriers:
            courier.take(head)
        return head

    async def _prune(self) -> None:
        """Remove what need not be kept any more, once an hour."""
        days = self._settings.audit.keep_days
        if not days or time.monotonic() - self._pruned_at < PRUNE_SECONDS:
            return
        self._pruned_at = time.monotonic()
        for path in await asyncio.to_thread(self.mirror.prune, time.time() - days * DAY):
            _log.warning("evidence_removed", file=str(path), keep_days=days)

    # ------------------------------------------------------------------ what else is told

    def tell(self, kind: str, said: dict[str, Any], orders: tuple[str, ...] = ()) -> None:
        """Leave something for the chain; whoever tells it does not wait, and a Redis that is away is logged."""
        tasks.spawn(self._tell(kind, said, orders), "evidence-tell")

    async def _tell(self, kind: str, said: dict[str, Any], orders: tuple[str, ...]) -> None:
        try:
            await witness(self._store, kind, said, orders)
        except (RedisError, OSError, TimeoutError) as error:
            self._counters.add("portcullis_evidence_failures_total", (type(error).__name__,))
            _log.error("evidence_not_told", kind=kind, error=type(error).__name__)

    def signed_in(self, operator: str, address: str) -> None:
        """An operator's token came from an address: told at its first use there, and once an hour."""
        if self._is_new((operator, address)):
            self.tell("sign_in", {"operator": operator, "from": address})

    def turned_away(self, address: str) -> None:
        """A token that nobody has came from an address: told once an hour, for each address."""
        if self._is_new(("", address)):
            self.tell("sign_in_refused", {"from": address})

    def _is_new(self, seen: tuple[str, str], now: Callable[[], float] = time.monotonic) -> bool:
        moment = now()
        if moment - self._seen.get(seen, float("-inf")) < SIGNED_IN_AGAIN:
            return False
        self._seen[seen] = moment
        self._seen.move_to_end(seen)
        if len(self._seen) > MOST_SEEN:
            self._seen.popitem(last=False)
        return True
