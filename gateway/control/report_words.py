"""What the evidence says, in sentences: conditions, restrictions, and what each revision did."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_ATTRIBUTES = {
    "nationality": "of nationality",
    "latest_nationality": "of latest nationality",
    "permanent_residence": "a permanent resident of",
    "legal_status": "of the legal status",
    "org": "of the organisation",
    "org_country": "of an organisation in",
    "caller": "the caller",
    "kind": "a",
}
_OPERATORS = {"any_of": "any of", "all_of": "all of", "none_of": "none of", "subset_of": "nothing but"}
_STATES = {"draft": "as a draft", "shadow": "in shadow, denying nobody", "in_force": "in force", "lifted": "lifted"}
_BECAME = {
    "draft": "made a draft of",
    "shadow": "put into shadow, where it denies nobody,",
    "in_force": "put into force",
    "lifted": "lifted",
}
MOST = 8
"""Values that are written out."""

Object = Mapping[str, Any]


def listed(values: Sequence[str], last: str = "and") -> str:
    """``a, b and c``; of many, the first and how many more."""
    if len(values) > MOST:
        return f"{', '.join(values[:MOST])} {last} {len(values) - MOST} more"
    return f" {last} ".join([", ".join(values[:-1]), values[-1]]) if len(values) > 1 else "".join(values)


def condition(said: Object) -> str:
    """A condition in words, to follow *whoever is*."""
    ((form, value),) = said.items()
    match form:
        case "everyone":
            return "anybody"
        case "term":
            return str(value)
        case "not":
            return f"not {_inner(value)}"
        case "all" | "any":
            return f" {'and' if form == 'all' else 'or'} ".join(_inner(part) for part in value)
        case _:
            ((operator, values),) = value.items()
            one = len(values) == 1 and operator in ("any_of", "all_of")
            told = values[0] if one else f"{_OPERATORS[operator]} {listed(values, 'or')}"
            return f"{_ATTRIBUTES[form]} {told}"


def _inner(said: Object) -> str:
    return f"({condition(said)})" if next(iter(said)) in ("all", "any") else condition(said)


def about(directive: Object) -> str:
    """Whom a directive denies what, and when."""
    told = f"keeps {listed(directive['models'])} from whoever is {condition(directive['who'])}"
    excepted = [condition(each) for each in directive.get("except", ())]
    if excepted:
        told += f", except whoever is {listed(excepted, 'or')}"
    window = directive.get("window") or {}
    for name in ("from", "until"):
        if window.get(name):
            told += f", {name} {moment(window[name])}"
    return told


def moment(at: str) -> str:
    """A time to the second, in UTC."""
    return f"{at[:10]} {at[11:19]}Z"


# ------------------------------------------------------------------------------------------------ changes


def deeds(changes: Mapping[str, Any], order: str | None) -> Iterator[str]:
    """What a revision did, a clause each."""
    for path, sides in changes.items():
        kind, _, name = path.partition("/")
        before, after = sides.get("before"), sides.get("after")
        if "before_sha256" in sides:
            yield f"changed {path} (too large to be told; the digests are kept)"
        elif kind == "orders":
            yield from _order(name, before, after, own=name == order)
        elif kind == "directives":
            yield from _directive(name, before, after)
        elif kind == "holds":
            yield _hold(name, before, after)
        else:
            verb = "added" if before is None else "removed" if after is None else "changed"
            yield f"{verb} {kind.removesuffix('s')} {name}".strip()


def _order(name: str, before: Object | None, after: Object | None, *, own: bool) -> Iterator[str]:
    which = "this order" if own else f"the order {name}"
    if after is None:
        yield f"removed {which}"
    elif before is None:
        yield f"entered {which} ({after['authority']}, {after['reference']})"
    elif {**before, "progress": None} != {**after, "progress": None}:
        yield f"corrected what is entered of {which}"


def _hold(name: str, before: Object | None, after: Object | None) -> str:
    if after is None and before is not None:
        return f"released the hold {name} on {listed(before['models'])}"
    return f"took {listed(after['models'] if after else [])} offline for everybody (hold {name})"


def _directive(name: str, before: Object | None, after: Object | None) -> Iterator[str]:
    if after is None:
        yield f"removed the draft {name}"
        return
    state = after.get("state", "draft")
    if before is None:
        yield f"wrote the directive {name}, {_STATES[state]}: it {about(after)}"
        return
    if state != before.get("state", "draft"):
        yield f"{_BECAME[state]} the directive {name}"
    if after.get("begun") and not before.get("begun"):
        yield f"the window of {name} began: it denies from here on"
    yield from _edited(name, before, after)


def _edited(name: str, before: Object, after: Object) -> Iterator[str]:
    old, new = before.get("except", []), after.get("except", [])
    for each in new:
        if each not in old:
            yield f"exempted whoever is {condition(each)} from {name}"
    for each in old:
        if each not in new:
            yield f"took back the exemption of whoever is {condition(each)} from {name}"
    if before["models"] != after["models"]:
        yield f"{name} now covers {listed(after['models'])}"
    if before["who"] != after["who"]:
        yield f"{name} now denies whoever is {condition(after['who'])}"
    if before.get("window") != after.get("window"):
        window = after.get("window") or {}
        ends = " (which lifts it by itself)" if window.get("reopens") else ""
        times = [f"{side} {moment(window[side])}" for side in ("from", "until") if window.get(side)]
        yield f"{name} now holds {' '.join(times) or 'without beginning or end'}{ends}"
