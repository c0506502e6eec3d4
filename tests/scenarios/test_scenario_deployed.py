"""The topology of ``docker-compose.yml`` as processes: two gateways behind a real HAProxy, one Redis, one provider.

HAProxy runs with ``deploy/haproxy/haproxy.cfg``, its addresses changed.
"""

import asyncio
import dataclasses
import json
import os
import re
import shutil
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
import redis
from raw import Raw, ask
from system import ROOT, System, new_system, until, wait_for
from test_scenario_restart import BODY, KEY, LONG, PATH, Load, pids, stream

from gateway.enforcement.entry import read_entry
from gateway.enforcement.signing import load_signer
from gateway.policy.document import canonical, digest

EXAMPLE = ROOT / "deploy/haproxy/haproxy.cfg"
GRACE = "3"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def haproxy_config(port: int, gateways: list[System]) -> str:
    text = EXAMPLE.read_text()
    text = text.replace("    log stdout format raw local0 warning\n", "").replace("    log global\n", "")
    text = text.replace("bind :8080", f"bind 127.0.0.1:{port}").replace("    parse-resolv-conf\n", "")
    for number, gateway in enumerate(gateways, 1):
        proxy, admin = urlsplit(gateway.proxy).port, urlsplit(gateway.admin).port
        text, count = re.subn(
            rf"server gateway-{number} \S+", f"server gateway-{number} 127.0.0.1:{proxy} check port {admin}", text
        )
        assert count == 1
    return text


@dataclasses.dataclass
class Topology:
    """``proxy`` is where clients come in; ``gateways`` are what stands behind it."""

    proxy: str
    gateways: tuple[System, System]
    balancer: "subprocess.Popen[bytes]"

    @property
    def first(self) -> System:
        return self.gateways[0]


def another(first: System) -> System:
    """A second machine: the same Redis, provider and keys, a directory of its own."""
    second = new_system()
    state = Path(second.env["PORTCULLIS_STATE_DIR"])
    state.mkdir()
    for name in ("signing.key", "signing.pub", "pseudonym.key"):
        shutil.copy2(Path(first.env["PORTCULLIS_STATE_DIR"]) / name, state / name)
    kept = {"PORTCULLIS_STATE_DIR": str(state)}
    second.env = first.env | kept
    second.simulator = first.simulator
    return second


@pytest.fixture(scope="module")
def topology(tmp_path_factory):
    haproxy = shutil.which("haproxy", path=f"{os.environ['PATH']}:/usr/sbin")
    if haproxy is None:
        pytest.skip("haproxy is not installed")
    key = tmp_path_factory.mktemp("mounted") / "anthropic"
    settings = {
        "PORTCULLIS_PROXY__WORKERS": "1",
        "PORTCULLIS_PROXY__TIMEOUTS__SHUTDOWN": GRACE,
        "PORTCULLIS_PROVIDERS__MOUNTED__DIALECT": "anthropic",
        "PORTCULLIS_PROVIDERS__MOUNTED__API_KEY_FILE": str(key / "key"),
    }
    first = new_system(**settings)
    mount(key, "key-1")
    systems, balancer = [first], None
    try:
        first.start_redis()
        first.start_simulator("--provider", "mounted=anthropic")
        first.env["PORTCULLIS_PROVIDERS__MOUNTED__BASE_URL"] = f"{first.simulator}/mounted"
        first.run("init", "--seeds", str(ROOT / "seeds"))
        first.start_gateway()
        systems.append(another(first))
        systems[1].start_gateway()
        for system in systems:  # they come back where they were
            system.env |= {
                "PORTCULLIS_PROXY__LISTEN": urlsplit(system.proxy).netloc,
                "PORTCULLIS_ADMIN__LISTEN": urlsplit(system.admin).netloc,
            }
        port, file = free_port(), first.directory / "haproxy.cfg"
        file.write_text(haproxy_config(port, systems))
        balancer = subprocess.Popen([haproxy, "-db", "-q", "-f", file], start_new_session=True)
        wait_for(lambda: _listens(port), "haproxy")
        yield Topology(f"http://127.0.0.1:{port}", (systems[0], systems[1]), balancer)
    finally:
        if balancer is not None:
            balancer.kill()
            balancer.wait()
        for system in reversed(systems):
            system.stop()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def mount(directory: Path, secret: str) -> None:
    """Write a secret as Kubernetes mounts one: a file that leads through a link, which is swapped."""
    directory.mkdir(exist_ok=True)
    version = directory / f"..{len(list(directory.iterdir()))}"
    version.mkdir()
    (version / "key").write_text(secret)
    fresh = directory / "..fresh"
    fresh.symlink_to(version.name)
    fresh.rename(directory / "..data")
    if not (directory / "key").is_symlink():
        (directory / "key").symlink_to("..data/key")


async def test_a_kill_is_enforced_on_both_as_clients_of_the_balancer_see(topology):
    began = [Raw() for _ in range(8)]
    running = [stream(topology, LONG, one) for one in began]
    await asyncio.gather(*(one.began.wait() for one in began))
    receipt = await topology.first.offline("claude-opus-4-5")
    assert (receipt["enforced"], receipt["basis"], receipt["replicas"]["live"]) == (True, "all_acked", 2)
    assert receipt["streams_cut"] == 8
    assert {(await ask(topology.proxy, PATH, BODY, KEY)).status for _ in range(6)} == {403}
    ends = await asyncio.gather(*running)
    assert "complete" not in [one.ended for one in ends]
    cut = {one["id"]: one["streams_cut"] for one in receipt["replicas"]["list"]}
    assert all(cut.values()), f"both had streams: {cut}"
    print(
        f"\nbehind HAProxy: enforced on 2 of 2 after {receipt['elapsed_ms']} ms, {receipt['streams_cut']} streams cut"
    )
    await topology.first.release_all()


async def leave(system: System) -> None:
    """SIGTERM, and wait until it has left."""
    gateway = system.processes.pop("gateway")
    gateway.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(gateway.wait, 30) == 0


async def test_both_are_replaced_under_load_and_no_request_fails(topology):
    """New code or a new machine: one leaves, comes back, is ready; then the other. Streams have the grace."""
    long, short = Raw(), Raw()
    beyond = stream(topology, LONG, long)
    within = stream(topology, {**KEY, "X-Sim-Interval": "0.05", "X-Sim-Events": "30"}, short)
    await asyncio.gather(long.began.wait(), short.began.wait())
    async with Load(topology) as load:
        for system in topology.gateways:
            await leave(system)
            await load.more(30)
            await asyncio.to_thread(system.start_gateway)
            await load.more(60)
    load.say("both gateways stopped and started again, one after the other, behind HAProxy")
    assert load.failures == []
    assert (await within).ended == "complete"
    assert (await beyond).ended != "complete", "longer than the grace: cut, and not as if it were complete"


async def test_redis_is_restarted_and_no_request_fails(topology):
    """Callers that are known are served by the lease; what was off stays off."""
    await topology.first.offline("gpt-5.4")
    async with Load(topology) as load:
        server = topology.first.processes.pop("redis")
        server.terminate()
        await asyncio.to_thread(server.wait, 10)
        await load.more(30)
        await asyncio.to_thread(topology.first.start_redis)
        await load.more(60)
    load.say("Redis restarted behind two gateways")
    assert load.failures == []
    assert await topology.first.holds()

    async def acked() -> bool:
        receipt = await topology.first.offline("gpt-5.4-mini")
        return (receipt["enforced"], receipt["basis"], receipt["replicas"]["live"]) == (True, "all_acked", 2)

    assert await acked()
    await topology.first.release_all()


# ------------------------------------------------------------------------------------------------ secrets


async def provider_key(topology) -> str:
    """What the provider got last as its key."""
    since = (await topology.first.simulated("/_sim/stats"))["total"]
    async with aiohttp.request("GET", f"{topology.proxy}/mounted/v1/models", headers=KEY) as answer:
        assert answer.status == 200
    requests = (await topology.first.simulated(f"/_sim/requests?full=1&limit=10000&since={since}"))["requests"]
    last = [one for one in requests if one["provider"] == "mounted"][-1]
    return next(value for name, value in last["headers"] if name.lower() == "x-api-key")


async def test_a_mounted_provider_key_is_rotated_under_load(topology):
    """The mounted directory is swapped, and nobody is told; a key that is empty is not taken."""
    mounted = Path(topology.first.env["PORTCULLIS_PROVIDERS__MOUNTED__API_KEY_FILE"]).parent
    before = [pids(system) for system in topology.gateways]
    marks = [log_end(system) for system in topology.gateways]
    async with Load(topology) as load:
        mount(mounted, "key-2")
        for system, mark in zip(topology.gateways, marks, strict=True):
            await until(lambda system=system, mark=mark: system.events("restarted", mark), "new workers", 40)
        await load.more(60)
        assert {await provider_key(topology) for _ in range(4)} == {"key-2"}
        mount(mounted, "")
        for system, mark in zip(topology.gateways, marks, strict=True):
            await until(lambda system=system, mark=mark: system.events("restart_refused", mark), "a refusal", 40)
        await load.more(60)
    load.say("a provider's key rotated by its mounted file, on both gateways")
    assert load.failures == []
    assert "api_key_file" in topology.first.events("restart_refused")[-1]["error"]
    assert all(pids(system).isdisjoint(old) for system, old in zip(topology.gateways, before, strict=True))
    mount(mounted, "key-2")


def log_end(system: System) -> int:
    return (system.directory / "gateway.log").stat().st_size


async def test_an_operators_token_is_rotated_under_load(topology):
    """The old one ends on both at once; the data plane does not notice. (TLS: `test_scenario_tls`; signing keys:
    `test_scenario_keys`.)"""
    first, second = topology.gateways
    async with Load(topology) as load:
        approver = {"token": "demo-approver"}
        made = await first.ask_admin(
            "PUT", "/api/v1/operators/sre", {"roles": ["viewer"]}, headers={"If-None-Match": "*"}, **approver
        )
        old = made.json["token"]
        assert (await second.ask_admin("GET", "/api/v1/models", token=old)).status == 200
        new = (await first.ask_admin("POST", "/api/v1/operators/sre/token", {}, **approver)).json["token"]
        seen = [(await second.ask_admin("GET", "/api/v1/models", token=token)).status for token in (old, new)]
        assert seen == [401, 200]
        await load.more(30)
    assert load.failures == []


# ------------------------------------------------------------------------------------------------ two versions


class Newer:
    """A gateway of a later version, that writes what this one has never heard of, with the key that all trust."""

    def __init__(self, system: System) -> None:
        self._redis = redis.Redis(unix_socket_path=str(system.redis_socket))
        self._signer = load_signer(Path(system.env["PORTCULLIS_STATE_DIR"]) / "signing.key")
        self._before = self._document()

    def _document(self) -> dict[str, Any]:
        name = self._redis.hget("{pc}:cur", "doc").decode()
        return json.loads(self._redis.get(f"{{pc}}:doc:{name}").partition(b"\n")[2])

    def commit(self, **fields: Any) -> None:
        body = canonical({**self._before, **fields})
        rev = int(self._redis.hget("{pc}:cur", "rev"))
        last = read_entry(self._redis.xrange("{pc}:log", f"{rev}-0", f"{rev}-0")[0][1][b"entry"], self._signer)
        entry = dataclasses.replace(last, rev=rev + 1, doc=digest(body), prev=last.hash, callers=())
        self._redis.set(f"{{pc}}:doc:{entry.doc}", self._signer.seal("document", entry.doc, body))
        self._redis.xadd("{pc}:log", {"entry": entry.sealed(self._signer)}, id=f"{entry.rev}-0")
        self._redis.hset("{pc}:cur", mapping={"rev": entry.rev, "hash": entry.hash, "doc": entry.doc})

    def close(self) -> None:
        self._redis.close()


async def test_an_older_gateway_denies_what_a_newer_one_wrote_and_it_cannot_read(topology):
    """Two versions on one Redis: part by part where that can be bounded, everything where it cannot; nothing is lost."""
    system = topology.first
    strange = {
        "models": ["claude-opus-4-5"], "who": {"phase_of_the_moon": "full"}, "state": "in_force", "by": "op",
        "at": "2026-06-12T21:21:00Z",
    }  # fmt: skip
    other = {**BODY, "model": "claude-haiku-4-5"}

    async def statuses(*bodies: Any) -> list[int]:
        return [(await ask(topology.proxy, PATH, body, KEY)).status for body in bodies for _ in range(2)]

    async def becomes(*wanted: int) -> bool:
        return await statuses(BODY, other) == [status for status in wanted for _ in range(2)]

    newer = Newer(system)
    try:
        assert await becomes(200, 200)
        newer.commit(directives={"d-new": strange})
        await until(lambda: becomes(403, 200), "the part that is not understood to be closed")
        answers = [
            await gateway.ask_admin("POST", "/api/v1/models/gpt-5.4/offline", {}) for gateway in topology.gateways
        ]
        assert all(answer.status >= 400 for answer in answers), (
            "an older gateway does not write over what it cannot read"
        )
        assert "newer" in json.dumps(answers[0].json)
        newer.commit(schema=2)
        await until(lambda: becomes(503, 503), "everything to be refused: what a new schema denies cannot be known", 30)
        newer.commit()
        await until(lambda: becomes(200, 200), "what is understood again")
    finally:
        newer.close()
    assert (await system.offline("gpt-5.4"))["basis"] == "all_acked"
    await system.release_all()
