"""Who could use a model, whoever they are: exact, by enumerating what the policy can tell apart.

Two people whom every test of the policy answers alike are one profile. For each attribute the possible vectors of
answers are built up country by country class (a set of countries that all tests treat alike), each with a witness.
Organisations are the policy's own, and one that it does not know: with its country and what it attests, which is
where two policies may differ about one and the same caller. The product is everyone there can be.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

from gateway.policy.caller import Kind, Subject
from gateway.policy.conditions import Atom, Node
from gateway.policy.decision import Deny
from gateway.policy.snapshot import Snapshot

LIMIT = 500_000
"""Profiles that are looked at. A policy beyond it is refused as not enumerable, never guessed at."""

PERSONAL = ("nationality", "latest_nationality", "permanent_residence", "legal_status")
_NEVER_EMPTY = frozenset(("nationality", "latest_nationality", "caller"))
_SINGLE = frozenset(("latest_nationality", "caller"))
_OTHER = {"caller": "someone-else", "org": "another-org", "legal_status": "another-status"}


class TooManyProfilesError(Exception):
    """The policy tells more people apart than can be enumerated."""


@dataclass(frozen=True, slots=True)
class Reach:
    """The answer: profiles that may use a model, as witnesses, of how many there are."""

    model: str
    profiles: int
    permitted: tuple[Subject, ...]


@dataclass(frozen=True, slots=True)
class _Org:
    """An organisation, or none, as each of the snapshots sees it: its country, and the terms that it attests."""

    id: frozenset[str]
    seen: tuple[tuple[frozenset[str] | None, Mapping[str, bool]], ...]


def reach(snapshot: Snapshot, model_id: str) -> Reach:
    """Who may use a model.

    Raises:
        TooManyProfilesError: there are too many to enumerate.
    """
    profiles = [profile for (profile,) in enumerate_profiles([snapshot], [model_id])]
    return Reach(model_id, len(profiles), tuple(p for p in profiles if snapshot.decide_model(model_id, (p,)) is None))


def opened(before: Snapshot, after: Snapshot, model_id: str) -> Subject | None:
    """Somebody whom an order kept from a model before, and nothing keeps from it after; ``None`` if nobody.

    Raises:
        TooManyProfilesError: there are too many to enumerate.
    """
    for then, now in enumerate_profiles([before, after], [model_id]):
        if (
            before.decide_model(model_id, (then,)) is not None
            and under_order(before, model_id, then)
            and after.decide_model(model_id, (now,)) is None
        ):
            return now
    return None


def under_order(snapshot: Snapshot, model_id: str, profile: Subject) -> bool:
    """Whether any restriction with an order denies a profile: the one that speaks has one if any has."""
    deny: Deny | None = snapshot.decide_model(model_id, (profile,))
    if deny is not None and deny.order is not None:
        return True
    rules = (rule for rule in snapshot.rules(model_id) if rule.directive.order is not None)
    return any(rule.applies_to(profile) is not False for rule in rules)


def enumerate_profiles(snapshots: Iterable[Snapshot], models: Iterable[str]) -> Iterator[tuple[Subject, ...]]:
    """One profile for each way in which the directives on these models can be answered, as each snapshot sees it."""
    snapshots, models = list(snapshots), list(models)
    nodes = [
        node
        for snapshot in snapshots
        for model_id in models
        for rule in snapshot.rules(model_id)
        for node in (rule.who, *rule.exceptions)
    ]
    atoms = sorted({atom for node in nodes for atom in _atoms(node)}, key=repr)
    orgs = _orgs(snapshots, atoms, {term for node in nodes for term in _terms(node)})
    attesting = any(attested for org in orgs for _, attested in org.seen)
    kinds = list(Kind) if attesting or _of("kind", atoms) else [Kind.PERSON]
    choices = {name: _choices(name, _of(name, atoms)) for name in (*PERSONAL, "caller")}
    size = len(orgs) * len(kinds) * (1 + attesting)
    for values in choices.values():
        size *= len(values)
    if size > LIMIT:
        raise TooManyProfilesError(f"{size} profiles; the limit is {LIMIT}")
    for org, kind, combination in product(orgs, kinds, product(*choices.values())):
        known: dict[str, Any] = dict(zip(choices, combination, strict=True), org=org.id, kind=frozenset((str(kind),)))
        yield tuple(Subject(**known, org_country=country) for country, _ in org.seen)  # or a user's, through a service
        if kind is Kind.SERVICE and any(attested for _, attested in org.seen):
            yield tuple(Subject(**known, org_country=country, attested=attested) for country, attested in org.seen)


def _of(attribute: str, atoms: list[Atom]) -> list[Atom]:
    return [atom for atom in atoms if atom.attribute == attribute]


def _orgs(snapshots: list[Snapshot], atoms: list[Atom], terms: set[str]) -> list[_Org]:
    """The organisations that the policy can tell apart, a witness each."""
    tests = [atom.holds for atom in _of("org", atoms)]
    of_country = [atom.holds for atom in _of("org_country", atoms)]
    ids = {org_id for snapshot in snapshots for org_id in snapshot.document.orgs}
    ids.update(*(atom.values for atom in _of("org", atoms)))
    found: dict[object, _Org] = {}
    for org_id in (None, *sorted(ids), _unnamed("org", ids)):
        own = frozenset(() if org_id is None else (org_id,))
        countries = [snapshot.country(org_id) for snapshot in snapshots]
        attested = [
            {term: value for term, value in snapshot.attested(org_id).items() if term in terms}
            for snapshot in snapshots
        ]
        key = (
            tuple(test(own) for test in tests),
            tuple(tuple(None if country is None else test(country) for test in of_country) for country in countries),
            tuple(frozenset(terms.items()) for terms in attested),
        )
        found.setdefault(key, _Org(own, tuple(zip(countries, attested, strict=True))))
    return list(found.values())


def _choices(attribute: str, atoms: list[Atom]) -> list[frozenset[str] | None]:
    """The sets that tests of this attribute can tell apart, a witness each, and not known."""
    if not atoms:
        return [None]
    single = attribute in _SINGLE
    tests = [atom.holds for atom in atoms]
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
            found.setdefault(tuple(test(candidate) for test in tests), candidate)
    return [*found.values(), *([] if attribute == "caller" else [None])]


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
    return [*classes, frozenset((_unnamed(attribute, set().union(*(atom.values for atom in atoms))),))]


def _unnamed(attribute: str, named: set[str]) -> str:
    """A value that is not named."""
    if attribute in _OTHER:
        value = _OTHER[attribute]
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
