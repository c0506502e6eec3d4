"""The decision with its trace: the same walk as ``decide``, written down."""

from dataclasses import dataclass
from typing import Any

from gateway.policy.caller import Caller, Subject
from gateway.policy.conditions import Node
from gateway.policy.decision import Decision
from gateway.policy.directives import Rule
from gateway.policy.snapshot import Asked, Snapshot
from gateway.policy.truth import Truth

WORDS: dict[Truth, str] = {True: "yes", False: "no", None: "not known"}


@dataclass(frozen=True, slots=True)
class Explanation:
    """A decision, and for each model asked for what was considered."""

    decision: Decision
    trace: list[dict[str, Any]]


def explain(snapshot: Snapshot, caller: Caller, asked: Asked, on_behalf_of: Caller | None = None) -> Explanation:
    """Why a caller may or may not have what it asks for."""
    subjects = snapshot.subjects(caller, on_behalf_of)
    named = [(name, snapshot.resolve(asked.provider, name)) for name in asked.names]
    if not named:
        named = [(model_id, model_id) for model_id in snapshot.candidates(asked)]
    return Explanation(
        decision=snapshot.decide(caller, asked, on_behalf_of),
        trace=[_model(snapshot, name, model_id, subjects) for name, model_id in named],
    )


def _model(snapshot: Snapshot, name: str, model_id: str | None, subjects: tuple[Subject, ...]) -> dict[str, Any]:
    if model_id is None:
        return {"name": name, "model": None, "known": False}
    closed = snapshot.offline.get(model_id)
    return {
        "name": name,
        "model": model_id,
        "known": True,
        "hold": closed.hold_id if closed else None,
        "directives": [_rule(rule, subjects) for rule in snapshot.rules(model_id)],
    }


def _rule(rule: Rule, subjects: tuple[Subject, ...]) -> dict[str, Any]:
    return {
        "id": rule.id,
        "order": rule.directive.order,
        "applies": WORDS[rule.applies(subjects)],
        "as": [
            {
                "who": _node(rule.who, subject),
                "except": [_node(exception, subject) for exception in rule.exceptions],
                "applies": WORDS[rule.applies_to(subject)],
            }
            for subject in subjects
        ],
    }


def _node(node: Node, subject: Subject) -> dict[str, Any]:
    written: dict[str, Any] = {"condition": node.words, "holds": WORDS[node.evaluate(subject)]}
    if node.parts:
        written["because"] = [_node(part, subject) for part in node.parts]
    return written
