"""Policies and callers made by chance, small enough that tests of different directives often meet."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from random import Random
from typing import Any

from samples import AT, MODELS, document, hold, order

from gateway.policy.caller import Caller, Facts, Kind
from gateway.policy.document import Document
from gateway.policy.snapshot import Asked

COUNTRIES = ("US", "CN", "IR", "FR")
ABROAD = "GB"
"""A country that no policy names."""
STATUSES = ("protected", "visa")
ORGS = ("acme", "globex")
CALLERS = ("ann", "ben", "svc")
PERSONAL = ("nationality", "latest_nationality", "permanent_residence", "legal_status")
VALUES: dict[str, Sequence[str]] = {
    "nationality": (*COUNTRIES, "group:axis", "group:wider"),
    "latest_nationality": (*COUNTRIES, "group:axis"),
    "permanent_residence": (*COUNTRIES, "group:axis"),
    "legal_status": STATUSES,
    "org": (*ORGS, "nobody-yet"),
    "org_country": (*COUNTRIES, "group:axis"),
    "caller": CALLERS,
    "kind": ("person", "service"),
}
GROUPS: dict[str, Any] = {"axis": {"countries": ["CN", "IR"]}, "wider": {"countries": ["FR", "group:axis"]}}
PATTERNS = (
    "claude-fable-5",
    "claude-*",
    "family:fable",
    "family:opus",
    "tag:frontier",
    "provider:openai",
    "*",
    "gpt-5.?",
)
NAMES = (
    Asked("anthropic", ("claude-fable-5",)),
    Asked("anthropic", ("claude-haiku-4-5",)),
    Asked("anthropic", ("claude-opus-4-5", "claude-fable-latest")),
    Asked("anthropic", ()),
    Asked("anthropic", ("Claude_Fable-5",)),
    Asked("openai", ("ft:gpt-5.4:acme",)),
    Asked("openai", ("nobody",)),
)


class Maker:
    """Draws policies and callers. ``attributes`` are what its conditions may test."""

    def __init__(self, random: Random, attributes: Sequence[str] = tuple(VALUES), terms: Sequence[str] = ("t", "u")):
        self.random = random
        self.attributes = attributes
        self.terms = terms

    def some(self, values: Sequence[str], least: int = 1, most: int = 3) -> list[str]:
        return self.random.sample(values, self.random.randint(least, min(most, len(values))))

    def condition(self, depth: int = 2, terms: Sequence[str] | None = None) -> dict[str, Any]:
        terms = self.terms if terms is None else terms
        form = self.random.choice(["test"] * 5 + ["term", "not", "all", "any", "everyone"])
        if form == "everyone" and self.random.random() < 0.3:
            return {"everyone": True}
        if form == "term" and terms:
            return {"term": self.random.choice(terms)}
        if form == "not" and depth:
            return {"not": self.condition(depth - 1, terms)}
        if form in ("all", "any") and depth:
            return {form: [self.condition(depth - 1, terms) for _ in range(self.random.randint(1, 3))]}
        attribute = self.random.choice(self.attributes)
        return {
            attribute: {self.random.choice(["any_of", "all_of", "none_of", "subset_of"]): self.some(VALUES[attribute])}
        }

    def directive(self, **fields: Any) -> dict[str, Any]:
        made = {
            "models": self.some(PATTERNS, most=2),
            "who": self.condition(),
            "except": [self.condition(1) for _ in range(self.random.choice([0, 0, 1, 2]))],
            "order": self.random.choice([None, "o-1"]),
            "in_flight": {"let_finish": self.random.choice([0, 10, 60])},
            "state": "in_force",
            "by": "op",
            "at": AT,
        }
        return {**made, **fields}

    def directives(self, most: int = 4) -> dict[str, Any]:
        return {f"d-{n}": self.directive() for n in range(self.random.randint(0, most))}

    def orgs(self) -> dict[str, Any]:
        """Organisations of any kind; an attestation may be over already."""
        found: dict[str, Any] = {}
        for org in self.some(ORGS, 0, len(ORGS)):
            found[org] = {"country": self.random.choice([*COUNTRIES, None])}
            if self.terms and self.random.random() < 0.6:
                words = {term: self.random.random() < 0.6 for term in self.some(self.terms)}
                expires = AT + timedelta(days=self.random.choice([-1, 1]))
                word = {"terms": words, "signer": "s", "evidence": "e", "expires": expires}
                found[org] |= {"end_users": "attested", "attestation": word}
        return found

    def policy(self, *, holds: bool = False, **fields: Any) -> Document:
        """A document. Where there are two terms, the second may name the first."""
        terms = {name: {"condition": self.condition(1, self.terms[:n])} for n, name in enumerate(self.terms)}
        made: dict[str, Any] = {
            "models": MODELS,
            "groups": GROUPS,
            "terms": terms,
            "orders": {"o-1": order()},
            "orgs": self.orgs(),
            "directives": self.directives(),
        }
        if holds and self.random.random() < 0.3:
            made["holds"] = {"h-1": hold(self.random.choice(PATTERNS), order=self.random.choice([None, "o-1"]))}
        return document(**{**made, **fields})

    def facts(self, kind: Kind, *, known: float = 0.7) -> Facts:
        """What is known of somebody, all of it coherent: the latest nationality is one of the nationalities."""
        places = (*COUNTRIES, ABROAD)
        sets: dict[str, frozenset[str]] = {}
        if self.random.random() < known:
            sets["nationality"] = frozenset(self.some(places))
        if self.random.random() < known:
            sets["latest_nationality"] = frozenset(self.some(sorted(sets.get("nationality", places)), 1, 1))
        if self.random.random() < known:
            sets["permanent_residence"] = frozenset(self.some(places, 0))
        if self.random.random() < known:
            sets["legal_status"] = frozenset(self.some((*STATUSES, "other"), 0))
        return Facts(kind, self.random.choice([None, *ORGS, "elsewhere"]), **sets)

    def person(self, known: float = 0.7) -> Caller:
        return Caller(self.random.choice(["ann", "ben", "someone"]), self.facts(Kind.PERSON, known=known))

    def service(self, known: float = 0.2) -> Caller:
        return Caller(self.random.choice(["svc", "another"]), self.facts(Kind.SERVICE, known=known))

    def request(self, known: float = 0.7) -> tuple[Caller, Caller | None]:
        """Who asks, and for whom."""
        match self.random.randint(0, 3):
            case 0 | 1:
                return self.person(known), None
            case 2:
                return self.service(), None
            case _:
                return self.service(), self.person(known)


def forgotten(caller: Caller, attribute: str) -> Caller:
    """The same, with an attribute not known."""
    return replace(caller, facts=Facts(**{name: getattr(caller.facts, name) for name in FACTS if name != attribute}))


FACTS = ("kind", "org", *PERSONAL)
