"""A head that has come before on a connection, recognised by its bytes: the same bytes mean the same.

A client sends one head again and again, but for the length of its body. llhttp has read the first of them, strictly,
and ``read_head`` has judged it; where the next request begins with the very same bytes there is nothing to find out
but the length. What differs in a single byte, or comes in other pieces, goes to the parser.
"""

import re

from gateway.proxy.head import Head

_END = b"\r\n\r\n"
_LENGTH_LINE = re.compile(rb"\r\n[Cc][Oo][Nn][Tt][Ee][Nn][Tt]-[Ll][Ee][Nn][Gg][Tt][Hh]:[ \t]*([0-9]{1,15})\r\n")
_LENGTH = re.compile(rb"[0-9]{1,15}")
_HARMLESS = frozenset((b"keep-alive",))
"""What ``Connection`` may say: nothing else leaves the parser where it was."""


class KnownHead:
    """A head as it stood on the wire, around its length if it has one."""

    __slots__ = ("_after", "_before", "head")

    def __init__(self, before: bytes, after: bytes | None, head: Head) -> None:
        self._before = before
        self._after = after
        self.head = head

    def rest(self, data: bytes) -> tuple[int, bytes] | None:
        """The body's length and what follows the head, if ``data`` begins with it; else ``None``."""
        before, after = self._before, self._after
        if not data.startswith(before):
            return None
        start = len(before)
        if after is None:
            return 0, data[start:]
        end = data.find(b"\r\n", start, start + 17)
        if end < 0 or not data.startswith(after, end) or _LENGTH.fullmatch(data, start, end) is None:
            return None
        return int(data[start:end]), data[end + len(after) :]


def known(data: bytes, head: Head) -> KnownHead | None:
    """The head that ``data`` begins with, which was read as ``head``; ``None`` if it is not one to be recognised.

    Nothing that changes how the connection goes on, or where a body ends, is read without the parser.
    """
    if head.chunked or not head.keep_alive or head.expects_continue or not head.nominated <= _HARMLESS:
        return None
    whole = data[: data.find(_END) + len(_END)]
    if head.content_length is None:
        return KnownHead(whole, None, head)
    length = _LENGTH_LINE.search(whole)
    return None if length is None else KnownHead(whole[: length.start(1)], whole[length.end(1) :], head)
