"""An agent against a real Redis: what it applies, when it says so, and what it refuses to believe."""

import asyncio
import dataclasses
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import pytest
from enforcement_harness import FakeMember
from redis.exceptions import ConnectionError as RedisConnectionError
from samples import ALICE, AT, document, hold

from gateway.enforcement import compiling, lease
from gateway.enforcement.agent import Agent
from gateway.enforcement.entry import Entry
from gateway.enforcement.local import LocalHold, keep_holds
from gateway.enforcement.memory import recall
from gateway.enforcement.replica import State, read_nack
from gateway.enforcement.signing import Signer, Verifier
from gateway.enforcement.store import Committed, Edit, Store
from gateway.identity.directory import UNKNOWN, Directory, Unknown
from gateway.identity.keys import fingerprint
from gateway.identity.records import CallerRecord, Key
from gateway.policy.caller import Caller, Kind
from gateway.policy.snapshot import Asked, Snapshot

KEY = fingerprint("pc-alice")


class FakePlane:
    """A data plane that writes down what is done to it. ``in_flight`` are keys by their callers."""

    def __init__(self) -> None:
        self.applied: list[tuple[int, Any]] = []
        self.fresh: dict[str, Caller | Unknown] = {}
        self.snapshot: Snapshot | None = None
        self.snapshots: list[Snapshot] = []
        self.in_flight: dict[str, str] = {}
        self.severed = 0
        self.directory: Directory | None = None
        self.events: list[tuple[str, int]] = []

    def affected(self, callers: Iterable[str] | Literal["all"]) -> list[str]:
        return [key for key, caller in self.in_flight.items() if callers == "all" or caller in callers]

    def apply(self, snapshot: Snapshot, callers: Any, fresh: dict[str, Caller | Unknown]) -> None:
        self.snapshot, self.fresh = snapshot, fresh
        self.snapshots.append(snapshot)
        self.applied.append((snapshot.revision, callers if callers == "all" else set(callers)))
        self.events.append(("apply", snapshot.revision))
        if self.directory is not None:
            self.directory.evict(callers)

    def sever_overdue(self) -> None:
        self.severed += 1


class Following(Agent):
    """An agent that notes each renewal as it is sent."""

    plane: FakePlane

    async def _send(self, renewal: Any) -> tuple[str, str]:
        self.plane.events.append(("renew", renewal.position.rev))
        return await super()._send(renewal)

    def serves(self) -> bool:
        return self.replica.may_serve(lease.now(), 15.0)


@pytest.fixture
async def begun(store) -> Store:
    await store.init(document(), Edit(), actor="me")
    return store


@pytest.fixture
async def make(redis, feed, keys, signer, tmp_path) -> AsyncIterator[Callable[..., Following]]:
    """Make agents; ``begin=False`` leaves the loops to the test."""
    made = []

    def agent(*, begin: bool = True, verifier: Any = signer, name: str = "host-1-0") -> Following:
        following = Following(name, tmp_path, verifier, keys, redis, feed, "0", signer.voucher)
        following.plane = FakePlane()
        made.append(following)
        if begin:
            following.start(following.plane)
        else:
            following._plane = following.plane
        return following

    yield agent
    for following in made:
        await following.leave()
        if following._writer is not None:
            await following._writer


async def commit(store: Store, *patterns: str, callers: tuple[str, ...] = (), records: Any = None) -> Committed:
    """Close models, or with none open them all; or name callers alone."""
    base = await store.current()
    changed = None
    if patterns or not callers:
        changed = base.document.edited(holds={"h-1": hold(*patterns)} if patterns else {})
    edit = Edit(records or {}, callers)
    return await store.commit(base, changed, actor="op", action="edit", subject="x", edit=edit)


def alice(*secrets: str) -> CallerRecord:
    keys = {f"k{n}": Key(sha256=fingerprint(secret), created=AT) for n, secret in enumerate(secrets)}
    return CallerRecord(id="alice", kind=Kind.PERSON, keys=keys)


# ---------------------------------------------------------------- following


async def test_it_takes_what_is_in_force_and_serves(begun, make, until):
    agent = make()
    await until(agent.ready.is_set)
    assert agent.plane.applied == [(1, "all")]
    assert (agent.replica.state, agent.serves()) == (State.SERVING, True)
    said = (await begun.members())[agent.member]
    assert (said["rev"], said["swept"], said["version"]) == (1, 1, "0")
    assert agent.member == f"host-1-0:{agent.replica.incarnation}"
    assert len(agent.replica.incarnation) == 32


async def test_incarnations_are_never_the_same(make):
    assert make(begin=False).replica.incarnation != make(begin=False).replica.incarnation


async def test_it_waits_until_there_is_a_policy(store, make, until):
    agent = make()
    await until(lambda: agent._told == "policy_unusable")
    assert (agent.replica.state, agent.serves(), agent.plane.applied) == (State.BOOT, False, [])
    await store.init(document(), Edit(), actor="me")
    await until(agent.ready.is_set)
    assert agent.serves()


async def test_revisions_are_applied_in_order_and_acknowledged_after(begun, make, until):
    agent = make()
    await until(agent.ready.is_set)
    for number in range(6):
        await commit(begun, *(["gpt-5.4"] if number % 2 == 0 else []))
    await until(lambda: agent.replica.position.rev == 7)
    member = agent.member

    async def acknowledged():
        return (await begun.members())[member]["rev"] == 7

    await until(acknowledged)
    revisions = [rev for what, rev in agent.plane.events if what == "apply"]
    assert revisions == sorted(set(revisions))
    assert revisions[-1] == 7
    applied = 0
    for what, rev in agent.plane.events:
        if what == "apply":
            applied = rev
        assert rev <= applied, "nothing is acknowledged before it is applied"


async def test_a_kill_is_there_as_soon_as_it_is_acknowledged(begun, make, until):
    agent = make()
    await until(agent.ready.is_set)
    committed = await commit(begun, "gpt-5.4")

    async def acknowledged():
        return (await begun.members())[agent.member]["swept"] == committed.entry.rev

    await until(acknowledged)
    assert "gpt-5.4" in agent.plane.snapshot.offline


async def test_only_what_changed_is_read_again(begun, make, until, monkeypatch):
    agent = make()
    await until(agent.ready.is_set)
    read = []
    really_document = agent.records.document
    monkeypatch.setattr(agent.records, "document", lambda name: (read.append(name), really_document(name))[1])
    await commit(begun, callers=("alice",))
    await until(lambda: agent.replica.position.rev == 2)
    assert (read, agent.plane.applied[-1]) == ([], (2, {"alice"}))
    await commit(begun, "gpt-5.4")
    await until(lambda: agent.replica.position.rev == 3)
    assert len(read) == 1


# ---------------------------------------------------------------- large policies


def due_soon(moment: datetime) -> Any:
    return {"models": ["gpt-5.4"], "who": {"everyone": True}, "state": "in_force", "by": "op", "at": AT,
            "window": {"from": moment}}  # fmt: skip


class Threads:
    """Compiles like a snapshot, notes in which thread, and waits where it is told to."""

    def __init__(self, monkeypatch: Any) -> None:
        self.names: list[str] = []
        self.revisions: list[int] = []
        self.held = threading.Event()
        self.held.set()
        monkeypatch.setattr(compiling, "SMALL_OBJECTS", 0)
        monkeypatch.setattr(compiling, "Snapshot", self._compile)

    def _compile(self, policy: Any, revision: int, at: datetime) -> Snapshot:
        self.names.append(threading.current_thread().name)
        self.revisions.append(revision)
        self.held.wait(5)
        return Snapshot(policy, revision, at)


async def test_a_large_policy_is_read_and_compiled_beside_the_loop(begun, make, until, monkeypatch):
    threads = Threads(monkeypatch)
    monkeypatch.setattr(compiling, "SMALL_BYTES", 0)
    agent = make()
    await until(agent.ready.is_set)
    await commit(begun, "gpt-5.4")
    await until(lambda: agent.replica.position.rev == 2)
    assert "gpt-5.4" in agent.plane.snapshot.offline
    assert threading.main_thread().name not in threads.names
    assert len(threads.names) == 4, "both revisions, by both sides"


async def test_while_one_is_compiled_the_loop_goes_on_and_the_next_waits(begun, make, until, monkeypatch):
    agent = make()
    await until(agent.ready.is_set)
    first = await commit(begun, "gpt-5.4")
    second = await commit(begun, "gpt-5.4", "claude-fable-5")
    await until(lambda: agent.replica.position.rev == 3)
    threads = Threads(monkeypatch)
    threads.held.clear()
    base = await begun.current()
    committing = asyncio.ensure_future(
        begun.commit(base, base.document.edited(holds={}), actor="op", action="edit", subject="x")
    )
    await until(lambda: threads.revisions.count(4) == 2)
    assert (agent.plane.snapshot.revision, agent.serves()) == (3, True)
    threads.held.set()
    await committing
    await until(lambda: agent.replica.position.rev == 4)
    assert agent.plane.snapshot.offline == {}
    assert first.entry.rev < second.entry.rev < 4


async def test_a_revision_that_edits_only_callers_compiles_nothing(begun, make, until, monkeypatch):
    agent = make()
    await until(agent.ready.is_set)
    before = agent.plane.snapshot
    await begun.current()
    threads = Threads(monkeypatch)
    await commit(begun, callers=("alice",))
    await until(lambda: agent.replica.position.rev == 2)
    assert (threads.names, agent.plane.snapshot.revision, before.revision) == ([], 2, 1)
    assert agent.plane.snapshot.offline is before.offline
    decision = agent.plane.snapshot.decide(ALICE, Asked("openai", ("gpt-5.4",)))
    assert decision.revision == 2, "nothing is remembered from before"


async def test_a_window_that_begins_denies_beside_the_loop_too(begun, make, until, monkeypatch):
    agent = make()
    await until(agent.ready.is_set)
    threads = Threads(monkeypatch)
    base = await begun.current()
    soon = base.document.edited(directives={"d-1": due_soon(datetime.now(UTC) + timedelta(seconds=0.3))})
    await begun.commit(base, soon, actor="op", action="edit", subject="x")
    await until(lambda: agent.plane.snapshot.revision == 2 and agent.plane.snapshot.rules("gpt-5.4"))
    assert threading.main_thread().name not in threads.names


async def test_what_began_while_a_revision_was_compiled_is_denied_by_it(begun, make, until, monkeypatch):
    agent = make()
    await until(agent.ready.is_set)
    moment = datetime.now(UTC) + timedelta(seconds=0.2)
    threads = Threads(monkeypatch)
    threads.held.clear()
    base = await begun.current()
    soon = base.document.edited(directives={"d-1": due_soon(moment)})
    committing = asyncio.ensure_future(begun.commit(base, soon, actor="op", action="edit", subject="x"))
    await until(lambda: threads.revisions.count(2) == 2)
    await until(lambda: datetime.now(UTC) > moment)
    threads.held.set()
    await committing
    await until(lambda: agent.replica.position.rev == 2)
    first = next(snapshot for snapshot in agent.plane.snapshots if snapshot.revision == 2)
    assert first.rules("gpt-5.4"), "it was never open under this revision"


async def test_a_revision_that_overtakes_a_boundary_stays(begun, make, until, monkeypatch):
    agent = make(begin=False)
    await agent._synchronise()
    agent._snapshot.next_boundary = datetime.now(UTC)
    threads = Threads(monkeypatch)
    threads.held.clear()
    agent._pass_boundary()
    await until(lambda: threads.names)
    agent._snapshot = newer = Snapshot(document(), 2)
    threads.held.set()
    await agent._boundary
    assert agent._snapshot is newer
    assert [snapshot.revision for snapshot in agent.plane.snapshots] == [1]


# ---------------------------------------------------------------- callers


async def test_callers_in_flight_are_looked_up_before_and_handed_over(begun, make, until):
    for record in (alice("pc-alice"),):
        await begun.redis.mset(begun.put_caller(record, None).records)
    agent = make()
    await until(agent.ready.is_set)
    agent.plane.in_flight = {KEY: "alice", fingerprint("pc-gone"): "alice", fingerprint("pc-bob"): "bob"}
    await commit(begun, callers=("alice",))
    await until(lambda: agent.replica.position.rev == 2)
    assert agent.plane.fresh == {KEY: alice("pc-alice").caller(), fingerprint("pc-gone"): UNKNOWN}


async def test_a_caller_whose_record_is_forged_is_nobody_and_holds_nothing_up(begun, make, until, stranger, keys):
    from gateway.identity.records import dump

    await begun.redis.set(keys.record("caller", "alice"), stranger.seal("caller", "alice", dump(alice("pc-alice"))))
    await begun.redis.set(keys.record("key", KEY), "alice")
    agent = make()
    await until(agent.ready.is_set)
    agent.plane.in_flight = {KEY: "alice"}
    await commit(begun, "gpt-5.4", callers=("alice",))
    await until(lambda: agent.replica.position.rev == 2)
    assert agent.plane.fresh == {KEY: UNKNOWN}
    assert "gpt-5.4" in agent.plane.snapshot.offline


async def test_a_load_that_a_revision_overtakes_is_thrown_away(begun, make, until):
    """The record was read before the key was withdrawn, and comes in after."""
    await begun.redis.mset(begun.put_caller(alice("pc-alice"), None).records)
    agent = make()
    await until(agent.ready.is_set)
    read, go_on = asyncio.Event(), asyncio.Event()

    async def slow(key: str) -> CallerRecord | None:
        record = await agent.records.caller_by_key(key)
        if not read.is_set():
            read.set()
            await go_on.wait()
        return record

    agent.plane.directory = Directory(slow)
    looking = asyncio.ensure_future(agent.plane.directory.look_up(KEY))
    await read.wait()
    edit = begun.put_caller(alice(), alice("pc-alice"))
    await commit(begun, callers=edit.callers, records=edit.records)
    await until(lambda: agent.replica.position.rev == 2)
    go_on.set()
    assert await looking is UNKNOWN
    assert agent.plane.directory.cached(KEY) is UNKNOWN


# ---------------------------------------------------------------- catching up


async def test_without_the_feed_a_renewal_catches_up(begun, make):
    agent = make(begin=False)
    await agent._synchronise()
    await commit(begun, "gpt-5.4", callers=("alice",))
    await commit(begun, callers=("bob",))
    await agent._recover(agent._renew())
    assert agent.plane.applied == [(1, "all"), (3, {"alice", "bob"})]
    assert agent.serves()


async def test_a_gap_in_the_log_means_everything_anew(begun, make, redis, keys):
    agent = make(begin=False)
    await agent._synchronise()
    await commit(begun, "gpt-5.4")
    await commit(begun, "gpt-5.4", "claude-fable-5")
    await redis.xdel(keys.log, "2-0")
    async with asyncio.timeout(5):
        await agent._recover(agent._renew())
    assert agent.plane.applied == [(1, "all"), (3, "all")]
    assert agent.serves()


async def test_a_gap_in_the_feed_means_everything_anew(begun, make, redis, keys, until):
    agent = make()
    await until(agent.ready.is_set)
    async with redis.pipeline(transaction=True) as pipe:
        other = Store(redis, keys, begun.signer)
        base = await other.current()
        entries = []
        for rev in (2, 3):
            entry = dataclasses.replace(
                entries[-1] if entries else _next(base),
                rev=rev,
                prev=entries[-1].hash if entries else base.position.hash,
            )
            entries.append(entry)
        pipe.xadd(keys.log, {"entry": entries[1].sealed(begun.signer)}, id="3-0")
        pipe.hset(keys.cur, mapping={"rev": 3, "hash": entries[1].hash})
        await pipe.execute()
    await until(lambda: agent.replica.position.rev == 3)
    assert agent.plane.applied[-1] == (3, "all")


def _next(base: Any) -> Entry:
    return Entry(base.position.epoch, base.rev + 1, "now", "op", "edit", "x", None, base.doc, (), base.position.hash)


async def test_a_long_absence_is_caught_up_in_one_go(begun, make):
    agent = make(begin=False)
    await agent._synchronise()
    for number in range(150):
        await commit(begun, *(["gpt-5.4"] if number % 2 == 0 else ["claude-fable-5"]))
    await agent._recover(agent._renew())
    assert (agent.replica.position.rev, agent.serves()) == (151, True)


# ---------------------------------------------------------------- another history


async def test_an_emptied_redis_fences_at_once(begun, make, redis):
    agent = make(begin=False)
    await agent._synchronise()
    assert agent.serves()
    await redis.flushall()
    await agent._recover(agent._renew())
    assert (agent.replica.state, agent.serves(), agent.plane.severed) == (State.FENCED, False, 1)
    assert agent.fenced_times == 1
    await agent._recover(agent._synchronise())
    assert agent.replica.state is State.FENCED


async def test_the_loops_find_an_emptied_redis_by_themselves(begun, make, redis, until):
    agent = make()
    await until(agent.ready.is_set)
    await redis.flushall()
    await until(lambda: agent.replica.state is State.FENCED)
    assert not agent.serves()
    counted = {name: value for name, _, value in agent.samples()}
    assert counted["portcullis_fenced_total"] == 1


async def test_another_policy_in_its_place_is_not_believed(begun, make, redis, keys, signer):
    """Whoever can empty Redis and start it anew lifts nothing: the replica remembers more."""
    agent = make(begin=False)
    await commit(begun, "*")
    await agent._synchronise()
    await redis.flushall()
    other = Store(redis, keys, signer)
    await other.init(document(), Edit(), actor="eve")
    for _ in range(2):
        await agent._recover(agent._renew())
        await agent._recover(agent._synchronise())
        assert (agent.replica.state, agent.serves()) == (State.FENCED, False)
        await commit(other)  # the same number, under another epoch
    assert agent.plane.applied == [(2, "all")]


async def test_a_history_that_lacks_what_was_applied_is_not_followed_however_far_it_goes(begun, make, redis, keys):
    """As after a failover to a server that missed the last revision, with a kill in it."""
    agent = make(begin=False)
    base = await begun.current()
    await agent._synchronise()
    await commit(begun, "claude-fable-5")
    await agent._recover(agent._catch_up())
    entry = dataclasses.replace(_next(base), subject="other")
    await redis.delete(keys.log)
    for rev in (2, 3):
        entry = dataclasses.replace(entry, rev=rev, prev=entry.hash if rev == 3 else base.position.hash)
        await redis.xadd(keys.log, {"entry": entry.sealed(begun.signer)}, id=f"{rev}-0")
    await redis.hset(keys.cur, mapping={"rev": 3, "hash": entry.hash})
    for _ in range(2):
        await agent._recover(agent._synchronise())
        assert (agent.replica.state, agent._told, agent.serves()) == (State.FENCED, "fenced", False)
    assert agent.plane.applied[-1][0] == 2


async def test_a_restored_policy_above_what_is_remembered_is(begun, make, redis, keys, signer, tmp_path, until):
    agent = make()
    await until(agent.ready.is_set)
    await commit(begun, "gpt-5.4")
    await until(lambda: agent.replica.position.rev == 2)
    await until(lambda: (found := recall(tmp_path, signer)) and found.entry.rev == 2)
    await redis.flushall()
    await until(lambda: agent.replica.state is State.FENCED)
    remembered = recall(tmp_path, signer)
    other = Store(redis, keys, signer)
    await other.init(remembered.document, Edit(), actor="me", restored=remembered.entry.position, action="restore")
    await until(agent.serves)
    assert (agent.replica.position.rev, agent.replica.state) == (3, State.SERVING)
    assert "gpt-5.4" in agent.plane.snapshot.offline
    assert agent.fenced_times == 1


async def test_after_a_restart_the_memory_still_counts(begun, make, redis, keys, signer, tmp_path, until):
    agent = make()
    await until(agent.ready.is_set)
    await commit(begun, "gpt-5.4")
    await until(lambda: (found := recall(tmp_path, signer)) and found.entry.rev == 2)
    await agent.leave()
    await redis.flushall()
    await Store(redis, keys, signer).init(document(), Edit(), actor="eve")
    again = make()
    assert again.replica.remembered.rev == 2
    await until(lambda: again.replica.state is State.FENCED)
    assert (again.serves(), again.plane.applied) == (False, [])


async def test_a_cur_that_does_not_fit_the_log_fences(begun, make, redis, keys):
    agent = make(begin=False)
    await agent._synchronise()
    for field, value in (("hash", "0" * 64), ("epoch", "other"), ("rev", "7")):
        before = await redis.hget(keys.cur, field)
        await redis.hset(keys.cur, field, value)
        await agent._recover(agent._synchronise())
        assert (agent.replica.state, agent.serves()) == (State.FENCED, False), field
        await redis.hset(keys.cur, field, before)


# ---------------------------------------------------------------- forgeries


async def forge(redis: Any, keys: Any, signer: Any, base: Any, *, document_signer: Any, policy: Any) -> None:
    """Write a revision as somebody would who has Redis, and maybe a key of his own."""
    from gateway.policy.document import digest, dump

    body = dump(policy)
    entry = dataclasses.replace(_next(base), doc=digest(body), callers="all")
    await redis.set(keys.doc(digest(body)), document_signer.seal("document", digest(body), body))
    await redis.xadd(keys.log, {"entry": entry.sealed(signer)}, id=f"{entry.rev}-0")
    await redis.hset(keys.cur, mapping={"rev": entry.rev, "hash": entry.hash, "doc": entry.doc})


@pytest.mark.parametrize("what", ["entry", "document"])
async def test_a_forged_revision_is_refused_and_the_lease_runs_out(begun, make, redis, keys, signer, stranger, what):
    agent = make(begin=False)
    await commit(begun, "*")
    await agent._synchronise()
    await forge(
        redis,
        keys,
        stranger if what == "entry" else signer,
        await begun.current(),
        document_signer=stranger,
        policy=document(),
    )
    for _ in range(2):
        await agent._recover(agent._renew())
        await agent._recover(agent._synchronise())
    assert agent.plane.applied == [(2, "all")]
    assert set(agent.plane.snapshot.offline) == set(document().models)
    assert agent._told == "policy_unusable"
    assert agent.replica.position.rev == 2


async def test_a_signed_document_that_does_not_compile_is_reported_and_not_applied(begun, make, redis, keys, signer):
    from gateway.policy.document import digest

    agent = make(begin=False)
    await agent._synchronise()
    body = b'{"schema":1,"gateway":"test","of the future":true}'
    await redis.set(keys.doc(digest(body)), signer.seal("document", digest(body), body))
    entry = dataclasses.replace(_next(await begun.current()), doc=digest(body))
    await redis.xadd(keys.log, {"entry": entry.sealed(signer)}, id="2-0")
    await redis.hset(keys.cur, mapping={"rev": 2, "hash": entry.hash, "doc": entry.doc})
    await agent._recover(agent._renew())
    assert (agent._told, agent.plane.applied) == ("policy_unusable", [(1, "all")])


async def test_a_stranger_convinces_nobody_from_the_start(redis, keys, stranger, make, until):
    await Store(redis, keys, stranger).init(document(), Edit(), actor="eve")
    agent = make()
    await until(lambda: agent._told == "policy_unusable")
    assert (agent.plane.applied, agent.serves()) == ([], False)


# ---------------------------------------------------------------- gone, unreachable, leaving


async def test_who_was_declared_gone_comes_back_as_another(begun, make, until):
    agent = make(begin=False)
    await agent._synchronise()
    old, told = agent.member, []
    agent.on_reborn = lambda: told.append(agent.member)
    await FakeMember(begun, old).leave()
    await agent._recover(agent._renew())
    assert told == [agent.member] != [old]
    assert (agent.serves(), agent.plane.severed) == (False, 1)
    await agent._recover(agent._renew())
    assert agent.serves()


async def test_it_goes_on_following_after_that(begun, make, until):
    """It learns that it is gone while it acknowledges a revision: the feed must survive that."""
    agent = make()
    await until(agent.ready.is_set)
    old = agent.member
    await FakeMember(begun, old).leave()
    await commit(begun, "gpt-5.4")
    await until(lambda: agent.member != old)
    await until(agent.serves)
    assert not any(task.done() for task in agent._tasks)
    await commit(begun, "gpt-5.4", "claude-fable-5")
    await until(lambda: agent.replica.position.rev == 3)
    assert agent.plane.events[-1][1] == 3


async def test_what_nobody_foresaw_ends_no_loop(begun, make, monkeypatch, until):
    """The lease is given back, it is told, and then the replica follows again."""
    agent = make()
    await until(agent.ready.is_set)
    original, met = agent._send, []

    async def unforeseen(renewal: object) -> Any:
        if not met:
            met.append(agent.serves())
            raise KeyError("nobody thought of it")
        return await original(renewal)

    monkeypatch.setattr(agent, "_send", unforeseen)
    await commit(begun, "gpt-5.4")
    await until(lambda: met)
    await until(lambda: agent.replica.state is State.FENCED)
    assert not agent.serves()
    await until(agent.serves)
    assert not any(task.done() for task in agent._tasks)


async def test_a_cur_that_nobody_can_read_is_counted_as_forged(begun, make, redis, keys, until):
    agent = make(begin=False)
    await redis.hdel(keys.cur, "hash")
    await agent._recover(agent._synchronise())
    assert agent._told == "policy_unusable"
    assert ("portcullis_forged_total", ("policy",), 1) in agent.samples()


async def test_a_redis_that_does_not_answer_is_counted_and_survived(begun, make, monkeypatch):
    agent = make(begin=False)
    await agent._synchronise()

    async def gone(_: object) -> None:
        raise RedisConnectionError("gone")

    with monkeypatch.context() as patch:
        patch.setattr(agent, "_send", gone)
        for _ in range(3):
            await agent._recover(agent._renew())
    assert (agent.renew_failures, agent._told, agent.serves()) == (3, "redis_unreachable", True)
    assert ("portcullis_renew_failures_total", ("host-1-0",), 3) in agent.samples()
    await agent._recover(agent._renew())
    assert agent._told == "serving"


async def test_an_answer_that_takes_too_long_is_none(begun, make, monkeypatch):
    agent = make(begin=False)
    await agent._synchronise()
    monkeypatch.setattr(lease, "RENEW_TIMEOUT", 0.01)

    async def never(_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(agent, "_send", never)
    await agent._recover(agent._renew())
    assert agent.renew_failures == 1


async def test_who_leaves_serves_nothing_and_says_so(begun, make, until):
    agent = make()
    await until(agent.ready.is_set)
    await agent.leave()
    assert not agent.serves()
    assert (await begun.members())[agent.member]["left"] is True
    assert (await commit(begun, "gpt-5.4")).members == {}


async def test_who_leaves_tells_what_it_cut_last(begun, make, until):
    """The last stream that a revision cuts may be what a leaving replica waited for."""
    agent = make()
    await until(agent.ready.is_set)
    agent.replica.streams_cut += 1
    await agent.leave()
    assert (await begun.members())[agent.member]["streams_cut"] == 1


async def test_leaving_does_not_wait_for_redis(begun, make, monkeypatch, until):
    agent = make()
    await until(agent.ready.is_set)

    async def gone(**_: object) -> None:
        raise RedisConnectionError("gone")

    monkeypatch.setattr(agent, "_leave_script", gone)
    await agent.leave()
    assert not agent.serves()


# ---------------------------------------------------------------- sweeping


async def test_what_is_let_finish_is_said_and_its_end_too(begun, make, until):
    agent = make()
    await until(agent.ready.is_set)
    agent.replica.draining, agent.replica.finishing = 2, (2,)
    await commit(begun, "gpt-5.4")

    async def said(**expected: int | str) -> bool:
        member = (await begun.members())[agent.member]
        return all(member[name] == value for name, value in expected.items())

    await until(lambda: said(rev=2, swept=1, draining=2, finishing="2"))
    agent.replica.draining, agent.replica.finishing = 0, ()
    agent.swept()
    await until(lambda: said(rev=2, swept=2, draining=0, finishing=""))


# ---------------------------------------------------------------- the lease's end


def due(agent: Agent) -> float:
    """In how many seconds of the lease clock the timer fires."""
    assert agent._timer is not None
    return agent._timer.when() - asyncio.get_running_loop().time()


async def test_a_timer_watches_the_first_lease_to_end(begun, make):
    agent = make(begin=False)
    await agent._synchronise()
    assert due(agent) == pytest.approx(lease.serve_until(0, 5.0), abs=0.2), "claude-fable-5 is controlled"


async def test_a_policy_with_shorter_leases_is_watched_at_once(begun, make):
    """The timer that runs was set for the old policy; buffered bytes ask nobody."""
    agent = make(begin=False)
    await agent._synchronise()
    base = await begun.current()
    shorter = base.document.edited(max_stale={"default": 15.0, "controlled": 1.0})
    await begun.commit(base, shorter, actor="op", action="edit", subject="max_stale")
    await agent._recover(agent._renew())
    assert due(agent) <= lease.serve_until(0, 1.0) + 0.05


async def test_when_leases_end_what_they_covered_is_severed(begun, make, monkeypatch):
    agent = make(begin=False)
    await agent._synchronise()
    really_now = lease.now
    monkeypatch.setattr(lease, "now", lambda: really_now() + 6)
    agent._timer.cancel()
    agent._due()
    assert (agent.plane.severed, agent.replica.state) == (1, State.SERVING), "the shorter lease is over"
    assert due(agent) == pytest.approx(lease.serve_until(0, 15.0) - 6, abs=0.2)
    monkeypatch.setattr(lease, "now", lambda: really_now() + 16)
    agent._timer.cancel()
    agent._due()
    assert (agent.plane.severed, agent.replica.state, agent._timer) == (2, State.STALE, None)
    monkeypatch.setattr(lease, "now", really_now)
    await agent._recover(agent._renew())
    assert (agent.replica.state, agent._timer is None) == (State.SERVING, False)


async def test_a_renewal_in_time_moves_the_end(begun, make):
    agent = make(begin=False)
    await agent._synchronise()
    agent._timer.cancel()
    agent._due()
    assert agent.plane.severed == 0
    assert agent._timer is not None


# ---------------------------------------------------------------- memory


async def test_what_is_applied_is_remembered_after(begun, make, signer, tmp_path, until):
    agent = make()
    await until(agent.ready.is_set)
    for _ in range(5):
        await commit(begun, "gpt-5.4")
        await commit(begun, callers=("alice",))
    await until(lambda: (found := recall(tmp_path, signer)) and found.entry.rev == 11)
    found = recall(tmp_path, signer)
    assert (set(found.document.holds), found.entry) == ({"h-1"}, await begun.entry(11))
    assert [path.name for path in tmp_path.iterdir()] == ["remembered-0.json"]


async def test_a_full_disk_stops_nothing(begun, make, monkeypatch, until):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gateway.enforcement.agent.remember", full)
    agent = make()
    await until(agent.ready.is_set)
    await commit(begun, "gpt-5.4")
    await until(lambda: agent.replica.position.rev == 2)
    assert agent.serves()


# ---------------------------------------------------------------- what is not understood


async def newer(begun: Store, redis: Any, keys: Any, signer: Any, **fields: Any) -> None:
    """A revision as a newer gateway commits it, with something that this one does not know."""
    from gateway.policy.document import canonical, digest

    current = await begun.current()
    raw = current.document.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    body = canonical({**raw, "schema": 1, **fields})
    await redis.set(keys.doc(digest(body)), signer.seal("document", digest(body), body))
    entry = dataclasses.replace(_next(current), doc=digest(body), at="2026-06-12T21:21:00.000+00:00")
    await redis.xadd(keys.log, {"entry": entry.sealed(signer)}, id=f"{entry.rev}-0")
    await redis.hset(keys.cur, mapping={"rev": entry.rev, "hash": entry.hash, "doc": entry.doc})


UNREADABLE = {"models": ["gpt-5.4"], "who": {"phase_of_the_moon": "full"}, "state": "in_force", "by": "op", "at": "2026-06-12T21:21:00Z"}  # fmt: skip


async def test_what_does_not_compile_is_denied_told_and_darkens_nothing_else(
    begun, make, redis, keys, signer, tmp_path
):
    agent = make(begin=False)
    await agent._synchronise()
    await newer(begun, redis, keys, signer, directives={"d-new": UNREADABLE})
    await agent._recover(agent._renew())
    assert (agent.replica.position.rev, agent.serves(), set(agent.plane.snapshot.offline)) == (2, True, {"gpt-5.4"})
    said = (await begun.members())[agent.member]
    assert (said["rev"], read_nack(said["nack"])) == (2, {"revision": 2, "parts": ["directives.d-new"]})
    assert ("portcullis_nacks_total", ("host-1-0",), 1) in agent.samples()
    assert ("portcullis_policy_unread", ("host-1-0",), 1) in agent.samples()
    await agent._writer
    found = recall(tmp_path, signer)
    assert (found.entry.rev, found.unread) == (2, ("directives.d-new",))


async def test_what_is_understood_again_is_told_too(begun, make, redis, keys, signer):
    agent = make(begin=False)
    await agent._synchronise()
    first = await begun.current()
    await newer(begun, redis, keys, signer, directives={"d-new": UNREADABLE})
    await agent._recover(agent._renew())
    entry = dataclasses.replace(_next(first), rev=3, prev=agent.replica.position.hash, doc=first.doc)
    await redis.xadd(keys.log, {"entry": entry.sealed(signer)}, id="3-0")
    await redis.hset(keys.cur, mapping={"rev": 3, "hash": entry.hash, "doc": entry.doc})
    await agent._recover(agent._renew())
    assert not agent.plane.snapshot.offline
    assert "nack" not in (await begun.members())[agent.member]
    assert ("portcullis_policy_unread", ("host-1-0",), 0) in agent.samples()


async def test_a_policy_that_cannot_be_bounded_is_not_applied_and_told(begun, make, redis, keys, signer):
    agent = make(begin=False)
    await agent._synchronise()
    await newer(begun, redis, keys, signer, quotas={})
    for _ in range(2):
        await agent._recover(agent._renew())
    said = (await begun.members())[agent.member]
    assert (said["rev"], read_nack(said["nack"])) == (1, {"revision": 2, "parts": ["the whole document"]})
    assert (agent.replica.position.rev, agent.nacks) == (1, 1)


# ---------------------------------------------------------------- holds of this machine


def held(*patterns: str, hold_id: str = "h-local", **fields: Any) -> LocalHold:
    return LocalHold(id=hold_id, hold=hold(*patterns), operation=hold_id, **fields)


async def test_a_hold_of_this_machine_stands_at_once_on_the_revision_in_force(begun, make):
    agent = make(begin=False)
    await agent._synchronise()
    await agent.hold_locally((held("gpt-5.4"),))
    assert set(agent.plane.snapshot.offline) == {"gpt-5.4"}
    assert agent.plane.applied == [(1, "all"), (1, set())]
    await agent.hold_locally(())
    assert not agent.plane.snapshot.offline


async def test_it_stands_beside_every_later_revision_until_one_carries_it(begun, make):
    agent = make(begin=False)
    await agent._synchronise()
    await agent.hold_locally((held("gpt-5.4"),))
    await commit(begun, callers=("alice",))
    await agent._recover(agent._renew())
    assert set(agent.plane.snapshot.offline) == {"gpt-5.4"}
    await commit(begun, "claude-fable-5")
    await agent._recover(agent._renew())
    assert set(agent.plane.snapshot.offline) == {"gpt-5.4", "claude-fable-5"}
    carried = (await commit(begun, "gpt-5.4")).entry.position
    await agent.hold_locally((held("gpt-5.4", carried=carried),))
    assert [local.id for local in agent.held] == ["h-local"], "that revision is not applied yet"
    await agent._recover(agent._renew())
    assert (agent.held, set(agent.plane.snapshot.offline)) == ((), {"gpt-5.4"})
    await commit(begun)
    await agent._recover(agent._renew())
    assert not agent.plane.snapshot.offline


async def test_a_worker_that_starts_holds_what_is_on_disk(begun, make, tmp_path):
    keep_holds(tmp_path, (held("gpt-5.4"),))
    agent = make(begin=False)
    await agent._synchronise()
    assert set(agent.plane.snapshot.offline) == {"gpt-5.4"}


async def test_a_worker_that_cannot_read_what_it_holds_holds_everything(begun, make, tmp_path):
    (tmp_path / "local-holds.json").write_text("?")
    agent = make(begin=False)
    await agent._synchronise()
    assert set(agent.plane.snapshot.offline) == set(document().models)


async def test_a_hold_that_comes_while_a_revision_is_loaded_is_not_missed(begun, make, monkeypatch):
    agent = make(begin=False)
    await agent._synchronise()
    await commit(begun, "claude-fable-5")
    load = agent.records.document

    async def slow(sha256: str) -> Any:
        found = await load(sha256)
        await agent.hold_locally((held("gpt-5.4"),))
        return found

    monkeypatch.setattr(agent.records, "document", slow)
    await agent._recover(agent._renew())
    assert agent.plane.snapshot.revision == 2
    assert set(agent.plane.snapshot.offline) == {"gpt-5.4", "claude-fable-5"}


async def test_a_hold_of_this_machine_is_not_what_is_remembered(begun, make, signer, tmp_path, until):
    agent = make(begin=False)
    await agent.hold_locally((held("gpt-5.4"),))
    await agent._synchronise()
    assert set(agent.plane.snapshot.offline) == {"gpt-5.4"}
    await until(lambda: recall(tmp_path, signer) is not None)
    assert not recall(tmp_path, signer).document.holds


# ---------------------------------------------------------------- what is counted


async def test_a_redis_that_is_behind_and_one_of_another_history_are_told_apart(begun, make, redis, keys, signer):
    agent = make(begin=False)
    await commit(begun, "gpt-5.4")
    await agent._synchronise()

    def counted() -> tuple[int, ...]:
        values = {name: value for name, _, value in agent.samples()}
        return tuple(values[f"portcullis_{name}_total"] for name in ("fenced", "regressions", "forks"))

    await redis.flushall()
    await agent._recover(agent._synchronise())
    assert counted() == (1, 1, 0)
    agent.replica.state = State.SERVING
    await agent._recover(agent._renew())
    assert counted() == (2, 2, 0), "found out by a renewal, too"
    other = Store(redis, keys, signer)
    await other.init(document(), Edit(), actor="eve")
    agent.replica.state = State.SYNC
    await agent._recover(agent._synchronise())
    assert counted() == (3, 3, 0), "revision 1 is behind revision 2"
    await commit(other, "*")
    agent.replica.state = State.SYNC
    await agent._recover(agent._synchronise())
    assert counted() == (4, 3, 1)


async def test_what_is_remembered_verifies_by_the_new_key_when_the_old_one_is_retired(
    begun, make, redis, keys, tmp_path
):
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from gateway.control.resealing import reseal

    key = Ed25519PrivateKey.generate()
    old = begun.signer._private_key.public_key()
    signer = Signer(key, old)
    agent = make(begin=False, verifier=Verifier(key.public_key(), old))
    await agent._synchronise()
    await reseal(Store(redis, keys, signer), "me")
    await agent._recover(agent._renew())
    await agent._writer
    found = recall(tmp_path, Verifier(key.public_key()))
    assert (found.entry.rev, found.entry.action) == (2, "reseal")
