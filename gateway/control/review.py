"""Changes: many edits in one revision, tried out first, and approved by a second person where they open something."""

import asyncio
import contextlib
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from aiohttp import web
from pydantic import Field
from redis.exceptions import RedisError

from gateway.control import edits, operators, proposals
from gateway.control.access import Access
from gateway.control.approval import openings
from gateway.control.asking import may_use
from gateway.control.changes import Change, apply, change_id, of_edits
from gateway.control.edits import EditBody, Stamp
from gateway.control.holds import still_held
from gateway.control.idempotency import Operation
from gateway.control.preview import known, preview
from gateway.control.problems import Conflict
from gateway.control.proposals import Fate, Proposal
from gateway.control.routing import Call, Empty, Parameter, Route, answer
from gateway.enforcement.compiling import compiled
from gateway.enforcement.store import Current
from gateway.policy.document import Document, Part, Text, rfc3339

MAX_REMAINING = 20
"""Models of which a dry run says who could use them afterwards."""


class ChangesBody(Part):
    """Edits that belong together: all of them become one revision, or none."""

    edits: tuple[EditBody, ...] = Field(min_length=1, max_length=1000)
    note: Text | None = None


# ------------------------------------------------------------------------------------------------ reading


async def listing(call: Call[Empty]) -> web.Response:
    """Changes, newest first; with ``?state=`` those of one fate."""
    now = datetime.now(UTC)
    found = await proposals.everything(call.context.store)
    wanted = call.query["state"]
    shown = [proposals.view(each, now) for each in found if wanted is None or each.at_time(now) is wanted]
    return answer({"changes": shown})


async def get(call: Call[Empty]) -> web.Response:
    """One change: what it edits, what it opens, what became of it."""
    return answer(proposals.view(await proposals.existing(call.context.store, call.id), datetime.now(UTC)))


# ------------------------------------------------------------------------------------------------ proposing


async def post(call: Call[ChangesBody]) -> web.Response:
    """Make edits, or with ``?dry_run=true`` say what they would do."""
    edits.demand_all(call.by, call.body.edits)
    if call.query["dry_run"]:
        return answer(await _tried(call))

    async def compose(base: Current, operation: Operation) -> Change:
        name = change_id(operation)
        change = await of_edits(
            call, base, *call.body.edits, action="change", subject=f"changes/{name}", note=call.body.note
        )
        record = await _committed(call, base, change, name)
        return replace(
            change,
            edit=change.edit | proposals.kept(call.context.store, record),
            answer={"change": name, **await _held(base, change)},
        )

    return await apply(call, compose)


async def _committed(call: Call[Any], base: Current, change: Change, name: str) -> Proposal:
    """The record of a change that needs nobody's approval."""
    now = datetime.now(UTC)
    return Proposal(
        id=name,
        base=base.rev,
        by=call.by.id,
        at=now,
        expires=now,
        action=change.action,
        subject=change.subject,
        note=change.note,
        edits=await edits.planned(call.context, base, change.edits),
        fate=Fate.COMMITTED,
        revision=base.rev + 1,
    )


async def _held(base: Current, change: Change) -> dict[str, Any]:
    """Which models stay offline, where holds were released."""
    if change.document is None or not any(each.kind == "holds" and each.op == "delete" for each in change.edits):
        return {}
    after = await compiled(change.document, base.rev + 1)
    return {"still_held": still_held(after, change.models)}


async def _tried(call: Call[ChangesBody]) -> dict[str, Any]:
    """What the edits would do, and whether somebody else would have to agree."""
    context, now = call.context, datetime.now(UTC)
    base = await context.store.current()
    composed = await edits.composed(context, base, call.body.edits, Stamp(call.by.id, now))
    before, after = base.snapshot, await compiled(composed.document, base.rev + 1)
    begins = _begins(base, composed.document, now)
    if begins is not None:  # what it is about has yet to begin: as everything will be then
        before, after = before.eventual, after.eventual
    becoming = {move.old.id: move.new for move in composed.moves if move.old is not None}
    touched = composed.models if begins is None else edits.affected(before, after)
    models = sorted(composed.document.models) if becoming else touched
    callers = await known(context.store.records)
    traffic = await context.traffic() if context.traffic is not None else None
    opens = await asyncio.to_thread(openings, base.document, composed.document, composed.moves, now)
    told = await asyncio.to_thread(preview, before, after, models, callers, becoming, traffic, now.timestamp())
    remaining = [model_id for model_id in models if model_id in composed.document.models][:MAX_REMAINING]
    return {
        "dry_run": True,
        "revision": base.rev,
        "models": touched,
        **({} if begins is None else {"as_of": rfc3339(begins)}),
        **told,
        "remaining": await asyncio.to_thread(lambda: [may_use(after, model_id, callers) for model_id in remaining]),
        "needs_approval": bool(opens),
        "opens": [opening.model_dump(exclude={"digest"}) for opening in opens],
    }


def _begins(base: Current, document: Document, now: datetime) -> datetime | None:
    """When the last of the edited directives begins, where that is not yet."""
    known = base.document.directives
    edited = (each for name, each in document.directives.items() if each != known.get(name))
    return max((each.window.from_ for each in edited if each.window.from_ and each.window.from_ > now), default=None)


# ------------------------------------------------------------------------------------------------ deciding


async def approve(call: Call[Empty]) -> web.Response:
    """Commit a change that somebody else proposed, if it still does what was shown."""

    async def compose(base: Current, _: Operation) -> Change:
        now = datetime.now(UTC)
        proposal = await _others(call, now)
        await edits.check_unchanged(call.context, base, proposal.edits)
        composed = await edits.composed(call.context, base, proposal.edits, Stamp(proposal.by, now))
        if composed.document == base.document and not composed.records.records:
            raise Conflict(f"The policy says already what {proposal.id} proposes. Reject it.")
        opens = await asyncio.to_thread(openings, base.document, composed.document, composed.moves, now)
        proposals.check_same_effect(proposal, opens)
        record = _decided(call, proposal, Fate.COMMITTED, base, now)
        change = Change(
            action="approve",
            subject=f"changes/{proposal.id} of {proposal.by}: {proposal.action} {proposal.subject}",
            document=composed.document if composed.touched else None,
            touched=composed.touched,
            edit=composed.records | proposals.kept(call.context.store, record),
            edits=proposal.edits,
            models=composed.models,
            order=composed.order,
            note=proposal.note,
            approved=True,
            told=_agreed(proposal),
        )
        told = {"change": proposal.id, "proposed_by": proposal.by, "action": proposal.action}
        return replace(change, answer={**told, "subject": proposal.subject, **await _held(base, change)})

    return await _deciding(call, compose)


async def reject(call: Call[Empty]) -> web.Response:
    """Say no to a change that somebody else proposed. The log has it, and no later approval can overtake it."""

    async def compose(base: Current, _: Operation) -> Change:
        now = datetime.now(UTC)
        proposal = await _others(call, now)
        record = _decided(call, proposal, Fate.REJECTED, base, now)
        return Change(
            action="reject",
            subject=f"changes/{proposal.id} of {proposal.by}: {proposal.action} {proposal.subject}",
            edit=proposals.kept(call.context.store, record),
            answer={"change": proposal.id, "proposed_by": proposal.by},
            told={**_agreed(proposal), "orders": proposal.orders},
        )

    return await _deciding(call, compose)


def _agreed(proposal: Proposal) -> dict[str, Any]:
    """What the evidence says of a decision: on what, and by whom that was proposed."""
    opens = [opening.model_dump(mode="json") for opening in proposal.opens]
    proposed = {"id": proposal.id, "by": proposal.by, "at": rfc3339(proposal.at), "action": proposal.action}
    return {"change": {**proposed, "subject": proposal.subject, "opens": opens}}


async def _deciding(call: Call[Empty], compose: Any) -> web.Response:
    response = await apply(call, compose)
    with contextlib.suppress(RedisError, OSError, TimeoutError):  # decided is decided
        await proposals.forget_later(call.context.store, call.id)
    return response


async def _others(call: Call[Empty], now: datetime) -> Proposal:
    """The change that is to be decided.

    Raises:
        Conflict: it waits for nobody any more.
        Forbidden: it is one's own, or of somebody who counts as oneself.
    """
    store = call.context.store
    proposal = await proposals.existing(store, call.id)
    proposals.check_waiting(proposal, now)
    me = await operators.existing(store, call.by.id)
    operators.demand_another_hand(me, proposal.by, proposal.hand or proposal.by, proposal.id)
    return proposal


def _decided(call: Call[Empty], proposal: Proposal, fate: Fate, base: Current, now: datetime) -> Proposal:
    fields = {"fate": fate, "decided_by": call.by.id, "decided_at": now, "revision": base.rev + 1}
    return proposal.model_copy(update=fields)


# ------------------------------------------------------------------------------------------------ routes


def _yes_or_no(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError
    return text == "true"


DRY_RUN = Parameter(
    "dry_run", "Change nothing; say who would gain and who would lose.", {"type": "boolean"}, _yes_or_no, False
)
STATE = Parameter("state", "Only those of this fate.", {"type": "string", "enum": [*Fate]}, Fate)

ROUTES = (
    Route("GET", "/api/v1/changes", Access.READ_CALLERS, listing, "Changes, newest first", query=(STATE,)),
    Route("GET", "/api/v1/changes/{id}", Access.READ_CALLERS, get, "One change, and what became of it"),
    Route(
        "POST",
        "/api/v1/changes",
        Access.OPERATE,
        post,
        "Make edits as one revision, or try them out",
        body=ChangesBody,
        query=(DRY_RUN,),
        changes=True,
    ),
    Route(
        "POST",
        "/api/v1/changes/{id}/approve",
        Access.APPROVE,
        approve,
        "Commit a change that another person proposed",
        changes=True,
    ),
    Route(
        "POST",
        "/api/v1/changes/{id}/reject",
        Access.APPROVE,
        reject,
        "Say no to a change that another person proposed",
        changes=True,
    ),
)
