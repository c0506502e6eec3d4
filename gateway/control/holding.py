"""What the admin API does about holds while Redis cannot be reached: close on this machine, open only one's own."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import web

from gateway.control.idempotency import Operation
from gateway.control.ids import derive
from gateway.control.local_holds import LocalHolds
from gateway.control.local_holds import Standing as Stands
from gateway.control.problems import Conflict, Forbidden, Overtaken, Unavailable
from gateway.control.routing import Call, Empty, answer
from gateway.control.settling import settle
from gateway.control.shapes import HoldBody
from gateway.enforcement.local import LocalHold
from gateway.enforcement.store import ConflictError
from gateway.policy.document import Hold
from gateway.policy.snapshot import Snapshot

SCOPE = "this machine"
PROPOSED = "Redis cannot be reached, or lost its policy. The hold is proposed to it, for all, when it is back."


def keeper(call: Call[Any]) -> LocalHolds:
    """Who keeps this machine's holds.

    Raises:
        Unavailable: nobody does.
    """
    if call.context.local is None:
        raise Unavailable("Redis does not answer, and there are no workers here that could hold a model by themselves.")
    return call.context.local


async def policy(call: Call[Any]) -> Snapshot:
    """The policy as this machine last knew it.

    Raises:
        Unavailable: it knows none, so that its workers serve nothing.
    """
    known = await keeper(call).policy()
    if known is None:
        raise Unavailable("Redis does not answer, and this machine knows no policy: its workers serve nothing.")
    return known


# ------------------------------------------------------------------------------------------------ placing


async def place(
    call: Call[Any], operation: Operation, body: HoldBody, patterns: Sequence[str], at: datetime, *, uncertain: bool
) -> web.Response:
    """Let a hold stand on this machine, and say how far it reaches."""
    holds, known = keeper(call), await policy(call)
    local = holds.by_operation(operation.id) or _composed(call, known, operation, body, patterns, at)
    if local.carried is None:
        local = local.model_copy(update={"uncertain": uncertain or local.uncertain})
    stands = await holds.place(local)
    return answer(_placed(call, known, local, stands), 202)


def _composed(
    call: Call[Any], known: Snapshot, operation: Operation, body: HoldBody, patterns: Sequence[str], at: datetime
) -> LocalHold:
    document = known.document
    taken = {**document.holds, **{local.id: local for local in keeper(call).standing}}
    pending = {local.hold.order: local.order for local in keeper(call).standing if local.hold.order and local.order}
    orders, order_id = settle({**pending, **document.orders}, body.order, call.by.id, at)
    hold = Hold(
        models=tuple(patterns),
        by=call.by.id,
        at=at,
        order=order_id,
        note=body.note,
        public_message=body.public_message,
        in_flight=body.in_flight,
    )
    return LocalHold(
        id=derive("h", operation.id, taken),
        hold=hold,
        order=None if order_id is None else orders[order_id],
        operation=operation.id,
        by_changed=call.by.changed,
    )


def _placed(call: Call[Any], known: Snapshot, local: LocalHold, stands: Stands) -> dict[str, Any]:
    return {
        "gateway": call.context.settings.gateway,
        "scope": SCOPE,
        "state": "local",
        "enforced": False,
        "hold": local.id,
        "order": local.hold.order,
        "models": known.covered(local.hold.models),
        "matches": {pattern: known.covered([pattern]) for pattern in local.hold.models},
        "workers": {"expected": stands.workers, "holding": stands.holding},
        "streams_cut": stands.streams_cut,
        "kept": stands.kept,
        "detail": PROPOSED,
    }


# ------------------------------------------------------------------------------------------------ taking back


async def undo(call: Call[Empty]) -> web.Response:
    """Take back one's own hold of this machine, soon after placing it."""
    holds, known = keeper(call), await policy(call)
    local = holds.find(call.id)
    if local is None:
        raise Unavailable(f"{call.id} is no hold of this machine alone, and others cannot be undone without Redis.")
    _demand_ones_own(call, local)
    await holds.withdraw(local.id)
    models = known.covered(local.hold.models)
    others = [other for other in holds.standing if set(known.covered(other.hold.models)) & set(models)]
    return answer(
        {
            "scope": SCOPE,
            "released": [local.id],
            "models": models,
            "still_held": [
                {"model": model, "holds": found} for model in models if (found := _holding(known, others, model))
            ],
            "may_come_back": local.uncertain,
        }
    )


def _demand_ones_own(call: Call[Empty], local: LocalHold) -> None:
    """Refuse what is another's, or old.

    Raises:
        Forbidden, Conflict: it is.
    """
    if local.hold.by != call.by.id:
        raise Forbidden(f"{local.id} is {local.hold.by}'s; only who placed a hold can undo it.")
    if call.by.changed != local.by_changed:
        raise Forbidden(f"Your token or roles have changed since {local.id} was placed.")
    limit = timedelta(seconds=call.context.settings.admin.undo_seconds)
    if datetime.now(UTC) - local.hold.at > limit:
        raise Conflict(f"{local.id} is older than {limit.total_seconds():g} s. It can be released when Redis is back.")


def _holding(known: Snapshot, others: Sequence[LocalHold], model: str) -> list[dict[str, Any]]:
    by_policy = [
        (hold_id, hold) for hold_id, hold in known.document.holds.items() if model in known.covered(hold.models)
    ]
    by_machine = [(other.id, other.hold) for other in others if model in known.covered(other.hold.models)]
    return [{"id": hold_id, **hold.model_dump(mode="json")} for hold_id, hold in (*by_policy, *by_machine)]


async def only_with_redis(call: Call[Any]) -> None:
    """Open nothing without Redis; with it, only when it has the holds of this machine, too.

    Raises:
        Unavailable: it cannot be reached.
        Overtaken: others were faster, again and again.
    """
    if call.away:
        raise Unavailable(
            "Redis cannot be reached, or lost its policy, and nothing is opened without it: other holds may stand. "
            "Your own hold of this machine can be undone within minutes: POST /api/v1/holds/{id}/undo."
        )
    if call.context.local is not None:
        try:
            await call.context.local.proposed()
        except ConflictError:
            raise Overtaken("Others commit all the time; nothing was changed. Repeat the call.") from None


# ------------------------------------------------------------------------------------------------ reading


def views(call: Call[Any], known: Snapshot) -> list[dict[str, Any]]:
    """The holds that stand on this machine alone, as operators see them."""
    if call.context.local is None:
        return []
    return [
        {
            "id": local.id,
            **local.hold.model_dump(mode="json"),
            "covers": known.covered(local.hold.models),
            "scope": SCOPE,
        }
        for local in call.context.local.standing
    ]
