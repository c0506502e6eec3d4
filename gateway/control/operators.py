"""Operators: who may use the admin API. Their tokens are shown once.

Where two people must agree, it takes two *hands*. Whoever hands out a token may have kept it, so that an operator
counts as whoever made them or last replaced their token, and as whom that one counts. Nobody agrees with their own
hand, however long the chain. Two things give an operator a hand of their own:

- The founder, who is the only approver from the start, appoints a second one. That is done once, and never again.
- An approver of another hand vouches for an operator who has replaced the token themselves.
"""

from typing import Any

from aiohttp import web
from pydantic import Field

from gateway.control.access import Access
from gateway.control.changes import Change, apply
from gateway.control.conditions import check, etag
from gateway.control.idempotency import Operation
from gateway.control.problems import Conflict, Forbidden, NotFound, Unchanged
from gateway.control.routing import Call, Empty, Route, answer
from gateway.enforcement.store import Current, Edit, Store
from gateway.identity.keys import fingerprint, new_key
from gateway.identity.records import OperatorRecord, Role
from gateway.policy.document import Part

TOKEN_PREFIX = "po"  # noqa: S105 - of every token


class OperatorBody(Part):
    """What an operator may do."""

    roles: frozenset[Role] = Field(min_length=1)


def view(record: OperatorRecord) -> dict[str, Any]:
    """An operator, without what the token is checked against."""
    whose = {} if record.counts_as is None else {"counts_as": record.counts_as}
    return {"id": record.id, "roles": sorted(record.roles), **whose, "changed": record.changed}


async def listing(call: Call[Empty]) -> web.Response:
    """All operators."""
    return answer({"operators": [view(record) for record in await everyone(call.context.store)]})


async def get(call: Call[Empty]) -> web.Response:
    """One operator."""
    record = await existing(call.context.store, call.id)
    return answer(view(record), ETag=etag(record.changed))


async def everyone(store: Store) -> list[OperatorRecord]:
    """Every operator's record."""
    found = [await store.records.operator(name) for name in await store.records.page("operator")]
    return [record for record in found if record is not None]


async def existing(store: Store, operator_id: str) -> OperatorRecord:
    """An operator's record.

    Raises:
        NotFound: there is none.
    """
    record = await store.records.operator(operator_id)
    if record is None:
        raise NotFound(f"There is no operator {operator_id!r}.")
    return record


async def put(call: Call[OperatorBody]) -> web.Response:
    """Create an operator with a token, or change one's roles."""
    operator_id, roles = call.new_id, call.body.roles
    _, token = new_key(TOKEN_PREFIX)

    async def compose(base: Current, _: Operation) -> Change:
        store = call.context.store
        previous = await store.records.operator(operator_id)
        check(call.request.headers, f"The operator {operator_id}", previous.changed if previous else None)
        fields: dict[str, Any] = {"roles": roles, "changed": base.rev + 1}
        me = await existing(store, call.by.id)
        founding = Edit()
        if me.founder and Role.APPROVER in roles and operator_id != me.id:
            founding = store.put_operator(me.model_copy(update={"founder": False}), me)
            fields["counts_as"] = None
        if previous is None:
            made = OperatorRecord(
                **{"id": operator_id, "token_sha256": fingerprint(token), "counts_as": me.hand, **fields}
            )
            return _change("operator.put", operator_id, founding | store.put_operator(made, None), {"token": token})
        if previous.roles == roles:
            raise Unchanged(f"The operator {operator_id} has these roles already.")
        if Role.APPROVER not in roles:
            await _keep_an_approver(store, operator_id)
        record = previous.model_copy(update=fields)
        return _change("operator.put", operator_id, founding | store.put_operator(record, previous))

    return await apply(call, compose)


async def delete(call: Call[Empty]) -> web.Response:
    """Remove an operator; the token works no longer."""

    async def compose(_: Current, __: Operation) -> Change:
        record = await existing(call.context.store, call.id)
        check(call.request.headers, f"The operator {call.id}", record.changed)
        await _keep_an_approver(call.context.store, call.id)
        return _change("operator.delete", call.id, call.context.store.drop_operator(record))

    return await apply(call, compose)


async def rotate(call: Call[Empty]) -> web.Response:
    """Give an operator a new token; the old one works no longer. Another's then counts as one's own hand."""
    _, token = new_key(TOKEN_PREFIX)

    async def compose(base: Current, _: Operation) -> Change:
        store = call.context.store
        previous = await existing(store, call.id)
        fields: dict[str, Any] = {"token_sha256": fingerprint(token), "changed": base.rev + 1, "own_token": True}
        if call.id != call.by.id:
            fields |= {"own_token": False, "counts_as": (await existing(store, call.by.id)).hand}
        edit = store.put_operator(previous.model_copy(update=fields), previous)
        return _change("operator.token", call.id, edit, {"token": token})

    return await apply(call, compose)


async def vouch(call: Call[Empty]) -> web.Response:
    """Say that an operator whom others appointed is a person with a token that nobody else has."""

    async def compose(base: Current, _: Operation) -> Change:
        store = call.context.store
        me, previous = await existing(store, call.by.id), await existing(store, call.id)
        if previous.counts_as is None:
            raise Unchanged(f"{call.id} counts as nobody else.")
        if previous.hand == me.hand:
            raise Forbidden(f"{call.id} counts as {previous.hand}, as you do; an approver of another hand vouches.")
        if not previous.own_token:
            raise Conflict(
                f"{previous.hand} may know the token of {call.id}, who replaces it first: "
                f"portcullis operator token {call.id}, with the token there is."
            )
        record = previous.model_copy(update={"counts_as": None, "changed": base.rev + 1})
        return _change("operator.vouch", call.id, store.put_operator(record, previous))

    return await apply(call, compose)


def demand_another_hand(me: OperatorRecord, proposer: str, hand: str, what: str) -> None:
    """Refuse to agree with oneself, be it through somebody whose token one may have.

    Raises:
        Forbidden: it is one's own.
    """
    if proposer == me.id:
        raise Forbidden(f"{what} is your own; another approver decides on it.")
    if hand in (me.hand, me.id):
        raise Forbidden(
            f"{what} is of {proposer}, and in this you both count as {hand}, who may have either's token. "
            "An approver of another hand decides on it."
        )


async def _keep_an_approver(store: Store, leaving: str) -> None:
    """Refuse to leave nobody who could appoint one.

    Raises:
        Conflict: ``leaving`` is the last approver.
    """
    if not any(Role.APPROVER in record.roles for record in await everyone(store) if record.id != leaving):
        raise Conflict(f"{leaving} is the last approver. Make another one first.")


def _change(action: str, operator_id: str, edit: Edit, secret: dict[str, str] | None = None) -> Change:
    return Change(
        action=action,
        subject=f"operators/{operator_id}",
        edit=edit,
        answer={"operator": operator_id},
        secret=secret or {},
    )


ROUTES = (
    Route("GET", "/api/v1/operators", Access.READ_OPERATORS, listing, "Every operator"),
    Route("GET", "/api/v1/operators/{id}", Access.READ_OPERATORS, get, "One operator"),
    Route(
        "PUT",
        "/api/v1/operators/{id}",
        Access.APPROVE,
        put,
        "Create an operator (the token is shown once), or change the roles",
        body=OperatorBody,
        changes=True,
        conditional=True,
    ),
    Route(
        "DELETE", "/api/v1/operators/{id}", Access.APPROVE, delete, "Remove an operator", changes=True, conditional=True
    ),
    Route(
        "POST",
        "/api/v1/operators/{id}/token",
        Access.APPROVE,
        rotate,
        "Replace an operator's token; the new one is shown once",
        changes=True,
    ),
    Route(
        "POST",
        "/api/v1/operators/{id}/vouch",
        Access.APPROVE,
        vouch,
        "Agree that an operator whom others appointed counts as a person of their own",
        changes=True,
    ),
)
