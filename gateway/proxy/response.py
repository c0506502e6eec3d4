"""Response heads of providers: judged strictly, before a client gets a byte of them.

httptools (llhttp, strict) has already refused bare CR and LF, NUL in values, folding, several, signed or overflowing
lengths and a length beside chunking. What it lets through is refused here: a provider that is hostile or broken must
not be able to make two clients' parsers see different responses.
"""

import re

from gateway.settings import Limits

TOO_LARGE = "response_head_too_large"

_REASON = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
"""RFC 9112 §4: HTAB, SP, VCHAR, obs-text. llhttp takes any byte but CR and LF here, NUL included."""

_MOST_DIGITS = 15
"""As in requests: a longer Content-Length is no length, and overflows doubles in some clients."""

_FRAMING = frozenset((b"content-length", b"transfer-encoding"))
_BODILESS = frozenset((204, 304))


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


def read_response(
    status: int, version: str, reason: bytes, headers: list[tuple[bytes, bytes]], limits: Limits, read: int
) -> tuple[list[tuple[bytes, bytes]], bool]:
    """Judge a final response's head, of which ``read`` bytes or less have come.

    Gives its headers, names in lower case, with a canonical ``Content-Length``, and whether the head says where the
    body ends; if not, the connection's end is its end.

    Raises:
        UnreadableResponseError: it is not canonical.
    """
    if version not in ("1.1", "1.0") or not 200 <= status <= 599:
        raise UnreadableResponseError("no such version or status")
    if not _REASON.fullmatch(reason):
        raise UnreadableResponseError("a control character in the reason phrase")
    if len(headers) > limits.header_count or (read > limits.response_head_bytes < _size(reason, headers)):
        raise UnreadableResponseError("too many or too large headers", TOO_LARGE)
    framing = [pair for pair in headers if pair[0] in _FRAMING]
    if not framing:
        return headers, status in _BODILESS
    if len(framing) > 1:
        raise UnreadableResponseError("an end that is said twice")
    ((name, value),) = framing
    if name == b"content-length":
        return _with_length(headers, value, status), True
    if version == "1.0" or value.lower() != b"chunked":  # RFC 9112 §6.1, §6.3: it could end in more than one place
        raise UnreadableResponseError("a transfer coding other than chunked")
    return headers, True


def _size(reason: bytes, headers: list[tuple[bytes, bytes]]) -> int:
    return len(reason) + sum(len(name) + len(value) + 4 for name, value in headers)


def _with_length(headers: list[tuple[bytes, bytes]], value: bytes, status: int) -> list[tuple[bytes, bytes]]:
    """The headers with a length that has one spelling; a 204 has none (RFC 9110 §8.6)."""
    if len(value) > _MOST_DIGITS:
        raise UnreadableResponseError("a length that is none")
    canonical = b"%d" % int(value)
    if status == 204:
        return [pair for pair in headers if pair[0] != b"content-length"]
    if canonical == value:
        return headers
    return [(name, canonical if name == b"content-length" else kept) for name, kept in headers]
