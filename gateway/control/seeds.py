"""Seeds: what a policy starts from, as TOML files.

``catalog.toml`` has ``[models."<id>"]`` with ``family``, ``tags``, ``capability``, ``aliases``, ``max_stale`` and
``[[models."<id>".routes]]`` with ``provider`` and ``names``. It may also set ``contact``, ``information`` and
``[max_stale]``. ``demo.toml`` has ``[callers.<id>]`` with ``kind``, ``org``, ``attributes``, ``key``, and
``[operators.<id>]`` with ``roles`` and ``token``. ``groups.toml`` and ``terms.toml`` have ``[groups.<id>]`` and
``[terms.<id>]``; ``[orgs.<id>]`` is as the admin API takes it, ``[directives.<id>]`` too, but that one under an order
needs that order here: ``[orders.<id>]``. Any table may be in any file.
"""

import tomllib
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from gateway.control.shapes import CallerId, DirectiveBody, GroupBody, InlineOrder, KnownAttributes, TermBody
from gateway.identity.records import Role
from gateway.policy.caller import Kind
from gateway.policy.conditions import Group, Term
from gateway.policy.document import (
    Directive,
    Document,
    Identifier,
    MaxStale,
    Model,
    Order,
    Org,
    State,
    Text,
    Url,
)


class SeedError(Exception):
    """A seed file cannot be used. The message names the file and each mistake, one a line."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CallerSeed(_Part):
    """A caller, and the key it has from the start."""

    kind: Kind
    org: Identifier | None = None
    attributes: KnownAttributes = KnownAttributes()
    key: SecretStr | None = None


class OperatorSeed(_Part):
    """An operator, and the token it has from the start."""

    roles: frozenset[Role] = Field(min_length=1)
    token: SecretStr


class Seeds(_Part):
    """Everything that seed files say."""

    contact: Text | None = None
    information: Url | None = None
    max_stale: MaxStale = MaxStale()
    models: dict[Identifier, Model] = Field(default_factory=dict)
    callers: dict[CallerId, CallerSeed] = Field(default_factory=dict)
    operators: dict[Identifier, OperatorSeed] = Field(default_factory=dict)
    groups: dict[Identifier, GroupBody] = Field(default_factory=dict)
    terms: dict[Identifier, TermBody] = Field(default_factory=dict)
    orgs: dict[Identifier, Org] = Field(default_factory=dict)
    orders: dict[Identifier, InlineOrder] = Field(default_factory=dict)
    directives: dict[Identifier, DirectiveBody] = Field(default_factory=dict)

    @classmethod
    def merged(cls, parts: Iterable[dict[str, Any]]) -> Self:
        """One from several files' contents; a later file wins per entry."""
        whole: dict[str, Any] = {}
        for part in parts:
            for name, value in part.items():
                whole[name] = {**whole.get(name, {}), **value} if isinstance(value, dict) else value
        return cls.model_validate(whole)

    def document(self, gateway: str, by: str = "init") -> Document:
        """The policy of a new gateway: this catalog and these words, nothing offline.

        Raises:
            SeedError: a name means two models, or something names what is not here.
        """
        stamp = {"by": by, "at": datetime.now(UTC)}
        fields = {name: getattr(self, name) for name in ("contact", "information", "max_stale", "models", "orgs")}
        made: dict[str, dict[str, Any]] = {
            "groups": {name: Group(**dict(each)) for name, each in self.groups.items()},
            "terms": {name: Term(**dict(each)) for name, each in self.terms.items()},
            "orders": {name: Order(**dict(each), **stamp) for name, each in self.orders.items()},
            "directives": {name: _directive(name, each, stamp) for name, each in self.directives.items()},
        }
        objects: dict[str, Mapping[str, Any]] = {"models": self.models, "orgs": self.orgs, **made}
        changed = {f"{kind}/{name}": 1 for kind, names in objects.items() for name in names}
        try:
            return Document(gateway=gateway, changed=changed, **{**fields, **made})
        except ValidationError as error:
            raise SeedError(_explain(error)) from None


def _directive(directive_id: str, body: DirectiveBody, stamp: dict[str, Any]) -> Directive:
    """A directive of a seed file. Its models are patterns, its order an id."""
    fields = dict(body) | {"state": body.state or State.DRAFT}
    try:
        return Directive(**fields, **stamp)
    except ValidationError as error:
        raise SeedError(f"directives.{directive_id}: {_explain(error)}") from None


def load(*files: Path) -> Seeds:
    """The seeds in these files, together.

    Raises:
        SeedError: one is missing, is no TOML, or says something unknown or wrong.
    """
    try:
        return Seeds.merged([_read(file) for file in files])
    except ValidationError as error:
        raise SeedError(f"{', '.join(file.name for file in files)}:\n{_explain(error)}") from None


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise SeedError(f"{file}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SeedError(f"{file}: {error}") from None


def _explain(error: ValidationError) -> str:
    """Each mistake with its place, without the value: it may be a key."""
    return "\n".join(
        f"{'.'.join(str(part) for part in detail['loc']) or 'seeds'}: {detail['msg']}"
        for detail in error.errors(include_url=False, include_input=False)
    )
