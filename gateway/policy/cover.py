"""Which models of a catalog patterns mean, and which of them holds close."""

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gateway.policy.document import Document, Hold, Model
from gateway.policy.names import covers, literal_start


class Cover:
    """Which models of a catalog patterns mean; each pattern is looked for once."""

    def __init__(self, models: Mapping[str, Model]) -> None:
        self._models = [
            (model_id, model.family, frozenset(model.tags), frozenset(route.provider for route in model.routes))
            for model_id, model in sorted(models.items())
        ]
        self._ids = sorted(models)
        self._sorts: dict[str, set[str]] = {}
        for model_id, family, tags, providers in self._models:
            families = () if family is None else (family,)
            for kind, values in (("family", families), ("tag", tags), ("provider", providers)):
                for value in values:
                    self._sorts.setdefault(f"{kind}:{value}", set()).add(model_id)
        self._found: dict[str, frozenset[str]] = {}

    def __call__(self, patterns: Iterable[str]) -> frozenset[str]:
        """The ids of the models that any of the patterns means."""
        found = [self._one(pattern) for pattern in patterns]
        return found[0] if len(found) == 1 else frozenset[str]().union(*found)

    def _one(self, pattern: str) -> frozenset[str]:
        found = self._found.get(pattern)
        if found is None:
            found = self._found[pattern] = self._search(pattern)
        return found

    def _search(self, pattern: str) -> frozenset[str]:
        if pattern in self._sorts and "*" not in pattern and "?" not in pattern:
            return frozenset(self._sorts[pattern])
        start = literal_start(pattern)
        near = slice(bisect_left(self._ids, start), bisect_left(self._ids, f"{start}\x7f"))  # ids are ASCII
        if pattern == start:
            return frozenset(model_id for model_id in self._ids[near] if model_id == pattern)
        if pattern == f"{start}*":
            return frozenset(self._ids[near])
        return frozenset(model[0] for model in self._models[near] if covers(pattern, *model))


@dataclass(frozen=True, slots=True)
class Closed:
    """Why a model is offline: the hold that speaks, and how many seconds requests in flight may go on."""

    hold_id: str
    hold: Hold
    let_finish: float


def closed_by_holds(document: Document, cover: Cover) -> dict[str, Closed]:
    """For each model the hold that speaks: one under an order first, then by id; the shortest grace counts."""
    closed: dict[str, Closed] = {}
    ranked = sorted(document.holds.items(), key=lambda item: (item[1].order is None, item[0]))
    for hold_id, hold in ranked:
        grace = hold.in_flight.let_finish
        for model_id in cover(hold.models):
            first = closed.get(model_id)
            if first is None:
                closed[model_id] = Closed(hold_id, hold, grace)
            elif grace < first.let_finish:
                closed[model_id] = Closed(first.hold_id, first.hold, grace)
    return closed
