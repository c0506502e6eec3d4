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
    status: int, version: str, reason: bytes, headers: list[tuple[bytes, bytes]], limits: Limits
) -> tuple[list[tuple[bytes, bytes]], bool]:
    """Judge a final response's head.

    Gives its headers, names in lower case, without ``Transfer-Encoding`` and with a canonical ``Content-Length``,
    and whether the head says where the body ends; if not, the connection's end is its end.

    Raises:
        UnreadableResponseError: it is not canonical.
    """
    if version not in ("1.1", "1.0") or not 200 <= status <= 599:
        raise UnreadableResponseError("no such version or status")
    if not _REASON.fullmatch(reason):
        raise UnreadableResponseError("a control character in the reason phrase")
    size = len(reason) + sum(len(name) + len(value) + 4 for name, value in headers)
    if len(headers) > limits.header_count or size > limits.response_head_bytes:
        raise UnreadableResponseError("too many or too large headers", TOO_LARGE)
    framed = status in _BODILESS
    passed = []
    for name, value in headers:
        if name == b"content-length":
            framed = True
            if status != 204:  # RFC 9110 §8.6: a 204 has none
                passed.append((name, _length(value)))
        elif name == b"transfer-encoding":
            _check_coding(value, version, headers)
            framed = True
        else:
            passed.append((name, value))
    return passed, framed


def _length(value: bytes) -> bytes:
    if len(value) > _MOST_DIGITS:
        raise UnreadableResponseError("a length that is none")
    return b"%d" % int(value)


def _check_coding(value: bytes, version: str, headers: list[tuple[bytes, bytes]]) -> None:
    """RFC 9112 §6.1 and §6.3: anything else could end in more than one place."""
    if version == "1.0" or value.lower() != b"chunked" or sum(name == b"transfer-encoding" for name, _ in headers) > 1:
        raise UnreadableResponseError("a transfer coding other than chunked")
