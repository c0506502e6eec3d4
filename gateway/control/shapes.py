"""Bodies that more than one route takes: alone, or as an edit of a change."""

from collections.abc import Iterator
from typing import Annotated, Self

from pydantic import AfterValidator, ConfigDict, Field, StringConstraints, model_validator

from gateway.control.countries import Country, is_code
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


class InlineOrder(Part):
    """An order, named where it is needed first. The same authority and reference mean the same order."""

    authority: Words
    reference: Words
    url: Url | None = None
    disclose: bool = False


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


class CallerBody(Part):
    """A caller. An attribute that is left out is not known."""

    kind: Kind
    org: Identifier | None = None
    attributes: KnownAttributes = KnownAttributes()
