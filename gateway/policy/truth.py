"""Kleene's three truth values: ``True``, ``False``, and ``None`` for *not known* (Kleene 1952, §64)."""

from collections.abc import Callable, Iterable
from typing import TypeVar

Truth = bool | None
_Of = TypeVar("_Of")


def both(tests: Iterable[Callable[[_Of], Truth]], of: _Of) -> Truth:
    """True if all tests are, false if any is not, else not known; they are made up to the one that settles it."""
    result: Truth = True
    for test in tests:
        value = test(of)
        if value is False:
            return False
        if value is None:
            result = None
    return result


def either(tests: Iterable[Callable[[_Of], Truth]], of: _Of) -> Truth:
    """True if any test is, false if none can be, else not known; they are made up to the one that settles it."""
    result: Truth = False
    for test in tests:
        value = test(of)
        if value is True:
            return True
        if value is None:
            result = None
    return result


def negate(value: Truth) -> Truth:
    """The opposite; what is not known stays so."""
    return None if value is None else not value
