"""The first revision of a gateway, from seeds."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from pydantic import SecretStr

from gateway.control.operators import TOKEN_PREFIX
from gateway.control.seeds import CallerSeed, OperatorSeed, SeedError
from gateway.enforcement.entry import Entry
from gateway.enforcement.store import Edit, Store
from gateway.identity.keys import fingerprint, new_key
from gateway.identity.records import Attributes, CallerRecord, Key, OperatorRecord, Role
from gateway.policy.document import Document

FIRST = 1


async def initial(
    store: Store,
    document: Document,
    operators: Mapping[str, OperatorSeed],
    callers: Mapping[str, CallerSeed],
    *,
    pseudonym: Callable[[str], str],
    actor: str = "init",
) -> Entry:
    """Write revision 1: a document, and who may operate and ask. ``Seeds`` has all three.

    Raises:
        AlreadyInitialisedError: there is a policy; it is never overwritten.
        SeedError: nobody could appoint operators.
    """
    if not any(Role.APPROVER in operator.roles for operator in operators.values()):
        raise SeedError("at least one operator must be an approver")
    return await store.init(document, people(store, operators, callers, pseudonym), actor=actor)


def new_approver() -> tuple[OperatorSeed, str]:
    """The first operator of a new gateway, and the token, to be shown once."""
    _, token = new_key(TOKEN_PREFIX)
    return OperatorSeed(roles=frozenset({Role.APPROVER}), token=SecretStr(token)), token


async def appoint(store: Store, operator_id: str, *, actor: str = "host") -> str:
    """Make somebody an approver of a hand of their own; their new token. An old one works no longer.

    For whoever has the machine and its signing key, after an approver was lost. The log says that it was done so.

    Raises:
        NotInitialisedError, ForgedError, ConflictError: nothing was changed.
    """
    _, token = new_key(TOKEN_PREFIX)
    base = await store.current()
    previous = await store.records.operator(operator_id)
    roles = frozenset({Role.APPROVER}) | (previous.roles if previous else frozenset())
    record = OperatorRecord(id=operator_id, roles=roles, token_sha256=fingerprint(token), changed=base.rev + 1)
    edit = store.put_operator(record, previous)
    await store.commit(
        base, None, actor=actor, action="operator.appoint", subject=f"operators/{operator_id}", edit=edit
    )
    return token


def _operator(operator_id: str, seed: OperatorSeed, *, founder: bool) -> OperatorRecord:
    token = fingerprint(seed.token.get_secret_value())
    return OperatorRecord(id=operator_id, roles=seed.roles, token_sha256=token, founder=founder, changed=FIRST)


def _caller(caller_id: str, seed: CallerSeed, pseudonym: str) -> CallerRecord:
    keys = {}
    if seed.key is not None:
        keys["seed"] = Key(sha256=fingerprint(seed.key.get_secret_value()), created=datetime.now(UTC))
    return CallerRecord(
        id=caller_id,
        kind=seed.kind,
        org=seed.org,
        attributes=Attributes(**seed.attributes.model_dump()),
        keys=keys,
        pseudonym=pseudonym,
        changed=FIRST,
    )


def people(
    store: Store,
    operators: Mapping[str, OperatorSeed],
    callers: Mapping[str, CallerSeed],
    pseudonym: Callable[[str], str],
) -> Edit:
    """The records of operators and callers."""
    edit = Edit()
    approvers = [name for name, operator in operators.items() if Role.APPROVER in operator.roles]
    for operator_id, operator in operators.items():
        edit |= store.put_operator(_operator(operator_id, operator, founder=approvers == [operator_id]), None)
    for caller_id, caller in callers.items():
        edit |= store.put_caller(_caller(caller_id, caller, pseudonym(caller_id)), None)
    return edit
