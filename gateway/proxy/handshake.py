"""The opening of a WebSocket (RFC 6455 §4), read from a client and written anew to a provider. Pure functions.

No extension is ever agreed on: frames that are compressed could not be read.
"""

import base64
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from gateway.proxy.head import HANDSHAKE, HOP_BY_HOP, Head, malformed
from gateway.proxy.provider import Upstream
from gateway.proxy.response import UnreadableResponseError

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY = re.compile(rb"[A-Za-z0-9+/]{21}[AQgw]==")
"""Sixteen bytes in base64: the last character has two bits."""

_TOKEN = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,512}")
_FRAMING = frozenset((b"content-length", b"transfer-encoding"))


@dataclass(frozen=True, slots=True)
class Opening:
    """What a client's handshake says. ``keys`` are credentials that subprotocols carry."""

    key: bytes
    protocols: tuple[bytes, ...] = ()
    keys: tuple[bytes, ...] = ()


def asks(head: Head) -> bool:
    """Whether a head asks for a WebSocket."""
    return (
        head.upgrade == b"websocket" and head.method == "GET" and head.version == "1.1" and b"upgrade" in head.nominated
    )


def read_opening(head: Head, key_protocol: bytes) -> Opening:
    """Judge a client's handshake.

    Raises:
        Refused: 426, it is of another version of the protocol; 400, it is not canonical.
    """
    if _values(head, b"version") != [b"13"]:
        raise malformed("The version of the WebSocket protocol that is spoken here is 13.", 426)
    keys = _values(head, b"key")
    if len(keys) != 1 or not _KEY.fullmatch(keys[0]):
        raise malformed("Sec-WebSocket-Key must be 16 bytes in base64, once.")
    protocols = [part.strip() for value in _values(head, b"protocol") for part in value.split(b",")]
    if len(set(protocols)) != len(protocols) or not all(map(_TOKEN.fullmatch, protocols)):
        raise malformed("Sec-WebSocket-Protocol must be a list of different tokens.")
    if not key_protocol:
        return Opening(keys[0], tuple(protocols))
    carried = tuple(p.removeprefix(key_protocol) for p in protocols if p.startswith(key_protocol))
    return Opening(keys[0], tuple(protocols), carried)


def _values(head: Head, name: bytes) -> list[bytes]:
    return [value for known, value in head.forward if known == HANDSHAKE + name]


def offered(opening: Opening, key_protocol: bytes, *, forwards: bool) -> tuple[bytes, ...]:
    """The subprotocols that a provider is asked for: all but those with a key, where keys are replaced."""
    if forwards or not key_protocol:
        return opening.protocols
    return tuple(protocol for protocol in opening.protocols if not protocol.startswith(key_protocol))


def request(provider: Upstream, head: Head, key: bytes, protocols: tuple[bytes, ...]) -> bytes:
    """The handshake as the provider gets it."""
    lines = [
        provider.request_head(head, b"", identity=False).removesuffix(b"\r\n"),
        b"connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: %b\r\n" % key,
    ]
    if protocols:
        lines.append(b"sec-websocket-protocol: %b\r\n" % b", ".join(protocols))
    return b"".join([*lines, b"\r\n"])


def accept(key: bytes) -> bytes:
    """What proves that a handshake was understood (RFC 6455 §4.2.2)."""
    return base64.b64encode(hashlib.sha1(key + _GUID).digest())  # noqa: S324 - the protocol's; it protects nothing


def read_answer(
    headers: Iterable[tuple[bytes, bytes]], key: bytes, protocols: tuple[bytes, ...]
) -> list[tuple[bytes, bytes]]:
    """Judge a provider's 101, of which the headers are given that the client may see, its subprotocol among them.

    Raises:
        UnreadableResponseError: it is not the answer to what was asked.
    """
    said: dict[bytes, bytes] = {}
    passed: list[tuple[bytes, bytes]] = []
    for name, value in headers:
        if name in HOP_BY_HOP or name in _FRAMING or name.startswith(HANDSHAKE):
            said[name] = b"%b,%b" % (said[name], value) if name in said else value
        elif not name.startswith(b"portcullis-"):
            passed.append((name, value))
    nominated = {token.strip().lower() for token in said.get(b"connection", b"").split(b",")}
    if said.get(b"upgrade", b"").lower() != b"websocket" or b"upgrade" not in nominated:
        raise UnreadableResponseError("another protocol than was asked for")
    if said.get(b"sec-websocket-accept") != accept(key):
        raise UnreadableResponseError("an answer to another handshake")
    if said.keys() & _FRAMING or b"sec-websocket-extensions" in said:
        raise UnreadableResponseError("a body, or an extension that nobody asked for")
    protocol = said.get(b"sec-websocket-protocol")
    if protocol is not None:
        if protocol not in protocols:
            raise UnreadableResponseError("a subprotocol that nobody asked for")
        passed.append((b"sec-websocket-protocol", protocol))
    return [(name, value) for name, value in passed if name not in nominated]


def answer(opening: Opening, headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The headers of the gateway's own 101."""
    own = [(b"upgrade", b"websocket"), (b"connection", b"Upgrade"), (b"sec-websocket-accept", accept(opening.key))]
    return own + headers
