"""What time makes due, as revisions of their own with receipts, by exactly one of however many control processes.

Replicas deny by their own clocks from the moment on: a window's beginning, an attestation's end. The commit makes it a
revision that can be proven. At a window's end a directive without an order is lifted; one under an order stays until a
second person lifts it.
"""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog
from redis.exceptions import RedisError

from gateway.enforcement.receipts import Receipts
from gateway.enforcement.signing import ForgedError
from gateway.enforcement.store import ConflictError, Current, NotInitialisedError, Store
from gateway.policy.document import Directive, Document, Org, State

LOOK_SECONDS = 1.0
_log = structlog.get_logger("portcullis.scheduler")


def begins(directive: Directive, now: datetime) -> bool:
    """Whether a window's beginning is due and has no revision yet."""
    begin = directive.window.from_
    return directive.state is State.IN_FORCE and not directive.begun and begin is not None and begin <= now


def ends(directive: Directive, now: datetime) -> bool:
    """Whether a window is over and its directive still stands."""
    end = directive.window.until
    return directive.state is State.IN_FORCE and end is not None and end <= now


def lapses(org: Org, now: datetime) -> bool:
    """Whether an attestation's end is due and has no revision yet."""
    said = org.attestation
    return said is not None and not said.over and said.expires <= now


@dataclass(frozen=True, slots=True)
class Event:
    """What can fall due: for which objects of the policy, when, and what becomes of one. ``moment`` tells two apart."""

    action: str
    kind: str
    due: Callable[[Any, datetime], bool]
    becomes: Callable[[Any], Any]
    moment: Callable[[Any], datetime | None]


EVENTS = (
    Event(
        "window_begins", "directives", begins,
        lambda directive: directive.model_copy(update={"begun": True}), lambda directive: directive.window.from_,
    ),
    Event(
        "window_ends", "directives", lambda directive, now: directive.order is None and ends(directive, now),
        lambda directive: directive.model_copy(update={"state": State.LIFTED}),
        lambda directive: directive.window.until,
    ),
    Event(
        "attestation_ends", "orgs", lapses,
        lambda org: org.model_copy(update={"attestation": org.attestation.model_copy(update={"over": True})}),
        lambda org: org.attestation.expires,
    ),
)  # fmt: skip


class Scheduler:
    """Commits what time has made due."""

    def __init__(self, store: Store, receipts: Receipts) -> None:
        self._store = store
        self._receipts = receipts
        self._told: set[str] = set()

    async def run(self) -> None:
        """Look every second; another control process that was faster is no failure."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await self.look(datetime.now(UTC))
            except (RedisError, OSError, TimeoutError, ConflictError, NotInitialisedError, ForgedError) as error:
                _log.debug("scheduler_waits", error=str(error))

    async def look(self, now: datetime) -> None:
        """Commit all that is due, one revision each."""
        document = (await self._store.current()).document
        for event, object_id in list(_due(document, now)):
            await self._commit(event, object_id, now)
        for directive_id, directive in document.directives.items():
            if directive.order is not None and ends(directive, now) and directive_id not in self._told:
                self._told.add(directive_id)
                _log.warning("window_over_under_order", directive=directive_id, order=directive.order)

    async def _commit(self, event: Event, object_id: str, now: datetime) -> None:
        """Make a revision of it, unless it was edited meanwhile so that it is due no more."""
        base = await self._store.current()
        there = getattr(base.document, event.kind).get(object_id)
        if there is None or not event.due(there, now):
            return
        directive = there if isinstance(there, Directive) else None
        committed = await self._store.commit(
            base,
            _edited(base, event, object_id, there),
            actor="scheduler",
            action=event.action,
            subject=f"{event.kind}/{object_id}",
            order=directive.order if directive else None,
            op_id=f"{event.action}:{base.position.epoch}:{object_id}:{event.moment(there)}",
        )
        if not committed.repeated:
            self._receipts.open(committed, base.snapshot.covered(directive.models) if directive else [])
            _log.info(event.action, subject=f"{event.kind}/{object_id}", revision=committed.entry.rev)


def _due(document: Document, now: datetime) -> Iterator[tuple[Event, str]]:
    for event in EVENTS:
        for object_id, there in getattr(document, event.kind).items():
            if event.due(there, now):
                yield event, object_id


def _edited(base: Current, event: Event, object_id: str, there: Any) -> Document:
    objects = {**getattr(base.document, event.kind), object_id: event.becomes(there)}
    changed = {**base.document.changed, f"{event.kind}/{object_id}": base.rev + 1}
    return base.document.edited(**{event.kind: objects}, changed=changed)
