"""A model goes off and on while another one is asked for at full rate: ``python tests/benchmarks/bench_kill_under_load.py``.

64 connections ask for one model as fast as they are answered; 100 streams of another one run, are cut by a kill every
two seconds and begin again after its release. Prints the requests of the first model that were lost or failed (ends
with 1 if there are any), how long receipts took, and the rate beside that of the same time without a kill.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

import uvloop
from bench_load import Wrk, errors_of, read_wrk, wrk_script
from bench_ours import Gateway, Serving, compiled_missing, init, seeds, start_redis
from bench_processes import BenchError, pinned
from bench_site import KILLED, MODEL, Running, Site, which
from bench_stage import perform, say
from bench_watch import Seen, open_streams, request, until
from bench_workloads import WORKLOADS, body

EVERY, OFF = 2.0, 1.0
"""Seconds from a kill to the next one, and to its release."""

PAUSE = 0.1
LOAD = next(workload for workload in WORKLOADS if workload.name == "post-64")


@dataclass(slots=True)
class Kills:
    """What killing and releasing brought."""

    receipts_ms: list[float] = field(default_factory=list)
    calls_ms: list[float] = field(default_factory=list)
    cut: int = 0


async def load(site: Site, running: Running, seconds: float) -> Wrk:
    """Ask for the model that nobody kills."""
    body_file, script = site.directory / "load.body", site.directory / "load.lua"
    body_file.write_bytes(body(LOAD))
    script.write_text(wrk_script(LOAD, body_file, running))
    command = [which("wrk"), "-t", 1, "-c", LOAD.connections, "-d", f"{seconds:.0f}s", "--timeout", "20s",
               "-s", script, running.url]  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        *pinned(site.cores.load, command), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    return read_wrk(output.decode())


async def kill_and_release(serving: Serving, streams: int, seconds: float) -> Kills:
    """For so long: all streams run, the model goes off, all have ended, it goes on."""
    kills, seen, asked = Kills(), Seen(), request(KILLED, pause=PAUSE)
    deadline = time.monotonic() + seconds
    while (began := time.monotonic()) + EVERY <= deadline:
        await open_streams(seen, (serving.port,), streams, asked)
        ordered = time.monotonic()
        receipt = await asyncio.to_thread(serving.call, f"models/{KILLED}/offline")
        kills.calls_ms.append((time.monotonic() - ordered) * 1000)
        kills.receipts_ms.append(receipt["elapsed_ms"])
        kills.cut += receipt["streams_cut"]
        if not receipt["enforced"]:
            raise BenchError(f"not enforced: {receipt}")
        await until(lambda: seen.ended == seen.begun, "all streams to end")
        await asyncio.sleep(max(0.0, began + OFF - time.monotonic()))
        await asyncio.to_thread(serving.call, f"models/{KILLED}/online")
        await asyncio.sleep(max(0.0, began + EVERY - time.monotonic()))
    return kills


def report(before: Wrk, during: Wrk, kills: Kills) -> str:
    """What came of it."""
    rate, usual = (wrk.requests / wrk.seconds for wrk in (during, before))
    requests = (
        f"{during.requests:,} requests during {len(kills.receipts_ms)} kills of {kills.cut:,} streams: {lost(during)} lost, "
        f"{during.status} failed (before: {lost(before)}, {before.status})"
    )
    rates = f"{rate:,.0f}/s during, {usual:,.0f}/s before ({rate / usual:.2f} ×)"
    times = f"p99 {during.p99_us / 1000:.1f} ms during, {before.p99_us / 1000:.1f} ms before"
    receipts = f"receipts: {spread(kills.receipts_ms)}; the whole call {spread(kills.calls_ms)}"
    return f"other model: {requests}\nother model: {rates}; {times}\n{receipts}"


def lost(wrk: Wrk) -> int:
    """Requests without an answer."""
    return errors_of(wrk, refused=False) - wrk.status


def spread(milliseconds: Sequence[float]) -> str:
    """For people."""
    if not milliseconds:
        return "none"
    return f"p50 {median(milliseconds):.1f} ms, max {max(milliseconds):.1f} ms"


async def measured(site: Site, serving: Serving, options: argparse.Namespace) -> tuple[Wrk, Wrk, Kills]:
    """The load without kills, beside streams that run; then the same with kills."""
    running = Running(serving.port, serving.workers)
    seen = Seen()
    steady = await open_streams(seen, (serving.port,), options.streams, request(KILLED, pause=PAUSE))
    await load(site, running, 1)
    before = await load(site, running, options.seconds)
    for transport in steady:
        transport.abort()
    await until(lambda: seen.ended == seen.begun, "the streams to end")
    during, kills = await asyncio.gather(
        load(site, running, options.seconds), kill_and_release(serving, options.streams, options.seconds)
    )
    return before, during, kills


def measure(site: Site, options: argparse.Namespace) -> int:
    """Start ours, measure, print."""
    gateway, directory = (
        Gateway("load", workers=options.workers, compiled=compiled_missing() is None),
        site.directory / "load",
    )
    directory.mkdir()
    start_redis(site, "load", directory)
    init(directory, gateway.environment(site, directory), seeds())
    serving = gateway.serve(site, "load", directory)
    say(f"{options.workers} worker(s), {'compiled' if gateway.compiled else 'not compiled'}; {MODEL} at full rate, "
        f"{options.streams} streams of {KILLED}; {site.cores}")  # fmt: skip
    before, during, kills = uvloop.run(measured(site, serving, options))
    print(report(before, during, kills), flush=True)
    return 1 if errors_of(during, refused=False) else 0


def main() -> int:
    """Read arguments and measure."""
    parser = argparse.ArgumentParser(description="A kill under full load.")
    parser.add_argument("--seconds", type=float, default=20.0, help="with kills, and as many without")
    parser.add_argument("--streams", type=int, default=100)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    return perform(lambda site: measure(site, options))


if __name__ == "__main__":
    sys.exit(main())
