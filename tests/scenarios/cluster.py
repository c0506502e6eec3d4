"""Three gateways, each as on a machine of its own, on one Redis that can be killed, emptied, slowed and filled up."""

import asyncio
import contextlib
import os
import random
import re
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import redis
from line import Line
from redaction import check
from system import ROOT, START_SECONDS, Answer, System, wait_for

from gateway.embedded import find_server

DISK = "64m"
"""What a gateway's disk has room for, where one of its own can be mounted."""


class Cluster:
    """Gateways, a Redis, a simulator. Each gateway has its own line to Redis, directory and, where allowed, disk."""

    def __init__(self, gateways: int = 3, workers: int = 2, lease: float = 1.0) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="pcf-"))
        self.lease = lease
        self.workers = workers
        self.socket = self.directory / "redis.sock"
        self.lines = [Line.to_socket(str(self.socket)) for _ in range(gateways)]
        self.gateways = [self._gateway(index) for index in range(gateways)]
        self.simulator = self.gateways[0]
        self.redis: subprocess.Popen[bytes] | None = None
        self.mounted = True
        self._known: set[psutil.Process] = set()

    def _gateway(self, index: int) -> System:
        place = self.directory / f"g{index}"
        place.mkdir()
        env = {key: value for key, value in os.environ.items() if not key.startswith("PORTCULLIS_")}
        env |= {
            "PORTCULLIS_GATEWAY": "faults",
            "PORTCULLIS_STATE_DIR": str(place / "state"),
            "PORTCULLIS_SIGNING__KEY_FILE": str(self.directory / "signing.key"),
            "PORTCULLIS_PROXY__LISTEN": f"127.0.0.1:{free_port()}",
            "PORTCULLIS_PROXY__WORKERS": str(self.workers),
            "PORTCULLIS_PROXY__TIMEOUTS__SHUTDOWN": "3",
            "PORTCULLIS_ADMIN__LISTEN": f"127.0.0.1:{free_port()}",
            "PYTHONPATH": os.environ.get("PYTHONPATH", str(ROOT)),  # a compiled gateway, say
        }
        system = System(place, env, self.socket)
        system.proxy = f"http://{env['PORTCULLIS_PROXY__LISTEN']}"
        system.admin = f"http://{env['PORTCULLIS_ADMIN__LISTEN']}"
        return system

    # -------------------------------------------------------------- starting and ending

    async def start(self) -> None:
        for line, gateway in zip(self.lines, self.gateways, strict=True):
            await line.start()
            gateway.env["PORTCULLIS_REDIS__URL"] = f"redis://127.0.0.1:{line.port}"
            self._mount(gateway)
        await asyncio.to_thread(self.start_redis)
        first, *others = self.gateways
        await asyncio.to_thread(first.start_simulator, "--keep-requests", "100000", "--keep-emissions", "2000")
        for gateway in others:
            gateway.env |= {key: value for key, value in first.env.items() if key.startswith("PORTCULLIS_PROVIDERS__")}
        await asyncio.to_thread(first.run, "init", "--seeds", str(self._seeds()))
        await asyncio.gather(*(asyncio.to_thread(self.start_gateway, gateway) for gateway in self.gateways))

    def _seeds(self) -> Path:
        seeds = self.directory / "seeds"
        shutil.copytree(ROOT / "seeds", seeds)
        (seeds / "zz-lease.toml").write_text(f"[max_stale]\ndefault = {self.lease}\ncontrolled = {self.lease}\n")
        return seeds

    def _mount(self, gateway: System) -> None:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", gateway.directory], check=False, capture_output=True
        )
        self.mounted = self.mounted and done.returncode == 0

    def start_redis(self) -> None:
        data = self.directory / "redis"
        data.mkdir(exist_ok=True)
        debug = ["--enable-debug-command", "local"] if version() >= (7, 0) else []
        self.redis = subprocess.Popen(
            [find_server(), "--port", "0", "--unixsocket", self.socket, "--dir", data, "--save", "", "--appendonly",
             "yes", "--appendfsync", "always", "--logfile", "redis.log", *debug],
            start_new_session=True,
        )  # fmt: skip
        wait_for(self._redis_answers, "redis", START_SECONDS)

    def _redis_answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def client(self, timeout: float = 30.0) -> Any:
        return redis.Redis(unix_socket_path=str(self.socket), socket_timeout=timeout)

    def start_gateway(self, gateway: System) -> None:
        gateway.start_gateway()
        self._known.update(self._processes_of(gateway))

    @staticmethod
    def _processes_of(gateway: System) -> Iterator[psutil.Process]:
        control = psutil.Process(gateway.processes["gateway"].pid)
        yield control
        with contextlib.suppress(psutil.NoSuchProcess):
            yield from control.children(recursive=True)

    def note_processes(self) -> None:
        """Remember what runs, so that orphans end with the rest."""
        for gateway in self.gateways:
            process = gateway.processes.get("gateway")
            if process is not None and process.poll() is None:
                self._known.update(self._processes_of(gateway))

    async def stop(self) -> None:
        self.note_processes()
        for process in self._known:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()  # psutil looks at the start time: no other process that has the number now
        for gateway in self.gateways:
            for name in list(gateway.processes):
                gateway.kill(name)
        self.end_redis()
        for line in self.lines:
            await line.stop()
        try:
            for gateway in self.gateways:
                check(gateway.directory / "gateway.log")
        finally:
            await asyncio.to_thread(self._remove)

    def _remove(self) -> None:
        for gateway in self.gateways:
            subprocess.run(["umount", "-l", gateway.directory], check=False, capture_output=True)
        shutil.rmtree(self.directory, ignore_errors=True)

    def keep_logs(self) -> Path:
        """What the gateways wrote, and what Redis holds, for whoever looks for the cause."""
        kept = Path(tempfile.mkdtemp(prefix="pcf-logs-"))
        for gateway in self.gateways:
            shutil.copytree(gateway.directory, kept / gateway.directory.name)
        with self.client() as client:
            held = {"cur": client.hgetall("{pc}:cur"), "replicas": client.hgetall("{pc}:replicas")}
        (kept / "redis.txt").write_text(repr(held))
        return kept

    # -------------------------------------------------------------- what befalls it

    def end_redis(self) -> None:
        if self.redis is not None:
            self.redis.kill()
            self.redis.wait()

    def random_worker(self, dice: random.Random) -> psutil.Process:
        self.note_processes()
        return dice.choice([worker for gateway in self.gateways for worker in gateway.workers()])

    def kill_control(self, gateway: System) -> None:
        self.note_processes()
        gateway.kill("gateway")

    def kill_machine(self, gateway: System) -> None:
        """Control process and workers at once."""
        self.note_processes()
        processes = list(self._processes_of(gateway))
        gateway.processes["gateway"].send_signal(signal.SIGSTOP)  # that it sees none of the others die
        for process in reversed(processes):
            process.kill()
        gateway.processes.pop("gateway").wait()

    @contextlib.contextmanager
    def full_disk(self, gateway: System) -> Iterator[None]:
        """A disk without a free byte; where none can be mounted, processes that may write to no file."""
        if self.mounted:
            filler = gateway.directory / "filler"
            with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
                while True:
                    file.write(bytes(4096))
            try:
                yield
            finally:
                filler.unlink()
            return
        processes = list(self._processes_of(gateway))
        limits = {process: process.rlimit(resource.RLIMIT_FSIZE) for process in processes}
        for process, (_, hard) in limits.items():
            process.rlimit(resource.RLIMIT_FSIZE, (0, hard))
        try:
            yield
        finally:
            for process, limit in limits.items():
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.rlimit(resource.RLIMIT_FSIZE, limit)

    def most_advanced(self) -> System:
        """The machine that remembers the highest revision: where a policy is restored."""
        return max(self.gateways, key=remembered)

    async def ask(self, gateway: System, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        return await gateway.ask_admin(method, path, body, headers=headers)


def remembered(gateway: System) -> int:
    """The highest revision that a machine's workers wrote down."""
    found = [
        re.search(rb'\\"rev\\":(\d+)', path.read_bytes()) for path in gateway.directory.glob("state/remembered-*.json")
    ]
    return max((int(match[1]) for match in found if match), default=0)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def version() -> tuple[int, ...]:
    said = subprocess.run([find_server(), "--version"], capture_output=True, text=True, check=True).stdout
    return tuple(map(int, re.search(r"v=(\d+)\.(\d+)", said).groups()))
