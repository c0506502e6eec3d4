"""The whole system as real processes: redis-server, the simulator, `portcullis init`, `portcullis serve`."""

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import psutil
from redaction import check, plant

from gateway.embedded import find_server

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 30.0
PROVIDERS = {
    "anthropic": "anthropic", "openai": "openai", "compatible": "openai-compatible", "gemini": "gemini",
    "bedrock": "bedrock", "vertex": "vertex", "azure": "azure-openai",
}  # fmt: skip
"""Providers of a system, each played by the simulator, and the dialect of each."""


def wait_for(condition: Any, what: str, seconds: float = 20.0) -> Any:
    """Poll a condition; the last resort where nothing can be awaited."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.01)
    raise AssertionError(f"waited {seconds} s for {what}")


async def until(condition: Any, what: str, seconds: float = 20.0) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return found
        await asyncio.sleep(0.01)
    raise AssertionError(f"waited {seconds} s for {what}")


@dataclass
class Answer:
    status: int
    headers: Any
    json: Any


@dataclass
class System:
    """One gateway with everything around it."""

    directory: Path
    env: dict[str, str]
    redis_socket: Path
    proxy: str = ""
    admin: str = ""
    simulator: str = ""
    inside: tuple[str, ...] = ()
    """What a gateway is run by: ``ip netns exec NAME``, say."""
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    # -------------------------------------------------------------- starting

    def start(self, **settings: str) -> "System":
        self.env |= settings
        self.start_redis()
        self.start_simulator()
        self.run("init", "--seeds", str(ROOT / "seeds"))
        self.start_gateway()
        return self

    def start_redis(self, *options: str) -> None:
        data = self.directory / "redis"
        data.mkdir(exist_ok=True)
        self.processes["redis"] = subprocess.Popen(
            [find_server(), "--port", "0", "--unixsocket", self.redis_socket, "--dir", data, "--save", "",
             "--appendonly", "yes", "--appendfsync", "always", "--logfile", "redis.log", *options],
            start_new_session=True,
        )  # fmt: skip
        wait_for(self._redis_answers, "redis")

    def _redis_answers(self) -> bool:
        import redis

        client = redis.Redis(unix_socket_path=str(self.redis_socket))
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False
        finally:
            client.close()

    def empty_redis(self) -> None:
        import redis

        with redis.Redis(unix_socket_path=str(self.redis_socket)) as client:
            client.flushall()

    def start_simulator(self, *options: str, host: str = "127.0.0.1") -> None:
        models = (
            "anthropic=claude-fable-5", "anthropic=claude-opus-4-5", "openai=gpt-5.4", "openai=gpt-5.4-mini",
            "gemini=gemini-3-pro", "gemini=gemini-3-flash", "bedrock=anthropic.claude-fable-5-20260324-v1:0",
            "bedrock=anthropic.claude-opus-4-5-20251101-v1:0", "compatible=mistral-large", "compatible=gpt-oss",
        )  # fmt: skip
        spoken = {"compatible": "openai", "vertex": "gemini", "azure": "openai"}
        process = subprocess.Popen(
            [sys.executable, "-m", "gateway.simulator", "--listen", f"{host}:0", "--split-pause", "0.03", *options,
             *(word for name in PROVIDERS for word in ("--provider", f"{name}={spoken.get(name, name)}")),
             *(word for model in models for word in ("--model", model)),
             *(word for name in PROVIDERS for word in ("--require-key", f"{name}=sim-key"))],
            stdout=subprocess.PIPE, start_new_session=True, cwd=ROOT,
        )  # fmt: skip
        assert process.stdout is not None
        line = process.stdout.readline().decode()
        self.simulator = re.search(r"https?://\S+", line)[0]
        process.stdout.close()
        self.processes["simulator"] = process
        for name, dialect in PROVIDERS.items():
            prefix = f"PORTCULLIS_PROVIDERS__{name.upper()}__"
            self.env[prefix + "BASE_URL"] = f"{self.simulator}/{name}"
            self.env[prefix + "DIALECT"] = dialect
            self.env[prefix + "API_KEY"] = "sim-key"

    def start_gateway(self) -> None:
        log = (self.directory / "gateway.log").open("ab")
        before = log.tell()
        self.processes["gateway"] = subprocess.Popen(
            [*self.inside, sys.executable, "-m", "gateway.cli", "serve"], env=self.env, cwd=self.directory, stderr=log, stdout=log,
            start_new_session=True,
        )  # fmt: skip
        log.close()
        ready = wait_for(lambda: self._event("ready", before), "the gateway", START_SECONDS)
        self.proxy, self.admin = f"http://{ready['proxy']}", f"http://{ready['admin']}"

    def events(self, name: str, start: int = 0) -> list[dict[str, Any]]:
        with (self.directory / "gateway.log").open("rb") as log:
            log.seek(start)
            lines = [line for line in log.read().splitlines() if line.startswith(b"{") and name.encode() in line]
        return [event for event in map(json.loads, lines) if event.get("event") == name]

    def _event(self, name: str, start: int) -> dict[str, Any] | None:
        assert self.processes["gateway"].poll() is None, self.log()
        return next(iter(self.events(name, start)), None)

    def log(self) -> str:
        return (self.directory / "gateway.log").read_text()[-4000:]

    def run(self, *command: str, token: str = "demo-operator", code: int | None = 0) -> str:
        """A command of ours, as a user runs it."""
        env = self.env | {"PORTCULLIS_URL": self.admin, "PORTCULLIS_TOKEN": token}
        done = subprocess.run(
            [sys.executable, "-m", "gateway.cli", *command],
            env=env, cwd=self.directory, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert code is None or done.returncode == code, (done.returncode, done.stdout, done.stderr)
        return done.stdout + done.stderr

    # -------------------------------------------------------------- asking

    async def ask_admin(
        self, method: str, path: str, body: Any = None, *, token: str = "demo-operator", headers: Any = None
    ) -> Answer:
        async with (
            aiohttp.ClientSession() as session,
            session.request(
                method, self.admin + path, json=body, headers={"Authorization": f"Bearer {token}", **(headers or {})}
            ) as response,
        ):
            text = await response.text()
            return Answer(response.status, response.headers, json.loads(text) if text.startswith(("{", "[")) else text)

    async def offline(self, model: str, **body: Any) -> dict[str, Any]:
        answer = await self.ask_admin("POST", f"/api/v1/models/{model}/offline", body)
        assert answer.status == 200, answer.json
        return answer.json

    async def online(self, model: str) -> dict[str, Any]:
        return await self.agreed(await self.ask_admin("POST", f"/api/v1/models/{model}/online", {}))

    async def agreed(self, answer: Answer) -> dict[str, Any]:
        """The receipt; where a second person must agree, one does."""
        if answer.status == 202 and answer.json.get("awaiting") == "approval":
            path = f"/api/v1/changes/{answer.json['change']}/approve"
            answer = await self.ask_admin("POST", path, {}, token="demo-approver")
        assert answer.status == 200, answer.json
        return answer.json

    async def release_all(self) -> None:
        for hold in await self.holds():
            await self.agreed(await self.ask_admin("POST", f"/api/v1/holds/{hold}/release", {}))

    async def holds(self) -> list[str]:
        answer = await self.ask_admin("GET", "/api/v1/holds")
        return [hold["id"] for hold in answer.json["holds"]]

    async def metrics(self) -> dict[str, float]:
        answer = await self.ask_admin("GET", "/metrics")
        rows = (line.rsplit(" ", 1) for line in answer.json.splitlines() if line and not line.startswith("#"))
        return {name: float(value) for name, value in rows}

    async def simulated(self, path: str) -> Any:
        async with aiohttp.ClientSession() as session, session.get(self.simulator + path) as response:
            return await response.json()

    # -------------------------------------------------------------- processes

    def workers(self) -> list[psutil.Process]:
        """Our data-plane processes that run, oldest first."""
        children = psutil.Process(self.processes["gateway"].pid).children()
        return sorted(filter(_is_worker, children), key=lambda child: child.create_time())

    def kill(self, name: str) -> None:
        process = self.processes.pop(name)
        process.kill()
        process.wait()

    def stop(self) -> None:
        if self.proxy and "gateway" in self.processes:
            plant(self.proxy)
        self._end()
        try:
            check(self.directory / "gateway.log")
        finally:
            shutil.rmtree(self.directory, ignore_errors=True)

    def _end(self) -> None:
        gateway = self.processes.pop("gateway", None)
        if gateway is not None:
            children = psutil.Process(gateway.pid).children() if gateway.poll() is None else []
            gateway.send_signal(signal.SIGTERM)
            gateway.send_signal(signal.SIGTERM)
            gateway.wait(20)
            for child in children:
                if child.is_running():
                    child.kill()
        for name in list(self.processes):
            self.kill(name)


def _is_worker(process: psutil.Process) -> bool:
    try:
        return "gateway.proxy.worker" in process.cmdline()
    except psutil.NoSuchProcess:  # a zombie, too: it has ended while we look
        return False


def new_system(**settings: str) -> System:
    directory = Path(tempfile.mkdtemp(prefix="pc-"))
    env = {key: value for key, value in os.environ.items() if not key.startswith("PORTCULLIS_")}
    env |= {
        "PORTCULLIS_GATEWAY": "scenario",
        "PORTCULLIS_STATE_DIR": str(directory / "state"),
        "PORTCULLIS_PROXY__LISTEN": "127.0.0.1:0",
        "PORTCULLIS_PROXY__WORKERS": "2",
        "PORTCULLIS_ADMIN__LISTEN": "127.0.0.1:0",
        "PORTCULLIS_REDIS__URL": f"unix://{directory}/redis.sock",
        "PYTHONPATH": os.environ.get("PYTHONPATH", str(ROOT)),  # a compiled gateway, say
    } | settings
    return System(directory, env, directory / "redis.sock")
