"""Somebody who can write to Redis with a raw client: no access is gained, no receipt lies, and an alarm says what happened."""

import asyncio
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import pytest
import redis
from raw import ask
from system import ROOT, System, until

HELD, RESTRICTED, OPEN = "claude-fable-5", "claude-mythos-5", "claude-opus-4-5"
KNOWN, HANA, DANA, CHEN = "demo-alice", "demo-hana", "demo-dana", "demo-chen"
"""One whom every worker has seen; and three that may not have the restricted model, first seen when their attack is on."""
LIVE = ("replicas", "acks", "traffic")
"""What changes by itself."""


@dataclass(frozen=True)
class Past:
    """Redis as it was before anything was closed, key by key."""

    dumps: dict[bytes, bytes]
    cur: dict[bytes, bytes]


class Writer:
    """The raw client, and what it needs to know of how things lie."""

    def __init__(self, client: redis.Redis, past: Past) -> None:
        self.client, self.past = client, past
        self.cur = client.hgetall("{pc}:cur")

    @property
    def document(self) -> str:
        return f"{{pc}}:doc:{self.cur[b'doc'].decode()}"

    @property
    def entry(self) -> str:
        return f"{self.cur[b'rev'].decode()}-0"

    def without_holds(self) -> tuple[bytes, bytes]:
        """The seal of the document in force, and its text with nothing closed."""
        seal, _, body = self.client.get(self.document).partition(b"\n")
        policy = json.loads(body) | {"holds": {}, "directives": {}}
        return seal, json.dumps(policy, separators=(",", ":"), sort_keys=True).encode()


def edits_the_document(writer: Writer) -> None:
    seal, body = writer.without_holds()
    writer.client.set(writer.document, seal + b"\n" + body)


def writes_a_revision_of_its_own(writer: Writer) -> None:
    """Document, entry and ``cur`` fit each other; the signatures are another revision's."""
    seal, body = writer.without_holds()
    name, rev = sha256(body).hexdigest(), int(writer.cur[b"rev"]) + 1
    last = json.loads(writer.client.xrange("{pc}:log", writer.entry, writer.entry)[0][1][b"entry"])
    entry = {**last, "rev": rev, "doc": name, "prev": last["hash"], "callers": "all"}
    unsigned = {key: value for key, value in entry.items() if key not in ("hash", "kid", "sig")}
    text = json.dumps(unsigned, separators=(",", ":"), sort_keys=True)
    entry["hash"] = sha256(text.encode()).hexdigest()
    writer.client.set(f"{{pc}}:doc:{name}", seal + b"\n" + body)
    writer.client.xadd("{pc}:log", {"entry": json.dumps(entry)}, id=f"{rev}-0")
    writer.client.hset("{pc}:cur", mapping={"rev": rev, "hash": entry["hash"], "doc": name})


def deletes_the_document(writer: Writer) -> None:
    writer.client.delete(writer.document)


def deletes_the_log_entry(writer: Writer) -> None:
    writer.client.xdel("{pc}:log", writer.entry)


def deletes_cur(writer: Writer) -> None:
    writer.client.delete("{pc}:cur")


def breaks_cur(writer: Writer) -> None:
    writer.client.hdel("{pc}:cur", "hash")


def replays_an_older_revision(writer: Writer) -> None:
    writer.client.hset("{pc}:cur", mapping=writer.past.cur)


def replays_everything(writer: Writer) -> None:
    restore(writer.client, writer.past.dumps)


def puts_an_old_document_in_the_place_of_the_new(writer: Writer) -> None:
    writer.client.set(writer.document, writer.client.get(f"{{pc}}:doc:{writer.past.cur[b'doc'].decode()}"))


def edits_a_caller(writer: Writer) -> None:
    sealed = writer.client.get("{pc}:caller:demo-hana")
    assert b'"IN"' in sealed
    writer.client.set("{pc}:caller:demo-hana", sealed.replace(b'"IN"', b'"US"'))


def puts_another_in_a_callers_place(writer: Writer) -> None:
    writer.client.set("{pc}:caller:demo-dana", writer.client.get("{pc}:caller:demo-alice"))


def turns_a_key_to_another_caller(writer: Writer) -> None:
    writer.client.set("{pc}:key:" + sha256(b"demo-chen").hexdigest(), "demo-alice")


POLICY = ("policy_forged", 'portcullis_forged_total{what="policy"}')
CALLER = ("caller_unusable", 'portcullis_forged_total{what="caller"}')
FENCED = ("fenced", "portcullis_fenced_total")
ATTACKS: tuple[tuple[Callable[[Writer], None], tuple[str, str], str], ...] = (
    (edits_the_document, POLICY, KNOWN),
    (writes_a_revision_of_its_own, POLICY, KNOWN),
    (deletes_the_document, POLICY, KNOWN),
    (deletes_the_log_entry, POLICY, KNOWN),
    (deletes_cur, FENCED, KNOWN),
    (breaks_cur, POLICY, KNOWN),
    (replays_an_older_revision, FENCED, KNOWN),
    (replays_everything, FENCED, KNOWN),
    (puts_an_old_document_in_the_place_of_the_new, POLICY, KNOWN),
    (edits_a_caller, CALLER, HANA),
    (puts_another_in_a_callers_place, CALLER, DANA),
    (turns_a_key_to_another_caller, CALLER, CHEN),
)
"""What is done, what tells of it (a log event and a counter), and who asks for everything meanwhile."""
ANEW = {replays_everything}
"""What workers that start anew must meet, too: they stand on what the machine remembers."""


@pytest.fixture(scope="module")
def attacked(tmp_path_factory):
    """A gateway with a model that is held and one that only some may use; leases of a second."""
    from system import new_system

    system = new_system()
    seeds = tmp_path_factory.mktemp("seeds") / "seeds"
    shutil.copytree(ROOT / "seeds", seeds)
    (seeds / "zz-lease.toml").write_text("[max_stale]\ndefault = 1.0\ncontrolled = 1.0\n")
    try:
        system.start_redis()
        system.start_simulator()
        system.run("init", "--seeds", str(seeds))
        system.start_gateway()
        with redis.Redis(unix_socket_path=str(system.redis_socket)) as client:
            past = Past(dumped(client), client.hgetall("{pc}:cur"))
            system.run("restrict", RESTRICTED, "--only", "us-person", "--authority", "C", "--reference", "1")
            system.run("offline", HELD)
            yield system, client, past, dumped(client)
    finally:
        system.stop()


def dumped(client: redis.Redis) -> dict[bytes, bytes]:
    keys = client.keys("*")
    return {key: client.dump(key) for key in keys if not any(live in key.decode() for live in LIVE)}


def restore(client: redis.Redis, dumps: dict[bytes, bytes]) -> None:
    """All at once, as it was."""
    pipe = client.pipeline(transaction=True)
    for key in dumped(client).keys() - dumps.keys():
        pipe.delete(key)
    for key, dump in dumps.items():
        pipe.restore(key, 0, dump, replace=True)
    pipe.execute()


async def status(system: System, caller: str, model: str) -> int:
    body = {"model": model, "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
    headers = {"x-api-key": caller, "X-Sim-Interval": "0"}
    try:
        return (await ask(system.proxy, "/anthropic/v1/messages", body, headers)).status
    except OSError:
        return 0


async def reach(system: System, caller: str) -> set[tuple[str, str]]:
    """What somebody gets, from either worker, in some tries."""
    asked = [(caller, model) for model in (HELD, RESTRICTED, OPEN)] * 4
    found = await asyncio.gather(*(status(system, *pair) for pair in asked))
    return {pair for pair, code in zip(asked, found, strict=True) if code == 200}


ENTITLED = {(KNOWN, RESTRICTED), *((caller, OPEN) for caller in (KNOWN, HANA, DANA, CHEN))}


async def counted(system: System, name: str) -> float:
    metrics = await system.metrics()
    return sum(value for key, value in metrics.items() if key.startswith(name))


@pytest.mark.parametrize(("attack", "alarm", "caller"), ATTACKS, ids=[attack.__name__ for attack, _, _ in ATTACKS])
async def test_writing_to_redis_opens_nothing_and_is_told(attacked, attack, alarm, caller):
    system, client, past, sound = attacked
    await until(lambda: _serves(system), "service")
    event, metric = alarm
    told, before = len(system.events(event)), await counted(system, metric)
    attack(Writer(client, past))
    try:
        if attack in ANEW:
            for worker in system.workers():
                worker.kill()
        gained = set()

        async def alarmed() -> bool:
            gained.update(await reach(system, caller) - ENTITLED)
            return len(system.events(event)) > told and await counted(system, metric) > before

        await until(alarmed, f"{event} and {metric}", 30)
        assert gained == set()
    finally:
        restore(client, sound)
    await until(lambda: _sound(system), "the alarm's end")
    await until(lambda: _serves(system), "service after the repair", 30)


def _sound(system: System) -> bool:
    """The last that the audit said is good, or it said nothing."""
    said = [event for name in ("policy_forged", "policy_gone", "policy_sound") for event in system.events(name)]
    return not said or max(said, key=lambda event: event["timestamp"])["event"] == "policy_sound"


async def _serves(system: System) -> bool:
    return await reach(system, KNOWN) == {(KNOWN, RESTRICTED), (KNOWN, OPEN)}


# ------------------------------------------------------------------------------------------------ acks


def acknowledges_for_it(client: Any, member: bytes) -> None:
    """In its name, as often as it takes, that it stands where Redis stands."""
    cur = client.hgetall("{pc}:cur")
    said = {"rev": int(cur[b"rev"]), "hash": cur[b"hash"].decode(), "swept": int(cur[b"rev"]), "renew_seq": 99}
    said |= {"streams_cut": 0, "draining": 0, "finishing": "", "host": "x", "version": "1"}
    before = json.loads(client.hget("{pc}:replicas", member) or "{}")
    client.hset("{pc}:replicas", member, json.dumps(said | {"mac": before.get("mac", "")}))
    client.xadd("{pc}:acks", {"member": member, **{name: said[name] for name in ("rev", "swept", "draining")}})


def leaves_for_it(client: Any, member: bytes) -> None:
    before = json.loads(client.hget("{pc}:replicas", member) or "{}")
    client.hset("{pc}:replicas", member, json.dumps(before | {"left": True, "left_mac": before.get("mac", "")}))
    client.xadd("{pc}:acks", {"member": member, "left": "1"})


def strikes_it_off(client: Any, member: bytes) -> None:
    client.hdel("{pc}:replicas", member)


def writes_nonsense(client: Any, member: bytes) -> None:
    client.hset("{pc}:replicas", member, "nonsense")


@pytest.mark.parametrize("forge", [acknowledges_for_it, leaves_for_it, strikes_it_off, writes_nonsense])
async def test_who_speaks_for_a_replica_that_sleeps_makes_no_receipt(attacked, forge):
    """A worker that is stopped holds its lease. Whatever is written in its name, the receipt waits for that to end."""
    system, client, *_ = attacked
    await until(lambda: _serves(system), "service")
    worker = system.workers()[0]
    metric = 'portcullis_forged_total{what="replica"}'
    before = await counted(system, metric)
    asleep = await until(lambda: known(client, worker), "the control process to have seen the worker")
    worker.suspend()
    try:
        forge(client, asleep)
        call = asyncio.create_task(system.offline(OPEN))
        while not call.done():
            forge(client, asleep)
            await asyncio.sleep(0.01)
        receipt = await call
    finally:
        worker.resume()
    assert (receipt["enforced"], receipt["basis"]) == (True, "lease_expiry")
    assert receipt["elapsed_ms"] >= 1000, "the lease of a second"
    assert await counted(system, metric) > before
    assert system.events("ack_forged") or system.events("replica_struck_off")
    await system.online(OPEN)


def known(client: Any, worker: Any) -> bytes | None:
    """A worker as a member, by the name that the supervisor gave it, when it has renewed for some seconds."""
    words = worker.cmdline()
    group, name = words[words.index("--group") + 1], words[words.index("--name") + 1]
    for member, said in client.hgetall("{pc}:replicas").items():
        lasting = json.loads(said).get("renew_seq", 0) >= 9 and not json.loads(said).get("left")
        if lasting and member.decode().split(":")[0].endswith(f"-{group}-{name}"):
            return member
    return None
