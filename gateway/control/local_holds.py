"""Holds of this machine while Redis cannot be reached: placed at once, kept on disk, proposed when it is back.

A local hold is dropped when every worker has applied the revision that carries it, and not before.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from redis.exceptions import RedisError

from gateway.control.ids import derive
from gateway.control.settling import like
from gateway.control.shapes import InlineOrder
from gateway.enforcement.entry import Position
from gateway.enforcement.local import Holds, LocalHold, keep_holds, load_holds, write_holds
from gateway.enforcement.memory import recall
from gateway.enforcement.receipts import Receipts
from gateway.enforcement.signing import ForgedError
from gateway.enforcement.store import Committed, ConflictError, Current, LostError, NotInitialisedError, Store
from gateway.observability.metrics import Sample
from gateway.policy.document import Document, Hold, Order
from gateway.policy.snapshot import Snapshot

LOOK_SECONDS = 1.0
ATTEMPTS = 50

Spread = Callable[[list[dict[str, Any]]], Awaitable[list[dict[str, Any] | None]]]
"""Tells every worker of this machine which local holds stand; gives what each answered, ``None`` for none."""

_log = structlog.get_logger("portcullis.control")


@dataclass(frozen=True, slots=True)
class Standing:
    """What workers said of a local hold: how many there are, how many hold it, and what it cut."""

    workers: int
    holding: int
    streams_cut: int
    kept: bool = True


class LocalHolds:
    """The holds of this machine. Nobody else places or drops one.

    Raises:
        UnreadableError: some stood when the last control process ended, and it cannot be known which.
    """

    def __init__(self, store: Store, receipts: Receipts, state_dir: Path, spread: Spread) -> None:
        self._store = store
        self._receipts = receipts
        self._state_dir = state_dir
        self._spread = spread
        self._holds: dict[str, LocalHold] = {local.id: local for local in load_holds(state_dir)}
        self._turn = asyncio.Lock()
        self._writing = asyncio.Lock()
        self._away = False

    # ------------------------------------------------------------------ what stands

    @property
    def standing(self) -> Holds:
        """Those that no revision carries yet, newest first."""
        waiting = (local for local in self._holds.values() if local.carried is None)
        return tuple(sorted(waiting, key=lambda local: local.hold.at, reverse=True))

    def find(self, hold_id: str) -> LocalHold | None:
        """One that no revision carries yet."""
        local = self._holds.get(hold_id)
        return None if local is None or local.carried is not None else local

    def by_operation(self, operation: str) -> LocalHold | None:
        """The one that a call placed before."""
        return next((local for local in self._holds.values() if local.operation == operation), None)

    async def proposed(self) -> None:
        """See to it that Redis has them all, before somebody opens something by what it has.

        Raises:
            RedisError, OSError: Redis cannot be reached.
        """
        if self.standing:
            async with self._turn:
                await self._propose_all()

    async def policy(self) -> Snapshot | None:
        """The policy as this machine last knew it."""
        if self._store.last is not None:
            return self._store.last.snapshot
        remembered = await asyncio.to_thread(recall, self._state_dir, self._store.signer)
        return None if remembered is None else Snapshot(remembered.document, remembered.entry.rev)

    # ------------------------------------------------------------------ placing, taking back

    async def place(self, local: LocalHold) -> Standing:
        """Let it stand: on all workers at once, and on disk."""
        self._holds[local.id] = local
        said, kept = await asyncio.gather(self._tell(), self._keep())
        told = [answer for answer in said if answer is not None]
        _log.warning(
            "held_locally", hold=local.id, actor=local.hold.by, models=local.hold.models, order=local.hold.order
        )
        holding = sum(local.id in answer["held"] for answer in told)
        return Standing(len(said), holding, sum(answer["streams_cut"] for answer in told), kept)

    async def withdraw(self, hold_id: str) -> None:
        """Take one back that no revision carries."""
        async with self._turn:
            local = self._holds.pop(hold_id, None)
            if local is not None:
                await asyncio.gather(self._tell(), self._keep())
                _log.warning("local_hold_withdrawn", hold=hold_id, actor=local.hold.by)

    async def _tell(self) -> list[dict[str, Any] | None]:
        return await self._spread(write_holds(tuple(self._holds.values())))

    async def _keep(self) -> bool:
        async with self._writing:
            try:
                await asyncio.to_thread(keep_holds, self._state_dir, tuple(self._holds.values()))
            except OSError as error:
                _log.critical("local_holds_not_kept", error=str(error))
                return False
        return True

    # ------------------------------------------------------------------ when Redis is back

    async def run(self) -> None:
        """Tell workers, and propose to Redis, every second as long as there is one."""
        while True:
            if self._holds:
                await self.look()
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Commit what is not, drop what every worker has by a revision."""
        async with self._turn:
            try:
                await self._propose_all()
                self._away = False
            except (RedisError, OSError, TimeoutError, NotInitialisedError, ForgedError, ConflictError) as error:
                if not self._away:
                    _log.warning("local_holds_wait", holds=sorted(self._holds), error=type(error).__name__)
                self._away = True
            await self._drop_applied(await self._tell())

    async def _propose_all(self) -> None:
        for local in list(self._holds.values()):
            if local.carried is None or not await self._stands(local.carried):
                carried = await self._propose(local)
                self._holds[local.id] = local.model_copy(update={"carried": carried})
                await self._keep()

    async def _stands(self, position: Position) -> bool:
        """Whether Redis still has the revision: after a loss its number says nothing."""
        current = await self._store.current()
        entry = await self._store.entry(position.rev)
        return current.position.epoch == position.epoch and entry is not None and entry.hash == position.hash

    async def _propose(self, local: LocalHold) -> Position:
        """Commit it as the hold that it is, by whom and when it was placed; the revision that carries it."""
        operation = local.operation
        for _ in range(ATTEMPTS):
            base = await self._store.current()
            there = base.document.holds.get(local.id)
            if there is not None and (there.by, there.at) == (local.hold.by, local.hold.at):
                return base.position
            try:
                return (await self._commit(base, local, operation)).entry.position
            except LostError:
                operation = f"{local.operation}:{base.position.epoch}"
            except ConflictError:
                continue
        raise ConflictError

    async def _commit(self, base: Current, local: LocalHold, operation: str) -> Committed:
        document, hold_id, hold = carrying(base, local)
        self._holds[local.id] = local.model_copy(update={"uncertain": True})
        committed = await self._store.commit(
            base,
            document,
            actor=hold.by,
            action="offline",
            subject=f"holds/{hold_id}",
            order=hold.order,
            op_id=operation,
        )
        if not committed.repeated:
            self._receipts.open(committed, base.snapshot.covered(hold.models), hold_id)
            _log.warning("local_hold_committed", hold=hold_id, actor=hold.by, revision=committed.entry.rev)
        return committed

    async def _drop_applied(self, said: list[dict[str, Any] | None]) -> None:
        """Forget those that are carried and that no worker holds by itself any more."""
        if any(answer is None for answer in said):
            return
        held = {hold_id for answer in said if answer is not None for hold_id in answer["held"]}
        gone = [local.id for local in self._holds.values() if local.carried is not None and local.id not in held]
        if gone:
            for hold_id in gone:
                del self._holds[hold_id]
            await asyncio.gather(self._tell(), self._keep())

    def samples(self) -> list[Sample]:
        """How many stand."""
        return [("portcullis_local_holds", (), len(self._holds))]


def carrying(base: Current, local: LocalHold) -> tuple[Document, str, Hold]:
    """The policy with a local hold in it, under the order that is there or comes with it; its id there, and itself."""
    document, hold_id = base.document, local.id
    if hold_id in document.holds:  # somebody else's, of the same digits
        hold_id = derive("h", local.operation, document.holds)
    orders, order_id = _settled(document, local)
    hold = local.hold.model_copy(update={"order": order_id})
    changed = {**document.changed, f"holds/{hold_id}": base.rev + 1}
    if order_id is not None and order_id not in document.orders:
        changed[f"orders/{order_id}"] = base.rev + 1
    return document.edited(holds={**document.holds, hold_id: hold}, orders=orders, changed=changed), hold_id, hold


def _settled(document: Document, local: LocalHold) -> tuple[dict[str, Order], str | None]:
    """The orders with the one that a hold is under, and its id there. One that is gone for good is none."""
    order_id, order = local.hold.order, local.order
    if order_id is None or order_id in document.orders:
        return document.orders, order_id
    if order is None:
        return document.orders, None
    known = like(document.orders, InlineOrder(authority=order.authority, reference=order.reference))
    return (document.orders, known) if known else ({**document.orders, order_id: order}, order_id)
