"""Request heads: judged strictly, kept as parsed, written anew.

httptools (llhttp, strict) has already refused bare line feeds, folding, several or signed lengths and a length
beside chunking. What it lets through (RFC 9112 leaves it to the server) is refused here.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gateway.dialects.table import Operation
from gateway.policy.decision import Deny, Reason
from gateway.policy.names import well_formed

if TYPE_CHECKING:
    from gateway.proxy.provider import Upstream

_PATH = re.compile(rb"/(?:[A-Za-z0-9._~:/@+-]|%2[Ff]|%3[Aa])*")
_QUERY = re.compile(rb"[A-Za-z0-9._~:/@+%=&,!$'()*?-]*")
_PICKS_MODEL = re.compile(rb"(?:^|&)[^=&]*(?:%|model)[^=&]*(?:=|&|$)", re.IGNORECASE)
_HOST = re.compile(rb"[A-Za-z0-9._:\[\]-]{1,255}")
_LENGTH = re.compile(rb"[0-9]{1,15}")
_TRACEPARENT = re.compile(rb"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")

HOP_BY_HOP = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade",
     b"proxy-authorization", b"proxy-authenticate")
)  # fmt: skip
"""RFC 9110 §7.6.1 and the historical ones: they are about one connection and are never passed on."""

FORWARDING = frozenset(
    (b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-port", b"x-forwarded-proto",
     b"x-forwarded-server", b"x-forwarded-by", b"x-forwarded-prefix", b"x-forwarded-ssl",
     b"x-forwarded-client-cert", b"x-real-ip", b"x-client-ip", b"x-cluster-client-ip", b"x-original-forwarded-for",
     b"x-envoy-external-address", b"true-client-ip", b"cf-connecting-ip", b"cf-connecting-ipv6", b"fastly-client-ip")
)  # fmt: skip
"""Who the client is and how it came, by its own word or a load balancer's: no provider's business."""

HANDSHAKE = b"sec-websocket-"
"""How the headers of a WebSocket's handshake begin. Never passed on: one of them can carry the caller's key."""

_NOT_FORWARDED = HOP_BY_HOP | FORWARDING | {b"host", b"content-length", b"expect"}

REFUSED = frozenset(
    (b"x-http-method-override", b"x-http-method", b"x-method-override", b"x-model-override",
     b"azureml-model-deployment", b"x-amzn-sagemaker-target-model", b"x-amzn-sagemaker-target-variant")
)  # fmt: skip
"""Headers that would make an upstream do another thing than method, path and body say."""


class Refused(Exception):  # noqa: N818 - it carries a refusal; nothing failed
    """A step of a request's way ends in a denial."""

    def __init__(self, deny: Deny) -> None:
        super().__init__(deny.reason)
        self.deny = deny


def malformed(message: str, status: int = 400) -> Refused:
    """The request cannot be read in one way only, or is too large to be read."""
    return Refused(Deny(Reason.MALFORMED, 0, message=message, status=status))


@dataclass(slots=True)
class Head:
    """A request's head. Header names are lower case; ``forward`` are those that may go on, in order.

    In ``path``, ``/`` and ``:`` may be percent-encoded where an operation's model stands. ``query_model`` is the model
    that the query names, where an operation takes one from there.
    Judged once, and never changed but for ``way``: it may stand for the next request of its connection, too.
    """

    method: str
    path: str
    query: bytes
    version: str
    keep_alive: bool
    forward: list[tuple[bytes, bytes]]
    host: bytes = b""
    content_length: int | None = None
    chunked: bool = False
    content_type: bytes | None = None
    content_encoding: bytes | None = None
    expects_continue: bool = False
    gateway_key: bytes | None = None
    on_behalf_of: bytes | None = None
    nominated: frozenset[bytes] = frozenset()
    forwarded_for: bytes = b""
    traceparent: bytes | None = None
    query_model: str | None = None
    upgrade: bytes | None = None
    way: "Way | None" = None

    @property
    def has_body(self) -> bool:
        """Whether a body follows."""
        return self.chunked or bool(self.content_length)


@dataclass(slots=True)
class Way:
    """What follows from a head alone: where it leads, and under which credential.

    A client sends one head again and again on its connection; what was found for the first is kept for the next.
    ``path`` is within the provider; ``query`` is what goes on of it, without the ``key`` that was in it; ``mark`` is
    the credential's fingerprint; ``onward`` are the heads to the provider without their length, by whether a coding is
    ruled out.
    """

    provider: "Upstream | None"
    operation: Operation
    path: str
    path_model: str | None = None
    query: bytes = b""
    key: bytes = b""
    credential: str = ""
    mark: str = ""
    by_token: bool = False
    onward: dict[bool, bytes] = field(default_factory=dict)


def read_head(
    method: bytes, target: bytes, version: str, headers: list[tuple[bytes, bytes]], *, keep_alive: bool
) -> Head:
    """Judge a parsed head.

    Raises:
        Refused: it is not canonical; it is never repaired.
    """
    if version not in ("1.1", "1.0"):
        raise malformed("HTTP/1.1 is spoken here.")
    path, question, query = target.partition(b"?")
    if not _PATH.fullmatch(path) or b"//" in path or b"/." in path or (question and not _QUERY.fullmatch(query)):
        raise malformed("The request target must be a plain path: no encoding, no dot segments, no authority.")
    query_model = _query_model(query) if query and _PICKS_MODEL.search(query) else None
    head = Head(
        method=method.decode("ascii"),
        path=path.decode("ascii"),
        query=query,
        version=version,
        keep_alive=keep_alive and version == "1.1",
        forward=[],
        query_model=query_model,
    )
    _read_headers(head, headers)
    if head.chunked and version == "1.0":
        raise malformed("Transfer-Encoding needs HTTP/1.1.")
    return head


def _query_model(query: bytes) -> str:
    """The model that a query names: once, by ``model=``, and plainly. Whether it may is the operation's to say."""
    named = [pair for pair in query.split(b"&") if _PICKS_MODEL.search(pair)]
    name, _, value = named[0].partition(b"=")
    if len(named) > 1 or name != b"model" or not well_formed(value.decode("ascii")):
        raise malformed("The query must not name a model, nor encode a parameter's name.")
    return value.decode("ascii")


def _read_headers(head: Head, headers: list[tuple[bytes, bytes]]) -> None:
    forward = head.forward
    for name, value in headers:
        if b"_" in name and _means_another(name):
            raise malformed("A header whose name some servers read as another's is not accepted here.")
        reader = _READERS.get(name)
        if reader is not None:
            reader(head, value)
        if name not in _NOT_FORWARDED and not name.startswith(b"portcullis-"):
            forward.append((name, value))
    if not head.host and head.version == "1.1":
        raise malformed("Exactly one Host header is needed.")
    if head.nominated:
        head.forward = [(name, value) for name, value in forward if name not in head.nominated]


def _means_another(name: bytes) -> bool:
    """Whether a server that turns ``-`` into ``_`` (CGI, WSGI, PHP) would take it for a header that counts here."""
    alias = name.replace(b"_", b"-")
    return alias in _READERS or alias in HOP_BY_HOP or alias.startswith(b"portcullis-")


def _host(head: Head, value: bytes) -> None:
    if head.host or not _HOST.fullmatch(value):
        raise malformed("Exactly one Host header is needed.")
    head.host = value


def _content_length(head: Head, value: bytes) -> None:
    if head.content_length is not None:
        raise malformed("Content-Length must be one number.")
    head.content_length = read_length(value)


def read_length(value: bytes | None) -> int | None:
    """A Content-Length.

    Raises:
        Refused: it is none.
    """
    if value is not None and not _LENGTH.fullmatch(value):
        raise malformed("Content-Length must be one number.")
    return None if value is None else int(value)


def _transfer_encoding(head: Head, value: bytes) -> None:
    if head.chunked or value.strip().lower() != b"chunked":
        raise malformed("The only Transfer-Encoding understood is chunked.")
    head.chunked = True


def _content_type(head: Head, value: bytes) -> None:
    if head.content_type is not None:
        raise malformed("Two Content-Type headers.", 415)
    head.content_type = value


def _content_encoding(head: Head, value: bytes) -> None:
    if head.content_encoding is not None:
        raise malformed("Two Content-Encoding headers.", 415)
    head.content_encoding = value


def _expect(head: Head, value: bytes) -> None:
    """RFC 9110 §10.1.1: 417 for what cannot be met; HTTP/1.0 never gets a 100."""
    if value.lower() != b"100-continue":
        raise malformed("The only expectation met here is 100-continue.", 417)
    head.expects_continue = head.version == "1.1"


def _connection(head: Head, value: bytes) -> None:
    head.nominated |= {token.strip().lower() for token in value.split(b",")}


def _upgrade(head: Head, value: bytes) -> None:
    """RFC 9110 §7.8. Two of them, or a list, ask for nothing that is spoken here."""
    head.upgrade = value.lower() if head.upgrade is None else b""


def _gateway_key(head: Head, value: bytes) -> None:
    if head.gateway_key is not None:
        raise malformed("Two Portcullis-Key headers.")
    head.gateway_key = value


def _on_behalf_of(head: Head, value: bytes) -> None:
    if head.on_behalf_of is not None:
        raise malformed("Two Portcullis-On-Behalf-Of headers.")
    head.on_behalf_of = value


def _forwarded_for(head: Head, value: bytes) -> None:
    head.forwarded_for = b"%b,%b" % (head.forwarded_for, value) if head.forwarded_for else value


def _traceparent(head: Head, value: bytes) -> None:
    """W3C Trace Context §3.2: passed on as it came; two of them, or another form, mean nothing here."""
    valid = head.traceparent is None and _TRACEPARENT.fullmatch(value) is not None
    head.traceparent = value if valid else b""


def _refuse(_head: Head, _value: bytes) -> None:
    raise malformed("A header that would override method or model is not accepted here.")


_READERS: dict[bytes, Callable[[Head, bytes], None]] = {
    b"host": _host,
    b"content-length": _content_length,
    b"transfer-encoding": _transfer_encoding,
    b"content-type": _content_type,
    b"content-encoding": _content_encoding,
    b"expect": _expect,
    b"connection": _connection,
    b"upgrade": _upgrade,
    b"x-forwarded-for": _forwarded_for,
    b"traceparent": _traceparent,
    b"portcullis-key": _gateway_key,
    b"portcullis-on-behalf-of": _on_behalf_of,
    **dict.fromkeys(REFUSED, _refuse),
}
