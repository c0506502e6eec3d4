"""``GET /availability/events``: what a caller may use, told whenever that changes, as Server-Sent Events.

Each event is the whole of what ``GET /availability`` says, so that nothing can be missed: who was away, or too slow, is
told how it is now. A stream of events is an exchange like any other: in the in-flight table, severed with its key and
with the lease. Nothing of it runs while nothing changes, but for one heartbeat that all of a worker share.
"""

import asyncio
from collections import deque
from hashlib import blake2s
from typing import TYPE_CHECKING

import orjson

from gateway.dialects.table import Operation, Problem
from gateway.policy.decision import Deny, Permit, Reason
from gateway.proxy.asking import EVENTS_PATH, Stage
from gateway.proxy.exchange import Exchange
from gateway.proxy.head import Refused, Way
from gateway.proxy.response import ResponseHead

if TYPE_CHECKING:
    from gateway.proxy.gate import Gate

TOLD_A_TURN = 32
"""Watchers that are told at once: each may cost a decision per model, and requests must not wait for all of them."""

RETRY = b"retry: 2000\n\n"
"""Milliseconds until a client asks again; as ``Retry-After`` of a refusal."""

HEARTBEAT = b":\n\n"

HEADERS = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx would gather what is to arrive at once
]


def last_event(problem: Problem) -> bytes:
    """Why the stream ends."""
    name = b"stale" if problem.code == str(Reason.POLICY_STALE) else b"end"
    data = {"reason": problem.code, "message": problem.message, "retry": problem.details["retry"]}
    return b"event: %b\ndata: %b\n\n" % (name, orjson.dumps(data))


EVENTS = Operation("availability-events", "GET", EVENTS_PATH, invokes=False, streams=True, stream_error=last_event)


class Watcher(Exchange):
    """One stream of events."""

    __slots__ = ("_meaning",)

    def _find_operation(self) -> None:
        """Known from the path."""
        self._meaning = ""
        self.operation, self.stream = EVENTS, True
        self.head.way = Way(None, EVENTS, self.head.path)

    def decide_again(self) -> Permit | Deny:
        """The right to be told, while the policy is known at all."""
        assert self.caller is not None
        if self.caller.expires is not None or self.end_user is not None:
            self._forget_expired()
        try:
            return self.gate.look()
        except Refused as refused:
            return refused.deny

    def _answer_availability(self) -> None:
        """Tell how it is now, unless the client knows; then wait for what changes."""
        assert self.caller is not None
        event_id, event = self._event()
        self.gate.watchers.join(self, self.caller.id)
        self.permit = self.gate.look()
        self._register()
        self.stage = Stage.RELAYING
        self.status = 200
        self.keep_alive = False
        head = ResponseHead(self.status, b"")
        head.headers, head.event_stream = HEADERS, True
        self.relay.frame(head, self.head.version)
        self.relay.head(head, self.request_id, self.gate.revision, keep_alive=False)
        self.send(RETRY if self._last_seen() == event_id else RETRY + event)

    def _last_seen(self) -> bytes:
        """The id of the last event that this client has had, by its own word."""
        return next((value for name, value in self.head.forward if name == b"last-event-id"), b"")

    def _event(self) -> tuple[bytes, bytes]:
        """How it is now, and its id: the revision, and a digest, for time changes what a revision means.

        Raises:
            Refused: the lease is over.
        """
        assert self.caller is not None
        state = self.gate.available(self.caller, self.on_behalf_of)
        self._meaning = blake2s(orjson.dumps(state["models"]), digest_size=8).hexdigest()
        event_id = b"%d-%b" % (self.gate.revision, self._meaning.encode())
        return event_id, b"id: %b\nevent: availability\ndata: %b\n\n" % (event_id, orjson.dumps(state))

    def tell(self) -> None:
        """Tell what has changed for this caller, if anything has; later, if the client does not take it now."""
        if self.stage is not Stage.RELAYING or self.client.takes_nothing():
            return
        before = self._meaning
        try:
            _, event = self._event()
        except Refused as refused:
            self.sever(refused.deny)
            return
        if self._meaning != before:
            self.send(event)

    def go_on(self) -> None:
        """The client takes more: only how it is now counts."""
        self.tell()

    def send(self, data: bytes) -> None:
        """Write some of the stream."""
        self.relay.body(data)
        self.client.write(self.relay.take())

    def leave(self) -> None:
        """The process is leaving: another one goes on with it."""
        if self.stage is Stage.RELAYING:
            self.relay.end()
            self.client.write(self.relay.take())
            self._end()

    def _end(self) -> None:
        self.gate.watchers.left(self)
        super()._end()


class Watchers:
    """All watchers of a worker."""

    def __init__(self, gate: "Gate") -> None:
        self._gate = gate
        self.open: dict[Watcher, str] = {}
        self._untold: deque[Watcher] = deque()
        self._next_beat = 0.0

    def join(self, watcher: Watcher, caller_id: str) -> None:
        """One more.

        Raises:
            Refused: there are too many, of this caller or of all.
        """
        limits = self._gate.limits
        mine = sum(1 for other in self.open.values() if other == caller_id)
        if mine >= limits.watchers_per_caller or len(self.open) >= limits.watchers:
            message = "Too many of these streams are open, of yours or of everybody's. Ask /availability instead."
            raise Refused(Deny(Reason.OVERLOADED, self._gate.revision, message=message))
        self.open[watcher] = caller_id

    def left(self, watcher: Watcher) -> None:
        """One less."""
        self.open.pop(watcher, None)

    def changed(self) -> None:
        """Another policy is in force: tell everybody, soon, but not before the revision counts as applied."""
        if self.open and not self._untold:
            asyncio.get_running_loop().call_soon(self._tell_some)
        self._untold = deque(self.open)

    def _tell_some(self) -> None:
        for _ in range(min(TOLD_A_TURN, len(self._untold))):
            watcher = self._untold.popleft()
            watcher.client.run(watcher.tell)
        if self._untold:
            asyncio.get_running_loop().call_soon(self._tell_some)

    def sweep(self, now: float) -> None:
        """The heartbeat, when it is time: it shows both ends that the other is there."""
        if now < self._next_beat:
            return
        self._next_beat = now + self._gate.timeouts.watcher_heartbeat
        for watcher in list(self.open):
            if not watcher.client.takes_nothing():
                watcher.send(HEARTBEAT)

    def leave(self) -> None:
        """End them all: their clients ask again, somewhere else."""
        for watcher in list(self.open):
            watcher.leave()
