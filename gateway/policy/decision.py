"""What a decision is, and every reason there can be for a refusal."""

from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """Why a request was refused. ``REFUSALS`` in ``gateway.dialects.refusal`` gives each its status."""

    UNKNOWN_MODEL = "unknown_model"
    MODEL_OFFLINE = "model_offline"
    RESTRICTED = "restricted"
    ATTRIBUTE_UNKNOWN = "attribute_unknown"
    MODEL_UNRESOLVED = "model_unresolved"
    POLICY_STALE = "policy_stale"
    OPERATION_NOT_LISTED = "operation_not_listed"
    MALFORMED = "malformed"
    UNAUTHENTICATED = "unauthenticated"
    UPSTREAM_UNREACHABLE = "upstream_unreachable"
    UPSTREAM_TIMEOUT = "upstream_timeout"
    OVERLOADED = "overloaded"
    INTERNAL = "internal"


class Scope(StrEnum):
    """Whom a refusal hits."""

    EVERYONE = "everyone"
    YOU = "you"


@dataclass(frozen=True, slots=True)
class Permit:
    """The right to send one request upstream, under one revision.

    ``max_stale`` is the strictest of its models, in seconds: how old the replica's lease may be. ``would_deny`` is
    the directive in shadow that would have refused it: for logs and metrics, never in an answer.
    """

    models: tuple[str, ...]
    revision: int
    max_stale: float
    would_deny: str | None = None


@dataclass(frozen=True, slots=True)
class Deny:
    """A refusal's cause. ``model`` is the catalog's id, or the name as asked where the catalog has none.

    ``since`` and ``until`` are RFC 3339 times. ``let_finish`` is how many seconds a request that is already
    in flight may go on.
    """

    reason: Reason
    revision: int
    model: str | None = None
    restriction: str | None = None
    order: str | None = None
    scope: Scope = Scope.YOU
    since: str | None = None
    until: str | None = None
    message: str | None = None
    let_finish: float = 0.0
    status: int | None = None


Decision = Permit | Deny
