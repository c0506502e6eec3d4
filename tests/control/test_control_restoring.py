"""What is remembered, put back: exactly that, only where Redis lacks it, and nothing opened by it unasked."""

import pytest
from samples import document, hold

from gateway.control.restoring import NothingToRestoreError, WouldOpenError, restore
from gateway.enforcement.memory import recall, remember
from gateway.enforcement.store import AlreadyInitialisedError, Edit, Store
from gateway.policy.document import Document

PEOPLE = Edit({"{pc}:operator:me": b"me"})


@pytest.fixture
async def begun(store) -> Store:
    await store.init(document(), PEOPLE, actor="me")
    return store


async def commit(store: Store, changed: Document) -> None:
    await store.commit(await store.current(), changed, actor="op", action="edit", subject="x")


@pytest.fixture
def memory(redis, keys, signer, tmp_path):
    """Remember what is current, as a worker does."""

    async def take(store: Store):
        current = await store.current()
        (_, fields), *_ = await redis.xrange(keys.log, min=f"{current.rev}-0", count=1)
        remember(tmp_path, "0", fields[b"entry"], await redis.get(keys.doc(current.doc)))
        return recall(tmp_path, signer)

    return take


def closing(*patterns: str) -> Document:
    return document(holds={f"h-{n}": hold(pattern) for n, pattern in enumerate(patterns)})


async def test_an_empty_redis_gets_back_exactly_what_is_remembered(begun, memory, redis, keys, signer):
    await commit(begun, closing("gpt-5.4"))
    known = await memory(begun)
    await redis.flushall()
    done = await restore(Store(redis, keys, signer), known, PEOPLE)
    current = await Store(redis, keys, signer).current()
    assert (current.document, current.rev) == (known.document, 3)
    assert current.position.epoch != known.entry.epoch
    assert (done.entry.action, done.entry.prev, done.entry.callers) == ("restore", known.entry.hash, "all")
    assert await redis.get("{pc}:operator:me") == b"me"
    assert "over an empty Redis" in str(done)
    assert "revision 2 as remembered" in str(done)


async def test_a_redis_that_is_behind_too_and_keeps_its_people(begun, memory, redis, keys, signer):
    backup = {key: await redis.dump(key) for key in await redis.keys()}
    await commit(begun, closing("gpt-5.4"))
    known = await memory(begun)
    await redis.flushall()
    for key, value in backup.items():
        await redis.restore(key, 0, value)
    store = Store(redis, keys, signer)
    done = await restore(store, known, Edit({"{pc}:operator:me": b"another"}))
    assert ((await store.current()).document, done.entry.rev, done.over.rev) == (known.document, 3, "1")
    assert await redis.get("{pc}:operator:me") == b"me"
    assert "over revision 1 that Redis had" in str(done)
    with pytest.raises(NothingToRestoreError, match="another history"):
        await restore(store, known, PEOPLE)


async def test_a_healthy_redis_is_left_alone(begun, memory):
    known = await memory(begun)
    with pytest.raises(NothingToRestoreError, match="not behind"):
        await restore(begun, known, PEOPLE)
    await commit(begun, closing("gpt-5.4"))
    with pytest.raises(NothingToRestoreError, match="at revision 2, and has the remembered revision 1"):
        await restore(begun, known, PEOPLE)


async def test_without_a_memory_nothing_is_restored(begun):
    with pytest.raises(NothingToRestoreError, match="remembers no policy"):
        await restore(begun, None, PEOPLE)


async def test_what_is_off_in_another_history_is_not_opened_unasked(begun, memory, redis, keys, signer):
    await commit(begun, document())
    await commit(begun, closing("gpt-5.4"))
    known = await memory(begun)
    await redis.flushall()
    store = Store(redis, keys, signer)
    await store.init(document(), PEOPLE, actor="me")
    await commit(store, closing("gpt-5.4", "claude-fable-5"))
    with pytest.raises(WouldOpenError, match="holds/h-1"):
        await restore(store, known, PEOPLE)
    assert (await store.current()).rev == 2
    done = await restore(store, known, PEOPLE, replacing=True)
    assert (done.dropped, done.entry.rev) == (("holds/h-1",), 4)
    assert "no longer there: holds/h-1" in str(done)


@pytest.mark.parametrize("broken", ["cur", "log", "doc"])
async def test_a_redis_that_cannot_be_read_is_no_obstacle(begun, memory, redis, keys, signer, broken):
    await commit(begun, closing("gpt-5.4"))
    known = await memory(begun)
    match broken:
        case "cur":
            await redis.delete(keys.cur)
        case "log":
            await redis.xadd(keys.log, {"entry": b"{}"}, id="9-0")
            await redis.hset(keys.cur, "rev", 9)
        case "doc":
            await redis.delete(keys.doc(known.entry.doc))
    store = Store(redis, keys, signer)
    done = await restore(store, known, PEOPLE)
    assert (await store.current()).document == known.document
    assert done.entry.rev == (10 if broken == "log" else 3)


async def test_who_was_faster_is_not_overwritten(begun, memory, redis, keys, signer, monkeypatch):
    known = await memory(begun)
    await redis.flushall()
    store = Store(redis, keys, signer)
    seen = await store.standing()
    await Store(redis, keys, signer).init(closing("*"), PEOPLE, actor="other")

    async def as_seen():
        return seen

    monkeypatch.setattr(store, "standing", as_seen)
    with pytest.raises(AlreadyInitialisedError):
        await restore(store, known, PEOPLE)
