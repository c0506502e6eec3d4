"""Workers that are replaced, killed, stopped or orphaned under load: what is lost, and what is not."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import urlsplit

import anthropic
import psutil
import pytest
from raw import Raw, ask, request
from system import ROOT, System, new_system, until

BODY = {"model": "claude-opus-4-5", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
PATH = "/anthropic/v1/messages"
KEY = {"x-api-key": "demo-alice", "X-Sim-Interval": "0"}
LONG = {**KEY, "X-Sim-Interval": "0.05", "X-Sim-Events": "100000"}


CLIENTS = 4
"""Of each kind."""
PACE = 0.01
"""Seconds a client thinks between two requests: a load that leaves the machine some time to start workers."""


@dataclass
class Load:
    """Clients that ask and ask: on a new connection each time, on one that is kept, through the official SDK."""

    system: System
    answers: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    longest: float = 0.0
    reconnects: int = 0

    async def __aenter__(self) -> Self:
        self._stop = asyncio.Event()
        kinds = (self.anew, self.kept, self.sdk)
        self._clients = [asyncio.create_task(self._again(kind)) for kind in kinds for _ in range(CLIENTS)]
        await self.more(100)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop.set()
        await asyncio.gather(*self._clients)

    async def more(self, count: int) -> None:
        """Until so many more requests have been answered."""
        aim = self.answers.total() + count
        await until(lambda: self.answers.total() >= aim, "answers", 30)

    async def _again(self, kind) -> None:
        while not self._stop.is_set():
            await kind()
            await asyncio.sleep(PACE)

    def _took(self, how: str, began: float) -> None:
        self.answers[how] += 1
        self.longest = max(self.longest, time.monotonic() - began)

    async def anew(self) -> None:
        began = time.monotonic()
        try:
            raw = await ask(self.system.proxy, PATH, BODY, KEY)
        except OSError as error:
            self.failures.append(f"anew: {error!r}")
            return
        if (raw.status, raw.ended) == (200, "complete"):
            self._took("anew", began)
        else:
            self.failures.append(f"anew: {raw.status} {raw.ended} {raw.body[:200]!r}")

    async def kept(self) -> None:
        address = urlsplit(self.system.proxy)
        data = request(PATH, json.dumps(BODY).encode(), KEY)
        try:
            reader, writer = await asyncio.open_connection(address.hostname, address.port)
        except OSError as error:
            self.failures.append(f"kept: {error!r}")
            return
        try:
            self.reconnects += 1
            while not self._stop.is_set():
                began = time.monotonic()
                writer.write(data)
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                await reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0]))
                assert head.startswith(b"http/1.1 200"), head
                self._took("kept", began)
                await asyncio.sleep(PACE)
                if b"connection: close" in head:
                    assert await reader.read() == b""
                    break
        except (OSError, EOFError, AssertionError) as error:
            self.failures.append(f"kept: {error!r}")
        finally:
            writer.close()

    async def sdk(self) -> None:
        async with anthropic.AsyncAnthropic(
            base_url=f"{self.system.proxy}/anthropic", api_key="demo-alice", max_retries=0
        ) as client:
            while not self._stop.is_set():
                began = time.monotonic()
                try:
                    await client.messages.create(**BODY, extra_headers={"X-Sim-Interval": "0"})
                except anthropic.APIError as error:
                    self.failures.append(f"sdk: {error!r}")
                else:
                    self._took("sdk", began)
                await asyncio.sleep(PACE)

    def say(self, what: str) -> None:
        print(f"\n{what}: {dict(self.answers)} answered, {len(self.failures)} failed, slowest {self.longest:.2f} s")


def stream(system: System, headers: dict[str, str], result: Raw) -> asyncio.Task[Raw]:
    return asyncio.create_task(ask(system.proxy, PATH, {**BODY, "stream": True}, headers, result))


def pids(system: System) -> set[int]:
    return {worker.pid for worker in system.workers() if worker.status() != psutil.STATUS_ZOMBIE}


async def workers(system: System) -> dict[str, int]:
    return (await system.ask_admin("GET", "/readyz")).json.get("workers", {})


async def permitted(system: System) -> float:
    found = await system.metrics()
    return sum(value for name, value in found.items() if "requests_total" in name and 'decision="permit"' in name)


@pytest.fixture(scope="module")
def configured():
    """A system with a settings file, quick to find workers that hang. Each test leaves it with two workers."""
    system = new_system(PORTCULLIS_PROXY__TIMEOUTS__HUNG="3")
    system.env["PORTCULLIS_CONFIG"] = str(config(system))
    config(system).write_text("[proxy.limits]\npipelined = 8\n")
    try:
        yield system.start()
    finally:
        system.stop()


@pytest.fixture
def happens(configured):
    """Wait for an event of this test."""
    log = configured.directory / "gateway.log"
    start = log.stat().st_size

    async def wait(name: str, count: int = 1):
        await until(lambda: len(configured.events(name, start)) >= count, name, 40)
        return configured.events(name, start)

    return wait


def config(system: System):
    return system.directory / "portcullis.toml"


async def test_a_hot_restart_under_load_fails_no_request_and_cuts_no_stream(configured, happens):
    system = configured
    began, before = Raw(), pids(system)
    running = stream(system, {**KEY, "X-Sim-Interval": "0.05", "X-Sim-Events": "150"}, began)
    await began.began.wait()
    async with Load(system) as load:
        config(system).write_text("[proxy.limits]\nbody_bytes = 1000\n")
        started = time.monotonic()
        system.processes["gateway"].send_signal(signal.SIGHUP)
        await happens("restarted")
        took = time.monotonic() - started
        assert (await workers(system))["serving"] == 2
        assert len(pids(system) - before) == 2
        await load.more(100)
    load.say(f"hot restart ({took:.2f} s for 2 workers)")
    print(f"kept connections were opened {load.reconnects} times by {CLIENTS} clients")
    assert load.failures == []
    assert load.reconnects >= 2 * CLIENTS, "those that are kept were told to close"
    too_large = await ask(system.proxy, PATH, {**BODY, "system": "x" * 1000}, KEY)
    assert too_large.status == 413, "new workers read the settings anew"
    finished = await running
    assert (finished.ended, b"message_stop" in finished.body) == ("complete", True)
    await until(lambda: len(pids(system)) == 2, "the old ones to leave")
    assert await permitted(system) == load.answers.total() + 1, "what they counted is kept"


async def test_settings_that_cannot_be_used_keep_the_old_workers(configured, happens):
    system = configured
    before = pids(system)
    config(system).write_text("[proxy.limits]\nbody_byte = 1\n")
    system.processes["gateway"].send_signal(signal.SIGHUP)
    refused = await happens("restart_refused")
    assert "proxy.limits.body_byte: no such setting" in refused[0]["error"]
    config(system).write_text('[redis]\nprefix = "{other}"\n')
    assert "redis" in await asyncio.to_thread(system.run, "replicas", "restart", code=1)
    assert pids(system) == before


async def test_a_killed_worker_fails_only_what_it_held(configured, happens):
    """Its successor starts with the settings that were accepted, whatever the file says by now."""
    system = configured
    restarts = (await system.metrics())["portcullis_worker_restarts_total"]
    async with Load(system) as load:
        victim = min(pids(system))
        os.kill(victim, signal.SIGKILL)
        await happens("worker_back")
        await load.more(100)
    load.say(f"one worker of 2 killed under {3 * CLIENTS} clients")
    assert len(load.failures) <= 3 * CLIENTS, "each client had one request in flight"
    assert (await happens("worker_died"))[0]["returncode"] == -signal.SIGKILL
    assert (await system.metrics())["portcullis_worker_restarts_total"] == restarts + 1


async def test_a_worker_that_hangs_is_replaced(configured, happens):
    system = configured
    victim = min(pids(system))
    os.kill(victim, signal.SIGSTOP)
    await happens("worker_silent")
    assert (await happens("worker_hung"))[0]["pid"] == victim
    await happens("worker_back")
    assert (await workers(system)) == {"starting": 0, "serving": 2, "silent": 0, "leaving": 0, "down": 0}
    assert {(await ask(system.proxy, PATH, BODY, KEY)).status for _ in range(20)} == {200}


async def test_workers_without_a_control_process_serve_on_until_a_new_one_relieves_them(configured, happens):
    system = configured
    config(system).write_text("")
    system.env["PORTCULLIS_PROXY__LISTEN"] = urlsplit(system.proxy).netloc
    said = await asyncio.to_thread(system.run, "serve", code=1)
    assert f"kill {system.processes['gateway'].pid})" in said
    orphans = pids(system)
    system.kill("gateway")
    await happens("control_process_gone", 2)
    began = Raw()
    running = stream(system, {**KEY, "X-Sim-Interval": "0.05", "X-Sim-Events": "100"}, began)
    await began.began.wait()
    try:
        async with Load(system) as load:
            await asyncio.to_thread(system.start_gateway)
            await until(lambda: not any(map(psutil.pid_exists, orphans)), "the orphans to leave", 30)
            await load.more(100)
    finally:
        for pid in filter(psutil.pid_exists, orphans):
            os.kill(pid, signal.SIGKILL)
    load.say("a control process killed, and started again")
    assert load.failures == []
    assert (await running).ended == "complete"
    assert (await system.offline("gpt-5.4"))["basis"] == "all_acked"


async def test_a_kill_cuts_what_a_leaving_gateway_still_streams(configured):
    system = configured
    began = Raw()
    running = stream(system, LONG, began)
    await began.began.wait()
    gateway = system.processes["gateway"]
    gateway.send_signal(signal.SIGTERM)
    await until(lambda: len(pids(system)) == 1, "the worker without a stream to leave")
    assert (await system.ask_admin("GET", "/readyz")).status == 503
    with pytest.raises(OSError, match="Connect"):
        await ask(system.proxy, PATH, BODY, KEY)
    receipt = await system.offline("claude-opus-4-5")
    assert (receipt["enforced"], receipt["basis"], receipt["streams_cut"]) == (True, "all_acked", 1)
    assert (await running).ended != "complete"
    assert await asyncio.to_thread(gateway.wait, 10) == 0
    system.processes.pop("gateway")
    print(f"\nkilled while leaving: enforced after {receipt['elapsed_ms']} ms")


async def test_a_start_that_fails_leaves_nothing_running_and_another_gateway_alone(fresh_system):
    """The admin listener's port is taken, which is found out when Redis runs."""
    system = fresh_system
    system.start_simulator()
    listen, state = system.env["PORTCULLIS_ADMIN__LISTEN"], system.env["PORTCULLIS_STATE_DIR"]
    system.env["PORTCULLIS_REDIS__URL"] = "embedded"
    system.run("init", "--seeds", str(ROOT / "seeds"))

    def start_in_vain(admin: str) -> None:
        system.env["PORTCULLIS_ADMIN__LISTEN"] = admin
        said = system.run("serve", code=1)
        assert "admin.listen" in said
        assert "in use" in said

    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        start_in_vain(f"127.0.0.1:{other.getsockname()[1]}")
    assert running_under(state) == []

    system.env["PORTCULLIS_ADMIN__LISTEN"] = listen
    system.start_gateway()
    before = sorted(running_under(state))
    start_in_vain(urlsplit(system.admin).netloc)
    assert sorted(running_under(state)) == before, "its Redis, too"
    assert (await system.offline("claude-opus-4-5"))["enforced"]


def running_under(state_dir: str) -> list[str]:
    """The command lines of processes that have this state directory."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("PORTCULLIS_STATE_DIR") == state_dir:
                found.append(" ".join(process.cmdline()))
    return found
