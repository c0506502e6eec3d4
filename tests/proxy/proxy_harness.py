"""A gate with a lease, and raw HTTP/1.1 on both of its sides."""

import asyncio
import contextlib
import json
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from samples import AT, document

from gateway.enforcement import lease
from gateway.enforcement.entry import Position
from gateway.enforcement.replica import Replica
from gateway.identity.directory import Directory
from gateway.identity.keys import fingerprint
from gateway.identity.records import CallerRecord, Key
from gateway.policy.caller import Kind
from gateway.policy.document import Document, Hold
from gateway.policy.snapshot import Snapshot
from gateway.proxy.connection import ClientConnection
from gateway.proxy.gate import Gate
from gateway.settings import Settings

PATIENCE = 5.0


def caller_record(caller_id: str, *secrets: str) -> CallerRecord:
    """A caller with keys."""
    keys = {f"k{n}": Key(sha256=fingerprint(secret), created=AT) for n, secret in enumerate(secrets)}
    return CallerRecord(id=caller_id, kind=Kind.PERSON, keys=keys, pseudonym=f"p-{caller_id}")


class Door:
    """A gate, its replica, and its port. ``records`` is what Redis would say of keys."""

    def __init__(self, upstream_port: int, state_dir: Path, policy: Document | None = None, **proxy: Any) -> None:
        base = f"http://127.0.0.1:{upstream_port}"
        providers = {
            "openai": {"dialect": "openai", "base_url": f"{base}/openai", "api_key": "sk-provider"},
            "anthropic": {"dialect": "anthropic", "base_url": base, "api_key": "sk-ant-provider"},
            "compatible": {"dialect": "openai-compatible", "base_url": base, "credentials": "forward"},
            "hosted": {"dialect": "openai", "base_url": base, "host": "models.example"},
            "gemini": {"dialect": "gemini", "base_url": base, "api_key": "g-provider"},
            "own-keys": {"dialect": "gemini", "base_url": base, "credentials": "forward"},
            "closed": {"dialect": "openai", "base_url": "http://127.0.0.1:1"},
        }
        self.settings = Settings(state_dir=state_dir, providers=providers, proxy=proxy)
        self.records = {
            fingerprint(secret): caller_record(name, secret)
            for name, secret in (("alice", "pc-alice"), ("bob", "pc-bob"))
        }
        self.replica = Replica("incarnation")
        self.revision = 0
        self.policy = policy or document(max_stale={"default": 3600, "controlled": 1800})
        self.loads = 0
        self.lines: list[dict[str, Any]] = []
        self.hold_loads: asyncio.Event | None = None

    async def open(self) -> None:
        """Listen, under revision 1, with a lease."""
        self.gate = Gate(self.settings, self.replica, Directory(self._load), None)
        self.gate.recorder.log = self  # the lines as they are
        self.apply()
        self.renew()
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: ClientConnection(self.gate), "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _load(self, key: str) -> CallerRecord | None:
        self.loads += 1
        if self.hold_loads is not None:
            await self.hold_loads.wait()
        return self.records.get(key)

    def add(self, line: dict[str, Any]) -> None:
        """Take a line of the request log."""
        self.lines.append(json.loads(json.dumps(line)))

    def apply(self, callers: Any = (), fresh: Any = None, **fields: Any) -> None:
        """Put the next revision into force."""
        self.policy = self.policy.edited(**fields) if fields else self.policy
        self.revision += 1
        if fresh is None:
            found = {key: self.records.get(key) for key in self.gate.affected(callers)}
            fresh = {key: record.caller() for key, record in found.items() if record is not None}
        self.gate.apply(Snapshot(self.policy, self.revision), callers, fresh)
        self.replica.applied(Position("epoch", self.revision, f"hash-{self.revision}"))

    def close_models(self, *patterns: str, **fields: Any) -> None:
        """Put a hold into force."""
        held = Hold.model_validate({"models": patterns, "by": "op", "at": AT, **fields})
        self.apply(holds={f"h-{self.revision}": held})

    def renew(self) -> None:
        """Get a lease that begins now."""
        renewal = self.replica.renew(lease.now(), f"nonce-{self.revision}")
        self.replica.answered(renewal, "OK", renewal.nonce)

    def end_lease(self) -> None:
        """The lease is over; nobody has looked yet."""
        self.replica._renewed_at = lease.now() - 100_000

    @property
    def counts(self) -> dict[str, float]:
        """Counters by name, summed over their labels."""
        counts: dict[str, float] = {}
        for name, _, value in self.gate.counters.samples():
            if not isinstance(value, list):
                counts[name] = counts.get(name, 0) + value
        return counts

    async def close(self) -> None:
        """Close everything, and wait for the connections' ends."""
        self._server.close()
        self.gate.close()
        await self.gate.reading.close()
        async with asyncio.timeout(PATIENCE):
            while self.gate.connections or any(p.pool.open for p in self.gate.providers.values()):
                await asyncio.sleep(0)


@dataclass
class Message:
    """A request or a response, as it stood on the wire."""

    start: bytes
    headers: list[tuple[str, str]]
    body: bytes = b""
    chunks: list[bytes] = field(default_factory=list)
    trailers: bytes = b""

    @property
    def status(self) -> int:
        """The status of a response."""
        return int(self.start.split()[1])

    @property
    def json(self) -> Any:
        """The body."""
        return json.loads(self.body)

    @property
    def reason(self) -> str | None:
        """Why it was refused."""
        return self.header("portcullis-reason")

    def header(self, name: str) -> str | None:
        """The value of the one header of this name."""
        values = [value for known, value in self.headers if known == name.lower()]
        assert len(values) <= 1, f"{name} more than once: {values}"
        return values[0] if values else None


class Peer:
    """One end of a connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, data: bytes) -> None:
        """Write."""
        self.writer.write(data)

    async def head(self) -> Message:
        """Read a head."""
        async with asyncio.timeout(PATIENCE):
            raw = await self.reader.readuntil(b"\r\n\r\n")
        start, *lines = raw.removesuffix(b"\r\n\r\n").split(b"\r\n")
        pairs = [line.decode("latin-1").split(": ", 1) for line in lines]
        assert all(len(pair) == 2 for pair in pairs), raw
        return Message(start, [(name.lower(), value) for name, value in pairs])

    async def exactly(self, size: int) -> bytes:
        """Read so many bytes."""
        async with asyncio.timeout(PATIENCE):
            return await self.reader.readexactly(size)

    async def chunk(self) -> bytes:
        """Read one chunk; the last is empty."""
        async with asyncio.timeout(PATIENCE):
            size = int(await self.reader.readuntil(b"\r\n"), 16)
            data = await self.reader.readexactly(size + 2)
        assert data.endswith(b"\r\n")
        return data[:-2]

    async def message(self) -> Message:
        """Read a message whole: by its length, by chunks, or the head alone where it has neither."""
        message = await self.head()
        if message.header("transfer-encoding") == "chunked":
            assert message.header("content-length") is None
            while piece := await self.chunk():
                message.chunks.append(piece)
            message.body = b"".join(message.chunks)
        elif (length := message.header("content-length")) is not None:
            message.body = await self.exactly(int(length))
        return message

    async def rest(self) -> bytes:
        """Read to the end; a reset raises ``ConnectionResetError``."""
        async with asyncio.timeout(PATIENCE):
            return await self.reader.read()

    async def ends(self) -> None:
        """Nothing more comes, and the end is an orderly one."""
        assert await self.rest() == b""

    async def is_reset(self) -> bool:
        """Whether the connection ends with RST; what came before it is thrown away."""
        try:
            await self.rest()
        except ConnectionResetError:
            return True
        return False

    def eof(self) -> None:
        """Half-close."""
        self.writer.write_eof()

    def reset(self) -> None:
        """Close with RST."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.writer.transport.abort()

    async def close(self) -> None:
        """Close."""
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()


class Client(Peer):
    """A client's connection, with shorthands for requests."""

    @classmethod
    async def connect(cls, port: int, *, receive_buffer: int | None = None, limit: int = 2**16) -> Self:
        """Connect; with a small ``receive_buffer`` and ``limit`` it soon takes nothing more."""
        sock = socket.socket()
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        return cls(*await asyncio.open_connection(sock=sock, limit=limit))

    async def ask(self, data: bytes) -> Message:
        """Send a request, read the response."""
        self.send(data)
        return await self.message()


class Provider:
    """The provider's side. Connections come out of ``accept`` in their order."""

    def __init__(self) -> None:
        self.accepted: asyncio.Queue[Peer] = asyncio.Queue()
        self.peers: list[Peer] = []

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for peer in self.peers:
            await peer.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer)
        self.peers.append(peer)
        self.accepted.put_nowait(peer)

    async def accept(self) -> Peer:
        """The next connection of the gate."""
        async with asyncio.timeout(PATIENCE):
            return await self.accepted.get()

    @property
    def connections(self) -> int:
        """How many there have been."""
        return len(self.peers)


OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
LISTED = b'{"object":"list","data":[{"id":"gpt-5.4","object":"model"},{"id":"gpt-9","object":"model"}]}'
LIST = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(LISTED), LISTED)
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def chunked(*pieces: bytes) -> bytes:
    """Chunks, without the last."""
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)


def post(
    path: str = "/openai/v1/chat/completions",
    model: str = "gpt-5.4",
    *,
    key: str | None = "pc-alice",
    body: bytes | None = None,
    version: str = "1.1",
    headers: tuple[str, ...] = (),
    **fields: Any,
) -> bytes:
    """A request."""
    if body is None:
        body = json.dumps({"model": model, **fields}).encode()
    lines = [
        f"POST {path} HTTP/{version}",
        "Host: gate",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    ]
    lines += [f"Authorization: Bearer {key}"] if key else []
    return "\r\n".join([*lines, *headers, "", ""]).encode() + body


def get(path: str, *headers: str, key: str = "pc-alice") -> bytes:
    """A request without a body."""
    return "\r\n".join(
        [f"GET {path} HTTP/1.1", "Host: gate", f"Authorization: Bearer {key}", *headers, "", ""]
    ).encode()
