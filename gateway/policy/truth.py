"""Kleene's three truth values: ``True``, ``False``, and ``None`` for *not known* (Kleene 1952, §64)."""

from collections.abc import Iterable

Truth = bool | None


def both(values: Iterable[Truth]) -> Truth:
    """True if all are, false if any is not, else not known."""
    result: Truth = True
    for value in values:
        if value is False:
            return False
        if value is None:
            result = None
    return result


def either(values: Iterable[Truth]) -> Truth:
    """True if any is, false if none can be, else not known."""
    result: Truth = False
    for value in values:
        if value is True:
            return True
        if value is None:
            result = None
    return result


def negate(value: Truth) -> Truth:
    """The opposite; what is not known stays so."""
    return None if value is None else not value
