"""The way of a WebSocket: it begins as every request does, and then each message of the client is decided upon.

::

    head complete  → operation, caller, models   as of a request: refused before the 101, as a request
                   → forward     the gateway's own handshake; an answer other than 101 is relayed as a response
    101            → client's    message complete → read strictly → decide → to the provider; held while it is not
                     messages    known which model is meant; the first that is denied ends it
                   → provider's  frames as they come, the lease checked before each write
    end            → record      one log line, with the whole connection's bytes

What has been named on a connection counts until its end: a response may still be running. A revision that denies any of
it, or a lease that ends, severs it: an error message and close 1008, or a reset where that would not be understood.
Frames are written anew on both sides, pings answered by the gateway, closes passed on.
"""

import asyncio
import base64
import os
from collections import deque
from math import inf
from time import monotonic
from typing import TYPE_CHECKING

from wsproto.events import CloseConnection

from gateway.dialects.refusal import refuse
from gateway.dialects.selectors import MAX_NAMES, Reading
from gateway.policy.decision import Deny, Reason
from gateway.policy.snapshot import Asked
from gateway.proxy import handshake, socket_frames
from gateway.proxy.asking import Stage
from gateway.proxy.body import BodyTooLargeError
from gateway.proxy.client_messages import FRAMES_A_TURN, ClientMessages
from gateway.proxy.exchange import Exchange
from gateway.proxy.head import Head, Refused, malformed
from gateway.proxy.inbox import Inbox, Said
from gateway.proxy.socket_frames import Piece, Side
from gateway.proxy.socket_made import SocketMade
from gateway.proxy.upstream import PIECE
from gateway.proxy.wire import response_head

if TYPE_CHECKING:
    from gateway.dialects.messages import Talk
    from gateway.proxy.connection import ClientConnection
    from gateway.proxy.gate import Gate

CLOSE_SECONDS = 5.0
"""What either end may take to answer a close (RFC 6455 §7.1.1 leaves it open; browsers wait some seconds)."""

_CODES = {
    Reason.OVERLOADED: socket_frames.TRY_AGAIN_LATER,
    Reason.INTERNAL: socket_frames.INTERNAL,
    Reason.UPSTREAM_UNREACHABLE: socket_frames.INTERNAL,
    Reason.UPSTREAM_TIMEOUT: socket_frames.INTERNAL,
}
"""What a WebSocket is closed with, by the reason; where none stands here, 1008: it violates the policy."""


class SocketExchange(Exchange):
    """One WebSocket. All methods are callbacks of one event loop and return at once."""

    __slots__ = (
        "_at_boundary", "_closing", "_early", "_key", "_made", "_messages", "_offered", "_opening", "_ours",
        "_outgoing", "_pinged_client", "_pinged_provider", "_spoke_at", "_talk", "_theirs",
    )  # fmt: skip

    def __init__(self, gate: "Gate", client: "ClientConnection", head: Head, content_length: int | None) -> None:
        super().__init__(gate, client, head, content_length)
        self.stream = True
        self._talk: Talk | None = None
        self._opening: handshake.Opening | None = None
        self._key = base64.b64encode(os.urandom(16))
        self._offered: tuple[bytes, ...] = ()
        self._ours = Side(server=True)
        self._theirs = Side(server=False)
        self._messages: ClientMessages | None = None
        self._made: SocketMade | None = None
        self._early: list[bytes] = []
        self._outgoing: deque[Said] = deque()
        self._at_boundary = True
        self._closing = False
        self._pinged_client = self._pinged_provider = False
        self._spoke_at = 0.0

    # ================================================================== the handshake

    def _find_operation(self) -> None:
        super()._find_operation()
        assert self.operation is not None
        self._talk = self.operation.talk
        assert self._talk is not None
        self._opening = handshake.read_opening(self.head, self._talk.key_protocol)

    def _carriers(self) -> list[tuple[bytes, bytes]]:
        """A key in a subprotocol counts as one where it usually stands."""
        assert self.provider is not None
        assert self._opening is not None
        name, scheme = self.provider.dialect.credentials[0]
        return [*self.head.forward, *((name, scheme + key) for key in self._opening.keys)]

    def _find_models(self) -> None:
        """The model that the query names; where it may be another one as well, those that could be meant."""
        assert self.operation is not None
        assert self.provider is not None
        assert self._talk is not None
        names = () if self.path_model is None else (self.path_model,)
        joins = self._talk.joins.encode()
        parameters = [pair.partition(b"=")[0].lower() for pair in self.head.query.split(b"&")]
        unnamed = (self.operation.candidates,) if self.operation.candidates else ()
        if names and not (joins and joins in parameters):
            unnamed = ()
        self._asked = Asked(self.provider.name, names, also=unnamed)

    def _onward_head(self, body: bytes | memoryview) -> bytes:
        """A handshake of the gateway's own."""
        del body
        assert self.provider is not None
        assert self._opening is not None
        assert self._talk is not None
        key_protocol, forwards = self._talk.key_protocol, self.provider.forwards
        self._offered = handshake.offered(self._opening, key_protocol, forwards=forwards)
        return handshake.request(self.provider, self.head, self._key, self._offered)

    def switches(self) -> bool:
        """A 101 is what is asked for."""
        return True

    def switched(self, headers: list[tuple[bytes, bytes]]) -> None:
        """The provider agrees: so does the gateway."""
        assert self._opening is not None
        assert self.caller is not None
        passed = handshake.read_answer(headers, self._key, self._offered)
        if not self.may_write():
            return
        self.status = 101
        self.keep_alive = False
        self.first_byte_at = monotonic()
        self._spoke_at = self.gate.now()
        self.stage = Stage.RELAYING
        assert self._talk is not None
        assert self.provider is not None
        inbox, made = Inbox(self.gate.buffered, self.caller.id), None
        if self._talk.keeping is not None:
            made = self._made = SocketMade(self.gate.ledger, self.provider.name, self._talk, self.caller.id)
        self._messages = ClientMessages(self, self._ours, self._talk.reader, inbox, made)
        self.client.write(
            response_head(
                101, b"", handshake.answer(self._opening, passed), self.request_id, self.gate.revision,
                chunked=False, keep_alive=True,
            )
        )  # fmt: skip
        asyncio.get_running_loop().call_soon(self.client.run, self._read_early)

    # ================================================================== the client's messages

    def client_data(self, data: bytes) -> None:
        """Bytes that follow the handshake."""
        if self._messages is None:
            self._early.append(data)
            self.keep_alive = False  # what follows a refusal would be read as HTTP
            self.client.stop_reading()
            return
        self._pinged_client = False
        self._messages.feed(data)

    def _read_early(self) -> None:
        """What came before the 101 had left."""
        early, self._early = self._early, []
        if self._messages is not None:
            self._messages.feed(b"".join(early))

    def listens(self) -> bool:
        """Whether the next frame can be taken: what was said before has been sent."""
        return self.stage is Stage.RELAYING and not self._outgoing

    def is_over(self) -> bool:
        """Whether nothing is said any more."""
        return self.stage is not Stage.RELAYING

    def hush(self) -> None:
        """Listen no more for now; that the client is silent is then not its fault."""
        self.client.stop_reading()
        if not self._closing:
            self.client.delay(inf)

    def listen(self) -> None:
        """Listen on."""
        if not self._closing:
            timeouts = self.gate.timeouts
            until_idle = self._spoke_at + timeouts.websocket_idle - self.gate.now()
            self.client.delay(min(timeouts.websocket_ping, max(0.0, until_idle)))
        self.client.start_reading()

    def spoke(self) -> bool:
        """Note that something has been said; whether it still counts."""
        self._spoke_at = self.gate.now()
        return not self._closing

    def pinged(self, payload: bytes | bytearray) -> None:
        """The client asks whether anybody is there. Who reads nothing gets no pile of answers."""
        if self._ours.is_open and not self.client.takes_nothing():
            self.client.write(self._ours.pong(payload))

    def client_closes(self, event: CloseConnection) -> None:
        """The client has had enough."""
        self._closed(event, self._theirs)

    # ------------------------------------------------------------------ decide, send

    def decide_on(self, said: Said, reading: Reading) -> None:
        """Send a message if all that it and those before it name may be had. It is held while none has named any."""
        assert self._messages is not None
        if self._closing:
            said.close()
            return
        try:
            asked = self.ask_for(reading)
        except Refused:
            said.close()
            raise
        if asked.names or asked.also:
            self._outgoing.extend((*self._messages.inbox.release(), said))
            self._send_on()
            return
        try:
            self._messages.inbox.hold(said)
        except BodyTooLargeError:
            limit = self.gate.limits.websocket_held_bytes
            raise malformed(f"More than {limit} bytes before a message that names the model.", 413) from None

    def ask_for(self, reading: Reading) -> Asked:
        """Decide on what a message names, and all that was named before.

        Raises:
            Refused: it is not to be had.
        """
        assert self._asked is not None
        names = tuple(dict.fromkeys((*self._asked.names, *reading.names)))
        if len(names) > MAX_NAMES:
            raise malformed(f"More than {MAX_NAMES} models on one WebSocket.")
        also = tuple(dict.fromkeys((*self._asked.also, *reading.unnamed)))
        self._asked = self._asked._replace(names=names, also=also)
        self.permit = self._decide()
        return self._asked

    def _send_on(self) -> None:
        """Send what may be sent, in pieces, as the provider takes them."""
        while self._outgoing and self._upstream is not None and not self._upstream.takes_nothing():
            said = self._outgoing[0]
            data, finished = said.next_piece(PIECE)
            if finished:
                self._outgoing.popleft().close()
            self._upstream.say(self._theirs.message(data, finished=finished))

    def switched_sent(self) -> None:
        """The provider takes more."""
        self._send_on()
        if self._messages is not None:
            self._messages.read_on()

    # ================================================================== the provider's frames

    def switched_data(self, data: bytes) -> None:
        """What the provider sends."""
        self._pinged_provider = False
        self._theirs.feed(data)
        self._relay_on()

    def _relay_on(self) -> None:
        """Pass frames on, so many in a turn, in one write, if the lease allows it.

        It is asked first: what has been made into frames is written, so that it is known where the client stands.
        """
        if self.stage is not Stage.RELAYING or not self.may_write():
            return
        turn = self._theirs.turn(FRAMES_A_TURN)
        out = [frame for piece in turn.pieces if (frame := self._frame(piece))]
        if out:
            self.client.write(b"".join(out))
            self._check_late()
        if turn.broken:
            self._provider_failed("invalid_response")
        elif turn.closed is not None:
            self._closed(turn.closed, self._ours)
        else:
            self._answer(turn.pings)
            if turn.more and self._upstream is not None:
                self._upstream.hold_back()
                asyncio.get_running_loop().call_soon(self.client.run, self._relay_again)

    def _relay_again(self) -> None:
        self._relay_on()
        if self.stage is Stage.RELAYING and not self.client.takes_nothing():
            self.go_on()

    def _frame(self, piece: Piece) -> bytes:
        """A frame for the client; nothing, where one of them has closed, or nothing is in it."""
        if not self._ours.is_open or not (piece.data or piece.message_finished):
            return b""
        self._spoke_at = self.gate.now()
        if self._made is not None and self._asked is not None:
            self._made.hear(piece, self._asked, begins=self._at_boundary)
        self._at_boundary = piece.message_finished
        frame = self._ours.message(piece.data, finished=piece.message_finished)
        self.relay.bytes_out += len(frame)
        return frame

    def _answer(self, pings: list[bytes]) -> None:
        """The provider asks whether anybody is there."""
        for payload in pings:
            if self._upstream is not None and not self._upstream.takes_nothing() and self._theirs.is_open:
                self._upstream.say(self._theirs.pong(payload))

    def go_on(self) -> None:
        """The client takes more."""
        super().go_on()
        if self._messages is not None:
            self._messages.read_on()

    # ================================================================== ends

    def _closed(self, event: CloseConnection, other: Side) -> None:
        """One end closes: the other is told, and answers; when both have closed it is over."""
        frame = other.close(int(event.code), event.reason or "")
        if other is self._ours:
            self._drop_outgoing()  # who has closed takes no more messages
            self.client.write(frame)
        elif self._upstream is not None:
            self._upstream.say(frame)
        if other.has_closed() or (other is self._theirs and self._upstream is None):
            self._part()
            return
        self._closing = True
        self.client.delay(CLOSE_SECONDS)
        if other is self._ours and self._messages is not None:
            self._messages.read_on()  # until the client's answer
        if self._upstream is not None:
            self._upstream.deadline = self.gate.now() + CLOSE_SECONDS

    def _part(self) -> None:
        """Both have closed."""
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.leave()
        self._end()

    def sever(self, deny: Deny) -> None:
        """Cut it: the provider at once, the client as far as it can be told."""
        if self.stage is not Stage.RELAYING:
            super().sever(deny)
            return
        self.severed = True
        if self.client.nothing_buffered() and self._at_boundary:
            self.bye(deny)
        else:
            self.denied = deny
            self._abort_upstream()
            self.client.reset()
            self._end()

    def bye(self, deny: Deny, code: int = 0) -> None:
        """End it for a reason that the client is told: by an error message, unless one is half-way, and by a close."""
        if self.stage is not Stage.RELAYING:
            return
        assert self._talk is not None
        self.denied = deny
        self._abort_upstream()
        refusal = refuse(deny, *self.gate.refusal_context(self, deny))
        out, why = b"", str(deny.reason)
        if self._talk.answers_first and not self.relay.bytes_out:
            why = socket_frames.fitting(f"{why}: {refusal.problem.message}")
        elif self._at_boundary and self._ours.is_open:
            out = self._ours.message(refusal.last_message(self._talk).decode())
        self.client.write(out + self._ours.close(code or _code(deny), why))
        self._end()

    def _provider_failed(self, cause: str) -> None:
        """The provider has gone without a close, or speaks another protocol."""
        self.gate.recorder.failure(self, cause)
        self._abort_upstream()
        self.client.write(self._ours.close(socket_frames.INTERNAL, "the provider is gone"))
        self._end()

    def upstream_lost(self, cause: str, *, untouched: bool) -> None:
        """The connection to the provider is gone."""
        if self.stage is not Stage.RELAYING:
            super().upstream_lost(cause, untouched=untouched)
            return
        self._upstream = None
        if not self._theirs.has_closed():
            self._provider_failed(cause)

    def timed_out(self) -> None:
        """The client has sent nothing for as long as it may: it is asked whether it is there, and cut if it is not."""
        if self._closing or self._pinged_client:
            self.client.reset()
        elif self.gate.now() - self._spoke_at >= self.gate.timeouts.websocket_idle:
            self._tell_both(socket_frames.GOING_AWAY, "idle")
        else:
            self._pinged_client = True
            self.client.write(self._ours.ping())
            self.client.delay(self.gate.timeouts.websocket_ping)

    def switched_quiet(self) -> None:
        """The same of the provider."""
        if self._upstream is None:
            return
        if self._closing or self._pinged_provider:
            self._provider_failed("timeout")
        else:
            self._pinged_provider = True
            self._upstream.say(self._theirs.ping())

    def _tell_both(self, code: int, reason: str) -> None:
        self.client.write(self._ours.close(code, reason))
        if self._upstream is not None:
            self._upstream.say(self._theirs.close(code, reason))
        self._part()

    def _end(self) -> None:
        if self._messages is not None:
            self._messages.close()
        self._drop_outgoing()
        super()._end()

    def _drop_outgoing(self) -> None:
        for said in self._outgoing:
            said.close()
        self._outgoing.clear()


def _code(deny: Deny) -> int:
    if deny.status == 413:
        return socket_frames.TOO_BIG
    return _CODES.get(deny.reason, socket_frames.POLICY_VIOLATION)
