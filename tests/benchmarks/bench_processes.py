"""The processes of a measurement: pinned, on free loopback ports, ended whatever happens, and their CPU time."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import psutil

START_SECONDS = 60.0
STOP_SECONDS = 5.0


class BenchError(Exception):
    """A part of the measurement does not work; the message says what to look at."""


@dataclass(frozen=True, slots=True)
class Cores:
    """Which core runs what. The proxy has one of its own; load and upstream share one where there are only two."""

    proxy: int
    load: int
    upstream: int

    def __str__(self) -> str:
        rest = f"load on core {self.load}, upstream on core {self.upstream}"
        if self.load == self.upstream:
            rest = f"load and upstream together on core {self.load}"
        return f"each proxy alone on core {self.proxy}, {rest}"


def choose_cores(allowed: Iterable[int]) -> Cores:
    """Cores out of those that this process may use.

    Raises:
        BenchError: there is only one.
    """
    cores = sorted(allowed)
    if len(cores) < 2:
        raise BenchError("two cores are needed: one for the proxy, one for load and upstream")
    return Cores(proxy=cores[-1], load=cores[0], upstream=cores[1] if len(cores) > 2 else cores[0])


def free_port() -> int:
    """A loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(condition: Callable[[], Any], what: str, seconds: float = START_SECONDS) -> Any:
    """The first true value of a condition that only polling can tell.

    Raises:
        BenchError: it did not come true in time.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.02)
    raise BenchError(f"waited {seconds:.0f} s for {what}")


def listens(port: int) -> bool:
    """Whether somebody accepts connections there."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def pinned(core: int, command: Sequence[object]) -> list[str]:
    """A command on one core, which the kernel ends if this process is killed outright."""
    return ["setpriv", "--pdeathsig", "TERM", "taskset", "-c", str(core), *map(str, command)]


class Processes:
    """All processes that a measurement has started; a context manager that ends them with their children."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._started: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(
        self, name: str, core: int, command: Sequence[object], *, env: dict[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start one on a core; what it prints goes to ``<name>.log`` in the run's directory."""
        with (self._directory / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                pinned(core, command), env=env, cwd=self._directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        self._started.append(process)
        return process

    @contextlib.contextmanager
    def besides(self, directory: Path | None = None) -> "Iterator[Processes]":
        """Processes that end before these do, of the same directory or of another one."""
        with Processes(directory or self._directory) as others:
            yield others

    def listening(self, name: str, process: subprocess.Popen[bytes], port: int, seconds: float = START_SECONDS) -> None:
        """Wait until a process accepts connections.

        Raises:
            BenchError: it ended, or took too long.
        """
        wait_for(lambda: process.poll() is not None or listens(port), f"{name} to listen", seconds)
        if process.poll() is not None:
            raise BenchError(f"{name} ended with {process.returncode}:\n{self.log(name)}")

    def log(self, name: str) -> str:
        """The end of what a process printed."""
        return (self._directory / f"{name}.log").read_text(errors="replace")[-2000:]

    def stop(self) -> None:
        """End everything, the newest first; who has not left in time is killed."""
        family = [member for process in reversed(self._started) for member in with_children(process.pid)]
        for member in family:
            _signal(member, signal.SIGCONT)
            _signal(member, signal.SIGTERM)
        for member in _left_after(STOP_SECONDS, family):
            _signal(member, signal.SIGKILL)
        for process in self._started:
            process.wait(STOP_SECONDS)
        self._started.clear()


def with_children(pid: int) -> list[psutil.Process]:
    """A process and all that came from it."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _left_after(seconds: float, family: list[psutil.Process]) -> list[psutil.Process]:
    """Who still runs after so long, or nobody. One that has ended and that nobody has waited for does not run."""
    deadline = time.monotonic() + seconds
    while (left := [member for member in family if _runs(member)]) and time.monotonic() < deadline:
        time.sleep(0.02)
    return left


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _signal(process: psutil.Process, number: int) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.send_signal(number)


# ---------------------------------------------------------------------------------------------------- CPU time


def cpu_seconds(pids: Iterable[int]) -> float:
    """Seconds of processor that these processes have used, all threads, user and system.

    ``schedstat`` counts nanoseconds; where the kernel has none, ``stat`` counts hundredths.

    Raises:
        BenchError: one of them has ended.
    """
    return sum(_cpu_of(pid) for pid in pids)


def _cpu_of(pid: int) -> float:
    if not psutil.pid_exists(pid):
        raise BenchError(f"process {pid} of the proxy has ended")
    total = 0.0
    for thread in (Path("/proc") / str(pid) / "task").iterdir():
        try:
            total += int((thread / "schedstat").read_text().split()[0]) / 1e9
        except OSError:
            continue  # a thread that has just ended, or a kernel without it
    return total or sum(psutil.Process(pid).cpu_times()[:2])


@dataclass(frozen=True, slots=True)
class CoreTime:
    """Seconds that a core has been busy, for whomever, and idle since the machine started."""

    busy: float
    idle: float


def core_time(core: int, stat: str | None = None) -> CoreTime:
    """A core's time, from ``/proc/stat`` (proc(5)). Time stolen by the hypervisor counts as busy."""
    text = Path("/proc/stat").read_text() if stat is None else stat
    line = next(line for line in text.splitlines() if line.startswith(f"cpu{core} "))
    user, nice, system, idle, iowait, irq, softirq, steal = map(int, line.split()[1:9])
    ticks = os.sysconf("SC_CLK_TCK")
    return CoreTime((user + nice + system + irq + softirq + steal) / ticks, (idle + iowait) / ticks)


def idle_share(before: CoreTime, after: CoreTime) -> float:
    """Which part of the time between two readings a core was idle."""
    idle, busy = after.idle - before.idle, after.busy - before.busy
    return idle / (idle + busy) if idle + busy else 0.0
