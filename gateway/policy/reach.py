"""Who could use a model, whoever they are: exact, by enumerating what the policy can tell apart.

Two people whom every test of the policy answers alike are one profile. For each attribute the possible vectors of
answers are built up country by country class (a set of countries that all tests treat alike), each with a witness;
their product, with *not known* beside, is everyone there can be.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product

from gateway.policy.caller import Subject
from gateway.policy.conditions import Atom, Node
from gateway.policy.decision import Deny
from gateway.policy.snapshot import Snapshot

LIMIT = 500_000
"""Profiles that are looked at. A policy beyond it is refused as not enumerable, never guessed at."""

ATTRIBUTES = (
    "nationality",
    "latest_nationality",
    "permanent_residence",
    "legal_status",
    "org",
    "org_country",
    "caller",
    "kind",
)
_NEVER_EMPTY = frozenset(("nationality", "latest_nationality", "caller", "kind"))
_SINGLE = frozenset(("latest_nationality", "org", "org_country", "caller", "kind"))
_OTHER = {"kind": None, "caller": "someone-else", "org": "another-org", "legal_status": "another-status"}


class TooManyProfilesError(Exception):
    """The policy tells more people apart than can be enumerated."""


@dataclass(frozen=True, slots=True)
class Reach:
    """The answer: profiles that may use a model, as witnesses, of how many there are."""

    model: str
    profiles: int
    permitted: tuple[Subject, ...]


def reach(snapshot: Snapshot, model_id: str) -> Reach:
    """Who may use a model.

    Raises:
        TooManyProfilesError: there are too many to enumerate.
    """
    profiles = list(enumerate_profiles([snapshot], [model_id]))
    return Reach(model_id, len(profiles), tuple(p for p in profiles if snapshot.decide_model(model_id, (p,)) is None))


def opened(before: Snapshot, after: Snapshot, model_id: str) -> Subject | None:
    """Somebody whom an order kept from a model before, and nothing keeps from it after; ``None`` if nobody.

    Raises:
        TooManyProfilesError: there are too many to enumerate.
    """
    for profile in enumerate_profiles([before, after], [model_id]):
        deny = before.decide_model(model_id, (profile,))
        if (
            deny is not None
            and under_order(before, model_id, profile)
            and after.decide_model(model_id, (profile,)) is None
        ):
            return profile
    return None


def under_order(snapshot: Snapshot, model_id: str, profile: Subject) -> bool:
    """Whether any restriction with an order denies a profile: the one that speaks has one if any has."""
    deny: Deny | None = snapshot.decide_model(model_id, (profile,))
    if deny is not None and deny.order is not None:
        return True
    rules = (rule for rule in snapshot.rules(model_id) if rule.directive.order is not None)
    return any(rule.applies_to(profile) is not False for rule in rules)


def enumerate_profiles(snapshots: Iterable[Snapshot], models: Iterable[str]) -> Iterator[Subject]:
    """One subject for each way in which the directives on these models can be answered."""
    snapshots, models = list(snapshots), list(models)
    nodes = [
        node
        for snapshot in snapshots
        for model_id in models
        for rule in snapshot.rules(model_id)
        for node in (rule.who, *rule.exceptions)
    ]
    atoms = sorted({atom for node in nodes for atom in _atoms(node)}, key=repr)
    terms = sorted({term for node in nodes for term in _terms(node)})
    choices = {name: _choices(name, [atom for atom in atoms if atom.attribute == name]) for name in ATTRIBUTES}
    attested: list[dict[str, bool]] = [{}] + [{term: value} for term in terms for value in (True, False)]
    size = len(attested)
    for values in choices.values():
        size *= len(values)
    if size > LIMIT:
        raise TooManyProfilesError(f"{size} profiles; the limit is {LIMIT}")
    for combination in product(*choices.values()):
        known = dict(zip(choices, combination, strict=True))
        for statement in attested:
            if statement and known["kind"] == frozenset(("person",)):
                continue
            yield Subject(**known, attested=statement)


def _choices(attribute: str, atoms: list[Atom]) -> list[frozenset[str] | None]:
    """The sets that tests of this attribute can tell apart, a witness each, and not known."""
    if not atoms:
        return [None]
    single = attribute in _SINGLE
    found: dict[tuple[bool, ...], frozenset[str]] = {}
    sets = [frozenset[str]()]
    seen: frozenset[str] = frozenset()
    for members in _classes(attribute, atoms):
        seen |= members
        grown = [chosen | part for chosen in sets if not (single and chosen) for part in _parts(members, single=single)]
        sets = list({_state(atoms, candidate, seen): candidate for candidate in (*sets, *grown)}.values())
        if len(sets) > LIMIT:
            raise TooManyProfilesError(f"{attribute}: more than {LIMIT} kinds of sets")
    for candidate in sets:
        if candidate or attribute not in _NEVER_EMPTY:
            found.setdefault(tuple(atom.holds(candidate) for atom in atoms), candidate)
    return [*found.values(), *([] if attribute in ("caller", "kind") else [None])]


def _state(atoms: list[Atom], candidate: frozenset[str], seen: frozenset[str]) -> tuple[tuple[bool, bool, bool], ...]:
    """For each test: whether the set meets its values, has all that were seen so far, and lies within them.

    With the values still to come, that decides every operator: sets of equal state have equal futures.
    """
    return tuple(
        (not atom.values.isdisjoint(candidate), atom.values & seen <= candidate, candidate <= atom.values)
        for atom in atoms
    )


def _classes(attribute: str, atoms: list[Atom]) -> list[frozenset[str]]:
    """Values grouped by which tests name them, and one that none names."""
    by_pattern: dict[tuple[bool, ...], set[str]] = {}
    for value in sorted(set().union(*(atom.values for atom in atoms))):
        by_pattern.setdefault(tuple(value in atom.values for atom in atoms), set()).add(value)
    classes = [frozenset(values) for values in by_pattern.values()]
    if attribute == "kind":
        named = set().union(*(atom.values for atom in atoms))
        others = {"person", "service"} - named
        return [*classes, *([frozenset(others)] if others else [])]
    return [*classes, frozenset((_unnamed(attribute, atoms),))]


def _unnamed(attribute: str, atoms: list[Atom]) -> str:
    """A value that no test names."""
    named = set().union(*(atom.values for atom in atoms))
    if attribute in _OTHER:
        value = _OTHER[attribute] or "other"
        while value in named:
            value += "-x"
        return value
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    return next(a + b for a in "ZQXYABCDEFGHIJKLMNOPRSTUVW" for b in letters if a + b not in named)


def _parts(members: frozenset[str], *, single: bool) -> list[frozenset[str]]:
    """Of a class: one of it, some of it but not all, all of it."""
    ordered = sorted(members)
    if single or len(ordered) == 1:
        return [frozenset(ordered[:1])]
    return [frozenset(ordered[:1]), frozenset(ordered)]


def _atoms(node: Node) -> Iterator[Atom]:
    if node.atom is not None:
        yield node.atom
    for part in node.parts:
        yield from _atoms(part)


def _terms(node: Node) -> Iterator[str]:
    if node.term is not None:
        yield node.term
    for part in node.parts:
        yield from _terms(part)
