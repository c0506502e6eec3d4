"""Clients of a model that look at the clock: streams, and clients that ask again as soon as they are answered."""

import asyncio
import contextlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self, cast

from bench_processes import BenchError
from bench_site import KEY, PATH
from bench_streams import CONNECTING, EVENTS, STAMP

PAUSE = 0.005
"""Between an answer and the next question of a client that asks: the model is what is watched, not the client."""


async def until(condition: Callable[[], object], what: str, seconds: float = 30.0) -> None:
    """Wait for what only polling can tell.

    Raises:
        BenchError: it did not come true in time.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise BenchError(f"waited {seconds:.0f} s for {what}")
        await asyncio.sleep(0.005)


@dataclass(slots=True)
class Seen:
    """What the clients of one model have seen. Times are of the monotonic clock, 0 for never."""

    begun: int = 0
    ended: int = 0
    last_event: float = 0.0
    answered: int = 0
    refused: int = 0
    failed: int = 0
    last_answer: float = 0.0

    @property
    def last_byte(self) -> float:
        """When the last byte of the model came, by a stream or an answer."""
        return max(self.last_event, self.last_answer)


def request(model: str, headers: Sequence[tuple[str, str]] = (), *, pause: float | None = None) -> bytes:
    """A question's bytes; with ``pause`` it is answered by a stream that does not end by itself."""
    document: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": "Hi"}]}
    given = [("Host", "gateway"), ("Authorization", f"Bearer {KEY}"), ("Content-Type", "application/json"), *headers]
    if pause is not None:
        document["stream"] = True
        given += [("x-bench-events", str(EVENTS)), ("x-bench-pause", str(pause))]
    body = json.dumps(document).encode()
    lines = [f"POST {PATH} HTTP/1.1", *(f"{name}: {value}" for name, value in given), f"Content-Length: {len(body)}"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class Stream(asyncio.Protocol):
    """A stream: what is marked as the model's counts, an error event or a refusal does not."""

    def __init__(self, seen: Seen, asked: bytes) -> None:
        self._seen, self._asked, self._begun = seen, asked, False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast("asyncio.Transport", transport).write(self._asked)

    def data_received(self, data: bytes) -> None:
        if STAMP not in data:
            return
        self._seen.last_event = time.monotonic()
        if not self._begun:
            self._begun = True
            self._seen.begun += 1

    def connection_lost(self, error: Exception | None) -> None:
        self._seen.ended += 1


async def open_streams(
    seen: Seen, ports: Sequence[int], count: int, asked: bytes, *, patience: float = 30.0
) -> list[asyncio.Transport]:
    """That many, over all ports, each with its first event."""
    loop, turns, wanted = asyncio.get_running_loop(), asyncio.Semaphore(CONNECTING), seen.begun + count

    async def open_one(number: int) -> asyncio.Transport:
        async with turns:
            port = ports[number % len(ports)]
            transport, _ = await loop.create_connection(lambda: Stream(seen, asked), "127.0.0.1", port)
            return transport

    opened = await asyncio.gather(*(open_one(number) for number in range(count)))
    await until(lambda: seen.begun >= wanted, f"{count} streams to begin", patience)
    return opened


class Asking:
    """Clients that ask again and again, each on a connection that is kept; a context manager that ends them."""

    def __init__(self, seen: Seen, ports: Sequence[int], clients: int, asked: bytes) -> None:
        self._seen, self._ports, self._clients, self._asked = seen, ports, clients, asked
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.ensure_future(self._client(number)) for number in range(self._clients)]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _client(self, number: int) -> None:
        port = self._ports[number % len(self._ports)]
        while True:
            try:
                await self._connection(port)
            except (OSError, asyncio.IncompleteReadError) as error:
                if not (isinstance(error, asyncio.IncompleteReadError) and error.partial == b""):
                    self._seen.failed += 1  # else it was closed while nothing was on its way: asked again
                await asyncio.sleep(PAUSE)

    async def _connection(self, port: int) -> None:
        """Ask until the server says that the connection ends."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            kept = True
            while kept:
                writer.write(self._asked)
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                await reader.readexactly(int(head.partition(b"content-length: ")[2].partition(b"\r")[0]))
                self._count(head)
                kept = b"connection: close" not in head
                await asyncio.sleep(PAUSE)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def _count(self, head: bytes) -> None:
        if head[9:12] == b"200":
            self._seen.answered += 1
            self._seen.last_answer = time.monotonic()
        else:
            self._seen.refused += 1
