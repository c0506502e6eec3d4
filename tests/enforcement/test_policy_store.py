"""The control side of Redis: reading what is in force, committing what comes next."""

import asyncio
import dataclasses

import pytest
from samples import ALICE, document, hold

from gateway.enforcement import lease, scripts
from gateway.enforcement.entry import GENESIS, read_entry
from gateway.enforcement.keys import Keys
from gateway.enforcement.signing import ForgedError
from gateway.enforcement.store import AlreadyInitialisedError, ConflictError, Edit, NotInitialisedError, Store
from gateway.policy.decision import Deny
from gateway.policy.document import digest, dump
from gateway.policy.snapshot import Asked

OFFLINE = {"actor": "op", "action": "offline", "subject": "gpt-5.4"}


@pytest.fixture
async def begun(store) -> Store:
    await store.init(document(), Edit(), actor="me")
    return store


def closed(*patterns: str):
    return document(holds={"h-1": hold(*patterns)})


async def test_an_empty_redis_holds_no_policy(store):
    with pytest.raises(NotInitialisedError):
        await store.current()


async def test_the_first_revision(store):
    entry = await store.init(document(), Edit({"{pc}:key:x": b"alice"}), actor="me")
    assert (entry.rev, entry.prev, entry.action, entry.callers) == (1, GENESIS, "init", "all")
    current = await store.current()
    assert (current.rev, current.position, current.document) == (1, entry.position, document())
    assert await store.redis.get("{pc}:key:x") == b"alice"


async def test_there_is_only_one_first_revision(begun):
    before = await begun.current()
    with pytest.raises(AlreadyInitialisedError):
        await begun.init(document(gateway="other"), Edit(), actor="me")
    assert await begun.current() is before


async def test_epochs_differ(store, redis, keys, signer):
    first = await store.init(document(), Edit(), actor="me")
    await redis.flushall()
    second = await Store(redis, keys, signer).init(document(), Edit(), actor="me")
    assert first.epoch != second.epoch


async def test_a_commit_is_a_revision(begun):
    base = await begun.current()
    edit = Edit({"{pc}:caller:a": b"A"}, ("a",))
    before = lease.now()
    committed = await begun.commit(base, closed("gpt-5.4"), **OFFLINE, order=None, edit=edit)
    assert before <= committed.at <= lease.now()
    assert (committed.entry.rev, committed.entry.prev, committed.entry.callers) == (2, base.position.hash, ("a",))
    assert (committed.previous, committed.repeated, committed.members) == (base, False, {})
    current = await begun.current()
    assert current is committed.current
    assert isinstance(current.snapshot.decide(ALICE, Asked("openai", ("gpt-5.4",))), Deny)
    assert await begun.redis.get("{pc}:caller:a") == b"A"
    stored = await begun.redis.xrange(begun.keys.log, min="2-0", max="2-0")
    assert read_entry(stored[0][1][b"entry"], begun.signer) == committed.entry


async def test_another_process_reads_the_same(begun, redis, keys, signer):
    committed = await begun.commit(await begun.current(), closed("gpt-5.4"), **OFFLINE)
    other = await Store(redis, keys, signer).current()
    assert (other.position, other.doc, other.document) == (
        committed.entry.position, committed.entry.doc, committed.current.document,
    )  # fmt: skip


async def test_the_document_in_force_may_stay(begun):
    base = await begun.current()
    committed = await begun.commit(base, None, actor="op", action="key", subject="alice", edit=Edit(callers=("alice",)))
    assert (committed.entry.doc, committed.current.document, committed.current.rev) == (base.doc, base.document, 2)
    assert len(await begun.redis.keys("{pc}:doc:*")) == 1


async def test_of_two_that_compose_from_one_revision_one_wins(begun, redis, keys, signer):
    other = Store(redis, keys, signer)
    base, same = await begun.current(), await other.current()
    outcomes = await asyncio.gather(
        begun.commit(base, closed("gpt-5.4"), **OFFLINE),
        other.commit(same, closed("claude-fable-5"), **OFFLINE),
        return_exceptions=True,
    )
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Committed", "ConflictError"]
    assert (await begun.current()).rev == 2
    assert (await other.current()).position == (await begun.current()).position


@pytest.mark.parametrize("field", ["epoch", "hash"])
async def test_the_same_number_of_another_history_conflicts(begun, field):
    base = await begun.current()
    other = dataclasses.replace(base, position=dataclasses.replace(base.position, **{field: "other"}))
    with pytest.raises(ConflictError):
        await begun.commit(other, closed("gpt-5.4"), **OFFLINE)


async def test_a_commit_repeated_is_the_commit_that_was(begun):
    base = await begun.current()
    first = await begun.commit(base, closed("gpt-5.4"), **OFFLINE, op_id="mine")
    again = await begun.commit(base, closed("claude-fable-5"), **OFFLINE, op_id="mine")
    assert (again.repeated, again.entry) == (True, first.entry)
    later = await begun.commit(await begun.current(), document(), **OFFLINE)
    once_more = await begun.commit(later.current, closed("*"), **OFFLINE, op_id="mine")
    assert (once_more.entry, once_more.current.rev) == (first.entry, 3)


async def test_members_that_left_need_not_know(begun):
    renew = begun.redis.register_script(scripts.RENEW)
    leave = begun.redis.register_script(scripts.LEAVE)
    here = (await begun.current()).position
    keys = begun.keys
    for name in ("a:1", "b:2"):
        await renew(
            keys=[keys.cur, keys.replicas, keys.acks],
            args=[name, here.epoch, here.rev, here.hash, 1, 0, 0, "n", "h", "v"],
        )
    await leave(keys=[keys.replicas, keys.acks], args=["a:1", "", begun.voucher.leave("a:1")])
    await leave(keys=[keys.replicas, keys.acks], args=["c:3", "", begun.voucher.leave("c:3")])
    committed = await begun.commit(await begun.current(), closed("gpt-5.4"), **OFFLINE)
    assert set(committed.members) == {"b:2"}
    assert set(await begun.members()) == {"a:1", "b:2", "c:3"}


async def test_what_redis_holds_must_be_signed(begun, redis, keys, signer, stranger):
    here = await begun.current()
    forged = Store(redis, keys, stranger)
    with pytest.raises(ForgedError):
        await forged.current()
    await redis.hset(keys.cur, "hash", "0" * 64)
    with pytest.raises(ForgedError):
        await Store(redis, keys, signer).current()
    await redis.hset(keys.cur, "hash", here.position.hash)
    await redis.delete(keys.doc(here.doc))
    with pytest.raises(ForgedError):
        await Store(redis, keys, signer).current()
    await redis.delete(keys.log)
    with pytest.raises(ForgedError):
        await Store(redis, keys, signer).current()


async def test_a_lost_policy_is_restored_above_what_is_remembered(begun, redis, keys, signer):
    committed = await begun.commit(await begun.current(), closed("gpt-5.4"), **OFFLINE)
    await redis.flushall()
    store = Store(redis, keys, signer)
    with pytest.raises(NotInitialisedError):
        await store.current()
    entry = await store.init(
        committed.current.document, Edit(), actor="me", restored=committed.entry.position, action="restore"
    )
    assert (entry.rev, entry.prev, entry.action) == (3, committed.entry.hash, "restore")
    assert entry.epoch != committed.entry.epoch
    current = await store.current()
    assert "gpt-5.4" in current.snapshot.offline
    assert (await store.commit(current, document(), **OFFLINE)).entry.rev == 4


async def test_two_gateways_share_one_redis(begun, redis, signer):
    other = Store(redis, Keys("{other}"), signer)
    await other.init(document(gateway="other"), Edit(), actor="me")
    await other.commit(await other.current(), closed("gpt-5.4"), **OFFLINE)
    assert ((await begun.current()).rev, (await other.current()).rev) == (1, 2)
    assert (await begun.current()).document.gateway == "test"


async def test_documents_are_stored_by_what_they_are(begun):
    body = dump(closed("gpt-5.4"))
    committed = await begun.commit(await begun.current(), closed("gpt-5.4"), **OFFLINE)
    assert committed.entry.doc == digest(body)
    sealed = await begun.redis.get(begun.keys.doc(digest(body)))
    assert begun.signer.unseal("document", digest(body), sealed) == body


def test_edits_add_up():
    both = Edit({"a": b"1", "b": b"1"}, ("x",)) | Edit({"b": b"2"}, ("y",))
    assert (both.records, both.callers) == ({"a": b"1", "b": b"2"}, ("x", "y"))


async def test_a_policy_of_a_newer_gateway_is_said_to_be_one(begun, redis, keys, signer):
    """Whoever loops over it must not die of it."""
    from gateway.enforcement.store import NewerError

    body = b'{"schema":1,"gateway":"test","of the future":true}'
    current = await begun.current()
    entry = dataclasses.replace(
        (await begun.entry(1)), rev=2, prev=current.position.hash, doc=digest(body), action="edit"
    )
    await redis.set(keys.doc(digest(body)), signer.seal("document", digest(body), body))
    await redis.xadd(keys.log, {"entry": entry.sealed(signer)}, id="2-0")
    await redis.hset(keys.cur, mapping={"rev": 2, "hash": entry.hash, "doc": entry.doc})
    with pytest.raises(NewerError, match="revision 2 cannot be read whole"):
        await begun.current()
    assert issubclass(NewerError, ForgedError)
