"""A line to Redis that can be slow, silent or cut: a TCP listener before a Unix socket or another port."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

Open = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


class Line:
    """``delay``: seconds each piece waits, each way. ``silent``: nothing passes, and nothing is closed."""

    def __init__(self, to: Open) -> None:
        self.delay = 0.0
        self.port = 0
        self._to = to
        self._passes = asyncio.Event()
        self._passes.set()
        self._server: asyncio.Server | None = None
        self._pumps: set[asyncio.Task[Any]] = set()

    @classmethod
    def to_socket(cls, path: str) -> "Line":
        return cls(lambda: asyncio.open_unix_connection(path))

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        await self.cut()

    def silence(self) -> None:
        self._passes.clear()

    def restore(self) -> None:
        self._passes.set()

    async def cut(self) -> None:
        """Close every connection; new ones are taken."""
        pumps = list(self._pumps)
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._passes.wait()
        try:
            there_reader, there_writer = await self._to()
        except OSError:
            writer.transport.abort()
            return
        pumps = [
            asyncio.ensure_future(self._pump(reader, there_writer)),
            asyncio.ensure_future(self._pump(there_reader, writer)),
        ]
        self._pumps.update(pumps)
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
                self._pumps.discard(pump)
            for end in (writer, there_writer):
                end.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if self.delay:
                    await asyncio.sleep(self.delay)
                await self._passes.wait()
                writer.write(data)
                await writer.drain()
