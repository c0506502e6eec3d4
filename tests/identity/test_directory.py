"""A worker's cache of callers: bounded, asked once, and never older than its revision."""

import asyncio

import pytest

from gateway import tasks
from gateway.identity import directory as directories
from gateway.identity.directory import ATTEMPTS, UNKNOWN, BusyError, Directory, RacedError
from gateway.identity.records import CallerRecord
from gateway.policy.caller import Kind


class Redis:
    """What is stored, how often it was asked, and a gate to hold the answers back."""

    def __init__(self, **callers: str) -> None:
        self.callers = callers
        self.asked: list[str] = []
        self.at_once = self.most_at_once = 0
        self.open = asyncio.Event()
        self.open.set()
        self.after = lambda: None

    async def load(self, fingerprint: str) -> CallerRecord | None:
        self.asked.append(fingerprint)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        caller_id = self.callers.get(fingerprint)
        await self.open.wait()
        self.after()
        self.at_once -= 1
        return None if caller_id is None else CallerRecord(id=caller_id, kind=Kind.PERSON)


async def test_what_is_not_known_has_to_be_asked_for():
    redis = Redis(k="alice")
    directory = Directory(redis.load)
    assert directory.cached("k") is None
    caller = await directory.look_up("k")
    assert caller.id == "alice"
    assert directory.cached("k") is caller
    assert (await directory.look_up("nobody"), directory.cached("nobody")) == (UNKNOWN, UNKNOWN)
    assert len(directory) == 1


async def test_a_revision_makes_it_forget_whom_it_names():
    redis = Redis(a1="alice", a2="alice", b1="bob")
    directory = Directory(redis.load)
    for key in (*redis.callers, "nobody"):
        await directory.look_up(key)
    directory.evict(["alice", "carol"])
    assert [directory.cached(key) for key in ("a1", "a2")] == [None, None]
    assert directory.cached("b1").id == "bob"
    assert directory.cached("nobody") is None, "the key may have a caller now"


async def test_a_revision_of_nobody_still_clears_who_is_unknown():
    directory = Directory(Redis().load)
    await directory.look_up("nobody")
    directory.evict([])
    assert directory.cached("nobody") is None


async def test_all_are_forgotten():
    directory = Directory(Redis(a="alice").load)
    await directory.look_up("a")
    directory.evict("all")
    assert (directory.cached("a"), len(directory), directory._keys_of) == (None, 0, {})


async def test_it_is_bounded_for_the_known_and_for_the_unknown():
    directory = Directory(Redis(**{f"k{n}": f"caller-{n % 7}" for n in range(50)}).load, size=10)
    for n in range(50):
        await directory.look_up(f"k{n}")
        await directory.look_up(f"nobody-{n}")
    assert (len(directory), len(directory._unknown)) == (10, 10)
    assert [directory.cached(f"k{n}") is not None for n in (0, 39, 40, 49)] == [False, False, True, True]
    assert sum(map(len, directory._keys_of.values())) == 10
    assert all(directory._keys_of.values())


async def test_an_eviction_after_the_bound_is_complete():
    directory = Directory(Redis(a="x", b="x", c="y").load, size=2)
    for key in ("a", "b", "c"):
        await directory.look_up(key)
    directory.evict(["x"])
    assert [directory.cached(key) is None for key in ("a", "b", "c")] == [True, True, False]


# ---------------------------------------------------------------- races


async def test_a_load_that_an_eviction_overtakes_is_made_again():
    redis = Redis(k="alice")
    directory = Directory(redis.load)
    redis.open.clear()
    looking = tasks.spawn(directory.look_up("k"), "test")
    while not redis.asked:
        await asyncio.sleep(0)
    redis.callers = {}
    directory.evict(["alice"])
    redis.open.set()
    assert await looking is UNKNOWN
    assert (redis.asked, directory.cached("k")) == (["k", "k"], UNKNOWN)


async def test_so_is_a_load_that_found_nobody():
    redis = Redis()
    directory = Directory(redis.load)
    redis.open.clear()
    looking = tasks.spawn(directory.look_up("k"), "test")
    while not redis.asked:
        await asyncio.sleep(0)
    redis.callers = {"k": "alice"}
    directory.evict(["alice"])
    redis.open.set()
    assert (await looking).id == "alice"


async def test_evictions_without_end_end_in_a_refusal():
    redis = Redis(k="alice")
    directory = Directory(redis.load)
    redis.after = lambda: directory.evict(["somebody"])
    with pytest.raises(RacedError):
        await directory.look_up("k")
    assert len(redis.asked) == ATTEMPTS
    assert directory.cached("k") is None
    redis.after = lambda: None
    assert (await directory.look_up("k")).id == "alice"


# ---------------------------------------------------------------- many at once


async def test_redis_is_asked_once_however_many_want_to_know():
    redis = Redis(k="alice")
    directory = Directory(redis.load)
    found = await asyncio.gather(*(directory.look_up("k") for _ in range(100)))
    assert {caller.id for caller in found} == {"alice"}
    assert redis.asked == ["k"]


async def test_one_that_loses_interest_does_not_spoil_it_for_the_others():
    redis = Redis(k="alice")
    redis.open.clear()
    directory = Directory(redis.load)
    first, second = (tasks.spawn(directory.look_up("k"), "test") for _ in range(2))
    while not redis.asked:
        await asyncio.sleep(0)
    await tasks.cancel(first)
    redis.open.set()
    assert (await second).id == "alice"
    assert redis.asked == ["k"]


async def test_different_keys_take_turns(monkeypatch):
    monkeypatch.setattr(directories, "CONCURRENT_LOADS", 3)
    redis = Redis()
    redis.open.clear()
    directory = Directory(redis.load)
    looking = [tasks.spawn(directory.look_up(f"k{n}"), "test") for n in range(20)]
    while len(redis.asked) < 3:
        await asyncio.sleep(0)
    redis.open.set()
    await asyncio.gather(*looking)
    assert (redis.most_at_once, len(redis.asked)) == (3, 20)


async def test_beyond_the_limit_nobody_new_is_looked_up(monkeypatch):
    monkeypatch.setattr(directories, "OUTSTANDING_LOADS", 3)
    redis = Redis(k0="alice")
    redis.open.clear()
    directory = Directory(redis.load)
    looking = [tasks.spawn(directory.look_up(f"k{n}"), "test") for n in range(3)]
    while len(redis.asked) < 3:
        await asyncio.sleep(0)
    with pytest.raises(BusyError):
        await directory.look_up("k3")
    again = tasks.spawn(directory.look_up("k0"), "test")  # who is on the way already is waited for
    redis.open.set()
    assert [found if found is UNKNOWN else found.id for found in await asyncio.gather(*looking, again)] == [
        "alice", UNKNOWN, UNKNOWN, "alice",
    ]  # fmt: skip
    assert redis.asked == ["k0", "k1", "k2"]
    assert await directory.look_up("k3") is UNKNOWN, "there is room again"


async def test_a_flood_of_made_up_keys_pushes_no_caller_out_and_asks_for_each_once():
    redis = Redis(a="alice", b="bob")
    directory = Directory(redis.load, size=10)
    for key in ("a", "b"):
        await directory.look_up(key)
    for _ in range(2):
        await asyncio.gather(*(directory.look_up(f"made-up-{n}") for n in range(500)))
        assert [directory.cached(key).id for key in ("a", "b")] == ["alice", "bob"]
        assert (len(directory._unknown), len(directory._loading)) == (10, 0)
    before = len(redis.asked)
    assert directory.cached("made-up-499") is UNKNOWN
    assert (len(redis.asked), redis.asked.count("a")) == (before, 1)


async def test_a_redis_that_fails_is_asked_again_the_next_time():
    redis = Redis(k="alice")
    directory = Directory(redis.load)

    def broken() -> None:
        raise OSError("gone")

    redis.after = broken
    found = await asyncio.gather(*(directory.look_up("k") for _ in range(3)), return_exceptions=True)
    assert [type(error) for error in found] == [OSError] * 3
    assert directory.cached("k") is None
    redis.after = lambda: None
    assert (await directory.look_up("k")).id == "alice"
