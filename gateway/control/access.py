"""Who may do what, as a table; and who a bearer token is of."""

import asyncio
from collections.abc import Callable
from enum import StrEnum

from aiohttp import web
from redis.exceptions import RedisError

from gateway.control.problems import Forbidden, Unauthenticated
from gateway.control.remembered import Operators
from gateway.enforcement.store import NotInitialisedError, Store
from gateway.identity.keys import MAX_CREDENTIAL, fingerprint
from gateway.identity.records import OperatorRecord, Role


class Access(StrEnum):
    """What a route asks of its caller."""

    OPEN = "open"
    READ = "read"
    OPERATE = "operate"
    APPROVE = "approve"
    READ_CALLERS = "read callers"
    EDIT_CALLERS = "edit callers"
    READ_OPERATORS = "read operators"
    READ_AUDIT = "read the evidence"


ROLES: dict[Access, frozenset[Role]] = {
    Access.OPEN: frozenset(),
    Access.READ: frozenset({Role.VIEWER, Role.OPERATOR, Role.APPROVER, Role.AUDITOR}),
    Access.OPERATE: frozenset({Role.OPERATOR, Role.APPROVER}),
    Access.APPROVE: frozenset({Role.APPROVER}),
    Access.READ_CALLERS: frozenset({Role.VIEWER, Role.OPERATOR, Role.APPROVER, Role.AUDITOR, Role.REGISTRAR}),
    Access.EDIT_CALLERS: frozenset({Role.REGISTRAR, Role.APPROVER}),
    Access.READ_OPERATORS: frozenset({Role.APPROVER, Role.AUDITOR}),
    Access.READ_AUDIT: frozenset({Role.OPERATOR, Role.APPROVER, Role.AUDITOR}),
}
"""Any one of these roles is enough. ``OPEN`` asks for no token at all."""


def may(operator: OperatorRecord, access: Access) -> bool:
    """Whether one of the operator's roles is enough."""
    return bool(operator.roles & ROLES[access])


def demand(operator: OperatorRecord, access: Access, what: str) -> None:
    """Refuse an operator whose roles are not enough.

    Raises:
        Forbidden: they are not; ``what`` names the thing that needs more.
    """
    if not may(operator, access):
        raise Forbidden(f"{what} needs the role {_either(access)}. {operator.id} has {_listed(operator.roles)}.")


REMEMBER_AFTER = 1.0
"""Seconds that Redis may take to say whose token it is, where it will do to remember whose it was."""


Shown = Callable[[web.Request], str]
"""What a request shows of its operator's token: the fingerprint. Raises ``Unauthenticated`` where it shows none."""


async def authenticate(shown: str, store: Store) -> OperatorRecord:
    """The operator whose token was shown, by its fingerprint.

    Raises:
        Unauthenticated: there is none, or nobody has it.
        NotInitialisedError: Redis holds no policy, and so nobody's token: whoever it was must not look for another.
    """
    operator = await store.records.operator_by_token(shown)
    if operator is None and not await store.redis.exists(store.keys.cur):
        raise NotInitialisedError
    return _known(operator)


async def authenticate_or_remember(shown: str, store: Store, operators: Operators) -> tuple[OperatorRecord, bool]:
    """The same, by what is remembered while Redis cannot be reached, or has lost everything; and whether it is by that.

    Raises:
        Unauthenticated: there is none, or nobody has it.
    """
    try:
        async with asyncio.timeout(REMEMBER_AFTER):
            operator = await store.records.operator_by_token(shown)
            if operator is not None or await store.redis.exists(store.keys.cur):
                return _known(operator), False
    except (RedisError, OSError, TimeoutError):
        pass
    return _known(operators.by_fingerprint(shown)), True


def bearer(request: web.Request) -> str:
    """The fingerprint of a bearer token (RFC 6750).

    Raises:
        Unauthenticated: there is none.
    """
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated("Send the header Authorization: Bearer <token>.")
    return fingerprint(token) if len(token) <= MAX_CREDENTIAL else ""


def _known(operator: OperatorRecord | None) -> OperatorRecord:
    if operator is None:
        raise Unauthenticated("Nobody has this token; an approver can give you a new one.")
    return operator


def _either(access: Access) -> str:
    return " or ".join(sorted(ROLES[access]))


def _listed(roles: frozenset[Role]) -> str:
    return ", ".join(sorted(roles))
