"""Holds: a model is offline while any hold on it stands. Placing is an operator's; under an order, lifting is not."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, NamedTuple

from aiohttp import web
from pydantic import Field, StringConstraints

from gateway.control.access import Access, demand
from gateway.control.catalog import holds_on, resolved
from gateway.control.changes import Change, Compose, apply, edited
from gateway.control.idempotency import Operation
from gateway.control.ids import derive
from gateway.control.orders import InlineOrder, settle
from gateway.control.problems import Conflict, Forbidden, NotFound
from gateway.control.routing import Call, Empty, Parameter, Route, answer
from gateway.enforcement.store import Current
from gateway.policy.document import Document, Hold, Identifier, InFlight, Part, Text
from gateway.policy.names import MAX_NAME
from gateway.policy.snapshot import Snapshot


class HoldBody(Part):
    """Why something goes offline, and what becomes of requests in flight."""

    note: Text | None = None
    public_message: Text | None = None
    order: Identifier | InlineOrder | None = None
    in_flight: InFlight = InFlight()


class OfflineBody(HoldBody):
    """What goes offline: ids, names or patterns."""

    models: tuple[Annotated[str, StringConstraints(min_length=1, max_length=MAX_NAME)], ...] = Field(
        min_length=1, max_length=1000
    )


Patterns = Callable[[Document], tuple[str, ...]]


class Stamp(NamedTuple):
    """Who does something, and when."""

    by: str
    at: datetime


# ------------------------------------------------------------------------------------------------ placing


async def place(call: Call[Any], body: HoldBody, patterns: Patterns) -> web.Response:
    """Put a hold on models; it insists until it is committed."""
    now = datetime.now(UTC)

    async def compose(base: Current, operation: Operation) -> Change:
        return _placed(base, operation, body, patterns(base.document), Stamp(call.by.id, now))

    return await apply(call, compose, insist=True)


def _placed(base: Current, operation: Operation, body: HoldBody, patterns: tuple[str, ...], stamp: Stamp) -> Change:
    by, at = stamp
    document, order_id = settle(base.document, body.order, by, at)
    hold_id = derive("h", operation.id, document.holds)
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
        document=edited(document, holds={**document.holds, hold_id: hold}),
        touched=(f"holds/{hold_id}", *([f"orders/{order_id}"] if document is not base.document else [])),
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


def released(base: Current, hold_ids: Iterable[str], action: str, subject: str, *, undoes: bool = False) -> Change:
    """The policy without these holds. The answer says which models they leave offline, and by which other holds."""
    gone = {hold_id: base.document.holds[hold_id] for hold_id in hold_ids}
    holds = {hold_id: hold for hold_id, hold in base.document.holds.items() if hold_id not in gone}
    document = edited(base.document, holds=holds)
    models = base.snapshot.covered(pattern for hold in gone.values() for pattern in hold.models)
    return Change(
        action=action,
        subject=subject,
        document=document,
        touched=tuple(f"holds/{hold_id}" for hold_id in gone),
        models=models,
        hold=next(iter(gone)) if len(gone) == 1 else None,
        order=next((hold.order for hold in gone.values() if hold.order is not None), None),
        answer={"released": sorted(gone), "still_held": still_held(Snapshot(document, base.rev + 1), models)},
        undoes=undoes,
    )


def still_held(snapshot: Snapshot, models: Iterable[str]) -> list[dict[str, Any]]:
    """Those of the models that are offline, each with the holds on it."""
    offline_models = [model_id for model_id in models if model_id in snapshot.offline]
    return [
        {"model": model_id, "holds": [view(snapshot, hold_id) for hold_id in holds_on(snapshot, model_id)]}
        for model_id in offline_models
    ]


def demand_release(call: Call[Any], base: Current, hold_id: str) -> None:
    """Refuse who may not release a hold.

    Raises:
        Forbidden: it stands under an order, and the caller is no approver.
    """
    order = base.document.holds[hold_id].order
    if order is not None:
        demand(call.by, Access.APPROVE, f"Releasing {hold_id}, which stands under the order {order},")


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

    async def compose(base: Current, _: Operation) -> Change:
        existing(base, call.id)
        demand_release(call, base, call.id)
        return released(base, [call.id], "release", f"holds/{call.id}")

    return await apply(call, compose)


async def undo(call: Call[Empty]) -> web.Response:
    """Take back one's own hold, soon after placing it, also under an order."""
    return await apply(call, _undoing(call, datetime.now(UTC)))


def _undoing(call: Call[Empty], now: datetime) -> Compose:
    limit = timedelta(seconds=call.context.settings.admin.undo_seconds)

    async def compose(base: Current, _: Operation) -> Change:
        hold = existing(base, call.id)
        if hold.by != call.by.id:
            raise Forbidden(f"{call.id} is {hold.by}'s; only who placed a hold can undo it. Release it instead.")
        if now - hold.at > limit:
            raise Conflict(f"{call.id} is older than {limit.total_seconds():g} s. Release it instead.")
        return released(base, [call.id], "undo", f"holds/{call.id}", undoes=True)

    return compose


# ------------------------------------------------------------------------------------------------ reading


def view(snapshot: Snapshot, hold_id: str) -> dict[str, Any]:
    """A hold as operators see it; ``covers``: the models it means today."""
    hold = snapshot.document.holds[hold_id]
    return {"id": hold_id, **hold.model_dump(mode="json"), "covers": snapshot.covered(hold.models)}


async def listing(call: Call[Empty]) -> web.Response:
    """All holds, newest first; with ``?by=`` those of one operator."""
    current = await call.context.store.current()
    maker = call.by.id if call.query["by"] == "me" else call.query["by"]
    newest = sorted(current.document.holds.items(), key=lambda item: item[1].at, reverse=True)
    shown = [view(current.snapshot, hold_id) for hold_id, hold in newest if maker in (None, hold.by)]
    return answer({"revision": current.rev, "holds": shown})


BY = Parameter("by", "Only the holds of this operator; me: one's own.", {"type": "string"}, str)

ROUTES = (
    Route("GET", "/api/v1/holds", Access.READ, listing, "Every hold that stands, newest first", query=(BY,)),
    Route(
        "POST",
        "/api/v1/offline",
        Access.OPERATE,
        offline,
        "Take models offline by names and patterns",
        body=OfflineBody,
        changes=True,
    ),
    Route(
        "POST",
        "/api/v1/holds/{id}/release",
        Access.OPERATE,
        release,
        "Release a hold; under an order an approver's",
        changes=True,
    ),
    Route(
        "POST",
        "/api/v1/holds/{id}/undo",
        Access.OPERATE,
        undo,
        "Take back one's own hold, within minutes, also under an order",
        changes=True,
    ),
)
