"""``python tests/scenarios/alerts.py``: each alert is made to fire by its cause, and Alertmanager hears of it.

The rules are those that are deployed, with durations scaled by ``watching.FACTOR``. Causes come one after the other to
one gateway under traffic; an alert that fires in this way is printed with what it said.
"""

import asyncio
import contextlib
import hashlib
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis
from aiohttp import web
from raw import ask
from system import ROOT, System, new_system, until
from watching import Watch, missing

sys.path.insert(0, str(ROOT / "tests"))
from certificates import Authority

LEASE = 3.0
EVERY = 2
"""Seconds between drills."""

SEEDS = f"""
[max_stale]
default = {LEASE}
controlled = {LEASE}

[models.gpt-oss]
family = "gpt"
[[models.gpt-oss.routes]]
provider = "compatible"
names = ["gpt-oss"]

[models.canary]
[[models.canary.routes]]
provider = "canary"
names = ["canary"]
"""
UNPLAYED = {"PortcullisWorkerBusy": "a core of its own is needed, beside one for the load"}
"""Alerts without a cause here, and why; ``tests/deploy/test_alerts.py`` plays them as it does all others."""

FAULTY = ROOT / "tests" / "scenarios" / "faulty"
"""What gives workers defects that a request can ask for."""


@dataclass
class World:
    """A gateway, what watches it, and its traffic."""

    system: System
    directory: Path
    watch: Watch
    tasks: list[asyncio.Task[Any]] = field(default_factory=list)
    liar: web.AppRunner | None = None

    async def post(self, path: str, body: dict[str, Any], key: str = "demo-alice", **headers: str) -> int:
        with contextlib.suppress(OSError):
            sent = {"Authorization": f"Bearer {key}"} | {k.replace("_", "-"): v for k, v in headers.items()}
            return (await ask(self.system.proxy, path, body, sent)).status
        return 0

    async def chat(self, model: str = "gpt-5.4-mini", **more: Any) -> int:
        path = "/openai/v1/chat/completions" if model.startswith("gpt-5") else "/compatible/v1/chat/completions"
        return await self.post(path, {"model": model, "messages": [{"role": "user", "content": "Hi"}]}, **more)

    def keep(self, work: Callable[[], Awaitable[Any]], pause: float = 0.02) -> asyncio.Task[Any]:
        """Do it again and again."""

        async def forever() -> None:
            while True:
                await work()
                await asyncio.sleep(pause)

        task = asyncio.create_task(forever())
        self.tasks.append(task)
        return task

    def client(self) -> redis.Redis:
        return redis.Redis(unix_socket_path=str(self.system.redis_socket))


# ---------------------------------------------------------------------- causes


async def nothing(world: World) -> None:
    """There is traffic, the request log's disk is full, no collector takes spans."""


async def the_gateway_has_a_defect(world: World) -> None:
    await world.chat(X_Fault="internal")


async def a_process_sleeps_before_a_write(world: World) -> None:
    await world.chat(X_Fault="late")


async def a_model_goes_off(world: World) -> None:
    await world.system.offline("gpt-5.4", note="letter")
    await world.chat("gpt-5.4")


async def a_certificate_is_broken(world: World) -> None:
    file = world.directory / "authority.pem"
    file.rename(file.with_suffix(".kept"))
    file.write_text("-----BEGIN CERTIFICATE-----\nnone\n")


async def it_is_mended(world: World) -> None:
    """Before a worker starts anew: that one could not."""
    file = world.directory / "authority.pem"
    file.with_suffix(".kept").rename(file)


async def somebody_writes_to_redis(world: World) -> None:
    with world.client() as client:
        client.set("{pc}:key:" + hashlib.sha256(b"demo-chen").hexdigest(), "demo-alice")
    await world.chat(key="demo-chen")


async def somebody_holds_the_canary(world: World) -> None:
    await world.system.offline("canary")


async def a_provider_fails(world: World) -> None:
    world.keep(lambda: world.chat(X_Sim_Status="500"))


async def a_provider_is_slow(world: World) -> None:
    body = {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]}
    path = "/gemini/v1beta/models/gemini-3-flash:generateContent"

    async def slow() -> None:
        with contextlib.suppress(OSError):
            await ask(world.system.proxy, path, body, {"x-goog-api-key": "demo-alice", "X-Sim-First-Byte": "60"})

    world.tasks += [asyncio.create_task(slow()) for _ in range(24)]


async def a_provider_answers_as_another_model(world: World) -> None:
    await world.system.offline("gpt-oss")
    await world.chat("mistral-large")


async def a_worker_sleeps(world: World) -> None:
    worker = world.system.workers()[0]
    worker.send_signal(signal.SIGSTOP)
    await world.system.offline("claude-haiku-4-5")


async def it_wakes_up(world: World) -> None:
    for worker in world.system.workers():
        worker.send_signal(signal.SIGCONT)


async def all_workers_sleep(world: World) -> None:
    for worker in world.system.workers():
        worker.send_signal(signal.SIGSTOP)


async def workers_die_and_die(world: World) -> None:
    for _ in range(4):
        (victim, *_) = await until(world.system.workers, "a worker")
        victim.kill()
        await until(lambda dead=victim: dead not in world.system.workers(), "its end")


async def they_come_back(world: World) -> None:
    async def serving() -> bool:
        return (await world.system.metrics())['portcullis_workers{state="serving"}'] == 2

    await until(serving, "both workers", 60)


async def a_newer_gateway_commits(world: World) -> None:
    """A directive of a kind that this version cannot read, rightly signed."""
    from gateway.enforcement.entry import Entry
    from gateway.enforcement.keyring import read_signer
    from gateway.enforcement.keys import Keys
    from gateway.enforcement.store import Store
    from gateway.policy.document import canonical, digest
    from gateway.settings import Settings, Signing

    keys = Keys("{pc}")
    signer = read_signer(Settings(signing=Signing(key_file=world.system.directory / "state" / "signing.key")))
    unreadable = {"models": ["gpt-oss"], "who": {"phase_of_the_moon": "full"}, "state": "in_force", "by": "op", "at": "2026-06-12T21:21:00Z"}  # fmt: skip
    async with redis.asyncio.Redis(unix_socket_path=str(world.system.redis_socket)) as client:
        base = await Store(client, keys, signer).current()
        raw = base.document.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        body = canonical({**raw, "schema": 1, "directives": {"d-new": unreadable}})
        await client.set(keys.doc(digest(body)), signer.seal("document", digest(body), body))
        entry = Entry(
            base.position.epoch, base.rev + 1, "2026-06-12T21:21:00.000+00:00", "op", "edit", "x", None,
            digest(body), (), base.position.hash,
        )  # fmt: skip
        await client.xadd(keys.log, {"entry": entry.sealed(signer)}, id=f"{entry.rev}-0")
        await client.hset(keys.cur, mapping={"rev": entry.rev, "hash": entry.hash, "doc": entry.doc})


async def redis_dies(world: World) -> None:
    """And a model must go off all the same, while something was made that cannot be remembered."""
    known = world.system.directory / "state" / "operators.json"
    await until(known.exists, "the operators to be remembered")
    await asyncio.to_thread(world.system.kill, "redis")
    body = {"model": "gpt-5.4-mini", "input": "Hi"}
    await asyncio.gather(*(world.post("/openai/v1/responses", body) for _ in range(4)))
    await asyncio.to_thread(world.system.run, "offline", "gemini-3-pro", code=8)


async def it_comes_back(world: World) -> None:
    await asyncio.to_thread(world.system.start_redis)

    async def served() -> bool:
        return await world.chat() == 200

    await until(served, "service again")


async def redis_is_emptied(world: World) -> None:
    await asyncio.to_thread(world.system.empty_redis)


async def the_control_process_is_killed(world: World) -> None:
    workers = world.system.workers()
    world.system.kill("gateway")
    for worker in workers:  # they would serve on
        worker.kill()


Cause = Callable[[World], Awaitable[None]]
CAUSES: tuple[tuple[Cause, tuple[str, ...]], ...] = (
    (nothing, ("LogLinesLost", "SpansLost")),
    (a_model_goes_off, ("ModelOffline",)),
    (the_gateway_has_a_defect, ("InternalErrors",)),
    (a_certificate_is_broken, ("CertificateRefused",)),
    (it_is_mended, ()),
    (somebody_writes_to_redis, ("Forged",)),
    (a_provider_answers_as_another_model, ("DeniedModelAnswered",)),
    (somebody_holds_the_canary, ("DrillFailed", "DrillOverdue")),
    (a_provider_fails, ("UpstreamErroring",)),
    (a_provider_is_slow, ("UpstreamQueue", "NearLimit")),
    (a_worker_sleeps, ("RevisionsApart", "WorkersMissing", "ProvenByExpiry", "EnforcementSlow")),
    (it_wakes_up, ()),
    (all_workers_sleep, ("NotServing",)),
    (it_wakes_up, ()),
    (workers_die_and_die, ("WorkerCrashLoop",)),
    (they_come_back, ()),
    (a_process_sleeps_before_a_write, ("LateWrites",)),
    (redis_dies, ("RedisUnreachable", "LeaseLow", "ReplicaStale", "LedgerFailing", "LocalHold", "ErrorBudgetBurn")),
    (it_comes_back, ()),
    (a_newer_gateway_commits, ("PolicyUnread",)),
    (redis_is_emptied, ("HistoryDiverged", "ErrorBudgetDrain")),
    (the_control_process_is_killed, ("Down",)),
)
"""In this order: what happens, and what fires."""


# ---------------------------------------------------------------------- the world


async def lying(_: web.Request) -> web.Response:
    """A provider that answers as a model that nobody asked for."""
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hi"}}
    return web.json_response({"id": "c", "object": "chat.completion", "model": "gpt-oss", "choices": [choice]})


async def _start_liar() -> tuple[web.AppRunner, str]:
    app = web.Application()
    app.router.add_post("/{path:.*}", lying)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner, f"http://127.0.0.1:{runner.addresses[0][1]}"


def _prepare(system: System, directory: Path, liar: str) -> None:
    seeds = directory / "seeds"
    seeds.mkdir()
    for file in (ROOT / "seeds").glob("*.toml"):
        text = file.read_text()
        (seeds / file.name).write_text(text[: text.index("[models.canary]")] if "[models.canary]" in text else text)
    (seeds / "zz-watched.toml").write_text(SEEDS)
    authority = Authority(directory)
    system.start_redis()
    system.start_simulator("--provider", "canary=openai", "--model", "canary=canary", "--require-key", "canary=sim-key")
    system.env |= {
        "PYTHONPATH": f"{FAULTY}:{ROOT}",
        "PORTCULLIS_PROXY__LIMITS__UPSTREAM_CONNECTIONS": "6",
        "PORTCULLIS_PROXY__TIMEOUTS__UPSTREAM_QUEUE": "60",
        "PORTCULLIS_LOG__FILE": "/dev/full",
        "PORTCULLIS_TRACING__ENDPOINT": "http://127.0.0.1:9/v1/traces",
        "PORTCULLIS_DRILL__MODEL": "canary",
        "PORTCULLIS_DRILL__KEY": "demo-alice",
        "PORTCULLIS_DRILL__EVERY": str(EVERY),
        "PORTCULLIS_PROVIDERS__CANARY__BASE_URL": f"{system.simulator}/canary",
        "PORTCULLIS_PROVIDERS__CANARY__DIALECT": "openai-compatible",
        "PORTCULLIS_PROVIDERS__CANARY__API_KEY": "sim-key",
        "PORTCULLIS_PROVIDERS__COMPATIBLE__BASE_URL": liar,
        "PORTCULLIS_PROVIDERS__SPARE__BASE_URL": "https://127.0.0.1:9",
        "PORTCULLIS_PROVIDERS__SPARE__DIALECT": "openai-compatible",
        "PORTCULLIS_PROVIDERS__SPARE__API_KEY": "sim-key",
        "PORTCULLIS_PROVIDERS__SPARE__TLS__CA_FILE": str(authority.file),
    }
    system.run("init", "--seeds", str(seeds))
    system.start_gateway()


@contextlib.asynccontextmanager
async def watched() -> AsyncIterator[World]:
    """A gateway under traffic, and what watches it."""
    system, directory = new_system(), Path(tempfile.mkdtemp(prefix="pca-"))
    liar, url = await _start_liar()
    watch = None
    try:
        await asyncio.to_thread(_prepare, system, directory, url)
        watch = await Watch(system.admin).start()
        world = World(system, directory, watch)
        world.keep(world.chat)
        yield world
        for task in world.tasks:
            task.cancel()
        await asyncio.gather(*world.tasks, return_exceptions=True)
    finally:
        if watch is not None:
            watch.stop()
        await liar.cleanup()
        await asyncio.to_thread(system.stop)


async def play(world: World, cause: Cause, names: tuple[str, ...]) -> None:
    """Bring a cause about, wait for what fires, and print it."""
    began = time.monotonic()
    world.watch.seen.clear()
    looking = world.keep(world.watch.look, 0.1)
    await cause(world)
    looking.cancel()
    fired = await world.watch.until_received({f"Portcullis{name}" for name in names})
    print(f"{cause.__name__.replace('_', ' ')}: {time.monotonic() - began:.1f} s")
    for name, alert in sorted(fired.items()):
        print(f"  {name} [{alert['labels']['severity']}] {alert['annotations']['summary']}")


async def main(words: list[str]) -> None:
    """Every cause, or those that are named (``workers_die_and_die they_come_back``)."""
    causes = [each for each in CAUSES if not words or each[0].__name__ in words]
    if missing():
        sys.exit(f"needed: {', '.join(missing())}")
    async with watched() as world:
        for cause, names in causes:
            try:
                await play(world, cause, names)
            except AssertionError:
                print(world.system.log())
                raise
        told = world.watch.told()
    fired = sum(len(names) for _, names in causes)
    print(f"{fired} alerts fired, each by its cause; played by promtool alone: {', '.join(UNPLAYED)}")
    print(f"{len(told)} notifications")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
