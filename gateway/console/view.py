"""Everything that pages show, as parts that are told only where they differ from what a page has already."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.console.meter import Totals
from gateway.control.context import Context
from gateway.control.directives import DIRECTIVE
from gateway.control.enforcement import view as replica_view
from gateway.control.holding import SCOPE
from gateway.control.holds import view as hold_view
from gateway.control.models import view as model_view
from gateway.control.orders import ORDER
from gateway.enforcement.store import Current
from gateway.observability.census import InFlight

Part = Mapping[str, Any]
"""Objects by id, as JSON."""


@dataclass(frozen=True, slots=True)
class View:
    """What a page shows at one moment. ``head``: of the gateway as a whole; each of ``parts``: objects by id."""

    head: Mapping[str, Any] = field(default_factory=dict)
    parts: Mapping[str, Part] = field(default_factory=dict)

    def since(self, told: "View") -> dict[str, Any]:
        """What is new to a page that was told another view; an object that is gone is ``None``."""
        news: dict[str, Any] = {"head": self.head}
        for name, part in self.parts.items():
            before = told.parts.get(name, {})
            if part is not before and (different := _different(before, part)):
                news[name] = different
        return news


def _different(before: Part, after: Part) -> dict[str, Any]:
    changed = {key: value for key, value in after.items() if before.get(key) != value}
    return changed | dict.fromkeys(before.keys() - after.keys())


def of_policy(context: Context, current: Current) -> dict[str, Part]:
    """What the policy says: the same views as the admin API's, and the holds of this machine beside the others."""
    snapshot, document = current.snapshot, current.document
    here = () if context.local is None else context.local.standing
    local = {
        each.id: {
            "id": each.id, **each.hold.model_dump(mode="json"), "covers": snapshot.covered(each.hold.models),
            "scope": SCOPE,
        }
        for each in here
    }  # fmt: skip
    return {
        "models": {name: model_view(snapshot, name, {}) for name in sorted(document.models)},
        "holds": {name: hold_view(snapshot, name) for name in document.holds} | local,
        "directives": {name: DIRECTIVE.view(current, name) for name in document.directives},
        "orders": {name: ORDER.view(current, name) for name in document.orders},
    }


def of_replicas(members: Mapping[str, dict[str, Any]], totals: Totals, at: float) -> Part:
    """Every replica that is listed; of this machine's, until when its lease lasts (milliseconds since the epoch)."""
    found = {}
    for member, said in sorted(members.items()):
        shown = replica_view(member, said)
        name = shown["id"]
        if name in totals.leases and shown["state"] == "live":
            lease = round((at + totals.leases[name]) / 5) * 5 * 1000  # it moves all the time: told in steps
            shown |= {"lease_until": lease, "serving": totals.serving.get(name)}
        found[member] = shown
    return found


def of_traffic(rates: Mapping[str, tuple[float, float]], under_way: Mapping[str, InFlight]) -> Part:
    """What passes now, by model; a model that stands still is left out."""
    found = {}
    for model in {*rates, *under_way}:
        permitted, denied = rates.get(model, (0.0, 0.0))
        each = under_way.get(model, InFlight())
        found[model] = {
            "permitted": permitted,
            "blocked": denied,
            "in_flight": each.requests,
            "streams": each.streams,
            "callers": len(each.callers),
        }
    return found
