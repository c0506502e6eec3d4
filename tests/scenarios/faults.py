"""Real processes that die, sleep and lose each other while models are killed: ``python tests/scenarios/faults.py --seed 1``.

Three gateways of two workers, one Redis, a provider that records. Clients stream, operators kill and release; then,
one after the other, faults by a seed's dice. After each the system must come back as docs/enforcement.md says, and no
receipt may have lied (judge.py). ``--faults 200`` takes some fifteen minutes.
"""

import argparse
import asyncio
import random
import signal
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import psutil
from cluster import Cluster
from fault_load import OPEN, Load, visit
from judge import ended
from system import System, until

NEVER = ("task_died", "internal_error", "request_failed")
"""What a gateway's log must not tell of, whatever happens around it."""

CANARY = "gpt-5.4-mini"
RETURN_SECONDS = 40.0
"""How long the return of service is waited for; what was needed is printed."""


@dataclass
class Scene:
    """What a fault can get at."""

    cluster: Cluster
    load: Load
    dice: random.Random

    @property
    def lease(self) -> float:
        return self.cluster.lease

    def gateway(self) -> System:
        return self.dice.choice(self.cluster.gateways)

    async def wait(self, low: float, high: float) -> float:
        """So many leases, by the dice; how many seconds that was."""
        seconds = self.lease * self.dice.uniform(low, high)
        await asyncio.sleep(seconds)
        return seconds

    async def refuses(self, gateway: System) -> bool:
        """Whether a gateway says that it cannot confirm its policy."""
        return ended((await visit(gateway, OPEN, "probe", QUICK, stream=False))[1]) == "503 policy_stale"


QUICK = {"X-Sim-Interval": "0"}


# ------------------------------------------------------------------------------------------------ faults


async def worker_stopped(scene: Scene, low: float, high: float) -> None:
    worker = scene.cluster.random_worker(scene.dice)
    worker.suspend()
    try:
        await scene.wait(low, high)
    finally:
        worker.resume()


async def worker_stopped_within_lease(scene: Scene) -> None:
    await worker_stopped(scene, 0.1, 0.7)


async def worker_stopped_past_lease(scene: Scene) -> None:
    await worker_stopped(scene, 1.3, 3.5)


async def worker_killed(scene: Scene) -> None:
    scene.cluster.random_worker(scene.dice).kill()


async def control_killed(scene: Scene) -> None:
    gateway = scene.gateway()
    scene.cluster.kill_control(gateway)
    await scene.wait(0, 2)
    await asyncio.to_thread(scene.cluster.start_gateway, gateway)


async def machine_lost(scene: Scene) -> None:
    gateway = scene.gateway()
    scene.cluster.kill_machine(gateway)
    await scene.wait(0, 2)
    await asyncio.to_thread(scene.cluster.start_gateway, gateway)


async def redis_killed(scene: Scene) -> None:
    scene.cluster.end_redis()
    await scene.wait(0, 2.5)
    await asyncio.to_thread(scene.cluster.start_redis)


async def redis_stopped(scene: Scene) -> None:
    process = psutil.Process(scene.cluster.redis.pid)
    process.suspend()
    try:
        await scene.wait(0.2, 2.5)
    finally:
        process.resume()


async def redis_sleeps(scene: Scene) -> None:
    seconds = scene.lease * scene.dice.uniform(0.2, 2.5)
    with scene.cluster.client() as client:
        await asyncio.to_thread(client.execute_command, "DEBUG", "SLEEP", f"{seconds:.2f}")


async def redis_emptied(scene: Scene) -> None:
    """Everything refuses until ``portcullis init`` restores what a machine remembers, the one that remembers most."""
    with scene.cluster.client() as client:
        client.flushall()
    for gateway in scene.cluster.gateways:
        await until(lambda gateway=gateway: scene.refuses(gateway), "a gateway without a policy to refuse", 20)
    wisest = scene.cluster.most_advanced()
    said = await asyncio.to_thread(wisest.run, "init", "--seeds", str(scene.cluster.directory / "seeds"))
    assert "restore: revision" in said, said


async def connections_killed(scene: Scene) -> None:
    with scene.cluster.client() as client:
        for kind in scene.dice.choice((("normal",), ("pubsub", "normal"))):
            client.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")


async def some_connections_killed(scene: Scene) -> None:
    with scene.cluster.client() as client:
        for row in client.client_list():
            if scene.dice.random() < 0.5 and row["cmd"] != "client|list":
                client.client_kill_filter(_id=row["id"])


async def redis_slow(scene: Scene) -> None:
    lines = scene.dice.sample(scene.cluster.lines, scene.dice.choice((1, 3)))
    for line in lines:
        line.delay = scene.dice.uniform(0.02, 0.4)
    try:
        await scene.wait(1, 3)
    finally:
        for line in lines:
            line.delay = 0.0


async def gateway_cut_off(scene: Scene) -> None:
    """Its line is silent: it refuses once its lease is over; the others go on, and a kill waits for that lease."""
    index = scene.dice.randrange(len(scene.cluster.lines))
    line = scene.cluster.lines[index]
    line.silence()
    try:
        await until(lambda: scene.refuses(scene.cluster.gateways[index]), "a gateway that is cut off to refuse", 20)
        await scene.wait(0, 1)
    finally:
        line.restore()
        if scene.dice.random() < 0.5:
            await line.cut()


async def disk_full(scene: Scene) -> None:
    with scene.cluster.full_disk(scene.gateway()):
        await scene.wait(1, 3)


async def disk_full_and_redis_stopped(scene: Scene) -> None:
    """What the fault has to tell can be written nowhere."""
    with scene.cluster.full_disk(scene.gateway()):
        await scene.wait(0.2, 1)
        await redis_stopped(scene)
        await scene.wait(0.2, 1)


async def hot_restart(scene: Scene) -> None:
    gateway = scene.gateway()
    before = {worker.pid for worker in gateway.workers()}
    gateway.processes["gateway"].send_signal(signal.SIGHUP)
    await until(lambda: before.isdisjoint(worker.pid for worker in gateway.workers()), "new workers", RETURN_SECONDS)


FAULTS: tuple[Callable[[Scene], Awaitable[None]], ...] = (
    worker_stopped_within_lease,
    worker_stopped_past_lease,
    worker_killed,
    control_killed,
    machine_lost,
    redis_killed,
    redis_stopped,
    redis_sleeps,
    redis_emptied,
    connections_killed,
    some_connections_killed,
    redis_slow,
    gateway_cut_off,
    disk_full,
    disk_full_and_redis_stopped,
    hot_restart,
)


# ------------------------------------------------------------------------------------------------ coming back


async def came_back(scene: Scene) -> None:
    """Every gateway serves what is open with all its workers, and a kill is acknowledged by every replica there is."""
    for gateway in scene.cluster.gateways:
        await until(lambda gateway=gateway: _serves(gateway), f"{gateway.directory.name} to serve", RETURN_SECONDS)
        await until(lambda gateway=gateway: _staffed(scene, gateway), "all workers", RETURN_SECONDS)
    try:
        async with asyncio.timeout(RETURN_SECONDS):
            while not await _acknowledged(scene):
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError("no kill that every replica acknowledges") from None


async def _serves(gateway: System) -> bool:
    answers = [ended((await visit(gateway, OPEN, "probe", QUICK, stream=False))[1]) for _ in range(4)]
    return answers == ["200"] * 4


async def _staffed(scene: Scene, gateway: System) -> bool:
    try:
        answer = await gateway.ask_admin("GET", "/readyz")
    except OSError:
        return False
    return answer.status == 200 and answer.json["workers"].get("serving") == scene.cluster.workers


async def _acknowledged(scene: Scene) -> bool:
    receipt = await scene.load.call(scene.dice, f"/api/v1/models/{CANARY}/offline", {"note": "canary"})
    await scene.load.call(scene.dice, f"/api/v1/models/{CANARY}/online", {})
    enough = len(scene.cluster.gateways) * scene.cluster.workers
    return receipt.get("basis") == "all_acked" and receipt["replicas"]["live"] >= enough


# ------------------------------------------------------------------------------------------------ the run


@dataclass
class Report:
    """``back``: per fault, the seconds until service was back."""

    seed: int
    disk: str
    faults: int = 0
    receipts: int = 0
    requests: int = 0
    reached: int = 0
    violations: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    back: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    outcomes: dict[str, int] = field(default_factory=dict)
    late_writes: float = 0

    def __str__(self) -> str:
        rows = [
            f"  {name:28} {len(times):3}  back after {statistics.median(times):5.1f} s, at most {max(times):5.1f} s"
            for name, times in sorted(self.back.items())
        ]
        rows += [f"  {what:40} {count}" for what, count in sorted(self.outcomes.items())]
        rows += [*self.violations, *(f"did not come back: {what}" for what in self.stuck), *self.broken]
        rows.append(f"  full disk by {self.disk}; late writes counted by workers: {self.late_writes:.0f}")
        rows.append(
            f"faults {self.faults} (seed {self.seed}) receipts {self.receipts} requests {self.requests} "
            f"({self.reached} reached the provider) violations: {len(self.violations)}"
        )
        return "\n".join(rows)


async def run(
    seed: int,
    count: int,
    lease: float = 1.0,
    said: Callable[[str], None] = print,
    kinds: Sequence[Callable[[Scene], Awaitable[None]]] = (),
) -> Report:
    """So many faults, each kind as often as any other, in the seed's order."""
    kinds = kinds or FAULTS
    dice = random.Random(seed)
    cluster = Cluster(lease=lease)
    scene = Scene(cluster, Load(cluster, dice), dice)
    try:
        await cluster.start()
        report = Report(seed, "a small tmpfs" if cluster.mounted else "RLIMIT_FSIZE")
        scene.load.start()
        await came_back(scene)
        deck: list[Callable[[Scene], Awaitable[None]]] = []
        for number in range(1, count + 1):
            deck = deck or dice.sample(kinds, len(kinds))
            fault = deck.pop()
            await _one(scene, fault, report)
            said(
                f"{number:4} {fault.__name__:28} {report.receipts:5} receipts {report.requests:6} requests "
                f"{len(report.violations)} violations"
            )
            if report.stuck or report.broken:
                said(f"logs kept in {await asyncio.to_thread(cluster.keep_logs)}")
                break
        report.late_writes = await _late_writes(cluster)
        await scene.load.stop()
        await _judge(scene, "the end", report)
    finally:
        await cluster.stop()
    return report


async def _one(scene: Scene, fault: Callable[[Scene], Awaitable[None]], report: Report) -> None:
    name = fault.__name__
    await scene.wait(0, 0.5)
    try:
        await fault(scene)
        over = time.monotonic()
        await came_back(scene)
        report.back[name].append(time.monotonic() - over)
    except AssertionError as error:
        report.stuck.append(f"{name}: {error}")
    report.faults += 1
    report.broken = [
        f"{gateway.directory.name} {event}"
        for gateway in scene.cluster.gateways
        for name in NEVER
        for event in gateway.events(name)
    ]
    await _judge(scene, name, report)


async def _judge(scene: Scene, name: str, report: Report) -> None:
    report.violations += [f"{name}: {violation}" for violation in await scene.load.judge()]
    load = scene.load
    report.receipts, report.requests, report.reached = load.receipts, load.requests, load.reached
    report.outcomes = {f"{kind}: {how}": count for (kind, how), count in load.outcomes.items()}
    report.outcomes |= {f"receipt: {basis}": count for basis, count in load.bases.items()}


async def _late_writes(cluster: Cluster) -> float:
    total = 0.0
    for gateway in cluster.gateways:
        metrics = await gateway.metrics()
        total += sum(value for name, value in metrics.items() if name.startswith("portcullis_late_writes_total"))
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description="Faults by a seed's dice, and receipts that may not lie.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--lease", type=float, default=1.0, help="max_stale of every model, in seconds")
    parser.add_argument("--only", action="append", default=[], choices=[fault.__name__ for fault in FAULTS])
    options = parser.parse_args()
    kinds = [fault for fault in FAULTS if fault.__name__ in options.only]
    began = time.monotonic()

    def said(line: str) -> None:
        print(f"{time.monotonic() - began:7.1f} s {line}", flush=True)

    report = asyncio.run(run(options.seed, options.faults, options.lease, said, kinds))
    print(report)
    sys.exit(bool(report.violations or report.stuck or report.broken))


if __name__ == "__main__":
    main()
