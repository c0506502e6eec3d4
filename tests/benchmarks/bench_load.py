"""The load: wrk for requests, a small client of ours for streams. Both give one JSON line."""

import json
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from bench_processes import BenchError, CoreTime, core_time, cpu_seconds, idle_share, pinned
from bench_site import KEY, REFUSE, Running, Site, which
from bench_workloads import Workload, body

HERE = Path(__file__).resolve().parent
LINE = "RESULT "

_WRK = """
local file = assert(io.open("{body}", "rb"))
wrk.method = "POST"
wrk.body = file:read("*a")
file:close()
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = "Bearer {key}"
{headers}
{callers}
function done(summary, latency, requests)
  io.write(string.format(
    '{line}{{"requests":%d,"seconds":%.6f,"p50_us":%.1f,"p99_us":%.1f,"max_us":%.1f,'
    .. '"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d}}\\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50), latency:percentile(99), latency.max,
    summary.errors.connect, summary.errors.read, summary.errors.write, summary.errors.status, summary.errors.timeout))
end
"""
_CALLERS = """
local asked, usual = 0, nil
request = function()
  asked = asked + 1
  if asked % {every} > 0 then
    usual = usual or wrk.format(nil, nil)
    return usual
  end
  wrk.headers["Authorization"] = "Bearer {key}-" .. ((asked / {every} - 1) % {count})
  local other = wrk.format(nil, nil)
  wrk.headers["Authorization"] = "Bearer {key}"
  return other
end
"""


@dataclass(frozen=True, slots=True)
class Wrk:
    """What wrk counted. Times are microseconds; a status of 400 and above is an error to it."""

    requests: int
    seconds: float
    p50_us: float
    p99_us: float
    max_us: float
    connect: int
    read: int
    write: int
    status: int
    timeout: int


@dataclass(frozen=True, slots=True)
class Result:
    """One run of one workload on one contender.

    ``units`` are requests or relayed events; ``cpu_us`` is the proxy's processor time for each, ``beside_us`` that of
    the processes it needs beside. ``p50_ms`` and ``p99_ms`` are a request's, or an event's from the upstream to the
    client. ``proxy_idle`` and ``load_idle`` are shares of the two cores: a proxy that is not
    at its limit on a load core that is measures the load. ``coalesced``: events per read of the stream's client.
    """

    units: int
    seconds: float
    per_second: float
    cpu_us: float | None
    beside_us: float | None
    p50_ms: float | None
    p99_ms: float | None
    errors: int
    proxy_idle: float
    load_idle: float
    others: float = 0.0
    coalesced: float | None = None


def wrk_script(workload: Workload, body_file: Path, running: Running) -> str:
    """What wrk does, in Lua."""
    headers = [*running.headers, *([(REFUSE, "1")] if workload.refused else [])]
    unknown = workload.unknown_every if running.callers else 0
    return _WRK.format(
        body=body_file,
        key=KEY,
        line=LINE,
        headers="\n".join(f'wrk.headers["{name}"] = "{value}"' for name, value in headers),
        callers=_CALLERS.format(key=KEY, count=running.callers, every=unknown) if unknown else "",
    )


def read_wrk(output: str) -> Wrk:
    """Our own line in what wrk printed.

    Raises:
        BenchError: it is not there.
    """
    for line in output.splitlines():
        if line.startswith(LINE):
            return Wrk(**json.loads(line.removeprefix(LINE)))
    raise BenchError(f"wrk said nothing that can be read:\n{output[-1000:]}")


def errors_of(wrk: Wrk, *, refused: bool) -> int:
    """Requests that did not end as they should: all that are not refused, where refusals are what is asked for."""
    broken = wrk.connect + wrk.read + wrk.write + wrk.timeout
    return broken + (wrk.requests - wrk.status if refused else wrk.status)


def run(site: Site, running: Running, workload: Workload, seconds: float) -> Result:
    """Measure once.

    Raises:
        BenchError: the load itself failed.
    """
    if workload.kind == "stream":
        return _run_streams(site, running, workload, seconds)
    return _run_wrk(site, running, workload, seconds)


def _run_wrk(site: Site, running: Running, workload: Workload, seconds: float) -> Result:
    if running.forget and workload.unknown_every:
        running.forget()
    body_file = site.directory / f"{workload.name}.body"
    script = site.directory / f"{workload.name}.lua"
    body_file.write_bytes(body(workload))
    script.write_text(wrk_script(workload, body_file, running))
    command = [
        which("wrk"), "-t", 1, "-c", workload.connections, "-d", f"{max(1, round(seconds))}s", "--timeout", "20s",
        "-s", script, running.url,
    ]  # fmt: skip
    before = _Reading.now(site, running)
    done = subprocess.run(
        pinned(site.cores.load, command), capture_output=True, text=True, timeout=seconds + 60, check=False
    )
    after = _Reading.now(site, running)
    if done.returncode:
        raise BenchError(f"wrk ended with {done.returncode}: {done.stderr}{done.stdout}")
    wrk = read_wrk(done.stdout)
    if not wrk.requests:
        raise BenchError("no request was answered")
    if running.callers and workload.unknown_every and wrk.requests > running.callers * workload.unknown_every:
        raise BenchError(f"{wrk.requests} requests are more than there are callers for; measure fewer seconds")
    return _result(
        before, after, running, wrk.requests, wrk.seconds,
        p50_ms=wrk.p50_us / 1000, p99_ms=wrk.p99_us / 1000, errors=errors_of(wrk, refused=workload.refused),
    )  # fmt: skip


def _run_streams(site: Site, running: Running, workload: Workload, seconds: float) -> Result:
    """Start all streams, and look only at a window in which all of them run."""
    request_body = site.directory / f"{workload.name}.body"
    request_body.write_bytes(body(workload))
    command = [
        sys.executable, HERE / "bench_streams.py", "--port", running.port, "--path", running.path, "--key", KEY,
        "--body", request_body, "--streams", workload.connections, "--pause", workload.pause, "--seconds", seconds,
        *(word for name, value in running.headers for word in ("--header", f"{name}: {value}")),
    ]  # fmt: skip
    with subprocess.Popen(
        pinned(site.cores.load, command),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    ) as client:  # fmt: skip
        try:
            assert client.stdout is not None
            _expect(client.stdout.readline(), "running")
            before = _Reading.now(site, running)
            counted = json.loads(_expect(client.stdout.readline(), LINE).removeprefix(LINE))
            after = _Reading.now(site, running)
        finally:
            client.kill()
    return _result(
        before, after, running, counted["events"], counted["seconds"], errors=counted["lost"],
        p50_ms=counted["p50_ms"], p99_ms=counted["p99_ms"], coalesced=counted["events"] / max(1, counted["reads"]),
    )  # fmt: skip


def _expect(line: str, start: str) -> str:
    if not line.startswith(start):
        raise BenchError(f"the stream client said {line!r} instead of {start!r}")
    return line


@dataclass(frozen=True, slots=True)
class _Reading:
    """Everything that is read before and after a run."""

    wall: float
    proxy: float
    beside: float
    cores: tuple[CoreTime, CoreTime]

    @classmethod
    def now(cls, site: Site, running: Running) -> "_Reading":
        cores = (core_time(site.cores.proxy), core_time(site.cores.load))
        return cls(time.monotonic(), cpu_seconds(running.pids), cpu_seconds(running.beside), cores)


def _result(
    before: _Reading, after: _Reading, running: Running, units: int, seconds: float, *, errors: int,
    p50_ms: float | None = None, p99_ms: float | None = None, coalesced: float | None = None,
) -> Result:  # fmt: skip
    def each(used: float, pids: Iterable[int]) -> float | None:
        return used / units * 1e6 if units and tuple(pids) else None

    proxy, beside = after.proxy - before.proxy, after.beside - before.beside
    idle, load_idle = (idle_share(a, b) for a, b in zip(before.cores, after.cores, strict=True))
    others = max(0.0, 1 - idle - (proxy + beside) / (after.wall - before.wall))
    return Result(
        units, seconds, units / seconds, each(proxy, running.pids), each(beside, running.beside), p50_ms, p99_ms,
        errors, idle, load_idle, others, coalesced,
    )  # fmt: skip


def as_json(result: Result) -> dict[str, object]:
    """A result as it is stored."""
    return asdict(result)
