"""The control process' children: n workers on one port, and the embedded Redis. Whoever dies comes back.

SIGTERM stops accepting, lets exchanges end until a deadline, leaves; a second signal ends at once.
"""

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import Callable
from typing import Any

import structlog

from gateway import tasks
from gateway.channel import Channel, ChannelClosedError, open_channel
from gateway.observability.metrics import Sample, merge
from gateway.settings import Settings

BACK_OFF = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Seconds before a worker that died is started again; anew from the first after it has lived for a minute."""

SETTLED_SECONDS = 60.0
_log = structlog.get_logger("portcullis.supervisor")


class Child:
    """One worker's process, its channel, and what it last counted."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.process: asyncio.subprocess.Process | None = None
        self.channel: Channel | None = None
        self.member: str | None = None
        self.listening = asyncio.Event()
        self.samples: list[Sample] = []

    def tells(self, message: dict[str, Any]) -> None:
        """Take in what the worker says on its own."""
        match message.get("event"):
            case "member":
                self.member = message["member"]
            case "listening":
                self.listening.set()


class Supervisor:
    """Keeps workers alive. ``bury`` is told which replica is dead, as the kernel reported it."""

    def __init__(self, settings: Settings, bury: Callable[[str], Any]) -> None:
        self._settings = settings
        self._bury = bury
        self._children = [Child(index) for index in range(settings.proxy.worker_count)]
        self._keepers: list[asyncio.Task[Any]] = []
        self._stopping = False
        self._departed: list[Sample] = []
        self.restarts = 0
        self._reserved = _reserve(settings.proxy.listen)
        host, _, _ = settings.proxy.listen.rpartition(":")
        self.listen = f"{host}:{self._reserved.getsockname()[1]}"

    @property
    def ready(self) -> bool:
        """Whether every worker has opened its listener."""
        return all(child.listening.is_set() for child in self._children) and not self._stopping

    @property
    def workers(self) -> list[int]:
        """The process ids of the workers that run."""
        return [child.process.pid for child in self._children if child.process and child.process.returncode is None]

    def start(self) -> None:
        """Start all workers, and keep them running."""
        self._keepers = [tasks.spawn(self._keep(child), f"worker-{child.index}") for child in self._children]
        self._keepers.append(tasks.spawn(self._keep_counting(), "workers-counts"))

    async def wait_ready(self) -> None:
        """Wait until every worker listens."""
        for child in self._children:
            await child.listening.wait()

    # ------------------------------------------------------------------ one worker

    async def _keep(self, child: Child) -> None:
        loop = asyncio.get_running_loop()
        deaths = 0
        while not self._is_stopping():
            began = loop.time()
            try:
                await self._run(child)
            except OSError as error:  # no descriptor or process to be had: later, perhaps
                _log.error("worker_not_started", worker=child.index, error=str(error))
            if self._is_stopping():
                return
            self.restarts += 1
            deaths = 1 if loop.time() - began > SETTLED_SECONDS else deaths + 1
            pause = BACK_OFF[min(deaths, len(BACK_OFF)) - 1]
            code = child.process.returncode if child.process else None
            _log.error("worker_died", worker=child.index, returncode=code, restart_in=pause)
            await asyncio.sleep(pause)

    async def _run(self, child: Child) -> None:
        """Start a worker and wait for its end."""
        ours, theirs = socket.socketpair()
        child.listening.clear()
        child.process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "gateway.proxy.worker", "--index", str(child.index), "--listen", self.listen),
            *("--channel", str(theirs.fileno()), "--group", str(os.getpid())),
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
        theirs.close()
        child.channel = await open_channel(ours, child.tells)
        await child.process.wait()
        self._departed = _sum(self._departed, [s for s in child.samples if s[0].endswith("_total") or _is_list(s)])
        child.samples = []
        if child.member is not None and child.process.returncode != 0:
            self._bury(child.member)

    def _is_stopping(self) -> bool:
        return self._stopping

    # ------------------------------------------------------------------ counts

    async def _keep_counting(self) -> None:
        """Ask every second, so that what a killed worker had counted is not lost."""
        while True:
            await asyncio.sleep(1.0)
            await self.count()

    async def count(self) -> None:
        """Ask every worker for its counts."""
        await asyncio.gather(*(self._count(child) for child in self._children))

    async def _count(self, child: Child) -> None:
        if child.channel is not None:
            with contextlib.suppress(ChannelClosedError, TimeoutError):
                async with asyncio.timeout(1.0):
                    child.samples = [tuple(sample) for sample in await child.channel.ask("metrics")]

    async def refusal(self, request_id: str) -> dict[str, Any] | None:
        """What some worker remembers of a refusal."""
        for child in self._children:
            if child.channel is not None:
                with contextlib.suppress(ChannelClosedError, TimeoutError):
                    async with asyncio.timeout(1.0):
                        found: dict[str, Any] | None = await child.channel.ask("refusal", request_id=request_id)
                        if found is not None:
                            return found
        return None

    def samples(self) -> list[list[Sample]]:
        """What all workers counted, those that are gone too."""
        own: list[Sample] = [("portcullis_worker_restarts_total", (), self.restarts)]
        return [own, self._departed, *(child.samples for child in self._children)]

    # ------------------------------------------------------------------ the end

    async def stop(self) -> None:
        """Ask all workers to leave, and wait until they have."""
        self._stopping = True
        self._signal("terminate")
        deadline = self._settings.proxy.timeouts.shutdown + 5.0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(deadline):
                await asyncio.gather(*(child.process.wait() for child in self._children if child.process))
        self.kill()
        await tasks.cancel(*self._keepers)
        self._reserved.close()

    def kill(self) -> None:
        """End all workers at once."""
        self._stopping = True
        self._signal("kill")

    def _signal(self, how: str) -> None:
        for child in self._children:
            if child.process is not None and child.process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    getattr(child.process, how)()


def _reserve(listen: str) -> socket.socket:
    """Bind the workers' port without listening: port 0 becomes a number, and a taken one is found out now."""
    host, _, port = listen.rpartition(":")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    address = (host.strip("[]"), int(port))
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)  # without SO_REUSEPORT: two gateways must not share a port by mistake
    reserved = socket.socket(family, socket.SOCK_STREAM)
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    reserved.bind(address)
    return reserved


def _is_list(sample: Sample) -> bool:
    return isinstance(sample[2], list)


def _sum(*sources: list[Sample]) -> list[Sample]:
    merged = merge(sources)
    return [(name, labels, value) for name, series in merged.items() for labels, value in series.items()]
