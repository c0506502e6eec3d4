"""Profiles in words: whom a preview, an approval or a reach is about."""

from collections.abc import Iterable, Iterator
from typing import Any

from gateway.policy.caller import Subject
from gateway.policy.conditions import Atom, Node
from gateway.policy.snapshot import Snapshot

EVERYONE = "everyone"
SHOWN_VALUES = 3
"""Countries and the like that are written out; of more, the first and how many."""

_NOUNS = {
    "nationality": "nationality",
    "latest_nationality": "latest nationality",
    "permanent_residence": "permanent residence",
    "legal_status": "legal status",
    "org": "organisation",
    "org_country": "organisation's country",
    "caller": "caller",
    "kind": "kind",
}


class Vocabulary:
    """What the directives on some models ask about. What they do not ask about is not worth a word."""

    def __init__(self, snapshots: Iterable[Snapshot], models: Iterable[str]) -> None:
        self._named: dict[str, set[str]] = {}
        self._atoms: set[Atom] = set()
        chosen = list(models)
        for snapshot in snapshots:
            for model_id in chosen:
                for rule in snapshot.rules(model_id):
                    for node in (rule.who, *rule.exceptions):
                        self._learn(node)

    def _learn(self, node: Node) -> None:
        if node.atom is not None:
            self._atoms.add(node.atom)
            self._named.setdefault(node.atom.attribute, set()).update(node.atom.values)
        for part in node.parts:
            self._learn(part)

    def say(self, profile: Subject) -> str:
        """A profile. It is a witness: whoever the policy cannot tell from it is treated alike."""
        return "; ".join((*self._attributes(profile), *_attested(profile))) or EVERYONE

    def _attributes(self, profile: Subject) -> Iterator[str]:
        for attribute, noun in _NOUNS.items():
            known: frozenset[str] | None = getattr(profile, attribute)
            if attribute in self._named:
                yield self._attribute(noun, known, self._named[attribute])

    def _attribute(self, noun: str, known: frozenset[str] | None, named: set[str]) -> str:
        if known is None:
            return f"{noun} not known"
        if not known:
            return f"no {noun}"
        values = sorted(known & named)
        if len(values) > SHOWN_VALUES:
            values = [values[0], f"{len(values) - 1} more"]
        if known - named:
            values.append("any other")
        return f"{noun} {' and '.join(values)}"

    @property
    def asked(self) -> list[str]:
        """Every test that is asked, spelt out: two policies that ask the same tell the same profiles apart."""
        return sorted(f"{atom.attribute} {atom.operator} {sorted(atom.values)}" for atom in self._atoms)

    def plainness(self, profile: Subject) -> tuple[int, int]:
        """Less is a better example: fewer things unknown, fewer things told."""
        told = [getattr(profile, attribute) for attribute in self._named]
        return sum(known is None for known in told), sum(len(known or ()) for known in told)


def _attested(profile: Subject) -> Iterator[str]:
    for term, value in sorted(profile.attested.items()):
        yield f"{term} attested as {'true' if value else 'false'}"


def shown(vocabulary: Vocabulary, profiles: Iterable[Subject], limit: int) -> dict[str, Any]:
    """How many profiles, and the plainest of them in words."""
    ranked = sorted(profiles, key=vocabulary.plainness)
    said = dict.fromkeys(vocabulary.say(profile) for profile in ranked)
    return {"profiles": len(ranked), "examples": list(said)[:limit]}
