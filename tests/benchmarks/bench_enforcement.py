"""How fast a kill is proven, how fast streams are cut, and what a Redis that is away costs.

``python tests/benchmarks/bench_enforcement.py`` does all four; ``--only receipts`` (or cut, blip, outage) one of them.
"""

import argparse
import asyncio
import contextlib
import json
import resource
import shutil
import statistics
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import redis
import uvloop
from bench_processes import cpu_seconds

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "scenarios"))

from system import System, new_system, until  # noqa: E402 - found by the line above

PATH = "/anthropic/v1/messages"
OPEN, HELD, PATIENT = "claude-opus-4-5", "claude-fable-5", "claude-haiku-4-5"
PATIENT_SECONDS = 40.0
"""``max_stale`` of the model that outlives most of the outage."""

DESCRIPTORS = 65_536


@contextlib.contextmanager
def gateway(workers: int, **settings: str) -> Iterator[System]:
    """A whole gateway; Redis takes DEBUG from here."""
    system = new_system(PORTCULLIS_PROXY__WORKERS=str(workers), **settings)
    try:
        system.start_redis("--enable-debug-command", "local")
        system.start_simulator("--keep-requests", "1")
        system.run("init", "--seeds", str(seeds(system)))
        system.start_gateway()
        yield system
    finally:
        system.stop()


def seeds(system: System) -> Path:
    place = system.directory / "seeds"
    shutil.copytree(ROOT / "seeds", place)
    catalog, head = place / "catalog.toml", f'[models."{PATIENT}"]\n'
    text = catalog.read_text()
    assert head in text
    catalog.write_text(text.replace(head, f"{head}max_stale = {PATIENT_SECONDS:g}\n"))
    return place


def body(model: str, **more: Any) -> bytes:
    return json.dumps(
        {"model": model, "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]} | more
    ).encode()


def head(size: int, **headers: str) -> bytes:
    lines = [f"POST {PATH} HTTP/1.1", "Host: gateway", f"Content-Length: {size}", "Content-Type: application/json"]
    lines += ["x-api-key: demo-alice", *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


# ------------------------------------------------------------------------------------------------ receipts


async def receipts(workers: int = 16, times: int = 1000) -> None:
    """Kills and releases in turns, one after the other."""
    with gateway(workers) as system:
        proven, whole = [], []
        async with aiohttp.ClientSession(headers={"Authorization": "Bearer demo-operator"}) as session:
            for number in range(times):
                path = f"{system.admin}/api/v1/models/{OPEN}/{'online' if number % 2 else 'offline'}"
                began = time.perf_counter()
                async with session.post(path, json={}) as answer:
                    receipt = await answer.json()
                whole.append((time.perf_counter() - began) * 1000)
                assert receipt["basis"] == "all_acked", receipt
                assert receipt["replicas"]["live"] == workers, receipt
                proven.append(receipt["elapsed_ms"])
    print(
        f"{times} receipts with {workers} replicas: from commit to proof {spread(proven)}; the whole call {spread(whole)}"
    )


def spread(milliseconds: list[float]) -> str:
    cuts = statistics.quantiles(milliseconds, n=100)
    return f"p50 {cuts[49]:.1f} ms, p99 {cuts[98]:.1f} ms, max {max(milliseconds):.1f} ms"


# ------------------------------------------------------------------------------------------------ cut


@dataclass
class Streams:
    """What clients of many streams see."""

    begun: int = 0
    ended: int = 0
    last: float = 0.0


class Stream(asyncio.Protocol):
    def __init__(self, streams: Streams, request: bytes) -> None:
        self._streams, self._request, self._begun = streams, request, False

    def connection_made(self, transport: Any) -> None:
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if not self._begun and b"content_block_delta" in data:
            self._begun = True
            self._streams.begun += 1

    def connection_lost(self, error: Exception | None) -> None:
        self._streams.ended += 1
        self._streams.last = time.time()


async def cut(wanted: int = 10_000) -> None:
    """One worker with that many streams, all of one model, which is taken offline."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = min(wanted, (hard - 500) // 2)
    limits = {
        "PORTCULLIS_PROXY__LIMITS__CONNECTIONS": str(count + 100),
        "PORTCULLIS_PROXY__LIMITS__UPSTREAM_CONNECTIONS": str(count + 100),
    }
    with gateway(1, **limits) as system:
        address, streams = urlsplit(system.proxy), Streams()
        data = body(OPEN, stream=True)
        asked = head(len(data), X_Sim_Interval="600", X_Sim_Events="2") + data
        loop, turns = asyncio.get_running_loop(), asyncio.Semaphore(64)

        async def open_one() -> None:
            async with turns:
                await loop.create_connection(lambda: Stream(streams, asked), address.hostname, address.port)

        await asyncio.gather(*(open_one() for _ in range(count)))
        await until(lambda: streams.begun == count, "every stream to have begun", 120)
        ordered = time.time()
        receipt = await system.offline(OPEN)
        await until(lambda: streams.ended == count, "every stream to have ended", 60)
        severed = [event["time"] for event in system.events("request") if event["severed"]]
        assert len(severed) == receipt["streams_cut"] == count, (len(severed), receipt)
    print(
        f"{count} streams cut in one worker: from the order to the worker's last write "
        f"{(max(severed) - ordered) * 1000:.0f} ms (the first {(min(severed) - ordered) * 1000:.0f} ms); receipt after "
        f"{receipt['elapsed_ms']:.0f} ms; the clients' last end after {(streams.last - ordered) * 1000:.0f} ms"
    )


# ------------------------------------------------------------------------------------------------ Redis away


@dataclass
class Load:
    """Clients that ask one after the other on connections that are kept."""

    system: System
    statuses: Counter[str] = field(default_factory=Counter)

    async def ask(self, model: str, times: int, clients: int = 16) -> float:
        """The worker's microseconds of processor for each request."""
        workers = [worker.pid for worker in self.system.workers()]
        before = cpu_seconds(workers)
        await asyncio.gather(*(self._client(model, times // clients) for _ in range(clients)))
        return (cpu_seconds(workers) - before) / (times // clients * clients) * 1e6

    async def _client(self, model: str, times: int) -> None:
        address, data = urlsplit(self.system.proxy), body(model)
        asked = head(len(data), X_Sim_Interval="0") + data
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        for _ in range(times):
            writer.write(asked)
            answer = await reader.readuntil(b"\r\n\r\n")
            lines = dict(line.lower().split(b": ", 1) for line in answer.split(b"\r\n")[1:-2])
            await reader.readexactly(int(lines[b"content-length"]))
            reason = lines.get(b"portcullis-reason", b"").decode()
            self.statuses[f"{model} {answer[9:12].decode()} {reason}".strip()] += 1
        writer.close()


def changes(system: System, since: int) -> Counter[str]:
    """What the gateway logged beside requests, by event."""
    with (system.directory / "gateway.log").open("rb") as log:
        log.seek(since)
        rows = [json.loads(line) for line in log.read().splitlines() if line.startswith(b"{")]
    return Counter(
        f"{row['event']}{' of ' + row['replica'] if 'replica' in row else ''}" for row in rows if "level" in row
    )


def position(system: System) -> int:
    return (system.directory / "gateway.log").stat().st_size


async def blip(milliseconds: float = 300.0) -> None:
    """Redis stands still for a moment, under load."""
    with gateway(2) as system, redis.Redis(unix_socket_path=str(system.redis_socket)) as client:
        load = Load(system)
        await load.ask(OPEN, 640)
        since = position(system)
        asking = asyncio.ensure_future(load.ask(OPEN, 3200))
        await asyncio.to_thread(client.execute_command, "DEBUG", "SLEEP", milliseconds / 1000)
        await asking
        said = changes(system, since)
    refused = sum(count for what, count in load.statuses.items() if not what.endswith("200"))
    print(
        f"Redis silent for {milliseconds:.0f} ms: {refused} of {load.statuses.total()} requests refused; logged {dict(said)}"
    )


async def outage(seconds: float = 60.0) -> None:
    """Redis dies, and comes back a minute later."""
    with gateway(1) as system:
        load = Load(system)
        for model in (OPEN, PATIENT, HELD):
            await load.ask(model, 640)
        permitted = await load.ask(OPEN, 6400)
        since, began = position(system), time.monotonic()
        system.kill("redis")
        await until(lambda: expired(system, OPEN), "the default lease to end", 30)
        ended = time.monotonic() - began
        during = Load(system)
        refused = await during.ask(OPEN, 6400)
        patient = await during.ask(PATIENT, 6400)
        print(f"Redis gone: {dict(during.statuses)} after {time.monotonic() - began:.0f} s")
        await until(lambda: expired(system, PATIENT), "the long lease to end", PATIENT_SECONDS + 10)
        patient_ended = time.monotonic() - began
        await asyncio.sleep(max(0.0, began + seconds - time.monotonic()))
        said = changes(system, since)
        system.start_redis()
        back = time.monotonic()
        await until(lambda: served(system, OPEN), "service again", 30)
        print(
            f"Redis gone for {seconds:.0f} s: CPU of a refusal {refused:.0f} µs, of a permitted request {permitted:.0f} µs "
            f"before and {patient:.0f} µs meanwhile; max_stale 15 s served for {ended:.1f} s, {PATIENT_SECONDS:.0f} s for "
            f"{patient_ended:.1f} s; logged {dict(said)}; served again {time.monotonic() - back:.1f} s after its return"
        )


async def answered(system: System, model: str) -> Counter[str]:
    load = Load(system)
    await load.ask(model, 1, clients=1)
    return load.statuses


async def expired(system: System, model: str) -> bool:
    return (await answered(system, model))[f"{model} 503 policy_stale"] == 1


async def served(system: System, model: str) -> bool:
    return (await answered(system, model))[f"{model} 200"] == 1


PARTS: dict[str, Callable[[], Awaitable[None]]] = {"receipts": receipts, "cut": cut, "blip": blip, "outage": outage}


def main() -> None:
    """Measure all, or what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", choices=PARTS, default=[])
    options = parser.parse_args()
    with contextlib.suppress(ValueError, OSError):  # root may; who may not measures with fewer streams, and says so
        resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))
    for name in options.only or PARTS:
        uvloop.run(PARTS[name]())


if __name__ == "__main__":
    main()
