"""Conditions on who asks, as data and compiled.

As data::

    {"nationality": {"any_of": ["CN", "group:ear-d5"]}}      also all_of, none_of, subset_of
    {"latest_nationality": …} {"permanent_residence": …} {"legal_status": …}
    {"org": …} {"org_country": …} {"caller": …} {"kind": …}
    {"term": "us-person"}   {"all": […]}   {"any": […]}   {"not": {…}}   {"everyone": true}

A test of an attribute that is not known is neither true nor false. Compiled, a condition is a tree of ``Node``;
equal conditions are one node.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from graphlib import CycleError, TopologicalSorter
from operator import attrgetter
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from gateway.policy.caller import Kind, Subject
from gateway.policy.truth import Truth, both, either, negate

MAX_DEPTH = 32
"""Nesting of conditions, terms unfolded. Orders of the past needed four."""

MAX_PARTS = 1_000
"""Parts of a condition, terms unfolded: terms that name terms twice double at each step. Orders needed twenty."""

Value = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$")]
Attribute = Literal[
    "nationality",
    "latest_nationality",
    "permanent_residence",
    "legal_status",
    "org",
    "org_country",
    "caller",
    "kind",
]
Operator = Literal["any_of", "all_of", "none_of", "subset_of"]
Form = Literal["everyone", "atom", "term", "not", "all", "any"]


class ConditionError(Exception):
    """A condition cannot be compiled. The message begins with the path of the mistake."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    def _is_one(self) -> bool:
        """Whether exactly one field is given, and is not null."""
        return [getattr(self, name) is None for name in self.model_fields_set] == [False]


class Test(_Part):
    """A test of one attribute, a set: exactly one operator with its values, ``group:`` names countries."""

    __test__ = False  # no test of pytest's

    any_of: tuple[Value, ...] | None = Field(default=None, min_length=1)
    all_of: tuple[Value, ...] | None = Field(default=None, min_length=1)
    none_of: tuple[Value, ...] | None = Field(default=None, min_length=1)
    subset_of: tuple[Value, ...] | None = Field(default=None, min_length=1)

    @model_validator(mode="after")
    def _one_operator(self) -> Self:
        if not self._is_one():
            raise ValueError("exactly one of any_of, all_of, none_of, subset_of is needed")
        return self


class Condition(_Part):
    """Exactly one of an attribute's test, a term, or a combination."""

    nationality: Test | None = None
    latest_nationality: Test | None = None
    permanent_residence: Test | None = None
    legal_status: Test | None = None
    org: Test | None = None
    org_country: Test | None = None
    caller: Test | None = None
    kind: Test | None = None
    term: Value | None = None
    all: tuple["Condition", ...] | None = Field(default=None, min_length=1, max_length=100)
    any: tuple["Condition", ...] | None = Field(default=None, min_length=1, max_length=100)
    not_: "Condition | None" = Field(default=None, alias="not")
    everyone: Literal[True] | None = None

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        if not self._is_one():
            raise ValueError("a condition has exactly one key, e.g. {'nationality': {'any_of': ['CN']}}")
        return self


class Group(_Part):
    """A named set of countries, with where it is from and as of when. It may name other groups."""

    countries: tuple[Value, ...] = Field(min_length=1, max_length=300)
    source: str | None = Field(default=None, max_length=2000)
    as_of: str | None = Field(default=None, pattern=r"^\d{4}-\d{2}-\d{2}$")


class Term(_Part):
    """A named condition: the order's own definition, as data."""

    condition: Condition
    source: str | None = Field(default=None, max_length=2000)


# ------------------------------------------------------------------------------------------------ compiled


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """A compiled condition. ``words`` says it for people; ``parts`` are what it is made of.

    ``depth`` and ``size`` count them, terms unfolded. A compiler makes one node of equal conditions, so that nodes
    are told apart by identity.
    """

    form: Form
    words: str
    evaluate: Callable[[Subject], Truth] = field(repr=False)
    parts: tuple["Node", ...] = ()
    atom: "Atom | None" = None
    term: str | None = None
    depth: int = field(init=False, default=1)
    size: int = field(init=False, default=1)

    def __post_init__(self) -> None:
        if self.parts:
            object.__setattr__(self, "depth", 1 + max([part.depth for part in self.parts]))
            object.__setattr__(self, "size", 1 + sum([part.size for part in self.parts]))


@dataclass(frozen=True, slots=True)
class Atom:
    """A test of one attribute, groups unfolded."""

    attribute: Attribute
    operator: Operator
    values: frozenset[str]

    def holds(self, known: frozenset[str]) -> bool:
        """Whether a known set passes."""
        test, when = self.test()
        return test(known) is when

    def test(self) -> tuple[Callable[[frozenset[str]], bool], bool]:
        """A function of a known set, and what it says of one that passes: this is where decisions spend their time."""
        match self.operator:
            case "any_of":
                return self.values.isdisjoint, False
            case "all_of":
                return self.values.issubset, True
            case "none_of":
                return self.values.isdisjoint, True
            case "subset_of":
                return self.values.issuperset, True


class Compiler:
    """Compiles the conditions of one policy; equal ones to the same node."""

    def __init__(self, groups: Mapping[str, Group], terms: Mapping[str, Term]) -> None:
        self._nodes: dict[Any, Node] = {}
        self._countries: dict[str, frozenset[str]] = {}
        self._terms: dict[str, Node] = {}
        named = {name: _groups_in(group) for name, group in groups.items()}
        for name in _in_order("groups", named):
            self._countries[name] = self._values(groups[name].countries, f"groups.{name}.countries", countries=True)
        named = {name: list(terms_in(term.condition)) for name, term in terms.items()}
        for name in _in_order("terms", named):
            self._terms[name] = self._term(name, self.compile(terms[name].condition, f"terms.{name}.condition"))

    def compile(self, condition: Condition, path: str, depth: int = 1) -> Node:
        """A condition's node.

        Raises:
            ConditionError: it names a group or term that does not exist, a value that cannot be, or is too large.
        """
        node = self._form(condition, path, depth) if depth <= MAX_DEPTH else None
        if node is None or node.depth > MAX_DEPTH:
            raise ConditionError(f"{path}: nested deeper than {MAX_DEPTH}, terms unfolded")
        if node.size > MAX_PARTS:
            raise ConditionError(f"{path}: more than {MAX_PARTS} parts, terms unfolded")
        return node

    def question(self, who: Node, exceptions: tuple[Node, ...]) -> Node:
        """What a directive asks: ``who``, and none of the exceptions. One that is not known leaves it open."""
        return self._combined("all", (who, *map(self._negated, exceptions))) if exceptions else who

    def _form(self, condition: Condition, path: str, depth: int) -> Node:
        (form,) = condition.model_fields_set
        value = getattr(condition, form)
        match form:
            case "everyone":
                return self._keep("everyone", lambda: Node("everyone", "everyone", lambda _: True))
            case "term":
                if value not in self._terms:
                    raise ConditionError(f"{path}.term: there is no term {value!r}")
                return self._terms[value]
            case "not_":
                return self._negated(self.compile(value, f"{path}.not", depth + 1))
            case "all" | "any":
                parts = (self.compile(part, f"{path}.{form}[{i}]", depth + 1) for i, part in enumerate(value))
                return self._combined(form, tuple(parts))
            case _:
                return self._atom(form, value, f"{path}.{form}")

    # -------------------------------------------------------------- forms

    def _term(self, name: str, inner: Node) -> Node:
        """What is known of the subject itself comes first; where that leaves it open, its organisation's word."""
        own = inner.evaluate

        def evaluate(subject: Subject) -> Truth:
            truth = own(subject)
            return subject.attested.get(name) if truth is None else truth

        return Node("term", name, evaluate, (inner,), term=name)

    def _negated(self, part: Node) -> Node:
        inner = part.evaluate
        words = f"not {part.words}"
        return self._keep(("not", part), lambda: Node("not", words, lambda s: negate(inner(s)), (part,)))

    def _combined(self, form: Literal["all", "any"], parts: tuple[Node, ...]) -> Node:
        join, word = (both, " and ") if form == "all" else (either, " or ")
        evaluate = partial(join, tuple(part.evaluate for part in parts))
        words = "(" + word.join(part.words for part in parts) + ")"
        return self._keep((form, parts), lambda: Node(form, words, evaluate, parts))

    def _atom(self, attribute: str, test: Test, path: str) -> Node:
        (operator,) = test.model_fields_set
        named = getattr(test, operator)
        values = self._values(named, f"{path}.{operator}", countries=attribute in _OF_COUNTRIES)
        if attribute == "kind" and not values <= _KINDS:
            raise ConditionError(f"{path}.{operator}: a kind is {' or '.join(sorted(_KINDS))}")
        atom = Atom(attribute, operator, values)  # type: ignore[arg-type]
        return self._keep(atom, lambda: _node_of(atom, named))

    def _keep(self, key: Any, make: Callable[[], Node]) -> Node:
        node = self._nodes.get(key)
        if node is None:
            node = self._nodes[key] = make()
        return node

    # -------------------------------------------------------------- values

    def _values(self, named: tuple[str, ...], path: str, *, countries: bool) -> frozenset[str]:
        values: set[str] = set()
        for i, name in enumerate(named):
            if countries and name.startswith("group:"):
                group = name.removeprefix("group:")
                if group not in self._countries:
                    raise ConditionError(f"{path}[{i}]: there is no group {group!r}")
                values |= self._countries[group]
            elif countries and not is_country(name):
                raise ConditionError(f"{path}[{i}]: {name!r} is no country (ISO 3166-1 alpha-2) and no group:…")
            else:
                values.add(name)
        return frozenset(values)


def _node_of(atom: Atom, named: Iterable[str]) -> Node:
    """A test's node; the values in its words as they were named, with the groups."""
    known_of = _KNOWN_OF[atom.attribute]
    holds, when = atom.test()

    def evaluate(subject: Subject) -> Truth:
        known: frozenset[str] | None = known_of(subject)
        return None if known is None else holds(known) is when

    words = f"{atom.attribute} {atom.operator}".replace("_", " ")
    return Node("atom", f"{words} {', '.join(named)}", evaluate, atom=atom)


def _in_order(what: str, named: Mapping[str, Iterable[str]]) -> list[str]:
    """Groups, or terms, each after those that it names."""
    try:
        return [name for name in TopologicalSorter(named).static_order() if name in named]
    except CycleError as error:
        circle = error.args[1][::-1]
        raise ConditionError(f"{what}.{circle[0]}: leads back to itself: {' → '.join(circle)}") from None


def _groups_in(group: Group) -> list[str]:
    return [country.removeprefix("group:") for country in group.countries if country.startswith("group:")]


def terms_in(condition: Condition) -> Iterator[str]:
    """The terms that a condition names, as far as its own words go."""
    if condition.term is not None:
        yield condition.term
    negated = () if condition.not_ is None else (condition.not_,)
    for part in (*negated, *(condition.all or ()), *(condition.any or ())):
        yield from terms_in(part)


_KNOWN_OF = {attribute: attrgetter(attribute) for attribute in get_args(Attribute)}
_KINDS = frozenset(str(kind) for kind in Kind)
_OF_COUNTRIES = frozenset(("nationality", "latest_nationality", "permanent_residence", "org_country"))


@lru_cache(maxsize=4096)
def is_country(code: str) -> bool:
    """Whether a code has the form of ISO 3166-1 alpha-2, or is one for the stateless and refugees (XXA, XXB, XXC)."""
    return (len(code) == 2 and code.isascii() and code.isalpha() and code.isupper()) or code in ("XXA", "XXB", "XXC")
