"""What time makes due, as revisions of their own with receipts, by exactly one of however many control processes.

Replicas deny by their own clocks from the moment on: a window's beginning, an attestation's end. The commit makes it a
revision that can be proven. At a window's end a directive without an order is lifted; one under an order stays, unless
a second person has agreed that its end lifts it (``window.reopens``), until a second person lifts it.

What closes is due by this machine's clock. What opens is due only when every clock says so: this one's, Redis', and
those of all control processes that were heard of lately (``gateway.control.clocks``). A clock that is wrong can delay
an opening, which is told, and cannot bring one forward. What is done late, after an outage, says how late.
"""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog
from redis.exceptions import RedisError

from gateway.control.clocks import Clocks, utc
from gateway.enforcement.receipts import Receipts
from gateway.enforcement.signing import ForgedError
from gateway.enforcement.store import ConflictError, Current, NotInitialisedError, Store
from gateway.policy.document import Directive, Document, Org, State

LOOK_SECONDS = 1.0
LATE_SECONDS = 3.0
"""What is done later than this says so: some looks found no Redis, or nobody looked."""

_log = structlog.get_logger("portcullis.scheduler")


def begins(directive: Directive, now: datetime) -> bool:
    """Whether a window's beginning is due and has no revision yet."""
    begin = directive.window.from_
    return directive.state is State.IN_FORCE and not directive.begun and begin is not None and begin <= now


def ends(directive: Directive, now: datetime) -> bool:
    """Whether a window is over and its directive still stands."""
    end = directive.window.until
    return directive.state is State.IN_FORCE and end is not None and end <= now


def reopens(directive: Directive, now: datetime) -> bool:
    """Whether a window is over, and its end is what lifts the directive."""
    return ends(directive, now) and (directive.order is None or directive.window.reopens)


def lapses(org: Org, now: datetime) -> bool:
    """Whether an attestation's end is due and has no revision yet."""
    said = org.attestation
    return said is not None and not said.over and said.expires <= now


@dataclass(frozen=True, slots=True)
class Event:
    """What can fall due: for which objects of the policy, when, and what becomes of one. ``moment`` tells two apart.

    ``opens``: somebody gains by it.
    """

    action: str
    kind: str
    due: Callable[[Any, datetime], bool]
    becomes: Callable[[Any], Any]
    moment: Callable[[Any], datetime | None]
    opens: bool = False


EVENTS = (
    Event(
        "window_begins", "directives", begins,
        lambda directive: directive.model_copy(update={"begun": True}), lambda directive: directive.window.from_,
    ),
    Event(
        "window_ends", "directives", reopens,
        lambda directive: directive.model_copy(update={"state": State.LIFTED}),
        lambda directive: directive.window.until, opens=True,
    ),
    Event(
        "attestation_ends", "orgs", lapses,
        lambda org: org.model_copy(update={"attestation": org.attestation.model_copy(update={"over": True})}),
        lambda org: org.attestation.expires,
    ),
)  # fmt: skip


class Scheduler:
    """Commits what time has made due."""

    def __init__(self, store: Store, receipts: Receipts, clock: Callable[[], datetime] = utc) -> None:
        self._store = store
        self._receipts = receipts
        self._clock = clock
        self._clocks = Clocks(store, clock)
        self._told: set[str] = set()

    async def run(self) -> None:
        """Look every second, and at the moment when something begins; that another one was faster is no failure."""
        while True:
            await asyncio.sleep(self._pause())
            try:
                await self.once()
            except (RedisError, OSError, TimeoutError, ConflictError, NotInitialisedError, ForgedError) as error:
                _log.debug("scheduler_waits", error=str(error))

    async def once(self) -> None:
        """Look by the clocks there are."""
        await self.look(self._clock(), await self._clocks.earliest())

    def _pause(self) -> float:
        """Seconds until something begins, and no more than between two looks."""
        known = self._store.last
        boundary = None if known is None else known.snapshot.next_boundary
        if boundary is None:
            return LOOK_SECONDS
        return min(LOOK_SECONDS, max(0.0, (boundary - self._clock()).total_seconds()) + 0.001)

    async def look(self, now: datetime, earliest: datetime | None = None) -> None:
        """Commit all that is due, one revision each. ``earliest``: the time for what opens, where clocks differ."""
        document = (await self._store.current()).document
        for event, object_id in list(_due(document, now, earliest or now)):
            await self._commit(event, object_id, earliest or now if event.opens else now)
        for directive_id, directive in document.directives.items():
            stays = directive.order is not None and not directive.window.reopens
            if stays and ends(directive, now) and directive_id not in self._told:
                self._told.add(directive_id)
                _log.warning("window_over_under_order", directive=directive_id, order=directive.order)

    async def _commit(self, event: Event, object_id: str, now: datetime) -> None:
        """Make a revision of it, unless it was edited meanwhile so that it is due no more."""
        base = await self._store.current()
        there = getattr(base.document, event.kind).get(object_id)
        if there is None or not event.due(there, now):
            return
        directive = there if isinstance(there, Directive) else None
        late = _late(event.moment(there), now)
        committed = await self._store.commit(
            base,
            _edited(base, event, object_id, there),
            actor="scheduler",
            action=event.action,
            subject=f"{event.kind}/{object_id}",
            order=directive.order if directive else None,
            op_id=f"{event.action}:{base.position.epoch}:{object_id}:{event.moment(there)}",
            told={"due": str(event.moment(there)), **({} if late is None else {"late_seconds": late})},
        )
        if late is not None:
            _log.warning("scheduled_late", subject=f"{event.kind}/{object_id}", action=event.action, seconds=late)
        if not committed.repeated:
            self._receipts.open(committed, base.snapshot.covered(directive.models) if directive else [])
            _log.info(event.action, subject=f"{event.kind}/{object_id}", revision=committed.entry.rev)


def _late(moment: datetime | None, now: datetime) -> float | None:
    """How many seconds late something is done, if that is worth a word."""
    late = 0.0 if moment is None else (now - moment).total_seconds()
    return round(late, 3) if late > LATE_SECONDS else None


def _due(document: Document, now: datetime, earliest: datetime) -> Iterator[tuple[Event, str]]:
    for event in EVENTS:
        moment = earliest if event.opens else now
        for object_id, there in getattr(document, event.kind).items():
            if event.due(there, moment):
                yield event, object_id


def _edited(base: Current, event: Event, object_id: str, there: Any) -> Document:
    objects = {**getattr(base.document, event.kind), object_id: event.becomes(there)}
    changed = {**base.document.changed, f"{event.kind}/{object_id}": base.rev + 1}
    return base.document.edited(**{event.kind: objects}, changed=changed)
