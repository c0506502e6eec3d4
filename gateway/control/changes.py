"""The one way to a new revision: compose, check, commit, prove, answer.

Every call that changes policy answers alike: 200 with the receipt once it is closed; 202 with the receipt and its
URL if ``?wait=`` ran out; 202 with the change and its URL if a second person must agree, and then nothing is
committed. Never an early yes.
"""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import structlog
from aiohttp import web
from redis.exceptions import RedisError

from gateway.control import edits, proposals
from gateway.control.approval import Move, Opening, openings
from gateway.control.conditions import etag
from gateway.control.edits import EditBody, Stamp
from gateway.control.idempotency import Operation, begin, remember
from gateway.control.ids import derive
from gateway.control.problems import Conflict, Overtaken, PreconditionFailed, Unchanged
from gateway.control.routing import Call, answer
from gateway.enforcement.store import Committed, ConflictError, Current, Edit, LostError
from gateway.policy.document import Document
from gateway.policy.orders import concerned, differences, standing

ATTEMPTS = 50
"""How often a call that insists composes anew. Each round one of the competitors wins."""

JITTER_SECONDS = 0.005

_log = structlog.get_logger("portcullis.control")


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a call makes of the policy in force.

    ``document``: the new one, or ``None`` where only records change. ``touched``: which of its objects get this
    revision as their ETag (``models/<id>``). ``models``: whose enforcement the receipt is about. ``answer``: what
    the answer says beside the receipt; ``secret``: the same, but said only once and remembered nowhere.
    ``edits``: the same as data, so that it can wait for approval; ``moves``: which callers become what. ``restores``:
    an earlier policy, of which it takes back to what was open then. ``approved``: somebody else has looked at it.
    ``told``: what the evidence says of it, beside what changed.
    """

    action: str
    subject: str
    document: Document | None = None
    touched: tuple[str, ...] = ()
    edit: Edit = field(default_factory=Edit)
    models: list[str] = field(default_factory=list)
    hold: str | None = None
    order: str | None = None
    answer: Mapping[str, Any] = field(default_factory=dict)
    secret: Mapping[str, str] = field(default_factory=dict)
    status: int = 200
    edits: tuple[EditBody, ...] = ()
    moves: tuple[Move, ...] = ()
    restores: Document | None = None
    note: str | None = None
    approved: bool = False
    told: Mapping[str, Any] = field(default_factory=dict)


Compose = Callable[[Current, Operation], Awaitable[Change]]
"""A change from the policy in force. It may be asked again, so it derives every id from the operation."""


async def apply(call: Call[Any], compose: Compose, *, insist: bool = False) -> web.Response:
    """Make a revision and answer with its receipt.

    ``insist``: when somebody else commits in between, compose anew and try again. Only for what takes access away.

    Raises:
        Overtaken, PreconditionFailed: somebody else committed in between.
        Unchanged: there is nothing to commit.
    """
    operation = await begin(call)
    if operation.known:
        return await _answer_again(call, await _known(call, operation), operation.memory or {})
    waiting = await proposals.find(call.context.store, change_id(operation)) if operation.marker else None
    if waiting is not None:
        return answer_waiting(waiting)
    for _ in range(ATTEMPTS if insist else 1):
        base, change = await _compose(call, compose, operation)
        opens = [] if change.approved else await opened(base, change)
        if opens:
            return await _propose(call, operation, base, change, opens)
        committed = await _commit(call, base, change, operation)
        if committed is not None:
            return await _answer_first(call, operation, committed, change)
        await asyncio.sleep(random.uniform(0, JITTER_SECONDS))  # noqa: S311 - not for secrets
    cause = PreconditionFailed if "If-Match" in call.request.headers else Overtaken
    raise cause("Nothing was changed. Look at the policy again, then repeat the call.")


async def of_edits(call: Call[Any], base: Current, *wanted: EditBody, action: str, subject: str, **more: Any) -> Change:
    """The change that edits make. What they touch is what the receipt is about, where nothing else is said.

    Raises:
        Problem: they do not fit.
    """
    composed = await edits.composed(call.context, base, wanted, Stamp(call.by.id, datetime.now(UTC)))
    fields: dict[str, Any] = {"models": composed.models, "order": composed.order, **more}
    return Change(
        action=action,
        subject=subject,
        document=composed.document if composed.touched else None,
        touched=composed.touched,
        edit=composed.records,
        edits=wanted,
        moves=composed.moves,
        **fields,
    )


async def opened(base: Current, change: Change) -> list[Opening]:
    """What a change lets through that an order denied; found beside the loop, for it may take a while."""
    after, now = change.document or base.document, datetime.now(UTC)
    found = await asyncio.to_thread(openings, base.document, after, change.moves, now)
    if found and change.restores is not None:
        beyond = await asyncio.to_thread(openings, change.restores, after, change.moves, now)
        found = [opening for opening in found if opening.model in {other.model for other in beyond}]
    return found


# ------------------------------------------------------------------------------------------------ compose, check


async def _compose(call: Call[Any], compose: Compose, operation: Operation) -> tuple[Current, Change]:
    base = await call.context.store.current()
    change = await compose(base, operation)
    if change.document == base.document or (change.document is None and not change.edit.records):
        raise Unchanged("The policy says this already.")
    return base, change


# ------------------------------------------------------------------------------------------------ propose


async def _propose(
    call: Call[Any], operation: Operation, base: Current, change: Change, opens: list[Opening]
) -> web.Response:
    """Keep a change until somebody else has looked at it. Nothing is committed."""
    store, now = call.context.store, datetime.now(UTC)
    proposal = proposals.Proposal(
        id=change_id(operation),
        base=base.rev,
        by=call.by.id,
        hand=call.by.counts_as,
        at=now,
        expires=now + proposals.EXPIRES,
        action=change.action,
        subject=change.subject,
        note=change.note,
        edits=await edits.planned(call.context, base, change.edits),
        opens=tuple(opens),
        orders=_orders(base, change),
    )
    await proposals.keep(store, proposal)
    _log.info("change_proposed", change=proposal.id, actor=call.by.id, action=change.action, subject=change.subject)
    return answer_waiting(proposal)


def _orders(base: Current, change: Change) -> tuple[str, ...]:
    """The orders that a change is about; one that opens something by a person's record could be about any."""
    after = change.document or base.document
    found = concerned(base.document, after, differences(base.document, after))
    return tuple(sorted({*found, *standing(base.document)})) if change.moves else found


def answer_waiting(proposal: proposals.Proposal) -> web.Response:
    """The answer to whoever proposed a change."""
    return answer(proposals.view(proposal, datetime.now(UTC)), 202, Location=proposals.path(proposal.id))


def change_id(operation: Operation) -> str:
    """The id of the change that an operation is, where it is kept as one."""
    return derive("c", operation.id)


# ------------------------------------------------------------------------------------------------ commit


async def _commit(call: Call[Any], base: Current, change: Change, operation: Operation) -> Committed | None:
    """The committed revision, or ``None`` if somebody else was faster."""
    try:
        return await call.context.store.commit(
            base,
            _stamped(change, base.rev + 1),
            actor=call.by.id,
            action=change.action,
            subject=change.subject,
            order=change.order,
            edit=change.edit,
            op_id=operation.id,
            told={"note": change.note, "from": call.request.remote, "models": change.models, **change.told},
        )
    except ConflictError:
        return None


def _stamped(change: Change, revision: int) -> Document | None:
    """The document with the new ETags of what was touched; what is gone has none."""
    document = change.document
    if document is None:
        return None
    changed = dict(document.changed)
    for name in change.touched:
        kind, _, object_id = name.partition("/")
        changed.pop(name, None)
        if object_id in getattr(document, kind):
            changed[name] = revision
    return document.model_copy(update={"changed": changed})


async def _known(call: Call[Any], operation: Operation) -> Committed:
    """The revision that an operation made before: the script answers from its memory and writes nothing."""
    store = call.context.store
    try:
        return await store.commit(
            await store.current(),
            None,
            actor=call.by.id,
            action="repeat",
            subject=call.request.path,
            op_id=operation.id,
        )
    except LostError:
        raise Overtaken(
            "This was done before, and Redis has lost it since. Look at the policy, then use a new Idempotency-Key."
        ) from None


# ------------------------------------------------------------------------------------------------ prove, answer


async def _answer_first(call: Call[Any], operation: Operation, committed: Committed, change: Change) -> web.Response:
    memory = _memory(change)
    if committed.repeated:  # the same call is in flight twice
        return await _answer_again(call, committed, memory)
    receipt = call.context.receipts.open(committed, change.models, change.hold)
    _log.info(
        "policy_changed",
        revision=receipt.revision,
        actor=call.by.id,
        action=change.action,
        subject=change.subject,
        order=change.order,
    )
    with contextlib.suppress(RedisError, OSError, TimeoutError):  # committed is committed
        await remember(call.context.store, operation, memory)
    await _wait(receipt.done, call.query["wait"])
    return _answer(call, receipt.view(), change.status, {**change.answer, **change.secret})


def _memory(change: Change) -> dict[str, Any]:
    """What a repetition needs to know, beside the receipt."""
    return {
        "answer": dict(change.answer),
        "status": change.status,
        "models": change.models,
        "hold": change.hold,
        "secret": sorted(change.secret),
    }


async def _answer_again(call: Call[Any], committed: Committed, memory: Mapping[str, Any]) -> web.Response:
    """The answer that an operation got before, its receipt as it stands now."""
    if memory.get("secret"):
        shown = ", ".join(memory["secret"])
        raise Conflict(
            f"Revision {committed.entry.rev} did this already, and the {shown} is shown only once. "
            "If that answer was lost, make a new one with a new Idempotency-Key and remove the old.",
            **memory.get("answer", {}),
        )
    receipts = call.context.receipts
    view = await receipts.get(committed.entry.rev)
    if view is None or view["basis"] is None:
        receipt = receipts.open(committed, memory.get("models", []), memory.get("hold"))
        await _wait(receipt.done, call.query["wait"])
        view = receipt.view()
    return _answer(call, view, memory.get("status", 200), memory.get("answer", {}))


async def _wait(done: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(done.wait(), seconds)


def _answer(call: Call[Any], view: Mapping[str, Any], status: int, more: Mapping[str, Any]) -> web.Response:
    headers = {"Portcullis_Revision": str(view["revision"])}
    if call.request.method == "PUT":
        headers["ETag"] = etag(view["revision"])
    if view["basis"] is None:
        status = 202
        headers["Location"] = f"/api/v1/receipts/{view['revision']}"
    return answer({**view, **more}, status, **headers)
