"""Gives a replica Redis and time: reads the feed, applies revisions, renews the lease.

Two loops. The feed makes it fast; the renewal makes it certain: if the feed is dead, its STALE is enough to catch
up, and if both are dead the lease ends. Applying a revision is one synchronous callback, and the renewal that
acknowledges it comes after.
"""

import asyncio
import contextlib
import itertools
import platform
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import structlog
from redis.exceptions import RedisError

from gateway import tasks
from gateway.enforcement import lease, scripts
from gateway.enforcement.compiling import compiled, outlived
from gateway.enforcement.connection import Client
from gateway.enforcement.entry import RESEAL, Entry, Position, hash_of, read_entry
from gateway.enforcement.feed import Feed, NotInitialisedError
from gateway.enforcement.keys import Keys
from gateway.enforcement.local import merged
from gateway.enforcement.memory import recall, remember
from gateway.enforcement.records import Records
from gateway.enforcement.replica import (
    Fenced,
    Gap,
    Gone,
    Regressed,
    Renewal,
    Replica,
    State,
    read_nack,
    write_finishing,
    write_nack,
)
from gateway.enforcement.signing import ForgedError, Verifier
from gateway.enforcement.standing import Callers, Plane, Standing
from gateway.enforcement.vouching import Voucher
from gateway.errors import describe
from gateway.identity.directory import UNKNOWN, Unknown
from gateway.identity.records import CallerRecord
from gateway.observability.metrics import Sample
from gateway.policy.caller import Caller
from gateway.policy.document import LONGEST_STALE, Document
from gateway.policy.snapshot import Snapshot


class Agent(Standing):
    """Runs one replica. ``commands`` and ``feed`` are clients of their own, with timeouts of their own."""

    def __init__(
        self,
        name: str,
        state_dir: Path,
        verifier: Verifier,
        keys: Keys,
        commands: Client,
        feed: Client,
        version: str,
        voucher: Voucher,
    ) -> None:
        remembered = recall(state_dir, verifier)
        replica = Replica(secrets.token_hex(16), None if remembered is None else remembered.entry.position)
        super().__init__(replica, state_dir, structlog.get_logger("portcullis.replica").bind(replica=name))
        self.name = name
        self.renew_failures = 0
        self.fenced_times = 0
        self.forged: Counter[str] = Counter(policy=0, caller=0)
        self.regressions = 0
        self.nacks = 0
        self.records = Records(commands, keys, verifier)
        self._verifier = verifier
        self._keys = keys
        self._commands = commands
        self._feed = Feed(commands, feed, keys, verifier)
        self._version = version
        self._voucher = voucher
        self._doc = ""
        self._applying = asyncio.Lock()
        self._tasks: list[asyncio.Task[Any]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._writer: asyncio.Task[Any] | None = None
        self._told = ""
        self._renew_script = commands.register_script(scripts.RENEW)
        self._leave_script = commands.register_script(scripts.LEAVE)
        self.ready = asyncio.Event()
        self.on_reborn: Callable[[], None] = lambda: None

    @property
    def member(self) -> str:
        """This replica as Redis lists it: name and incarnation."""
        return f"{self.name}:{self.replica.incarnation}"

    def start(self, plane: Plane) -> None:
        """Begin to follow the policy."""
        self._plane = plane
        self._tasks = [
            tasks.spawn(self._forever(self._follow, "replica-feed"), "replica-feed-keeper"),
            tasks.spawn(self._forever(self._keep_renewing, "replica-renew"), "replica-renew-keeper"),
        ]

    async def leave(self) -> None:
        """Say that this replica serves nothing any more. Only after the listener is closed and streams are gone."""
        await tasks.cancel(*self._tasks, self._boundary)
        if self.replica.position is not None and self.replica.state is not State.FENCED:
            with contextlib.suppress(RedisError, OSError, TimeoutError, Gap, Gone, Fenced):
                await self._renew()  # a revision that cut its last stream may be why it can leave: that is to be told
        for timer in (self._timer, self._boundary_timer):
            if timer is not None:
                timer.cancel()
        self.replica.fence()
        mac = self._voucher.leave(self.member)
        with contextlib.suppress(RedisError, OSError, TimeoutError):
            async with asyncio.timeout(lease.RENEW_TIMEOUT):
                await self._leave_script(keys=[self._keys.replicas, self._keys.acks], args=[self.member, "", mac])

    # ------------------------------------------------------------------ the two loops

    async def _forever(self, loop: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
        """Whatever a loop dies of, nobody foresaw it: it is told, the lease is given back, and the loop begins anew."""
        while True:
            running = tasks.spawn(loop(), name)
            try:
                await asyncio.wait((running,))
            finally:
                await tasks.cancel(running)
            self.replica.fence()
            self._sever()
            await asyncio.sleep(1.0)

    async def _follow(self) -> None:
        while True:
            try:
                if self.replica.position is None or self.replica.state is State.FENCED:
                    await self._synchronise()
                entries = await self._read_feed()
                if entries:
                    await self._advance(entries)
            except Gap:
                await self._recover(self._synchronise())
            except Gone:
                self._come_back()
            except (RedisError, OSError, TimeoutError, Fenced, ForgedError, NotInitialisedError, ValueError) as error:
                self._report(error)
                await asyncio.sleep(0.2 if isinstance(error, RedisError | OSError | TimeoutError) else 1.0)

    async def _keep_renewing(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            if self.replica.position is not None and self.replica.state is not State.FENCED:
                await self._recover(self._renew())
            await asyncio.sleep(max(0.0, began + lease.renew_every(min(self._classes())) - loop.time()))

    async def _recover(self, work: Awaitable[None]) -> None:
        """Run a step of either loop; whatever it meets leads to a state, not to the loop's end."""
        try:
            await work
        except Gap:
            with contextlib.suppress(Gap):
                await self._recover(self._catch_up())
        except Gone:
            self._come_back()
        except (RedisError, OSError, TimeoutError, Fenced, ForgedError, NotInitialisedError, ValueError) as error:
            self._report(error)

    def _come_back(self) -> None:
        """This incarnation was closed while it was away: another one takes its place, without a lease."""
        self.replica.reborn(secrets.token_hex(16))
        self._sever()
        self.on_reborn()

    def _report(self, error: Exception) -> None:
        """Log a change of state once, and fence where the history is another one."""
        if isinstance(error, Fenced):
            if self.replica.state is not State.FENCED:
                self.fenced_times += 1
                self.regressions += isinstance(error, Regressed)
                self.replica.fence()
                self._sever()
            self._tell("fenced", error)
        elif isinstance(error, RedisError | OSError | TimeoutError):
            self._tell("redis_unreachable", error)
        else:
            self.forged["policy"] += isinstance(error, ForgedError)
            self._tell("policy_unusable", error)

    def _tell(self, event: str, error: Exception | None = None) -> None:
        if event != self._told:
            self._told = event
            if error is None:
                self._log.info(event, revision=self.replica.position and self.replica.position.rev)
            else:
                self._log.error(event, error=describe(error))

    # ------------------------------------------------------------------ reading

    async def _read_feed(self) -> list[bytes]:
        here = self.replica.position
        return [] if here is None else await self._feed.news(here.rev)

    async def _catch_up(self) -> None:
        """Read on from where the replica stands, as a renewal's STALE asks for."""
        if self.replica.position is None:
            raise Gap
        entries = await self._feed.after(self.replica.position.rev)
        if entries:
            await self._advance(entries)
        else:
            await self._synchronise()

    async def _advance(self, sealed: list[bytes]) -> None:
        """Apply contiguous entries: load first, then one synchronous callback, then acknowledge."""
        async with self._applying:
            entries = [read_entry(data, self._verifier) for data in sealed]
            here = self.replica.position
            entries = [entry for entry in entries if here is None or entry.rev > here.rev]
            if not entries:
                return
            _contiguous(self.replica, entries)
            if any(entry.action == RESEAL for entry in entries):
                self._doc = ""  # the same document, by another key: what is remembered must verify, too
            callers = _named(entries)
            await self._adopt(entries[-1], sealed[-1], callers)
        await self._renew()

    async def _synchronise(self) -> None:
        """Take the current revision whole, and forget all cached callers."""
        async with self._applying:
            entry, sealed = await self._feed.current(remembers=self.replica.remembered is not None)
            self.replica.check_jump(entry.position)
            await self._check_lineage(entry.position)
            self._doc = ""
            await self._adopt(entry, sealed, "all")
        await self._renew()

    async def _check_lineage(self, position: Position) -> None:
        """Before a jump within an epoch: what was applied last must be in the history that leads there.

        A promoted server that lacks a revision goes on counting from the one before; to follow it would be to forget.

        Raises:
            Fenced: it is not; only a policy restored under a new epoch leads on.
        """
        known = self.replica.position or self.replica.remembered
        if known is None or known.epoch != position.epoch or known.rev == position.rev:
            return
        stored = await self._commands.xrange(self._keys.log, min=f"{known.rev}-0", max=f"{known.rev}-0")
        if not stored or hash_of(stored[0][1].get(b"entry", b"")) != known.hash:
            raise Fenced(f"the log's revision {known.rev} is not the one that was applied")

    async def _adopt(self, entry: Entry, sealed_entry: bytes, callers: Callers) -> None:
        sealed_document = None
        held = self._local_at(entry.position)
        document = self._document
        if entry.doc != self._doc or document is None:
            document, sealed_document = await self._read(entry)
            snapshot = await compiled(merged(document, held), entry.rev)
        elif self._snapshot is None or held != self._held:
            snapshot = await compiled(merged(document, held), entry.rev)
        else:
            snapshot = self._snapshot.renumbered(entry.rev)
        fresh = await self._look_up_anew(callers)
        while outlived(snapshot) or held != self._local_at(entry.position):
            held = self._local_at(entry.position)  # what this replica denies by now, it must go on denying
            snapshot = await compiled(merged(document, held), entry.rev)
        self._document, self._held = document, held
        self._apply(snapshot, entry, callers, fresh)
        self._remember_later(sealed_entry, sealed_document)

    async def _read(self, entry: Entry) -> tuple[Document, bytes]:
        """The document of a revision; what of it cannot be read is denied, and told.

        Raises:
            ForgedError: it is not ours.
            ValueError: it cannot be known what it denies: it is not applied, and told, too.
        """
        try:
            (document, unread), sealed = await self.records.read(entry.doc, entry.at)
        except ValueError:
            self._refuse_parts(entry.rev, ("the whole document",))
            raise
        self._refuse_parts(entry.rev, unread)
        return document, sealed

    def _refuse_parts(self, rev: int, unread: tuple[str, ...]) -> None:
        """Say which parts of a revision are not understood here, with the next renewal."""
        nack = write_nack(rev, unread)
        if unread and nack != self.replica.nack:
            self.nacks += 1
            self._log.error("policy_not_understood", revision=rev, denied=unread)
        self.replica.nack = nack

    async def _look_up_anew(self, callers: Callers) -> dict[str, Caller | Unknown]:
        """The callers that a revision names and that have something in flight."""
        assert self._plane is not None
        fresh: dict[str, Caller | Unknown] = {}
        for fingerprint in self._plane.affected(callers) if callers else ():
            record = await self.load_caller(fingerprint)
            fresh[fingerprint] = UNKNOWN if record is None else record.caller()
        return fresh

    async def load_caller(self, fingerprint: str) -> CallerRecord | None:
        """The caller that holds a key. A record that cannot be used is nobody's, and is told of.

        Raises:
            RedisError: Redis does not answer.
        """
        try:
            return await self.records.caller_by_key(fingerprint)
        except (ForgedError, ValueError) as error:
            self.forged["caller"] += isinstance(error, ForgedError)
            self._log.error("caller_unusable", error=describe(error))
            return None

    def _apply(self, snapshot: Snapshot, entry: Entry, callers: Callers, fresh: dict[str, Caller | Unknown]) -> None:
        """The one synchronous callback."""
        assert self._plane is not None
        self._snapshot, self._doc = snapshot, entry.doc
        self._plane.apply(snapshot, callers, fresh)
        self._watch_boundary()
        self.replica.applied(entry.position)
        if self._timer is not None:  # the new policy may end some leases sooner
            self._timer.cancel()
            self._timer = None
            self._watch()

    # ------------------------------------------------------------------ renewing

    async def _renew(self) -> None:
        renewal = self.replica.renew(lease.now(), secrets.token_hex(8))
        try:
            async with asyncio.timeout(lease.RENEW_TIMEOUT):
                status, nonce = await self._send(renewal)
        except (RedisError, OSError, TimeoutError):
            self.renew_failures += 1
            raise
        self.replica.answered(renewal, status, nonce)
        if status == "OK":
            self._tell("serving")
            self.ready.set()
            self._watch()

    async def _send(self, renewal: Renewal) -> tuple[str, str]:
        here, member = renewal.position, self.member
        said = {
            "rev": here.rev,
            "hash": here.hash,
            "swept": renewal.swept,
            "streams_cut": renewal.streams_cut,
            "draining": renewal.draining,
            "finishing": write_finishing(renewal.finishing),
        }
        answer = await self._renew_script(
            keys=[self._keys.cur, self._keys.replicas, self._keys.acks],
            args=[
                *(member, here.epoch, here.rev, here.hash, renewal.swept, renewal.streams_cut, renewal.draining),
                *(renewal.nonce, platform.node(), self._version, said["finishing"], renewal.nack),
                self._voucher.renewal(member, said),
            ],
        )
        status, nonce, rev = (part.decode() for part in answer)
        return "BEHIND" if status == "FORK" and int(rev or 0) < here.rev else status, nonce

    def swept(self) -> None:
        """The last request that was let finish is gone: say so before the next renewal is due."""
        if self.replica.position is not None:
            tasks.spawn(self._recover(self._renew()), "replica-swept")

    # ------------------------------------------------------------------ the lease's end

    def _watch(self) -> None:
        """Wake up when the first of the leases would run out."""
        if self._timer is None and self._snapshot is not None:
            moment = min(map(self.replica.deadline, self._classes()))
            delay = max(0.0, moment - lease.now())
            self._timer = asyncio.get_running_loop().call_later(delay, self._due)

    def _classes(self) -> set[float]:
        """Every ``max_stale`` that the policy gives; before there is one, the longest that there can be."""
        if self._snapshot is None:
            return {LONGEST_STALE}
        document = self._snapshot.document
        return {document.max_stale.controlled, document.max_stale.default, *self._snapshot.max_stale.values()}

    def _due(self) -> None:
        self._timer = None
        moment = lease.now()
        ahead = [at for at in map(self.replica.deadline, self._classes()) if at > moment]
        if len(ahead) < len(self._classes()):
            self._sever()
            if not ahead:
                self.replica.overdue()
                self._log.info("lease_expired")
                self._told = "" if self._told == "serving" else self._told  # why is told already, or service again is
        if ahead:
            self._timer = asyncio.get_running_loop().call_later(min(ahead) - moment, self._due)

    def _sever(self) -> None:
        if self._plane is not None:
            self._plane.sever_overdue()

    def samples(self) -> list[Sample]:
        """What is to be known of the lease."""
        whole = [] if self._snapshot is None else [self._snapshot.document.max_stale.default * lease.SLOWEST]
        return [
            *(("portcullis_lease_seconds", (self.name,), seconds) for seconds in whole),
            ("portcullis_renew_failures_total", (self.name,), self.renew_failures),
            ("portcullis_fenced_total", (self.name,), self.fenced_times),
            *(("portcullis_forged_total", (what,), times) for what, times in self.forged.items()),
            ("portcullis_regressions_total", (self.name,), self.regressions),
            ("portcullis_forks_total", (self.name,), self.fenced_times - self.regressions),
            ("portcullis_nacks_total", (self.name,), self.nacks),
            ("portcullis_policy_unread", (self.name,), len(read_nack(self.replica.nack).get("parts", ()))),
        ]

    # ------------------------------------------------------------------ memory

    def _remember_later(self, entry: bytes, document: bytes | None) -> None:
        """Write the revision down, off the loop, after it is in force; a newer one waits for the write to end."""
        if document is not None:
            self._sealed_document = document
        self._to_write = (entry, self._sealed_document)
        if self._writer is None or self._writer.done():
            self._writer = tasks.spawn(self._write_down(), "replica-remember")

    async def _write_down(self) -> None:
        worker = self.name.rpartition("-")[2]
        written = None
        while written is not self._to_write:
            written = self._to_write
            try:
                await asyncio.to_thread(remember, self._state_dir, worker, *written)
            except OSError as error:
                self._log.error("remember_failed", error=str(error))


def _contiguous(replica: Replica, entries: list[Entry]) -> None:
    """Check that entries follow from where the replica stands, and from each other."""
    replica.check_next(entries[0])
    for before, after in itertools.pairwise(entries):
        if after.rev != before.rev + 1 or after.prev != before.hash or after.epoch != before.epoch:
            raise Fenced(f"revision {after.rev} does not follow from revision {before.rev}")


def _named(entries: list[Entry]) -> Callers:
    """Every caller that a run of entries names."""
    named: set[str] = set()
    for entry in entries:
        if entry.callers == "all":
            return "all"
        named.update(entry.callers)
    return named
