"""One side of a WebSocket: frames in, frames out (RFC 6455 §5), by wsproto. No extension is spoken.

``Side`` hides how wsproto tells a close from a mistake, and that it cannot be asked after an end.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, Pong, TextMessage
from wsproto.frame_protocol import CloseReason

CLOSE_REASON_BYTES = 123
"""What a close frame has room for beside its code."""

Piece = TextMessage | BytesMessage
"""A frame of a message, or what has come of it."""

_CLOSED = (ConnectionState.CLOSED, ConnectionState.REMOTE_CLOSING)


class BrokenFramesError(Exception):
    """What came is no frame that may stand there. ``code`` is what the connection is closed with."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


@dataclass(slots=True)
class Turn:
    """What some frames brought. After a close or a frame that is ``broken`` nothing comes; ``more`` may wait."""

    pieces: list[Piece] = field(default_factory=list)
    pings: list[bytes] = field(default_factory=list)
    closed: CloseConnection | None = None
    broken: bool = False
    more: bool = False


class Side:
    """The gateway's end of a connection to a client (as its server), or to a provider (as its client)."""

    def __init__(self, *, server: bool) -> None:
        self._connection = Connection(ConnectionType.SERVER if server else ConnectionType.CLIENT)

    # ------------------------------------------------------------------ in

    def feed(self, data: bytes) -> None:
        """Take bytes as they came; nothing counts after a close."""
        if self._connection.state not in _CLOSED:
            self._connection.receive_data(data)

    def events(self) -> Iterator[Event]:
        """What has come since. To stop in between is allowed: what is left comes the next time.

        Raises:
            BrokenFramesError: the peer does not speak the protocol; nothing more will come.
        """
        for event in self._connection.events():
            if isinstance(event, CloseConnection) and not self.has_closed():
                raise BrokenFramesError(event.reason or "no frame that may stand here", int(event.code))
            yield event

    def turn(self, most: int) -> Turn:
        """The same of so many frames, sorted."""
        turn = Turn()
        try:
            for count, event in enumerate(self.events(), 1):
                match event:
                    case TextMessage() | BytesMessage():
                        turn.pieces.append(event)
                    case Ping():
                        turn.pings.append(bytes(event.payload))
                    case CloseConnection():
                        turn.closed = event
                    case _:
                        pass
                if count == most:
                    turn.more = True
                    break
        except BrokenFramesError:
            turn.broken = True
        return turn

    def has_closed(self) -> bool:
        """Whether the peer has sent a close frame."""
        return self._connection.state in _CLOSED

    # ------------------------------------------------------------------ out

    def message(self, data: str | bytes | bytearray, *, finished: bool = True) -> bytes:
        """A frame of a message."""
        if isinstance(data, str):
            return bytes(self._connection.send(TextMessage(data=data, message_finished=finished)))
        return bytes(self._connection.send(BytesMessage(data=bytes(data), message_finished=finished)))

    def ping(self) -> bytes:
        """A question whether the peer is there."""
        return bytes(self._connection.send(Ping()))

    def pong(self, payload: bytes | bytearray) -> bytes:
        """The answer to a ping."""
        return bytes(self._connection.send(Pong(payload=bytes(payload))))

    def close(self, code: int, reason: str = "") -> bytes:
        """A close frame; nothing where one has been sent. ``NO_STATUS`` sends none."""
        if self._connection.state not in (ConnectionState.OPEN, ConnectionState.REMOTE_CLOSING):
            return b""
        code = NO_STATUS if code == NO_STATUS else code
        return bytes(self._connection.send(CloseConnection(code=code, reason=reason or None)))

    @property
    def is_open(self) -> bool:
        """Whether messages can be sent."""
        return self._connection.state is ConnectionState.OPEN


def fitting(reason: str) -> str:
    """As much of a close's reason as a control frame holds: 125 bytes less the code (RFC 6455 §5.5)."""
    return reason.encode()[:123].decode(errors="ignore")


NO_STATUS = CloseReason.NO_STATUS_RCVD
NORMAL = 1000
GOING_AWAY = 1001
POLICY_VIOLATION = 1008
TOO_BIG = 1009
INTERNAL = 1011
TRY_AGAIN_LATER = 1013
