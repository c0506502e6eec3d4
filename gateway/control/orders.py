"""Orders: the legal or internal acts behind holds. They come in with the hold that they are behind."""

from datetime import datetime
from typing import Annotated, Any

from aiohttp import web
from pydantic import StringConstraints

from gateway.control.access import Access
from gateway.control.changes import edited
from gateway.control.conditions import etag
from gateway.control.ids import derive
from gateway.control.problems import Conflict, NotFound
from gateway.control.routing import Call, Empty, Route, answer
from gateway.policy.document import Document, Identifier, Order, Part, Url

Words = Annotated[str, StringConstraints(min_length=1, max_length=2000, strip_whitespace=True)]


class InlineOrder(Part):
    """An order, named where it is needed first. The same authority and reference mean the same order."""

    authority: Words
    reference: Words
    url: Url | None = None
    disclose: bool = False


def settle(
    document: Document, asked: Identifier | InlineOrder | None, by: str, at: datetime
) -> tuple[Document, str | None]:
    """The order that a restriction stands under, and the document that has it.

    Raises:
        NotFound: there is no order with this id.
        Conflict: the order is there with another URL or disclosure than given.
    """
    if asked is None:
        return document, None
    if isinstance(asked, str):
        return document, _existing(document, asked)
    for order_id, order in document.orders.items():
        if (order.authority, order.reference) == (asked.authority, asked.reference):
            _agree(order_id, order, asked)
            return document, order_id
    order_id = derive("o", f"{asked.authority}\0{asked.reference}", document.orders)
    order = Order(**dict(asked), by=by, at=at)
    return edited(document, orders={**document.orders, order_id: order}), order_id


def view(document: Document, order_id: str) -> dict[str, Any]:
    """An order, and the holds that stand under it."""
    order = document.orders[order_id]
    holds = sorted(hold_id for hold_id, hold in document.holds.items() if hold.order == order_id)
    return {"id": order_id, **order.model_dump(mode="json"), "holds": holds}


def _existing(document: Document, order_id: str) -> str:
    if order_id not in document.orders:
        raise NotFound(f"There is no order {order_id!r}. GET /api/v1/orders lists them, or give it inline.")
    return order_id


def _agree(order_id: str, order: Order, asked: InlineOrder) -> None:
    differing = [
        name for name in ("url", "disclose") if name in asked.model_fields_set and _differs(name, order, asked)
    ]
    if differing:
        raise Conflict(f"{order_id} is this order, with another {' and '.join(differing)}. Name it by its id.")


def _differs(name: str, order: Order, asked: InlineOrder) -> bool:
    return bool(getattr(order, name) != getattr(asked, name))


async def listing(call: Call[Empty]) -> web.Response:
    """All orders."""
    current = await call.context.store.current()
    orders = [view(current.document, order_id) for order_id in sorted(current.document.orders)]
    return answer({"revision": current.rev, "orders": orders})


async def get(call: Call[Empty]) -> web.Response:
    """One order."""
    document = (await call.context.store.current()).document
    order_id = _existing(document, call.id)
    return answer(view(document, order_id), ETag=etag(document.changed.get(f"orders/{order_id}", 0)))


ROUTES = (
    Route("GET", "/api/v1/orders", Access.READ, listing, "Every order, with the holds under it"),
    Route("GET", "/api/v1/orders/{id}", Access.READ, get, "One order"),
)
