"""Raw bytes on both sides of a gateway: an upstream that records them, a client that sends cases and reads answers."""

import asyncio
import contextlib
import re
import socket
from dataclasses import dataclass, field
from typing import Any, Self

from proxy_harness import OK, PATIENCE, Door

from gateway.proxy.connection import ClientConnection

PROBE = b"GET /openai/v1/probe HTTP/1.1\r\nHost: gate\r\nConnection: close\r\n\r\n"
"""It ends the connection, so that everything before its answer is the case's."""
PROBED = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nprobe"


class Recorder:
    """An upstream that reads heads and framing only, keeps the bytes of each request, and answers ``OK``."""

    def __init__(self) -> None:
        self.requests: list[bytes] = []
        self.partial: list[bytes] = []
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in self._writers:
            writer.close()
        await until(lambda: not self.open)

    @property
    def open(self) -> int:
        """Connections that are served."""
        return len(self._writers)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, RuntimeError):  # uvloop: closed
                await self.serve(reader, writer)
        finally:
            self._writers.discard(writer)
            writer.close()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request after the other."""
        while True:
            request = await self._request(reader)
            probe = request.startswith(b"GET /openai/v1/probe ")
            if not probe:
                self.requests.append(request)
            writer.write(PROBED if probe else OK)

    async def _request(self, reader: asyncio.StreamReader) -> bytes:
        head = b""
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            return head + await self._body(reader, head)
        except asyncio.IncompleteReadError as error:
            if head or error.partial:
                self.partial.append(head + error.partial)
            raise

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
        while size == 0:  # trailers, and the empty line
            line = await reader.readuntil(b"\r\n")
            body += line
            if line == b"\r\n":
                return body
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
    def over(self) -> bool:
        """Whether the gate takes no further request from it."""
        return self.gone or self._drained is not None or self.transport.is_closing()

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

    async def connect(self) -> tuple[socket.socket, Watched]:
        """A client's socket, and the gate's end of it."""
        client = await connected(self.port)
        await until(lambda: self._made)
        return client, self._made.pop()

    async def run(self, sent: tuple[bytes | None, ...]) -> Outcome:
        """Send, each piece once the gate has read the one before; read the answers; see how it ends."""
        outcome = Outcome(end="hangs")
        client, connection = await self.connect()
        with client, contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                await self._send(client, connection, sent)
                await self._end(client, connection, outcome)
        outcome.seen = self.recorder.take()
        return outcome

    async def _send(self, client: socket.socket, connection: Watched, sent: tuple[bytes | None, ...]) -> None:
        loop, sizes = asyncio.get_running_loop(), [0]
        for piece in sent:
            if piece is None:
                client.shutdown(socket.SHUT_WR)
                await until(lambda: connection.gone)
                continue
            sizes.append(len(piece))
            await loop.sock_sendall(client, piece)
            await until(lambda: connection.gone or connection.received >= sum(sizes))
        await until(lambda: connection.settled)

    async def _end(self, client: socket.socket, connection: Watched, outcome: Outcome) -> None:
        if connection.over:
            end = "closed"
        elif connection.in_the_middle:
            end = "waits"
            connection.timed_out()
        else:
            end = "open"
            await asyncio.get_running_loop().sock_sendall(client, PROBE)
        outcome.raw, orderly = await read_to_the_end(client)
        if end == "open":
            begin = outcome.raw.rfind(b"HTTP/1.1 404")
            outcome.raw, outcome.probe = outcome.raw[:begin], outcome.raw[begin:]
        outcome.end = end if orderly else "reset"


async def connected(port: int) -> socket.socket:
    """A socket that can be waited for."""
    client = socket.socket()
    client.setblocking(False)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", port))
    except OSError:
        client.close()
        raise
    return client


async def read_to_the_end(client: socket.socket) -> tuple[bytes, bool]:
    """All that comes, and whether the end is an orderly one."""
    loop, raw = asyncio.get_running_loop(), b""
    try:
        while data := await loop.sock_recv(client, 2**16):
            raw += data
    except ConnectionError:
        return raw, False
    return raw, True


async def until(condition: Any) -> None:
    """Let the gate, which runs on the same loop, go on until something holds."""
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
