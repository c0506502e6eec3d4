"""The way of one request, as named steps. Read this first.

::

    head complete  → operation   the dialect's table; method and raw path must match exactly
                   → caller      the credential's caller, from the cache
    body complete  (one that can name no model is passed on as it comes, once all of this is known)
                   → models      what the operation's selectors find, read strictly; a large body by a process beside
                   → made        the models of what it uses that the provider keeps; the ledger may have to be asked
                   → register    in the in-flight table, before deciding; leave it at the end
                   → decide      Permit, or the refusal
                   → forward     with a Permit only; decide again if a connection had to be waited for
                   → relay       bytes as they come, back-pressure both ways, the lease checked before each write
    end            → record      one log line, counters, histograms

Nothing is awaited between a decision and the first upstream byte. A step that ends the way raises ``Refused``.
From ``register`` on the exchange can be *severed*: when a new revision denies it, or its lease runs out.
A WebSocket begins as a request does; how it goes on is ``gateway.proxy.websocket``.
"""

from collections.abc import Awaitable, Callable
from enum import StrEnum
from functools import partial
from math import inf
from time import monotonic, time
from typing import IO, TYPE_CHECKING

from gateway import tasks
from gateway.dialects import DIALECTS
from gateway.dialects.bodies import JSON, reader_for
from gateway.dialects.listing import UnreadableListError
from gateway.dialects.refusal import refuse
from gateway.dialects.selectors import HeavyBodyError, MalformedBodyError, Reader, Reading
from gateway.dialects.table import Kind, Operation
from gateway.identity.credentials import CredentialError, gateway_credential
from gateway.identity.directory import BusyError, RacedError, Unknown
from gateway.identity.jose import TokenError, looks_like_token
from gateway.identity.keys import fingerprint
from gateway.identity.on_behalf import EndUser
from gateway.policy.caller import Caller
from gateway.policy.decision import Deny, Permit, Reason
from gateway.policy.snapshot import Asked
from gateway.proxy.body import Body, BodyTooLargeError, NoRoomError
from gateway.proxy.head import Head, Refused, Way, malformed
from gateway.proxy.keeper import Keeper, of_request
from gateway.proxy.ledger import LedgerBusyError
from gateway.proxy.reading import AbandonedError, ReadingFailedError
from gateway.proxy.relay import ListTooLongError, Relay, named_model
from gateway.proxy.response import ResponseHead
from gateway.proxy.upstream import PIECE, Asker
from gateway.proxy.wire import CONTINUE, own_response

if TYPE_CHECKING:
    from gateway.proxy.connection import ClientConnection
    from gateway.proxy.gate import Gate
    from gateway.proxy.provider import Upstream
    from gateway.proxy.upstream import UpstreamConnection

EVERY_PLACE = tuple({place: None for dialect in DIALECTS.values() for place in dialect.credentials})
"""Where any dialect's SDK puts its key: the gateway's own operation takes it from any of them."""

AVAILABILITY = Operation("availability", "GET", "/availability", invokes=False)
_NO_BODY = Reading((), stream=False)


class Stage(StrEnum):
    """How far an exchange has come."""

    WAITING = "waiting"  # for its turn, its caller, its body
    CONNECTING = "connecting"
    SENT = "sent"  # upstream has it; the client has nothing yet
    RELAYING = "relaying"
    ENDED = "ended"


class Exchange(Asker):
    """One request and its response. All methods are callbacks of one event loop and return at once."""

    __slots__ = (
        "_asked", "_body", "_body_complete", "_credential", "_expects_continue", "_keeper", "_reader", "_reading",
        "_retried", "_shows_nothing", "_uploads", "_upstream", "began_at", "by_token", "bytes_in", "caller",
        "client", "content_length", "denied", "end_user", "finish_by", "first_byte_at", "gate", "head", "keep_alive",
        "known_until", "operation", "path_model", "permit", "provider", "relay", "request_id", "sent_at", "severed",
        "stage", "status", "stream",
    )  # fmt: skip

    def __init__(self, gate: "Gate", client: "ClientConnection", head: Head, content_length: int | None) -> None:
        self.gate = gate
        self.client = client
        self.head = head
        self.content_length = content_length
        self.keep_alive = head.keep_alive
        self._expects_continue = head.expects_continue
        self.request_id = gate.next_request_id()
        self.stage = Stage.WAITING
        self.provider: Upstream | None = None
        self.operation: Operation | None = None
        self.path_model: str | None = None
        self.caller: Caller | None = None
        self.by_token = False
        self.end_user: EndUser | None = None
        self.known_until = inf
        self.permit: Permit | None = None
        self.finish_by: float | None = None
        self.began_at = monotonic()
        self.sent_at = 0.0
        self.first_byte_at = 0.0
        self.status = 0
        self.bytes_in = 0
        self.stream = False
        self.severed = False
        self.denied: Deny | None = None
        self.relay = Relay()
        self._credential = ""
        self._body = Body(gate.buffered)
        self._body_complete = not (head.chunked or content_length)
        self._reader: Reader | None = None
        self._reading: Reading | None = None
        self._asked: Asked | None = None
        self._shows_nothing = False
        self._keeper: Keeper | None = None
        self._uploads = False
        self._upstream: UpstreamConnection | None = None
        self._retried = False

    # ================================================================== the request comes in

    def head_complete(self) -> None:
        """It is this request's turn, and its head is there."""
        try:
            self._find_operation()
            self._find_caller()
            self._expect_body()
        except Refused as refused:
            self.refuse(refused.deny)
        else:
            self._proceed()

    def body_piece(self, data: bytes) -> None:
        """Bytes of the body."""
        if self.stage is not Stage.WAITING and not self._uploads:
            return
        self.bytes_in += len(data)
        if self._uploads and not self._may_be_kept(data):
            return
        try:
            self._body.add(data)
        except BodyTooLargeError:
            self.refuse(self.gate.too_large().deny)
        except NoRoomError:
            self.refuse(self.gate.no_room().deny)

    def body_complete(self) -> None:
        """The whole body is there."""
        self._body_complete = True
        if self._upstream is not None and self._uploads:
            self._upstream.end_upload()
        else:
            self._proceed()

    @property
    def has_body(self) -> bool:
        """Whether a body follows the head."""
        return self.head.chunked or bool(self.content_length)

    @property
    def complete(self) -> bool:
        """Whether the whole request has been read."""
        return self._body_complete

    def _proceed(self) -> None:
        """When caller and body are both known: what is asked for, whether it may be had, and on its way."""
        if self.stage is not Stage.WAITING or self.caller is None:
            return
        if not self._body_complete and not self._uploads:
            self._ask_for_body()
            return
        try:
            if self._reading is None and not self._read_body():
                return
            if self.gate.cached(self._credential) is not self.caller:
                self.caller = None  # a revision named it while the body, or the answer of Redis, was on its way
                self._find_caller()
                if self.caller is None:
                    return
            self._find_end_user()
            if self.operation is AVAILABILITY:
                self._answer_availability()
                return
            self._find_models()
            assert self.operation is not None
            if self.operation.keeping is not None and not self._find_made():
                return
            self._register()
            permit = self._decide()
            self._forward(permit)
        except Refused as refused:
            self.refuse(refused.deny)

    # ------------------------------------------------------------------ operation

    def _find_operation(self) -> None:
        way = self.head.way
        if way is None:
            way = self.head.way = self._find_way()
        self.provider, self.operation, self.path_model = way.provider, way.operation, way.path_model

    def _find_way(self) -> Way:
        """Where the head leads."""
        head = self.head
        if (head.method, head.path) == (AVAILABILITY.method, AVAILABILITY.path) and head.query_model is None:
            return Way(None, AVAILABILITY, head.path)
        found = self.gate.find_operation(head.host, head.method, head.path)
        if found is None:
            raise self._not_listed()
        provider, path, match = found
        self.provider = provider  # whose shape a refusal has
        if match is None:
            raise self._not_listed()
        operation, path_model = match
        if head.query and provider.dialect.key_in(head.query):
            raise malformed("Send the key in a header, not in the query.")
        if head.query_model is not None and operation.query != "model":
            raise malformed("The query must not name a model.")
        if operation.talk is not None and not self.switches():
            raise malformed("This operation is a WebSocket: ask for it by GET with Upgrade: websocket.", 426)
        return Way(provider, operation, path, path_model or head.query_model)

    def _not_listed(self) -> Refused:
        """No such operation; where something is encoded that could be one, it is malformed."""
        if "%" in self.head.path:
            return malformed("The request target must be a plain path: only a model's / and : may be encoded.")
        return Refused(Deny(Reason.OPERATION_NOT_LISTED, self.gate.revision))

    # ------------------------------------------------------------------ caller

    def _find_caller(self) -> None:
        way = self.head.way
        assert way is not None
        if not way.mark:
            self._find_credential(way)
        self._credential, self.by_token = way.mark, way.by_token
        caller = self.gate.cached(self._credential)
        if isinstance(caller, Caller):
            self.caller = caller
            self._count_body_for(caller.id)
        elif not self.gate.may_look_up():
            raise Refused(self.gate.stale())
        elif caller is None:
            self._count_body_for(way.mark)
            tasks.spawn(self._look_up_caller(way.credential), "caller-look-up")
        else:
            raise Refused(Deny(Reason.UNAUTHENTICATED, self.gate.revision))

    def _find_credential(self, way: Way) -> None:
        head, provider = self.head, way.provider
        places = provider.dialect.credentials if provider else EVERY_PLACE
        forwards = provider.forwards if provider else head.gateway_key is not None
        try:
            way.credential = gateway_credential(head.gateway_key, self._carriers(), places, forwards=forwards)
        except CredentialError as error:
            raise Refused(Deny(Reason.UNAUTHENTICATED, self.gate.revision, message=str(error))) from None
        way.mark, way.by_token = fingerprint(way.credential), looks_like_token(way.credential)

    def _carriers(self) -> list[tuple[bytes, bytes]]:
        """The headers that can carry a credential."""
        return self.head.forward

    async def _look_up_caller(self, credential: str) -> None:
        """Verify a token, or ask Redis for a caller that the cache does not know. If Redis fails: not now."""
        try:
            caller = await self.gate.look_up(credential)
        except TokenError as error:
            self.refuse(Deny(Reason.UNAUTHENTICATED, self.gate.revision, message=str(error)))
            return
        except BusyError:
            self.refuse(Deny(Reason.OVERLOADED, self.gate.revision, message="Too many new keys at once. Try again."))
            return
        except (OSError, TimeoutError, RacedError):
            self.refuse(self.gate.stale())
            return
        if isinstance(caller, Unknown):
            self.refuse(Deny(Reason.UNAUTHENTICATED, self.gate.revision))
        else:
            self.client.run(lambda: self._found_caller(caller))

    def _found_caller(self, caller: Caller) -> None:
        self.caller = caller
        try:
            self._count_body_for(caller.id)
        except Refused as refused:
            self.refuse(refused.deny)
        self._proceed()

    def _count_body_for(self, owner: str) -> None:
        """Whose the bytes of the body are that wait here."""
        try:
            self._body.belongs_to(owner)
        except NoRoomError:
            raise self.gate.no_room() from None

    def _find_end_user(self) -> None:
        """For whom the caller asks, if it says so."""
        assert self.caller is not None
        if self.head.on_behalf_of is not None:
            try:
                self.end_user = self.gate.end_user(self.head.on_behalf_of, self.caller)
            except TokenError as error:
                message = f"Portcullis-On-Behalf-Of: {error}"
                raise Refused(Deny(Reason.UNAUTHENTICATED, self.gate.revision, message=message)) from None
        if self.caller.expires is not None or self.end_user is not None:
            self._forget_expired()

    def _forget_expired(self) -> None:
        """What is known about a person ends to be known at its time."""
        assert self.caller is not None
        now = time()
        self.caller = self.caller.at(now)
        self.end_user = None if self.end_user is None else self.end_user.at(now)
        people = (self.caller, self.on_behalf_of)
        self.known_until = min((p.expires for p in people if p is not None and p.expires is not None), default=inf)

    @property
    def on_behalf_of(self) -> Caller | None:
        """The end user, as the policy sees it."""
        return None if self.end_user is None else self.end_user.caller

    # ------------------------------------------------------------------ body

    def _expect_body(self) -> None:
        """Judge from the head whether a body may come, and of what kind."""
        head, operation = self.head, self.operation
        assert operation is not None
        if operation.body is Kind.NONE:
            if self.has_body:
                raise malformed("This operation has no body.")
            return
        if operation.body is Kind.OPAQUE and self._expect_upload(operation):
            return
        kind = head.content_type
        if operation.body is Kind.JSON and head.content_encoding is None and kind is not None and kind.lower() in JSON:
            self._reader = operation.reader
        else:
            self._reader = self._find_reader(operation)
        length = self.content_length or 0
        if length > self.gate.limits.body_bytes:
            raise self.gate.too_large()
        if not self.gate.buffered.has_room(self._body.owner, length):
            raise self.gate.no_room()

    def _expect_upload(self, operation: Operation) -> bool:
        """Whether the body can be passed on as it comes: nothing in it is read, and nothing is signed."""
        assert self.provider is not None
        if self.head.content_encoding is not None or self.provider.signs:
            return False
        self._find_reader(operation)  # its type is judged all the same
        if (self.content_length or 0) > self.gate.limits.upload_bytes:
            raise self.gate.upload_too_large()
        self._uploads, self._reading = self.has_body, _NO_BODY
        return True

    def _find_reader(self, operation: Operation) -> Reader:
        """Who reads a body that is not plain JSON."""
        head, limit = self.head, self.gate.limits.body_bytes
        try:
            return reader_for(operation, head.content_type, head.content_encoding, has_body=self.has_body, limit=limit)
        except MalformedBodyError as error:
            raise malformed(str(error), error.status) from None

    def _ask_for_body(self) -> None:
        """Say once that the body is wanted, to a client that waits for that (RFC 9110 §10.1.1).

        What the head alone refuses, an unknown caller for one, has been refused by now: instead of the 100.
        """
        if self._expects_continue and self.bytes_in == 0:
            self._expects_continue = False
            self.client.write(CONTINUE)

    def _read_body(self) -> bool:
        """Read what the body says; if that takes long, it is done elsewhere, and ``_proceed`` is called again."""
        if self._reader is None:
            self._reading = _NO_BODY
            return True
        try:
            if not self._body.spooled:
                self._reading = self._reader.read_light(bytes(self._body.content()))
                return True
        except MalformedBodyError as error:
            raise malformed(str(error), error.status) from None
        except HeavyBodyError:
            pass
        try:
            file = self._body.spool()  # now: a body that is closed before the task begins must not be opened anew
        except NoRoomError:
            raise self.gate.no_room() from None
        tasks.spawn(self._read_elsewhere(file), "read-body")
        return False

    async def _read_elsewhere(self, file: IO[bytes]) -> None:
        """Have a large body read by the process beside this one. If that fails, nobody knows what it would invoke."""
        assert self._reader is not None
        try:
            self._reading = await self.gate.reading.read(self._reader, file, self._body.owner)
        except AbandonedError:
            return
        except MalformedBodyError as error:
            self.refuse(malformed(str(error), error.status).deny)
        except ReadingFailedError as error:
            self.gate.failed(error)
            self.refuse(Deny(Reason.INTERNAL, self.gate.revision))
        else:
            self.client.run(self._proceed)

    # ------------------------------------------------------------------ models

    def _find_models(self) -> None:
        """Find every model the request names."""
        assert self.operation is not None
        assert self.provider is not None
        assert self._reading is not None
        names, self.stream, unnamed, _ = self._reading
        if self.operation.streams:
            self.stream = True
        if self.path_model is not None:
            names = self._with_path(self.path_model, names)
        if self.operation.candidates:
            unnamed = (self.operation.candidates, *unnamed)
        self._asked = Asked(self.provider.name, names, "chat", unnamed)

    def _with_path(self, path_model: str, names: tuple[str, ...]) -> tuple[str, ...]:
        """The models of path and body. Where they are to be the same, no server gets to choose."""
        assert self.operation is not None
        if self.operation.also:
            return (path_model, *names)
        if any(name.removeprefix("models/") != path_model for name in names):
            raise malformed("The path and the body must name the same model.")
        return (path_model,)

    # ------------------------------------------------------------------ made

    def _find_made(self) -> bool:
        """Have the models of what it uses decided, too, and noted where it leaves any. ``False``: Redis is asked."""
        assert self._asked is not None
        assert self._reading is not None
        assert self.operation is not None
        assert self.operation.keeping is not None
        if not self.operation.keeping.always and not self._reading.ids:
            return True
        keeper = self._keeper or self._new_keeper()
        if keeper.asking:
            return False
        if keeper.must_look_up:
            return self._ask_ledger(keeper, keeper.look_up)
        self._asked, self._shows_nothing = keeper.widened(self._asked)
        if keeper.must_mark(self._asked):
            self._decide()  # what is refused leaves nothing
            return self._ask_ledger(keeper, partial(keeper.mark, self._asked))
        return True

    def _new_keeper(self) -> Keeper:
        assert self.operation is not None
        assert self.provider is not None
        assert self.caller is not None
        assert self.head.way is not None
        assert self._reading is not None
        path, ids = self.head.way.path, self._reading.ids
        self._keeper = of_request(self.gate.ledger, self.provider.name, self.operation, path, ids, self.caller.id)
        return self._keeper

    def _ask_ledger(self, keeper: Keeper, ask: Callable[[], Awaitable[None]]) -> bool:
        """Begin to ask; ``_proceed`` is called again. Not without a lease, as for callers."""
        if not self.gate.may_look_up():
            raise Refused(self.gate.stale())
        keeper.asking = True
        tasks.spawn(self._await_ledger(keeper, ask), "ledger")
        return False

    async def _await_ledger(self, keeper: Keeper, ask: Callable[[], Awaitable[None]]) -> None:
        try:
            await ask()
        except LedgerBusyError:
            self.refuse(
                Deny(Reason.OVERLOADED, self.gate.revision, message="Too much is asked for at once. Try again.")
            )
        except (OSError, TimeoutError):
            self.refuse(self.gate.stale())
        else:
            keeper.asking = False
            self.client.run(self._proceed)

    # ------------------------------------------------------------------ register, decide

    def _register(self) -> None:
        """From here on a new revision decides this exchange again, before it is acknowledged."""
        self.gate.in_flight.add(self)

    def _decide(self) -> Permit:
        decision = self.decide_again()
        if isinstance(decision, Deny):
            raise Refused(decision)
        return decision

    def decide_again(self) -> Permit | Deny:
        """What the policy in force says of this exchange."""
        assert self.caller is not None
        assert self._asked is not None
        if self.caller.expires is not None or self.end_user is not None:
            self._forget_expired()
        end_user = None if self.end_user is None else self.end_user.caller
        return self.gate.decide(self.caller, self._asked, invokes=self._invokes(), on_behalf_of=end_user)

    def _invokes(self) -> bool:
        """Whether a model could run, or something be shown that one has put out."""
        assert self.operation is not None
        assert self._asked is not None
        named = bool(self._asked.names or self._asked.also)
        return not self._shows_nothing and (self.operation.invokes or named)

    # ------------------------------------------------------------------ forward

    def _forward(self, permit: Permit) -> None:
        """Send it upstream on an idle connection; else wait for one and decide again."""
        assert self.provider is not None
        if self._uploads:  # on a connection of its own: one that dies as it is taken up could not be asked again
            self.stage = Stage.CONNECTING
            self.provider.pool.connect(self)
            return
        upstream = self.provider.pool.acquire(self)
        if upstream is None:
            self.stage = Stage.CONNECTING
        else:
            self._send(upstream, permit)

    def connected(self, upstream: "UpstreamConnection") -> None:
        """A new connection is there. The policy may be another one than when it was asked for."""
        if self.stage is not Stage.CONNECTING:
            upstream.pool.give_back(upstream)
            return
        try:
            self._send(upstream, self._decide())
        except Refused as refused:
            upstream.pool.give_back(upstream)
            self.refuse(refused.deny)

    def not_connected(self, reason: Reason, cause: str) -> None:
        """There is no connection to be had."""
        if self.stage is Stage.CONNECTING:
            self.gate.recorder.failure(self, cause)
            self.refuse(Deny(reason, self.gate.revision))

    def _send(self, upstream: "UpstreamConnection", permit: Permit) -> None:
        self.permit = permit
        self.stage = Stage.SENT
        self.sent_at = monotonic()
        self._upstream = upstream
        if self._uploads:
            assert self.provider is not None
            head = self.provider.upload_head(self.head, self.content_length, identity=self._wants_identity())
            upstream.begin_upload(self, permit, head, chunked=self.content_length is None)
            self._send_kept()
        else:
            body = self._body.content()
            upstream.send(self, permit, self._onward_head(body), body)
        if self.client.takes_nothing():
            upstream.hold_back()

    def _onward_head(self, body: bytes | memoryview) -> bytes:
        """The head as the provider gets it."""
        assert self.provider is not None
        return self.provider.request_head(self.head, body, identity=self._wants_identity())

    def _wants_identity(self) -> bool:
        """Whether the response is read here, and so must have no coding."""
        assert self.operation is not None
        return self.stream or self.operation.listing is not None or self._keeper is not None

    # ------------------------------------------------------------------ a body that is passed on as it comes

    def _may_be_kept(self, data: bytes) -> bool:
        """A piece of an upload: sent on; kept, and the client held back, while there is nowhere to send it to."""
        if self.bytes_in > self.gate.limits.upload_bytes:
            self.refuse(self.gate.upload_too_large().deny)
            return False
        if self.stage in (Stage.WAITING, Stage.CONNECTING):
            self.client.hold_body()
            return True
        self._send_piece(data)
        return False

    def _send_piece(self, data: bytes | memoryview) -> None:
        """Send some of the body, the lease looked at before each write; the client waits while it is not taken."""
        for start in range(0, len(data), PIECE):
            if self._upstream is None or not self.may_write():
                return  # answered already, or severed
            self._upstream.send_more(bytes(data[start : start + PIECE]))
        if self._upstream is not None and not self._upstream.takes_more():
            self.client.hold_body()

    def _send_kept(self) -> None:
        """What has come until now; then the rest is wanted."""
        kept = self._body.content()
        self._body.close()
        self._send_piece(kept)
        if self._upstream is None:
            return
        if self._body_complete:
            self._upstream.end_upload()
        elif self._upstream.takes_more():
            self._ask_for_body()
            self.client.take_body()

    def takes_more(self) -> None:
        """The provider takes more of the body."""
        self.client.take_body()

    # ================================================================== the response goes out

    def may_write(self) -> bool:
        """Whether the lease covers this exchange at this moment; if not, it is severed."""
        assert self.permit is not None
        if self.gate.replica.may_serve(self.gate.lease_clock(), self.permit.max_stale):
            return True
        self.sever(self.gate.stale())
        return False

    def response_head(self, head: ResponseHead) -> None:
        """The provider's response begins."""
        assert self.operation is not None
        self.first_byte_at = monotonic()
        if self._upstream is not None and self._upstream.has_sent_all():
            self._body.close()  # a stream may take minutes, and its request is never sent again
        relay = self.relay
        if self.operation.listing is not None and head.status == 200:
            relay.keep_back()
            return
        self.status = head.status
        relay.frame(head, self.head.version)
        if self.operation.framed and head.status == 200:
            relay.follow_frames()
        if relay.until_close:
            self.keep_alive = False
        keep_alive = self.client.keeps_alive(self)
        relay.head(head, self.request_id, self.gate.revision, keep_alive=keep_alive)
        if self._keeper is not None:
            self._keeper.response(head)

    def response_body(self, data: bytes) -> None:
        """A piece of the response's body."""
        if not self.relay.bytes_out and self._invokes() and self._is_of_denied(data):
            return
        if self._keeper is not None:
            assert self._asked is not None
            self._keeper.piece(data, self._asked)
        try:
            self.relay.body(data)
        except ListTooLongError:
            self._refuse_upstream("list_too_long")

    def _is_of_denied(self, start: bytes) -> bool:
        """Whether a response says that it comes from a model which this caller may not have: then it is cut."""
        name = named_model(start)
        if name is None or self.permit is None or self.provider is None:
            return False
        denied = self.gate.denied_response(self, self.permit, name)
        if denied is None:
            return False
        if self.stage is Stage.SENT:
            self.refuse(denied)
        else:
            cut_before = self.gate.replica.streams_cut
            self.sever(denied)
            self.gate.replica.streams_cut = cut_before  # no revision cut it: it is on no receipt
        return True

    def response_read(self) -> None:
        """Everything that one read of the upstream brought: sent on in one write, if the lease allows it."""
        if not self.relay.out or self.stage is Stage.ENDED or self._is_held() or not self.may_write():
            return
        self.stage = Stage.RELAYING
        self.client.write(self.relay.take())
        self._check_late()

    def response_end(self) -> None:
        """The provider's response is complete, and its connection another's: from here on it is left alone."""
        self._upstream = None
        if self.relay.listed:
            self._send_list()
        self.relay.end()
        if self._keeper is not None and self._keeper.has_made():
            tasks.spawn(self._remember(self._keeper), "ledger-remember")
        else:
            self._send_end()

    def _send_end(self) -> None:
        self.response_read()
        if self.stage is not Stage.ENDED:
            self._end()

    def _is_held(self) -> bool:
        """Whether the response waits until what it made is remembered."""
        return self._keeper is not None and self._keeper.held

    async def _remember(self, keeper: Keeper) -> None:
        """Remember what was made before its id gets to the client, who may use it at once."""
        assert self._asked is not None
        await keeper.remember(self._asked)
        self.client.run(self._send_end)

    def _send_list(self) -> None:
        """A list of models, without those that this caller may not use."""
        assert self.operation is not None
        assert self.operation.listing is not None
        try:
            body = self.relay.filtered(self.operation.listing, self._may_use)
        except UnreadableListError:
            self._refuse_upstream("unreadable_list")
            return
        self.status = 200
        keep_alive = self.client.keeps_alive(self)
        self.relay.out.append(own_response(200, (), body, self.request_id, self.gate.revision, keep_alive=keep_alive))

    def _may_use(self, name: str) -> bool:
        assert self.provider is not None
        assert self.caller is not None
        asked = Asked(self.provider.name, (name,))
        return isinstance(self.gate.decide(self.caller, asked, invokes=True, on_behalf_of=self.on_behalf_of), Permit)

    def _refuse_upstream(self, cause: str) -> None:
        """The provider's answer cannot be used."""
        self.gate.recorder.failure(self, cause)
        self.refuse(Deny(Reason.UPSTREAM_UNREACHABLE, self.gate.revision))

    def _check_late(self) -> None:
        """Count a write that ended after its lease: the process slept between check and write."""
        assert self.permit is not None
        gate = self.gate
        if not gate.replica.may_serve(gate.lease_clock(), self.permit.max_stale):
            gate.recorder.counters.add("portcullis_late_writes_total")

    def upstream_lost(self, cause: str, *, untouched: bool) -> None:
        """The provider's connection is gone before its response was complete."""
        self._upstream = None
        if self.stage is Stage.SENT and untouched and not self._retried and not self._uploads:
            self._retried = True
            self._try_once_more()
        elif self.stage is Stage.SENT:
            self.gate.recorder.failure(self, cause)
            reason = Reason.UPSTREAM_TIMEOUT if cause == "timeout" else Reason.UPSTREAM_UNREACHABLE
            self.refuse(Deny(reason, self.gate.revision))
        elif self.stage is Stage.RELAYING:
            self.gate.recorder.failure(self, cause)
            self.response_read()
            self._cut_short()

    def _try_once_more(self) -> None:
        """An idle connection died as it was taken up: RFC 9110 §9.2.2 allows one more try on a new one."""
        assert self.provider is not None
        self.stage = Stage.CONNECTING
        self.provider.pool.connect(self)

    def _cut_short(self) -> None:
        """End a response that is incomplete, so that no client can take it for complete."""
        if self.stage is Stage.ENDED:
            return
        if self.relay.chunked:
            self.client.close()
        else:
            self.client.reset()
        self._end()

    # ------------------------------------------------------------------ back-pressure

    def hold_back(self) -> None:
        """The client takes nothing more for now."""
        if self._upstream is not None:
            self._upstream.hold_back()

    def go_on(self) -> None:
        """The client takes more."""
        if self._upstream is not None:
            self._upstream.go_on()

    # ================================================================== the gateway's own answer

    def _answer_availability(self) -> None:
        """What this caller may use, why not, since and until when."""
        assert self.caller is not None
        body = self.gate.availability(self.caller, self.on_behalf_of)
        self.permit = self.gate.look()
        self.stage = Stage.RELAYING
        self.status = 200
        headers = (("Cache-Control", "no-store"),)
        keep_alive = self.client.keeps_alive(self)
        self.client.write(own_response(200, headers, body, self.request_id, self.gate.revision, keep_alive=keep_alive))
        self._end()

    # ================================================================== other endings

    def refuse(self, deny: Deny) -> None:
        """Answer with a refusal; nothing of the response has been sent."""
        if self.stage is Stage.ENDED:
            return
        self.denied = deny
        self._abort_upstream()
        refusal = refuse(deny, *self.gate.refusal_context(self, deny))
        self.status = refusal.status
        self.client.write(self.client.refusal(self, refusal.status, refusal.headers, refusal.body()))
        self._end()

    def sever(self, deny: Deny) -> None:
        """Cut an exchange in flight: upstream at once, the client as far as it can be told."""
        if self.stage in (Stage.WAITING, Stage.ENDED):
            return
        self.severed = True
        if self.stage is not Stage.RELAYING:
            self.refuse(deny)
            return
        self.denied = deny
        self._abort_upstream()
        event = self._last_event(deny)
        if event is None:
            self.client.reset()
        else:
            self.client.write(event)
            self.client.close()
        self._end()

    def _last_event(self, deny: Deny) -> bytes | None:
        """The event that ends a stream, if the client is at an event's end and nothing waits to be sent."""
        assert self.operation is not None
        if not self.client.nothing_buffered():
            return None
        event = refuse(deny, *self.gate.refusal_context(self, deny)).last_event(self.operation)
        return None if event is None else self.relay.last_event(event)

    def client_gone(self) -> None:
        """The client has closed: the provider need not go on."""
        if self.stage is not Stage.ENDED:
            self._abort_upstream()
            self.status = self.status or 499
            self._end()

    def _abort_upstream(self) -> None:
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.abort()

    # ------------------------------------------------------------------ record

    def _end(self) -> None:
        if self.stage is Stage.CONNECTING and self.provider is not None:
            self.provider.pool.leave(self)
        self.stage = Stage.ENDED
        self.relay.out.clear()
        self._body.close()
        self.gate.left(self)
        self.gate.record(self)
        self.client.exchange_ended(self)

    @property
    def credential(self) -> str:
        """The fingerprint of the key it came with."""
        return self._credential
