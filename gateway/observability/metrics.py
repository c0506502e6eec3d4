"""Every metric, as one table; workers count in plain integers, the control process merges and exposes.

``/metrics``, the documentation and the tests come from ``METRICS``.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

LATENCY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
ADMISSION_BUCKETS = (
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1,
    2.5,
    5,
    10,
    30,
)
ENFORCEMENT_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 20, 30, 60)


@dataclass(frozen=True, slots=True)
class Definition:
    """A metric. Names end in their unit; ``LABELS`` says what bounds each label.

    ``process_…`` are the names that Prometheus' own clients give to what every process has.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


LABELS: dict[str, str] = {
    "provider": "the settings' providers; empty where a request led to none",
    "model": "the catalog's models, `other` for every other name, empty where none is named",
    "decision": "`permit`, `deny`, or `none` where the client left before one",
    "reason": "the reasons of docs/reasons.md; empty for what was permitted",
    "restriction": "the policy's directives, `hold` for every hold, empty where none is behind it",
    "code": "`1xx` to `5xx`; `none` where nothing was answered",
    "replica": "this machine's workers, and `control` for the control process",
    "state": "states of a worker, of a replica, or of a directive",
    "cause": "what can befall a connection to a provider",
    "place": "the settings' tables that name a certificate; `file`, `url`, `timestamp`",
    "sink": "`file` or `http`",
    "what": "`policy`, `caller`, `replica`",
    "result": "`passed` or `failed`; `loaded` or `refused`; `delivered` or `failed`",
    "step": "the steps of a drill",
    "basis": "how a receipt was proven",
    "version": "the one that runs",
}
"""What bounds each label: none has more values than this machine, its settings and its policy have."""

_P = "portcullis_"
METRICS: tuple[Definition, ...] = (
    Definition(_P + "requests_total", "counter", "Requests ended.", ("provider", "model", "decision", "reason")),
    Definition(
        _P + "responses_total", "counter", "Responses by class of status; the provider's own have decision=permit.",
        ("provider", "decision", "code"),
    ),
    Definition(_P + "blocked_total", "counter", "Requests refused by policy.", ("model", "reason")),
    Definition(
        _P + "blocked_by_restriction_total", "counter", "The same, by the directive that spoke.",
        ("model", "reason", "restriction"),
    ),
    Definition(
        _P + "callers_blocked", "gauge", "Callers that a replica refused by policy in the last five to ten minutes.",
        ("model", "replica"),
    ),
    Definition(_P + "would_deny_total", "counter", "Permits denied by a shadow directive.", ("model", "restriction")),
    Definition(_P + "streams_cut_total", "counter", "Requests cut in flight.", ("model", "reason")),
    Definition(_P + "in_flight_requests", "gauge", "Requests decided and not ended.", ("provider",)),
    Definition(_P + "client_connections", "gauge", "Open client connections."),
    Definition(_P + "client_connections_limit", "gauge", "How many all workers accept."),
    Definition(_P + "websockets", "gauge", "Open WebSockets.", ("provider",)),
    Definition(_P + "buffered_bytes", "gauge", "Bytes of requests' bodies that wait, in memory and on disk."),
    Definition(_P + "buffered_bytes_limit", "gauge", "How many may wait in all workers."),
    Definition(_P + "spooled_bodies", "gauge", "Bodies of requests that wait on disk."),
    Definition(_P + "worker_tasks", "gauge", "Tasks of a worker that are not done.", ("replica",)),
    Definition("process_cpu_seconds_total", "counter", "Processor time of a process, user and system.", ("replica",)),
    Definition("process_open_fds", "gauge", "Open descriptors of a process.", ("replica",)),
    Definition("process_max_fds", "gauge", "How many it may open.", ("replica",)),
    Definition("process_resident_memory_bytes", "gauge", "Resident memory of a process.", ("replica",)),
    Definition("process_start_time_seconds", "gauge", "When a process began, since the epoch.", ("replica",)),
    Definition(
        _P + "admission_seconds", "histogram", "From a request's head to its sending: body, decision, connection.",
        ("provider",), ADMISSION_BUCKETS,
    ),
    Definition(
        _P + "upstream_first_byte_seconds", "histogram", "From sending to the response head.", ("provider",),
        LATENCY_BUCKETS,
    ),
    Definition(
        _P + "upstream_duration_seconds", "histogram", "From sending to the response's end.", ("provider",),
        LATENCY_BUCKETS,
    ),
    Definition(_P + "upstream_failures_total", "counter", "Exchanges a provider failed.", ("provider", "cause")),
    Definition(_P + "upstream_connections", "gauge", "Open connections to a provider.", ("provider",)),
    Definition(
        _P + "upstream_connections_limit", "gauge", "How many all workers open to a provider.", ("provider",)
    ),
    Definition(_P + "upstream_queue", "gauge", "Requests that wait for a connection to a provider.", ("provider",)),
    Definition(_P + "tls_failures_total", "counter", "Handshakes with clients that failed."),
    Definition(
        _P + "certificate_reloads_total", "counter", "Changed certificates, loaded or refused.", ("place", "result")
    ),
    Definition(_P + "late_writes_total", "counter", "Writes that ended after their lease's deadline."),
    Definition(
        _P + "ledger_forged_total", "counter", "Entries of the ledger that did not verify: somebody wrote to Redis."
    ),
    Definition(_P + "ledger_failures_total", "counter", "Times Redis did not take what was to be remembered."),
    Definition(
        _P + "response_model_denied_total", "counter", "Responses cut as they named a denied model.",
        ("provider", "model"),
    ),
    Definition(_P + "internal_errors_total", "counter", "Failures of the gateway itself; each closed the door."),
    Definition(_P + "log_lines_dropped_total", "counter", "Request log lines lost because nobody read fast enough."),
    Definition(_P + "spans_dropped_total", "counter", "Spans lost because the collector did not take them."),
    Definition(_P + "policy_revision", "gauge", "The revision a replica has applied.", ("replica",)),
    Definition(_P + "lease_remaining_seconds", "gauge", "Until the default lease ends; negative after.", ("replica",)),
    Definition(_P + "lease_seconds", "gauge", "How long the default lease is.", ("replica",)),
    Definition(_P + "replica_serving", "gauge", "1 while a replica may serve.", ("replica", "state")),
    Definition(_P + "renew_failures_total", "counter", "Lease renewals that got no answer.", ("replica",)),
    Definition(_P + "fenced_total", "counter", "Times a replica found another history in Redis.", ("replica",)),
    Definition(_P + "forged_total", "counter", "Found in Redis, and not of this gateway's making.", ("what",)),
    Definition(_P + "regressions_total", "counter", "Times it was empty or behind what a replica knew.", ("replica",)),
    Definition(_P + "forks_total", "counter", "Times it told another story than the one a replica knew.", ("replica",)),
    Definition(_P + "nacks_total", "counter", "Policies that a replica could not read whole.", ("replica",)),
    Definition(_P + "policy_unread", "gauge", "Parts of the newest policy that a replica cannot read.", ("replica",)),
    Definition(_P + "workers", "gauge", "Workers by what they are doing.", ("state",)),
    Definition(_P + "worker_restarts_total", "counter", "Workers that died and were started again."),
    Definition(_P + "models_offline", "gauge", "1 for each model that a hold closes.", ("model",)),
    Definition(_P + "models_restricted", "gauge", "How many directives are in force on a model.", ("model",)),
    Definition(_P + "directives", "gauge", "Directives of the policy.", ("state",)),
    Definition(
        _P + "drill_seconds", "histogram", "From a drill's commit until its step was proven.", ("step",),
        ENFORCEMENT_BUCKETS,
    ),
    Definition(_P + "drills_total", "counter", "Drills that ended.", ("result",)),
    Definition(_P + "drill_last_success_timestamp_seconds", "gauge", "When this process last saw one pass."),
    Definition(_P + "drill_interval_seconds", "gauge", "How often one should; 0: by hand only."),
    Definition(_P + "local_holds", "gauge", "Holds of this machine that not all its workers have by a revision yet."),
    Definition(
        _P + "evidence_heads_total", "counter", "Signed heads of the evidence, by where they went.", ("place", "result")
    ),
    Definition(_P + "evidence_failures_total", "counter", "Times the evidence could not be written down.", ("cause",)),
    Definition(_P + "decision_records_lost_total", "counter", "Decision records that nobody took.", ("sink",)),
    Definition(
        _P + "enforcement_seconds", "histogram", "From a commit to its proof.", ("basis",), ENFORCEMENT_BUCKETS
    ),
    Definition(_P + "build_info", "gauge", "1, with the version that runs.", ("version",)),
)  # fmt: skip
BY_NAME = {definition.name: definition for definition in METRICS}

ERROR_REASONS = ("policy_stale", "overloaded", "internal")
"""Refusals that are the gateway's own failures: they, and no others, burn the error budget."""

Labels = tuple[str, ...]
Sample = tuple[str, Labels, Any]
"""Name, label values, and a number; for a histogram the counts per bucket, their number and the sum."""


class Counters:
    """What one process has counted. Not shared, never locked: an event loop is one thread."""

    def __init__(self) -> None:
        self._values: dict[tuple[str, Labels], float] = {}
        self._histograms: dict[tuple[str, Labels], list[float]] = {}

    def born(self, name: str, labels: Labels = ()) -> None:
        """Begin at zero, so that the first time shows as an increase."""
        if BY_NAME[name].buckets:
            self._histograms.setdefault((name, labels), [0.0] * (len(BY_NAME[name].buckets) + 2))
        else:
            self._values.setdefault((name, labels), 0)

    def add(self, name: str, labels: Labels = (), by: float = 1) -> None:
        """Count."""
        key = (name, labels)
        self._values[key] = self._values.get(key, 0) + by

    def observe(self, name: str, labels: Labels, value: float) -> None:
        """Put a value into a histogram: one count per bucket, then the sum."""
        buckets = BY_NAME[name].buckets
        counts = self._histograms.get((name, labels))
        if counts is None:
            self.born(name, labels)
            counts = self._histograms[name, labels]
        counts[bisect_left(buckets, value)] += 1
        counts[-1] += value

    def samples(self) -> list[Sample]:
        """Everything, as it goes over the channel."""
        plain: list[Sample] = [(name, labels, value) for (name, labels), value in self._values.items()]
        return plain + [(name, labels, counts) for (name, labels), counts in self._histograms.items()]


def merge(sources: Iterable[Iterable[Any]]) -> dict[str, dict[Labels, Any]]:
    """One value per metric and labels: sums. Samples, or lists where they came over the channel."""
    merged: dict[str, dict[Labels, Any]] = {}
    for samples in sources:
        for name, labels, value in samples:
            series = merged.setdefault(name, {})
            known = series.get(tuple(labels))
            if isinstance(value, list):
                series[tuple(labels)] = value if known is None else [a + b for a, b in zip(known, value, strict=True)]
            else:
                series[tuple(labels)] = value + (known or 0)
    return merged


class _Merged:
    """A collector over merged samples."""

    def __init__(self, merged: dict[str, dict[Labels, Any]]) -> None:
        self._merged = merged

    def collect(self) -> Iterator[Metric]:
        """Every metric of the table, those without a sample too."""
        for definition in METRICS:
            family = _FAMILIES[definition.kind](definition.name, definition.help, labels=definition.labels)
            for labels, value in sorted(self._merged.get(definition.name, {}).items()):
                if isinstance(family, HistogramMetricFamily):
                    family.add_metric(labels, _cumulative(definition.buckets, value[:-1]), sum_value=value[-1])
                else:
                    family.add_metric(labels, value)
            yield family


_FAMILIES: dict[str, Any] = {
    "counter": CounterMetricFamily,
    "gauge": GaugeMetricFamily,
    "histogram": HistogramMetricFamily,
}


def _cumulative(buckets: tuple[float, ...], counts: list[float]) -> list[tuple[str, float]]:
    total, rows = 0.0, []
    for bound, count in zip((*map(str, buckets), "+Inf"), counts, strict=True):
        total += count
        rows.append((bound, total))
    return rows


def expose(sources: Iterable[Iterable[Any]]) -> bytes:
    """The text exposition of all sources together."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Merged(merge(sources)))
    return generate_latest(registry)
