"""Models: the catalog, and taking one offline and online by its name."""

from typing import Any

from aiohttp import web

from gateway.control import holding, holds
from gateway.control.access import Access
from gateway.control.catalog import holds_by_model, holds_on, meant
from gateway.control.changes import Change, apply, of_edits
from gateway.control.conditions import check, etag
from gateway.control.edits import EditBody, changed, edit
from gateway.control.idempotency import Operation
from gateway.control.problems import Conflict, StillHeld, Unchanged
from gateway.control.routing import Call, Empty, Route, answer
from gateway.control.shapes import HoldBody
from gateway.enforcement.store import Current
from gateway.policy.document import Hold, Identifier, Model, Part
from gateway.policy.snapshot import Snapshot


class OnlineBody(Part):
    """Which hold to release; without one, those on exactly this model."""

    hold: Identifier | None = None


# ------------------------------------------------------------------------------------------------ reading


def view(snapshot: Snapshot, model_id: str, on_it: dict[str, Hold]) -> dict[str, Any]:
    """A model, whether it is offline, and by which holds."""
    model = snapshot.document.models[model_id]
    return {
        "id": model_id,
        "state": "offline" if on_it else "available",
        **model.model_dump(mode="json"),
        "max_stale": snapshot.max_stale[model_id],
        "changed": snapshot.document.changed.get(f"models/{model_id}", 0),
        "holds": [
            {"id": hold_id, "by": hold.by, "at": _time(hold), "order": hold.order} for hold_id, hold in on_it.items()
        ],
    }


def _time(hold: Hold) -> str:
    return str(hold.model_dump(mode="json", include={"at"})["at"])


async def listing(call: Call[Empty]) -> web.Response:
    """The catalog."""
    current = await call.context.store.current()
    held = holds_by_model(current.snapshot)
    models = [view(current.snapshot, model_id, held[model_id]) for model_id in sorted(held)]
    return answer({"revision": current.rev, "models": models})


async def get(call: Call[Empty]) -> web.Response:
    """One model, by its id or any name it has."""
    current = await call.context.store.current()
    model_id = meant(current.document, call.id)
    shown = view(current.snapshot, model_id, holds_on(current.snapshot, model_id))
    return answer(shown, ETag=etag(shown["changed"]))


# ------------------------------------------------------------------------------------------------ the catalog


async def put(call: Call[Model]) -> web.Response:
    """Create or replace an entry."""
    model_id = call.new_id

    async def compose(base: Current, _: Operation) -> Change:
        check(call.request.headers, f"The model {model_id}", changed(base.document, "models", model_id))
        return await _entry(call, base, "model.put", edit("put", "models", model_id, call.body))

    return await apply(call, compose)


async def delete(call: Call[Empty]) -> web.Response:
    """Remove an entry. Holds that name it stay, and close it again if it comes back."""

    async def compose(base: Current, _: Operation) -> Change:
        revision = changed(base.document, "models", call.id)
        if revision is None:
            meant(base.document, call.id)
            raise Conflict(f"{call.id} is another name of a model. Name the id.")
        check(call.request.headers, f"The model {call.id}", revision)
        return await _entry(call, base, "model.delete", edit("delete", "models", call.id))

    return await apply(call, compose)


async def _entry(call: Call[Any], base: Current, action: str, wanted: EditBody) -> Change:
    return await of_edits(call, base, wanted, action=action, subject=f"models/{wanted.id}", models=[wanted.id])


# ------------------------------------------------------------------------------------------------ off and on


async def offline(call: Call[HoldBody]) -> web.Response:
    """Take one model offline."""
    return await holds.place(call, call.body, lambda document: (meant(document, call.id),))


async def online(call: Call[OnlineBody]) -> web.Response:
    """Release the holds on exactly this model, or one hold that covers it."""
    await holding.only_with_redis(call)

    async def compose(base: Current, _: Operation) -> Change:
        model_id = meant(base.document, call.id)
        chosen = _chosen(base, model_id, call.body.hold)
        return await holds.released(call, base, chosen, "online", f"models/{model_id}")

    return await apply(call, compose)


def _chosen(base: Current, model_id: str, named: str | None) -> list[str]:
    """The holds to release.

    Raises:
        NotFound, Conflict: the hold that was named does not stand, or not on this model.
        Unchanged: the model is not offline.
        StillHeld: only holds that cover other models too keep it offline.
    """
    on_it = holds_on(base.snapshot, model_id)
    if named is not None:
        holds.existing(base, named)
        if named not in on_it:
            raise Conflict(f"The hold {named} is not on {model_id}.")
        return [named]
    if not on_it:
        raise Unchanged(f"{model_id} is not offline.")
    exact = [hold_id for hold_id, hold in on_it.items() if hold.models == (model_id,)]
    if not exact:
        raise StillHeld(
            f"{model_id} is held by {', '.join(on_it)}, which also covers others; nothing was released. "
            "Name the hold to release it for all it covers.",
            still_held=holds.still_held(base.snapshot, [model_id]),
        )
    return exact


ROUTES = (
    Route("GET", "/api/v1/models", Access.READ, listing, "The catalog, and what is offline"),
    Route("GET", "/api/v1/models/{id}", Access.READ, get, "One model, by its id or any name"),
    Route(
        "PUT",
        "/api/v1/models/{id}",
        Access.OPERATE,
        put,
        "Create or replace a model",
        body=Model,
        changes=True,
        conditional=True,
    ),
    Route("DELETE", "/api/v1/models/{id}", Access.OPERATE, delete, "Remove a model", changes=True, conditional=True),
    Route(
        "POST",
        "/api/v1/models/{id}/offline",
        Access.OPERATE,
        offline,
        "Take a model offline",
        body=HoldBody,
        changes=True,
        survives=True,
    ),
    Route(
        "POST",
        "/api/v1/models/{id}/online",
        Access.OPERATE,
        online,
        "Release the holds on exactly this model",
        body=OnlineBody,
        changes=True,
        survives=True,
    ),
)
