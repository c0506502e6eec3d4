"""Conditions on who asks, as data and compiled.

As data::

    {"nationality": {"any_of": ["CN", "group:ear-d5"]}}      also all_of, none_of, subset_of
    {"latest_nationality": …} {"permanent_residence": …} {"legal_status": …}
    {"org": …} {"org_country": …} {"caller": …} {"kind": …}
    {"term": "us-person"}   {"all": […]}   {"any": […]}   {"not": {…}}   {"everyone": true}

A test of an attribute that is not known is neither true nor false. Compiled, a condition is a tree of ``Node``;
equal conditions are one node, so that a policy of many directives asks each question once per profile.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from gateway.policy.caller import Subject
from gateway.policy.truth import Truth, both, either, negate

MAX_DEPTH = 32
"""Nesting of conditions, terms unfolded. Orders of the past needed four."""

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


class ConditionError(Exception):
    """A condition cannot be compiled. The message begins with the path of the mistake."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Test(_Part):
    """A test of one attribute, a set: exactly one operator with its values, ``group:`` names countries."""

    __test__ = False  # no test of pytest's

    any_of: tuple[Value, ...] | None = Field(default=None, min_length=1)
    all_of: tuple[Value, ...] | None = Field(default=None, min_length=1)
    none_of: tuple[Value, ...] | None = Field(default=None, min_length=1)
    subset_of: tuple[Value, ...] | None = Field(default=None, min_length=1)

    @model_validator(mode="after")
    def _one_operator(self) -> Self:
        if len(self.model_fields_set) != 1:
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
        if len(self.model_fields_set) != 1:
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


@dataclass(frozen=True, slots=True)
class Node:
    """A compiled condition. ``words`` says it for people; ``parts`` are what it is made of."""

    words: str
    evaluate: Callable[[Subject], Truth] = field(compare=False, repr=False)
    parts: tuple["Node", ...] = ()
    atom: "Atom | None" = None
    term: str | None = None


@dataclass(frozen=True, slots=True)
class Atom:
    """A test of one attribute, groups unfolded."""

    attribute: Attribute
    operator: Operator
    values: frozenset[str]

    def holds(self, known: frozenset[str]) -> bool:
        """Whether a known set passes."""
        match self.operator:
            case "any_of":
                return not self.values.isdisjoint(known)
            case "all_of":
                return self.values <= known
            case "none_of":
                return self.values.isdisjoint(known)
            case "subset_of":
                return known <= self.values


class Compiler:
    """Compiles the conditions of one policy; equal ones to the same node."""

    def __init__(self, groups: Mapping[str, Group], terms: Mapping[str, Term]) -> None:
        self._groups = groups
        self._terms = terms
        self._nodes: dict[Any, Node] = {}
        self._countries: dict[str, frozenset[str]] = {}
        for name in groups:
            self._countries[name] = self._unfold(name, ())
        for name in terms:
            self._term(name, f"terms.{name}", ())

    def compile(self, condition: Condition, path: str, trail: tuple[str, ...] = ()) -> Node:
        """A condition's node.

        Raises:
            ConditionError: it names a group or term that does not exist, or one that leads back to itself.
        """
        if path.count(".") > 3 * MAX_DEPTH or len(trail) > MAX_DEPTH:
            raise ConditionError(f"{path}: nested deeper than {MAX_DEPTH}")
        (form,) = condition.model_fields_set
        value = getattr(condition, form)
        if form == "everyone":
            return self._keep("everyone", lambda: Node("everyone", lambda _: True))
        if form == "term":
            return self._term(value, f"{path}.term", trail)
        if form == "not_":
            return self._negated(self.compile(value, f"{path}.not", trail))
        if form in ("all", "any"):
            parts = tuple(self.compile(part, f"{path}.{form}[{i}]", trail) for i, part in enumerate(value))
            return self._combined(form, parts)
        return self._atom(form, value, f"{path}.{form}")

    # -------------------------------------------------------------- forms

    def _term(self, name: str, path: str, trail: tuple[str, ...]) -> Node:
        if name in trail:
            raise ConditionError(f"{path}: the term {name!r} leads back to itself: {' → '.join((*trail, name))}")
        term = self._terms.get(name)
        if term is None:
            raise ConditionError(f"{path}: there is no term {name!r}")
        inner = self.compile(term.condition, f"terms.{name}.condition", (*trail, name))

        def evaluate(subject: Subject) -> Truth:
            attested = subject.attested.get(name)
            return inner.evaluate(subject) if attested is None else attested

        return self._keep(("term", name), lambda: Node(name, evaluate, (inner,), term=name))

    def _negated(self, part: Node) -> Node:
        inner = part.evaluate
        return self._keep(("not", part), lambda: Node(f"not {part.words}", lambda s: negate(inner(s)), (part,)))

    def _combined(self, form: str, parts: tuple[Node, ...]) -> Node:
        join, word = (both, " and ") if form == "all" else (either, " or ")
        inner = tuple(part.evaluate for part in parts)
        words = "(" + word.join(part.words for part in parts) + ")"
        return self._keep((form, parts), lambda: Node(words, lambda s: join(e(s) for e in inner), parts))

    def _atom(self, attribute: str, test: Test, path: str) -> Node:
        (operator,) = test.model_fields_set
        named = getattr(test, operator)
        values = self._values(named, f"{path}.{operator}", countries=attribute in _OF_COUNTRIES)
        atom = Atom(attribute, operator, values)  # type: ignore[arg-type]
        words = f"{attribute.replace('_', ' ')} {operator.replace('_', ' ')} {', '.join(named)}"
        holds = atom.holds

        def evaluate(subject: Subject) -> Truth:
            known: frozenset[str] | None = getattr(subject, attribute)
            return None if known is None else holds(known)

        return self._keep(atom, lambda: Node(words, evaluate, atom=atom))

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

    def _unfold(self, name: str, trail: tuple[str, ...]) -> frozenset[str]:
        if name in trail:
            raise ConditionError(f"groups.{trail[-1]}: {name!r} leads back to itself: {' → '.join((*trail, name))}")
        group = self._groups.get(name)
        if group is None:
            raise ConditionError(f"groups.{trail[-1]}.countries: there is no group {name!r}")
        countries: set[str] = set()
        for i, country in enumerate(group.countries):
            if country.startswith("group:"):
                countries |= self._unfold(country.removeprefix("group:"), (*trail, name))
            elif is_country(country):
                countries.add(country)
            else:
                raise ConditionError(f"groups.{name}.countries[{i}]: {country!r} is no country (ISO 3166-1 alpha-2)")
        return frozenset(countries)


_OF_COUNTRIES = frozenset(("nationality", "latest_nationality", "permanent_residence", "org_country"))


def is_country(code: str) -> bool:
    """Whether a code has the form of ISO 3166-1 alpha-2, or is one for the stateless and refugees (XXA, XXB, XXC)."""
    return (len(code) == 2 and code.isascii() and code.isalpha() and code.isupper()) or code in ("XXA", "XXB", "XXC")
