"""Against Cedar (cedarpolicy.com), an engine made by others: where all is known, both decide alike.

A directive is a ``forbid`` policy, its exceptions an ``unless``; everything else is permitted. Cedar knows two truth
values only, so that every attribute of every caller here is known. It is also asked which policies apply, and those
must be the directives that apply.
"""

import json
from collections import Counter
from random import Random
from typing import Any

import cedarpy
from made_policies import PERSONAL, VALUES, Maker
from samples import AT

from gateway.policy.caller import Caller, Facts, Kind, Subject
from gateway.policy.conditions import Condition, Term, Test
from gateway.policy.decision import Permit
from gateway.policy.document import Document
from gateway.policy.snapshot import Asked, Snapshot

POLICIES = 130
CALLERS = 80
SEED = 20260612
NAMES = {
    "claude-fable-5": Asked("anthropic", ("claude-fable-5",)),
    "claude-haiku-4-5": Asked("anthropic", ("claude-haiku-4-5",)),
    "claude-opus-4-5": Asked("anthropic", ("claude-opus-4-5",)),
    "gpt-5.4": Asked("openai", ("gpt-5.4",)),
    "gpt-5.4-mini": Asked("openai", ("gpt-5.4-mini",)),
}


class Known(Maker):
    """Makes policies and callers of which everything is known: nobody is without an organisation, none is a secret."""

    def orgs(self) -> dict[str, Any]:
        return {org: {"country": self.random.choice(["US", "CN", "FR"])} for org in ("acme", "globex", "elsewhere")}

    def facts(self, kind: Kind, *, known: float = 1.0) -> Facts:
        facts = super().facts(kind, known=1.0)
        return Facts(kind, facts.org or "acme", **{name: getattr(facts, name) for name in PERSONAL})


# ---------------------------------------------------------------- in Cedar's words


class Words:
    """Writes a policy's conditions in Cedar's language."""

    def __init__(self, document: Document) -> None:
        self.groups = {name: group.countries for name, group in document.groups.items()}
        self.terms: dict[str, Term] = document.terms

    def condition(self, condition: Condition) -> str:
        (form,) = condition.model_fields_set
        value = getattr(condition, form)
        match form:
            case "everyone":
                return "true"
            case "term":
                return self.condition(self.terms[value].condition)
            case "not_":
                return f"!({self.condition(value)})"
            case "all":
                return "(" + " && ".join(map(self.condition, value)) + ")"
            case "any":
                return "(" + " || ".join(map(self.condition, value)) + ")"
            case _:
                return self.test(f"principal.{form}", value)

    def test(self, known: str, test: Test) -> str:
        (operator,) = test.model_fields_set
        values = json.dumps(sorted(self.values(getattr(test, operator))))
        return {
            "any_of": f"{known}.containsAny({values})",
            "all_of": f"{known}.containsAll({values})",
            "none_of": f"!{known}.containsAny({values})",
            "subset_of": f"{values}.containsAll({known})",
        }[operator]

    def values(self, named: tuple[str, ...]) -> set[str]:
        groups = [name.removeprefix("group:") for name in named if name.startswith("group:")]
        return {name for name in named if not name.startswith("group:")}.union(
            *(self.values(self.groups[group]) for group in groups)
        )


def policies(document: Document, snapshot: Snapshot) -> cedarpy.PolicySet:
    words = Words(document)
    lines = ["permit (principal, action, resource);"]
    for name, directive in document.directives.items():
        models = ", ".join(f'Model::"{model_id}"' for model_id in snapshot.covered(directive.models))
        exceptions = "".join(f" unless {{ {words.condition(exception)} }}" for exception in directive.except_)
        who = words.condition(directive.who)
        lines.append(
            f'@id("{name}") forbid (principal, action, resource) when {{ [{models}].contains(resource) && {who} }}{exceptions};'
        )
    return cedarpy.PolicySet.from_str("\n".join(lines))


def entity(number: int, subject: Subject) -> dict[str, Any]:
    known = {name: sorted(getattr(subject, name)) for name in VALUES}
    return {"uid": {"type": "Caller", "id": str(number)}, "attrs": known, "parents": []}


def asked_of_cedar(snapshot: Snapshot, subjects: list[Subject]) -> list[set[str]]:
    """For each subject and model, in that order, the directives that Cedar says apply."""
    entities = cedarpy.Entities.from_json_str(json.dumps([entity(n, subject) for n, subject in enumerate(subjects)]))
    requests = [
        {
            "principal": {"type": "Caller", "id": str(number)},
            "action": {"type": "Action", "id": "use"},
            "resource": {"type": "Model", "id": model_id},
        }
        for number in range(len(subjects))
        for model_id in NAMES
    ]
    found = []
    for answer in cedarpy.is_authorized_batch(requests, policies(snapshot.document, snapshot), entities):
        assert answer.diagnostics.errors == []
        applying = set(answer.diagnostics.id_annotations_by_reason.values())
        assert answer.allowed == (not applying)
        found.append(applying)
    return found


# ---------------------------------------------------------------- compared


def test_where_all_is_known_cedar_decides_alike():
    random = Random(SEED)
    outcomes: Counter[str] = Counter()
    for _ in range(POLICIES):
        maker = Known(random)
        made = maker.policy(directives={f"d-{n}": maker.directive() for n in range(random.randint(1, 4))})
        snapshot = Snapshot(made, 1, AT)
        askers: list[tuple[Caller, Caller | None]] = [maker.request() for _ in range(CALLERS)]
        subjects = [snapshot.subjects(who, user) for who, user in askers]
        answers = iter(asked_of_cedar(snapshot, [subject for looked_at in subjects for subject in looked_at]))
        for (who, user), looked_at in zip(askers, subjects, strict=True):
            applying: dict[str, set[str]] = {model_id: set() for model_id in NAMES}
            for subject in looked_at:
                for model_id in NAMES:
                    theirs = next(answers)
                    ours = {rule.id for rule in snapshot.rules(model_id) if rule.applies_to(subject)}
                    assert ours == theirs, (made.directives, subject, model_id)
                    applying[model_id] |= theirs
            for model_id, asked in NAMES.items():
                decision = snapshot.decide(who, asked, user)
                if isinstance(decision, Permit):
                    assert not applying[model_id]
                else:
                    speaker = min(applying[model_id], key=lambda name: (made.directives[name].order is None, name))
                    assert (decision.reason, decision.restriction) == ("restricted", speaker)
                outcomes["permitted" if isinstance(decision, Permit) else "restricted"] += 1
                outcomes["asked of Cedar"] += len(looked_at)
    requests = outcomes["permitted"] + outcomes["restricted"]
    print(
        f"\n{requests:,} requests under {POLICIES} policies, {outcomes['asked of Cedar']:,} asked of Cedar: {dict(outcomes)}"
    )
    assert requests >= 50_000
    assert min(outcomes["permitted"], outcomes["restricted"]) > 10_000, "neither answer is rare"
