"""A client's connection: HTTP/1.1 in, one exchange after the other, back-pressure in both directions.

Requests that come ahead of their turn are read and kept, a few of them; each is judged on its own when its turn
comes. A request that can't be parsed ends the connection after what came before it is answered.
"""

import asyncio
import contextlib
import fcntl
import termios
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import httptools

from gateway.identity.keys import MAX_CREDENTIAL
from gateway.policy.decision import Deny, Reason
from gateway.proxy import handshake
from gateway.proxy.asking import EVERY_PLACE, Stage
from gateway.proxy.authz import PREFIX, Question
from gateway.proxy.exchange import Exchange
from gateway.proxy.head import Head, Refused, malformed, read_head
from gateway.proxy.known_head import KnownHead, known
from gateway.proxy.upstream import reset
from gateway.proxy.websocket import SocketExchange
from gateway.proxy.wire import own_response

if TYPE_CHECKING:
    from gateway.proxy.gate import Gate

DRAIN_BYTES = 1024 * 1024
"""What is read and thrown away after an early refusal, so that the client can read it before the close.

nginx's lingering_close has the same purpose; closing with unread bytes would reset the answer away.
"""
DRAIN_SECONDS = 2.0

CREDENTIALS = {name for name, _ in EVERY_PLACE} | {b"portcullis-key", b"portcullis-on-behalf-of"}
LONGEST_NAME = max(len(name) for name in CREDENTIALS) + 1
"""With the colon."""

FULL_READ = 256_000
"""What uvloop reads at once (UV_STREAM_RECV_BUF_SIZE). After a full read libuv reads on, up to 32 times."""

FREE_CHUNKS = 10_000
LEAST_CHUNK = 16
"""Bytes that the chunks of a body must have on average from there on. Each costs the loop half a microsecond, which is
ten times what its bytes cost a client to send; Go's net/http bounds a body's framing for the same reason.
"""


def unread(transport: asyncio.Transport) -> bool:
    """Whether bytes have come that the loop has not read yet: closing now would reset them away."""
    with contextlib.suppress(OSError):
        waiting = fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.FIONREAD, bytes(4))
        return waiting != bytes(4)
    return False


class ClientConnection:
    """One TCP connection of a client.

    An ``asyncio.Protocol`` by what it does; by inheritance it could not be compiled to a native class.
    """

    def __init__(self, gate: "Gate") -> None:
        self.gate = gate
        self.transport: asyncio.Transport | None = None
        self.deadline = float("inf")
        self._parser: Any = httptools.HttpRequestParser(self)
        self._exchanges: deque[Exchange] = deque()
        self._begun: Exchange | None = None
        self._reading: Exchange | None = None
        self._socket: SocketExchange | None = None
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._known: KnownHead | None = None
        self._read_anew: Head | None = None
        self._owed = 0
        self._line = b""
        self._line_bytes = 0
        self._pieces: list[bytes] = []
        self._body_due = 0.0
        self._tiny_chunks = 0
        self._head_bytes = 0
        self._in_head = False
        self._resuming = False
        self._fault: Deny | None = None
        self._reading_paused = False
        self._writing_paused = False
        self._body_held = False
        self._drained: int | None = None
        self._unflushed: list[Exchange] = []
        self.peer = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Accept, or close at once where there are too many."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance
        self.transport.set_write_buffer_limits(high=self.gate.limits.write_buffer)
        if len(self.gate.connections) >= self.gate.limits.connections:
            reset(self.transport)
            return
        self.gate.connections.add(self)
        self.peer = self.gate.peer(transport)
        self.deadline = self.gate.now() + self.gate.timeouts.head

    def connection_lost(self, error: Exception | None) -> None:
        """The client is gone."""
        del error
        self.gate.disconnected(self)
        self._fault = self._fault or Deny(Reason.MALFORMED, 0)
        while self._exchanges:
            self._exchanges.popleft().client_gone()

    # ------------------------------------------------------------------ reading

    def data_received(self, data: bytes) -> None:
        """Read on; nothing that a client sends may get past this point unanswered."""
        if self._drained is not None:
            self._drain(len(data))
        elif self._fault is None:
            self.run(self._read, data)
        if len(data) >= FULL_READ:
            self._let_others_read()

    def _let_others_read(self) -> None:
        """Read on when everybody else has had a turn."""
        if self.transport is not None and not self._reading_paused and not self.transport.is_closing():
            self.transport.pause_reading()
            asyncio.get_running_loop().call_soon(self._read_on)

    def _read_on(self) -> None:
        if self.transport is not None and not self._reading_paused and not self.transport.is_closing():
            self.transport.resume_reading()

    def run(self, step: Callable[..., None], *arguments: object) -> None:
        """Take a step of an exchange; where it fails, close the door and count."""
        try:
            step(*arguments)
        except Exception as error:  # noqa: BLE001 - the outermost rim
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        self.gate.failed(error)
        deny = Deny(Reason.INTERNAL, self.gate.revision)
        if self._begun is not None and self._begun.stage is Stage.WAITING:
            self._begun.keep_alive = False
            self._begun.refuse(deny)
        else:
            self._break(deny)
            if self._exchanges:
                self.reset()  # what failed half-way would never be answered

    def _read(self, data: bytes) -> None:
        """More of a body whose length is known, a head that is known, or something for the parser."""
        if self._owed:
            self._read_owed(data)
            return
        if self._socket is not None:
            self._socket.client_data(data)
            return
        fresh = not (self._exchanges or self._in_head or self._head_bytes)
        if fresh and self._known is not None:
            found = self._known.rest(data)
            if found is not None and len(found[1]) <= found[0]:
                self._begin_known(self._known.head, *found)
                return
        self._feed(data)
        if self._read_anew is not None:
            head, self._read_anew = self._read_anew, None
            if fresh:
                self._known = known(data, head)

    def _begin_known(self, head: Head, length: int, body: bytes) -> None:
        """A request whose head is known, with all or some of its body."""
        self._begin_reading(Exchange(self.gate, self, head, length))
        if self._drained is not None or self._reading is None:
            return
        self._owed = length
        if body or not length:
            self._read_owed(body)
        else:
            self._after_read()

    def _read_owed(self, data: bytes) -> None:
        """Some of a body that the parser does not see."""
        rest = b""
        if len(data) > self._owed:
            data, rest = data[: self._owed], data[self._owed :]
        self._owed -= len(data)
        self._take_body(data)
        if not self._owed:
            self._all_read()
        self._after_read()
        if rest and self._fault is None and self._drained is None:
            self._feed(rest)

    def _feed(self, data: bytes) -> None:
        """Parse all of a read; after each request with an Upgrade the parser begins anew."""
        rest: bytes | None = data
        while rest is not None and self._fault is None and self._drained is None:
            rest = self._feed_once(rest)

    def _feed_once(self, data: bytes) -> bytes | None:
        """Parse up to the end, or to an Upgrade: then what follows it is given back."""
        self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            # Upgrade to what is not spoken here is ignored (RFC 9110 §7.8): what follows is HTTP/1.1
            self._parser = httptools.HttpRequestParser(self)
            self._pass_on_body()
            if self._socket is not None:
                self._after_handshake(self._socket, data[upgrade.args[0] :])
                return None
            if self._reading is not None:
                self._resume_body(self._reading)
            return data[upgrade.args[0] :]
        except httptools.HttpParserCallbackError as error:
            cause = error.__context__
            if not isinstance(cause, Refused):
                raise
            self._break(cause.deny)
        except httptools.HttpParserError:
            self._break(malformed("The request is not valid HTTP/1.1.").deny)
        else:
            self._pass_on_body()
            if self._in_head:
                self._note_line(data)
            self._after_read()
        return None

    def _after_handshake(self, socket: SocketExchange, rest: bytes) -> None:
        """What follows is frames, if the handshake succeeds."""
        self._after_read()
        if rest:
            socket.client_data(rest)

    def _note_line(self, data: bytes) -> None:
        """Keep how the header begins that is still coming in, and how much of it has come."""
        start = data.rfind(b"\n") + 1
        if start:
            self._line, self._line_bytes = b"", 0
        self._line = (self._line + data[start : start + LONGEST_NAME])[:LONGEST_NAME]
        self._line_bytes += len(data) - start

    def _head_too_large(self) -> Refused:
        """A credential over its own limit is not valid, however large it is; anything else is a large head."""
        coming = self._line.partition(b":")[0].lower() if self._line_bytes > MAX_CREDENTIAL else b""
        if coming in CREDENTIALS or any(n in CREDENTIALS and len(v) > MAX_CREDENTIAL for n, v in self._headers):
            return Refused(Deny(Reason.UNAUTHENTICATED, self.gate.revision, message="The credential is too long."))
        return malformed("The request's head is too large.", 431)

    def _resume_body(self, exchange: Exchange) -> None:
        """Have a new parser read the body that llhttp skips after a head with Upgrade."""
        length = b"Content-Length: %d" % (exchange.content_length or 0)
        framing = b"Transfer-Encoding: chunked" if exchange.head.chunked else length
        self._resuming = True
        self._parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n\r\n" % framing)
        self._resuming = False

    def _after_read(self) -> None:
        """Set the deadline that fits, and refuse a head that outgrew its limit."""
        if self._in_head or (self._reading is None and not self._exchanges):
            if self._head_bytes > self.gate.limits.head_bytes:
                self._break(self._head_too_large().deny)
        elif self._reading is not None:
            if not self._body_held:
                self.delay(min(self.gate.timeouts.body, self._body_due - self.gate.now()))
            if self._head_bytes > self.gate.limits.head_bytes:
                self._break(malformed("The body's chunk extensions or trailers are too large.", 431).deny)
        elif not self._writing_paused:
            self.deadline = float("inf")

    def delay(self, seconds: float) -> None:
        """Set the deadline anew, but not the one of a client that takes nothing of what is waiting for it."""
        if not self._writing_paused:
            self.deadline = self.gate.now() + seconds

    def on_message_begin(self) -> None:
        """A request begins."""
        self._in_head = not self._resuming
        self._target = b""
        self._headers = []
        if not self._exchanges:
            self.delay(self.gate.timeouts.head)

    def on_url(self, url: bytes) -> None:
        """The target, possibly in pieces."""
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; after the body it is a trailer, which is dropped."""
        if self._in_head:
            self._headers.append((name.lower(), value.rstrip(b" \t")))  # RFC 9112 §5.1: blanks around are no value
            if len(self._headers) > self.gate.limits.header_count:
                raise malformed("Too many headers.", 431)

    def on_headers_complete(self) -> None:
        """The head is complete: an exchange begins, now or when its turn comes."""
        if self._resuming or self._drained is not None or self.transport is None or self.transport.is_closing():
            self._in_head = False
            return  # a head made up by `_resume_body`, or one that can no longer be answered
        if len(self._exchanges) > self.gate.limits.pipelined:
            raise malformed("Too many requests ahead of their answers.")
        self._in_head = False
        head = self._read_anew = self._read_head()
        self._begin_reading(self._exchange(head))

    def _exchange(self, head: Head) -> Exchange:
        """The way of one request; a WebSocket begins only where nobody waits for an answer on this connection."""
        if self.gate.answers_authz and head.path.startswith(PREFIX):
            self._read_anew = None  # the same head again may be about something else
            return Question(self.gate, self, head, self._headers)
        if head.upgrade is not None and not self._exchanges and handshake.asks(head):
            found = self.gate.find_operation(head.host, head.method, head.path)
            if found is not None and found[2] is not None and found[2][0].talk is not None:
                self._socket = SocketExchange(self.gate, self, head, head.content_length)
                return self._socket
        return Exchange(self.gate, self, head, head.content_length)

    def _read_head(self) -> Head:
        parser = self._parser
        size = len(self._target) + sum(len(name) + len(value) + 4 for name, value in self._headers)
        if size > self.gate.limits.head_bytes:
            raise self._head_too_large()
        return read_head(
            parser.get_method(), self._target, parser.get_http_version(), self._headers,
            keep_alive=parser.should_keep_alive(),
        )  # fmt: skip

    def _begin_reading(self, exchange: Exchange) -> None:
        self._reading = exchange
        self._body_due = self.gate.now() + self.gate.timeouts.body
        self._tiny_chunks = 0
        self._exchanges.append(exchange)
        if len(self._exchanges) == 1:
            self._begin(exchange)

    def _begin(self, exchange: Exchange) -> None:
        self._begun = exchange
        exchange.head_complete()

    def on_body(self, data: bytes) -> None:
        """A piece of the body. They are gathered: one read may bring tens of thousands, of a byte each."""
        self._pieces.append(data)

    def _pass_on_body(self) -> None:
        """Give the exchange what one read brought of its body."""
        if self._pieces:
            pieces, self._pieces = self._pieces, []
            self._head_bytes = 0
            data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            self._take_body(data)
            if len(data) < LEAST_CHUNK * len(pieces):
                self._tiny_chunks += len(pieces)
                if self._tiny_chunks > FREE_CHUNKS:
                    self._break(malformed("The body comes in too many chunks that are too small.").deny)

    def _take_body(self, data: bytes) -> None:
        self._body_due += len(data) / self.gate.limits.body_bytes_per_second
        if self._reading is not None:
            self._reading.body_piece(data)

    def on_message_complete(self) -> None:
        """The request is complete."""
        if self._reading is not None and self._reading.has_body and self._parser.should_upgrade():
            return  # its body is still to come
        self._pass_on_body()
        if self._reading is not None:
            self._reading.keep_alive &= self._parser.should_keep_alive()  # a trailer can say close
        self._all_read()

    def _all_read(self) -> None:
        exchange, self._reading = self._reading, None
        self._head_bytes = 0
        if exchange is not None:
            exchange.body_complete()
        if len(self._exchanges) > self.gate.limits.pipelined:
            self._pause_reading()

    def stop_reading(self) -> None:
        """A WebSocket has enough of this client for now."""
        self._pause_reading()

    def start_reading(self) -> None:
        """It can take more."""
        self._resume_reading()

    def _pause_reading(self) -> None:
        if self.transport is not None and not self._reading_paused and not self.transport.is_closing():
            self._reading_paused = True
            self.transport.pause_reading()

    def hold_body(self) -> None:
        """Read no more of a body that is passed on as it comes, until it is taken. That is not the client's delay."""
        self._body_held = True
        self._pause_reading()
        if not self._writing_paused:
            self.deadline = float("inf")

    def take_body(self) -> None:
        """Read on."""
        if self._body_held:
            self._body_held = False
            self.delay(self.gate.timeouts.body)
            self._resume_reading()

    # ------------------------------------------------------------------ writing

    def write(self, data: bytes) -> None:
        """Send."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(data)

    def takes_nothing(self) -> bool:
        """Whether the client leaves too much waiting for it."""
        return self._writing_paused

    def nothing_buffered(self) -> bool:
        """Whether all that was written has left the process."""
        return self.transport is not None and self.transport.get_write_buffer_size() == 0

    def pause_writing(self) -> None:
        """The client takes nothing more for now; it may not stay so for ever."""
        self.delay(self.gate.timeouts.write)
        self._writing_paused = True
        if self._socket is None:  # whose two directions are independent
            self._pause_reading()
        if self._begun is not None:
            self._begun.hold_back()

    def resume_writing(self) -> None:
        """It takes more."""
        self._writing_paused = False
        if self._exchanges:
            self.deadline = float("inf")
        if self._begun is not None:
            self._begun.go_on()
            if self._socket is None:
                self._resume_reading()
        else:
            self._next()

    def keeps_alive(self, exchange: Exchange) -> bool:
        """Whether the response's head may say that the connection can be used again; what it says is kept to.

        While the process is leaving, the last of the requests that have come is answered with ``Connection: close``.
        """
        last = self.gate.draining and len(self._exchanges) <= 1
        exchange.keep_alive = exchange.keep_alive and exchange.complete and not last
        return exchange.keep_alive

    def refusal(self, exchange: Exchange, status: int, headers: tuple[tuple[str, str], ...], body: bytes) -> bytes:
        """A refusal as bytes."""
        return own_response(
            status, headers, body, exchange.request_id, self.gate.revision,
            keep_alive=self.keeps_alive(exchange), head_only=exchange.head.method == "HEAD",
        )  # fmt: skip

    # ------------------------------------------------------------------ ends

    def exchange_ended(self, exchange: Exchange) -> None:
        """Answered, cut or gone: the next one's turn, or the connection's end."""
        keep = exchange.keep_alive and exchange.complete
        self._body_held = False
        self._socket = None
        if self._begun is exchange:
            self._begun = None
        if self._exchanges and self._exchanges[0] is exchange:
            self._exchanges.popleft()
        transport = self.transport
        if transport is None or transport.is_closing():
            return
        if transport.get_write_buffer_size():
            self._unflushed = [exchange, *self._unflushed] if self._writing_paused else [exchange]
        if not keep:
            self._finish(exchange)
        elif self._exchanges:
            asyncio.get_running_loop().call_soon(self._next)
        else:
            self._rest()

    def unflushed(self) -> list[Exchange]:
        """Exchanges that have ended, while bytes of theirs may still be waiting in this process."""
        if self._unflushed and self.nothing_buffered():
            self._unflushed = []
        return self._unflushed

    def _next(self) -> None:
        """The next request's turn, once the client has taken enough of what was before."""
        if self._writing_paused:
            return
        if self._exchanges and self._begun is None and self.transport is not None:
            self._begin(self._exchanges[0])
        self._resume_reading()

    def _rest(self) -> None:
        """Nothing to do until the next request, or until what can't be parsed is answered."""
        if self._reading_paused:
            self._resume_reading()
        if self._fault is not None:
            self._answer_fault()
        else:
            self.delay(self.gate.timeouts.head if self._in_head else self.gate.keep_alive)

    def _resume_reading(self) -> None:
        if self._body_held or self.transport is None or self.transport.is_closing():
            return
        if self._writing_paused and self._socket is None:
            return
        if self._reading_paused:
            self._reading_paused = False
            self._body_due = max(self._body_due, self.gate.now() + self.gate.timeouts.body)
            self.transport.resume_reading()

    def _finish(self, exchange: Exchange) -> None:
        """The last exchange of this connection.

        What the client still sends, asked for or not, is read a while and then cut: a close with bytes unread would
        reset the answer away (RFC 9112 §9.6).
        """
        while self._exchanges:
            self._exchanges.popleft()
        assert self.transport is not None
        if self._fault is not None and exchange.complete and exchange.keep_alive:
            self._answer_fault()
        elif exchange.complete and exchange.keep_alive:
            self.close()  # the process is leaving
        else:
            self._linger()

    def _break(self, deny: Deny) -> None:
        """What came cannot be read. What came before it is answered first."""
        if self._fault is not None or self._drained is not None:
            return
        self._fault = deny
        reading, self._reading = self._reading, None
        if reading is not None and not reading.complete:
            if reading is self._begun:
                reading.refuse(deny)
                return
            self._exchanges.remove(reading)
        if not self._exchanges and self.transport is not None and not self.transport.is_closing():
            self._answer_fault()

    def _answer_fault(self) -> None:
        assert self._fault is not None
        self.write(self.gate.fault_response(self._fault))
        self._linger()

    def _linger(self) -> None:
        """Half-close, and read on for a bounded while."""
        if self.transport is None or self.transport.is_closing():
            return
        self._drained = 0
        self.deadline = self.gate.now() + DRAIN_SECONDS
        self._resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()

    def _drain(self, size: int) -> None:
        assert self._drained is not None
        self._drained += size
        if self._drained > DRAIN_BYTES:
            self.reset()

    def eof_received(self) -> bool:
        """The client sends nothing more: it is gone, as for nginx and Envoy. What is written still leaves.

        A half-closed client that waits looks like one that has left, and a model that goes on for nobody costs.
        """
        return False

    def close(self) -> None:
        """Close after what is written has left, but wait for a client that takes nothing only so long."""
        if self.transport is not None:
            self.deadline = self.gate.now() + DRAIN_SECONDS
            self.transport.close()

    def reset(self) -> None:
        """Close at once; what is buffered is thrown away."""
        if self.transport is not None:
            reset(self.transport)

    def stop(self) -> None:
        """The process is leaving: an idle connection closes, a busy one after its answer, or once it is idle."""
        if self._exchanges or self._in_head or self.transport is None:
            return
        if unread(self.transport):  # a request has come, and is about to be read
            self.delay(self.gate.timeouts.head)
        else:
            self.close()

    def timed_out(self) -> None:
        """The sweep found the deadline passed."""
        closing = self._drained is not None or self.transport is None or self.transport.is_closing()
        nobody_waits = self._fault is not None and not self._exchanges
        if closing or nobody_waits or self._writing_paused:
            self.reset()
        elif self._socket is not None:
            self._socket.timed_out()
        elif self._reading is not None:
            self.deadline = float("inf")
            self._break(malformed("The body did not arrive in time.", 408).deny)
        elif self._in_head or self._head_bytes:
            self.deadline = float("inf")
            self._break(malformed("The head did not arrive in time.", 408).deny)
        elif self._exchanges:
            self.deadline = float("inf")  # it waits for its answer, and so do we
        else:
            self.stop()
