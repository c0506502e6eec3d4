"""Everything at once, for a while, and then nothing may be left: ``python tests/scenarios/soak.py --seconds 600``.

Requests of every kind, clients and providers that leave half-way, large bodies, holds that come and go. Afterwards
no connection, task, descriptor, request in flight, spooled file or buffered byte remains, and memory is flat.
"""

import argparse
import asyncio
import json
import random
import socket
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import psutil
from raw import Raw, ask, request
from system import System, new_system, until

MIB = 2**20
PATH = "/anthropic/v1/messages"
OPEN, HELD = "claude-opus-4-5", "claude-fable-5"
FAST = {"X-Sim-Interval": "0"}
PATIENCE = 60.0
SETTINGS = {"PORTCULLIS_PROXY__TIMEOUTS__UPSTREAM_KEEP_ALIVE": "1"}
GAUGES = (
    "portcullis_in_flight_requests",
    "portcullis_client_connections",
    "portcullis_buffered_bytes",
    "portcullis_spooled_bodies",
    "portcullis_upstream_connections",
)
"""What must come back to nothing."""


def body(model: str = OPEN, **more: object) -> bytes:
    message = {"model": model, "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
    return json.dumps(message | more).encode()


def padded(dice: random.Random, low: float = 1.2, high: float = 4) -> bytes:
    """A body of some megabytes."""
    return body(messages=[{"role": "user", "content": "x" * int(dice.uniform(low, high) * MIB)}])


def chunks(data: bytes, size: int) -> bytes:
    pieces = (data[start : start + size] for start in range(0, len(data), size))
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


# ------------------------------------------------------------------------------------------------ what clients do


class Visitor:
    """One client, with dice of its own."""

    def __init__(self, base: str, dice: random.Random) -> None:
        self.base, self.dice = base, dice
        self.key = {"x-api-key": "demo-alice"}

    async def connect(self, receive: int = 0) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        address = urlsplit(self.base)
        sock = socket.socket()
        if receive:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, (address.hostname, address.port))
        return await asyncio.open_connection(sock=sock)

    def leave(self, writer: asyncio.StreamWriter) -> str:
        """Go, in one of two ways."""
        if self.dice.random() < 0.5:
            linger = b"\1\0\0\0\0\0\0\0"
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()
        return "left"

    async def asked(self, data: bytes, key: str = "", **headers: str) -> str:
        sim = {name.replace("_", "-"): value for name, value in headers.items()}
        raw = await ask(self.base, PATH, data, {**({"x-api-key": key} if key else self.key), **FAST, **sim})
        return described(raw)

    # ------------------------------------------------------------------ whole requests

    async def plain(self) -> str:
        return await self.asked(body())

    async def stream(self) -> str:
        return await self.asked(body(stream=True), X_Sim_Events=str(self.dice.randint(1, 40)), X_Sim_Interval="0.01")

    async def large(self) -> str:
        return await self.asked(padded(self.dice))

    async def dense(self) -> str:
        return await self.asked(body(metadata={"x": [{}] * self.dice.randint(20_000, 60_000)}))

    async def held(self) -> str:
        return await self.asked(body(HELD, stream=True), X_Sim_Events="20", X_Sim_Interval="0.02")

    async def unknown(self) -> str:
        return await self.asked(body(), key=f"pc_{self.dice.getrandbits(60):x}_{self.dice.getrandbits(60):x}")

    async def failing(self) -> str:
        return await self.asked(body(), X_Sim_Status="529")

    async def truncated(self) -> str:
        return await self.asked(body(stream=True), X_Sim_Truncate="2")

    async def malformed(self) -> str:
        reader, writer = await self.connect()
        writer.write(self.dice.choice((b"GET / HTTP/1.1\r\nHost : x\r\n\r\n", b"\0" * 99, b"POST / HTTP/9\r\n\r\n")))
        answer = await reader.read()
        writer.close()
        return answer.split(b" ", 2)[1].decode()

    async def tiny_chunks(self) -> str:
        reader, writer = await self.connect()
        head = request(PATH, b"", {**self.key, **FAST}).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
        data = body(messages=[{"role": "user", "content": "x" * 5_000}])
        writer.write(head + chunks(data, self.dice.randint(1, 3)))
        answer = await reader.readuntil(b"\r\n\r\n")
        writer.close()
        return answer.split(b" ", 2)[1].decode()

    async def pipelined(self) -> str:
        reader, writer = await self.connect()
        writer.write(request(PATH, body(), {**self.key, **FAST}) * 3)
        found = []
        for _ in range(3):
            raw = Raw(await reader.readuntil(b"\r\n\r\n"))
            await reader.readexactly(int(raw.header("content-length") or 0))
            found.append(str(raw.status))
        writer.close()
        return " ".join(found)

    # ------------------------------------------------------------------ requests that end half-way

    async def leave_stream(self) -> str:
        reader, writer = await self.connect()
        headers = {**self.key, "X-Sim-Interval": "0.01", "X-Sim-Events": "400"}
        writer.write(request(PATH, body(stream=True), headers))
        await reader.readexactly(self.dice.randint(1, 2000))
        return self.leave(writer)

    async def leave_stall(self) -> str:
        reader, writer = await self.connect()
        writer.write(request(PATH, body(stream=True), {**self.key, **FAST, "X-Sim-Stall": "2"}))
        await reader.readuntil(b"\r\n\r\n")
        return self.leave(writer)

    async def leave_waiting(self) -> str:
        _, writer = await self.connect()
        writer.write(request(PATH, body(), {**self.key, "X-Sim-First-Byte": "30"}))
        await writer.drain()
        await asyncio.sleep(self.dice.uniform(0, 0.1))
        return self.leave(writer)

    async def leave_upload(self) -> str:
        _, writer = await self.connect()
        whole = request(PATH, padded(self.dice), self.key)
        writer.write(whole[: self.dice.randint(1, len(whole) - 1)])
        await asyncio.sleep(self.dice.uniform(0, 0.1))
        return self.leave(writer)

    async def leave_large(self) -> str:
        """Gone while the body is read, or goes upstream."""
        _, writer = await self.connect()
        writer.write(request(PATH, padded(self.dice), {**self.key, **FAST}))
        await writer.drain()
        await asyncio.sleep(self.dice.uniform(0, 0.1))
        return self.leave(writer)

    async def leave_unread(self) -> str:
        _, writer = await self.connect(receive=4096)
        headers = {**self.key, **FAST, "X-Sim-Events": "200", "X-Sim-Event-Bytes": "10000"}
        writer.transport.pause_reading()
        writer.write(request(PATH, body(stream=True), headers))
        await asyncio.sleep(self.dice.uniform(0, 0.5))
        return self.leave(writer)


def described(raw: Raw) -> str:
    if not raw.head:
        return raw.ended
    reason = raw.header("portcullis-reason")
    return " ".join(filter(None, (str(raw.status), reason, "" if raw.ended == "complete" else raw.ended)))


V = Visitor
ACTIONS: tuple[tuple[int, Callable[[Visitor], Awaitable[str]], set[str]], ...] = (
    (20, V.plain, {"200"}),
    (10, V.stream, {"200"}),
    (4, V.large, {"200"}),
    (3, V.dense, {"200"}),
    (10, V.held, {"200", "403 model_offline", "200 cut", "200 reset", "reset"}),
    (6, V.unknown, {"401 unauthenticated"}),
    (3, V.failing, {"529"}),
    (3, V.truncated, {"200 cut"}),
    (4, V.malformed, {"400"}),
    (3, V.tiny_chunks, {"200"}),
    (4, V.pipelined, {"200 200 200"}),
    (8, V.leave_stream, {"left"}),
    (4, V.leave_stall, {"left"}),
    (4, V.leave_waiting, {"left"}),
    (6, V.leave_upload, {"left"}),
    (4, V.leave_large, {"left"}),
    (4, V.leave_unread, {"left"}),
)
"""How often, what, and how it may end."""


# ------------------------------------------------------------------------------------------------ the run


@dataclass(frozen=True)
class Worker:
    """What one worker uses; ``tasks`` is the most that any has. ``uss`` is what would be free if it ended: mapped files and shared pages do not count."""

    tasks: int
    descriptors: int
    uss: int
    pss: int


@dataclass
class Report:
    """What happened, and what was used: before the load, after the warm-up, at the end with nothing going on."""

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    wrong: list[tuple[str, str]] = field(default_factory=list)
    holds: int = 0
    curve: list[tuple[float, list[Worker]]] = field(default_factory=list)
    warm: list[Worker] = field(default_factory=list)
    end: list[Worker] = field(default_factory=list)
    left: dict[str, float] = field(default_factory=dict)
    counters: dict[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f"{sum(self.outcomes.values())} actions, {self.holds} holds laid and released"]
        lines += [f"  {what:14} {how:24} {count}" for (what, how), count in sorted(self.outcomes.items())]
        for second, workers in self.curve:
            memory = "   ".join(f"PSS {w.pss / MIB:6.1f} USS {w.uss / MIB:6.1f} MiB" for w in workers)
            lines.append(f"  {second:6.1f} s  {memory}")
        for index, (warm, end) in enumerate(zip(self.warm, self.end, strict=True)):
            lines.append(
                f"  worker {index}: warm {warm.tasks} tasks, {warm.descriptors} descriptors, USS {warm.uss / MIB:.1f} MiB;"
                f" end {end.tasks}, {end.descriptors}, {end.uss / MIB:.1f} MiB"
            )
        return "\n".join([*lines, f"  left: {self.left}", f"  counted: {self.counters}"])


class Soak:
    """A load on a system, the same for the same seed but for what processes' timing decides."""

    def __init__(self, system: System, seed: int, clients: int = 24) -> None:
        self.system, self.seed, self.clients = system, seed, clients
        self.report = Report()

    async def run(self, warm_up: float, seconds: float, look_every: float) -> Report:
        await self._fill_pools()
        await self._load(warm_up, look_every)
        self.report.warm, _ = await self._at_rest()
        await self._load(seconds, look_every)
        self.report.end, self.report.left = await self._at_rest()
        names = ("internal_errors", "late_writes", "worker_restarts")
        self.report.counters = {
            name: await self._sum(f"portcullis_{name}_total") for name in names
        }  # fmt: skip
        return self.report

    async def _fill_pools(self) -> None:
        """Have each worker open all its connections to Redis, and start the process that reads large bodies."""
        visitor = Visitor(self.system.proxy, random.Random(self.seed))
        await asyncio.gather(*(visitor.unknown() for _ in range(400)))
        await asyncio.gather(*(visitor.dense() for _ in range(20)))

    async def _load(self, seconds: float, look_every: float) -> None:
        stop = time.monotonic() + seconds
        dice = random.Random(f"{self.seed} {len(self.report.curve)}")
        visitors = [Visitor(self.system.proxy, random.Random(dice.random())) for _ in range(self.clients)]
        await asyncio.gather(
            self._operate(stop, dice), self._watch(stop, look_every), *(self._visit(one, stop) for one in visitors)
        )

    async def _visit(self, visitor: Visitor, stop: float) -> None:
        weights = [weight for weight, *_ in ACTIONS]
        while time.monotonic() < stop:
            _, action, allowed = visitor.dice.choices(ACTIONS, weights)[0]
            try:
                async with asyncio.timeout(PATIENCE):
                    how = await action(visitor)
            except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
                how = repr(error)
            self.report.outcomes[action.__name__, how] += 1
            if how not in allowed:
                self.report.wrong.append((action.__name__, how))

    async def _operate(self, stop: float, dice: random.Random) -> None:
        while time.monotonic() < stop:
            await self.system.offline(HELD)
            await asyncio.sleep(dice.uniform(0.1, 0.6))
            await self.system.release_all()
            self.report.holds += 1
            await asyncio.sleep(dice.uniform(0.1, 0.6))

    async def _watch(self, stop: float, look_every: float) -> None:
        began = time.monotonic()
        offset = self.report.curve[-1][0] if self.report.curve else 0.0
        while (now := time.monotonic()) < stop:
            self.report.curve.append((offset + now - began, [self._look(w, {}) for w in self.system.workers()]))
            await asyncio.sleep(min(look_every, max(0.0, stop - now)))

    # ------------------------------------------------------------------ what is used

    async def _at_rest(self) -> tuple[list[Worker], dict[str, float]]:
        """When nothing goes on any more, or it is clear that it never will: what is used, and what is left over."""
        left: dict[str, float] = {}

        async def nothing_left() -> bool:
            left.clear()
            left.update({name: await self._sum(name) for name in GAUGES})
            return not any(left.values())

        try:
            await until(nothing_left, "nothing to be left", 30)
        except AssertionError:
            print(f"left over: {left}")
        metrics = await self.system.metrics()
        return [self._look(worker, metrics) for worker in self.system.workers()], left

    def _look(self, process: psutil.Process, metrics: dict[str, float]) -> Worker:
        tasks = max((v for k, v in metrics.items() if k.startswith("portcullis_worker_tasks")), default=0)
        memory = process.memory_full_info()
        return Worker(int(tasks), process.num_fds(), memory.uss, memory.pss)

    async def _sum(self, name: str) -> float:
        metrics = await self.system.metrics()
        return sum(value for key, value in metrics.items() if key.split("{")[0] == name)


def check(report: Report, *, growth: int) -> list[str]:
    """What is wrong. ``growth`` is how many bytes more than after the warm-up a worker may keep for itself."""
    faults = [f"{what} ended as {how}" for what, how in report.wrong[:10]]
    faults += [f"{name}: {value} left" for name, value in report.left.items() if value]
    faults += [f"{name}: {value}" for name, value in report.counters.items() if value]
    for index, (warm, end) in enumerate(zip(report.warm, report.end, strict=True)):
        if end.tasks > warm.tasks:
            faults.append(f"worker {index}: {end.tasks} tasks, {warm.tasks} after the warm-up")
        if end.descriptors > warm.descriptors + 2:  # connections to Redis come and go
            faults.append(f"worker {index}: {end.descriptors} descriptors, {warm.descriptors} after the warm-up")
        if end.uss > warm.uss + growth:
            faults.append(f"worker {index}: USS {end.uss / MIB:.1f} MiB, {warm.uss / MIB:.1f} after the warm-up")
    return faults


def main() -> None:
    parser = argparse.ArgumentParser(description="Everything at once, and then nothing may be left.")
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--warm-up", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    system = new_system(**SETTINGS)
    try:
        soak = Soak(system.start(), options.seed)
        report = asyncio.run(soak.run(options.warm_up, options.seconds, look_every=options.seconds / 20))
    finally:
        system.stop()
    print(report)
    faults = check(report, growth=16 * MIB)
    print("\n".join(faults) or "nothing is left over, and memory is flat")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
