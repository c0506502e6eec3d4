"""Hostile HTTP/1.1 of providers, as data: what the provider sends, and what the client gets of it.

``sent`` are pieces, each a write of its own; ``CLOSE`` and ``RESET`` end the connection. What the client gets is
either a ``Relay`` (the exact head, the body, whether it ends as complete) or a refusal: 502 and the ``cause`` that is
counted. ``kept`` says whether the provider's connection may serve another request. After every case another client
asks for something plain and must get exactly that.
"""

from dataclasses import dataclass

from http_cases import get, post

LIMITS = {"response_head_bytes": 2000, "header_count": 20}
CLOSE, RESET = "close", "reset"


@dataclass(frozen=True, slots=True)
class Relay:
    """What the client gets. ``end``: another request is served, or an orderly close, or an RST."""

    head: bytes
    body: bytes = b""
    complete: bool = True
    end: str = "open"


@dataclass(frozen=True, slots=True)
class Reply:
    """A provider's answer to one request."""

    name: str
    sent: tuple[bytes | str, ...]
    gets: Relay | None = None
    cause: str | None = None
    kept: bool = False
    request: bytes = post()
    used_before: bool = False


def head(*lines: bytes, status: bytes = b"200 OK") -> bytes:
    """A provider's head."""
    return b"HTTP/1.1 " + status + b"\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


def relayed(
    *lines: bytes, status: bytes = b"200 OK", body: bytes = b"", chunked: bool = False, complete: bool = True,
    end: str = "open", close: bool = False,
) -> Relay:  # fmt: skip
    """What the client gets of it."""
    own = [b"portcullis-request-id: ID", b"portcullis-revision: 1"]
    own += [b"transfer-encoding: chunked"] if chunked else []
    own += [b"connection: close"] if close else []
    return Relay(head(*lines, *own, status=status), body, complete, end)


L2 = b"content-length: 2"
TE = b"transfer-encoding: chunked"
PLAIN = head(L2) + b"{}"
PLAINLY = relayed(L2, body=b"{}")
IN_CHUNKS = b"2\r\n{}\r\n0\r\n\r\n"
CHUNKED_OK = relayed(body=b"{}", chunked=True)
CUT = relayed(body=b"{}", chunked=True, complete=False, end="closed")


def good(name: str, *sent: bytes | str, gets: Relay = PLAINLY, kept: bool = True, request: bytes = post()) -> Reply:
    """It is relayed."""
    return Reply(name, sent, gets, kept=kept, request=request)


def odd(name: str, *sent: bytes | str, gets: Relay = PLAINLY) -> Reply:
    """It is relayed, but its connection is not trusted with another request."""
    return Reply(name, sent, gets)


def bad(name: str, *sent: bytes | str, cause: str = "invalid_response") -> Reply:
    """Nothing of it reaches the client."""
    return Reply(name, sent, None, cause)


def cut(name: str, *sent: bytes | str, gets: Relay = CUT, cause: str = "invalid_response") -> Reply:
    """It goes wrong after it began: the client sees that it is incomplete."""
    return Reply(name, sent, gets, cause)


def field(line: bytes) -> bytes:
    """A response with one header more."""
    return head(line, L2) + b"{}"


INTERIM = [
    good("100 first", b"HTTP/1.1 100 Continue\r\n\r\n" + PLAIN),
    good("100 in a piece of its own", b"HTTP/1.1 100 Continue\r\n\r\n", PLAIN),
    good("102 and 103", head(status=b"102 Processing") + head(b"link: </x>", status=b"103 Early Hints"), PLAIN),
    good("199", head(b"x: y", status=b"199 Whatever") + PLAIN),
    good("many interim responses", b"HTTP/1.1 100 Continue\r\n\r\n" * 30, PLAIN),
    bad("interim responses without end", *[b"HTTP/1.1 100 Continue\r\n\r\n" * 30] * 4, cause="response_head_too_large"),
    bad("100 with a length", head(b"content-length: 5", status=b"100 Continue") + b"hello" + PLAIN),
    bad("100 with a length of zero", head(b"content-length: 0", status=b"100 Continue") + PLAIN),
    bad("103 with chunks", head(TE, status=b"103 Early Hints") + b"0\r\n\r\n" + PLAIN),
    bad("104 with a body", head(b"content-length: 5", status=b"104 X") + b"hello" + PLAIN),
    bad("101 unasked", head(b"upgrade: websocket", b"connection: upgrade", status=b"101 Switching Protocols") + b"xyz"),
    bad("101 without Upgrade", head(status=b"101 Switching Protocols") + PLAIN),
    bad("100, then the end", b"HTTP/1.1 100 Continue\r\n\r\n", CLOSE, cause="closed"),
    odd("100 behind the response", PLAIN + b"HTTP/1.1 100 Continue\r\n\r\n"),
]

STATUS_LINES = [
    good("plain", PLAIN),
    good("no reason phrase", head(L2, status=b"200 ") + b"{}"),
    good("no blank behind the status", head(L2, status=b"200") + b"{}"),
    good("another reason phrase", head(L2, status=b"200 Fine by me") + b"{}", gets=relayed(L2, status=b"200 Fine by me", body=b"{}")),
    good("obs-text in the reason phrase", head(L2, status=b"200 d\xe9j\xe0") + b"{}", gets=relayed(L2, status=b"200 d\xe9j\xe0", body=b"{}")),
    bad("NUL in the reason phrase", head(L2, status=b"200 O\0K") + b"{}"),
    bad("control character in the reason phrase", head(L2, status=b"200 O\x1bK") + b"{}"),
    bad("carriage return in the reason phrase", head(L2, status=b"200 O\rK") + b"{}"),
    bad("line feed in the reason phrase", head(L2, status=b"200 OK\nx: y") + b"{}"),
    bad("reason phrase over the limit", head(L2, status=b"200 " + b"x" * 2001) + b"{}", cause="response_head_too_large"),
    bad("status 000", head(L2, status=b"000 X") + b"{}"),
    bad("status 099", head(L2, status=b"099 X") + b"{}"),
    bad("status 600", head(L2, status=b"600 X") + b"{}"),
    bad("status 999", head(L2, status=b"999 X") + b"{}"),
    bad("status of two digits", head(L2, status=b"20 X") + b"{}"),
    bad("status of four digits", head(L2, status=b"2000 X") + b"{}"),
    bad("status in letters", head(L2, status=b"abc X") + b"{}"),
    bad("negative status", head(L2, status=b"-200 X") + b"{}"),
    bad("no status", b"HTTP/1.1\r\n\r\n"),
    bad("two blanks before the status", head(L2, status=b" 200 OK") + b"{}"),
    bad("HTTP/0.9", b"hello"),
    bad("HTTP/0.9 line", PLAIN.replace(b"1.1", b"0.9")),
    bad("HTTP/1.2", PLAIN.replace(b"1.1", b"1.2")),
    bad("HTTP/2.0 line", PLAIN.replace(b"1.1", b"2.0")),
    bad("HTTP/2 line", PLAIN.replace(b"1.1", b"2")),
    bad("HTTP/2 frame", b"\0\0\x12\4\0\0\0\0\0"),
    bad("http in lower case", PLAIN.replace(b"HTTP", b"http")),
    bad("ICY", PLAIN.replace(b"HTTP/1.1", b"ICY")),
    bad("TLS alert", b"\x15\x03\x01\x00\x02\x02\x46"),
    bad("JSON alone", b'{"object":"chat.completion"}'),
    bad("a request", b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"),
    bad("blank first", b" " + PLAIN),
    good("empty lines first", b"\r\n\r\n" + PLAIN),
    bad("line feed alone behind the status line", PLAIN.replace(b"OK\r\n", b"OK\n")),
    odd("HTTP/1.0 with a length", PLAIN.replace(b"1.1", b"1.0")),
    good("HTTP/1.0 that keeps alive", b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\n{}"),
    odd("HTTP/1.0 to its end", b"HTTP/1.0 200 OK\r\n\r\n{}", CLOSE, gets=CHUNKED_OK),
]  # fmt: skip

BODILESS = [
    good("204", head(status=b"204 No Content"), gets=relayed(status=b"204 No Content")),
    good("204 with a length", head(L2, status=b"204 No Content"), gets=relayed(status=b"204 No Content")),
    odd("204 with a body", head(L2, status=b"204 No Content") + b"{}", gets=relayed(status=b"204 No Content")),
    odd("204 with chunks", head(TE, status=b"204 No Content") + IN_CHUNKS, gets=relayed(status=b"204 No Content")),
    odd("204 with a response as its body", head(b"content-length: %d" % len(PLAIN), status=b"204 No Content") + PLAIN,
        gets=relayed(status=b"204 No Content")),
    good("304", head(b"etag: x", status=b"304 Not Modified"), gets=relayed(b"etag: x", status=b"304 Not Modified")),
    good("304 with a length", head(L2, status=b"304 Not Modified"), gets=relayed(L2, status=b"304 Not Modified")),
    odd("304 with a body", head(L2, status=b"304 Not Modified") + b"{}", gets=relayed(L2, status=b"304 Not Modified")),
    good("205 with a length of zero", head(b"content-length: 0", status=b"205 Reset Content"),
         gets=relayed(b"content-length: 0", status=b"205 Reset Content")),
    odd("205 to its end", head(status=b"205 Reset Content"), CLOSE,
        gets=relayed(status=b"205 Reset Content", chunked=True)),
    good("200 with a length of zero", head(b"content-length: 0"), gets=relayed(b"content-length: 0")),
]  # fmt: skip

LENGTHS = [
    good("length with blanks around", head(b"content-length: \t2 ") + b"{}"),
    good("length with zeros first", head(b"content-length: 0002") + b"{}"),
    bad("two equal lengths", head(L2, L2) + b"{}"),
    bad("two different lengths", head(L2, b"content-length: 1") + b"{}"),
    bad("length list", head(b"content-length: 2, 2") + b"{}"),
    bad("negative length", head(b"content-length: -2") + b"{}"),
    bad("length with a plus", head(b"content-length: +2") + b"{}"),
    bad("hexadecimal length", head(b"content-length: 0x2") + b"{}"),
    bad("length with a fraction", head(b"content-length: 2.0") + b"{}"),
    bad("length of a word", head(b"content-length: two") + b"{}"),
    bad("empty length", head(b"content-length:") + b"{}"),
    bad("length of 16 digits", head(b"content-length: 9999999999999999") + b"{}"),
    bad("length of 2**64 - 1", head(b"content-length: 18446744073709551615") + b"{}"),
    bad("length of 2**64 + 2", head(b"content-length: 18446744073709551618") + b"{}"),
    bad("length and chunks", head(L2, TE) + IN_CHUNKS),
    bad("chunks and length", head(TE, L2) + IN_CHUNKS),
    cut("body shorter than its length", head(b"content-length: 3") + b"{}", CLOSE, cause="closed",
        gets=relayed(b"content-length: 3", body=b"{}", complete=False, end="reset")),
    cut("huge length, short body", head(b"content-length: 999999999999999") + b"{}", CLOSE, cause="closed",
        gets=relayed(b"content-length: 999999999999999", body=b"{}", complete=False, end="reset")),
    cut("reset in a body with a length", head(b"content-length: 3") + b"{}", RESET, cause="closed",
        gets=relayed(b"content-length: 3", body=b"{}", complete=False, end="reset")),
    odd("body longer than its length", PLAIN + b"}"),
    odd("a second response", PLAIN + head(b"content-length: 6") + b"forged"),
    odd("a second response in a piece of its own", PLAIN, head(b"content-length: 6") + b"forged"),
    odd("half of a second response", PLAIN + b"HTTP/1.1 200 OK\r\nx"),
    odd("an empty line behind the response, and garbage", PLAIN + b"\r\nx"),
]  # fmt: skip

CODINGS = [
    good("chunked", head(TE) + IN_CHUNKS, gets=CHUNKED_OK),
    good("Chunked", head(b"Transfer-Encoding: CHUNKED") + IN_CHUNKS, gets=CHUNKED_OK),
    good("chunked, a blank behind", head(b"transfer-encoding: chunked ") + IN_CHUNKS, gets=CHUNKED_OK),
    bad("gzip, chunked", head(b"transfer-encoding: gzip, chunked") + IN_CHUNKS),
    bad("chunked, gzip", head(b"transfer-encoding: chunked, gzip") + IN_CHUNKS),
    bad("gzip", head(b"transfer-encoding: gzip") + b"{}", CLOSE),
    bad("identity", head(b"transfer-encoding: identity") + b"{}", CLOSE),
    bad("chunked twice", head(TE, TE) + IN_CHUNKS),
    bad("chunked, chunked", head(b"transfer-encoding: chunked, chunked") + IN_CHUNKS),
    bad("xchunked", head(b"transfer-encoding: xchunked") + IN_CHUNKS),
    bad("chunked in quotes", head(b'transfer-encoding: "chunked"') + IN_CHUNKS),
    bad("empty coding", head(b"transfer-encoding:") + b"{}"),
    bad("chunked in HTTP/1.0", head(TE).replace(b"1.1", b"1.0") + IN_CHUNKS),
    bad("blank before the coding's colon", head(b"transfer-encoding : chunked", L2) + b"{}"),
    bad("chunked behind a vertical tab", head(b"transfer-encoding: \x0bchunked") + IN_CHUNKS),
    good("coding with an underscore in its name", head(b"transfer_encoding: chunked", L2) + b"{}",
         gets=relayed(b"transfer_encoding: chunked", L2, body=b"{}")),
]  # fmt: skip

CHUNKS = [
    good("chunk extensions are dropped", head(TE) + b'1;a=b\r\n{\r\n1;c="d"\r\n}\r\n0;e\r\n\r\n', gets=CHUNKED_OK),
    good("chunk sizes with zeros first", head(TE) + b"0002\r\n{}\r\n00\r\n\r\n", gets=CHUNKED_OK),
    good("trailers are dropped", head(TE, b"trailer: x-late") + b"2\r\n{}\r\n0\r\nX-Late: 1\r\nPortcullis-Reason: x\r\n\r\n", gets=CHUNKED_OK),
    odd("close in a trailer", head(TE) + b"2\r\n{}\r\n0\r\nconnection: close\r\n\r\n", gets=CHUNKED_OK),
    good("chunks byte by byte", *[bytes([byte]) for byte in head(TE) + IN_CHUNKS], gets=CHUNKED_OK),
    good("a last chunk in pieces", head(TE) + b"2\r\n{}\r\n", b"0", b"\r", b"\n\r", b"\n", gets=CHUNKED_OK),
    bad("chunk size that is none, at once", head(TE) + b"x\r\n"),
    bad("chunk size with a minus, at once", head(TE) + b"-2\r\n{}\r\n0\r\n\r\n"),
    bad("chunk size with 0x, at once", head(TE) + b"0x2\r\n{}\r\n0\r\n\r\n"),
    bad("blank behind a chunk size, at once", head(TE) + b"2 \r\n{}\r\n0\r\n\r\n"),
    bad("chunk size over 64 bits, at once", head(TE) + b"10000000000000002\r\n{}\r\n0\r\n\r\n"),
    bad("line feed alone behind a chunk size, at once", head(TE) + b"2\n{}\r\n0\r\n\r\n"),
    bad("line feed in a chunk extension, at once", head(TE) + b"2;a\n{}\r\n0\r\n\r\n"),
    bad("chunk longer than its size, at once", head(TE) + b"1\r\n{}\r\n0\r\n\r\n"),
    cut("chunk size that is none, later", head(TE) + b"2\r\n{}\r\n", b"x\r\n"),
    cut("chunk longer than its size, later", head(TE) + b"2\r\n{}\r\n", b"1\r\nab\r\n0\r\n\r\n",
        gets=relayed(body=b"{}a", chunked=True, complete=False, end="closed")),
    cut("chunk shorter than its size", head(TE) + b"3\r\n{}", CLOSE, cause="closed"),
    cut("no last chunk", head(TE) + b"2\r\n{}\r\n", CLOSE, cause="closed"),
    cut("no end behind the last chunk", head(TE) + b"2\r\n{}\r\n0\r\n", CLOSE, cause="closed"),
    cut("reset behind a chunk", head(TE) + b"2\r\n{}\r\n", RESET, cause="closed"),
    cut("trailer without a colon", head(TE) + b"2\r\n{}\r\n", b"0\r\nx\r\n\r\n"),
    cut("NUL in a trailer", head(TE) + b"2\r\n{}\r\n", b"0\r\nx: \0\r\n\r\n"),
    cut("trailers over the limit", head(TE) + b"2\r\n{}\r\n", b"0\r\n", b"x: " + b"y" * 2100, cause="response_head_too_large"),
    odd("a response behind the last chunk", head(TE) + IN_CHUNKS + PLAIN, gets=CHUNKED_OK),
]  # fmt: skip

FIELDS = [
    good("obs-text in a value", field(b"x: caf\xe9"), gets=relayed(b"x: caf\xe9", L2, body=b"{}")),
    good("empty value", field(b"x:"), gets=relayed(b"x: ", L2, body=b"{}")),
    good("the same header twice", field(b"Set-Cookie: a=1\r\nSet-Cookie: b=2"), gets=relayed(b"set-cookie: a=1", b"set-cookie: b=2", L2, body=b"{}")),
    good("encoded CR LF stays encoded", field(b"location: /%0d%0ax:y"), gets=relayed(b"location: /%0d%0ax:y", L2, body=b"{}")),
    bad("carriage return in a value", field(b"x: a\rset-cookie: b=1")),
    bad("line feed in a value", field(b"x: a\nset-cookie: b=1")),
    bad("NUL in a value", field(b"x: a\0b")),
    bad("control character in a value", field(b"x: a\x08b")),
    bad("DEL in a value", field(b"x: a\x7fb")),
    bad("folded value", field(b"x: a\r\n b")),
    bad("carriage return in a name", field(b"x\ry: a")),
    bad("line feed in a name", field(b"x\ny: a")),
    bad("NUL in a name", field(b"x\0y: a")),
    bad("blank before the colon", field(b"x : a")),
    bad("blank before the first header", field(b" x: a")),
    bad("no colon", field(b"x")),
    bad("no name", field(b": a")),
    bad("separator in a name", field(b"x(y: a")),
    bad("obs-text in a name", field(b"x\xe9: a")),
    odd("splitting: a whole response within a value", head(b"x: a\r\ncontent-length: 0\r\n\r\nHTTP/1.1 200 OK", L2) + b"{}",
        gets=relayed(b"x: a", b"content-length: 0")),
    good("the gateway's own headers are the gateway's", field(b"Portcullis-Reason: x\r\nportcullis-revision: 9\r\nPORTCULLIS-X: y")),
    good("headers of one connection", field(b"keep-alive: timeout=5\r\nproxy-connection: x\r\nte: x\r\nupgrade: h2c\r\nproxy-authenticate: x")),
    good("nominated headers", field(b"x: y\r\nconnection: X, z\r\nz: 1")),
    good("nominated length stays", field(b"connection: content-length")),
    odd("connection: close", field(b"connection: close")),
    odd("connection: x, Close", field(b"connection: x, Close\r\nx: y")),
    good("as many headers as allowed", head(*[b"x: y"] * 19, L2) + b"{}", gets=relayed(*[b"x: y"] * 19, L2, body=b"{}")),
    bad("one header more", head(*[b"x: y"] * 20, L2) + b"{}", cause="response_head_too_large"),
    bad("head over the limit at once", head(b"x: " + b"y" * 2000, L2) + b"{}", cause="response_head_too_large"),
    bad("head over the limit in pieces", head(b"x: " + b"y" * 2100)[:1500], b"y" * 600, cause="response_head_too_large"),
    good("redirect", head(b"location: http://evil.example/", b"content-length: 0", status=b"302 Found"),
         gets=relayed(b"location: http://evil.example/", b"content-length: 0", status=b"302 Found")),
    good("426", head(b"upgrade: h2c", b"connection: upgrade", b"content-length: 0", status=b"426 Upgrade Required"),
         gets=relayed(b"content-length: 0", status=b"426 Upgrade Required")),
]  # fmt: skip

OLD = post(line=b"POST /openai/v1/chat/completions HTTP/1.0")

ENDS = [
    good("byte by byte", *[bytes([byte]) for byte in PLAIN]),
    odd("body to the connection's end", head() + b"{", b"}", CLOSE, gets=CHUNKED_OK),
    odd("no body to the connection's end", head(), CLOSE, gets=relayed(chunked=True)),
    cut("reset instead of the end", head() + b"{}", RESET, cause="closed"),
    good("a GET is answered alike", PLAIN, request=get()),
    good("HTTP/1.0 client, length", PLAIN, gets=relayed(L2, body=b"{}", close=True, end="closed"), request=OLD),
    good("HTTP/1.0 client, chunks", head(TE) + IN_CHUNKS, gets=relayed(body=b"{}", close=True, end="closed"), request=OLD),
    Reply("HTTP/1.0 client, body to the end", (head() + b"{}", CLOSE), relayed(body=b"{}", close=True, end="closed"), request=OLD),
    Reply("HTTP/1.0 client, chunks without end", (head(TE) + b"2\r\n{}\r\n", CLOSE),
          relayed(body=b"{}", close=True, end="reset", complete=False), "closed", request=OLD),
    bad("close before any byte", CLOSE, cause="closed"),
    bad("reset before any byte", RESET, cause="closed"),
    bad("close in the status line", b"HTTP/1.1 2", CLOSE, cause="closed"),
    bad("close in the head", head(L2)[:-2], CLOSE, cause="closed"),
    bad("reset in the head", head(L2)[:-2], RESET, cause="closed"),
    Reply("close of a connection used before: one more try", (CLOSE,), PLAINLY, kept=True, used_before=True),
    Reply("reset of a connection used before: one more try", (RESET,), PLAINLY, kept=True, used_before=True),
    Reply("a byte of a connection used before: no other try", (b"H", CLOSE), None, "closed", used_before=True),
    Reply("100 of a connection used before: no other try", (b"HTTP/1.1 100 Continue\r\n\r\n", CLOSE), None, "closed",
          used_before=True),
]  # fmt: skip

REPLIES = [*INTERIM, *STATUS_LINES, *BODILESS, *LENGTHS, *CODINGS, *CHUNKS, *FIELDS, *ENDS]
