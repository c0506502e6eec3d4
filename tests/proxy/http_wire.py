"""Raw bytes on both sides of a gateway: an upstream that records them, a client that sends cases and reads answers."""

import asyncio
import contextlib
import re
from dataclasses import dataclass, field
from typing import Any, Self

from proxy_harness import OK, PATIENCE, Door

from gateway.proxy.connection import ClientConnection

PROBE = b"GET /openai/v1/probe HTTP/1.1\r\nHost: gate\r\nConnection: close\r\n\r\n"
"""It ends the connection, so that everything before its answer is the case's."""
PROBED = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nprobe"


class Recorder:
    """An upstream that reads heads and lengths only, keeps the bytes of each request, and answers ``OK``."""

    def __init__(self) -> None:
        self.requests: list[bytes] = []
        self.partial: list[bytes] = []
        self.answer = OK
        self.open = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        request = b""
        try:
            while True:
                request = b""
                request = await reader.readuntil(b"\r\n\r\n")
                request += await self._body(reader, request)
                probe = request.startswith(b"GET /openai/v1/probe ")
                if not probe:
                    self.requests.append(request)
                request = b""
                writer.write(PROBED if probe else self.answer)
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            rest = request + getattr(error, "partial", b"")
            if rest:
                self.partial.append(rest)
        finally:
            self.open -= 1
            writer.close()

    @staticmethod
    async def _body(reader: asyncio.StreamReader, head: bytes) -> bytes:
        if re.search(rb"(?i)\r\ntransfer-encoding: *chunked\r\n", head):
            return await _chunks(reader)
        found = re.search(rb"(?i)\r\ncontent-length: *([0-9]+)\r\n", head)
        return await reader.readexactly(int(found[1])) if found else b""

    def take(self) -> list[bytes]:
        """What has come since the last time, with the address made one that a table can hold."""
        requests, self.requests, self.partial = self.requests + self.partial, [], []
        return [request.replace(b"127.0.0.1:%d" % self.port, b"upstream") for request in requests]


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while True:
        line = await reader.readuntil(b"\r\n")
        body += line
        size = int(line.split(b";")[0], 16)
        if size == 0:
            return body + await reader.readuntil(b"\r\n")
        body += await reader.readexactly(size + 2)


class Watched(ClientConnection):
    """The gate's side of a connection, with a count of the bytes it has read."""

    received = 0
    gone = False

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self.received += len(data)

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self.gone = True

    @property
    def in_the_middle(self) -> bool:
        """Whether a head or a body has begun and not ended."""
        return self._in_head or self._reading is not None

    @property
    def settled(self) -> bool:
        """Whether everything is answered that will be without more bytes."""
        waiting = [exchange for exchange in self._exchanges if exchange is not self._reading or exchange.caller is None]
        return self.gone or self._drained is not None or not waiting


@dataclass
class Outcome:
    """What came of a case."""

    raw: bytes = b""
    seen: list[bytes] = field(default_factory=list)
    end: str = ""
    probe: bytes = b""


class GateRunner:
    """Sends cases to one gate, each on its own connection, one after the other."""

    def __init__(self, door: Door, recorder: Recorder) -> None:
        self.door, self.recorder = door, recorder

    async def open(self) -> None:
        """Listen with connections that can be watched."""
        await self.door.open()
        self._made: list[Watched] = []
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._make, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def _make(self) -> Watched:
        self._made.append(Watched(self.door.gate))
        return self._made[-1]

    async def close(self) -> None:
        """Close all."""
        self._server.close()
        await self.door.close()

    async def run(self, sent: tuple[bytes | None, ...]) -> Outcome:
        """Send, each piece once the gate has read the one before; read the answers; see how it ends."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=2**20)
        outcome = Outcome()
        with contextlib.suppress(TimeoutError):
            outcome.end = "hangs"
            await asyncio.wait_for(self._send(reader, writer, sent, outcome), PATIENCE)
        writer.close()
        outcome.seen = self.recorder.take()
        return outcome

    async def _send(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        sent: tuple[bytes | None, ...],
        outcome: Outcome,
    ) -> None:
        await _until(lambda: self._made)
        connection = self._made.pop()
        total = 0
        for piece in sent:
            if piece is None:
                writer.write_eof()
                await _until(lambda: connection.gone)
                continue
            total += len(piece)
            writer.write(piece)
            await _until(lambda: connection.gone or connection.received >= total)
        await _until(lambda: connection.settled)
        await self._ending(connection, reader, writer, outcome)

    async def _ending(
        self, connection: Watched, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, outcome: Outcome
    ) -> None:
        if connection.in_the_middle and connection._drained is None and not connection.gone:
            outcome.end = "waits"
            connection.timed_out()
            outcome.raw = await reader.read(-1)
        elif connection.gone or connection._drained is not None or connection.transport.is_closing():
            outcome.end = "closed"
            outcome.raw = await reader.read(-1)  # an RST would raise
        else:
            outcome.end = "open"
            writer.write(PROBE)
            outcome.raw = await reader.read(-1)
            begin = outcome.raw.rfind(b"HTTP/1.1 404")
            outcome.raw, outcome.probe = outcome.raw[:begin], outcome.raw[begin:]


async def _until(condition: Any) -> None:
    while not condition():
        await asyncio.sleep(0)


@dataclass(frozen=True)
class Answer:
    """A response as it stood on the wire."""

    status: int
    head: bytes
    body: bytes
    complete: bool = True

    @property
    def whole(self) -> bytes:
        """All its bytes."""
        return self.head + self.body


def answers(raw: bytes, *, head_only: bool = False) -> list[Answer]:
    """Cut what a client got into responses, strictly; chunks are joined."""
    found = []
    while raw:
        head, end, rest = raw.partition(b"\r\n\r\n")
        assert end, f"no end of a head: {raw!r}"
        status = int(re.fullmatch(rb"HTTP/1\.[01] ([0-9]{3})(?: [^\r\n]*)?", head.split(b"\r\n")[0])[1])
        body, complete = b"", True
        length = re.search(rb"(?i)\r\ncontent-length: *([0-9]+)(?=\r\n|$)", head)
        if status < 200 or status in (204, 304) or head_only:
            pass
        elif re.search(rb"(?i)\r\ntransfer-encoding: *chunked(?=\r\n|$)", head):
            assert not length
            body, complete, rest = dechunked(rest)
        elif length:
            size = int(length[1])
            body, rest, complete = rest[:size], rest[size:], len(rest) >= size
        else:
            body, rest = rest, b""
        found.append(Answer(status, head + end, body, complete))
        raw = rest
    return found


def dechunked(raw: bytes) -> tuple[bytes, bool, bytes]:
    """The body, whether it is complete, and what follows."""
    body = b""
    while True:
        found = re.match(rb"([0-9a-f]+)\r\n", raw)
        if not found:
            assert not raw, raw
            return body, False, b""
        size, raw = int(found[1], 16), raw[found.end() :]
        if size == 0:
            assert raw.startswith(b"\r\n"), "a trailer, or no end"
            return body, True, raw[2:]
        assert raw[size : size + 2] == b"\r\n", raw
        body, raw = body + raw[:size], raw[size + 2 :]
