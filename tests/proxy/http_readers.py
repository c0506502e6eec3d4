"""Two readers of HTTP/1.1 that share no code with each other, nor with the gateway's llhttp.

h11 is a state machine over regular expressions of the RFC's grammar; aiohttp's pure-Python parser splits lines by hand
and is the fallback of its C extension (which is llhttp again, and for that reason not used here).
"""

import asyncio
from dataclasses import dataclass

import h11
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_parser import HttpRequestParserPy, HttpResponseParserPy


@dataclass(frozen=True)
class Read:
    """A request (``start`` is method and target) or a response (status), as a reader saw it."""

    start: tuple[str, ...]
    headers: tuple[tuple[str, str], ...]
    body: bytes
    complete: bool = True

    def header(self, name: str) -> str | None:
        """The one value of a header."""
        found = [value for known, value in self.headers if known == name]
        assert len(found) <= 1
        return found[0] if found else None


def _pairs(headers: list[tuple[bytes, bytes]]) -> tuple[tuple[str, str], ...]:
    return tuple((name.decode("ascii").lower(), value.decode("latin-1")) for name, value in headers)


# ---------------------------------------------------------------- h11


def requests_of_h11(raw: bytes) -> list[Read]:
    """All requests in what a server was sent."""
    server, found = h11.Connection(h11.SERVER), []
    server.receive_data(raw)
    while isinstance(request := server.next_event(), h11.Request):
        start = (request.method.decode(), request.target.decode("ascii"))
        found.append(Read(start, _pairs(request.headers), *_body_of_h11(server)))
        if not found[-1].complete or server.their_state is not h11.DONE:
            break
        server.send(h11.Response(status_code=204, headers=[]))
        server.send(h11.EndOfMessage())
        if server.our_state is not h11.DONE:
            break
        server.start_next_cycle()
    assert server.trailing_data[0] == b"", "something is left over"
    return found


def responses_of_h11(raw: bytes, methods: list[str]) -> list[Read]:
    """All final responses in what a client got, up to the connection's end."""
    found = []
    for method in [*methods, "GET"]:
        if not raw:
            break
        client = h11.Connection(h11.CLIENT)
        client.send(h11.Request(method=method, target="/", headers=[("host", "x")]))
        client.send(h11.EndOfMessage())
        client.receive_data(raw)
        client.receive_data(b"")
        while isinstance(response := client.next_event(), h11.InformationalResponse):
            pass
        if not isinstance(response, h11.Response):
            break
        body, complete = _body_of_h11(client)
        found.append(Read((str(response.status_code),), _pairs(response.headers), body, complete))
        raw = client.trailing_data[0] if complete else b""
    assert raw == b"" or not found, "something is left over"
    return found


def _body_of_h11(connection: h11.Connection) -> tuple[bytes, bool]:
    body = b""
    try:
        while isinstance(event := connection.next_event(), h11.Data):
            body += bytes(event.data)
    except h11.RemoteProtocolError:  # the connection's end came first
        return body, False
    return body, isinstance(event, h11.EndOfMessage)


# ---------------------------------------------------------------- aiohttp


def requests_of_aiohttp(raw: bytes) -> list[Read]:
    """All requests in what a server was sent."""
    loop = asyncio.get_running_loop()
    parser = HttpRequestParserPy(BaseProtocol(loop), loop, auto_decompress=False)
    messages, upgraded, tail = parser.feed_data(raw)
    assert not upgraded
    assert not tail
    return [
        Read((message.method, message.path), _pairs(message.raw_headers), _buffered(payload), payload.is_eof())
        for message, payload in messages
    ]


def responses_of_aiohttp(raw: bytes, methods: list[str]) -> list[Read]:
    """All final responses in what a client got, up to the connection's end."""
    loop = asyncio.get_running_loop()
    method = methods[0] if methods else "GET"
    parser = HttpResponseParserPy(
        BaseProtocol(loop), loop, method=method, read_until_eof=True, auto_decompress=False,
        response_with_body=method != "HEAD",
    )  # fmt: skip
    messages, _, tail = parser.feed_data(raw)
    assert not tail
    truncated = False
    try:
        parser.feed_eof()
    except Exception as error:  # the parser's way to say that the end came first
        truncated = "enough data" in str(error) or "chunk" in str(error).lower() or "length" in str(error).lower()
        assert truncated, error
    found = []
    for message, payload in messages:
        if message.code >= 200:
            complete = (
                payload.is_eof() and payload.exception() is None and not (truncated and message is messages[-1][0])
            )
            found.append(Read((str(message.code),), _pairs(message.raw_headers), _buffered(payload), complete))
    return found


def _buffered(payload: object) -> bytes:
    return b"".join(getattr(payload, "_buffer", ()))
