"""Both ends of a WebSocket through a gate, frame by frame."""

import asyncio
import base64
import json
from typing import Any

from proxy_harness import PATIENCE, Client, Message, Peer
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, Pong, TextMessage

from gateway.proxy.handshake import accept

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="


def opening(
    path: str = "/openai/v1/responses",
    *headers: str,
    key: str | None = "pc-alice",
    version: str = "13",
    bare: bool = False,
) -> bytes:
    """A client's handshake."""
    lines = [f"GET {path} HTTP/1.1", "Host: gate", "Connection: keep-alive, Upgrade", "Upgrade: WebSocket"]
    lines += [f"Authorization: Bearer {key}"] if key else []
    if not bare:
        lines += [f"Sec-WebSocket-Version: {version}", f"Sec-WebSocket-Key: {KEY.decode()}"]
    return "\r\n".join([*lines, *headers, "", ""]).encode()


class Talker:
    """One end, once the handshake is over."""

    def __init__(self, peer: Peer, kind: ConnectionType) -> None:
        self.peer = peer
        self.patience = PATIENCE
        self._connection = Connection(kind)
        self._events: list[Event] = []

    def say(self, message: Any, *, binary: bool = False) -> None:
        """Send a message: text, bytes, or something as JSON."""
        text = message if isinstance(message, str | bytes) else json.dumps(message)
        if binary or isinstance(text, bytes):
            self.event(BytesMessage(data=text if isinstance(text, bytes) else text.encode()))
        else:
            self.event(TextMessage(data=text))

    def event(self, event: Event) -> None:
        """Send a frame."""
        self.peer.send(self._connection.send(event))

    def raw(self, data: bytes) -> None:
        """Send bytes."""
        self.peer.send(data)

    async def heard(self) -> Event:
        """The next event, pieces of a message put together."""
        pieces: list[Any] = []
        while True:
            event = await self._next()
            if not isinstance(event, TextMessage | BytesMessage):
                return event
            pieces.append(event.data)
            if event.message_finished:
                return type(event)(data=pieces[0][:0].join(pieces))

    async def _next(self) -> Event:
        while True:
            for event in self._connection.events():
                return event
            async with asyncio.timeout(self.patience):
                data = await self.peer.reader.read(2**18)
            if not data:
                raise EOFError
            self._connection.receive_data(data)

    async def json(self) -> Any:
        """The next message, as JSON."""
        event = await self.heard()
        assert isinstance(event, TextMessage | BytesMessage), event
        return json.loads(event.data)

    async def closed(self) -> tuple[int, str]:
        """The next event is a close; its code and reason."""
        event = await self.heard()
        assert isinstance(event, CloseConnection), event
        return int(event.code), event.reason or ""

    async def quiet(self) -> bool:
        """Whether nothing but the end follows: a close, a reset, or the end of the stream."""
        try:
            while True:
                event = await self.heard()
                if isinstance(event, TextMessage | BytesMessage):
                    return False
        except (EOFError, ConnectionResetError):
            return True


async def agree(peer: Peer, head: Message, *headers: bytes) -> Talker:
    """A provider's 101."""
    key = head.header("sec-websocket-key")
    assert key is not None
    assert len(base64.b64decode(key)) == 16
    lines = (b"upgrade: websocket", b"connection: upgrade", b"sec-websocket-accept: " + accept(key.encode()), *headers)
    peer.send(b"HTTP/1.1 101 Switching Protocols\r\n" + b"\r\n".join(lines) + b"\r\n\r\n")
    return Talker(peer, ConnectionType.SERVER)


async def talk(client: Client, provider: Any, *arguments: Any, **options: Any) -> tuple[Talker, Talker]:
    """A WebSocket that is open: the client's end and the provider's."""
    client.send(opening(*arguments, **options))
    peer = await provider.accept()
    theirs = await agree(peer, await peer.head())
    head = await client.head()
    assert head.status == 101, head
    assert head.header("sec-websocket-accept") == accept(KEY).decode()
    return Talker(client, ConnectionType.CLIENT), theirs


__all__ = ["KEY", "Ping", "Pong", "Talker", "agree", "opening", "talk"]
