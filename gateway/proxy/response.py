"""Response heads of providers: judged strictly, before a client gets a byte of them.

httptools (llhttp, strict) has already refused bare CR and LF, NUL in values, folding, several, signed or overflowing
lengths and a length beside chunking. What it lets through is refused here: a provider that is hostile or broken must
not be able to make two clients' parsers see different responses.
"""

import re

from gateway.proxy.head import HOP_BY_HOP
from gateway.settings import Limits

TOO_LARGE = "response_head_too_large"

_REASON = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
"""RFC 9112 §4: HTAB, SP, VCHAR, obs-text. llhttp takes any byte but CR and LF here, NUL included."""

_MOST_DIGITS = 15
"""As in requests: a longer Content-Length is no length, and overflows doubles in some clients."""

_FRAMING = frozenset((b"content-length", b"transfer-encoding"))
_BODILESS = frozenset((204, 304))
_OFTEN = (b"keep-alive", b"close")
"""What ``Connection`` mostly says: no header is nominated by it that could be passed on (RFC 9110 §7.6.1)."""


class UnreadableResponseError(Exception):
    """A response that two parsers could read differently, or none in bounds. ``cause`` is what it is counted as."""

    def __init__(self, message: str, cause: str = "invalid_response") -> None:
        super().__init__(message)
        self.cause = cause


def check_interim(status: int, headers: list[tuple[bytes, bytes]]) -> None:
    """Judge an informational response, which is swallowed.

    Raises:
        UnreadableResponseError: it announces a body, which it never has (RFC 9110 §15.2, RFC 9112 §6), or it switches
            protocols, which nobody asked for.
    """
    if status == 101 or not 100 <= status < 200:
        raise UnreadableResponseError("nobody asked to switch protocols" if status == 101 else "no such status")
    if any(name in _FRAMING for name, _ in headers):
        raise UnreadableResponseError("an interim response with a body")


class ResponseHead:
    """A final response's head, judged. ``headers`` are those that pass on, names in lower case, in their order.

    ``measured``: a length among them says where the body ends, or the status that there is none. ``framed``: the
    head says it at all; if not, the connection's end is the body's.
    """

    __slots__ = ("event_stream", "framed", "headers", "measured", "reason", "status")

    def __init__(self, status: int, reason: bytes) -> None:
        self.status = status
        self.reason = reason
        self.headers: list[tuple[bytes, bytes]] = []
        self.measured = self.framed = status in _BODILESS
        self.event_stream = False


def read_response(
    status: int, version: str, reason: bytes, headers: list[tuple[bytes, bytes]], limits: Limits, read: int
) -> ResponseHead:
    """Judge a final response's head, of which ``read`` bytes or less have come.

    Raises:
        UnreadableResponseError: it is not canonical.
    """
    if len(headers) > limits.header_count or (read > limits.response_head_bytes < _size(reason, headers)):
        raise UnreadableResponseError("too many or too large headers", TOO_LARGE)
    head = _read_status_line(status, version, reason)
    framing, nominated = b"", set[bytes]()
    for pair in headers:
        name, value = pair
        if name in _FRAMING:
            if framing:
                raise UnreadableResponseError("an end that is said twice")
            framing = name
            _read_framing(head, name, value, version)
        elif name == b"content-type":
            head.event_stream = value.startswith(b"text/event-stream")
            head.headers.append(pair)
        elif name not in HOP_BY_HOP and not name.startswith(b"portcullis-"):
            head.headers.append(pair)
        elif name == b"connection" and value not in _OFTEN:
            nominated |= {token.strip().lower() for token in value.split(b",")} - _FRAMING
    if nominated:
        head.headers = [pair for pair in head.headers if pair[0] not in nominated]
    return head


def _read_status_line(status: int, version: str, reason: bytes) -> ResponseHead:
    if version not in ("1.1", "1.0") or not 200 <= status <= 599:
        raise UnreadableResponseError("no such version or status")
    if not _REASON.fullmatch(reason):
        raise UnreadableResponseError("a control character in the reason phrase")
    return ResponseHead(status, reason)


def _read_framing(head: ResponseHead, name: bytes, value: bytes, version: str) -> None:
    """Where the body ends. A length has one spelling; a 204 has none (RFC 9110 §8.6)."""
    head.framed = True
    if name == b"content-length":
        if len(value) > _MOST_DIGITS:
            raise UnreadableResponseError("a length that is none")
        head.measured = True
        if head.status != 204:
            head.headers.append((name, b"%d" % int(value)))
    elif version == "1.0" or value.lower() != b"chunked":  # RFC 9112 §6.1, §6.3: it could end in more than one place
        raise UnreadableResponseError("a transfer coding other than chunked")


def _size(reason: bytes, headers: list[tuple[bytes, bytes]]) -> int:
    return len(reason) + sum(len(name) + len(value) + 4 for name, value in headers)
