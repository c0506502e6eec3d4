"""The scripts, on a real Redis: everything is checked before anything is written."""

import json
from typing import Any

import pytest
from redis.exceptions import ResponseError

from gateway.enforcement import scripts

MEMBER, OTHER = "host-1-0:" + "a" * 32, "host-1-1:" + "b" * 32


class Scripts:
    """The four scripts with plain arguments."""

    def __init__(self, redis: Any, keys: Any) -> None:
        self.redis, self.keys = redis, keys
        self._init = redis.register_script(scripts.INIT)
        self._commit = redis.register_script(scripts.COMMIT)
        self._renew = redis.register_script(scripts.RENEW)
        self._leave = redis.register_script(scripts.LEAVE)

    async def init(self, epoch: str = "e", rev: int = 1, records: dict[str, str] | None = None) -> list[Any]:
        records, keys = records or {}, self.keys
        return await self._init(
            keys=[keys.cur, keys.log, keys.docs, keys.doc("d1"), *records],
            args=[epoch, rev, f"h{rev}", f"entry{rev}", "d1", "doc1", *records.values()],
        )

    async def commit(
        self, rev: int, *, epoch: str = "e", expected: int | None = None, prev: str | None = None, op: str = "",
        doc: str = "d1", body: str = "", records: dict[str, str] | None = None,
    ) -> list[Any]:  # fmt: skip
        records, keys = records or {}, self.keys
        before = rev - 1 if expected is None else expected
        return await self._commit(
            keys=[keys.cur, keys.log, keys.docs, keys.doc(doc), keys.ops, keys.ops_order, keys.replicas, *records],
            args=[epoch, before, prev or f"h{before}", op or f"op{rev}", rev, f"h{rev}", f"entry{rev}", doc, body, *records.values()],
        )  # fmt: skip

    async def renew(
        self, rev: int, *, member: str = MEMBER, epoch: str = "e", hash_: str | None = None, swept: int | None = None,
        cut: int = 0, draining: int = 0, nonce: str = "n",
    ) -> list[bytes]:  # fmt: skip
        keys = self.keys
        return await self._renew(
            keys=[keys.cur, keys.replicas, keys.acks],
            args=[
                member,
                epoch,
                rev,
                hash_ or f"h{rev}",
                rev if swept is None else swept,
                cut,
                draining,
                nonce,
                "host",
                "1",
            ],
        )

    async def leave(self, member: str = MEMBER, seen: bytes = b"") -> int:
        return await self._leave(keys=[self.keys.replicas, self.keys.acks], args=[member, seen])

    async def cur(self) -> dict[str, str]:
        return {key.decode(): value.decode() for key, value in (await self.redis.hgetall(self.keys.cur)).items()}

    async def everything(self) -> dict[bytes, Any]:
        """All that is stored, to see that nothing was."""
        return {key: await self.redis.dump(key) for key in sorted(await self.redis.keys("*"))}

    async def member(self, member: str = MEMBER) -> dict[str, Any]:
        return json.loads(await self.redis.hget(self.keys.replicas, member))

    async def acks(self) -> list[dict[bytes, bytes]]:
        return [fields for _, fields in await self.redis.xrange(self.keys.acks)]


@pytest.fixture
def run(redis, keys) -> Scripts:
    return Scripts(redis, keys)


# ---------------------------------------------------------------- init


async def test_init_writes_the_first_revision(run, redis, keys):
    assert await run.init(records={"{pc}:caller:a": "A", "{pc}:key:x": "a"}) == [b"DONE"]
    assert await run.cur() == {"epoch": "e", "rev": "1", "hash": "h1", "doc": "d1"}
    assert await redis.xrange(keys.log) == [(b"1-0", {b"entry": b"entry1"})]
    assert await redis.get(keys.doc("d1")) == b"doc1"
    assert await redis.mget("{pc}:caller:a", "{pc}:key:x") == [b"A", b"a"]


async def test_init_never_overwrites(run):
    await run.init()
    before = await run.everything()
    assert await run.init("other", 9) == [b"EXISTS"]
    assert await run.everything() == before


# ---------------------------------------------------------------- commit


async def test_a_commit_is_the_next_revision(run, redis, keys):
    await run.init()
    status, answer = await run.commit(2, doc="d2", body="doc2", records={"{pc}:caller:a": "A"})
    assert status == b"DONE"
    said = json.loads(answer)
    replid = (await redis.info("replication"))["master_replid"]
    assert said == {"rev": 2, "hash": "h2", "members": {}, "epoch": "e", "replid": replid}
    assert await run.cur() == {"epoch": "e", "rev": "2", "hash": "h2", "doc": "d2"}
    assert [entry for _, entry in await redis.xrange(keys.log)] == [{b"entry": b"entry1"}, {b"entry": b"entry2"}]
    assert await redis.get(keys.doc("d2")) == b"doc2"
    assert await redis.get("{pc}:caller:a") == b"A"


async def test_a_commit_lists_who_must_know(run):
    await run.init()
    await run.renew(1)
    await run.renew(1, member=OTHER, cut=4)
    _, answer = await run.commit(2)
    members = json.loads(answer)["members"]
    assert sorted(members[::2]) == [MEMBER, OTHER]
    assert {json.loads(said)["streams_cut"] for said in members[1::2]} == {0, 4}


async def test_an_empty_record_is_deleted(run, redis):
    await run.init(records={"{pc}:key:x": "a", "{pc}:key:y": "a"})
    await run.commit(2, records={"{pc}:key:x": "", "{pc}:key:z": "b"})
    assert await redis.mget("{pc}:key:x", "{pc}:key:y", "{pc}:key:z") == [None, b"a", b"b"]


@pytest.mark.parametrize(
    "wrong", [{"expected": 1}, {"expected": 3}, {"prev": "other"}, {"epoch": "other"}, {"expected": 0, "prev": "h0"}]
)
async def test_a_commit_composed_from_anything_else_conflicts_and_writes_nothing(run, wrong):
    await run.init()
    await run.commit(2)
    before = await run.everything()
    status, *_ = await run.commit(3, body="new", doc="d3", op="mine", records={"{pc}:caller:a": "A"}, **wrong)
    assert status == b"CONFLICT"
    assert await run.everything() == before


async def test_an_empty_redis_conflicts(run):
    status, epoch, rev = await run.commit(1)
    assert (status, epoch, rev) == (b"CONFLICT", b"", b"")
    assert await run.everything() == {}


async def test_a_commit_that_was_made_answers_as_it_did(run):
    await run.init()
    _, first = await run.commit(2, op="mine")
    before = await run.everything()
    for repeated in (await run.commit(2, op="mine"), await run.commit(3, op="mine", doc="d9")):
        assert repeated == [b"KNOWN", first]
    assert await run.everything() == before


async def test_a_document_that_is_not_there_cannot_be_put_in_force(run):
    await run.init()
    before = await run.everything()
    assert await run.commit(2, doc="nowhere") == [b"NODOC"]
    assert await run.everything() == before


async def test_the_last_hundred_documents_are_kept(run, redis, keys):
    await run.init()
    for rev in range(2, 121):
        assert (await run.commit(rev, doc=f"d{rev}", body=f"doc{rev}"))[0] == b"DONE"
    kept = {key.decode().rpartition("d")[2] for key in await redis.keys("{pc}:doc:*")}
    assert kept == {str(rev) for rev in range(21, 121)}
    assert await redis.llen(keys.docs) == 100


async def test_a_document_in_use_is_kept_however_old(run, redis, keys):
    """Changes of callers leave the document as it is, many times."""
    await run.init()
    for rev in range(2, 251):
        assert (await run.commit(rev, doc="d1"))[0] == b"DONE"
    assert await redis.get(keys.doc("d1")) == b"doc1"
    for rev in range(251, 350):
        await run.commit(rev, doc=f"d{rev}", body="x")
    assert await redis.exists(keys.doc("d1")) == 1, "one of the last hundred"
    await run.commit(350, doc="d350", body="x")
    assert await redis.exists(keys.doc("d1")) == 0


async def test_only_so_many_operations_are_remembered(run, redis, keys):
    await run.init()
    for rev in range(2, 1103):
        await run.commit(rev)
    assert await redis.hlen(keys.ops) == 1000
    assert await redis.llen(keys.ops_order) == 1000
    assert await redis.hexists(keys.ops, "op1102")
    assert not await redis.hexists(keys.ops, "op102")


async def test_a_log_that_is_ahead_stops_the_commit_before_it_writes(run, redis, keys):
    await run.init()
    await redis.xadd(keys.log, {"entry": "forged"}, id="7-0")
    before = await run.everything()
    with pytest.raises(ResponseError):
        await run.commit(2, doc="d2", body="doc2")
    assert await run.everything() == before


# ---------------------------------------------------------------- renew


async def test_a_renewal_of_what_is_current_is_granted(run):
    await run.init()
    assert await run.renew(1, nonce="abc", cut=3) == [b"OK", b"abc", b"1"]
    assert await run.member() == {
        "rev": 1, "hash": "h1", "swept": 1, "renew_seq": 1, "streams_cut": 3, "draining": 0, "host": "host", "version": "1",
        "finishing": "", "mac": "",
    }  # fmt: skip
    await run.renew(1)
    assert (await run.member())["renew_seq"] == 2


@pytest.mark.parametrize(
    ("rev", "epoch", "hash_", "status"),
    [
        (2, "e", "h2", b"OK"),
        (1, "e", "h1", b"STALE"),
        (1, "e", "other", b"STALE"),
        (3, "e", "h3", b"FORK"),
        (2, "e", "other", b"FORK"),
        (2, "other", "h2", b"FORK"),
        (1, "other", "h1", b"FORK"),
        (3, "other", "h3", b"FORK"),
    ],
)
async def test_only_epoch_revision_and_hash_together_are_ok(run, rev, epoch, hash_, status):
    await run.init()
    await run.commit(2)
    answer = await run.renew(rev, epoch=epoch, hash_=hash_, nonce="abc")
    assert answer == [status, b"abc", b"2"]
    listed = await run.redis.hexists(run.keys.replicas, MEMBER)
    assert bool(listed) == (status == b"OK"), "what was not granted is not recorded"
    assert bool(await run.acks()) == (status == b"OK")


async def test_an_empty_redis_is_another_history(run):
    assert await run.renew(1, nonce="abc") == [b"FORK", b"abc", b""]


async def test_revisions_compare_as_numbers(run):
    await run.init()
    for rev in range(2, 11):
        await run.commit(rev)
    assert (await run.renew(9))[0] == b"STALE"
    assert (await run.renew(10))[0] == b"OK"


async def test_an_ack_is_written_when_something_changed_and_only_then(run):
    await run.init()
    for _ in range(3):
        await run.renew(1)
    assert await run.acks() == [
        {b"member": MEMBER.encode(), b"rev": b"1", b"swept": b"1", b"streams_cut": b"0", b"draining": b"0"}
    ]
    await run.commit(2)
    await run.renew(2, swept=1, draining=2, cut=1)
    await run.renew(2, swept=1, draining=2, cut=1)
    await run.renew(2, swept=1, draining=1, cut=2)
    await run.renew(2, swept=2, cut=2)
    said = [(ack[b"rev"], ack[b"swept"], ack[b"draining"]) for ack in await run.acks()]
    assert said == [(b"1", b"1", b"0"), (b"2", b"1", b"2"), (b"2", b"1", b"1"), (b"2", b"2", b"0")]


# ---------------------------------------------------------------- leave


async def test_who_left_stays_gone(run):
    await run.init()
    await run.renew(1)
    assert await run.leave() == 1
    assert (await run.member())["left"] is True
    assert await run.renew(1, nonce="late") == [b"GONE", b"late", b"1"]
    assert (await run.member())["left"] is True
    assert (await run.acks())[-1] == {b"member": MEMBER.encode(), b"left": b"1"}


async def test_leaving_twice_is_leaving_once(run):
    await run.init()
    await run.renew(1)
    await run.leave()
    before = await run.everything()
    assert await run.leave() == 0
    assert await run.everything() == before


async def test_who_left_before_the_first_renewal_never_comes(run):
    """The kernel reported it dead; its first renewal may still be on its way."""
    await run.init()
    assert await run.leave() == 0
    assert (await run.renew(1))[0] == b"GONE"


async def test_a_member_is_pruned_only_if_it_said_nothing_since(run, redis, keys):
    await run.init()
    await run.renew(1)
    seen = await redis.hget(keys.replicas, MEMBER)
    await run.renew(1)
    assert await run.leave(seen=seen) == 0
    assert (await run.renew(1))[0] == b"OK"
    seen = await redis.hget(keys.replicas, MEMBER)
    assert await run.leave(seen=seen) == 1
    assert (await run.renew(1))[0] == b"GONE"


async def test_pruning_nobody_leaves_no_tombstone(run, redis, keys):
    await run.init()
    assert await run.leave(seen=b"something") == 0
    assert not await redis.exists(keys.replicas)


async def test_another_incarnation_is_another_member(run):
    await run.init()
    await run.renew(1)
    await run.leave()
    assert (await run.renew(1, member="host-1-0:" + "c" * 32))[0] == b"OK"


async def test_every_key_shares_the_prefix_of_its_gateway(run, redis):
    await run.init()
    await run.commit(2, doc="d2", body="x")
    await run.renew(2)
    await run.leave()
    assert all(key.startswith(b"{pc}:") for key in await redis.keys("*"))
