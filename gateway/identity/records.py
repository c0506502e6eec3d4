"""Callers and operators as they are signed and stored."""

import re
from enum import StrEnum
from typing import Annotated

import orjson
from pydantic import AfterValidator, AwareDatetime, Field

from gateway.policy.caller import Caller, Facts, Kind
from gateway.policy.document import Identifier, Part, Text

_COUNTRY = re.compile(r"[A-Z]{2}|XX[A-C]")


def _countries(codes: frozenset[str]) -> frozenset[str]:
    for code in codes:
        if not _COUNTRY.fullmatch(code):
            raise ValueError("a country is an ISO 3166-1 alpha-2 code, or XXA for stateless")
    if not codes:
        raise ValueError("an empty set would mean no nationality at all; leave it out where nothing is known")
    return codes


Countries = Annotated[frozenset[str], AfterValidator(_countries)]


class Key(Part):
    """A key of a caller, by what is stored of it."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    created: AwareDatetime
    note: Text | None = None


class Attributes(Part):
    """What is known about a person. A field left out is not known; from ``expires`` on nothing is."""

    nationality: Countries | None = None
    latest_nationality: Countries | None = None
    permanent_residence: frozenset[str] | None = None
    legal_status: frozenset[Identifier] | None = None
    expires: AwareDatetime | None = None


class CallerRecord(Part):
    """A caller. ``pseudonym`` is what logs may say of it."""

    id: Identifier
    kind: Kind
    org: Identifier | None = None
    attributes: Attributes = Attributes()
    keys: dict[str, Key] = Field(default_factory=dict, max_length=50)
    pseudonym: str = Field(default="", max_length=64)
    changed: int = 0

    def caller(self) -> Caller:
        """The caller, as the policy sees it."""
        known = self.attributes
        facts = Facts(
            kind=self.kind,
            org=self.org,
            nationality=known.nationality,
            latest_nationality=known.latest_nationality,
            permanent_residence=known.permanent_residence,
            legal_status=known.legal_status,
        )
        expires = None if known.expires is None else known.expires.timestamp()
        return Caller(self.id, facts, self.pseudonym, expires)

    def holds(self, fingerprint: str) -> bool:
        """Whether a key is one of this caller's. Fingerprints are no secrets: a plain comparison will do."""
        return any(key.sha256 == fingerprint for key in self.keys.values())


class Role(StrEnum):
    """What an operator may do. ``viewer < operator < approver``; ``registrar`` edits callers; ``auditor`` reads all."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    APPROVER = "approver"
    REGISTRAR = "registrar"
    AUDITOR = "auditor"


class OperatorRecord(Part):
    """A person who may use the admin API.

    ``counts_as``: in whose hand this operator is where two people must agree; left out, in their own. ``founder``:
    the only approver from the start, who has yet to appoint a second. ``own_token``: they replaced it themselves.
    """

    id: Identifier
    roles: frozenset[Role] = Field(min_length=1)
    token_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    counts_as: Identifier | None = None
    founder: bool = False
    own_token: bool = False
    changed: int = 0

    @property
    def hand(self) -> str:
        """The operator who may hold this one's token; themselves, if nobody else does."""
        return self.counts_as or self.id


def dump(record: Part) -> bytes:
    """A record's bytes, spelled as ``canonical`` does; sets in order, so that equal records have equal bytes."""
    return orjson.dumps(record.model_dump(exclude_none=True), default=_in_order, option=_CANONICAL)


_CANONICAL = orjson.OPT_SORT_KEYS | orjson.OPT_UTC_Z


def _in_order(values: object) -> object:
    if isinstance(values, frozenset):
        return sorted(values)
    raise TypeError
