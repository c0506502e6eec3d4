"""Who asks, as far as the policy can tell people apart."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType


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
    _hash: int = field(init=False, repr=False, compare=False, default=0)

    def __post_init__(self) -> None:
        parts = (self.kind, self.org, self.nationality, self.latest_nationality, self.permanent_residence)
        object.__setattr__(self, "_hash", hash((*parts, self.legal_status)))

    def __hash__(self) -> int:
        return self._hash

    def without_attributes(self) -> "Facts":
        """The same with nothing known about the person: what an expired attestation leaves."""
        return Facts(self.kind, self.org)


@dataclass(frozen=True, slots=True)
class Caller:
    """A person or service that asks. ``pseudonym`` is what logs may say of it.

    ``expires`` is when what is known about the person ends to hold, in seconds since the epoch.
    """

    id: str
    facts: Facts
    pseudonym: str = field(compare=False, default="")
    expires: float | None = None

    def at(self, now: float) -> "Caller":
        """The caller as it is known at a time."""
        if self.expires is None or now < self.expires:
            return self
        return replace(self, facts=self.facts.without_attributes(), expires=None)


_NOTHING: Mapping[str, bool] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Subject:
    """What conditions are evaluated on: a caller, or an end user together with the service that asks for it.

    ``attested`` are terms that an organisation has answered for all its users.
    """

    nationality: frozenset[str] | None
    latest_nationality: frozenset[str] | None
    permanent_residence: frozenset[str] | None
    legal_status: frozenset[str] | None
    org: frozenset[str] | None
    org_country: frozenset[str] | None
    caller: frozenset[str] | None
    kind: frozenset[str] | None
    attested: Mapping[str, bool] = field(default_factory=lambda: _NOTHING, hash=False)


def subject(
    person: Facts, asker: Facts, caller_id: str, org_country: frozenset[str] | None, attested: Mapping[str, bool]
) -> Subject:
    """The person's attributes, and the organisation, id and kind of who asks.

    Whoever has one nationality has it as the latest, too.
    """
    latest = person.latest_nationality
    if latest is None and person.nationality is not None and len(person.nationality) == 1:
        latest = person.nationality
    return Subject(
        nationality=person.nationality,
        latest_nationality=latest,
        permanent_residence=person.permanent_residence,
        legal_status=person.legal_status,
        org=frozenset() if asker.org is None else frozenset((asker.org,)),
        org_country=org_country,
        caller=frozenset((caller_id,)),
        kind=frozenset((str(asker.kind),)),
        attested=attested,
    )
