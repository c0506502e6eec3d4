"""Hostile HTTP/1.1 of clients, as data: what is sent, what is answered, what the provider gets.

``answers`` are statuses in their order; a refusal's reason follows from its status (``REASONS``). ``seen`` are the
exact bytes that reach the provider, whose address reads ``upstream``. ``end`` says how the connection is left:

=========  =========================================================================================
open       another request on it is served
closed     the gateway ends it, orderly: what it said can be read, also by one who is still sending
waits      the gateway waits for the rest; at the deadline it answers 408 and closes
=========  =========================================================================================

Where nginx or HAProxy do something else, ``http_peers`` says why. The limits are small (``LIMITS``), so that a case can stand at one and just over it.
"""

from dataclasses import dataclass

LIMITS = {"head_bytes": 2000, "header_count": 20, "body_bytes": 5000, "pipelined": 3}

REASONS = {
    400: "malformed", 401: "unauthenticated", 404: "operation_not_listed", 408: "malformed", 413: "malformed",
    415: "malformed", 417: "malformed", 431: "malformed",
}  # fmt: skip

EOF = None
"""A piece: the client half-closes."""


@dataclass(frozen=True, slots=True)
class Case:
    """One connection of a client."""

    name: str
    sent: tuple[bytes | None, ...]
    answers: tuple[int, ...]
    seen: tuple[bytes, ...] = ()
    end: str = "open"
    says: str = ""


BODY = b'{"model":"gpt-5.4"}'
LINE = b"POST /openai/v1/chat/completions HTTP/1.1"
HEADERS = b"Host: gate\r\nAuthorization: Bearer pc-alice\r\nContent-Type: application/json\r\n"
GET_PATH = b"/openai/v1/models/gpt-5.4"


def raw(*lines: bytes, line: bytes = LINE, headers: bytes = HEADERS, body: bytes = BODY) -> bytes:
    """A request whose framing headers the case writes itself."""
    return line + b"\r\n" + headers + b"".join(one + b"\r\n" for one in lines) + b"\r\n" + body


def post(*lines: bytes, line: bytes = LINE, headers: bytes = HEADERS, body: bytes = BODY) -> bytes:
    """A request with a length."""
    return raw(*lines, b"Content-Length: %d" % len(body), line=line, headers=headers, body=body)


def chunks(body: bytes, *lines: bytes) -> bytes:
    """A request in chunks, which the case writes itself."""
    return raw(*lines, b"Transfer-Encoding: chunked", body=body)


def get(*lines: bytes, target: bytes = GET_PATH, version: bytes = b"1.1") -> bytes:
    """A request without a body."""
    return raw(
        *lines, line=b"GET %b HTTP/%b" % (target, version), headers=b"Host: gate\r\nAuthorization: Bearer pc-alice\r\n",
        body=b"",
    )  # fmt: skip


def seen(*lines: bytes, body: bytes = BODY) -> bytes:
    """What the provider gets of a POST."""
    head = (
        b"POST /openai/v1/chat/completions HTTP/1.1\r\nhost: upstream\r\nAuthorization: Bearer sk-provider\r\n"
        b"content-type: application/json\r\n"
    )
    return head + b"".join(one + b"\r\n" for one in lines) + b"content-length: %d\r\n\r\n%b" % (len(body), body)


def seen_get(*lines: bytes, target: bytes = GET_PATH) -> bytes:
    """What the provider gets of a GET."""
    head = b"GET %b HTTP/1.1\r\nhost: upstream\r\nAuthorization: Bearer sk-provider\r\n" % target
    return head + b"".join(one + b"\r\n" for one in lines) + b"\r\n"


def served(name: str, *sent: bytes | None, as_: bytes | None = None, end: str = "open", **fields: str) -> Case:
    """It is read, and goes on."""
    return Case(name, sent, (200,), (seen() if as_ is None else as_,), end, **fields)


def refused(name: str, *sent: bytes | None, status: int = 400, end: str = "closed", **fields: str) -> Case:
    """It is refused, and nothing goes on."""
    return Case(name, sent, (status,), (), end, **fields)


def line(text: bytes) -> bytes:
    """A GET with this request line."""
    return text + b"\r\nHost: gate\r\nAuthorization: Bearer pc-alice\r\n\r\n"


CHUNKED_BODY = b"13\r\n" + BODY + b"\r\n0\r\n\r\n"
SIZES = b"X-Filler: "


def sized(total: int) -> bytes:
    """A GET whose target and headers, at four bytes a header, come to ``total``."""
    own = len(GET_PATH) + len(b"HostgateAuthorizationBearer pc-aliceX-Filler") + 3 * 4
    return get(SIZES + b"x" * (total - own))


def counted(total: int) -> bytes:
    """A GET with so many headers."""
    return get(*[b"X-%d: y" % n for n in range(total - 2)])


REQUEST_LINES = [
    served("plain POST", post()),
    served("plain GET", get(), as_=seen_get()),
    refused("method in lower case", line(b"get /openai/v1/models/gpt-5.4 HTTP/1.1")),
    refused("method that does not exist", line(b"FROB /openai/v1/models/gpt-5.4 HTTP/1.1")),
    refused("method that no operation has", line(b"QUERY /openai/v1/models/gpt-5.4 HTTP/1.1"), status=404, end="open"),
    refused("method with a separator", line(b"GE(T /openai/v1/models/gpt-5.4 HTTP/1.1")),
    refused("no method", line(b" /openai/v1/models/gpt-5.4 HTTP/1.1")),
    refused("blank before the method", b" " + get()),
    refused("tab after the method", line(b"GET\t/openai/v1/models/gpt-5.4 HTTP/1.1")),
    served("two blanks after the method", line(b"GET  /openai/v1/models/gpt-5.4 HTTP/1.1"), as_=seen_get()),
    served("two blanks before the version", line(b"GET /openai/v1/models/gpt-5.4  HTTP/1.1"), as_=seen_get()),
    refused("tab before the version", line(b"GET /openai/v1/models/gpt-5.4\tHTTP/1.1")),
    refused("blank after the version", line(b"GET /openai/v1/models/gpt-5.4 HTTP/1.1 ")),
    refused("no version", b"GET /openai/v1/models/gpt-5.4\r\n\r\n"),
    refused("no version, but headers", line(b"GET /openai/v1/models/gpt-5.4")),
    refused("HTTP/0.9", line(b"GET /openai/v1/models/gpt-5.4 HTTP/0.9")),
    refused("HTTP/1", line(b"GET /openai/v1/models/gpt-5.4 HTTP/1")),
    refused("HTTP/1.2", line(b"GET /openai/v1/models/gpt-5.4 HTTP/1.2")),
    refused("HTTP/1.10", line(b"GET /openai/v1/models/gpt-5.4 HTTP/1.10")),
    refused("HTTP/01.1", line(b"GET /openai/v1/models/gpt-5.4 HTTP/01.1")),
    refused("HTTP/1,1", line(b"GET /openai/v1/models/gpt-5.4 HTTP/1,1")),
    refused("HTTP/2.0 without its preface", line(b"GET /openai/v1/models/gpt-5.4 HTTP/2.0")),
    refused("HTTP/3.0", line(b"GET /openai/v1/models/gpt-5.4 HTTP/3.0")),
    refused("version in lower case", line(b"GET /openai/v1/models/gpt-5.4 http/1.1")),
    served(  # llhttp reads RTSP as well, and says HTTP/1.0; what goes on is HTTP/1.1
        "another protocol", line(b"GET /openai/v1/models/gpt-5.4 RTSP/1.0"), as_=seen_get(), end="closed"
    ),
    refused("a protocol that nobody knows", line(b"GET /openai/v1/models/gpt-5.4 SPDY/1.1")),
    refused("third word and a fourth", line(b"GET /openai/v1/models/gpt-5.4 x HTTP/1.1")),
    refused("line feed alone after the request line", get().replace(b"HTTP/1.1\r\n", b"HTTP/1.1\n")),
    refused("line feeds alone everywhere", get().replace(b"\r\n", b"\n")),
    refused("carriage return alone after the request line", get().replace(b"HTTP/1.1\r\n", b"HTTP/1.1\r")),
    refused("two carriage returns and a line feed", get().replace(b"HTTP/1.1\r\n", b"HTTP/1.1\r\r\n")),
    refused("NUL in the method", line(b"G\0ET /openai/v1/models/gpt-5.4 HTTP/1.1")),
    refused("NUL in the target", line(b"GET /openai/v1/models/gpt-5.4\0 HTTP/1.1")),
    served("an empty line first", b"\r\n" + get(), as_=seen_get()),
    served("three empty lines first", b"\r\n\r\n", b"\r\n" + get(), as_=seen_get()),
    served("line feeds alone first", b"\n\n" + get(), as_=seen_get()),
    refused("empty lines without end", b"\r\n" * 1200, status=431),
    Case("an empty line behind a body", (post() + b"\r\n" + get(),), (200, 200), (seen(), seen_get())),
    served("byte by byte", *[bytes([byte]) for byte in post()]),
    served("cut within the request line", post()[:9], post()[9:]),
    served("cut between CR and LF", get()[:-1], get()[-1:], as_=seen_get()),
]

TARGETS = [
    refused("absolute form", get(target=b"http://gate/openai/v1/models/gpt-5.4")),
    refused("absolute form of another host", get(target=b"http://evil.example/openai/v1/models/gpt-5.4")),
    refused("absolute form of another scheme", get(target=b"gopher://gate/openai/v1/models/gpt-5.4")),
    refused("authority form", get(target=b"gate:443")),
    refused("asterisk", line(b"OPTIONS * HTTP/1.1")),
    refused("asterisk with GET", get(target=b"*")),
    refused("relative", get(target=b"openai/v1/models/gpt-5.4")),
    refused("query alone", get(target=b"?x=y")),
    refused("no target", line(b"GET HTTP/1.1")),
    refused("no target, two blanks", line(b"GET  HTTP/1.1")),
    refused("fragment", get(target=GET_PATH + b"#x")),
    refused("dot segments", get(target=b"/openai/v1/../v1/models/gpt-5.4")),
    refused("dot segments beyond the root", get(target=b"/../../openai/v1/models/gpt-5.4")),
    refused("encoded dot segments", get(target=b"/openai/v1/%2e%2e/v1/models/gpt-5.4")),
    refused("encoded slash", get(target=b"/openai/v1%2fmodels/gpt-5.4"), end="open"),
    refused("encoded letter", get(target=b"/openai/v1/models/gpt-5%2e4")),
    refused("encoded NUL", get(target=GET_PATH + b"%00")),
    refused("encoded CR LF", get(target=GET_PATH + b"%0d%0aX:%20y")),
    refused("percent without digits", get(target=GET_PATH + b"%zz")),
    refused("two slashes", get(target=b"/openai//v1/models/gpt-5.4")),
    refused("two slashes first", get(target=b"//openai/v1/models/gpt-5.4")),
    refused("backslash", get(target=b"\\openai\\v1\\models\\gpt-5.4")),
    refused("path parameters", get(target=GET_PATH + b";v=1")),
    refused("UTF-8", get(target="/openai/v1/modèls".encode())),
    refused("quote", get(target=GET_PATH + b'"')),
    refused("braces", get(target=GET_PATH + b"{}")),
    refused("DEL", get(target=GET_PATH + b"\x7f")),
    refused("model in the query", post(line=b"POST /openai/v1/chat/completions?model=K HTTP/1.1")),
    refused("encoded model in the query", post(line=b"POST /openai/v1/chat/completions?%6dodel=K HTTP/1.1")),
    served(
        "a harmless query",
        get(target=GET_PATH + b"?limit=2&a=b%20c"),
        as_=seen_get(target=GET_PATH + b"?limit=2&a=b%20c"),
    ),
    refused("another operation", get(target=b"/openai/v1/organization"), status=404, end="open"),
    refused("slash at the end", post(line=b"POST /openai/v1/chat/completions/ HTTP/1.1"), status=404),
]

HOSTS = [
    refused("no Host", get().replace(b"Host: gate\r\n", b"")),
    refused("two equal Hosts", get(b"Host: gate")),
    refused("two different Hosts", get(b"Host: evil.example")),
    refused("empty Host", get().replace(b"Host: gate", b"Host:")),
    refused("Host list", get().replace(b"Host: gate", b"Host: gate, evil.example")),
    refused("Host with a user", get().replace(b"Host: gate", b"Host: user@gate")),
    refused("Host with a path", get().replace(b"Host: gate", b"Host: gate/x")),
    refused("Host with a blank", get().replace(b"Host: gate", b"Host: gate evil")),
    refused("Host in UTF-8", get().replace(b"Host: gate", "Host: gäte".encode())),
    refused("Host with a NUL", get().replace(b"Host: gate", b"Host: gate\0evil")),
    refused("Host too long", get().replace(b"Host: gate", b"Host: " + b"h" * 256)),
    served("Host with a port", get().replace(b"Host: gate", b"Host: gate:8080"), as_=seen_get()),
    served("Host as an IPv6 address", get().replace(b"Host: gate", b"Host: [::1]:8080"), as_=seen_get()),
    served("Host with blanks around", get().replace(b"Host: gate", b"Host: \t gate \t "), as_=seen_get()),
    served("HOST", get().replace(b"Host: gate", b"HOST:gate"), as_=seen_get()),
    refused("blank before Host's colon", get().replace(b"Host: gate", b"Host : gate")),
    refused("X-Forwarded-Host does not replace it", get(b"X-Forwarded-Host: gate").replace(b"Host: gate\r\n", b"")),
]

WRONG_BODY = (400, 400)
"""A body that ends too early is no JSON, and what follows is no request."""

LENGTHS = [
    refused("two equal lengths", post(b"Content-Length: 19")),
    refused("two different lengths", post(b"Content-Length: 20")),
    refused("length list, equal", raw(b"Content-Length: 19, 19")),
    refused("length list, different", raw(b"Content-Length: 19, 20")),
    refused("length with a plus", raw(b"Content-Length: +19")),
    refused("length with a minus", raw(b"Content-Length: -19")),
    refused("length of minus zero", raw(b"Content-Length: -0")),
    refused("hexadecimal length", raw(b"Content-Length: 0x13")),
    refused("length with an underscore", raw(b"Content-Length: 1_9")),
    refused("length with an exponent", raw(b"Content-Length: 19e0")),
    refused("length with a fraction", raw(b"Content-Length: 19.0")),
    refused("length in quotes", raw(b'Content-Length: "19"')),
    refused("length with a blank within", raw(b"Content-Length: 1 9")),
    refused("length with a vertical tab", raw(b"Content-Length: \x0b19")),
    refused("length in other digits", raw("Content-Length: ١٩".encode())),
    refused("empty length", raw(b"Content-Length:")),
    refused("length of 2**64 + 19", raw(b"Content-Length: 18446744073709551635")),
    refused("length of 2**64 - 1", raw(b"Content-Length: 18446744073709551615")),
    refused("length of 16 digits", raw(b"Content-Length: 0000000000000019")),
    refused("length with an underscore in its name", post(b"Content_Length: 2")),
    served("length with zeros first", raw(b"Content-Length: 00019")),
    served("length with blanks around", raw(b"Content-Length: \t19 \t")),
    served("length at the limit", post(body=BODY + b" " * 4981), as_=seen(body=BODY + b" " * 4981)),
    refused("length one over the limit", post(body=BODY + b" " * 4982), status=413),
    refused("length far over the limit, no body yet", raw(b"Content-Length: 999999999999999", body=b""), status=413),
    Case("body longer than its length", (raw(b"Content-Length: 18"),), WRONG_BODY, end="closed"),
    Case("a body of length zero", (raw(b"Content-Length: 0"),), WRONG_BODY, end="closed"),
    Case("a body without a length", (raw(),), WRONG_BODY, end="closed"),
    Case("body shorter than its length", (raw(b"Content-Length: 20"),), (408,), end="waits"),
    Case("a head alone", (raw(b"Content-Length: 19", body=b""),), (408,), end="waits"),
    served("body in pieces", raw(b"Content-Length: 19", body=b""), BODY[:5], BODY[5:6], BODY[6:]),
    refused("GET with a body", get(b"Content-Length: 2") + b"{}"),
    refused("GET with chunks", get(b"Transfer-Encoding: chunked") + b"0\r\n\r\n"),
    served("GET with a length of zero", get(b"Content-Length: 0"), as_=seen_get()),
    Case(
        "a request within a GET's body",
        (get(b"Content-Length: %d" % len(get())) + get(),), (400,), end="closed",
    ),
]  # fmt: skip

SMUGGLED = b"0\r\n\r\nGET /openai/v1/models/gpt-5.4 HTTP/1.1\r\nX: "

CODINGS = [
    served("chunked", chunks(CHUNKED_BODY)),
    served("Chunked", raw(b"Transfer-Encoding: ChUnKeD", body=CHUNKED_BODY)),
    served("chunked, blanks around", raw(b"Transfer-Encoding: \tchunked ", body=CHUNKED_BODY)),
    refused("chunked, a tab behind", raw(b"Transfer-Encoding: chunked\t", body=CHUNKED_BODY)),
    served("TRANSFER-ENCODING", raw(b"TRANSFER-ENCODING:chunked", body=CHUNKED_BODY)),
    refused("length, then chunks", post(b"Transfer-Encoding: chunked", body=CHUNKED_BODY)),
    refused("chunks, then length", raw(b"Transfer-Encoding: chunked", b"Content-Length: 5", body=CHUNKED_BODY)),
    refused("CL.TE smuggling", post(b"Transfer-Encoding: chunked", body=SMUGGLED)),
    refused("TE.CL smuggling", raw(b"Content-Length: 4", b"Transfer-Encoding: chunked", body=b"5c\r\n" + get())),
    refused("length and identity", post(b"Transfer-Encoding: identity")),
    refused("chunked twice", chunks(CHUNKED_BODY, b"Transfer-Encoding: chunked")),
    refused("chunked, then another", chunks(CHUNKED_BODY, b"Transfer-Encoding: cow")),
    refused("chunked, chunked", raw(b"Transfer-Encoding: chunked, chunked", body=CHUNKED_BODY)),
    refused("gzip, chunked", raw(b"Transfer-Encoding: gzip, chunked", body=CHUNKED_BODY)),
    refused("chunked, gzip", raw(b"Transfer-Encoding: chunked, gzip", body=CHUNKED_BODY)),
    refused("identity", raw(b"Transfer-Encoding: identity", body=CHUNKED_BODY)),
    refused("identity, chunked", raw(b"Transfer-Encoding: identity, chunked", body=CHUNKED_BODY)),
    refused("xchunked", raw(b"Transfer-Encoding: xchunked", body=CHUNKED_BODY)),
    refused("chunkedx", raw(b"Transfer-Encoding: chunkedx", body=CHUNKED_BODY)),
    refused("chunked with a parameter", raw(b"Transfer-Encoding: chunked;q=1", body=CHUNKED_BODY)),
    refused("chunked in quotes", raw(b'Transfer-Encoding: "chunked"', body=CHUNKED_BODY)),
    refused("chunked with a comma", raw(b"Transfer-Encoding: ,chunked", body=CHUNKED_BODY)),
    refused("empty coding", raw(b"Transfer-Encoding:", body=CHUNKED_BODY)),
    refused("chunked behind a vertical tab", raw(b"Transfer-Encoding: \x0bchunked", body=CHUNKED_BODY)),
    refused("chunked behind a NUL", raw(b"Transfer-Encoding: \0chunked", body=CHUNKED_BODY)),
    refused("chunked behind obs-text", raw(b"Transfer-Encoding: \xffchunked", body=CHUNKED_BODY)),
    refused("chunked behind a fold", raw(b"Transfer-Encoding:\r\n chunked", body=CHUNKED_BODY)),
    refused("blank before the coding's colon", raw(b"Transfer-Encoding : chunked", body=CHUNKED_BODY)),
    refused("coding behind a line feed alone", raw(b"X: y\nTransfer-Encoding: chunked", body=CHUNKED_BODY)),
    refused("coding behind a carriage return alone", raw(b"X: y\rTransfer-Encoding: chunked", body=CHUNKED_BODY)),
    refused("coding with an underscore in its name", post(b"Transfer_Encoding: chunked")),
    refused("chunked in HTTP/1.0", raw(
        b"Transfer-Encoding: chunked", line=LINE.replace(b"1.1", b"1.0"), body=CHUNKED_BODY,
    )),
]  # fmt: skip

CHUNKS = [
    served("two chunks", chunks(b"9\r\n" + BODY[:9] + b"\r\nA\r\n" + BODY[9:] + b"\r\n0\r\n\r\n")),
    served("chunk sizes in both cases", chunks(b"a\r\n" + BODY[:10] + b"\r\n9\r\n" + BODY[10:] + b"\r\n0\r\n\r\n")),
    served("chunk size with zeros first", chunks(b"000000000013\r\n" + BODY + b"\r\n000\r\n\r\n")),
    served("chunk extension", chunks(b"13;a=b\r\n" + BODY + b"\r\n0;c\r\n\r\n")),
    served("quoted chunk extension", chunks(b'13;a="b;c"\r\n' + BODY + b"\r\n0\r\n\r\n")),
    refused("chunk extension without an end", chunks(b"13;" + b"a" * 2100), status=431),
    refused("line feed in a chunk extension", chunks(b"13;a\n" + BODY + b"\r\n0\r\n\r\n")),
    refused("carriage return in a chunk extension", chunks(b"13;a\rb\r\n" + BODY + b"\r\n0\r\n\r\n")),
    refused("NUL in a chunk extension", chunks(b"13;a\0\r\n" + BODY + b"\r\n0\r\n\r\n")),
    refused("no chunk size", chunks(b"\r\n" + BODY + b"\r\n0\r\n\r\n")),
    refused("chunk size that is none", chunks(b"x\r\n" + BODY + b"\r\n0\r\n\r\n")),
    refused("chunk size with a plus", chunks(b"+13\r\n" + BODY + b"\r\n0\r\n\r\n")),
    refused("chunk size with a minus", chunks(b"-13\r\n" + BODY + b"\r\n0\r\n\r\n")),
    refused("chunk size with 0x", chunks(b"0x13\r\n" + BODY + b"\r\n0\r\n\r\n")),
    refused("chunk size with an underscore", chunks(b"1_3\r\n" + BODY + b"\r\n0\r\n\r\n")),
    refused("blank before a chunk size", chunks(b" 13\r\n" + BODY + b"\r\n0\r\n\r\n")),
    refused("blank after a chunk size", chunks(b"13 \r\n" + BODY + b"\r\n0\r\n\r\n")),
    refused("chunk size over 64 bits", chunks(b"10000000000000013\r\n" + BODY + b"\r\n0\r\n\r\n")),
    refused("chunk size over the limit", chunks(b"fffffff\r\n" + b"x" * 5001), status=413),
    refused("chunks one over the limit", chunks(b"1389\r\n" + b" " * 5001 + b"\r\n0\r\n\r\n"), status=413),
    served(
        "chunks at the limit", chunks(b"1388\r\n" + BODY + b" " * 4981 + b"\r\n0\r\n\r\n"), as_=seen(body=BODY + b" " * 4981),
    ),
    refused("line feed alone after a chunk size", chunks(b"13\n" + BODY + b"\r\n0\r\n\r\n")),
    refused("carriage return alone after a chunk size", chunks(b"13\r" + BODY + b"\r\n0\r\n\r\n")),
    refused("line feed alone after a chunk", chunks(b"13\r\n" + BODY + b"\n0\r\n\r\n")),
    refused("nothing after a chunk", chunks(b"13\r\n" + BODY + b"0\r\n\r\n")),
    refused("chunk longer than its size", chunks(b"12\r\n" + BODY + b"\r\n0\r\n\r\n")),
    Case("chunk shorter than its size", (chunks(b"14\r\n" + BODY),), (408,), end="waits"),
    Case("no last chunk", (chunks(b"13\r\n" + BODY + b"\r\n"),), (408,), end="waits"),
    Case("no end after the last chunk", (chunks(b"13\r\n" + BODY + b"\r\n0\r\n"),), (408,), end="waits"),
    refused("line feed alone at the end", chunks(b"13\r\n" + BODY + b"\r\n0\r\n\n")),
    served("trailers", chunks(b"13\r\n" + BODY + b"\r\n0\r\nX-Late: 1\r\n\r\n", b"Trailer: X-Late")),
    served("trailers that mean something in a head", chunks(
        b"13\r\n" + BODY + b"\r\n0\r\nHost: evil\r\nContent-Type: x\r\nPortcullis-Key: k\r\n\r\n",
    )),
    served("close in a trailer", chunks(b"13\r\n" + BODY + b"\r\n0\r\nConnection: close\r\n\r\n"), end="closed"),
    refused("length in a trailer", chunks(b"13\r\n" + BODY + b"\r\n0\r\nContent-Length: 2\r\n\r\n")),
    refused("coding in a trailer", chunks(b"13\r\n" + BODY + b"\r\n0\r\nTransfer-Encoding: x\r\n\r\n")),
    refused("trailer without a colon", chunks(b"13\r\n" + BODY + b"\r\n0\r\nX\r\n\r\n")),
    refused("NUL in a trailer", chunks(b"13\r\n" + BODY + b"\r\n0\r\nX: a\0b\r\n\r\n")),
    refused("folded trailer", chunks(b"13\r\n" + BODY + b"\r\n0\r\nX: a\r\n b\r\n\r\n")),
    refused("trailers over the head's limit", chunks(b"13\r\n" + BODY + b"\r\n0\r\n"), b"X: " + b"x" * 2100, status=431),
    served("chunks byte by byte", *[bytes([byte]) for byte in chunks(CHUNKED_BODY)]),
    Case("a request behind the last chunk", (chunks(CHUNKED_BODY) + get(),), (200, 200), (seen(), seen_get())),
]  # fmt: skip

FIELDS = [
    refused("folded header", post(b"X: a\r\n b")),
    refused("header folded with a tab", post(b"X: a\r\n\tb")),
    refused("fold of nothing", post(b"X:\r\n ")),
    refused("blank before the first header", post(headers=b" X: y\r\n" + HEADERS)),
    refused("blank before the colon", post(b"X : y")),
    refused("tab before the colon", post(b"X\t: y")),
    refused("no colon", post(b"X")),
    refused("no name", post(b": y")),
    refused("NUL in a name", post(b"X\0: y")),
    refused("NUL in a value", post(b"X: a\0b")),
    refused("control character in a value", post(b"X: a\x01b")),
    refused("DEL in a value", post(b"X: a\x7fb")),
    refused("obs-text in a name", post(b"X\xe9: y")),
    refused("separator in a name", post(b"X(: y")),
    refused("carriage return in a value", post(b"X: a\rb")),
    refused("line feed in a value", post(b"X: a\nb: c")),
    refused("line feed alone at the head's end", get()[:-2] + b"\n"),
    refused("two carriage returns in a line's end", post(b"X: y\r")),
    served("obs-text in a value", post(b"X: caf\xe9"), as_=seen(b"x: caf\xe9")),
    served("tab in a value", post(b"X: a\tb"), as_=seen(b"x: a\tb")),
    served("blanks around a value", post(b"X: \t y \t"), as_=seen(b"x: y")),
    served("empty value", post(b"X:"), as_=seen(b"x: ")),
    served("name of many characters", post(b"!#$%&'*+-.^`|~9: y"), as_=seen(b"!#$%&'*+-.^`|~9: y")),
    served("underscore in a name", post(b"X_y: z"), as_=seen(b"x_y: z")),
    refused("underscore in a name that counts", post(b"Portcullis_Key: pc-bob")),
    refused("a header that names another method", post(b"X-HTTP-Method-Override: DELETE")),
    refused("the same with underscores", post(b"X_HTTP_Method_Override: DELETE")),
    served("the same header twice", post(b"X: a", b"X: b"), as_=seen(b"x: a", b"x: b")),
    refused("two content types", post(b"Content-Type: text/plain"), status=415),
    refused("content type of a form", post(headers=HEADERS.replace(b"json", b"x-www-form-urlencoded")), status=415),
    served("content type with blanks behind", post(headers=HEADERS.replace(b"json", b"json \t"))),
    refused("compressed body", post(b"Content-Encoding: br"), status=415),
    refused("two keys", post(b"Portcullis-Key: a", b"Portcullis-Key: a")),
    refused("two different credentials", post(b"Authorization: Bearer pc-bob"), status=401),
    refused("no credential", post(headers=b"Host: gate\r\nContent-Type: application/json\r\n"), status=401),
    served("plain attributes have no effect and go nowhere", post(b"Portcullis-Nationality: US")),
    served("head at the limit", sized(2000), as_=seen_get(b"x-filler: " + sized(2000).partition(b"Filler: ")[2][:-4])),
    refused("head one over the limit", sized(2001), status=431),
    refused("head over the limit, and not at its end", sized(2100)[:-2], status=431),
    refused("head over the limit in pieces", sized(2100)[:1500], sized(2100)[1500:], status=431),
    refused("target over the limit", get(target=b"/" + b"x" * 2000), status=431),
    refused("name over the limit", get(b"x" * 2000 + b": y"), status=431),
    served("as many headers as allowed", counted(20), as_=seen_get(*[b"x-%d: y" % n for n in range(18)])),
    refused("one header more", counted(21), status=431),
    refused("many headers without an end", counted(40)[:-2], status=431),
    Case("a head that does not end", (get()[:-2],), (408,), end="waits"),
    Case("a request line that does not end", (b"GET /openai/v1",), (408,), end="waits"),
]

EXPECT = b"Expect: 100-continue"


def head_of(request: bytes) -> bytes:
    """A request without its body."""
    return request.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"


EXPECTATIONS = [
    Case("100-continue", (head_of(post(EXPECT)), BODY), (100, 200), (seen(),)),
    Case("100-Continue", (head_of(post(b"expect:100-CONTINUE ")), BODY), (100, 200), (seen(),)),
    Case("100-continue with the body behind it", (post(EXPECT),), (100, 200), (seen(),)),
    Case("100-continue with chunks", (head_of(chunks(b"", EXPECT)), CHUNKED_BODY), (100, 200), (seen(),)),
    served("100-continue without a body", get(EXPECT), as_=seen_get()),
    Case("100-continue with a length of zero", (raw(EXPECT, b"Content-Length: 0", body=b""),), (400,)),
    served("100-continue in HTTP/1.0", post(EXPECT, line=LINE.replace(b"1.1", b"1.0")), end="closed"),
    refused("100-continue, the operation is refused", head_of(post(EXPECT, line=b"POST /openai/v1/organization HTTP/1.1")), status=404),
    refused("100-continue, there is no credential", head_of(post(EXPECT, headers=b"Host: gate\r\nContent-Type: application/json\r\n")), status=401),
    refused("100-continue, nobody has this key", head_of(post(EXPECT, headers=HEADERS.replace(b"alice", b"mallory"))), status=401),
    refused("100-continue, no JSON is announced", head_of(post(EXPECT, headers=HEADERS.replace(b"json", b"xml"))), status=415),
    refused("100-continue, the body is too long", head_of(raw(EXPECT, b"Content-Length: 5001")), status=413),
    refused("100-continue, the framing is wrong", head_of(raw(EXPECT, b"Content-Length: 1", b"Content-Length: 2"))),
    refused("100-continue, a GET with a body", head_of(get(EXPECT, b"Content-Length: 5"))),
    refused("another expectation", head_of(post(b"Expect: 200-ok")), status=417),
    refused("two expectations", head_of(post(EXPECT, b"Expect: x")), status=417),
    refused("list of expectations", head_of(post(b"Expect: 100-continue, 100-continue")), status=417),
    refused("empty expectation", head_of(post(b"Expect:")), status=417),
    Case(
        "100-continue, and its body is there when its turn comes",
        (head_of(post(EXPECT)), BODY + head_of(post(EXPECT)), BODY), (100, 200, 200), (seen(), seen()),
    ),
    Case("100-continue and no body", (head_of(post(EXPECT)),), (100, 408), end="waits"),
    Case("100-continue, the body is too long after all", (head_of(chunks(b"", EXPECT)), b"fffff\r\n" + b"x" * 5001), (100, 413), end="closed"),
]  # fmt: skip

NOT_SERVED = get(target=b"/openai/v1/organization")

PIPELINES = [
    Case("two at once", (post() + get(),), (200, 200), (seen(), seen_get())),
    Case("two, cut in the second's head", (post() + get()[:20], get()[20:]), (200, 200), (seen(), seen_get())),
    Case("two, cut in the second's body", (post() + post()[:-5], post()[-5:]), (200, 200), (seen(), seen())),
    Case("a refusal, then one that is served", (NOT_SERVED + get(),), (404, 200), (seen_get(),)),
    Case("served, refused, served", (get() + NOT_SERVED + get(),), (200, 404, 200), (seen_get(), seen_get())),
    Case("as many ahead as allowed", (get() * 4,), (200,) * 4, (seen_get(),) * 4),
    Case("one more ahead", (get() * 5,), (200,) * 4 + (400,), (seen_get(),) * 4, "closed", "Too many requests ahead"),
    Case("many, one by one", (get(),) * 12, (200,) * 12, (seen_get(),) * 12),
    Case("a second that is no request", (get() + b"\0\0\0\0\r\n\r\n",), (200, 400), (seen_get(),), "closed"),
    Case("a second with two lengths", (get() + post(b"Content-Length: 0"),), (200, 400), (seen_get(),), "closed"),
    Case("nothing behind what is no request", (b"\0\r\n\r\n" + get(),), (400,), end="closed"),
    Case("nothing behind a body that is not wanted", (post(line=b"POST /openai/v1/organization HTTP/1.1") + get(),), (404,), end="closed"),
    Case("nothing behind a close", (get(b"Connection: close") + get(),), (200,), (seen_get(),), "closed"),
    Case("nothing behind a close, in pieces", (get(b"Connection: close"), get()), (200,), (seen_get(),), "closed"),
    Case("nothing behind HTTP/1.0", (get(version=b"1.0") + get(),), (200,), (seen_get(),), "closed"),
    Case("second without an end", (get() + get()[:-2],), (200, 408), (seen_get(),), "waits"),
]  # fmt: skip

HTTP_1_0 = [
    served("HTTP/1.0", get(version=b"1.0"), as_=seen_get(), end="closed"),
    served("HTTP/1.0 without Host", get(version=b"1.0").replace(b"Host: gate\r\n", b""), as_=seen_get(), end="closed"),
    served("HTTP/1.0 with keep-alive", get(b"Connection: keep-alive", version=b"1.0"), as_=seen_get(), end="closed"),
    served("HTTP/1.0 with a body", post(line=LINE.replace(b"1.1", b"1.0")), end="closed"),
    Case("HTTP/1.0 with a body and no length", (raw(line=LINE.replace(b"1.1", b"1.0")),), (400,), end="closed"),
    refused("HTTP/1.0, not served", get(target=b"/openai/v1/organization", version=b"1.0"), status=404),
]

METHODS = [
    refused("HEAD of what GET may have", line(b"HEAD /openai/v1/models/gpt-5.4 HTTP/1.1"), status=404, end="open"),
    refused("HEAD of nothing", line(b"HEAD /nothing HTTP/1.1"), status=404, end="open"),
    refused(
        "HEAD with a body", raw(b"Content-Length: 19", line=b"HEAD /openai/v1/models/gpt-5.4 HTTP/1.1"), status=404
    ),
    refused("OPTIONS", line(b"OPTIONS /openai/v1/models/gpt-5.4 HTTP/1.1"), status=404, end="open"),
    refused("TRACE", line(b"TRACE /openai/v1/models/gpt-5.4 HTTP/1.1"), status=404, end="open"),
    refused("CONNECT", line(b"CONNECT gate:443 HTTP/1.1")),
    refused("CONNECT of a path", line(b"CONNECT /openai/v1/models/gpt-5.4 HTTP/1.1"), status=404, end="open"),
    refused("PURGE", line(b"PURGE /openai/v1/models/gpt-5.4 HTTP/1.1"), status=404, end="open"),
    refused("DELETE", line(b"DELETE /openai/v1/models HTTP/1.1"), status=404, end="open"),
]

CONNECTIONS = [
    served("Connection: close", post(b"Connection: close"), end="closed"),
    served("Connection: x, Close", post(b"Connection: x, Close"), end="closed"),
    served("Connection: keep-alive", post(b"Connection: keep-alive")),
    served("Connection: nonsense", post(b"Connection: ,, @ ,")),
    served("two Connection headers", post(b"Connection: x", b"Connection: close", b"X: y"), end="closed"),
    served("a nominated header", post(b"X: y", b"Connection: x")),
    served("a nominated header, named first", post(b"Connection: keep-alive, X", b"X: y", b"Z: 1"), as_=seen(b"z: 1")),
    served("nominated length", post(b"Connection: content-length")),
    served("nominated Host", post(b"Connection: host")),
    served("nominated coding", chunks(CHUNKED_BODY, b"Connection: transfer-encoding")),
    refused("nominated credential", post(b"Connection: authorization"), status=401),
    served("headers of one connection", post(
        b"Keep-Alive: timeout=5", b"Proxy-Connection: keep-alive", b"TE: trailers", b"Proxy-Authorization: Basic eA==",
        b"Trailer: x",
    )),
]  # fmt: skip

H2C = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQ")
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

UPGRADES = [
    served("h2c", post(*H2C)),
    served("h2c with a GET", get(*H2C), as_=seen_get()),
    served("h2c with chunks", chunks(CHUNKED_BODY, *H2C)),
    served("h2c with a body in pieces", head_of(post(*H2C)), BODY[:4], BODY[4:]),
    Case("h2c, and a request behind it", (post(*H2C) + get(),), (200, 200), (seen(), seen_get())),
    Case("h2c, and its preface at once", (get(*H2C) + PREFACE,), (200, 400), (seen_get(),), "closed"),
    served("h2c and close", post(b"Connection: Upgrade, close", b"Upgrade: h2c"), end="closed"),
    served("WebSocket", get(b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13"), as_=seen_get()),  # an operation that is none
    served("TLS/1.0", post(b"Connection: Upgrade", b"Upgrade: TLS/1.0")),
    served("Upgrade that Connection does not name", post(b"Upgrade: h2c")),
    refused("h2c with two lengths", post(*H2C, b"Content-Length: 19")),
    refused("HTTP/2 preface", PREFACE),
    refused("HTTP/2 preface and settings", PREFACE + b"\0\0\0\4\0\0\0\0\0"),
    refused("HTTP/2 preface in pieces", PREFACE[:10], PREFACE[10:]),
    refused("TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(50)),
    refused("SSH", b"SSH-2.0-OpenSSH_9.2\r\n"),
    refused("SMTP", b"EHLO evil.example\r\n"),
    refused("PROXY protocol", b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n" + get()),
    refused("NULs", bytes(100)),
]  # fmt: skip

ENDS = [
    Case("half-close at once", (EOF,), (), end="closed"),
    Case("half-close in a head", (get()[:30], EOF), (), end="closed"),
    Case("half-close in a body", (post()[:-3], EOF), (), end="closed"),
    Case("half-close in a chunk", (chunks(b"13\r\n{"), EOF), (), end="closed"),
    Case("half-close behind a refused request", (NOT_SERVED, EOF), (404,), end="closed"),
    refused("refused while the body comes", raw(b"Content-Length: 900000", line=b"POST /openai/v1/organization HTTP/1.1", body=b""), *[b"x" * 90_000] * 10, status=404),
    refused("too long while the body comes", raw(b"Content-Length: 900000", body=b""), *[b"x" * 90_000] * 10, status=413),
    refused("too many chunks while they come", chunks(b""), *[b"1000\r\n" + b"x" * 4096 + b"\r\n"] * 100, status=413),
    refused("no request, and much behind it", b"\0\0\r\n\r\n", *[b"x" * 90_000] * 10),
]  # fmt: skip

CASES = [
    *REQUEST_LINES, *TARGETS, *HOSTS, *LENGTHS, *CODINGS, *CHUNKS, *FIELDS, *EXPECTATIONS, *PIPELINES, *HTTP_1_0,
    *METHODS, *CONNECTIONS, *UPGRADES, *ENDS,
]  # fmt: skip
