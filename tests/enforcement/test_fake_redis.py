"""The Redis in memory that the state machine runs on does what a real one does, script by script."""

from random import Random
from typing import Any

import orjson
import pytest
from fake_redis import FakeServer, State

from gateway.enforcement import scripts
from gateway.enforcement.keys import Keys

SEEN = b"what the member said last, as each of the two wrote it"
MEMBERS = ("a:1", "a:2", "b:1")


def anything(random: Random, keys: Keys) -> tuple[str, list[str], list[Any]]:
    """A script with arguments that often fit: few epochs, revisions, hashes, members."""
    rev, epoch = random.randrange(1, 9), random.choice(("e", "e", "e", "f"))
    member = random.choice(MEMBERS)
    match random.choice(("commit", "commit", "renew", "renew", "renew", "leave", "init", "record")):
        case "init":
            records = [keys.record("caller", "x")] if random.random() < 0.5 else []
            arguments = [epoch, rev, f"h{rev}", f"entry{rev}", "d1", "doc1", *("record" for _ in records)]
            return scripts.INIT, [keys.cur, keys.log, keys.docs, keys.doc("d1"), *records], arguments
        case "commit":
            doc, records = f"d{random.randrange(1, 4)}", random.choice(([], [keys.record("caller", "x")]))
            names = [keys.cur, keys.log, keys.docs, keys.doc(doc), keys.ops, keys.ops_order, keys.replicas, *records]
            body, value = random.choice(("", doc)), random.choice(("", "record"))
            base = [epoch, rev - 1, f"h{rev - 1}", f"op{random.randrange(30)}"]
            return scripts.COMMIT, names, [*base, rev, f"h{rev}", f"entry{rev}", doc, body, *(value for _ in records)]
        case "renew":
            said = [rev, f"h{rev}" if random.random() < 0.8 else "other", rev, random.randrange(2), random.randrange(2)]
            told = [random.choice(("", "2", "2-4")), random.choice(("", "", '{"revision":2}')), "mac"]
            arguments = [member, epoch, *said, "n", "host", "1", *told]
            return scripts.RENEW, [keys.cur, keys.replicas, keys.acks], arguments
        case "leave":
            return scripts.LEAVE, [keys.replicas, keys.acks], [member, random.choice((b"", b"x", SEEN)), "mac"]
        case _:
            view = orjson.dumps({"basis": random.choice(("lost", "all_acked"))})
            return scripts.RECORD, [keys.receipts, keys.evidence], [rev, view, "sealed"]


def readable(value: Any) -> Any:
    """JSON as what it says: Lua and Python write it in another order."""
    if isinstance(value, list):
        return [readable(each) for each in value]
    if isinstance(value, bytes) and value[:1] == b"{":
        said = orjson.loads(value)
        said.pop("replid", None)
        members = said.get("members")
        if isinstance(members, list):
            pairs = zip(members[::2], members[1::2], strict=True)
            said["members"] = sorted((name, sorted(orjson.loads(text).items())) for name, text in pairs)
        return said
    return value


async def of_the_real_one(redis: Any) -> State:
    """All that a real server holds."""
    state = State()
    for key in await redis.keys("*"):
        match (await redis.type(key)).decode():
            case "string":
                state.strings[key] = await redis.get(key)
            case "hash":
                state.hashes[key] = await redis.hgetall(key)
            case "list":
                state.lists[key] = await redis.lrange(key, 0, -1)
            case "stream":
                state.streams[key] = [(i, fields) for i, fields in await redis.xrange(key)]
    return state


def comparable(state: State, named: set[bytes]) -> dict[bytes, Any]:
    """Ids of streams only where we give them."""
    found: dict[bytes, Any] = {**state.strings, **{key: value for key, value in state.lists.items() if value}}
    found |= {k: {name: readable(value) for name, value in hash_.items()} for k, hash_ in state.hashes.items() if hash_}
    for key, entries in state.streams.items():
        if entries:
            found[key] = [(str(i) if key in named else "", sorted(fields.items())) for i, fields in entries]
    return found


@pytest.mark.parametrize("seed", range(6))
async def test_both_say_and_store_the_same(redis, keys, seed):
    random, fake = Random(seed), FakeServer()
    answers: dict[str, int] = {}
    for _ in range(150):
        script, names, arguments = anything(random, keys)
        theirs, ours = list(arguments), list(arguments)
        if arguments[-1] == SEEN:
            theirs[-1] = await redis.hget(keys.replicas, arguments[0]) or b"x"
            ours[-1] = fake.state.hash_at(keys.replicas.encode()).get(arguments[0].encode(), b"x")
        try:
            real = await redis.register_script(script)(keys=names, args=theirs)
        except Exception as error:
            assert "equal or smaller" in str(error)
            real = "refused"
        try:
            answer = fake.script(script, names, ours)
        except ValueError:
            answer = "refused"
        assert readable(answer) == readable(real), (script[:40], arguments)
        kind = str(answer[0] if isinstance(answer, list) else answer)
        answers[kind] = answers.get(kind, 0) + 1
    mine = fake.state
    mine.streams = {key: [(b"%d-%d" % i, f) for i, f in entries] for key, entries in mine.streams.items()}
    log = {keys.log.encode()}
    assert comparable(mine, log) == comparable(await of_the_real_one(redis), log)
    assert len(answers) > 5, answers
