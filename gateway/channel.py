"""What a worker and its control process say to each other: JSON lines over a socket pair.

The control process asks (``{"id", "call"}``), the worker answers (``{"id", "result"}``) or tells (``{"event", …}``).
"""

import asyncio
import contextlib
import inspect
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import orjson

from gateway import tasks

LINE_LIMIT = 64 * 1024 * 1024
"""Bytes in a line. Metrics of 10,000 models by reason are some megabytes."""


class ChannelClosedError(Exception):
    """The other side is gone."""


class Channel:
    """One end. ``handle`` answers calls and takes events; it runs on the loop and must return at once.

    An answer that takes a while is a coroutine; it is awaited beside, and sent when it is there.
    """

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, handle: Callable[[dict[str, Any]], Any]
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._handle = handle
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._calls = 0
        self.closed = asyncio.Event()
        tasks.spawn(self._listen(), "channel")

    def tell(self, event: str, **fields: Any) -> None:
        """Say something that needs no answer."""
        self._send({"event": event, **fields})

    async def ask(self, call: str, **fields: Any) -> Any:
        """Ask, and wait for the answer.

        Raises:
            ChannelClosedError: the other side went away meanwhile.
        """
        if self.closed.is_set():
            raise ChannelClosedError
        self._calls += 1
        future = self._waiting[self._calls] = asyncio.get_running_loop().create_future()
        self._send({"id": self._calls, "call": call, **fields})
        return await future

    def _send(self, message: dict[str, Any]) -> None:
        if not self._writer.is_closing():
            self._writer.write(orjson.dumps(message, option=orjson.OPT_APPEND_NEWLINE))

    async def close(self) -> None:
        """Say what is still unsaid, and hang up."""
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    async def _listen(self) -> None:
        try:
            while line := await self._reader.readline():
                self._receive(orjson.loads(line))
        except (OSError, ValueError):
            pass  # a worker that was killed in the middle of a line
        finally:
            self.closed.set()
            self._writer.close()
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(ChannelClosedError())

    def _receive(self, message: dict[str, Any]) -> None:
        if "result" in message:
            future = self._waiting.pop(message["id"], None)
            if future is not None and not future.done():
                future.set_result(message["result"])
        elif "call" in message:
            result = self._handle(message)
            if inspect.iscoroutine(result):
                tasks.spawn(self._send_later(message["id"], result), "channel-answer")
            else:
                self._send({"id": message["id"], "result": result})
        else:
            self._handle(message)

    async def _send_later(self, number: int, result: Coroutine[Any, Any, Any]) -> None:
        self._send({"id": number, "result": await result})


async def open_channel(sock: socket.socket, handle: Callable[[dict[str, Any]], Any]) -> Channel:
    """A channel over a connected socket."""
    reader, writer = await asyncio.open_unix_connection(sock=sock, limit=LINE_LIMIT)
    return Channel(reader, writer, handle)
