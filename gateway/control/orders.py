"""Orders: the legal or internal acts behind restrictions, how far each has come, and all that was done under it."""

from typing import Any

from aiohttp import web

from gateway.control import nouns
from gateway.control.access import Access
from gateway.control.audit import summary
from gateway.control.changes import Change, apply, of_edits
from gateway.control.conditions import etag
from gateway.control.edits import edit
from gateway.control.idempotency import Operation
from gateway.control.problems import Conflict
from gateway.control.routing import Call, Empty, Route, answer
from gateway.control.shapes import InlineOrder, StateBody
from gateway.enforcement.store import Current, Store
from gateway.policy.document import State

MOST_DONE = 1000
"""Entries of the evidence that an order's view lists; all are in its export."""


def _restrictions(current: Current, order_id: str) -> dict[str, Any]:
    """How far an order has come, and the holds and directives under it."""
    by_kind = {kind: getattr(current.document, kind).items() for kind in ("holds", "directives")}
    under = {
        kind: sorted(name for name, each in objects if each.order == order_id) for kind, objects in by_kind.items()
    }
    return {"progress": str(current.document.orders[order_id].progress), **under}


ORDER = nouns.Noun("orders", _restrictions)


async def listing(call: Call[Empty]) -> web.Response:
    """Every order."""
    return await nouns.listing(call, ORDER)


async def get(call: Call[Empty]) -> web.Response:
    """One order, and what was done under it."""
    store = call.context.store
    shown = ORDER.view(await store.current(), call.id)
    return answer({**shown, "done": await _done(store, call.id)}, ETag=etag(shown["changed"]))


async def _done(store: Store, order_id: str) -> list[dict[str, Any]]:
    """The evidence about an order, oldest first, in short."""
    numbers = await store.redis.lrange(store.keys.chain_of(order_id), -MOST_DONE, -1)
    async with store.redis.pipeline(transaction=False) as pipe:
        for number in numbers:
            pipe.xrange(store.keys.chain, min=f"{number.decode()}-0", max=f"{number.decode()}-0")
        found = await pipe.execute() if numbers else []
    return [summary(fields[b"line"]) for entries in found for _, fields in entries]


async def put(call: Call[InlineOrder]) -> web.Response:
    """Create or replace an order."""
    return await nouns.put(call, ORDER)


async def delete(call: Call[Empty]) -> web.Response:
    """Remove an order that nothing uses."""
    return await nouns.delete(call, ORDER)


async def lift(call: Call[Empty]) -> web.Response:
    """End all that stands under an order: its holds are released, its directives lifted; a second person agrees."""

    async def compose(base: Current, _: Operation) -> Change:
        ORDER.existing(base.document, call.id)
        under, document = _restrictions(base, call.id), base.document
        holds = [edit("delete", "holds", name) for name in under["holds"]]
        directives = [
            edit("state", "directives", name, StateBody(state=State.LIFTED))
            for name in under["directives"]
            if document.directives[name].state is not State.LIFTED
        ]
        if not holds and not directives:
            raise Conflict(f"Nothing stands under {call.id}.")
        return await of_edits(
            call, base, *holds, *directives, action="order.lift", subject=f"orders/{call.id}", order=call.id
        )

    return await apply(call, compose)


ROUTES = (
    Route("GET", "/api/v1/orders", Access.READ, listing, "Every order, how far it has come, and what is under it"),
    Route("GET", "/api/v1/orders/{id}", Access.READ, get, "One order, and what was done under it"),
    Route(
        "PUT",
        "/api/v1/orders/{id}",
        Access.OPERATE,
        put,
        "Create or replace an order",
        body=InlineOrder,
        changes=True,
        conditional=True,
    ),
    Route(
        "DELETE",
        "/api/v1/orders/{id}",
        Access.OPERATE,
        delete,
        "Remove an order that nothing uses",
        changes=True,
        conditional=True,
    ),
    Route("POST", "/api/v1/orders/{id}/lift", Access.OPERATE, lift, "End all that stands under an order", changes=True),
)
