"""HTTP/1.1 as bytes: heads and chunks that the gateway writes itself."""

from http import HTTPStatus

CHUNKED_END = b"0\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body (RFC 9112 §7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def response_head(
    status: int,
    reason: bytes,
    headers: list[tuple[bytes, bytes]],
    request_id: str,
    revision: int,
    *,
    chunked: bool,
    keep_alive: bool,
) -> bytes:
    """A response's head: what the provider said, and the gateway's own headers."""
    lines = b"".join([b"%b: %b\r\n" % pair for pair in headers])
    return b"HTTP/1.1 %d %b\r\n%bportcullis-request-id: %b\r\nportcullis-revision: %d\r\n%b%b\r\n" % (
        status, reason or _REASONS.get(status, b""), lines, request_id.encode(), revision,
        b"transfer-encoding: chunked\r\n" if chunked else b"",
        b"" if keep_alive else b"connection: close\r\n",
    )  # fmt: skip


def own_response(
    status: int, headers: tuple[tuple[str, str], ...], body: bytes, request_id: str, revision: int, *,
    keep_alive: bool, head_only: bool = False,
) -> bytes:  # fmt: skip
    """A complete JSON response of the gateway's own."""
    pairs = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    pairs += [(name.encode("latin-1", "replace"), value.encode("latin-1", "replace")) for name, value in headers]
    head = response_head(status, b"", pairs, request_id, revision, chunked=False, keep_alive=keep_alive)
    return head if head_only else head + body
