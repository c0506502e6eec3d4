"""What a worker knows of things that providers keep: asked of Redis when a request names one, noted when one is made.

Of things that never change what was once found is kept; of the others Redis is asked each time. Whatever fails or is
not found makes a thing unknown, and for an unknown thing every model counts that it could be of.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

import structlog
from redis.exceptions import RedisError

from gateway.dialects.keeping import CHANGEABLE, Thing
from gateway.enforcement.made import Entry, Made, MadeStore
from gateway.observability.metrics import Counters

SECONDS = 0.5
"""How long Redis may take to answer; as a renewal of the lease."""

REMEMBERED = 20_000
"""Entries that a worker keeps: some 10 MB."""

AT_ONCE = 32
"""Questions under way; together with those for callers below the client's limit of 100 connections."""

OUTSTANDING = 1024
"""Questions under way or waiting; who comes beyond is told to come again."""

_log = structlog.get_logger("portcullis.ledger")
T = TypeVar("T")


class LedgerBusyError(Exception):
    """Too many ask at once."""


class Ledger:
    """One worker's view of what was made. Without a store nothing is known."""

    def __init__(self, store: MadeStore | None, counters: Counters) -> None:
        self._store = store
        self._counters = counters
        self._known: OrderedDict[Made, Entry] = OrderedDict()
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._outstanding = 0
        self._alarmed = False
        if store is not None:
            store.forged = self._forged

    async def find(self, provider: str, things: Sequence[Thing]) -> list[Entry | None]:
        """What is known of each thing.

        Raises:
            LedgerBusyError: too many ask at once.
            OSError, TimeoutError: Redis does not say.
        """
        made = [Made(provider, *thing) for thing in things]
        missing = [one for one in made if one.id and one not in self._known]
        found: dict[Made, Entry | None] = {one: self._known.get(one) for one in made}
        if missing and self._store is not None:
            entries = await self._in_turn(partial(self._store.get, missing))
            found.update(zip(missing, entries, strict=True))
            for one, entry in found.items():
                self._keep(one, entry)
        return [found[one] for one in made]

    async def change(self, provider: str, things: Sequence[Thing], names: Sequence[str], also: Sequence[str]) -> None:
        """Note the models that a request is about to leave in things.

        Raises:
            LedgerBusyError: too many ask at once.
            OSError, TimeoutError: it is not noted; the request must not go on.
        """
        if self._store is not None:
            await self._in_turn(partial(self._add, self._store, provider, things, names, also))

    @staticmethod
    async def _add(
        store: MadeStore, provider: str, things: Sequence[Thing], names: Sequence[str], also: Sequence[str]
    ) -> None:
        for thing in things:
            if thing.id:
                await store.add(Made(provider, *thing), names, also)

    async def remember(self, provider: str, things: Sequence[Thing], entry: Entry) -> None:
        """Remember what was made. If that fails, nobody knows it: counted, and the client is not kept waiting."""
        if self._store is None:
            return
        made = [Made(provider, *thing) for thing in things]
        try:
            await self._in_turn(partial(self._store.put, made, entry))
        except (LedgerBusyError, OSError, TimeoutError):
            self._counters.add("portcullis_ledger_failures_total")
            return
        for one in made:
            self._keep(one, entry)

    async def forget(self, provider: str, things: Sequence[Thing]) -> None:
        """Forget what the provider has forgotten; if that fails, its time runs out."""
        made = [Made(provider, *thing) for thing in things]
        for one in made:
            self._known.pop(one, None)
        if self._store is None:
            return
        try:
            await self._in_turn(partial(self._store.forget, made))
        except (LedgerBusyError, OSError, TimeoutError):
            self._counters.add("portcullis_ledger_failures_total")

    def _keep(self, made: Made, entry: Entry | None) -> None:
        if entry is None or made.kind in CHANGEABLE:
            return
        self._known[made] = entry
        self._known.move_to_end(made)
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)

    def _forged(self, made: Made) -> None:
        """Somebody else wrote this, or with another key: an alarm, once in the log, each time in the counter."""
        self._counters.add("portcullis_ledger_forged_total")
        if not self._alarmed:
            self._alarmed = True
            _log.error("ledger_forged", provider=made.provider, kind=made.kind)

    async def _in_turn(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask Redis when it is one's turn."""
        if self._outstanding >= OUTSTANDING:
            raise LedgerBusyError
        self._outstanding += 1
        try:
            async with asyncio.timeout(SECONDS), self._turns:
                return await ask()
        except RedisError as error:
            raise OSError(str(error)) from error
        finally:
            self._outstanding -= 1
