"""What is under way, by model: what an *offline* would hit now."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class InFlight:
    """Requests of one model that are decided and not ended, how many of them stream, and of which callers."""

    requests: int = 0
    streams: int = 0
    callers: set[str] = field(default_factory=set)


Row = tuple[str, int, int, list[str]]
"""A model, its requests, its streams, and the ids of its callers: as it goes over the channel."""


def rows(found: dict[str, InFlight]) -> list[Row]:
    """As it goes over the channel."""
    return [(model, each.requests, each.streams, sorted(each.callers)) for model, each in found.items()]


def together(answers: Iterable[Any]) -> dict[str, InFlight]:
    """What all workers say; one that gave no answer counts as nothing."""
    merged: dict[str, InFlight] = {}
    for answer in answers:
        for model, requests, streams, callers in answer or ():
            each = merged.setdefault(model, InFlight())
            each.requests += requests
            each.streams += streams
            each.callers.update(callers)
    return merged
