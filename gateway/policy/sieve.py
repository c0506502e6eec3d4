"""Which of many questions could be true of a subject, without asking each.

A question is written as rows, one of which must hold. A row says of some attributes that one of these values must be
known of the subject, or none. For each value there is a bit vector of the rows that need it, and of those that refuse
it, so that a subject rules rows out by a few operations on integers, however many there are: Lakshman and Stiliadis
(SIGCOMM 1998) did so with packets and the rules of a firewall. What is left is asked in full. Rows rule out only what
is certain; where a condition says more than they can, they say less.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from operator import attrgetter

from gateway.policy.caller import Subject
from gateway.policy.conditions import Atom, Attribute, Node

MAX_ROWS = 16
"""Rows that a question is written as; what would need more is not written down, and asked instead."""

_Values = Mapping[Attribute, frozenset[str]]
_Demands = dict[tuple[Attribute, frozenset[str]], int]


@dataclass(frozen=True, slots=True)
class Row:
    """What must be known of a subject: one of the values that it ``needs``, none of those that it ``refuses``.

    With an attribute that it names and that is not known it may hold, or not; ``attestable``: somebody's word may
    then settle it.
    """

    needs: _Values = field(default_factory=dict)
    refuses: _Values = field(default_factory=dict)
    attestable: bool = False

    def __and__(self, other: "Row") -> "Row":
        """Both; of two needs of one attribute, the narrower."""
        needs, refuses = dict(self.needs), dict(self.refuses)
        for attribute, values in other.needs.items():
            needs[attribute] = min(needs[attribute], values, key=len) if attribute in needs else values
        for attribute, values in other.refuses.items():
            refuses[attribute] = refuses.get(attribute, frozenset()) | values
        return Row(needs, refuses, self.attestable or other.attestable)


ANYTHING = Row()


@dataclass(slots=True)
class _Column:
    """The rows that name an attribute, as bits: all, those that need a value, and by value who needs and refuses it."""

    known: Callable[[Subject], frozenset[str] | None]
    named: int = 0
    needing: int = 0
    needed: dict[str, int] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)


class Sieve:
    """Questions in their order. Its bits are rows; ``rows_of`` has those of each question."""

    def __init__(self, questions: Iterable[Node]) -> None:
        self.rows_of: list[int] = []
        self._question_of: list[int] = []
        self._attestable = 0
        self._columns: dict[Attribute, _Column] = {}
        written = _Writer()
        need: _Demands = {}
        refuse: _Demands = {}
        for number, question in enumerate(questions):
            first = len(self._question_of)
            for row in written.rows(question, wanted=True):
                bit = 1 << len(self._question_of)
                self._question_of.append(number)
                self._attestable |= bit if row.attestable else 0
                for demand in row.needs.items():
                    need[demand] = need.get(demand, 0) | bit
                for demand in row.refuses.items():
                    refuse[demand] = refuse.get(demand, 0) | bit
            self.rows_of.append((1 << len(self._question_of)) - (1 << first))
        self._all = (1 << len(self._question_of)) - 1
        self._fill(need, refuse)

    def _fill(self, need: _Demands, refuse: _Demands) -> None:
        for (attribute, values), rows in need.items():
            column = self._column(attribute)
            column.named |= rows
            column.needing |= rows
            for value in values:
                column.needed[value] = column.needed.get(value, 0) | rows
        for (attribute, values), rows in refuse.items():
            column = self._column(attribute)
            column.named |= rows
            for value in values:
                column.refused[value] = column.refused.get(value, 0) | rows

    def _column(self, attribute: Attribute) -> _Column:
        column = self._columns.get(attribute)
        if column is None:
            column = self._columns[attribute] = _Column(attrgetter(attribute))
        return column

    def left(self, subject: Subject) -> tuple[int, int]:
        """The rows that could make a question true of a subject, and those that could leave it open or true."""
        ruled_out = open_ = 0
        for column in self._columns.values():
            known = column.known(subject)
            if known is None:
                open_ |= column.named
                continue
            met = 0
            for value in known:
                met |= column.needed.get(value, 0)
                ruled_out |= column.refused.get(value, 0)
            ruled_out |= column.needing & ~met
        if subject.attested:
            open_ &= ~self._attestable
        possible = self._all & ~ruled_out
        return possible & ~open_, possible

    def questions(self, rows: int) -> Iterator[int]:
        """The numbers of the questions that have any of these rows, in order."""
        last = -1
        written = f"{rows:b}"[::-1]
        at = written.find("1")
        while at >= 0:
            if (number := self._question_of[at]) != last:
                yield number
                last = number
            at = written.find("1", at + 1)


class _Writer:
    """Writes conditions as rows; each part once, however many questions it is in."""

    def __init__(self) -> None:
        self._known: dict[tuple[Node, bool], tuple[Row, ...]] = {}

    def rows(self, node: Node, *, wanted: bool) -> tuple[Row, ...]:
        """Rows of which one holds wherever the condition is ``wanted``: true, or else false."""
        rows = self._known.get((node, wanted))
        if rows is None:
            rows = self._known[node, wanted] = self._write(node, wanted)
        return rows

    def _write(self, node: Node, wanted: bool) -> tuple[Row, ...]:
        parts = node.parts
        match node.form:
            case "atom":
                assert node.atom is not None
                return (_of_atom(node.atom, wanted),)
            case "everyone":
                return (ANYTHING,) if wanted else ()
            case "not":
                return self.rows(parts[0], wanted=not wanted)
            case "term":
                return tuple(replace(row, attestable=True) for row in self.rows(parts[0], wanted=wanted))
            case form if (form == "any") is wanted:  # one of the parts
                rows = tuple(row for part in parts for row in self.rows(part, wanted=wanted))
                return rows if len(rows) <= MAX_ROWS else (ANYTHING,)
            case _:  # all of the parts
                return self._of_all([self.rows(part, wanted=wanted) for part in parts])

    @staticmethod
    def _of_all(parts: list[tuple[Row, ...]]) -> tuple[Row, ...]:
        """Each row of one part with each of the others; parts that would make too many are left out."""
        rows, *others = sorted(parts, key=len)
        for part in others:
            if len(rows) * len(part) <= MAX_ROWS:
                rows = tuple(one & other for one, other in product(rows, part))
        return rows if len(rows) <= MAX_ROWS else (ANYTHING,)


def _of_atom(atom: Atom, wanted: bool) -> Row:
    """A test as a row. What a set must have whole, or lie within, a row cannot say: only that it must be known."""
    match atom.operator, wanted:
        case ("any_of", True) | ("none_of", False):
            return Row(needs={atom.attribute: atom.values})
        case ("any_of", False) | ("none_of", True):
            return Row(refuses={atom.attribute: atom.values})
        case ("all_of", True):
            return Row(needs={atom.attribute: frozenset((min(atom.values),))})
        case _:
            return Row(refuses={atom.attribute: frozenset()})
