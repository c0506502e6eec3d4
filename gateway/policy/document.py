"""The policy document: catalog, holds, orders, as they are signed, stored and distributed.

The models here are the schema: an unknown field, a malformed name or a dangling reference is refused with
the path of the mistake. ``canonical`` gives the bytes that are hashed and signed.
"""

import json
from datetime import UTC, date, datetime
from enum import StrEnum
from hashlib import sha256
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from gateway.policy.conditions import Compiler, Condition, ConditionError, Group, Term, is_country
from gateway.policy.names import valid_pattern, well_formed

SCHEMA: Literal[1] = 1
"""Raised when an older gateway could misread a newer document."""


def _pattern(value: str) -> str:
    if not valid_pattern(value):
        raise ValueError(f"{value!r} is no model pattern: use an id, a glob, family:…, tag:…, provider:… or *")
    return value


def _route_name(value: str) -> str:
    if not well_formed(value.replace("*", "x")):
        raise ValueError(f"{value!r} is no model name: letters, digits and ._:/@+- only")
    return value


Identifier = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$")]
Pattern = Annotated[str, AfterValidator(_pattern)]
RouteName = Annotated[str, AfterValidator(_route_name)]
Text = Annotated[str, StringConstraints(max_length=2000, strip_whitespace=True)]
Url = Annotated[str, StringConstraints(max_length=2000, pattern=r"^https?://[^\s<>\"]+$")]
LONGEST_STALE = 3600.0
"""Seconds that a lease can last at the most, whatever a policy says."""

Seconds = Annotated[float, Field(ge=1.0, le=LONGEST_STALE)]


class Part(BaseModel):
    """Anything in a document: immutable, and nothing unknown in it."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Route(Part):
    """Where a model is served: a provider, and the names it has there. A name may hold ``*``."""

    provider: Identifier
    names: tuple[RouteName, ...] = Field(min_length=1, max_length=200)


class Model(Part):
    """An entry of the catalog. ``aliases`` are names it has at every one of its providers."""

    routes: tuple[Route, ...] = Field(min_length=1, max_length=50)
    aliases: tuple[RouteName, ...] = Field(default=(), max_length=200)
    family: Identifier | None = None
    tags: tuple[Identifier, ...] = Field(default=(), max_length=50)
    capability: Literal["chat", "embedding", "image", "audio", "other"] = "chat"
    max_stale: Seconds | None = None


class InFlight(Part):
    """What happens to requests in flight: cut at once, or cut after some seconds."""

    let_finish: float = Field(default=0.0, ge=0.0, le=86400.0)


class Hold(Part):
    """An unconditional *offline*, like a padlock on a breaker."""

    models: tuple[Pattern, ...] = Field(min_length=1, max_length=1000)
    by: Identifier
    at: AwareDatetime
    order: Identifier | None = None
    note: Text | None = None
    public_message: Text | None = None
    in_flight: InFlight = InFlight()


class Progress(StrEnum):
    """How far an order has come: received → in force → partly lifted → lifted; what was lifted can come into force."""

    RECEIVED = "received"
    IN_FORCE = "in_force"
    PARTLY_LIFTED = "partly_lifted"
    LIFTED = "lifted"


class Order(Part):
    """The legal or internal act behind restrictions. ``disclose``: the refused may learn authority, reference, url.

    ``citation``: the law that it rests on. ``text_sha256``: of the letter's bytes, which stay where they are.
    ``scope``: what it asks for, in words. ``review``: the day on which somebody looks whether it still stands.
    ``progress`` is kept by every commit (``gateway.policy.orders``); nobody writes it.
    """

    authority: Text
    reference: Text
    url: Url | None = None
    disclose: bool = False
    citation: Text | None = None
    text_sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] | None = None
    received: AwareDatetime | None = None
    scope: Text | None = None
    contact: Text | None = None
    review: date | None = None
    progress: Progress = Progress.RECEIVED
    by: Identifier
    at: AwareDatetime


class Window(Part):
    """When a directive applies: from, until; the end is where a further commit lifts it.

    ``reopens``: under an order, a second person has agreed that its end lifts it by itself.
    """

    from_: AwareDatetime | None = Field(default=None, alias="from")
    until: AwareDatetime | None = None
    reopens: bool = False

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.from_ is not None and self.until is not None and self.until <= self.from_:
            raise ValueError("until must be after from")
        if self.reopens and self.until is None:
            raise ValueError("reopens: says something about until, which is not given")
        return self


class State(StrEnum):
    """A directive's life: draft → shadow → in_force → lifted; any → lifted."""

    DRAFT = "draft"
    SHADOW = "shadow"
    IN_FORCE = "in_force"
    LIFTED = "lifted"


class Directive(Part):
    """A conditional restriction: it applies where ``who`` is true or not known, and no ``except`` is true.

    ``begun`` is set by the commit that the beginning of its window gets.
    """

    models: tuple[Pattern, ...] = Field(min_length=1, max_length=1000)
    who: Condition
    except_: tuple[Condition, ...] = Field(default=(), alias="except", max_length=100)
    window: Window = Window()
    in_flight: InFlight = InFlight()
    order: Identifier | None = None
    public_message: Text | None = None
    note: Text | None = None
    state: State = State.DRAFT
    begun: bool = False
    by: Identifier
    at: AwareDatetime

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Attestation(Part):
    """An organisation's statement about all its users: which terms are true, or false, of every one of them.

    ``over`` is set by the commit that its end gets.
    """

    terms: dict[Identifier, bool] = Field(min_length=1, max_length=100)
    signer: Text
    evidence: Text
    expires: AwareDatetime
    over: bool = False

    def holds_at(self, moment: datetime) -> bool:
        """Whether it still counts."""
        return not self.over and self.expires > moment


class EndUsers(StrEnum):
    """Whether an organisation's services ask for end users, and how those are known."""

    NONE = "none"
    ATTESTED = "attested"
    REQUIRED = "required"


class Org(Part):
    """An organisation. ``keys`` are its public keys (JWK) that sign on-behalf-of tokens, by their ids."""

    name: Text | None = None
    country: Identifier | None = None
    end_users: EndUsers = EndUsers.NONE
    attestation: Attestation | None = None
    keys: dict[Identifier, dict[str, str]] = Field(default_factory=dict, max_length=20)


class MaxStale(Part):
    """Seconds a replica may serve without news: by default, and for models tagged ``controlled``."""

    default: Seconds = 15.0
    controlled: Seconds = 5.0


class Document(Part):
    """A policy. ``changed`` says which revision last changed an object, by ``kind/id``: its ETag."""

    schema_: Literal[1] = Field(default=SCHEMA, alias="schema")
    gateway: Identifier
    contact: Text | None = None
    information: Url | None = None
    max_stale: MaxStale = MaxStale()
    models: dict[Identifier, Model] = Field(default_factory=dict, max_length=10_000)
    holds: dict[Identifier, Hold] = Field(default_factory=dict, max_length=10_000)
    orders: dict[Identifier, Order] = Field(default_factory=dict, max_length=10_000)
    groups: dict[Identifier, Group] = Field(default_factory=dict, max_length=1_000)
    terms: dict[Identifier, Term] = Field(default_factory=dict, max_length=1_000)
    directives: dict[Identifier, Directive] = Field(default_factory=dict, max_length=10_000)
    orgs: dict[Identifier, Org] = Field(default_factory=dict, max_length=100_000)
    changed: dict[str, int] = Field(default_factory=dict)

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    @model_validator(mode="after")
    def _references_exist(self) -> Self:
        for hold_id, hold in self.holds.items():
            if hold.order is not None and hold.order not in self.orders:
                raise ValueError(f"holds.{hold_id}.order: there is no order {hold.order!r}")
        self._conditions_compile()
        self._names_are_unambiguous()
        return self

    def _conditions_compile(self) -> None:
        for directive_id, directive in self.directives.items():
            if directive.order is not None and directive.order not in self.orders:
                raise ValueError(f"directives.{directive_id}.order: there is no order {directive.order!r}")
        try:
            compiler = Compiler(self.groups, self.terms)
            for directive_id, directive in self.directives.items():
                path = f"directives.{directive_id}"
                compiler.compile(directive.who, f"{path}.who")
                for i, exception in enumerate(directive.except_):
                    compiler.compile(exception, f"{path}.except[{i}]")
        except ConditionError as error:
            raise ValueError(str(error)) from None
        for org_id, org in self.orgs.items():
            if org.country is not None and not is_country(org.country):
                raise ValueError(f"orgs.{org_id}.country: {org.country!r} is no country (ISO 3166-1 alpha-2)")
            for term in org.attestation.terms if org.attestation else ():
                if term not in self.terms:
                    raise ValueError(f"orgs.{org_id}.attestation.terms: there is no term {term!r}")

    def _names_are_unambiguous(self) -> None:
        owner: dict[tuple[str, str], str] = {}
        for model_id, model in self.models.items():
            for provider, name in names_of(model):
                other = owner.setdefault((provider, name), model_id)
                if other != model_id:
                    raise ValueError(f"models.{model_id}: {name!r} at {provider} already means {other!r}")

    @property
    def longest_stale(self) -> float:
        """Seconds of the longest lease under this policy."""
        ages = self.max_stale
        return max(ages.default, ages.controlled, *map(self.max_stale_of, self.models.values()))

    def max_stale_of(self, model: Model) -> float:
        """Seconds this model may be served without news."""
        if model.max_stale is not None:
            return model.max_stale
        return self.max_stale.controlled if "controlled" in model.tags else self.max_stale.default

    def edited(self, **fields: Any) -> "Document":
        """A validated copy with other fields."""
        return Document.model_validate({**dict(self), **fields})


def names_of(model: Model) -> set[tuple[str, str]]:
    """Every (provider, name) that means a model. Its id is a name only where a route lists it."""
    return {(route.provider, name) for route in model.routes for name in (*route.names, *model.aliases)}


def canonical(value: Any) -> bytes:
    """The one spelling of a JSON value that is hashed and signed: sorted keys, no spaces, UTF-8 (cf. RFC 8785)."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def dump(document: Document) -> bytes:
    """A document's canonical bytes."""
    return canonical(document.model_dump(mode="json", by_alias=True, exclude_defaults=True) | {"schema": SCHEMA})


def load(data: bytes) -> Document:
    """A document from its bytes.

    Raises:
        ValueError: it does not fit the schema; the message names the path.
    """
    return Document.model_validate_json(data)


def digest(data: bytes) -> str:
    """SHA-256 in hexadecimal: the address of a document."""
    return sha256(data).hexdigest()


def rfc3339(moment: datetime) -> str:
    """The time as clients read it: UTC, seconds, ``Z``."""
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
