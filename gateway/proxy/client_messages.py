"""What a client says on a WebSocket: frames put together, messages read strictly, one after the other.

Nothing further is taken while a message is read elsewhere, while Redis is asked about what it names, or while it waits
to be sent: that is how the client is held back.
"""

import asyncio
from typing import IO, TYPE_CHECKING

from wsproto.events import BytesMessage, CloseConnection, Event, Ping, TextMessage

from gateway import tasks
from gateway.dialects.messages import MessageReader
from gateway.dialects.selectors import HeavyBodyError, MalformedBodyError, Reading
from gateway.policy.decision import Deny, Reason
from gateway.proxy.body import BodyTooLargeError, NoRoomError
from gateway.proxy.head import Refused, malformed
from gateway.proxy.inbox import Inbox, Said
from gateway.proxy.keeper import Keeper
from gateway.proxy.ledger import LedgerBusyError
from gateway.proxy.reading import AbandonedError, ReadingFailedError
from gateway.proxy.socket_frames import BrokenFramesError, Piece, Side
from gateway.proxy.socket_made import SocketMade

if TYPE_CHECKING:
    from gateway.proxy.websocket import SocketExchange

FRAMES_A_TURN = 256
"""Frames that are dealt with before everybody else has a turn: one read may bring tens of thousands of empty ones."""


class ClientMessages:
    """The messages of one client. What they name is for the exchange to decide."""

    __slots__ = ("_again", "_elsewhere", "_exchange", "_made", "_reader", "_side", "inbox")

    def __init__(
        self, exchange: "SocketExchange", side: Side, reader: MessageReader, inbox: Inbox, made: SocketMade | None
    ) -> None:
        self._exchange = exchange
        self._side = side
        self._reader = reader
        self._made = made
        self._elsewhere: Said | None = None
        self._again = False
        self.inbox = inbox

    # ------------------------------------------------------------------ frames

    def feed(self, data: bytes) -> None:
        """Take bytes as they came."""
        self._side.feed(data)
        self.read_on()

    def read_on(self) -> None:
        """Take frames, as long as what they bring can be dealt with at once; then listen on, or let others read."""
        try:
            if self._is_free() and self._take_frames():
                self._exchange.listen()
        except BrokenFramesError as error:
            self._exchange.bye(malformed("What came is no frame of a WebSocket.").deny, error.code)
        except Refused as refused:
            self._exchange.bye(refused.deny)

    def _take_frames(self) -> bool:
        """Take so many frames in a turn; false if there are more, or if they have to wait."""
        for count, event in enumerate(self._side.events(), 1):
            self._take(event)
            if not self._is_free():
                return False
            if count == FRAMES_A_TURN:
                self._again = True
                self._exchange.hush()
                asyncio.get_running_loop().call_soon(self._exchange.client.run, self._read_again)
                return False
        return self._is_free()

    def _read_again(self) -> None:
        self._again = False
        self.read_on()

    def _is_free(self) -> bool:
        """Whether the next frame can be taken. If not, the client is not listened to."""
        free = self._exchange.listens() and not self._again and self._elsewhere is None
        if not free and not self._exchange.is_over():
            self._exchange.hush()
        return free

    def _take(self, event: Event) -> None:
        match event:
            case TextMessage() | BytesMessage():
                self._take_piece(event)
            case Ping():
                self._exchange.pinged(event.payload)
            case CloseConnection():
                self._exchange.client_closes(event)
            case _:
                pass

    # ------------------------------------------------------------------ messages

    def _take_piece(self, piece: Piece) -> None:
        """A piece of a message; when it is whole, what it names is read."""
        if not self._exchange.spoke():
            return
        before = self.inbox.bytes_in
        try:
            said = self.inbox.take(piece)
        except BodyTooLargeError:
            limit = self._exchange.gate.limits.websocket_message_bytes
            raise malformed(f"The message is over the limit of {limit} bytes.", 413) from None
        except NoRoomError:
            raise self._exchange.gate.no_room() from None
        finally:
            self._exchange.bytes_in += self.inbox.bytes_in - before
        if said is not None:
            self._read(said)

    def _read(self, said: Said) -> None:
        """Read what a message names; if that takes long, elsewhere."""
        try:
            reading = None if said.body.spooled else self._reader.read_light(said.content())
        except MalformedBodyError as error:
            said.close()
            raise malformed(str(error), error.status) from None
        except HeavyBodyError:
            reading = None
        if reading is not None:
            self._decide(said, reading)
            return
        self._elsewhere = said
        try:
            file = said.body.spool()
        except NoRoomError:
            raise self._exchange.gate.no_room() from None
        tasks.spawn(self._read_elsewhere(said, file), "read-message")

    async def _read_elsewhere(self, said: Said, file: IO[bytes]) -> None:
        """Have a large message read by the process beside this one. If that fails, nobody knows what it names."""
        exchange = self._exchange
        try:
            reading = await exchange.gate.reading.read(self._reader, file, said.body.owner)
        except AbandonedError:
            return
        except MalformedBodyError as error:
            exchange.client.run(exchange.bye, malformed(str(error), error.status).deny)
        except ReadingFailedError as error:
            exchange.gate.failed(error)
            exchange.client.run(exchange.bye, Deny(Reason.INTERNAL, exchange.gate.revision))
        else:
            exchange.client.run(self._have_read, said, reading)

    def _have_read(self, said: Said, reading: Reading) -> None:
        """It has been read elsewhere."""
        if self._elsewhere is not said:
            return
        self._elsewhere = None
        try:
            self._decide(said, reading)
        except Refused as refused:
            self._exchange.bye(refused.deny)
        else:
            self.read_on()

    # ------------------------------------------------------------------ made

    def _decide(self, said: Said, reading: Reading) -> None:
        """Have it decided; where it names things that the provider keeps, when their models are known."""
        keeper = None if self._made is None else self._made.keeper(reading)
        if keeper is None or not keeper.must_look_up:
            self._exchange.decide_on(said, reading)
            return
        if not self._exchange.gate.may_look_up():
            said.close()
            raise Refused(self._exchange.gate.stale())
        self._elsewhere = said
        tasks.spawn(self._ask_ledger(said, keeper, reading), "ledger")

    async def _ask_ledger(self, said: Said, keeper: Keeper, reading: Reading) -> None:
        """See what is known of the things it names; note the models that it leaves in them, if it may have them."""
        exchange, made = self._exchange, self._made
        assert made is not None
        try:
            await keeper.look_up()
            reading = made.widened(keeper, reading)
            asked = exchange.ask_for(reading)
            if keeper.must_mark(asked):
                await keeper.mark(asked)
        except Refused as refused:
            exchange.client.run(exchange.bye, refused.deny)
        except LedgerBusyError:
            busy = Deny(Reason.OVERLOADED, exchange.gate.revision, message="Too much is asked for at once. Try again.")
            exchange.client.run(exchange.bye, busy)
        except (OSError, TimeoutError):
            exchange.client.run(exchange.bye, exchange.gate.stale())
        else:
            exchange.client.run(self._have_read, said, reading)

    def close(self) -> None:
        """Forget everything."""
        self.inbox.close()
        if self._elsewhere is not None:
            self._elsewhere.close()
            self._elsewhere = None
