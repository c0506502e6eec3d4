"""What a client says on a WebSocket: put together, kept while it waits, counted like the bodies of requests."""

from gateway.proxy.body import Body, BodyTooLargeError, Buffered
from gateway.proxy.socket_frames import Piece


class Said:
    """A message, whole. Whoever has one closes it."""

    __slots__ = ("_offset", "_rest", "body", "is_text")

    def __init__(self, body: Body, *, is_text: bool) -> None:
        self.body = body
        self.is_text = is_text
        self._rest: str | bytes | None = None
        self._offset = 0

    def content(self) -> bytes:
        """All of it."""
        return bytes(self.body.content())

    def next_piece(self, size: int) -> tuple[str | bytes, bool]:
        """The next so many characters or bytes, and whether they are the last."""
        if self._rest is None:
            self._rest = self.content().decode() if self.is_text else self.content()
        start, self._offset = self._offset, self._offset + size
        return self._rest[start : self._offset], self._offset >= len(self._rest)

    def close(self) -> None:
        """Forget it. May be called again."""
        self.body.close()
        self._rest = None


class Inbox:
    """One client's messages: the one that is coming in, and those that are held back. ``close`` forgets them all."""

    __slots__ = ("_buffered", "_coming", "_held", "_held_bytes", "_owner", "bytes_in")

    def __init__(self, buffered: Buffered, owner: str) -> None:
        self._buffered = buffered
        self._owner = owner
        self._coming: Body | None = None
        self._held: list[Said] = []
        self._held_bytes = 0
        self.bytes_in = 0

    def take(self, piece: Piece) -> Said | None:
        """A piece of a message; the whole, if it is the last.

        Raises:
            BodyTooLargeError, NoRoomError: it is not kept.
        """
        data = piece.data.encode() if isinstance(piece.data, str) else bytes(piece.data)
        self.bytes_in += len(data)
        if self._coming is None:
            self._coming = Body(self._buffered, self._owner)
        if self._coming.size + len(data) > self._buffered.limits.websocket_message_bytes:
            raise BodyTooLargeError
        self._coming.add(data)
        if not piece.message_finished:
            return None
        body, self._coming = self._coming, None
        return Said(body, is_text=isinstance(piece.data, str))

    def hold(self, said: Said) -> None:
        """Keep one until it is known what is meant.

        Raises:
            BodyTooLargeError: too much is kept already.
        """
        self._held.append(said)
        self._held_bytes += said.body.size
        if self._held_bytes > self._buffered.limits.websocket_held_bytes:
            raise BodyTooLargeError

    def release(self) -> list[Said]:
        """All that was held, in its order."""
        held, self._held, self._held_bytes = self._held, [], 0
        return held

    def close(self) -> None:
        """Forget everything."""
        for said in self.release():
            said.close()
        if self._coming is not None:
            self._coming.close()
            self._coming = None
