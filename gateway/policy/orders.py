"""What a change of the policy means for the orders in it: how far each has come, and which it is about. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any

from gateway.policy.conditions import terms_in
from gateway.policy.document import Directive, Document, Hold, Order, Progress, State

KINDS = ("orders", "holds", "directives", "models", "terms", "groups", "orgs")
"""What a policy is made of, in the order in which a change is told."""

_NAMED = ("terms", "groups", "orgs", "models")
"""What restrictions are about: who edits it edits what they mean."""

Restriction = Hold | Directive
Difference = dict[str, dict[str, Any]]


def marked(before: Document, after: Document) -> Document:
    """A new policy, each of its orders as far as it has come by it."""
    if not after.orders or (before.holds, before.directives) == (after.holds, after.directives):
        return after
    stood, stands = standing(before), standing(after)
    orders = {name: _marked(order, stood.get(name, {}), stands.get(name, {})) for name, order in after.orders.items()}
    if all(orders[name] is order for name, order in after.orders.items()):
        return after
    return after.model_copy(update={"orders": orders})


def standing(document: Document) -> dict[str, dict[str, Restriction]]:
    """The restrictions that deny under each order, by ``kind/id``. One whose window has not begun denies nobody."""
    found: dict[str, dict[str, Restriction]] = {}
    for name, hold in document.holds.items():
        if hold.order is not None:
            found.setdefault(hold.order, {})[f"holds/{name}"] = hold
    for name, directive in document.directives.items():
        if directive.order is not None and directive.state is State.IN_FORCE and _begun(directive):
            found.setdefault(directive.order, {})[f"directives/{name}"] = directive
    return found


def _begun(directive: Directive) -> bool:
    return directive.begun or directive.window.from_ is None


def _marked(order: Order, stood: Mapping[str, Restriction], stands: Mapping[str, Restriction]) -> Order:
    progress = _progress(order.progress, stood, stands)
    return order if progress is order.progress else order.model_copy(update={"progress": progress})


def _progress(now: Progress, stood: Mapping[str, Restriction], stands: Mapping[str, Restriction]) -> Progress:
    if not stands:
        return Progress.LIFTED if stood else now
    if any(_eased(restriction, stands.get(name)) for name, restriction in stood.items()):
        return Progress.PARTLY_LIFTED
    return now if now is Progress.PARTLY_LIFTED else Progress.IN_FORCE


def _eased(was: Restriction, becomes: Restriction | None) -> bool:
    """Whether a restriction is gone, or means less, as far as its own words go: not what its terms mean."""
    if becomes is None or not set(was.models) <= set(becomes.models):
        return True
    if isinstance(was, Directive) and isinstance(becomes, Directive):
        return was.who != becomes.who or not set(map(repr, becomes.except_)) <= set(map(repr, was.except_))
    return False


# ------------------------------------------------------------------------------------------------ what is different


def differences(before: Document, after: Document) -> Difference:
    """Each object that is different, by ``kind/id``: as it was and as it is; ``None`` where there was or is none."""
    found: Difference = {}
    for kind in KINDS:
        first, second = getattr(before, kind), getattr(after, kind)
        for name in [*first, *(name for name in second if name not in first)]:
            was, becomes = first.get(name), second.get(name)
            if was is not becomes and was != becomes:
                found[f"{kind}/{name}"] = {"before": _plain(was), "after": _plain(becomes)}
    for name in ("contact", "information", "max_stale"):
        if getattr(before, name) != getattr(after, name):
            found[name] = {"before": _plain(getattr(before, name)), "after": _plain(getattr(after, name))}
    return found


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, str):
        return value
    return value.model_dump(mode="json", by_alias=True, exclude_defaults=True)


def concerned(before: Document, after: Document, different: Mapping[str, Any]) -> tuple[str, ...]:
    """The orders that a change is about: those edited, those of edited restrictions, and whose words were edited.

    A term, a group, an organisation or a model that is edited concerns every order that anything stands under.
    """
    found = set(_direct(before, after, different))
    if any(name.partition("/")[0] in _NAMED for name in different):
        found |= standing(before).keys() | standing(after).keys()
    return tuple(sorted(found))


def _direct(before: Document, after: Document, different: Mapping[str, Any]) -> Iterator[str]:
    for path in different:
        kind, _, name = path.partition("/")
        if kind == "orders":
            yield name
        elif kind in ("holds", "directives"):
            sides = (getattr(document, kind).get(name) for document in (before, after))
            yield from (each.order for each in sides if each is not None and each.order is not None)


def terms_of(directive: Directive) -> tuple[str, ...]:
    """The terms that a directive names, as far as its own words go."""
    return tuple(sorted({name for condition in (directive.who, *directive.except_) for name in terms_in(condition)}))
