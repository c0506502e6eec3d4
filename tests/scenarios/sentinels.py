"""A primary that dies in the middle of commits, again and again: ``python tests/scenarios/sentinels.py --kills 10``.

A primary, a server that follows it, three Sentinels, ``min-replicas-to-write 1``. While operators take models offline the
primary is killed; the Sentinels promote the other; the dead one comes back to follow. What had a receipt stays off.
"""

import argparse
import asyncio
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import redis
from cluster import free_port
from raw import ask
from system import ROOT, System, new_system, until, wait_for

from gateway.embedded import find_server

GROUP = "policy"
MAX_LAG, DOWN_AFTER = 1, 2.5
"""Seconds. A primary that nobody follows takes no writes after the first; it is held for dead after the second."""

MODELS = ("claude-fable-5", "claude-mythos-5", "claude-opus-4-5", "claude-haiku-4-5", "gpt-5.4", "gpt-5.4-mini")
ANTHROPIC = tuple(model for model in MODELS if model.startswith("claude"))


class Sentinels:
    """Two servers and three Sentinels."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ports = [free_port(), free_port()]
        self.sentinel_ports = [free_port() for _ in range(3)]
        self.processes: dict[int, subprocess.Popen[bytes]] = {}

    @property
    def url(self) -> str:
        return f"sentinel://{','.join(f'127.0.0.1:{port}' for port in self.sentinel_ports)}/{GROUP}"

    def start(self) -> None:
        self._serve(self.ports[0])
        self._serve(self.ports[1], "--replicaof", "127.0.0.1", str(self.ports[0]))
        wait_for(lambda: self._follows(self.ports[1]), "the second server to follow")
        for port in self.sentinel_ports:
            config = self.directory / f"sentinel-{port}.conf"
            config.write_text(
                f"port {port}\nlogfile {self.directory}/sentinel-{port}.log\n"
                f"sentinel monitor {GROUP} 127.0.0.1 {self.ports[0]} 2\n"
                f"sentinel down-after-milliseconds {GROUP} {DOWN_AFTER * 1000:.0f}\n"
                f"sentinel failover-timeout {GROUP} 4000\n"
            )
            self._run(port, [find_server(), config, "--sentinel"])
        wait_for(self._agree, "the Sentinels to know of each other")

    def _serve(self, port: int, *more: str) -> None:
        data = self.directory / f"redis-{port}"
        data.mkdir(exist_ok=True)
        self._run(
            port,
            [find_server(), "--port", str(port), "--dir", data, "--save", "", "--appendonly", "yes", "--appendfsync",
             "always", "--logfile", "redis.log", "--min-replicas-to-write", "1", "--min-replicas-max-lag", str(MAX_LAG),
             "--repl-diskless-sync-delay", "0", *more],
        )  # fmt: skip

    def _run(self, port: int, command: list[Any]) -> None:
        self.processes[port] = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL)
        wait_for(lambda: ask_redis(port, "PING"), f"the server on port {port}")

    def _follows(self, port: int) -> bool:
        return "master_link_status:up" in str(ask_redis(port, "INFO", "replication"))

    def _agree(self) -> bool:
        rows = [ask_redis(port, "SENTINEL", "CKQUORUM", GROUP) for port in self.sentinel_ports]
        known = [dict_of(ask_redis(port, "SENTINEL", "MASTER", GROUP)) for port in self.sentinel_ports]
        return all(rows) and all(
            row.get("num-slaves") == "1" and row.get("num-other-sentinels") == "2" for row in known
        )

    @property
    def primary(self) -> int | None:
        """The port of the primary, as most Sentinels say."""
        said = [ask_redis(port, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", GROUP) for port in self.sentinel_ports]
        ports = [int(answer[1]) for answer in said if answer]
        return max(set(ports), key=ports.count) if ports else None

    def kill_primary(self) -> int:
        port = self.primary
        assert port is not None
        process = self.processes.pop(port)
        process.send_signal(signal.SIGKILL)
        process.wait()
        return port

    def promoted(self, dead: int) -> bool:
        port = self.primary
        return port not in (None, dead) and "role:master" in str(ask_redis(port, "INFO", "replication"))

    def bring_back(self, port: int) -> None:
        """As a server that follows the other from the start, as its unit file would have it after a Sentinel's edit."""
        self._serve(port, "--replicaof", "127.0.0.1", str(self.primary))
        wait_for(lambda: self._follows(port), "the dead one to follow")

    def stop(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait()


def ask_redis(port: int, *command: str) -> Any:
    """An answer, or ``None`` where there is none."""
    try:
        with redis.Redis(port=port, socket_timeout=1, decode_responses=True) as client:
            client.response_callbacks.clear()
            return client.execute_command(*command)
    except redis.RedisError:
        return None


def dict_of(flat: Any) -> dict[str, str]:
    if isinstance(flat, dict):
        return flat
    return dict(zip(flat[::2], flat[1::2], strict=True)) if flat else {}


# ------------------------------------------------------------------------------------------------ the run


@dataclass
class Report:
    """``reopened``: what was served after its receipt. ``lost``: revisions with a receipt that a promotion forgot."""

    kills: int = 0
    receipts: int = 0
    unanswered: int = 0
    asked: int = 0
    reopened: list[str] = field(default_factory=list)
    back: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        worst = f"{max(self.back):.1f} s" if self.back else "never"
        return (
            f"kills of the primary {self.kills} receipts {self.receipts} calls without an answer {self.unanswered} "
            f"requests {self.asked} back online after a receipt: {len(self.reopened)}; service again after {worst} at most"
        )


class Run:
    """Operators, clients, and the one with the axe."""

    def __init__(self, system: System, sentinels: Sentinels, seed: int) -> None:
        self.system, self.sentinels = system, sentinels
        self.dice = random.Random(seed)
        self.report = Report()
        self.closed: dict[str, float] = {}

    async def kill(self) -> None:
        """One round: models go offline one after the other, and in the middle of that the primary dies."""
        asking = asyncio.ensure_future(self._ask_all())
        try:
            chosen = self.dice.sample(ANTHROPIC, len(ANTHROPIC))
            orders = [asyncio.ensure_future(self._offline(model)) for model in chosen]
            await asyncio.sleep(self.dice.uniform(0, 0.2))
            dead = await asyncio.to_thread(self.sentinels.kill_primary)
            died = time.monotonic()
            await until(lambda: asyncio.to_thread(self.sentinels.promoted, dead), "a promotion", 40)
            await asyncio.to_thread(self.sentinels.bring_back, dead)
            await asyncio.gather(*orders)
            await until(self._serves, "service", 40)
            self.report.back.append(time.monotonic() - died)
            self.report.kills += 1
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)

    async def _offline(self, model: str) -> None:
        try:
            answer = await self.system.ask_admin("POST", f"/api/v1/models/{model}/offline?wait=20", {})
        except (OSError, aiohttp.ClientError):
            self.report.unanswered += 1
            return
        if answer.status == 200 and answer.json["enforced"]:
            self.closed[model] = time.monotonic()
            self.report.receipts += 1
        else:
            self.report.unanswered += 1

    async def _ask_all(self) -> None:
        while True:
            await asyncio.gather(*(self._ask(model) for model in ANTHROPIC))
            await asyncio.sleep(0.02)

    async def _ask(self, model: str) -> int:
        began = time.monotonic()
        body = {"model": model, "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
        headers = {"x-api-key": "demo-alice", "X-Sim-Interval": "0"}
        try:
            status = (await ask(self.system.proxy, "/anthropic/v1/messages", body, headers)).status
        except OSError:
            return 0
        self.report.asked += 1
        if status == 200 and began > self.closed.get(model, float("inf")):
            self.report.reopened.append(model)
        return status

    async def _serves(self) -> bool:
        """Whether a kill works again, and what is off is refused as that."""
        try:
            answer = await self.system.ask_admin("POST", "/api/v1/models/gpt-5.4/offline?wait=1", {})
            if answer.status != 200 or not answer.json["enforced"]:
                return False
            await self.system.online("gpt-5.4")
        except (OSError, AssertionError, aiohttp.ClientError):
            return False
        return {await self._ask(model) for model in self.closed} <= {403}

    async def open_again(self) -> None:
        """Release everything, for the next round."""
        self.closed.clear()
        await self.system.release_all()


async def run(kills: int, seed: int = 1, said: Any = print) -> Report:
    system = new_system()
    sentinels = Sentinels(system.directory)
    try:
        await asyncio.to_thread(sentinels.start)
        seeds = system.directory / "seeds"
        await asyncio.to_thread(shutil.copytree, ROOT / "seeds", seeds)
        (seeds / "zz-lease.toml").write_text("[max_stale]\ndefault = 2.0\ncontrolled = 2.0\n")
        system.env["PORTCULLIS_REDIS__URL"] = sentinels.url
        await asyncio.to_thread(system.start_simulator)
        await asyncio.to_thread(system.run, "init", "--seeds", str(seeds))
        await asyncio.to_thread(system.start_gateway)
        work = Run(system, sentinels, seed)
        for _ in range(kills):
            await work.kill()
            said(work.report)
            await work.open_again()
    finally:
        await asyncio.to_thread(sentinels.stop)
        await asyncio.to_thread(system.stop)
    return work.report


def main() -> None:
    parser = argparse.ArgumentParser(description="Kill the primary in the middle of commits.")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    report = asyncio.run(run(options.kills, options.seed))
    sys.exit(bool(report.reopened))


if __name__ == "__main__":
    main()
