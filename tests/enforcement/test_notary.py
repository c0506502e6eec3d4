"""What was decided and what happened gets into the chain once, in one order, whoever the notary is; the mirror keeps it."""

import asyncio
import json

import pytest

from gateway.enforcement.chain import Place, Walk
from gateway.enforcement.mirror import Mirror, lines, segments
from gateway.enforcement.notary import Notary, witness
from gateway.enforcement.signing import ForgedError
from gateway.enforcement.store import Edit, Store
from gateway.enforcement.verifying import verify
from gateway.policy.document import Document

DOCUMENT = Document.model_validate(
    {
        "gateway": "test",
        "models": {"m": {"routes": [{"provider": "p", "names": ["m"]}]}},
        "orders": {"o-1": {"authority": "A", "reference": "1", "by": "me", "at": "2026-06-12T17:05:00Z"}},
    }
)
HOLD = {"models": ["m"], "by": "me", "at": "2026-06-12T18:00:00Z", "order": "o-1"}


@pytest.fixture
async def begun(store: Store) -> Store:
    await store.init(DOCUMENT, Edit(), actor="me")
    return store


def notary(store: Store, last: Place | None = None) -> Notary:
    return Notary(store, lambda: last, 1000)


async def close(store: Store, **told) -> None:
    base = await store.current()
    document = base.document.edited(holds={f"h-{base.rev}": HOLD})
    await store.commit(base, document, actor="me", action="offline", subject="holds/h", order="o-1", told=told)


async def chained(store: Store) -> list[dict]:
    return [json.loads(fields[b"line"]) for _, fields in await store.redis.xrange(store.keys.chain)]


async def test_a_revision_is_told_with_before_and_after_a_note_and_from_where(begun):
    await close(begun, note="the letter", **{"from": "10.0.0.1"})
    assert await notary(begun).turn() == [(1, ("o-1",)), (2, ("o-1",))]
    first, second = await chained(begun)
    assert first["body"]["changes"]["orders/o-1"]["before"] is None, "what a first policy brought"
    body = second["body"]
    assert (body["note"], body["from"], body["orders"]) == ("the letter", "10.0.0.1", ["o-1"])
    assert body["entry"]["action"] == "offline"
    assert body["changes"]["holds/h-1"]["before"] is None
    assert body["changes"]["holds/h-1"]["after"]["models"] == ["m"]
    assert body["changes"]["orders/o-1"]["after"]["progress"] == "in_force"
    assert not await begun.redis.exists(begun.keys.detail(2)), "it lies in one place"


async def test_what_waits_gets_in_once_however_many_notaries_there_are(begun):
    for number in range(30):
        await witness(begun, "note", {"n": number}, ["o-1"])
    await close(begun)
    await asyncio.gather(*(notary(begun).turn() for _ in range(5)))
    for _ in range(2):
        await notary(begun).turn()
    entries = await chained(begun)
    assert [entry["body"]["n"] for entry in entries if entry["kind"] == "note"] == list(range(30))
    assert [entry["kind"] for entry in entries].count("revision") == 2
    walk = Walk(begun.signer, Place())
    for _, fields in await begun.redis.xrange(begun.keys.chain):
        walk.step(fields[b"line"])
    assert await begun.redis.xlen(begun.keys.evidence) == 0
    assert await begun.redis.llen(begun.keys.chain_of("o-1")) == len(entries)


async def test_what_is_none_of_ours_is_told_as_that(begun, stranger):
    other = Store(begun.redis, begun.keys, stranger)
    await witness(other, "note", {"n": 1})
    await begun.redis.xadd(begun.keys.evidence, {"kind": "receipt", "sealed": b"{}"})
    await notary(begun).turn()
    assert [entry["kind"] for entry in await chained(begun)] == ["revision", "unverified", "unverified"]


async def test_the_mirror_has_what_redis_has_and_goes_on_after_a_loss(begun, signer, tmp_path):
    mirror = Mirror(tmp_path, signer)
    await witness(begun, "note", {"n": 1})
    await notary(begun).turn()
    assert await mirror.catch_up(begun.redis, begun.keys) == {"revision", "note"}
    before = mirror.last
    await begun.redis.flushall()
    again = Store(begun.redis, begun.keys, signer)
    await again.init(DOCUMENT, Edit(), actor="me")
    await notary(again, mirror.last).turn()
    assert await mirror.catch_up(begun.redis, begun.keys) == {"revision"}
    assert mirror.last.seq == before.seq + 1, "the chain goes on where the mirror's ended"
    assert len(segments(tmp_path)) == 1
    assert verify(lines(tmp_path), [], signer).sound


async def test_another_history_begins_another_file_and_is_found(begun, signer, tmp_path):
    mirror = Mirror(tmp_path, signer)
    await witness(begun, "note", {"n": 1})
    await notary(begun).turn()
    await mirror.catch_up(begun.redis, begun.keys)
    await begun.redis.flushall()
    again = Store(begun.redis, begun.keys, signer)
    await again.init(DOCUMENT, Edit(), actor="me")
    for number in range(3):
        await witness(again, "note", {"n": number})
    await notary(again).turn()
    await mirror.catch_up(begun.redis, begun.keys)
    assert len(segments(tmp_path)) == 2
    found = verify(lines(tmp_path), [], signer)
    assert not found.sound
    assert "was changed" in found.faults[0]


async def test_a_mirror_takes_nothing_that_is_forged(begun, signer, stranger, tmp_path):
    await begun.redis.xadd(begun.keys.chain, {"line": b"{}"}, id="1-0")
    mirror = Mirror(tmp_path, signer)
    with pytest.raises(ForgedError):
        await mirror.catch_up(begun.redis, begun.keys)
    assert segments(tmp_path) == []


async def test_half_a_line_is_cut_off_and_one_process_writes(begun, signer, tmp_path):
    mirror = Mirror(tmp_path, signer)
    await notary(begun).turn()
    await mirror.catch_up(begun.redis, begun.keys)
    waiting = Mirror(tmp_path, signer)
    with pytest.raises(BlockingIOError):
        await waiting.catch_up(begun.redis, begun.keys)
    last = mirror.last
    mirror.close()
    with segments(tmp_path)[0].open("ab") as file:
        file.write(b'{"half')
    assert Mirror(tmp_path, signer).last == last
    assert verify(lines(tmp_path), [], signer).sound
