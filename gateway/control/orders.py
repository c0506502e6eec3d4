"""Orders: the legal or internal acts behind restrictions. Mostly they come in with what they are behind."""

from typing import Any

from aiohttp import web

from gateway.control import nouns
from gateway.control.access import Access
from gateway.control.routing import Call, Empty, Route
from gateway.control.shapes import InlineOrder
from gateway.enforcement.store import Current


def _restrictions(current: Current, order_id: str) -> dict[str, Any]:
    """The holds and directives that stand under an order."""
    by_kind = {kind: getattr(current.document, kind).items() for kind in ("holds", "directives")}
    return {kind: sorted(name for name, each in objects if each.order == order_id) for kind, objects in by_kind.items()}


ORDER = nouns.Noun("orders", _restrictions)


async def listing(call: Call[Empty]) -> web.Response:
    """Every order."""
    return await nouns.listing(call, ORDER)


async def get(call: Call[Empty]) -> web.Response:
    """One order."""
    return await nouns.get(call, ORDER)


async def put(call: Call[InlineOrder]) -> web.Response:
    """Create or replace an order."""
    return await nouns.put(call, ORDER)


async def delete(call: Call[Empty]) -> web.Response:
    """Remove an order that nothing uses."""
    return await nouns.delete(call, ORDER)


ROUTES = (
    Route("GET", "/api/v1/orders", Access.READ, listing, "Every order, and what stands under it"),
    Route("GET", "/api/v1/orders/{id}", Access.READ, get, "One order"),
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
)
