"""Which order a restriction stands under: one that is there, or one that comes in with it."""

from collections.abc import Mapping
from datetime import datetime

from gateway.control.ids import derive
from gateway.control.problems import Conflict, NotFound
from gateway.control.shapes import InlineOrder
from gateway.policy.document import Identifier, Order

Orders = Mapping[str, Order]


def settle(orders: Orders, asked: Identifier | InlineOrder | None, by: str, at: datetime) -> tuple[Orders, str | None]:
    """The order that a restriction stands under, and the orders with it.

    Raises:
        NotFound: there is no order with this id.
        Conflict: the order is there with another URL or disclosure than given.
    """
    if asked is None:
        return orders, None
    if isinstance(asked, str):
        return orders, existing(orders, asked)
    order_id = like(orders, asked)
    if order_id is not None:
        _agree(order_id, orders[order_id], asked)
        return orders, order_id
    order_id = derive("o", f"{asked.authority}\0{asked.reference}", orders)
    return {**orders, order_id: Order(**dict(asked), by=by, at=at)}, order_id


def like(orders: Orders, asked: InlineOrder) -> str | None:
    """The order that has this authority and reference."""
    wanted = (asked.authority, asked.reference)
    return next((name for name, order in orders.items() if (order.authority, order.reference) == wanted), None)


def existing(orders: Orders, order_id: str) -> str:
    """An order's id, having looked that it is there.

    Raises:
        NotFound: it is not.
    """
    if order_id not in orders:
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
