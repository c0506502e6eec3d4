"""Windows: their beginnings and ends as revisions of their own, with receipts, by exactly one of however many.

Replicas deny from a window's beginning by their own clocks; the commit makes it a revision that can be proven. At
its end a directive without an order is lifted; one under an order stays until a second person lifts it.
"""

import asyncio
from datetime import UTC, datetime

import structlog
from redis.exceptions import RedisError

from gateway.enforcement.receipts import Receipts
from gateway.enforcement.signing import ForgedError
from gateway.enforcement.store import ConflictError, Current, NotInitialisedError, Store
from gateway.policy.document import Directive, Document, State

LOOK_SECONDS = 1.0
_log = structlog.get_logger("portcullis.scheduler")


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
        """Commit each beginning and end that is due, one revision each."""
        for directive_id, directive in (await self._store.current()).document.directives.items():
            if begins(directive, now):
                await self._commit(directive_id, "window_begins", {"begun": True})
            elif ends(directive, now):
                await self._end(directive_id, directive)

    async def _end(self, directive_id: str, directive: Directive) -> None:
        if directive.order is None:
            await self._commit(directive_id, "window_ends", {"state": State.LIFTED})
        elif directive_id not in self._told:
            self._told.add(directive_id)
            _log.warning("window_over_under_order", directive=directive_id, order=directive.order)

    async def _commit(self, directive_id: str, action: str, fields: dict[str, object]) -> None:
        base = await self._store.current()
        directive = base.document.directives[directive_id]
        committed = await self._store.commit(
            base,
            _edited(base, directive_id, directive.model_copy(update=fields)),
            actor="scheduler",
            action=action,
            subject=f"directives/{directive_id}",
            order=directive.order,
            op_id=f"{action}:{base.position.epoch}:{directive_id}:{directive.window.model_dump_json()}",
        )
        if not committed.repeated:
            self._receipts.open(committed, base.snapshot.covered(directive.models))
            _log.info(action, directive=directive_id, revision=committed.entry.rev)


def begins(directive: Directive, now: datetime) -> bool:
    """Whether a window's beginning is due and has no revision yet."""
    begin = directive.window.from_
    return directive.state is State.IN_FORCE and not directive.begun and begin is not None and begin <= now


def ends(directive: Directive, now: datetime) -> bool:
    """Whether a window is over and its directive still stands."""
    end = directive.window.until
    return directive.state is State.IN_FORCE and end is not None and end <= now


def _edited(base: Current, directive_id: str, directive: Directive) -> Document:
    changed = {**base.document.changed, f"directives/{directive_id}": base.rev + 1}
    directives = {**base.document.directives, directive_id: directive}
    return base.document.edited(directives=directives, changed=changed)
