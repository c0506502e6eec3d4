"""Receipts: waits until a revision is enforced, and says how it knows.

Enforced means: every replica that was listed when the revision was committed has swept it or left, or every lease
granted before it has run out. With no replica at all there is nothing to prove: ``enforced`` is false.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

import orjson
import structlog
from redis.exceptions import RedisError

from gateway import tasks
from gateway.enforcement import lease, scripts
from gateway.enforcement.connection import FEED_BLOCK_MS, Client
from gateway.enforcement.orphans import Orphans
from gateway.enforcement.replica import read_nack, reads_as_finishing
from gateway.enforcement.roll import Roll
from gateway.enforcement.signing import ForgedError
from gateway.enforcement.store import Committed, NotInitialisedError, Store
from gateway.policy.document import LONGEST_STALE, canonical

POLL_SECONDS = 0.25
"""How often the list of replicas is read anew while a receipt is open, in case the feed of acks is broken."""

_log = structlog.get_logger("portcullis.receipts")


class Basis(StrEnum):
    """How a receipt knows."""

    ALL_ACKED = "all_acked"
    LEASE_EXPIRY = "lease_expiry"
    NO_REPLICAS = "no_replicas"
    LOST = "lost"


@dataclass(slots=True)
class Member:
    """One replica in a receipt. ``ms`` counts from the commit's reply."""

    id: str
    cut_before: int
    state: str = "waiting"
    ms: float | None = None
    applied: bool = False
    streams_cut: int = 0
    draining: int = 0
    nack: dict[str, Any] = field(default_factory=dict)

    @property
    def settled(self) -> bool:
        """Whether nothing more is expected of it."""
        return self.state != "waiting"

    def hear(self, rev: int, said: dict[str, Any], ms: float) -> None:
        """Take in what the replica last said."""
        if self.settled:
            return
        self.nack = read_nack(said.get("nack", ""))
        if said.get("left"):
            self.streams_cut = max(self.streams_cut, said.get("streams_cut", 0) - self.cut_before)
            self.state, self.ms = "left", ms
        elif said["rev"] >= rev:
            self.applied = True
            self.streams_cut = max(0, said["streams_cut"] - self.cut_before)
            self.draining = said["draining"]
            if not reads_as_finishing(said.get("finishing", ""), rev):
                self.state, self.ms = "acked", ms

    def view(self) -> dict[str, Any]:
        """As it stands in the receipt."""
        name, _, incarnation = self.id.partition(":")
        return {
            "id": name,
            "incarnation": incarnation,
            "state": self.state,
            "ms": None if self.ms is None else round(self.ms, 3),
            "streams_cut": self.streams_cut,
            **({"nack": self.nack} if self.nack else {}),
        }


@dataclass(slots=True)
class Receipt:
    """The proof for one revision, open until ``basis`` is set."""

    gateway: str
    committed: Committed
    models: list[str]
    hold: str | None
    members: dict[str, Member]
    deadline: float
    reaches_back: bool = True
    basis: Basis | None = None
    elapsed_ms: float = 0.0
    done: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def revision(self) -> int:
        """The revision it proves."""
        return self.committed.entry.rev

    @property
    def enforced(self) -> bool:
        """Whether it is proven, and nothing that may happen to Redis can forget it."""
        return self.basis in (Basis.ALL_ACKED, Basis.LEASE_EXPIRY) and self.committed.durable is not False

    def hear(self, member: str, said: dict[str, Any], now: float) -> None:
        """Take in what a replica said."""
        listed = self.members.get(member)
        if listed is not None:
            listed.hear(self.revision, said, (now - self.committed.at) * 1000)

    @property
    def complete(self) -> bool:
        """Whether every listed replica has acknowledged, left or expired; never with none listed."""
        return bool(self.members) and all(member.settled for member in self.members.values())

    def expire(self) -> None:
        """The leases granted before the revision are over: who has not applied it serves nothing any more."""
        for member in self.members.values():
            if not member.settled and not member.applied:
                member.state = "expired"

    def close(self, basis: Basis, now: float) -> None:
        """It is known now, and how."""
        self.basis = basis
        self.elapsed_ms = (now - self.committed.at) * 1000

    def view(self) -> dict[str, Any]:
        """As the admin API gives it."""
        listed = self.members.values()
        view: dict[str, Any] = {
            "gateway": self.gateway,
            "revision": self.revision,
            "state": "enforced" if self.enforced else "pending",
            "enforced": self.enforced,
            "basis": self.basis and str(self.basis),
            "committed_at": self.committed.entry.at,
            "elapsed_ms": round(self.elapsed_ms or (lease.now() - self.committed.at) * 1000, 3),
            "streams_cut": sum(member.streams_cut for member in listed),
            "draining": sum(member.draining for member in listed if member.state == "waiting"),
            "models": self.models,
            "replicas": {
                "expected": len(self.members),
                "live": sum(member.state == "acked" for member in listed),
                "list": [member.view() for member in listed],
            },
        }
        if self.committed.durable is not None:
            view["durable"] = self.committed.durable
        if self.hold is not None:
            view["hold"] = self.hold
        return view


class Receipts:
    """Opens receipts, follows the acks, closes and stores them; prunes replicas that are provably gone."""

    def __init__(self, store: Store, feed: Client) -> None:
        self._store = store
        self._feed = feed
        self._open: dict[int, Receipt] = {}
        self.roll = Roll(store)
        self._record_once = store.redis.register_script(scripts.RECORD)
        self._tasks: list[asyncio.Task[Any]] = []
        self._heard = asyncio.Event()
        self._orphans = Orphans(store)
        self._durations: list[tuple[Basis, float]] = []

    def start(self) -> None:
        """Begin to listen."""
        self._tasks = [
            tasks.spawn(self._listen(), "receipts-acks"),
            tasks.spawn(self._every_second(self.roll.look), "receipts-roll"),
            tasks.spawn(self._every_second(self._complete_orphans), "receipts-orphans"),
        ]

    async def stop(self) -> None:
        """Listen no more."""
        await tasks.cancel(*self._tasks)

    def open(self, committed: Committed, models: list[str], hold: str | None = None) -> Receipt:
        """Begin to prove a revision, once; it goes on whether or not anybody waits."""
        known = self._open.get(committed.entry.rev)
        if known is not None and known.committed.entry.hash == committed.entry.hash:
            return known  # by the hash: after a loss another revision may have the same number
        committed = replace(committed, members=self.roll.expected(committed))
        receipt = Receipt(
            gateway=committed.current.document.gateway,
            committed=committed,
            models=models,
            hold=hold,
            members={name: Member(name, said["streams_cut"]) for name, said in committed.members.items()},
            deadline=lease.wait_until(committed.at, LONGEST_STALE),
            reaches_back=_oldest(committed) < committed.entry.rev - 1 or committed.previous.rev >= committed.entry.rev,
        )
        if not receipt.reaches_back:
            receipt.deadline = lease.wait_until(committed.at, _longest_denied(committed, models))
        self._open[receipt.revision] = receipt
        tasks.spawn(self._prove(receipt), f"receipt-{receipt.revision}")
        return receipt

    def take_durations(self) -> list[tuple[Basis, float]]:
        """How long each receipt took since the last call, in seconds: for the metrics."""
        taken, self._durations = self._durations, []
        return taken

    async def get(self, revision: int) -> dict[str, Any] | None:
        """A receipt, open or stored."""
        if revision in self._open:
            return self._open[revision].view()
        stored = await self._store.redis.hget(self._store.keys.receipts, str(revision))
        return orjson.loads(stored) if stored else None

    # ------------------------------------------------------------------ proving

    async def _prove(self, receipt: Receipt) -> None:
        try:
            if not receipt.members:
                receipt.close(Basis.NO_REPLICAS, lease.now())
            while receipt.basis is None:
                heard = self._heard
                if receipt.reaches_back:
                    await self._reach_back(receipt)
                await self._refresh(receipt)
                await self._conclude(receipt)
                if receipt.basis is None:
                    pause = min(POLL_SECONDS, max(receipt.deadline - lease.now(), 0.0) or POLL_SECONDS)
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(heard.wait(), pause)
            await self._record(receipt)
            receipt.done.set()
        finally:
            if self._open.get(receipt.revision) is receipt:
                del self._open[receipt.revision]

    async def _reach_back(self, receipt: Receipt) -> None:
        """Find out how long leases may last: a member that missed earlier revisions, too, may hold any of theirs.

        What those denied (a caller that one of them named, say) this one denies as well, whatever else it is about.
        Until it is known, as long as a lease can be at all.
        """
        committed = receipt.committed
        try:
            between = await self._store.documents(_oldest(committed), committed.entry.rev - 1)
        except (RedisError, OSError, TimeoutError):
            return
        except (ForgedError, ValueError):
            between = None  # some are no longer there
        receipt.reaches_back = False
        if between is not None:
            documents = (committed.previous.document, committed.current.document, *between)
            receipt.deadline = lease.wait_until(committed.at, max(document.longest_stale for document in documents))

    async def _conclude(self, receipt: Receipt) -> None:
        """Close it if it is known: by all acks, or by the end of all leases from before.

        A replica that has applied the revision and lets requests finish is waited for as long as it says so.
        """
        now = lease.now()
        overdue = now >= receipt.deadline
        if overdue:
            receipt.expire()
        if not (receipt.complete or overdue):
            return
        stands = await self._history_stands(receipt)
        if overdue and stands is False:
            _log.critical("revision_lost", revision=receipt.revision)
            receipt.close(Basis.LOST, now)
        elif receipt.complete and stands:
            expired = any(member.state == "expired" for member in receipt.members.values())
            receipt.close(Basis.LEASE_EXPIRY if expired else Basis.ALL_ACKED, lease.now())
        elif overdue and stands is None:
            receipt.close(Basis.LEASE_EXPIRY, now)

    async def _refresh(self, receipt: Receipt) -> None:
        try:
            for member, said in (await self._store.members()).items():
                if member in receipt.members and self.roll.vouched(member, said):
                    receipt.hear(member, said, lease.now())
        except (RedisError, OSError, TimeoutError):
            pass  # the leases run out without Redis too

    async def _history_stands(self, receipt: Receipt) -> bool | None:
        """Whether Redis still has the revision: ``False`` if it tells another history, ``None`` if it cannot be asked.

        By the entry's hash, not by the server's id: a restart that loses nothing changes nothing.
        """
        try:
            epoch, rev = await self._store.redis.hmget(self._store.keys.cur, "epoch", "rev")
            entry = await self._store.entry(receipt.revision)
        except (RedisError, OSError, TimeoutError):
            return None
        except ForgedError:
            return False
        committed = receipt.committed.entry
        current = epoch == committed.epoch.encode() and int(rev or 0) >= committed.rev
        return current and entry is not None and entry.hash == committed.hash

    async def _record(self, receipt: Receipt) -> None:
        """Keep it as evidence, before anybody is told."""
        view = canonical(receipt.view())
        self._durations.append((receipt.basis or Basis.NO_REPLICAS, receipt.elapsed_ms / 1000))
        keys = self._store.keys
        sealed = self._store.signer.seal("receipt", str(receipt.revision), view)
        try:
            await self._record_once(keys=[keys.receipts, keys.evidence], args=[receipt.revision, view, sealed])
        except (RedisError, OSError, TimeoutError) as error:
            _log.error("receipt_not_stored", revision=receipt.revision, error=str(error))

    # ------------------------------------------------------------------ listening

    async def _listen(self) -> None:
        """Wake whoever waits when a replica says something new. Polling goes on beside it: this only makes it fast."""
        last = None
        while True:
            try:
                if last is None:
                    newest = await self._feed.xrevrange(self._store.keys.acks, count=1)
                    last = newest[0][0] if newest else "0-0"
                answer = await self._feed.xread({self._store.keys.acks: last}, count=1000, block=FEED_BLOCK_MS)
                for _, entries in answer or ():
                    last = entries[-1][0]
                    heard, self._heard = self._heard, asyncio.Event()
                    heard.set()
            except (RedisError, OSError, TimeoutError):
                last = None
                await asyncio.sleep(0.2)

    # ------------------------------------------------------------------ orphans, ghosts

    async def _every_second(self, work: Callable[[], Awaitable[None]]) -> None:
        """Whatever Redis is or says now, a second later it may be better."""
        while True:
            await asyncio.sleep(1.0)
            try:
                await work()
            except (RedisError, OSError, TimeoutError, ValueError, NotInitialisedError, ForgedError) as error:
                _log.debug("not_now", error=str(error))

    async def _complete_orphans(self) -> None:
        """Prove what another control process committed and did not live to prove."""
        for committed, models in await self._orphans.due(set(self._open)):
            _log.warning("receipt_taken_over", revision=committed.entry.rev)
            self.open(committed, models)


def _oldest(committed: Committed) -> int:
    """The oldest revision that a listed replica may still stand at."""
    return min((said["rev"] for said in committed.members.values()), default=committed.entry.rev)


def _longest_denied(committed: Committed, models: list[str]) -> float:
    """The longest lease that a replica may still hold on a model that the revision denies, before it or after."""
    documents = (committed.previous.document, committed.current.document)
    denied = {*models, *committed.current.snapshot.offline}
    known = [
        document.max_stale_of(document.models[model])
        for document in documents
        for model in denied
        if model in document.models
    ]
    if models and known:
        return max(known)
    return max(document.longest_stale for document in documents)  # no models: a caller lost any of them
