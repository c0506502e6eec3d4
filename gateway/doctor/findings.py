"""What a look at something finds."""

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad it is: ``fail`` means that the gateway will not do what it promises."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One look. ``what`` is what was looked at, by its setting where it has one; ``do`` is for whoever reads it."""

    level: Level
    what: str
    found: str
    do: str = ""


def ok(what: str, found: str) -> Finding:
    """It is as it should be."""
    return Finding(Level.OK, what, found)


def warn(what: str, found: str, do: str) -> Finding:
    """It works, and could be better."""
    return Finding(Level.WARN, what, found, do)


def fail(what: str, found: str, do: str) -> Finding:
    """It does not do."""
    return Finding(Level.FAIL, what, found, do)
