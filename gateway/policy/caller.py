"""Who asks, as far as the policy can tell people apart."""

from dataclasses import dataclass, field
from enum import StrEnum


class Kind(StrEnum):
    """What a caller is."""

    PERSON = "person"
    SERVICE = "service"


@dataclass(frozen=True, slots=True)
class Facts:
    """What the policy may look at. An attribute is a known set or ``None``: not known.

    Countries are ISO 3166-1 alpha-2, stateless ``XXA``; a person's nationalities are never an empty set.
    """

    kind: Kind
    org: str | None = None
    nationality: frozenset[str] | None = None
    latest_nationality: frozenset[str] | None = None
    permanent_residence: frozenset[str] | None = None
    legal_status: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Caller:
    """A person or service that asks. ``pseudonym`` is what logs may say of it."""

    id: str
    facts: Facts
    pseudonym: str = field(compare=False, default="")
