"""Whom a restriction hit: when first, how often, of which organisations. Counted on the path of a refusal only.

A worker keeps the sum since it began and writes it to Redis whole, under a name of its own; what is read there is put
together (``merged``). Callers are known by their pseudonyms, and only counted where somebody reads.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

MOST_RESTRICTIONS = 1000
MOST_CALLERS = 10_000
"""Of one restriction, in one worker; beyond, further ones are refused as before and not told apart."""

KEEP_SECONDS = 400 * 24 * 3600
NO_ORG = "no org"


@dataclass(slots=True)
class Effect:
    """What one restriction did. Times in seconds since the epoch; ``callers``: pseudonyms by organisation."""

    refused: int = 0
    cut: int = 0
    first_refused: float | None = None
    last_refused: float | None = None
    first_cut: float | None = None
    last_cut: float | None = None
    refusals: dict[str, int] = field(default_factory=dict)
    callers: dict[str, set[str]] = field(default_factory=dict)
    known: int = 0

    def add(self, moment: float, org: str | None, caller: str | None, *, cut: bool) -> None:
        """Count one: a refusal, or something that was cut in flight."""
        if cut:
            self.cut += 1
            self.first_cut, self.last_cut = _span(self.first_cut, self.last_cut, moment)
        else:
            self.refused += 1
            self.first_refused, self.last_refused = _span(self.first_refused, self.last_refused, moment)
        where = org or NO_ORG
        self.refusals[where] = self.refusals.get(where, 0) + 1
        of_org = self.callers.setdefault(where, set())
        if caller is not None and caller not in of_org and self.known < MOST_CALLERS:
            of_org.add(caller)
            self.known += 1

    def view(self) -> dict[str, Any]:
        """As it is kept in Redis."""
        return {
            "refused": self.refused,
            "cut": self.cut,
            "first_refused": self.first_refused,
            "last_refused": self.last_refused,
            "first_cut": self.first_cut,
            "last_cut": self.last_cut,
            "refusals": self.refusals,
            "callers": {org: sorted(callers) for org, callers in self.callers.items()},
        }


def _span(first: float | None, last: float | None, moment: float) -> tuple[float, float]:
    return moment if first is None else min(first, moment), moment if last is None else max(last, moment)


class Effects:
    """What the restrictions did in one worker."""

    def __init__(self) -> None:
        self._of: dict[str, Effect] = {}
        self._changed: set[str] = set()

    def add(self, line: Mapping[str, Any]) -> None:
        """Count a refusal by its line in the log."""
        restriction = line.get("restriction")
        if restriction is None:
            return
        effect = self._of.get(restriction)
        if effect is None:
            if len(self._of) >= MOST_RESTRICTIONS:
                return
            effect = self._of[restriction] = Effect()
        effect.add(line["time"], line.get("org"), line.get("caller"), cut=bool(line.get("severed")))
        self._changed.add(restriction)

    def take(self) -> dict[str, bytes]:
        """What has changed since the last time, by restriction."""
        changed, self._changed = self._changed, set()
        return {restriction: orjson.dumps(self._of[restriction].view()) for restriction in changed}

    def put_back(self, restrictions: Iterable[str]) -> None:
        """These were not written after all."""
        self._changed.update(restrictions)


def merged(views: Iterable[bytes]) -> dict[str, Any] | None:
    """What all workers counted of one restriction, callers as numbers; ``None``: nobody was hit."""
    found = [orjson.loads(view) for view in views]
    if not found:
        return None
    orgs = sorted({org for view in found for org in view["refusals"]})
    by_org = {
        org: {
            "callers": len({caller for view in found for caller in view["callers"].get(org, ())}),
            "refused_or_cut": sum(view["refusals"].get(org, 0) for view in found),
        }
        for org in orgs
    }
    return {
        "refused": sum(view["refused"] for view in found),
        "cut": sum(view["cut"] for view in found),
        **{name: _of_all(min, found, name) for name in ("first_refused", "first_cut")},
        **{name: _of_all(max, found, name) for name in ("last_refused", "last_cut")},
        "by_org": by_org,
    }


def _of_all(choose: Any, views: list[dict[str, Any]], name: str) -> float | None:
    found: float | None = choose((view[name] for view in views if view[name] is not None), default=None)
    return found
