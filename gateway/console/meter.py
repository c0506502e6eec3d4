"""What passes a second, from counters that only grow: permitted, blocked by reason, latency, streams, cuts."""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from gateway.observability.metrics import BY_NAME, Labels, Sample

REQUESTS = "portcullis_requests_total"
CUT = "portcullis_streams_cut_total"
FIRST_BYTE = "portcullis_upstream_first_byte_seconds"
SOCKETS = "portcullis_websockets"
LEASE = "portcullis_lease_remaining_seconds"
SERVING = "portcullis_replica_serving"
KEPT = 600
"""Looks that are kept: ten minutes, where there is one a second."""

LEAST_SECONDS = 0.9
"""Looks that follow sooner, because somebody hurried, give no rate: one of so short a time would jump."""

Moment = dict[str, Any]
"""What passed between two looks, as a page gets it; rates are per second, latencies in milliseconds."""


@dataclass(slots=True)
class Totals:
    """Counters at one look. ``models``: permitted and denied, by model."""

    decisions: dict[str, float] = field(default_factory=dict)
    models: dict[str, tuple[float, float]] = field(default_factory=dict)
    cut: float = 0.0
    buckets: list[float] = field(default_factory=list)
    sockets: float = 0.0
    leases: dict[str, float] = field(default_factory=dict)
    serving: dict[str, str] = field(default_factory=dict)


Reader = Callable[[Totals, Labels, Any], None]


def total(sources: Iterable[Iterable[Sample]]) -> Totals:
    """The counters that pages show, over all workers."""
    found = Totals()
    for samples in sources:
        for name, labels, value in samples:
            _READERS.get(name, _skip)(found, tuple(labels), value)
    return found


def _skip(_: Totals, __: Labels, ___: Any) -> None:
    """Of no interest here."""


def _request(found: Totals, labels: Labels, value: float) -> None:
    model, decision, reason = (_label(REQUESTS, labels, name) for name in ("model", "decision", "reason"))
    if decision == "rehearsed":
        return  # nobody was blocked
    kind = reason or decision if decision == "deny" else decision
    found.decisions[kind] = found.decisions.get(kind, 0.0) + value
    permitted, denied = found.models.get(model, (0.0, 0.0))
    mine = (permitted, denied + value) if decision == "deny" else (permitted + value, denied)
    found.models[model] = mine


def _first_byte(found: Totals, _: Labels, counts: list[float]) -> None:
    buckets = counts[:-1]
    found.buckets = [a + b for a, b in zip(found.buckets, buckets, strict=True)] if found.buckets else list(buckets)


def _cut(found: Totals, _: Labels, value: float) -> None:
    found.cut += value


def _sockets(found: Totals, _: Labels, value: float) -> None:
    found.sockets += value


def _lease(found: Totals, labels: Labels, value: float) -> None:
    found.leases[_label(LEASE, labels, "replica")] = value


def _serving(found: Totals, labels: Labels, value: float) -> None:
    if value:
        found.serving[_label(SERVING, labels, "replica")] = _label(SERVING, labels, "state")


_READERS: dict[str, Reader] = {
    REQUESTS: _request, CUT: _cut, FIRST_BYTE: _first_byte, SOCKETS: _sockets, LEASE: _lease, SERVING: _serving,
}  # fmt: skip


def _label(metric: str, labels: Labels, name: str) -> str:
    return labels[BY_NAME[metric].labels.index(name)]


class Meter:
    """Turns looks into rates, and keeps the last ones."""

    def __init__(self) -> None:
        self.history: deque[Moment] = deque(maxlen=KEPT)
        self.models: dict[str, tuple[float, float]] = {}
        """Permitted and denied a second, by model; those that stand still are left out."""
        self._last: tuple[float, Totals] | None = None

    def look(self, now: float, totals: Totals, in_flight: int, streams: int) -> None:
        """Take in one look; ``now`` in seconds since the epoch. A worker that died may make a counter fall: no rate."""
        last = self._last
        if last is not None and 0 <= now - last[0] < LEAST_SECONDS:
            return
        self._last = (now, totals)
        if last is None or now < last[0]:
            return
        seconds, before = now - last[0], last[1]
        rates = _rates(before.decisions, totals.decisions, seconds)
        earlier = before.buckets or [0.0] * len(totals.buckets)
        buckets = [max(0.0, after - then) for then, after in zip(earlier, totals.buckets, strict=False)]
        self.history.append({
            "at": round(now * 1000),
            "permitted": rates.pop("permit", 0.0),
            "undecided": rates.pop("none", 0.0),
            "blocked": rates,
            "cut": round(max(0.0, totals.cut - before.cut)),
            "p50": quantile(buckets, 0.5),
            "p99": quantile(buckets, 0.99),
            "in_flight": in_flight,
            "streams": streams,
        })  # fmt: skip
        self.models = {}
        for model, (permitted, denied) in totals.models.items():
            was = before.models.get(model, (0.0, 0.0))
            rate = (_rate(was[0], permitted, seconds), _rate(was[1], denied, seconds))
            if any(rate):
                self.models[model] = rate


def _rates(before: Mapping[str, float], after: Mapping[str, float], seconds: float) -> dict[str, float]:
    found = {name: _rate(before.get(name, 0.0), value, seconds) for name, value in after.items()}
    return {name: rate for name, rate in found.items() if rate}


def _rate(before: float, after: float, seconds: float) -> float:
    return round(max(0.0, after - before) / seconds, 1)


def quantile(counts: list[float], share: float) -> float | None:
    """Milliseconds below which this share lies, read from a histogram as Prometheus does; ``None``: nothing passed."""
    wanted = sum(counts) * share
    if not wanted:
        return None
    bounds = (0.0, *BY_NAME[FIRST_BYTE].buckets)
    below = 0.0
    for (low, high), count in zip(pairwise(bounds), counts[:-1], strict=True):
        if below + count >= wanted:
            return round((low + (high - low) * (wanted - below) / count) * 1000, 1)
        below += count
    return bounds[-1] * 1000
