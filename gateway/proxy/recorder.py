"""What is kept of each exchange that ended: counters, one log line, who used what, why somebody was refused."""

from collections import OrderedDict
from collections.abc import Callable
from time import monotonic, time
from typing import TYPE_CHECKING, Any, Protocol

from gateway.observability.callers import CallersHit
from gateway.observability.effects import Effects
from gateway.observability.metrics import Counters
from gateway.observability.refused import RefusedNames
from gateway.observability.traffic import Traffic
from gateway.policy.decision import Deny, Permit, Reason
from gateway.policy.snapshot import Snapshot

if TYPE_CHECKING:
    from gateway.proxy.exchange import Exchange

KEEP_REFUSALS = 10_000
"""Refusals that a worker can still explain by their request's id: some 6 MB."""

POLICY_REASONS = frozenset(
    (Reason.MODEL_OFFLINE, Reason.RESTRICTED, Reason.ATTRIBUTE_UNKNOWN, Reason.MODEL_UNRESOLVED, Reason.UNKNOWN_MODEL)
)

_REFUSED = ("deny", "rehearsed")
_CODES = {status: f"{status // 100}xx" for status in range(100, 600)}


class Lines(Protocol):
    """Where log lines go."""

    def add(self, line: dict[str, Any]) -> None:
        """Take one."""


class Recorder:
    """One worker's records. ``snapshot`` gives the policy in force, which bounds the labels."""

    def __init__(self, log: Lines | None, snapshot: Callable[[], Snapshot | None], *, log_permits: bool) -> None:
        self.counters = Counters()
        self.traffic = Traffic()
        self.effects = Effects()
        self.decisions: Lines | None = None
        self.refused = RefusedNames()
        self.hit = CallersHit()
        self._refusals: OrderedDict[str, tuple[tuple[str, ...], tuple[Any, ...]]] = OrderedDict()
        self._shapes: dict[tuple[str, ...], tuple[str, ...]] = {}
        self.log = log
        self._log_permits = log_permits
        self._snapshot = snapshot

    def record(self, exchange: "Exchange") -> None:
        """Count an exchange that ended, and log it."""
        line = summary(exchange)
        model, reason = self.model(line["model"]), line["reason"] or ""
        self.counters.add("portcullis_requests_total", (line["provider"] or "", model, line["decision"], reason))
        self.counters.add(
            "portcullis_responses_total",
            (line["provider"] or "", line["decision"], _CODES.get(exchange.status, "none")),
        )
        self._time(exchange, line)
        if exchange.denied is not None:
            self._keep_refusal(line)
            if exchange.rehearsal is not None:
                self.counters.add("portcullis_rehearsed_total", (model, reason))
            else:
                self._blocked(model, reason, line["restriction"], line["caller"])
                self.effects.add(line)
            if exchange.denied.reason is Reason.UNKNOWN_MODEL:
                self.refused.add(line["provider"] or "", line["model"] or "", line["time"])
        elif exchange.permit is not None and exchange.permit.models:
            self._permitted(exchange, exchange.permit, model)
        if exchange.severed and exchange.rehearsal is None:
            self.counters.add("portcullis_streams_cut_total", (model, reason))
        self._write(line)

    def _permitted(self, exchange: "Exchange", permit: Permit, model: str) -> None:
        if exchange.caller is not None:
            self.traffic.add(exchange.caller.id, permit.models[0])
        if permit.would_deny is not None:
            self.counters.add("portcullis_would_deny_total", (model, permit.would_deny))

    def _blocked(self, model: str, reason: str, restriction: str | None, caller: str | None) -> None:
        if reason in POLICY_REASONS:
            self.counters.add("portcullis_blocked_total", (model, reason))
            self.counters.add(
                "portcullis_blocked_by_restriction_total", (model, reason, self._restriction(restriction))
            )
            if caller is not None:
                self.hit.add(model, caller, monotonic())

    def _time(self, exchange: "Exchange", line: dict[str, Any]) -> None:
        """How long the provider took, and the whole."""
        now = monotonic()
        line["duration_ms"] = int((now - exchange.began_at) * 100_000) / 100
        if exchange.first_byte_at:
            provider = (line["provider"],)
            waited = exchange.first_byte_at - exchange.sent_at
            self.counters.observe("portcullis_admission_seconds", provider, exchange.sent_at - exchange.began_at)
            self.counters.observe("portcullis_upstream_first_byte_seconds", provider, waited)
            self.counters.observe("portcullis_upstream_duration_seconds", provider, now - exchange.sent_at)
            line["first_byte_ms"] = int(waited * 100_000) / 100

    def fault(self, deny: Deny, status: int, request_id: str) -> None:
        """Count and log what could not even be read as a request."""
        reason, snapshot = str(deny.reason), self._snapshot()
        self.counters.add("portcullis_requests_total", ("", self.model(deny.model), "deny", reason))
        self.counters.add("portcullis_responses_total", ("", "deny", _CODES.get(status, "none")))
        self._blocked(self.model(deny.model), reason, deny.restriction, None)
        line = {
            "event": "request", "time": _now(), "request_id": request_id,
            "revision": 0 if snapshot is None else snapshot.revision,
        }  # fmt: skip
        self._write(line | {"decision": "deny", "reason": reason, "status": status})

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

    def _restriction(self, restriction: str | None) -> str:
        """A bounded label: a directive of the policy, ``hold`` for any hold, or nothing."""
        if restriction is None:
            return ""
        snapshot = self._snapshot()
        return restriction if snapshot is not None and restriction in snapshot.document.directives else "hold"

    def _keep_refusal(self, line: dict[str, Any]) -> None:
        """Remember why, for whoever asks by the request's id; the oldest are forgotten."""
        # Names are of few kinds and kept once each. Not as text: so many lasting blocks of over 512 bytes would lie
        # among the large, brief ones of bodies and keep the heap from ever shrinking (70 MiB in ten minutes).
        names = tuple(line)
        self._refusals[line["request_id"]] = (self._shapes.setdefault(names, names), tuple(line.values()))
        if len(self._refusals) > KEEP_REFUSALS:
            self._refusals.popitem(last=False)

    def refusal(self, request_id: str) -> dict[str, Any] | None:
        """Why a request was refused, if that is still remembered."""
        found = self._refusals.get(request_id)
        return None if found is None else dict(zip(*found, strict=True))

    def _write(self, line: dict[str, Any]) -> None:
        if self.log is not None and (self._log_permits or line["decision"] in _REFUSED):
            self.log.add(line)
        if self.decisions is not None:
            self.decisions.add(line)


def _now() -> float:
    """Seconds since the epoch, to the millisecond."""
    return int(time() * 1000) / 1000


def summary(exchange: "Exchange") -> dict[str, Any]:
    """What the log and the counters say of an exchange: no body, no credential, no nationality."""
    gate, denied, permit, caller = exchange.gate, exchange.denied, exchange.permit, exchange.caller
    provider, operation = exchange.provider, exchange.operation
    decision, model, reason, restriction, order, would_deny = "none", None, None, None, None, None
    if denied is not None:
        decision = "deny" if exchange.rehearsal is None else "rehearsed"
        model, reason = denied.model, denied.reason.value
        restriction, order = denied.restriction, denied.order
    elif permit is not None:
        decision, model, would_deny = "permit", permit.models[0] if permit.models else None, permit.would_deny
    line: dict[str, Any] = {
        "event": "request",
        "time": _now(),
        "request_id": exchange.request_id,
        "revision": gate.revision,
        "provider": None if provider is None else provider.name,
        "operation": None if operation is None else operation.id,
        "caller": None if caller is None else caller.pseudonym,
        "org": None if caller is None else caller.facts.org,
        "decision": decision,
        "model": model,
        "reason": reason,
        "restriction": restriction,
        "order": order,
        "would_deny": would_deny,
        "severed": exchange.severed,
        "stream": exchange.stream,
        "status": exchange.status,
        "bytes_in": exchange.bytes_in,
        "bytes_out": exchange.relay.bytes_out,
    }
    if exchange.end_user is not None:
        line["end_user"] = exchange.end_user.caller.pseudonym
    if exchange.head.traceparent:
        line["traceparent"] = exchange.head.traceparent.decode()
    if gate.log_addresses:
        line["client"] = gate.client_address(exchange.client.peer, exchange.head.forwarded_for)
    return line
