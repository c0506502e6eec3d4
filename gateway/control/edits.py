"""Edits: what a change consists of, as data, so that it can be shown, wait for approval, and be composed anew."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, NamedTuple, TypeVar

import orjson
from pydantic import BaseModel, TypeAdapter, ValidationError

from gateway.control.access import Access, demand
from gateway.control.approval import Move
from gateway.control.catalog import KINDS, resolved
from gateway.control.context import Context
from gateway.control.problems import Conflict, InUse, Malformed, NotFound, Unchanged, mistakes, sentence
from gateway.control.pseudonyms import pseudonym
from gateway.control.settling import like, settle
from gateway.control.shapes import (
    CallerBody,
    CallerId,
    DirectiveBody,
    GroupBody,
    InlineOrder,
    OfflineBody,
    StateBody,
    TermBody,
)
from gateway.enforcement.compiling import beside
from gateway.enforcement.store import Current
from gateway.enforcement.store import Edit as Records
from gateway.identity.records import Attributes, CallerRecord, OperatorRecord
from gateway.policy.conditions import Condition, Group, Term
from gateway.policy.document import Directive, Document, Hold, Identifier, Model, Order, Org, Part, State
from gateway.policy.snapshot import Snapshot

Kind = Literal["models", "holds", "orders", "groups", "terms", "orgs", "directives", "callers"]
IN_DOCUMENT: tuple[Kind, ...] = ("models", "holds", "orders", "groups", "terms", "orgs", "directives")

NEXT: Mapping[State, frozenset[State]] = {
    State.DRAFT: frozenset({State.SHADOW, State.IN_FORCE, State.LIFTED}),
    State.SHADOW: frozenset({State.IN_FORCE, State.LIFTED}),
    State.IN_FORCE: frozenset({State.SHADOW, State.LIFTED}),
    State.LIFTED: frozenset(),
}
"""Which states may follow. What was lifted stays so, as evidence; whoever wants it back makes a new one."""

S = TypeVar("S", bound=Part)
_CALLER_ID: TypeAdapter[str] = TypeAdapter(CallerId)


class EditBody(Part):
    """One edit: ``put`` an object, ``delete`` it, or give a directive another ``state``."""

    op: Literal["put", "delete", "state"]
    kind: Kind
    id: Identifier
    body: dict[str, Any] | None = None


class Planned(EditBody):
    """An edit, and which revision had last changed the object when it was planned; ``None``: there was none."""

    seen: int | None = None


class Stamp(NamedTuple):
    """Who does something, and when."""

    by: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Composed:
    """What edits make of the policy: the document, the records beside it, and which callers become what."""

    document: Document
    touched: tuple[str, ...] = ()
    records: Records = field(default_factory=Records)
    moves: tuple[Move, ...] = ()
    models: list[str] = field(default_factory=list)
    order: str | None = None


# ------------------------------------------------------------------------------------------------ from a call


def edit(op: Literal["put", "delete", "state"], kind: Kind, object_id: str, body: Part | None = None) -> EditBody:
    """An edit of ours, where the body is one already."""
    data = None if body is None else body.model_dump(mode="json", by_alias=True, exclude_unset=True)
    return EditBody(op=op, kind=kind, id=object_id, body=data)


def demand_all(operator: OperatorRecord, edits: Sequence[EditBody]) -> None:
    """Refuse who may not make these edits.

    Raises:
        Forbidden: callers are a registrar's.
    """
    if any(each.kind == "callers" for each in edits):
        demand(operator, Access.EDIT_CALLERS, "Editing callers")
    if any(each.kind != "callers" for each in edits):
        demand(operator, Access.OPERATE, "Editing the policy")


async def planned(context: Context, base: Current, edits: Sequence[EditBody]) -> tuple[Planned, ...]:
    """The edits, with what they were planned from."""
    return tuple([Planned(**dict(each), seen=await _seen(context, base, each)) for each in edits])


async def check_unchanged(context: Context, base: Current, edits: Sequence[Planned]) -> None:
    """Refuse edits of what has changed since they were planned.

    Raises:
        Conflict: something has.
    """
    for each in edits:
        if await _seen(context, base, each) != each.seen:
            raise Conflict(f"{each.kind}/{each.id} has changed since this was proposed. Propose it anew.")


async def _seen(context: Context, base: Current, each: EditBody) -> int | None:
    if each.kind == "callers":
        record = await context.store.records.caller(each.id)
        return None if record is None else record.changed
    return changed(base.document, each.kind, each.id)


def changed(document: Document, kind: str, object_id: str) -> int | None:
    """Which revision last changed an object; ``None`` if there is none."""
    return document.changed.get(f"{kind}/{object_id}", 0) if object_id in getattr(document, kind) else None


# ------------------------------------------------------------------------------------------------ composing


async def composed(context: Context, base: Current, edits: Sequence[EditBody], stamp: Stamp) -> Composed:
    """What edits make of the policy in force, all together; in between it may contradict itself.

    Raises:
        Problem: one of them does not fit, or all together do not.
    """
    draft = Draft(base.document, stamp)
    for number, each in enumerate(edits):
        if each.kind != "callers":
            draft.apply(each, f"edits.{number}")
    document = await beside(base.document, draft.document)
    people = [
        await _caller(context, base, each, f"edits.{number}")
        for number, each in enumerate(edits)
        if each.kind == "callers"
    ]
    records = Records()
    for record, _ in people:
        records |= record
    return Composed(
        document=document,
        touched=tuple(draft.touched),
        records=records,
        moves=tuple(move for _, move in people),
        models=await beside(document, _touched_models, base, document, stamp.at) if draft.touched else [],
        order=draft.order,
    )


def _touched_models(base: Current, document: Document, at: datetime) -> list[str]:
    return affected(base.snapshot, Snapshot(document, base.rev + 1, at))


def affected(before: Snapshot, after: Snapshot) -> list[str]:
    """The models of which something is different: the entry, a hold, what a directive asks."""
    first, second = before.document, after.document
    named = (first.terms, first.groups, first.orgs) != (second.terms, second.groups, second.orgs)
    ruled = named or (first.models, first.directives) != (second.models, second.directives)

    def different(model_id: str) -> bool:
        asked = (before, after) if ruled else ()
        rules = [[(rule.id, rule.directive) for rule in each.rules(model_id)] for each in asked] or [[], []]
        return (
            first.models.get(model_id) != second.models.get(model_id)
            or before.offline.get(model_id) != after.offline.get(model_id)
            or rules[0] != rules[1]
            or (named and bool(rules[0]))
        )

    return sorted(filter(different, first.models.keys() | second.models.keys()))


def edited(document: Document, **fields: Any) -> Document:
    """A document with other fields.

    Raises:
        Conflict: they do not fit the rest; the problem has the path of each mistake.
    """
    try:
        return document.edited(**fields)
    except ValidationError as error:
        found = mistakes(error)
        raise Conflict(f"The policy would contradict itself: {sentence(found)}.", errors=found) from None


def read(shape: type[S], body: Mapping[str, Any] | None, path: str) -> S:
    """An edit's body.

    Raises:
        Malformed: it does not fit; the problem has the path of each mistake.
    """
    try:
        return shape.model_validate_json(orjson.dumps(dict(body or {})), strict=True)
    except ValidationError as error:
        found = [{**mistake, "path": f"{path}.body.{mistake['path']}".rstrip(".")} for mistake in mistakes(error)]
        raise Malformed(f"The edit does not fit: {sentence(found)}.", errors=found) from None


class Draft:
    """A policy on which edits are made, one after another; it must make sense only in the end."""

    def __init__(self, base: Document, stamp: Stamp) -> None:
        self._base = base
        self._stamp = stamp
        self._objects: dict[str, dict[str, Any]] = {kind: dict(getattr(base, kind)) for kind in IN_DOCUMENT}
        self._gone: list[tuple[Kind, str]] = []
        self._put: Mapping[str, Callable[[EditBody, str], BaseModel]] = {
            "models": self._model,
            "holds": self._hold,
            "orders": self._order,
            "groups": lambda each, path: Group(**dict(read(GroupBody, each.body, path))),
            "terms": lambda each, path: Term(**dict(read(TermBody, each.body, path))),
            "orgs": lambda each, path: read(Org, each.body, path),
            "directives": self._directive,
        }
        self.touched: dict[str, None] = {}
        self.order: str | None = None

    def apply(self, each: EditBody, path: str) -> None:
        """Make one edit."""
        objects = self._objects[each.kind]
        previous = objects.get(each.id)
        if each.op != "put" and previous is None:
            raise NotFound(f"There is no {each.kind.rstrip('s')} {each.id!r}.")
        match each.op:
            case "put":
                objects[each.id] = self._put[each.kind](each, path)
            case "delete":
                self._delete(each, previous)
            case "state":
                objects[each.id] = self._state(each, previous, path)
        self.touched[f"{each.kind}/{each.id}"] = None
        self.order = self.order or self._order_of(objects.get(each.id)) or self._order_of(previous)

    def document(self) -> Document:
        """The policy with all edits.

        Raises:
            InUse: something that is gone is still used.
            Conflict: it contradicts itself.
        """
        for kind, object_id in self._gone:
            users = sorted(_users(self._objects, kind, object_id)) if object_id not in self._objects[kind] else []
            if users:
                raise InUse(
                    f"{kind}/{object_id} is still used by {', '.join(users)}. Change or remove those first.",
                    used_by=users,
                )
        different = {kind: objects for kind, objects in self._objects.items() if objects != getattr(self._base, kind)}
        return edited(self._base, **different) if different else self._base

    @staticmethod
    def _order_of(value: Any) -> str | None:
        return value.order if isinstance(value, Hold | Directive) else None

    # -------------------------------------------------------------- put

    def _model(self, each: EditBody, path: str) -> Model:
        if each.id.startswith(KINDS):
            raise Malformed(f"An id that begins with {' or '.join(KINDS)} would read as a pattern.")
        return read(Model, each.body, path)

    def _hold(self, each: EditBody, path: str) -> Hold:
        if each.id in self._objects["holds"] or each.id in self._base.holds:
            raise Conflict(f"{each.id} is there already, and a hold is not edited. Place another, then release this.")
        body = read(OfflineBody, each.body, path)
        by, at = self._stamp
        return Hold(
            models=self._patterns(body.models),
            by=by,
            at=at,
            order=self._settled(body.order),
            note=body.note,
            public_message=body.public_message,
            in_flight=body.in_flight,
        )

    def _order(self, each: EditBody, path: str) -> Order:
        body = read(InlineOrder, each.body, path)
        other = like(self._objects["orders"], body)
        if other not in (None, each.id):
            raise Conflict(f"{other} is this order: it has the same authority and reference.")
        previous = self._objects["orders"].get(each.id)
        by, at = self._stamp if previous is None else (previous.by, previous.at)
        progress = {} if previous is None else {"progress": previous.progress}
        return Order(**dict(body), **progress, by=by, at=at)

    def _directive(self, each: EditBody, path: str) -> Directive:
        body = read(DirectiveBody, each.body, path)
        previous: Directive | None = self._objects["directives"].get(each.id)
        by, at = self._stamp if previous is None else (previous.by, previous.at)
        return Directive(
            models=self._patterns(body.models),
            who=body.who,
            except_=body.except_,
            window=body.window,
            in_flight=body.in_flight,
            order=self._settled(body.order),
            public_message=body.public_message,
            note=body.note,
            state=_state_of(each.id, body.state, previous),
            begun=previous is not None and previous.begun and previous.window.from_ == body.window.from_,
            by=by,
            at=at,
        )

    def _patterns(self, names: Sequence[str]) -> tuple[str, ...]:
        catalog = self._base.model_copy(update={"models": self._objects["models"]})
        return tuple(dict.fromkeys(resolved(catalog, name) for name in names))

    def _settled(self, asked: str | InlineOrder | None) -> str | None:
        before = self._objects["orders"]
        orders, order_id = settle(before, asked, *self._stamp)
        if orders is not before:
            self.touched[f"orders/{order_id}"] = None
            self._objects["orders"] = dict(orders)
        return order_id

    # -------------------------------------------------------------- delete, state

    def _delete(self, each: EditBody, previous: Any) -> None:
        if isinstance(previous, Directive) and previous.state is not State.DRAFT:
            raise Conflict(f"{each.id} is {previous.state}; only drafts are deleted. Lift it: what was lifted stays.")
        del self._objects[each.kind][each.id]
        self._gone.append((each.kind, each.id))

    def _state(self, each: EditBody, previous: Any, path: str) -> Directive:
        if not isinstance(previous, Directive):
            raise Malformed(f"{path}: only directives have a state.")
        state = read(StateBody, each.body, path).state
        if state is previous.state:
            raise Unchanged(f"{each.id} is {state} already.")
        if state not in NEXT[previous.state]:
            following = " or ".join(sorted(NEXT[previous.state])) or "nothing"
            raise Conflict(f"{each.id} is {previous.state}; that may become {following}, not {state}.")
        return previous.model_copy(update={"state": state, "at": self._stamp.at})


def _state_of(directive_id: str, asked: State | None, previous: Directive | None) -> State:
    """The state that a directive has after it is put: one may be chosen where it is made, and only there.

    Raises:
        Conflict: it would be lifted at once, or changed in passing.
    """
    if previous is None:
        if asked is State.LIFTED:
            raise Conflict(f"{directive_id} is new; it can be draft, shadow or in_force.")
        return asked or State.DRAFT
    if asked not in (None, previous.state):
        raise Conflict(
            f"{directive_id} is {previous.state}, and PUT leaves that as it is. "
            "POST /api/v1/directives/{id}/shadow, enforce or lift changes it."
        )
    return previous.state


async def _caller(context: Context, base: Current, each: EditBody, path: str) -> tuple[Records, Move]:
    """The records of an edited caller, and what it was and becomes."""
    store = context.store
    previous = await store.records.caller(each.id)
    old = None if previous is None else previous.caller()
    match each.op:
        case "put":
            _check_caller_id(each.id, path)
            body = read(CallerBody, each.body, path)
            record = CallerRecord(
                id=each.id,
                kind=body.kind,
                org=body.org,
                attributes=Attributes(**body.attributes.model_dump()),
                keys=previous.keys if previous else {},
                pseudonym=pseudonym(context.settings, each.id),
                changed=previous.changed if previous else base.rev + 1,
            )
            if record == previous:
                raise Unchanged(f"The caller {each.id} is like this already.")
            stamped = record.model_copy(update={"changed": base.rev + 1})
            return store.put_caller(stamped, previous), Move(old, stamped.caller())
        case "delete" if previous is not None:
            return store.drop_caller(previous), Move(old, None)
        case "delete":
            raise NotFound(f"There is no caller {each.id!r}.")
        case _:
            raise Malformed(f"{path}: only directives have a state.")


def _check_caller_id(caller_id: str, path: str) -> None:
    """Refuse an id that a caller may not be registered under.

    Raises:
        Malformed: it is one of those who come by a token.
    """
    try:
        _CALLER_ID.validate_python(caller_id)
    except ValidationError as error:
        found = [{**mistake, "path": f"{path}.id"} for mistake in mistakes(error)]
        raise Malformed(f"Nobody can be registered as {caller_id}: {found[0]['message']}.", errors=found) from None


# ------------------------------------------------------------------------------------------------ who uses what


def users(document: Document, kind: Kind, object_id: str) -> list[str]:
    """What uses a group, a term or an order, as ``kind/id``."""
    return sorted(_users({each: getattr(document, each) for each in IN_DOCUMENT}, kind, object_id))


def _users(objects: Mapping[str, Mapping[str, Any]], kind: Kind, object_id: str) -> set[str]:
    return {user for user, used in _uses(objects) if used == (kind, object_id)}


def _uses(objects: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, tuple[str, str]]]:
    """Who uses what, each pair."""
    for name, group in objects["groups"].items():
        yield from ((f"groups/{name}", used) for used in _groups(group.countries))
    for name, term in objects["terms"].items():
        yield from ((f"terms/{name}", used) for used in _named(term.condition))
    for name, org in objects["orgs"].items():
        yield from ((f"orgs/{name}", ("terms", term)) for term in (org.attestation.terms if org.attestation else ()))
    for kind in ("holds", "directives"):
        for name, each in objects[kind].items():
            yield f"{kind}/{name}", ("orders", each.order or "")
    for name, directive in objects["directives"].items():
        for condition in (directive.who, *directive.except_):
            yield from ((f"directives/{name}", used) for used in _named(condition))


def _groups(values: Sequence[str]) -> Iterator[tuple[str, str]]:
    yield from (("groups", value.removeprefix("group:")) for value in values if value.startswith("group:"))


def _named(condition: Condition) -> Iterator[tuple[str, str]]:
    """The terms and groups that a condition names."""
    for form in condition.model_fields_set:
        value = getattr(condition, form)
        match value:
            case str():
                yield ("terms", value)
            case Condition():
                yield from _named(value)
            case tuple():
                for part in value:
                    yield from _named(part)
            case Part() | None | bool():
                pass
            case test:
                (operator,) = test.model_fields_set
                yield from _groups(getattr(test, operator))
