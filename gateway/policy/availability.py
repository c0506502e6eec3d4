"""What a caller may use, and why not: the decision for every model, as clients read it."""

from collections.abc import Iterable
from typing import Any

from gateway.policy.caller import Caller
from gateway.policy.decision import Deny, Permit
from gateway.policy.document import rfc3339
from gateway.policy.snapshot import Asked, Snapshot


def availability(
    snapshot: Snapshot, caller: Caller, providers: Iterable[str], on_behalf_of: Caller | None = None
) -> list[dict[str, Any]]:
    """One entry per model that any of the providers serves, by id; its first name at each of them."""
    configured = set(providers)
    entries = []
    for model_id in sorted(snapshot.document.models):
        names = {
            route.provider: name
            for route in snapshot.document.models[model_id].routes
            if route.provider in configured and (name := snapshot.name_at(model_id, route.provider)) is not None
        }
        if names:
            provider, name = next(iter(names.items()))
            asked = Asked(provider, (name,))
            entry = _entry(snapshot, snapshot.decide(caller, asked, on_behalf_of))
            if entry["available"] and snapshot.eventual is not snapshot:
                entry |= _notice(snapshot, snapshot.eventual.decide(caller, asked, on_behalf_of))
            entries.append({"model": model_id, "names": names, **entry})
    return entries


def _notice(snapshot: Snapshot, decision: Permit | Deny) -> dict[str, Any]:
    """What will keep from a model that may be used now: a directive whose window has yet to begin."""
    directive = snapshot.document.directives.get(decision.restriction or "") if isinstance(decision, Deny) else None
    begins = None if directive is None else directive.window.from_
    if begins is None or isinstance(decision, Permit):
        return {}
    told = _entry(snapshot, decision)
    kept = ("reason", "scope", "until", "message", "under_order", "order")
    return {"notice": {"from": rfc3339(begins), **{name: told[name] for name in kept if name in told}}}


def _entry(snapshot: Snapshot, decision: Permit | Deny) -> dict[str, Any]:
    if isinstance(decision, Permit):
        return {"available": True}
    entry = {
        "available": False,
        "reason": str(decision.reason),
        "scope": str(decision.scope),
        "since": decision.since,
        "until": decision.until,
        "message": decision.message,
        "under_order": decision.order is not None,
    }
    order = snapshot.document.orders.get(decision.order or "")
    if order is not None and order.disclose:
        entry["order"] = {"authority": order.authority, "reference": order.reference, "url": order.url}
    return entry
