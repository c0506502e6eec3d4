"""From a denial to what the refused reads: status, headers, the dialect's error shape, a ``portcullis`` object.

``REFUSALS`` is the one table of statuses; docs are made from it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from gateway.dialects.messages import Talk
from gateway.dialects.table import Dialect, Operation, Problem
from gateway.policy.decision import Deny, Reason
from gateway.policy.document import Document


@dataclass(frozen=True, slots=True)
class Form:
    """How a reason is answered. ``under_order`` is the status where an order is behind it (RFC 7725)."""

    status: int
    under_order: int
    message: str
    retry: bool = False


REFUSALS: dict[Reason, Form] = {
    Reason.MODEL_OFFLINE: Form(403, 451, "{model} is offline for everyone."),
    Reason.RESTRICTED: Form(403, 451, "{model} is not available to you."),
    Reason.ATTRIBUTE_UNKNOWN: Form(403, 451, "{model} is restricted, and what decides about you is not known."),
    Reason.MODEL_UNRESOLVED: Form(403, 451, "The request does not say which model it would invoke. Name the model."),
    Reason.UNKNOWN_MODEL: Form(404, 404, "There is no model {model} here."),
    Reason.OPERATION_NOT_LISTED: Form(404, 404, "This operation is not served by this gateway."),
    Reason.MALFORMED: Form(400, 400, "The request is malformed."),
    Reason.UNAUTHENTICATED: Form(401, 401, "The credential is missing or not valid at this gateway."),
    Reason.POLICY_STALE: Form(503, 503, "The gateway cannot confirm its policy at the moment.", retry=True),
    Reason.OVERLOADED: Form(503, 503, "The gateway is at its limit.", retry=True),
    Reason.UPSTREAM_UNREACHABLE: Form(502, 502, "The provider could not be reached.", retry=True),
    Reason.UPSTREAM_TIMEOUT: Form(504, 504, "The provider did not answer in time.", retry=True),
    Reason.INTERNAL: Form(500, 500, "The gateway failed; nothing was sent on."),
}

OWN_PAGE = "/availability"
"""Who implements the block (RFC 7725 §4), where the policy names no page of the operator's: the gateway itself."""

RETRY_AFTER = "2"
"""Seconds. A lease is renewed every second; two is the first moment at which asking again can help."""


_BY_STATUS = {426: (("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"))}
"""RFC 9110 §15.5.22, RFC 6455 §4.4."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """What goes out: the status, headers beyond the framing, and the problem for body or stream event."""

    status: int
    headers: tuple[tuple[str, str], ...]
    problem: Problem
    dialect: Dialect | None

    def body(self) -> bytes:
        """The JSON body; before the provider is known, in a neutral shape."""
        if self.dialect is None:
            return orjson.dumps({"error": {"message": self.problem.message, "portcullis": self.problem.details}})
        return orjson.dumps(self.dialect.error_body(self.problem))

    def last_message(self, talk: Talk) -> bytes:
        """The message that ends a WebSocket."""
        return talk.event(self.problem)

    def last_event(self, operation: Operation) -> bytes | None:
        """The event that ends a stream which is cut, or ``None`` where the operation has no such shape."""
        return operation.stream_error(self.problem) if operation.stream_error else None


def refuse(
    deny: Deny,
    document: Document | None,
    dialect: Dialect | None,
    request_id: str,
    alternatives: Sequence[str] = (),
) -> Refusal:
    """The HTTP form of a denial."""
    form = REFUSALS[deny.reason]
    status = deny.status or (form.under_order if deny.order else form.status)
    details = _details(deny, document, request_id, alternatives, retry=form.retry)
    message = deny.message or form.message.format(model=deny.model or "The model")
    problem = Problem(status, str(deny.reason), _sentences(status, message, details), details, request_id)
    headers = [
        ("Portcullis-Reason", str(deny.reason)),
        ("Cache-Control", "no-store"),
        ("x-should-retry", "true" if form.retry else "false"),
    ]
    if form.retry and status == 503:
        headers.append(("Retry-After", RETRY_AFTER))
    headers += _BY_STATUS.get(status, ())
    if deny.order:
        page = document.information if document and document.information else OWN_PAGE
        headers.append(("Link", f'<{page}>; rel="blocked-by"'))
    if dialect is not None:
        headers.append((dialect.request_id_header, request_id))
        headers += dialect.error_headers(problem)
    return Refusal(status, tuple(headers), problem, dialect)


def _details(
    deny: Deny, document: Document | None, request_id: str, alternatives: Sequence[str], *, retry: bool
) -> dict[str, Any]:
    details: dict[str, Any] = {
        "reason": str(deny.reason),
        "model": deny.model,
        "scope": str(deny.scope),
        "since": deny.since,
        "until": deny.until,
        "message": deny.message,
        "alternatives": list(alternatives),
        "contact": document.contact if document else None,
        "request_id": request_id,
        "retry": retry,
    }
    order = document.orders.get(deny.order) if document and deny.order else None
    if order is not None and order.disclose:
        details["order"] = {"authority": order.authority, "reference": order.reference, "url": order.url}
    return details


def _sentences(status: int, message: str, details: dict[str, Any]) -> str:
    """The message, which is all that most programs show: what is off, until when, by whose order, what to use instead.

    Agents take a 403 for a failed sign-in (Claude Code: "Please run /login"), so that one says that it is none.
    """
    said = [message if message.endswith((".", "!", "?", "…")) else f"{message}."]
    if details["until"]:
        said.append(f"Until {details['until']}.")
    if order := details.get("order"):
        said.append(f"Order: {order['authority']}, {order['reference']}.")
    if status == 403:
        said.append("Your key is valid.")
    if details["alternatives"]:
        said.append(f"You may use: {', '.join(details['alternatives'])}.")
    if details["contact"]:
        said.append(f"Contact: {details['contact']}")
    return " ".join(said)
