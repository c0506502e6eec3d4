"""Callers by the hundred thousand, through a real gateway: ``python tests/benchmarks/bench_callers.py 1000000``.

Imports so many callers by ``POST /api/v1/callers:import``, exports them again, and prints the rate and what the control
process, the workers and Redis take, as it goes. Meanwhile a client keeps asking a worker, and a model goes off and on:
what the import costs them.
"""

import asyncio
import json
import shutil
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles

import aiohttp
import psutil

sys.path.insert(0, str(Path(__file__).parents[1] / "scenarios"))

from system import System, new_system

LINES = 1000
EVERY_SECONDS = 5.0
PAUSE_SECONDS = 3.0
COUNTRIES = ("US", "GB", "FR", "DE", "IN", "CN", "BR", "JP")
KEY = "demo-alice"


@dataclass
class Meanwhile:
    """What was measured beside: milliseconds."""

    requests: list[float] = field(default_factory=list)
    refused: int = 0
    receipts: list[float] = field(default_factory=list)
    calls: list[float] = field(default_factory=list)


def people(count: int) -> AsyncIterator[bytes]:
    """The file, a thousand lines at a time."""

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, count, LINES):
            yield b"".join(person(number) for number in range(start, min(start + LINES, count)))

    return pieces()


def person(number: int) -> bytes:
    nationality = COUNTRIES[number % len(COUNTRIES)]
    attributes = {"nationality": [nationality], "permanent_residence": ["US"] if number % 3 == 0 else []}
    line = {"id": f"person-{number:07}", "kind": "person", "org": f"org-{number % 100}", "attributes": attributes}
    return json.dumps(line).encode() + b"\n"


def megabytes(process: psutil.Process) -> float:
    return process.memory_info().rss / 2**20


class Processes:
    """The processes of a gateway, and what they take."""

    def __init__(self, system: System) -> None:
        self.control = psutil.Process(system.processes["gateway"].pid)
        self.workers = system.workers()
        self.redis = psutil.Process(system.processes["redis"].pid)

    def used(self) -> list[float]:
        """Processor seconds of the control process, all workers, and Redis."""
        return [seconds(self.control), sum(map(seconds, self.workers)), seconds(self.redis)]

    def per_thousand(self, before: list[float], count: int) -> str:
        """What a thousand callers cost since."""
        taken = [(after - then) / count * 1e6 for after, then in zip(self.used(), before, strict=True)]
        return f"processor ms per 1,000: control {taken[0]:.0f}, workers {taken[1]:.0f}, Redis {taken[2]:.0f}"

    def __str__(self) -> str:
        workers = ", ".join(f"{megabytes(worker):.0f}" for worker in self.workers)
        return (
            f"control {megabytes(self.control):.0f} MiB, workers {workers} MiB, Redis {megabytes(self.redis):.0f} MiB"
        )


def seconds(process: psutil.Process) -> float:
    """Of a processor, so far."""
    used = process.cpu_times()
    return used.user + used.system


async def ask(system: System, found: Meanwhile) -> None:
    """Ask a worker, again and again."""
    body = {"model": "claude-opus-4-5", "max_tokens": 8, "messages": [{"role": "user", "content": "hi"}]}
    headers = {"x-api-key": KEY, "anthropic-version": "2023-06-01"}
    async with aiohttp.ClientSession(headers=headers) as session:
        while True:
            began = time.perf_counter()
            async with session.post(f"{system.proxy}/anthropic/v1/messages", json=body) as response:
                await response.read()
                found.refused += response.status != 200
            found.requests.append((time.perf_counter() - began) * 1e3)
            await asyncio.sleep(0.02)


async def switch(system: System, found: Meanwhile) -> None:
    """Take a model off and on, again and again."""
    while True:
        began = time.perf_counter()
        receipt = await system.offline("claude-haiku-4-5")
        found.calls.append((time.perf_counter() - began) * 1e3)
        assert receipt["enforced"], receipt
        found.receipts.append(receipt["elapsed_ms"])
        await system.online("claude-haiku-4-5")
        await asyncio.sleep(PAUSE_SECONDS)


async def take(system: System, count: int, processes: Processes, token: str) -> float:
    """Import; the seconds it took."""
    headers = {"Authorization": f"Bearer {token}"}
    url = f"{system.admin}/api/v1/callers:import"
    stored, began = 0, time.perf_counter()
    told = began
    timeout = aiohttp.ClientTimeout(total=None)
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        session.post(url, data=people(count), headers=headers) as response,
    ):
        assert response.status == 200, await response.text()
        async for line in response.content:
            said = json.loads(line)
            assert "error" not in said, said
            if "done" in said:
                assert said == {"done": True, "stored": count, "unchanged": 0, "left_out": 0}, said
                break
            stored += said["stored"]
            now = time.perf_counter()
            if now - told >= EVERY_SECONDS:
                told = now
                print(f"  {stored:>9,} of {count:,}  {stored / (now - began):6,.0f}/s  {processes}", flush=True)
    return time.perf_counter() - began


async def give(system: System, count: int, processes: Processes) -> tuple[float, float]:
    """Export; the seconds it took, and how many MiB the control process had more meanwhile, at the most."""
    before, most, lines, began = megabytes(processes.control), 0.0, 0, time.perf_counter()
    last = b""
    timeout = aiohttp.ClientTimeout(total=None)
    headers = {"Authorization": "Bearer demo-approver"}
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        session.get(f"{system.admin}/api/v1/callers:export", headers=headers) as response,
    ):
        told = began
        async for line in response.content:
            assert line > last, "sorted, each once"
            last = line
            lines += line.startswith(b'{"id":"person-')
            now = time.perf_counter()
            if now - told >= EVERY_SECONDS:
                told = now
                print(f"  {lines:>9,} of {count:,}  {lines / (now - began):6,.0f}/s  {processes}", flush=True)
            if lines % LINES == 0:
                most = max(most, megabytes(processes.control) - before)
    assert lines == count, (lines, count)
    return time.perf_counter() - began, most


def spread(values: list[float]) -> str:
    if len(values) < 2:
        return f"{values}"
    return f"median {median(values):.1f} ms, p99 {quantiles(values, n=100)[98]:.1f} ms, of {len(values)}"


async def measure(system: System, count: int) -> None:
    processes, alone, beside = Processes(system), Meanwhile(), Meanwhile()
    made = await system.ask_admin(
        "PUT",
        "/api/v1/operators/registrar",
        {"roles": ["registrar"]},
        token="demo-approver",
        headers={"If-None-Match": "*"},
    )
    assert made.status == 200, made.json
    token = made.json["token"]
    print(f"before: {processes}")
    for found, work in ((alone, asyncio.sleep(15.0)), (beside, take(system, count, processes, token))):
        background = [asyncio.ensure_future(each(system, found)) for each in (ask, switch)]
        used = processes.used()
        took = await work
        for task in background:
            assert not task.done(), task.exception()
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        for name, values in (
            ("requests", found.requests),
            ("offline receipts", found.receipts),
            ("offline calls", found.calls),
        ):
            print(f"  {name}: {spread(values)}")
        assert not found.refused
    print(f"imported {count:,} in {took:.0f} s: {count / took:,.0f}/s; {processes}")
    print(f"  {processes.per_thousand(used, count)}")
    used = processes.used()
    took, most = await give(system, count, processes)
    print(
        f"exported {count:,} in {took:.0f} s: {count / took:,.0f}/s; control process grew by {most:.0f} MiB at the most"
    )
    print(f"  {processes.per_thousand(used, count)}")
    print(f"after: {processes}")


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    system = new_system().start()
    try:
        asyncio.run(measure(system, count))
    finally:
        system.stop()
        shutil.rmtree(system.directory, ignore_errors=True)


if __name__ == "__main__":
    main()
