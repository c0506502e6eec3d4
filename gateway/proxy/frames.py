"""Where messages end in a binary event stream (application/vnd.amazon.eventstream): each begins with its length."""

_LENGTH = 4
_LEAST = 16
"""A message of nothing: prelude, and the checksums of both (botocore ``eventstream.py``)."""


class FrameEnds:
    """Follows a stream; ``at_end`` is whether it is between two messages."""

    __slots__ = ("_left", "_prelude", "_readable")

    def __init__(self) -> None:
        self._left = 0
        self._prelude = b""
        self._readable = True

    @property
    def at_end(self) -> bool:
        """Whether whatever has come is whole messages."""
        return self._readable and not self._left and not self._prelude

    def follow(self, data: bytes) -> None:
        """Look at what comes; a length that cannot be is never at an end again."""
        at = 0
        while at < len(data) and self._readable:
            if self._left:
                step = min(self._left, len(data) - at)
                self._left -= step
                at += step
                continue
            piece = data[at : at + _LENGTH - len(self._prelude)]
            self._prelude += piece
            at += len(piece)
            if len(self._prelude) == _LENGTH:
                length, self._prelude = int.from_bytes(self._prelude, "big"), b""
                self._readable = length >= _LEAST
                self._left = length - _LENGTH
