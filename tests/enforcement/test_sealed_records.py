"""Records in Redis count only as the control plane signed them."""

import pytest
from samples import AT, document

from gateway.enforcement.records import Records
from gateway.enforcement.signing import ForgedError
from gateway.enforcement.store import Edit
from gateway.identity.keys import fingerprint
from gateway.identity.records import CallerRecord, Key, OperatorRecord, Role, dump
from gateway.policy.caller import Kind
from gateway.policy.document import digest
from gateway.policy.document import dump as dump_document

KEY, OTHER = fingerprint("pc-alice"), fingerprint("pc-other")


def caller(caller_id: str = "alice", *keys: str) -> CallerRecord:
    held = {f"k{n}": Key(sha256=key, created=AT) for n, key in enumerate(keys or (KEY,))}
    return CallerRecord(id=caller_id, kind=Kind.PERSON, keys=held)


def operator(token: str = "t", operator_id: str = "ada") -> OperatorRecord:
    return OperatorRecord(id=operator_id, roles=frozenset({Role.OPERATOR}), token_sha256=fingerprint(token))


async def put(redis, edit: Edit) -> None:
    for key, value in edit.records.items():
        await (redis.set(key, value) if value else redis.delete(key))


@pytest.fixture
def records(redis, keys, signer) -> Records:
    return Records(redis, keys, signer)


async def test_a_caller_is_found_by_its_key(records, store, redis):
    await put(redis, store.put_caller(caller(), None))
    assert await records.caller("alice") == caller()
    assert await records.caller_by_key(KEY) == caller()


async def test_who_is_not_there_is_nobody(records):
    assert await records.caller("alice") is None
    assert await records.caller_by_key(KEY) is None
    assert await records.operator("ada") is None
    assert await records.operator_by_token(KEY) is None


async def test_a_forged_caller_is_an_alarm(records, store, redis, keys, stranger):
    await redis.set(keys.record("caller", "alice"), stranger.seal("caller", "alice", dump(caller())))
    await redis.set(keys.record("key", KEY), "alice")
    for found in (records.caller("alice"), records.caller_by_key(KEY)):
        with pytest.raises(ForgedError):
            await found


async def test_a_caller_cannot_be_put_in_anothers_place(records, store, redis, keys):
    await put(redis, store.put_caller(caller("bob", OTHER), None))
    await redis.set(keys.record("caller", "alice"), await redis.get(keys.record("caller", "bob")))
    with pytest.raises(ForgedError):
        await records.caller("alice")


async def test_a_pointer_gives_nobody_a_key_that_the_record_does_not_list(records, store, redis, keys):
    await put(redis, store.put_caller(caller(), None))
    await redis.set(keys.record("key", OTHER), "alice")
    with pytest.raises(ForgedError):  # it is told of: nobody but a stranger writes that
        await records.caller_by_key(OTHER)
    await redis.set(keys.record("key", OTHER), b"\xff\xfe")
    assert await records.caller_by_key(OTHER) is None


async def test_a_key_taken_away_points_to_nobody(records, store, redis):
    before = caller("alice", KEY, OTHER)
    await put(redis, store.put_caller(before, None))
    edit = store.put_caller(caller("alice", OTHER), before)
    assert edit.callers == ("alice",)
    await put(redis, edit)
    assert await records.caller_by_key(KEY) is None
    assert (await records.caller_by_key(OTHER)).id == "alice"
    await put(redis, store.drop_caller(caller("alice", OTHER)))
    assert await redis.keys("*") == []


async def test_an_operator_is_found_by_its_token_alone(records, store, redis, keys):
    await put(redis, store.put_operator(operator("old"), None))
    assert await records.operator_by_token(fingerprint("old")) == operator("old")
    await put(redis, store.put_operator(operator("new"), operator("old")))
    assert await records.operator_by_token(fingerprint("old")) is None
    await redis.set(keys.record("token", fingerprint("old")), "ada")
    assert await records.operator_by_token(fingerprint("old")) is None, "the record says otherwise"
    assert await records.operator_by_token(fingerprint("new")) == operator("new")
    await redis.delete(keys.record("token", fingerprint("old")))
    await put(redis, store.drop_operator(operator("new")))
    assert await redis.keys("*") == []


async def test_a_forged_operator_is_an_alarm(records, redis, keys, stranger):
    await redis.set(keys.record("operator", "ada"), stranger.seal("operator", "ada", dump(operator())))
    with pytest.raises(ForgedError):
        await records.operator("ada")


async def test_names_of_a_kind(records, store, redis, keys):
    for name in ("bob", "alice", "al*ce"):
        await redis.set(keys.record("caller", name), b"x")
    await redis.set("{other}:caller:eve", b"x")
    await redis.set("pc:caller:eve", b"x")
    assert await records.names("caller") == ["al*ce", "alice", "bob"]
    assert await records.names("operator") == []


async def test_a_document_is_what_its_name_says(records, redis, keys, signer, stranger):
    body, other = dump_document(document()), dump_document(document(gateway="other"))
    name = digest(body)
    with pytest.raises(ForgedError, match="not there"):
        await records.document(name)
    await redis.set(keys.doc(name), signer.seal("document", name, body))
    assert (await records.document(name))[0] == document()
    for forged in (signer.seal("document", name, other), stranger.seal("document", name, body), body, b""):
        await redis.set(keys.doc(name), forged)
        with pytest.raises(ForgedError):
            await records.document(name)
