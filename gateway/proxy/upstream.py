"""A connection to a provider: one exchange at a time, never asked twice for what may have happened.

An upstream answers with status, headers and body pieces; the exchange turns them into the client's response.
``gateway.proxy.pool`` keeps these connections, ``gateway.proxy.dial`` opens them.
"""

import asyncio
import contextlib
import select
import socket
import struct
from typing import TYPE_CHECKING, Any, cast

import httptools

from gateway.policy.decision import Reason
from gateway.proxy.response import TOO_LARGE, ResponseHead, UnreadableResponseError, check_interim, read_response
from gateway.proxy.wire import CHUNKED_END, chunk

if TYPE_CHECKING:
    from gateway.policy.decision import Permit
    from gateway.proxy.pool import Pool

PIECE = 64 * 1024
"""Bytes of a body that are written between two looks at the lease."""

_RESET = struct.pack("ii", 1, 0)


class Asker:
    """An exchange, as its upstream connection sees it."""

    __slots__ = ()

    def connected(self, upstream: "UpstreamConnection") -> None:
        """A connection is there."""
        raise NotImplementedError

    def not_connected(self, reason: Reason, cause: str) -> None:
        """There will be none."""
        raise NotImplementedError

    def may_write(self) -> bool:
        """Whether the lease still covers what this exchange asks for."""
        raise NotImplementedError

    def takes_more(self) -> None:
        """The provider takes more of a body that is passed on as it comes."""
        raise NotImplementedError

    def response_head(self, head: ResponseHead) -> None:
        """The response begins."""
        raise NotImplementedError

    def response_body(self, data: bytes) -> None:
        """A piece of the body."""
        raise NotImplementedError

    def response_read(self) -> None:
        """What one read brought is parsed: send it on."""
        raise NotImplementedError

    def response_end(self) -> None:
        """The response is complete."""
        raise NotImplementedError

    def switches(self) -> bool:
        """Whether it asks to speak another protocol than HTTP on this connection."""
        return False

    def switched(self, headers: list[tuple[bytes, bytes]]) -> None:
        """The provider does; these are the headers of its 101."""
        raise NotImplementedError

    def switched_data(self, data: bytes) -> None:
        """Bytes of the other protocol."""
        raise NotImplementedError

    def switched_sent(self) -> None:
        """All that was to be said in it has left, or is about to."""
        raise NotImplementedError

    def switched_quiet(self) -> None:
        """The provider has said nothing for as long as it may."""
        raise NotImplementedError

    def upstream_lost(self, cause: str, *, untouched: bool) -> None:
        """The connection ended before the response did; ``untouched``: a reused one, before any byte of it."""
        raise NotImplementedError


def reset(transport: asyncio.Transport) -> None:
    """Close with RST: what lies in the buffers is thrown away, and the peer can't take it for an end."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        with contextlib.suppress(OSError):  # it is closed already
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    transport.abort()


class UpstreamConnection:
    """One connection to a provider, an ``asyncio.BufferedProtocol`` by what it does.

    All of a worker's read into one buffer: what is parsed has been copied.
    """

    def __init__(self, pool: "Pool") -> None:
        self.pool = pool
        self.transport: asyncio.Transport | None = None
        self.deadline = float("inf")
        self.exchange: Asker | None = None
        self.reused = False
        self._parser: Any = httptools.HttpResponseParser(self)
        self._headers: list[tuple[bytes, bytes]] = []
        self._reason = b""
        self._head_bytes = 0
        self._in_head = True
        self._done = False
        self._until_close = False
        self._keep = False
        self._switched = False
        self._silence = pool.timeouts.idle
        self._body: memoryview | None = None
        self._uploading = False
        self._chunked = False
        self._paused = False
        self._waiting_client = False
        self._arrived = select.poll()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Look at what has arrived without reading it, when it is to be used again."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance
        self.transport.set_write_buffer_limits(high=PIECE)
        self._arrived.register(transport.get_extra_info("socket"), select.POLLIN)

    def is_fit(self) -> bool:
        """Whether an idle connection can be used: it is open, and nothing has arrived that nobody asked for.

        What the kernel has and the loop has not read yet would be taken for the answer to the next request.
        """
        transport = self.transport
        return transport is not None and not transport.is_closing() and not self._arrived.poll(0)

    def has_switched(self) -> bool:
        """Whether another protocol than HTTP is spoken by now."""
        return self._switched

    def is_closed(self) -> bool:
        """Whether nothing more can be sent."""
        return self.transport is None or self.transport.is_closing()

    # ------------------------------------------------------------------ asking

    def send(self, exchange: Asker, permit: "Permit", head: bytes, body: bytes | memoryview) -> None:
        """Write a permitted request: the first piece now, the rest as the provider takes it."""
        assert permit is not None
        assert self.transport is not None
        self.exchange = exchange
        if self.transport.is_closing():  # it spoke before it was asked, or left at once: nobody else will tell
            asyncio.get_running_loop().call_soon(self._fail, "closed")
            return
        self.deadline = self.pool.now() + self.pool.timeouts.first_byte
        if len(body) <= PIECE:
            self.transport.write(head + body if body else head)
        else:
            self.transport.write(head)
            self._body = memoryview(body)
            self._send_on()

    def _send_on(self) -> None:
        while self._body is not None and not self._paused and self.exchange is not None:
            if not self.exchange.may_write():
                return
            piece, rest = self._body[:PIECE], self._body[PIECE:]
            self._body = rest or None
            assert self.transport is not None
            self.transport.write(piece)

    def begin_upload(self, exchange: Asker, permit: "Permit", head: bytes, *, chunked: bool) -> None:
        """Write the head of a permitted request whose body comes by ``send_more``, and is over with ``end_upload``."""
        self._uploading, self._chunked = True, chunked
        self.send(exchange, permit, head, b"")

    def send_more(self, data: bytes) -> None:
        """A piece of the body. Each gives the provider its time anew."""
        if data and self._uploading and not self.is_closed():
            assert self.transport is not None
            self.deadline = self.pool.now() + self.pool.timeouts.first_byte
            self.transport.write(chunk(data) if self._chunked else data)

    def end_upload(self) -> None:
        """The body is complete."""
        if self._uploading and self._chunked and not self.is_closed():
            assert self.transport is not None
            self.transport.write(CHUNKED_END)
        self._uploading = False

    def takes_more(self) -> bool:
        """Whether the provider takes what is written."""
        return not self._paused

    def pause_writing(self) -> None:
        """The provider takes nothing more for now."""
        self._paused = True

    def resume_writing(self) -> None:
        """It takes more."""
        self._paused = False
        self._send_on()
        if self._uploading and self.exchange is not None:
            self.exchange.takes_more()
        if self._switched and self.exchange is not None and not self.takes_nothing():
            self.exchange.switched_sent()

    def say(self, data: bytes) -> None:
        """Write on a connection that speaks another protocol by now; what the provider does not take yet waits here."""
        self._body = memoryview(data if self._body is None else b"".join((self._body, data)))
        self._send_on()

    def takes_nothing(self) -> bool:
        """Whether something waits here for the provider to take more."""
        return self._paused or self._body is not None

    # ------------------------------------------------------------------ answers

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next read goes. Its size bounds what a client that stops reading leaves in memory."""
        del sizehint
        return self.pool.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Parse; the exchange sends on what it got once per read."""
        data = self.pool.buffer[:nbytes]
        exchange = self.exchange
        if exchange is None:
            self.abort()  # nobody asked
            return
        self.deadline = self.pool.now() + self._silence
        if self._switched:
            exchange.switched_data(bytes(data))
            return
        self._head_bytes += nbytes
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if self.has_switched():
                exchange.switched_data(bytes(data[error.args[0] :]))
                return
            if not self._done:
                found = error.__context__
                self._fail(found.cause if isinstance(found, UnreadableResponseError) else "invalid_response")
                return
            self._keep = False  # something nobody asked for comes after a complete response
        if self._done:
            self._complete()
            return
        if self._head_bytes > self.pool.limits.response_head_bytes:  # a head, or trailers
            self._fail(TOO_LARGE)
            return
        exchange.response_read()

    def on_message_begin(self) -> None:
        """A response begins; a second one on the same read belongs to nobody."""
        if self._done:
            raise UnreadableResponseError("a second response")

    def on_status(self, reason: bytes) -> None:
        """The reason phrase, possibly in pieces."""
        self._reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; after the body it is a trailer, which is not passed on."""
        if self._in_head:
            self._headers.append((name.lower(), value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        """The head is complete; an interim response is swallowed.

        Raises:
            UnreadableResponseError: it can be read in more than one way. The parser wraps it in one of its errors.
        """
        status = self._parser.get_status_code()
        headers, self._headers = self._headers, []
        reason, self._reason = self._reason, b""
        if status == 101 and self.exchange is not None and self.exchange.switches():
            self._switch(self.exchange, headers)
            return
        if status < 200:
            check_interim(status, headers)
            return
        version = self._parser.get_http_version()
        head = read_response(status, version, reason, headers, self.pool.limits, self._head_bytes)
        self._in_head = False
        self._head_bytes = 0
        self._until_close = not head.framed
        self._keep = head.framed and self._parser.should_keep_alive()
        if self.exchange is not None:
            self.exchange.response_head(head)

    def _switch(self, exchange: Asker, headers: list[tuple[bytes, bytes]]) -> None:
        """From here on the connection is no other's, and silence on it is asked about sooner."""
        exchange.switched(headers)
        self._switched = True
        self._silence = self.pool.timeouts.websocket_ping
        self.deadline = self.pool.now() + self._silence

    def on_body(self, data: bytes) -> None:
        """A piece of the body."""
        self._head_bytes = 0
        if self.exchange is not None:
            self.exchange.response_body(data)

    def on_message_complete(self) -> None:
        """The response is complete, unless it was an interim one."""
        self._done = not self._in_head
        self._keep = self._keep and self._parser.should_keep_alive()  # a trailer can say close

    def _complete(self) -> None:
        """Hand the connection back, then let the exchange end: it may start the next one."""
        exchange, self.exchange = self.exchange, None
        reusable = self._keep and self.has_sent_all()
        self._done, self._in_head, self._body, self._head_bytes, self._uploading = False, True, None, 0, False
        if reusable:
            if self._waiting_client:
                self.go_on()
            self.pool.give_back(self)
        else:
            self.abort()
        if exchange is not None:
            exchange.response_end()

    def has_sent_all(self) -> bool:
        """Whether the whole request has left the process, on a connection that is still open."""
        assert self.transport is not None
        if self._body is not None or self._uploading or self.transport.is_closing():
            return False
        return self.transport.get_write_buffer_size() == 0

    def eof_received(self) -> bool:
        """The provider sends nothing more: for some responses that is the end."""
        if self._until_close and not self._in_head:
            self._keep = False
            self._complete()
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """Closed, by whomever."""
        self.pool.forget(self)
        del error
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.upstream_lost("closed", untouched=self.reused and self._head_bytes == 0 and self._in_head)

    def timed_out(self) -> None:
        """The sweep found the deadline passed."""
        if self.exchange is None:
            self.abort()
        elif self._switched:
            self.deadline = self.pool.now() + self._silence
            self.exchange.switched_quiet()
        else:
            self._fail("timeout")

    def _fail(self, cause: str) -> None:
        exchange, self.exchange = self.exchange, None
        self.abort()
        if exchange is not None:
            exchange.upstream_lost(cause, untouched=False)

    # ------------------------------------------------------------------ control

    def hold_back(self) -> None:
        """The client takes nothing more: read no further."""
        if self.transport is not None and not self._waiting_client and not self.transport.is_closing():
            self._waiting_client = True
            self.deadline = float("inf")
            self.transport.pause_reading()

    def go_on(self) -> None:
        """The client takes more."""
        if self.transport is not None and self._waiting_client and not self.transport.is_closing():
            self._waiting_client = False
            self.deadline = self.pool.now() + self._silence
            self.transport.resume_reading()

    def leave(self) -> None:
        """Close once all has left that was written; the exchange hears nothing more."""
        self.exchange = None
        self.pool.forget(self)
        if self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        """Close at once, with a reset; the exchange hears nothing more."""
        self.exchange = None
        self._body = None
        self._uploading = False
        self.pool.forget(self)
        if self.transport is not None:
            reset(self.transport)
