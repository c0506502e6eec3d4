"""A worker's share of what is under way, counted when somebody asks."""

from collections.abc import Iterable

from gateway.observability.census import InFlight
from gateway.proxy.exchange import Exchange

SWITCHED = 101
"""The status of a request that has become a WebSocket."""


def in_flight(exchanges: Iterable[Exchange]) -> dict[str, InFlight]:
    """Permitted requests that have not ended, under each model that they may use."""
    found: dict[str, InFlight] = {}
    for exchange in exchanges:
        if exchange.permit is None:
            continue
        for model in exchange.permit.models:
            each = found.setdefault(model, InFlight())
            each.requests += 1
            each.streams += exchange.stream or exchange.status == SWITCHED
            if exchange.caller is not None:
                each.callers.add(exchange.caller.id)
    return found
