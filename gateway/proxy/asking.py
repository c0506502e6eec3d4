"""What a request asks for, and for whom: its way from the head to the decision (the steps: ``gateway.proxy.exchange``).

Nothing here sends anything upstream; what may be had goes to ``_forward``, what may not to ``refuse``.
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
from gateway.dialects.query_keys import QueryKeyError
from gateway.dialects.selectors import HeavyBodyError, MalformedBodyError, Reader, Reading
from gateway.dialects.table import Kind, Operation
from gateway.identity.credentials import CredentialError, KeyInTwoPlacesError, gateway_credential
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
from gateway.proxy.upstream import Asker
from gateway.proxy.wire import CONTINUE

if TYPE_CHECKING:
    from gateway.proxy.connection import ClientConnection
    from gateway.proxy.gate import Gate
    from gateway.proxy.provider import Upstream

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


class Asking(Asker):
    """One request until it is decided. All methods are callbacks of one event loop and return at once."""

    __slots__ = (
        "_asked", "_body", "_body_complete", "_credential", "_expects_continue", "_keeper", "_reader", "_reading",
        "_shows_nothing", "_uploads", "began_at", "by_token", "bytes_in", "caller", "client", "content_length",
        "end_user", "gate", "head", "keep_alive", "known_until", "operation", "path_model", "provider", "request_id",
        "stage", "stream",
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
        self.began_at = monotonic()
        self.bytes_in = 0
        self.stream = False
        self._credential = ""
        self._body = Body(gate.buffered)
        self._body_complete = not (head.chunked or content_length)
        self._reader: Reader | None = None
        self._reading: Reading | None = None
        self._asked: Asked | None = None
        self._shows_nothing = False
        self._keeper: Keeper | None = None
        self._uploads = False

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
        query, key = self._split_query(provider) if head.query else (b"", b"")
        if head.query_model is not None and operation.query != "model":
            raise malformed("The query must not name a model.")
        if operation.talk is not None and not self.switches():
            raise malformed("This operation is a WebSocket: ask for it by GET with Upgrade: websocket.", 426)
        return Way(provider, operation, path, path_model or head.query_model, query, key)

    def _split_query(self, provider: "Upstream") -> tuple[bytes, bytes]:
        """What goes on of the query, and the caller's key if it was in it."""
        try:
            query, key = provider.dialect.query_keys.split(self.head.query)
        except QueryKeyError as error:
            raise malformed(str(error)) from None
        if key and provider.forwards:
            raise malformed("Send the provider's key in a header, not in the query.")
        return query, key

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
            way.credential = gateway_credential(
                head.gateway_key, self._carriers(), places, forwards=forwards, in_query=way.key
            )
        except KeyInTwoPlacesError as error:
            raise malformed(str(error)) from None
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

    # ------------------------------------------------------------------ decide

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

    # ------------------------------------------------------------------ where this leads

    def _register(self) -> None:
        """It is about to be decided."""
        raise NotImplementedError

    def _forward(self, permit: Permit) -> None:
        """It may be had."""
        raise NotImplementedError

    def refuse(self, deny: Deny) -> None:
        """It may not."""
        raise NotImplementedError

    def _may_be_kept(self, data: bytes) -> bool:
        """Whether a piece of a body that is passed on as it comes is kept for now, here."""
        raise NotImplementedError

    def _answer_availability(self) -> None:
        """What this caller may use is asked for."""
        raise NotImplementedError
