"""The roll: what is listed counts where it is vouched for, and who was struck off is expected still."""

import orjson
import pytest
from enforcement_harness import FakeMember
from samples import document

from gateway.enforcement import lease
from gateway.enforcement.receipts import Receipts
from gateway.enforcement.roll import UNHEARD, Roll
from gateway.enforcement.store import Committed, Edit, Store
from gateway.enforcement.vouching import Voucher

SAID = {"rev": 2, "hash": "h2", "swept": 2, "streams_cut": 0, "draining": 0, "finishing": ""}


@pytest.fixture
async def begun(store) -> Store:
    await store.init(document(), Edit(), actor="me")
    return store


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        ahead = 0.0

    clock, now = Clock(), lease.now
    monkeypatch.setattr(lease, "now", lambda: now() + clock.ahead)
    return clock


async def changed(store: Store) -> Committed:
    base = await store.current()
    return await store.commit(base, base.document.edited(contact=f"{base.rev}@x"), actor="op", action="e", subject="x")


async def tamper(store: Store, member: str, **said: object) -> None:
    stored = orjson.loads(await store.redis.hget(store.keys.replicas, member) or "{}")
    await store.redis.hset(store.keys.replicas, member, orjson.dumps(stored | said))


@pytest.mark.parametrize("name", SAID)
def test_every_word_of_a_renewal_is_vouched_for(name):
    voucher = Voucher(b"k" * 32)
    said = SAID | {"mac": voucher.renewal("a:1", SAID)}
    assert voucher.vouches("a:1", said)
    assert not voucher.vouches("b:1", said)
    assert not voucher.vouches("a:1", said | {name: 3})
    assert not Voucher(b"j" * 32).vouches("a:1", said)
    del said[name]
    assert not voucher.vouches("a:1", said)


@pytest.mark.parametrize("said", [{}, {"left": True}, {"left": True, "left_mac": "x"}, {"left": True, "left_mac": 7}])
def test_a_leave_is_vouched_for_by_its_own_mac(said):
    voucher = Voucher(b"k" * 32)
    assert not voucher.vouches("a:1", said)
    assert voucher.vouches("a:1", said | {"left": True, "left_mac": voucher.leave("a:1")})
    assert not voucher.vouches("a:2", said | {"left": True, "left_mac": voucher.leave("a:1")})


async def test_who_speaks_in_anothers_name_is_not_believed_and_told_of_once(begun, feed):
    member = FakeMember(begun, "a")
    await member.renew()
    receipts = Receipts(begun, feed)
    committed = await changed(begun)
    receipt = receipts.open(committed, [])
    for _ in range(3):
        await tamper(begun, member.name, rev=committed.entry.rev, swept=committed.entry.rev, hash=committed.entry.hash)
        await receipts._refresh(receipt)
    assert receipt.members[member.name].state == "waiting"
    assert receipts.roll.forged == 1
    await tamper(begun, member.name, left=True)
    await receipts._refresh(receipt)
    assert receipt.members[member.name].state == "waiting"
    await begun.redis.hdel(begun.keys.replicas, member.name)
    await member.renew()
    await receipts._refresh(receipt)
    assert receipt.members[member.name].state == "acked"
    await receipt.done.wait()
    assert receipt.basis == "all_acked"


@pytest.mark.parametrize("value", ["no json", "[]", "{}", '{"left": true}', '{"rev": "x"}'])
async def test_whatever_stands_in_a_members_place_it_is_waited_for(begun, value):
    member = FakeMember(begun, "a")
    await member.renew()
    await begun.redis.hset(begun.keys.replicas, member.name, value)
    roll = Roll(begun)
    assert roll.expected(await changed(begun)) == {member.name: UNHEARD}
    await roll.look()
    assert roll.forged == 1


async def test_who_was_struck_off_is_expected_until_its_lease_is_over(begun, clock):
    member = FakeMember(begun, "a")
    await member.renew()
    roll = Roll(begun)
    await roll.look()
    await begun.redis.hdel(begun.keys.replicas, member.name)
    assert roll.expected(await changed(begun))[member.name]["rev"] == 1
    await roll.look()
    clock.ahead = 14.0
    await roll.look()
    assert set(roll.expected(await changed(begun))) == {member.name}
    clock.ahead = 16.0
    await roll.look()
    assert roll.expected(await changed(begun)) == {}
    assert roll.forged == 1


async def test_a_restored_policy_begins_a_roll_of_its_own(begun):
    member = FakeMember(begun, "a")
    await member.renew()
    roll = Roll(begun)
    await roll.look()
    before = (await begun.current()).position
    await begun.redis.flushdb()
    await begun.init(document(), Edit(), actor="me", restored=before, action="restore")
    assert roll.expected(await changed(begun)) == {}
    await roll.look()
    assert (roll.expected(await changed(begun)), roll.forged) == ({}, 0)


async def test_who_left_is_not_expected(begun):
    member = FakeMember(begun, "a")
    await member.renew()
    roll = Roll(begun)
    await roll.look()
    await member.leave()
    assert roll.expected(await changed(begun)) == {}
