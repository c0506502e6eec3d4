"""The directives of a policy, compiled: which are on a model, and which of them speaks."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from gateway.policy.caller import Subject
from gateway.policy.conditions import Compiler, Node
from gateway.policy.cover import Cover
from gateway.policy.document import Directive, Document, State
from gateway.policy.sieve import Sieve
from gateway.policy.truth import Truth


@dataclass(frozen=True, slots=True)
class Rule:
    """A compiled directive. ``question`` is ``who`` and none of ``exceptions``; equal ones are one node."""

    id: str
    directive: Directive
    who: Node
    exceptions: tuple[Node, ...]
    question: Node
    applies_to: Callable[[Subject], Truth] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "applies_to", self.question.evaluate)

    def applies(self, subjects: tuple[Subject, ...]) -> Truth:
        """Whether it applies to any of those as whom a request is looked at; ``None`` where that is not settled."""
        if len(subjects) == 1:
            return self.applies_to(subjects[0])
        verdicts = {self.applies_to(subject) for subject in subjects}
        return True if True in verdicts else None if None in verdicts else False


class Directives:
    """Rules in the order in which they speak but for definiteness, each with the models that it covers."""

    def __init__(self, rules: Sequence[tuple[Rule, frozenset[str]]]) -> None:
        self._rules = rules
        self._sieve = Sieve(rule.question for rule, _ in rules)
        self._rows_by_cover: dict[frozenset[str], int] = {}
        for (_, models), rows in zip(rules, self._sieve.rows_of, strict=True):
            self._rows_by_cover[models] = self._rows_by_cover.get(models, 0) | rows
        self._rows_on: dict[str, int] = {}

    @property
    def anonymous(self) -> bool:
        """Whether none tells callers apart by their id: then callers with the same facts are one profile."""
        return not any(_names_callers(rule.question) for rule, _ in self._rules)

    def on(self, model_id: str) -> tuple[Rule, ...]:
        """Those on a model."""
        return tuple(rule for rule, models in self._rules if model_id in models)

    def speaking(self, model_id: str, subjects: tuple[Subject, ...]) -> tuple[Rule, Truth] | None:
        """The one that speaks, and its verdict: the first that applies, else the first that is not settled."""
        certain, possible = self._left(model_id, subjects)
        for rule in self._asking_first(certain):
            if rule.applies(subjects) is True:
                return rule, True
        for rule in self._asking_first(possible):
            if rule.applies(subjects) is None:
                return rule, None
        return None

    def applying(self, model_id: str, subjects: tuple[Subject, ...]) -> Iterator[Rule]:
        """All that apply, or may."""
        _, possible = self._left(model_id, subjects)
        for number in self._sieve.questions(possible):
            rule = self._rules[number][0]
            if rule.applies(subjects) is not False:
                yield rule

    def _left(self, model_id: str, subjects: tuple[Subject, ...]) -> tuple[int, int]:
        """The rows on a model that the sieve leaves, of those that may apply and those that may or are not settled."""
        on = self._rows(model_id)
        certain = possible = 0
        for subject in subjects if on else ():
            some, more = self._sieve.left(subject)
            certain |= some
            possible |= more
        return certain & on, possible & on

    def _rows(self, model_id: str) -> int:
        """The rows on a model, sought when it is first asked for: most models of a large catalog never are."""
        rows = self._rows_on.get(model_id)
        if rows is None:
            rows = 0
            for models, theirs in self._rows_by_cover.items():
                if model_id in models:
                    rows |= theirs
            self._rows_on[model_id] = rows
        return rows

    def _asking_first(self, rows: int) -> Iterator[Rule]:
        """The rules of these rows, without those that ask what one before has asked."""
        asked: set[Node] = set()
        for number in self._sieve.questions(rows):
            rule = self._rules[number][0]
            if rule.question not in asked:
                asked.add(rule.question)
                yield rule


class Compiled(NamedTuple):
    """The directives that deny, and those that only say what they would."""

    in_force: Directives
    shadows: Directives


def compile_directives(document: Document, cover: Cover, at: datetime) -> Compiled:
    """The directives of a policy as they count at a time; with order before without, then by id."""
    compiler = Compiler(document.groups, document.terms)
    in_force: list[tuple[Rule, frozenset[str]]] = []
    shadows: list[tuple[Rule, frozenset[str]]] = []
    ranked = sorted(document.directives.items(), key=lambda item: (item[1].order is None, item[0]))
    for directive_id, directive in ranked:
        begin = directive.window.from_
        begun = directive.begun or begin is None or begin <= at
        if directive.state is State.IN_FORCE and begun:
            in_force.append((_rule(compiler, directive_id, directive), cover(directive.models)))
        elif directive.state is State.SHADOW:
            shadows.append((_rule(compiler, directive_id, directive), cover(directive.models)))
    return Compiled(Directives(in_force), Directives(shadows))


def _rule(compiler: Compiler, directive_id: str, directive: Directive) -> Rule:
    path = f"directives.{directive_id}"
    who = compiler.compile(directive.who, f"{path}.who")
    exceptions = tuple(compiler.compile(e, f"{path}.except[{i}]") for i, e in enumerate(directive.except_))
    return Rule(directive_id, directive, who, exceptions, compiler.question(who, exceptions))


def _names_callers(node: Node) -> bool:
    """Whether a condition may tell callers apart by their id."""
    return (node.atom is not None and node.atom.attribute == "caller") or any(map(_names_callers, node.parts))
