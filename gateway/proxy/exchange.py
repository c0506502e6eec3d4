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
What is asked for, up to ``decide``, is in ``gateway.proxy.asking``; what becomes of it is here.
From ``register`` on the exchange can be *severed*: when a new revision denies it, or its lease runs out.
A WebSocket begins as a request does; how it goes on is ``gateway.proxy.websocket``.
"""

from time import monotonic
from typing import TYPE_CHECKING

from gateway import tasks
from gateway.dialects.listing import UnreadableListError
from gateway.dialects.refusal import refuse
from gateway.policy.decision import Deny, Permit, Reason
from gateway.policy.snapshot import Asked
from gateway.proxy.asking import Asking, Stage
from gateway.proxy.head import Head, Refused
from gateway.proxy.keeper import Keeper
from gateway.proxy.relay import ListTooLongError, Relay, named_model
from gateway.proxy.response import ResponseHead
from gateway.proxy.upstream import PIECE
from gateway.proxy.wire import own_response

if TYPE_CHECKING:
    from gateway.proxy.connection import ClientConnection
    from gateway.proxy.gate import Gate
    from gateway.proxy.upstream import UpstreamConnection


class Exchange(Asking):
    """One request and its response. All methods are callbacks of one event loop and return at once."""

    __slots__ = (
        "_retried", "_upstream", "denied", "finish_by", "first_byte_at", "permit", "relay", "sent_at", "severed",
        "status",
    )  # fmt: skip

    def __init__(self, gate: "Gate", client: "ClientConnection", head: Head, content_length: int | None) -> None:
        super().__init__(gate, client, head, content_length)
        self.permit: Permit | None = None
        self.finish_by: float | None = None
        self.sent_at = 0.0
        self.first_byte_at = 0.0
        self.status = 0
        self.severed = False
        self.denied: Deny | None = None
        self.relay = Relay()
        self._upstream: UpstreamConnection | None = None
        self._retried = False

    # ------------------------------------------------------------------ register, forward

    def _register(self) -> None:
        """From here on a new revision decides this exchange again, before it is acknowledged."""
        self.gate.in_flight.add(self)

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

    def body_complete(self) -> None:
        """The whole body is there."""
        if self._upstream is not None and self._uploads:
            self._body_complete = True
            self._upstream.end_upload()
        else:
            super().body_complete()

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
