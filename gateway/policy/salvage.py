"""What a replica makes of a policy that it cannot read whole, say of a newer gateway: it denies what it cannot read.

Part by part: a restriction that does not fit closes the models that it names, to everybody; a model that does not fit
is closed; an organisation that does not fit has no services. What cannot be bounded so, a field of the whole document
that nobody here knows, is no policy at all.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from gateway.policy.conditions import Compiler, ConditionError, Group, Term, is_country
from gateway.policy.document import (
    SCHEMA,
    Directive,
    Document,
    EndUsers,
    Hold,
    MaxStale,
    Model,
    Order,
    Org,
    State,
)
from gateway.policy.names import valid_pattern

BY = "portcullis"
_APPLIES_NOT = {str(State.DRAFT), str(State.SHADOW), str(State.LIFTED)}
_FIELDS = {field.alias or name for name, field in Document.model_fields.items()}

_Kept = TypeVar("_Kept", bound=BaseModel)


def salvage(body: bytes, at: datetime) -> tuple[Document, tuple[str, ...]]:
    """A policy that denies at least what the document denies, and the paths of what could not be read in it.

    Raises:
        ValueError: what it denies cannot be known.
    """
    raw = json.loads(body)
    if not isinstance(raw, dict):
        raise ValueError("the document is no object")  # noqa: TRY004 - a file's content
    unknown = sorted(set(raw) - _FIELDS)
    if unknown or raw.get("schema") != SCHEMA:
        raise ValueError(f"{', '.join(unknown) or 'schema'}: not known here")
    return _Salvage(raw, at).document()


class _Salvage:
    """One document, read part by part."""

    def __init__(self, raw: dict[str, Any], at: datetime) -> None:
        self._raw = raw
        self._at = at
        self._faults: list[str] = []
        self._closed: dict[str, Hold] = {}

    def document(self) -> tuple[Document, tuple[str, ...]]:
        groups, terms = self._vocabulary()
        orders = self._parts("orders", Order, self._drop)
        models = self._parts("models", Model, self._bare_model)
        holds = {name: _under(hold, orders) for name, hold in self._parts("holds", Hold, self._close).items()}
        directives = self._directives(orders, Compiler(groups, terms))
        fields = {
            "gateway": self._raw.get("gateway"),
            "max_stale": MaxStale.model_validate(self._raw.get("max_stale", {})),
            "groups": groups,
            "terms": terms,
            "orders": orders,
            "models": models,
            "orgs": self._orgs(terms),
            "directives": directives,
            "holds": {**holds, **self._closed},
        }
        plain = {name: self._raw[name] for name in ("contact", "information", "changed") if name in self._raw}
        try:
            return Document(**fields, **plain), tuple(self._faults)
        except ValidationError:
            if not plain:
                raise
            self._faults.append(", ".join(plain))
            return Document(**fields), tuple(self._faults)

    # ------------------------------------------------------------------ parts

    def _entries(self, kind: str) -> dict[str, Any]:
        found = self._raw.get(kind, {})
        if not isinstance(found, dict):
            raise ValueError(f"{kind}: no object")  # noqa: TRY004 - a file's content
        return found

    def _parts(
        self, kind: str, shape: type[_Kept], instead: Callable[[str, str, Any], _Kept | None]
    ) -> dict[str, _Kept]:
        """Every entry of a kind that fits; ``instead`` says what stands for one that does not."""
        reader, kept = TypeAdapter(shape), {}
        for name, entry in self._entries(kind).items():
            try:
                kept[name] = reader.validate_json(json.dumps(entry))
            except ValidationError:
                self._faults.append(f"{kind}.{name}")
                stand_in = instead(kind, name, entry)
                if stand_in is not None:
                    kept[name] = stand_in
        return kept

    @staticmethod
    def _drop(_: str, __: str, ___: Any) -> None:
        """Whatever uses it does not fit either."""

    def _close(self, kind: str, name: str, entry: Any) -> None:
        """Close what a restriction names, to everybody; everything, where that cannot be read."""
        named = entry.get("models") if isinstance(entry, dict) else None
        readable = (
            isinstance(named, list) and named and all(isinstance(each, str) and valid_pattern(each) for each in named)
        )
        self._closed[f"unread.{kind}.{name}"[:128]] = Hold(
            models=tuple(named) if readable and named else ("*",), by=BY, at=self._at
        )

    def _bare_model(self, kind: str, name: str, entry: Any) -> Model:
        """A model by its names alone, closed: without it another's pattern could take its names.

        Raises:
            ValueError: those cannot be read either.
        """
        self._close(kind, name, {"models": [name]})
        names = {field: entry[field] for field in ("routes", "aliases") if field in entry}
        return Model.model_validate_json(json.dumps(names))

    # ------------------------------------------------------------------ conditions

    def _vocabulary(self) -> tuple[dict[str, Group], dict[str, Term]]:
        """The groups and terms that can be compiled together."""
        groups = self._parts("groups", Group, self._drop)
        terms = self._parts("terms", Term, self._drop)
        groups = self._compiling("groups", groups, lambda some: Compiler(some, {}))
        return groups, self._compiling("terms", terms, lambda some: Compiler(groups, some))

    def _compiling(
        self, kind: str, entries: dict[str, _Kept], build: Callable[[dict[str, _Kept]], object]
    ) -> dict[str, _Kept]:
        """The largest set that can be built up one by one; each may need others before it."""
        if _builds(build, entries):
            return entries
        kept: dict[str, _Kept] = {}
        while True:
            more = [name for name in entries if name not in kept and _builds(build, {**kept, name: entries[name]})]
            if not more:
                break
            for name in more:
                kept[name] = entries[name]
        self._faults += [f"{kind}.{name}" for name in entries if name not in kept]
        return kept

    def _directives(self, orders: Mapping[str, Order], compiler: Compiler) -> dict[str, Directive]:
        kept = {}
        for name, directive in self._parts("directives", Directive, self._close_if_in_force).items():
            try:
                for condition in (directive.who, *directive.except_):
                    compiler.compile(condition, name)
            except ConditionError:
                self._faults.append(f"directives.{name}")
                self._close_if_in_force("directives", name, self._entries("directives")[name])
                continue
            kept[name] = _under(directive, orders)
        return kept

    def _close_if_in_force(self, kind: str, name: str, entry: Any) -> None:
        state = entry.get("state", str(State.DRAFT)) if isinstance(entry, dict) else None
        if not isinstance(state, str) or state not in _APPLIES_NOT:
            self._close(kind, name, entry)

    # ------------------------------------------------------------------ organisations

    def _orgs(self, terms: Mapping[str, Term]) -> dict[str, Org]:
        """Organisations as they are, or as ones whose services must name an end user, and can name none."""
        kept = self._parts("orgs", Org, lambda *_: _SHUT)
        for name in list(_unfit(kept, terms)):
            self._faults.append(f"orgs.{name}")
            kept[name] = _SHUT
        return kept


_SHUT = Org(end_users=EndUsers.REQUIRED)


def _unfit(orgs: Mapping[str, Org], terms: Mapping[str, Term]) -> Iterator[str]:
    for name, org in orgs.items():
        said = org.attestation.terms if org.attestation else {}
        if (org.country is not None and not is_country(org.country)) or not set(said) <= set(terms):
            yield name


def _builds(build: Callable[[dict[str, _Kept]], object], entries: dict[str, _Kept]) -> bool:
    try:
        build(entries)
    except ConditionError:
        return False
    return True


_Restriction = TypeVar("_Restriction", Hold, Directive)


def _under(restriction: _Restriction, orders: Mapping[str, Order]) -> _Restriction:
    """A restriction, without an order that is not there: it stands all the same."""
    if restriction.order is None or restriction.order in orders:
        return restriction
    return restriction.model_copy(update={"order": None})
