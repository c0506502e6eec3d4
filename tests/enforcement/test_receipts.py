"""A receipt says *enforced* when it is proven, and how it knows; never before."""

import asyncio
import dataclasses
import json
import time
from typing import Any

import pytest
from enforcement_harness import FakeMember
from redis.exceptions import ConnectionError as RedisConnectionError
from samples import document, hold

from gateway import tasks
from gateway.enforcement import lease, receipts
from gateway.enforcement.receipts import Basis, Member, Receipt, Receipts
from gateway.enforcement.store import Committed, Edit, Store

MODELS = ["gpt-5.4"]


class Clock:
    """The lease clock, which a test may put forward."""

    def __init__(self) -> None:
        self.ahead = 0.0
        self._now = lease.now

    def now(self) -> float:
        return self._now() + self.ahead


@pytest.fixture
def clock(monkeypatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(lease, "now", made.now)
    monkeypatch.setattr(receipts, "POLL_SECONDS", 0.005)
    return made


@pytest.fixture
async def begun(store) -> Store:
    await store.init(document(), Edit(), actor="me")
    return store


@pytest.fixture
async def following(begun, feed):
    made = Receipts(begun, feed)
    made.start()
    yield made
    await made.stop()


async def offline(store: Store, **fields: Any) -> Committed:
    base = await store.current()
    changed = base.document.edited(holds={"h-1": hold(*MODELS)}, **fields)
    return await store.commit(base, changed, actor="op", action="offline", subject="gpt-5.4")


async def proven(receipt: Receipt) -> dict[str, Any]:
    async with asyncio.timeout(5):
        await receipt.done.wait()
    return receipt.view()


def states(view: dict[str, Any]) -> dict[str, str]:
    return {member["id"]: member["state"] for member in view["replicas"]["list"]}


# ---------------------------------------------------------------- all acked


async def test_all_have_acknowledged(begun, following):
    members = [FakeMember(begun, name) for name in ("a", "b")]
    for member in members:
        await member.renew(cut=10)
    committed = await offline(begun)
    receipt = following.open(committed, MODELS, "h-1")
    assert receipt.view()["state"] == "pending"
    assert receipt.view()["basis"] is None
    await members[0].renew(cut=13)
    await members[1].renew(cut=14)
    view = await proven(receipt)
    assert (view["state"], view["enforced"], view["basis"]) == ("enforced", True, "all_acked")
    assert (view["revision"], view["models"], view["hold"], view["gateway"]) == (2, MODELS, "h-1", "test")
    assert (view["streams_cut"], view["draining"]) == (7, 0)
    assert (view["replicas"]["expected"], view["replicas"]["live"]) == (2, 2)
    assert states(view) == {"a": "acked", "b": "acked"}
    assert 0 < view["elapsed_ms"] < 5000
    assert all(0 < member["ms"] <= view["elapsed_ms"] for member in view["replicas"]["list"])


async def test_what_a_replica_does_not_understand_stands_in_the_receipt(begun, following):
    """It denies more than it is asked to: that is enforced, and said."""
    member = FakeMember(begun, "w0")
    await member.renew()
    receipt = following.open(await offline(begun), ["gpt-5.4"])
    await member.renew(nack='{"revision":2,"parts":["directives.d"]}')
    view = await proven(receipt)
    assert view["enforced"]
    assert view["replicas"]["list"][0]["nack"] == {"revision": 2, "parts": ["directives.d"]}


async def test_one_that_is_silent_keeps_it_open(begun, following, clock, until):
    first, second = FakeMember(begun, "a"), FakeMember(begun, "b")
    await first.renew()
    await second.renew()
    receipt = following.open(await offline(begun), MODELS)
    await first.renew()
    await until(lambda: receipt.members[first.name].state == "acked")
    assert (receipt.basis, receipt.enforced, receipt.view()["enforced"]) == (None, False, False)
    await second.renew()
    assert (await proven(receipt))["basis"] == "all_acked"


async def test_one_that_leaves_need_not_acknowledge(begun, following):
    first, second = FakeMember(begun, "a"), FakeMember(begun, "b")
    await first.renew()
    await second.renew()
    receipt = following.open(await offline(begun), MODELS)
    await first.leave()
    await second.renew()
    view = await proven(receipt)
    assert (view["basis"], states(view), view["replicas"]["live"]) == ("all_acked", {"a": "left", "b": "acked"}, 1)


async def test_one_that_came_later_is_not_waited_for(begun, following):
    member = FakeMember(begun, "a")
    await member.renew()
    receipt = following.open(await offline(begun), MODELS)
    await FakeMember(begun, "new").renew()
    await member.renew()
    assert states(await proven(receipt)) == {"a": "acked"}


async def test_another_incarnation_does_not_answer_for_the_old(begun, following, clock, until):
    old, new = FakeMember(begun, "a:" + "1" * 32), FakeMember(begun, "a:" + "2" * 32)
    await old.renew()
    receipt = following.open(await offline(begun), MODELS)
    await new.renew()
    for _ in range(5):
        await following._refresh(receipt)
    assert receipt.members[old.name].state == "waiting"
    await old.leave()
    assert states(await proven(receipt)) == {"a": "left"}


async def test_a_later_revision_acknowledges_the_earlier(begun, following):
    member = FakeMember(begun, "a")
    await member.renew()
    first = following.open(await offline(begun), MODELS)
    second = following.open(await offline(begun), MODELS)
    await member.renew()
    for receipt in (first, second):
        assert (await proven(receipt))["basis"] == "all_acked"


async def test_requests_that_may_finish_are_waited_for(begun, following, clock, until):
    member = FakeMember(begun, "a")
    await member.renew()
    receipt = following.open(await offline(begun), MODELS)
    await member.renew(swept=1, draining=3, finishing="2")
    await until(lambda: receipt.members[member.name].draining == 3)
    assert (receipt.view()["draining"], receipt.enforced) == (3, False)
    clock.ahead = 100.0  # all leases from before are over: this one has applied the revision
    for _ in range(3):
        await following._conclude(receipt)
    assert receipt.basis is None
    await member.renew(cut=1)
    view = await proven(receipt)
    assert (view["basis"], view["draining"], view["streams_cut"]) == ("all_acked", 0, 1)


# ---------------------------------------------------------------- expiry


async def test_a_lease_that_runs_out_in_real_time(begun, following):
    base = await begun.current()
    short = base.document.edited(max_stale={"default": 1.0, "controlled": 1.0})
    await begun.commit(base, short, actor="op", action="edit", subject="max_stale")
    await FakeMember(begun, "a").renew()
    committed = await offline(begun)
    receipt = following.open(committed, MODELS)
    began = time.monotonic()
    view = await proven(receipt)
    assert (view["enforced"], view["basis"], states(view)) == (True, "lease_expiry", {"a": "expired"})
    assert view["elapsed_ms"] >= (lease.wait_until(0, 1.0)) * 1000
    assert time.monotonic() - began < 1.5
    assert view["replicas"]["live"] == 0


async def test_before_the_last_lease_is_over_nothing_is_proven(begun, following, clock, until):
    await FakeMember(begun, "a").renew()
    receipt = following.open(await offline(begun), MODELS)
    clock.ahead = 14.0
    await following._conclude(receipt)
    assert (receipt.basis, receipt.deadline) == (None, lease.wait_until(receipt.committed.at, 15.0))
    clock.ahead = 16.0
    assert (await proven(receipt))["basis"] == "lease_expiry"


async def test_redis_unreachable_leaves_the_leases(begun, following, clock, monkeypatch):
    member = FakeMember(begun, "a")
    await member.renew()
    receipt = following.open(await offline(begun), MODELS)

    async def gone(*_: object, **__: object) -> None:
        raise RedisConnectionError("gone")

    monkeypatch.setattr(begun.redis, "hgetall", gone)
    monkeypatch.setattr(begun.redis, "hmget", gone)
    clock.ahead = 16.0
    view = await proven(receipt)
    assert (view["basis"], states(view)) == ("lease_expiry", {"a": "expired"})


async def test_a_restart_that_loses_nothing_changes_nothing(begun, following, until):
    member = FakeMember(begun, "a")
    await member.renew()
    receipt = following.open(dataclasses.replace(await offline(begun), replid="0" * 40), MODELS)
    await member.renew()
    assert (await proven(receipt))["basis"] == "all_acked"


async def test_acks_in_another_epoch_prove_nothing(begun, following, clock, until):
    member = FakeMember(begun, "a")
    await member.renew()
    committed = await offline(begun)
    committed = dataclasses.replace(committed, entry=dataclasses.replace(committed.entry, epoch="other"))
    receipt = following.open(committed, MODELS)
    await member.renew()
    await until(lambda: receipt.complete)
    await following._conclude(receipt)
    assert receipt.basis is None
    clock.ahead = 16.0
    view = await proven(receipt)
    assert (view["enforced"], view["basis"]) == (False, "lost")


async def test_a_redis_that_lost_the_commit_proves_nothing(begun, following, clock, until, redis, keys):
    member = FakeMember(begun, "a")
    await member.renew()
    receipt = following.open(await offline(begun), MODELS)
    await member.renew()
    await redis.hset(keys.cur, "rev", 1)
    following._open.clear()
    lost = following.open(receipt.committed, MODELS)
    await until(lambda: lost.complete)
    await following._conclude(lost)
    assert lost.basis is None
    clock.ahead = 16.0
    view = await proven(lost)
    assert (view["enforced"], view["basis"]) == (False, "lost"), "whoever missed it may renew for ever"


# ---------------------------------------------------------------- no replicas


async def test_without_replicas_nothing_is_proven(begun, following):
    view = await proven(following.open(await offline(begun), MODELS))
    assert (view["enforced"], view["state"], view["basis"]) == (False, "pending", "no_replicas")
    assert view["replicas"] == {"expected": 0, "live": 0, "list": []}


# ---------------------------------------------------------------- how long


@pytest.mark.parametrize(
    ("before", "after", "models", "seconds"),
    [
        ({}, {}, ["gpt-5.4"], 15.0),
        ({}, {}, ["claude-fable-5"], 15.0),  # gpt-5.4 is denied too
        ({"default": 60}, {}, ["gpt-5.4"], 60.0),  # a lease under the longer one may still be out there
        ({}, {"default": 60}, ["gpt-5.4"], 60.0),
        ({"controlled": 100}, {}, ["gpt-5.4"], 15.0),
        ({"controlled": 100}, {}, [], 100.0),  # a caller lost whatever it had
        ({}, {}, ["not-in-the-catalog"], 15.0),
    ],
)
async def test_the_longest_lease_that_may_be_out_there(store, feed, before, after, models, seconds):
    await store.init(document(max_stale=before), Edit(), actor="me")
    committed = await offline(store, max_stale=after)
    made = Receipts(store, feed)
    receipt = made.open(committed, models)
    assert receipt.deadline == lease.wait_until(committed.at, seconds)
    await proven(receipt)


# ---------------------------------------------------------------- kept


async def test_a_receipt_is_evidence_before_anybody_is_told(begun, following, redis, keys, signer):
    await FakeMember(begun, "a").renew()
    committed = await offline(begun)
    receipt = following.open(committed, MODELS)
    assert (await following.get(2))["state"] == "pending"
    await FakeMember(begun, "a").renew()
    view = await proven(receipt)
    assert await following.get(2) == view
    ((_, stored),) = await redis.xrange(keys.evidence)
    assert stored[b"kind"] == b"receipt"
    assert json.loads(signer.unseal("receipt", "2", stored[b"sealed"])) == view
    assert await following.get(99) is None
    assert following._open == {}
    assert [basis for basis, _ in following.take_durations()] == [Basis.ALL_ACKED]
    assert following.take_durations() == []


async def test_a_revision_is_proven_once(begun, following):
    committed = await offline(begun)
    first = following.open(committed, MODELS)
    assert following.open(committed, MODELS) is first
    await proven(first)
    assert await begun.redis.xlen(begun.keys.evidence) == 1


async def test_what_cannot_be_stored_is_told_all_the_same(begun, following, monkeypatch):
    def gone(**_: object) -> None:
        raise RedisConnectionError("gone")

    committed = await offline(begun)
    monkeypatch.setattr(begun.redis, "pipeline", gone)
    assert (await proven(following.open(committed, MODELS)))["basis"] == "no_replicas"


async def test_polling_goes_on_without_the_feed(begun, feed, clock):
    deaf = Receipts(begun, feed)
    await FakeMember(begun, "a").renew()
    receipt = deaf.open(await offline(begun), MODELS)
    await FakeMember(begun, "a").renew()
    assert (await proven(receipt))["basis"] == "all_acked"


async def test_the_feed_makes_it_fast(begun, following, monkeypatch):
    monkeypatch.setattr(receipts, "POLL_SECONDS", 4.0)
    member = FakeMember(begun, "a")
    await member.renew()
    receipt = following.open(await offline(begun), MODELS)
    await asyncio.sleep(0)
    await member.renew()
    began = time.monotonic()
    await proven(receipt)
    assert time.monotonic() - began < 2.0


# ---------------------------------------------------------------- ghosts


async def test_a_ghost_is_pruned_when_its_lease_is_proven_over(begun, following, clock):
    ghost, alive = FakeMember(begun, "ghost"), FakeMember(begun, "alive")
    await ghost.renew()
    await alive.renew()
    await following.roll.look()
    clock.ahead = 14.0
    await alive.renew()
    await following.roll.look()
    assert "left" not in (await begun.members())[ghost.name]
    clock.ahead = 15.5
    await alive.renew()
    await following.roll.look()
    members = await begun.members()
    assert (members[ghost.name]["left"], "left" in members[alive.name]) == (True, False)
    assert await ghost.renew() == "GONE"
    assert set((await offline(begun)).members) == {alive.name}


async def test_a_sign_of_life_begins_the_wait_anew(begun, following, clock):
    member = FakeMember(begun, "a")
    await member.renew()
    await following.roll.look()
    clock.ahead = 15.0
    await member.renew()
    await following.roll.look()
    clock.ahead = 29.0
    await following.roll.look()
    assert "left" not in (await begun.members())[member.name]


async def test_a_tombstone_stays_for_an_hour(begun, following, clock):
    member = FakeMember(begun, "a")
    await member.renew()
    await member.leave()
    await following.roll.look()
    clock.ahead = 3500.0
    await following.roll.look()
    assert member.name in await begun.members()
    clock.ahead = 3700.0
    await following.roll.look()
    assert await begun.members() == {}


async def test_a_pruned_ghost_settles_an_open_receipt(begun, following, clock, until):
    member = FakeMember(begun, "a")
    await member.renew()
    receipt = following.open(await offline(begun), MODELS)
    await member.renew(swept=1, draining=1, finishing="2")
    await until(lambda: receipt.members[member.name].applied)
    await following.roll.look()
    clock.ahead = 20.0
    await following.roll.look()
    view = await proven(receipt)
    assert states(view) == {"a": "left"}


# ---------------------------------------------------------------- what a member says


@pytest.mark.parametrize(
    ("said", "state", "draining"),
    [
        ({"rev": 1, "swept": 1, "streams_cut": 0, "draining": 0}, "waiting", 0),
        ({"rev": 2, "swept": 1, "streams_cut": 0, "draining": 2, "finishing": "2"}, "waiting", 2),
        ({"rev": 2, "swept": 2, "streams_cut": 0, "draining": 0}, "acked", 0),
        ({"rev": 3, "swept": 2, "streams_cut": 0, "draining": 1}, "acked", 1),
        ({"rev": 3, "swept": 1, "streams_cut": 0, "draining": 1, "finishing": "2,3"}, "waiting", 1),
        ({"rev": 3, "swept": 0, "streams_cut": 0, "draining": 1, "finishing": "1"}, "acked", 1),
        ({"left": True}, "left", 0),
        ({"rev": 1, "swept": 1, "streams_cut": 0, "draining": 0, "left": True}, "left", 0),
    ],
)
def test_hearing(said, state, draining):
    member = Member("a:1", cut_before=0)
    member.hear(2, said, 4.2)
    assert (member.state, member.draining) == (state, draining)
    assert member.ms == (None if state == "waiting" else 4.2)


def test_what_was_cut_before_does_not_count():
    member = Member("a:1", cut_before=10)
    member.hear(2, {"rev": 2, "swept": 2, "streams_cut": 12, "draining": 0}, 1.0)
    assert member.streams_cut == 2


@pytest.mark.parametrize(("said", "cut"), [({"streams_cut": 12}, 2), ({"streams_cut": 10}, 0), ({}, 0)])
def test_what_was_cut_last_counts_of_one_that_left(said, cut):
    member = Member("a:1", cut_before=10)
    member.hear(2, {"left": True, **said}, 1.0)
    assert (member.state, member.streams_cut) == ("left", cut)


def test_the_first_word_counts():
    member = Member("a:1", cut_before=0)
    member.hear(2, {"rev": 2, "swept": 2, "streams_cut": 1, "draining": 0}, 1.0)
    member.hear(2, {"rev": 3, "swept": 3, "streams_cut": 9, "draining": 0}, 2.0)
    assert (member.ms, member.streams_cut) == (1.0, 1)


async def test_stopping_leaves_no_task(begun, feed):
    made = Receipts(begun, feed)
    made.start()
    running = list(made._tasks)
    await made.stop()
    assert all(task.done() for task in running)
    await tasks.cancel(*running)


# ---------------------------------------------------------------- what the state machine found


async def test_a_lease_of_a_missed_revision_is_waited_out(store, feed):
    """The replica stands at revision 1, under leases of 60 seconds; revision 2 made them short, 3 closes a model."""
    await store.init(document(max_stale={"default": 60}), Edit(), actor="me")
    await FakeMember(store, "a").renew()
    base = await store.current()
    await store.commit(
        base, base.document.edited(max_stale={"default": 5, "controlled": 5}), actor="op", action="edit", subject="x"
    )
    committed = await offline(store)
    made = Receipts(store, feed)
    receipt = made.open(committed, MODELS)
    assert receipt.deadline >= lease.wait_until(committed.at, 60.0)
    await made._reach_back(receipt)
    assert receipt.deadline == lease.wait_until(committed.at, 60.0)
    await FakeMember(store, "a").renew()
    assert (await proven(receipt))["basis"] == "all_acked"


async def test_where_the_log_does_not_reach_back_the_longest_lease_is_waited_out(store, feed, keys, redis):
    await store.init(document(), Edit(), actor="me")
    await FakeMember(store, "a").renew()
    await offline(store)
    committed = await offline(store)
    await redis.xtrim(keys.log, maxlen=1, approximate=False)
    made = Receipts(store, feed)
    receipt = made.open(committed, MODELS)
    await made._reach_back(receipt)
    assert receipt.deadline == lease.wait_until(committed.at, 3600.0)
    await FakeMember(store, "a").renew()
    await proven(receipt)


async def test_a_ghost_under_an_older_longer_lease_stays_listed_for_that_long(store, feed, clock):
    await store.init(document(max_stale={"default": 60}), Edit(), actor="me")
    ghost = FakeMember(store, "ghost")
    await ghost.renew()
    base = await store.current()
    await store.commit(base, base.document.edited(max_stale={"default": 5}), actor="op", action="edit", subject="x")
    made = Receipts(store, feed)
    await made.roll.look()
    clock.ahead = 30.0
    await made.roll.look()
    assert "left" not in (await store.members())[ghost.name]
    clock.ahead = 61.0
    await made.roll.look()
    assert (await store.members())[ghost.name]["left"]


async def test_what_is_done_every_second_outlives_an_empty_redis(begun, following, redis, monkeypatch, until):
    original, pauses = asyncio.sleep, []

    async def short(seconds: float) -> None:
        pauses.append(seconds)
        await original(0.001)

    await redis.flushall()
    monkeypatch.setattr(asyncio, "sleep", short)
    made = Receipts(begun, following._feed)
    made.start()
    await until(lambda: len(pauses) > 20)
    assert not any(task.done() for task in made._tasks)
    await made.stop()


async def test_another_revision_of_the_same_number_has_its_own_receipt(begun, following):
    member = FakeMember(begun, "a")
    await member.renew()
    committed = await offline(begun)
    first = following.open(committed, MODELS)
    other = dataclasses.replace(committed, entry=dataclasses.replace(committed.entry, actor="another history"))
    second = following.open(other, MODELS)
    assert second is not first
    await member.renew()
    assert (await proven(first))["basis"] == "all_acked"


# ---------------------------------------------------------------- receipts of control processes that died


async def test_another_control_process_completes_a_receipt(begun, following, clock, redis, keys):
    member = FakeMember(begun, "a")
    await member.renew()
    await offline(begun)
    await following._complete_orphans()
    assert following._open == {}
    await member.renew()
    clock.ahead = 15.0
    await following._complete_orphans()
    assert following._open == {}, "whoever committed it may still prove it"
    clock.ahead = 21.0
    await following._complete_orphans()
    view = await proven(following._open[2])
    assert (view["basis"], view["models"], states(view)) == ("all_acked", MODELS, {"a": "acked"})
    assert (await following.get(2))["enforced"]
    await following._complete_orphans()
    assert following._open == {}
    assert await redis.xlen(keys.evidence) == 1


async def test_time_counts_from_when_it_was_first_missed(begun, following, clock):
    """The silent replica's lease may be as young as the commit; the other process saw it later."""
    await FakeMember(begun, "silent").renew()
    await offline(begun)
    clock.ahead = 1000.0
    await following._complete_orphans()
    assert following._open == {}
    clock.ahead = 1021.0
    await following._complete_orphans()
    assert (await proven(following._open[2]))["basis"] == "lease_expiry"


async def test_only_one_receipt_is_kept(begun, feed):
    committed = await offline(begun)
    for _ in range(2):
        await proven(Receipts(begun, feed).open(committed, MODELS))
    assert await begun.redis.xlen(begun.keys.evidence) == 1
