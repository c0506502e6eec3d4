"""A provider's response on its way to the client: its head written anew, its body framed anew, byte for byte the same.

What comes goes into ``out``; whoever has the right to write takes it from there. A list of models is kept back until
it is complete, because it is filtered.
"""

import re
from collections.abc import Callable

from gateway.dialects.listing import MAX_LIST_BYTES, ListShape, UnreadableListError, filtered
from gateway.proxy.frames import FrameEnds
from gateway.proxy.response import ResponseHead
from gateway.proxy.wire import CHUNKED_END, chunk, response_head

_EVENT_ENDS = (b"\n\n", b"\r\n\r\n", b"\r\r")


_MODEL = re.compile(rb'"model"\s*:\s*"([^"\\]{1,256})"')
_GLANCE = 2048
"""Bytes of a response in which its model is looked for."""


def named_model(start: bytes) -> str | None:
    """The model that a response says it comes from, where it does so at once; ``None`` where it does not.

    Before the first list, which is where its content begins: what a model writes there is not looked at. Within a
    string the quotes would be escaped.
    """
    content = start.find(b"[", 0, _GLANCE)
    found = _MODEL.search(start, 0, _GLANCE if content < 0 else content)
    return None if found is None else found[1].decode("ascii", "replace")


class ListTooLongError(Exception):
    """A list of models is larger than what is kept back."""


class Relay:
    """One response."""

    __slots__ = ("_frames", "_listed", "_tail", "bytes_out", "chunked", "event_stream", "out", "until_close")

    def __init__(self) -> None:
        self.out: list[bytes] = []
        self.bytes_out = 0
        self.chunked = False
        self.until_close = False
        self.event_stream = False
        self._listed: list[bytes] | None = None
        self._tail = b""
        self._frames: FrameEnds | None = None

    # ------------------------------------------------------------------ what comes

    def frame(self, head: ResponseHead, version: str) -> None:
        """Decide how the body is framed for a client of this HTTP version."""
        self.event_stream = head.event_stream
        self.chunked = not head.measured and version == "1.1"
        self.until_close = not head.measured and not self.chunked

    def head(self, head: ResponseHead, request_id: str, revision: int, *, keep_alive: bool) -> None:
        """The head, as the client gets it."""
        self.out.append(
            response_head(
                head.status, head.reason, head.headers, request_id, revision,
                chunked=self.chunked, keep_alive=keep_alive,
            )
        )  # fmt: skip

    def follow_frames(self) -> None:
        """The body is a stream of binary messages."""
        self._frames = FrameEnds()

    def keep_back(self) -> None:
        """The body is a list to be filtered."""
        self._listed = []

    def body(self, data: bytes) -> None:
        """A piece of the body.

        Raises:
            ListTooLongError: it is a list, and there is no end of it.
        """
        self.bytes_out += len(data)
        if self._listed is not None:
            self._listed.append(data)
            if self.bytes_out > MAX_LIST_BYTES:
                raise ListTooLongError
            return
        if self.event_stream:
            self._tail = data[-4:] if len(data) >= 4 else (self._tail + data)[-4:]
        elif self._frames is not None:
            self._frames.follow(data)
        self.out.append(chunk(data) if self.chunked else data)

    def end(self) -> None:
        """The body is complete."""
        if self.chunked:
            self.out.append(CHUNKED_END)

    # ------------------------------------------------------------------ what goes

    def take(self) -> bytes:
        """Everything that is to be sent on, as one piece."""
        out = self.out
        data = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        return data

    @property
    def listed(self) -> bool:
        """Whether it is a list that is kept back."""
        return self._listed is not None

    def filtered(self, shape: ListShape, may_use: Callable[[str], bool]) -> bytes:
        """The list without what this caller may not use.

        Raises:
            UnreadableListError: it is no list.
        """
        body, self._listed = b"".join(self._listed or ()), None
        return filtered(shape, body, may_use)

    def last_event(self, event: bytes) -> bytes | None:
        """An event that ends the stream, framed; ``None`` where the client is not at an event's end."""
        if self._frames is not None:
            at_end = self._frames.at_end
        else:
            at_end = self.event_stream and (not self.bytes_out or self._tail.endswith(_EVENT_ENDS))
        return chunk(event) if at_end and not self.out and self.chunked else None


__all__ = ["ListTooLongError", "Relay", "UnreadableListError"]
