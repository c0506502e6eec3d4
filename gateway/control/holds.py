"""Holds: a model is offline while any hold on it stands. One person closes; what an order closed, two people open."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import web
from redis.exceptions import RedisError

from gateway.control import holding
from gateway.control.access import Access
from gateway.control.catalog import holds_on, resolved
from gateway.control.changes import Change, Compose, apply, of_edits
from gateway.control.edits import Stamp, edit, edited
from gateway.control.idempotency import Operation, identified
from gateway.control.ids import derive
from gateway.control.problems import Conflict, Forbidden, NotFound
from gateway.control.routing import Call, Empty, Parameter, Route, answer
from gateway.control.settling import settle
from gateway.control.shapes import HoldBody, OfflineBody
from gateway.enforcement.compiling import compiled
from gateway.enforcement.signing import ForgedError
from gateway.enforcement.store import Current
from gateway.policy.document import Document, Hold
from gateway.policy.snapshot import Snapshot

Patterns = Callable[[Document], tuple[str, ...]]


# ------------------------------------------------------------------------------------------------ placing


async def place(call: Call[Any], body: HoldBody, patterns: Patterns) -> web.Response:
    """Put a hold on models; it insists until it is committed. While Redis is away it stands on this machine at once."""
    now = datetime.now(UTC)
    composed: list[Operation] = []

    async def compose(base: Current, operation: Operation) -> Change:
        composed.append(operation)
        return _placed(base, operation, body, patterns(base.document), Stamp(call.by.id, now))

    if not call.away:
        try:
            return await apply(call, compose, insist=True)
        except (RedisError, OSError, TimeoutError):
            if call.context.local is None:
                raise
    operation = composed[-1] if composed else identified(call)
    named = patterns((await holding.policy(call)).document)
    return await holding.place(call, operation, body, named, now, uncertain=bool(composed))


def _placed(base: Current, operation: Operation, body: HoldBody, patterns: tuple[str, ...], stamp: Stamp) -> Change:
    by, at = stamp
    orders, order_id = settle(base.document.orders, body.order, by, at)
    hold_id = derive("h", operation.id, base.document.holds)
    hold = Hold(
        models=patterns,
        by=by,
        at=at,
        order=order_id,
        note=body.note,
        public_message=body.public_message,
        in_flight=body.in_flight,
    )
    return Change(
        action="offline",
        subject=f"holds/{hold_id}",
        document=edited(base.document, orders=orders, holds={**base.document.holds, hold_id: hold}),
        touched=(f"holds/{hold_id}", *([f"orders/{order_id}"] if orders is not base.document.orders else [])),
        models=base.snapshot.covered(patterns),
        hold=hold_id,
        order=order_id,
        answer={"order": order_id, "matches": {pattern: base.snapshot.covered([pattern]) for pattern in patterns}},
    )


async def offline(call: Call[OfflineBody]) -> web.Response:
    """Take models offline by names and patterns, with one hold."""

    def patterns(document: Document) -> tuple[str, ...]:
        return tuple(dict.fromkeys(resolved(document, text) for text in call.body.models))

    return await place(call, call.body, patterns)


# ------------------------------------------------------------------------------------------------ releasing


async def released(call: Call[Any], base: Current, hold_ids: Sequence[str], action: str, subject: str) -> Change:
    """The policy without these holds. The answer says which models they leave offline, and by which other holds."""
    gone = {hold_id: existing(base, hold_id) for hold_id in hold_ids}
    models = base.snapshot.covered(pattern for hold in gone.values() for pattern in hold.models)
    deletions = [edit("delete", "holds", hold_id) for hold_id in gone]
    change = await of_edits(call, base, *deletions, action=action, subject=subject, models=models)
    after = await compiled(change.document or base.document, base.rev + 1)
    return replace(
        change,
        hold=next(iter(gone)) if len(gone) == 1 else None,
        answer={"released": sorted(gone), "still_held": still_held(after, models)},
    )


def still_held(snapshot: Snapshot, models: Iterable[str]) -> list[dict[str, Any]]:
    """Those of the models that are offline, each with the holds on it."""
    offline_models = [model_id for model_id in models if model_id in snapshot.offline]
    return [
        {"model": model_id, "holds": [view(snapshot, hold_id) for hold_id in holds_on(snapshot, model_id)]}
        for model_id in offline_models
    ]


def existing(base: Current, hold_id: str) -> Hold:
    """A hold by its id.

    Raises:
        NotFound: there is none, or it was released.
    """
    hold = base.document.holds.get(hold_id)
    if hold is None:
        raise NotFound(f"There is no hold {hold_id!r}; it may have been released. GET /api/v1/holds lists them.")
    return hold


async def release(call: Call[Empty]) -> web.Response:
    """Release one hold; others on the same models stay."""
    await holding.only_with_redis(call)

    async def compose(base: Current, _: Operation) -> Change:
        return await released(call, base, [call.id], "release", f"holds/{call.id}")

    return await apply(call, compose)


async def undo(call: Call[Empty]) -> web.Response:
    """Take back one's own hold, soon after placing it, also under an order."""
    if call.away:
        return await holding.undo(call)
    await holding.only_with_redis(call)
    return await apply(call, _undoing(call, datetime.now(UTC)))


def _undoing(call: Call[Empty], now: datetime) -> Compose:
    limit = timedelta(seconds=call.context.settings.admin.undo_seconds)

    async def compose(base: Current, _: Operation) -> Change:
        hold = existing(base, call.id)
        if hold.by != call.by.id:
            raise Forbidden(f"{call.id} is {hold.by}'s; only who placed a hold can undo it. Release it instead.")
        if now - hold.at > limit:
            raise Conflict(f"{call.id} is older than {limit.total_seconds():g} s. Release it instead.")
        await _demand_same_person(call, base)
        change = await released(call, base, [call.id], "undo", f"holds/{call.id}")
        return replace(change, restores=await _before_placing(call, base))

    return compose


async def _demand_same_person(call: Call[Empty], base: Current) -> None:
    """Refuse an operator who was given another token since: somebody else may have it, and undo what is not theirs.

    Raises:
        Forbidden: the operator was changed after the hold was placed.
    """
    me = await call.context.store.records.operator(call.by.id)
    if me is None or me.changed > base.document.changed.get(f"holds/{call.id}", 0):
        raise Forbidden(f"Your token or roles have changed since {call.id} was placed. Release it instead.")


async def _before_placing(call: Call[Empty], base: Current) -> Document | None:
    """The policy as it was before a hold was placed, if it is still kept.

    An undo takes back to that, and opens no more: else one's own hold could stand in for an order's while that one
    is released, which opens nothing, and then be undone.
    """
    placed = base.document.changed.get(f"holds/{call.id}", 0)
    entry = await call.context.store.entry(placed - 1) if placed > 1 else None
    try:
        return None if entry is None else (await call.context.store.records.document(entry.doc))[0]
    except ForgedError:
        return None  # no longer kept


# ------------------------------------------------------------------------------------------------ reading


def view(snapshot: Snapshot, hold_id: str) -> dict[str, Any]:
    """A hold as operators see it; ``covers``: the models it means today."""
    hold = snapshot.document.holds[hold_id]
    return {"id": hold_id, **hold.model_dump(mode="json"), "covers": snapshot.covered(hold.models)}


async def listing(call: Call[Empty]) -> web.Response:
    """All holds, newest first; with ``?by=`` those of one operator."""
    known = await holding.policy(call) if call.away else (await call.context.store.current()).snapshot
    maker = call.by.id if call.query["by"] == "me" else call.query["by"]
    newest = sorted(known.document.holds.items(), key=lambda item: item[1].at, reverse=True)
    shown = [*holding.views(call, known), *(view(known, hold_id) for hold_id, _ in newest)]
    away = {"redis": "unreachable"} if call.away else {}
    mine = [hold for hold in shown if maker in (None, hold["by"])]
    return answer({"revision": known.revision, **away, "holds": mine})


BY = Parameter("by", "Only the holds of this operator; me: one's own.", {"type": "string"}, str)

ROUTES = (
    Route(
        "GET", "/api/v1/holds", Access.READ, listing, "Every hold that stands, newest first", query=(BY,), survives=True
    ),
    Route(
        "POST",
        "/api/v1/offline",
        Access.OPERATE,
        offline,
        "Take models offline by names and patterns",
        body=OfflineBody,
        changes=True,
        survives=True,
    ),
    Route(
        "POST",
        "/api/v1/holds/{id}/release",
        Access.OPERATE,
        release,
        "Release a hold; what an order closed waits for a second person",
        changes=True,
        survives=True,
    ),
    Route(
        "POST",
        "/api/v1/holds/{id}/undo",
        Access.OPERATE,
        undo,
        "Take back one's own hold, within minutes, also under an order",
        changes=True,
        survives=True,
    ),
)
