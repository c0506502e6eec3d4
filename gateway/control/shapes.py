"""Bodies that more than one route takes: alone, or as an edit of a change."""

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import Annotated, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from gateway.control.countries import Country, is_code
from gateway.identity.claims import BY_TOKEN
from gateway.policy.caller import Kind
from gateway.policy.conditions import Condition, Test
from gateway.policy.document import Identifier, InFlight, Part, State, Text, Url, Window
from gateway.policy.names import MAX_NAME

Words = Annotated[str, StringConstraints(min_length=1, max_length=2000, strip_whitespace=True)]
ModelName = Annotated[str, StringConstraints(min_length=1, max_length=MAX_NAME)]

_OF_COUNTRIES = ("nationality", "latest_nationality", "permanent_residence", "org_country")


def _countries_exist(condition: Condition) -> Condition:
    """A misspelt country would match nobody, so it is refused where it comes in."""
    for path, code in _countries(condition, ""):
        if not (code.startswith("group:") or is_code(code)):
            raise ValueError(f"{path}: {code!r} is no country (ISO 3166-1 alpha-2) and no group:…")
    return condition


def _countries(condition: Condition, path: str) -> Iterator[tuple[str, str]]:
    (form,) = condition.model_fields_set
    value = getattr(condition, form)
    here = f"{path}.{form.rstrip('_')}".lstrip(".")
    match value:
        case Test() if form in _OF_COUNTRIES:
            (operator,) = value.model_fields_set
            yield from ((f"{here}.{operator}[{i}]", code) for i, code in enumerate(getattr(value, operator)))
        case Condition():
            yield from _countries(value, here)
        case tuple():
            for i, part in enumerate(value):
                yield from _countries(part, f"{here}[{i}]")


Who = Annotated[Condition, AfterValidator(_countries_exist)]
"""A condition whose countries exist."""


def _rfc_3339(value: object) -> object:
    """A written time, in UTC. Seconds since the epoch, a day, or a time without a zone would each be a guess."""
    if not isinstance(value, str):
        return value
    try:
        if _RFC_3339.fullmatch(value):
            return datetime.fromisoformat(value.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise ValueError("a time is written as RFC 3339 says, with a zone: 2027-01-31T00:00:00Z")


_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,6})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)

Moment = Annotated[AwareDatetime, BeforeValidator(_rfc_3339)]
"""A time that somebody wrote, in UTC."""


class InlineOrder(Part):
    """An order, named where it is needed first. The same authority and reference mean the same order."""

    authority: Words
    reference: Words
    url: Url | None = None
    disclose: bool = False
    citation: Text | None = None
    text_sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] | None = None
    received: Moment | None = None
    scope: Text | None = None
    contact: Text | None = None
    review: date | None = None


class HoldBody(Part):
    """Why something goes offline, and what becomes of requests in flight."""

    note: Text | None = None
    public_message: Text | None = None
    order: Identifier | InlineOrder | None = None
    in_flight: InFlight = InFlight()


class OfflineBody(HoldBody):
    """What goes offline: ids, names or patterns."""

    models: tuple[ModelName, ...] = Field(min_length=1, max_length=1000)


class DirectiveBody(HoldBody):
    """A directive. ``state`` counts where it is made; there it is a draft, if nothing else is said."""

    models: tuple[ModelName, ...] = Field(min_length=1, max_length=1000)
    who: Who
    except_: tuple[Who, ...] = Field(default=(), alias="except", max_length=100)
    window: Window = Window()
    state: State | None = None

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class StateBody(Part):
    """The state that a directive is to have."""

    state: State


class TermBody(Part):
    """A named condition, and where it is from."""

    condition: Who
    source: Text | None = None


class GroupBody(Part):
    """A named set of countries: where it is from, as of when. It may name other groups as ``group:<id>``."""

    countries: tuple[str, ...] = Field(min_length=1, max_length=300)
    source: Text | None = None
    as_of: str | None = Field(default=None, pattern=r"^\d{4}-\d{2}-\d{2}$")

    @model_validator(mode="after")
    def _countries_exist(self) -> Self:
        for i, code in enumerate(self.countries):
            if not (code.startswith("group:") or is_code(code)):
                raise ValueError(f"countries[{i}]: {code!r} is no country (ISO 3166-1 alpha-2) and no group:…")
        return self


class KnownAttributes(Part):
    """What is known about a person, as it comes in. Left out: not known; an empty list: known to be none."""

    nationality: frozenset[Country] | None = Field(default=None, min_length=1)
    latest_nationality: frozenset[Country] | None = Field(default=None, min_length=1)
    permanent_residence: frozenset[Country] | None = None
    legal_status: frozenset[Identifier] | None = None


class CallerAttributes(KnownAttributes):
    """What is known about a caller, and until when; from then on nothing is."""

    expires: Moment | None = None


class CallerBody(Part):
    """A caller. An attribute that is left out is not known."""

    kind: Kind
    org: Identifier | None = None
    attributes: CallerAttributes = CallerAttributes()


def _nobodys_by_token(caller_id: str) -> str:
    """Who comes by a token is named by it; a registered caller of that name would be taken for them."""
    if caller_id.startswith(BY_TOKEN):
        raise ValueError(
            f"ids that begin with {' or '.join(BY_TOKEN)} are of those who come by a signed token, whom nobody "
            "registers; choose another"
        )
    return caller_id


CallerId = Annotated[Identifier, AfterValidator(_nobodys_by_token)]
"""An id that a caller may be registered under."""
