"""What is kept of each exchange that ended: counters, one log line, who used what, why somebody was refused."""

from collections import OrderedDict
from collections.abc import Callable
from time import monotonic, time
from typing import TYPE_CHECKING, Any, Protocol

from gateway.observability.metrics import Counters
from gateway.observability.traffic import Traffic
from gateway.policy.decision import Deny, Reason
from gateway.policy.snapshot import Snapshot

if TYPE_CHECKING:
    from gateway.proxy.exchange import Exchange

KEEP_REFUSALS = 10_000
"""Refusals that a worker can still explain by their request's id: some 10 MB."""

POLICY_REASONS = frozenset(
    (Reason.MODEL_OFFLINE, Reason.RESTRICTED, Reason.ATTRIBUTE_UNKNOWN, Reason.MODEL_UNRESOLVED, Reason.UNKNOWN_MODEL)
)


class Lines(Protocol):
    """Where log lines go."""

    def add(self, line: dict[str, Any]) -> None:
        """Take one."""


class Recorder:
    """One worker's records. ``snapshot`` gives the policy in force, which bounds the labels."""

    def __init__(self, log: Lines | None, snapshot: Callable[[], Snapshot | None], *, log_permits: bool) -> None:
        self.counters = Counters()
        self.traffic = Traffic()
        self.refusals: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self.log = log
        self._log_permits = log_permits
        self._snapshot = snapshot

    def record(self, exchange: "Exchange") -> None:
        """Count an exchange that ended, and log it."""
        line = summary(exchange)
        now = monotonic()
        provider = line["provider"]
        self._count(provider, line["model"], line["decision"], line["reason"])
        if line["decision"] == "permit" and exchange.caller is not None and line["model"]:
            self.traffic.add(exchange.caller.id, line["model"])
        if line["would_deny"]:
            self.counters.add("portcullis_would_deny_total", (self.model(line["model"]), line["would_deny"]))
        if exchange.severed:
            self.counters.add("portcullis_streams_cut_total", (self.model(line["model"]), line["reason"]))
        if exchange.first_byte_at:
            waited, lasted = exchange.first_byte_at - exchange.sent_at, now - exchange.sent_at
            self.counters.observe("portcullis_upstream_first_byte_seconds", (provider,), waited)
            self.counters.observe("portcullis_upstream_duration_seconds", (provider,), lasted)
            line["first_byte_ms"] = round(waited * 1000, 2)
        line["duration_ms"] = round((now - exchange.began_at) * 1000, 2)
        if line["decision"] == "deny":
            self._keep_refusal(exchange.request_id, line)
        self._write(line, exchange.request_id)

    def fault(self, deny: Deny, status: int, request_id: str) -> None:
        """Count and log what could not even be read as a request."""
        self._count(None, deny.model, "deny", deny.reason)
        self._write({"decision": "deny", "reason": str(deny.reason), "status": status}, request_id)

    def failure(self, exchange: "Exchange", cause: str) -> None:
        """Count that a provider failed an exchange."""
        provider = exchange.provider.name if exchange.provider else ""
        self.counters.add("portcullis_upstream_failures_total", (provider, cause))

    def model(self, model: str | None) -> str:
        """A bounded label: a model of the catalog, ``other``, or nothing."""
        if model is None:
            return ""
        snapshot = self._snapshot()
        return model if snapshot is not None and model in snapshot.document.models else "other"

    def _count(self, provider: str | None, model: str | None, decision: str, reason: str | None) -> None:
        self.counters.add("portcullis_requests_total", (provider or "", self.model(model), decision, reason or ""))
        if reason in POLICY_REASONS:
            self.counters.add("portcullis_blocked_total", (self.model(model), reason or ""))

    @property
    def _revision(self) -> int:
        snapshot = self._snapshot()
        return 0 if snapshot is None else snapshot.revision

    def _keep_refusal(self, request_id: str, line: dict[str, Any]) -> None:
        """Remember why, for whoever asks by the request's id; the oldest are forgotten."""
        self.refusals[request_id] = {"request_id": request_id, "time": time(), "revision": self._revision, **line}
        if len(self.refusals) > KEEP_REFUSALS:
            self.refusals.popitem(last=False)

    def _write(self, line: dict[str, Any], request_id: str) -> None:
        if self.log is not None and (self._log_permits or line["decision"] == "deny"):
            self.log.add(
                {
                    "event": "request",
                    "time": round(time(), 3),
                    "request_id": request_id,
                    "revision": self._revision,
                    **line,
                }
            )


def summary(exchange: "Exchange") -> dict[str, Any]:
    """What the log and the counters say of an exchange: no body, no credential, no nationality."""
    denied, permit, caller = exchange.denied, exchange.permit, exchange.caller
    model = denied.model if denied else next(iter(permit.models), None) if permit else None
    return {
        "provider": exchange.provider.name if exchange.provider else None,
        "operation": exchange.operation.id if exchange.operation else None,
        "model": model,
        "caller": caller.pseudonym if caller else None,
        "org": caller.facts.org if caller else None,
        **({"end_user": exchange.end_user.caller.pseudonym} if exchange.end_user else {}),
        "decision": "deny" if denied else "permit" if permit else "none",
        "reason": str(denied.reason) if denied else None,
        "restriction": denied.restriction if denied else None,
        "would_deny": permit.would_deny if permit and not denied else None,
        "order": denied.order if denied else None,
        "severed": exchange.severed,
        "stream": exchange.stream,
        "status": exchange.status,
        "bytes_in": exchange.bytes_in,
        "bytes_out": exchange.relay.bytes_out,
    }
