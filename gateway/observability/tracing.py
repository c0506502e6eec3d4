"""Spans for an OpenTelemetry collector, made from the lines of the request log, by a thread of their own.

A request costs an append to a list; without ``tracing.endpoint`` nothing of this is loaded. A span has the HTTP and
generative-AI attributes of OpenTelemetry's semantic conventions. The caller's ``traceparent`` is the span's parent, and
goes on to the provider as it came.
"""

import logging
import random
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import structlog
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

EXPORT_SECONDS = 1.0
TIMEOUT_SECONDS = 5.0
MAX_WAITING = 20_000
"""Requests that wait for the collector; further ones are dropped and counted."""

BATCH = 2_000
_SCOPE = InstrumentationScope("portcullis")
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_log = structlog.get_logger("portcullis.tracing")

Line = Mapping[str, Any]


class Lines(Protocol):
    """Where log lines go on to."""

    def add(self, line: dict[str, Any]) -> None:
        """Take one."""


@dataclass(frozen=True, slots=True)
class Route:
    """What a span says of an operation at a provider. ``operation`` is empty where no model runs."""

    method: str
    path: str
    system: str
    operation: str
    server: str


Routes = Mapping[tuple[str, str], Route]


class Spans:
    """Takes log lines in the request log's place, and hands them on to it if they are to be logged."""

    def __init__(self, lines: Lines, exporter: SpanExporter, routes: Routes, sample: float, *, replica: str) -> None:
        self._lines = lines
        self._exporter = exporter
        self._routes = routes
        self._sample = sample
        self._resource = Resource({"service.name": "portcullis", "service.instance.id": replica})
        self._waiting: list[dict[str, Any]] = []
        self._over = threading.Event()
        self._told = True
        self.log_permits = True
        self.dropped = 0
        self._thread = threading.Thread(target=self._run, name="spans", daemon=True)
        self._thread.start()

    def add(self, line: dict[str, Any]) -> None:
        """A request ended."""
        if self.log_permits or line["decision"] == "deny":
            self._lines.add(line)
        if len(self._waiting) < MAX_WAITING:
            self._waiting.append(line)
        else:
            self.dropped += 1

    def close(self) -> None:
        """Send what is left, but do not wait long for it."""
        self._over.set()
        self._thread.join(TIMEOUT_SECONDS)

    # ------------------------------------------------------------------ the thread

    def _run(self) -> None:
        while not self._over.wait(EXPORT_SECONDS):
            self._export()
        self._export()
        self._exporter.shutdown()

    def _export(self) -> None:
        lines, self._waiting = self._waiting, []
        spans = [span for line in lines if (span := self._span(line)) is not None]
        for start in range(0, len(spans), BATCH):
            self._send(spans[start : start + BATCH])

    def _send(self, spans: Sequence[ReadableSpan]) -> None:
        taken = self._exporter.export(spans) is SpanExportResult.SUCCESS
        if not taken:
            self.dropped += len(spans)
        if taken != self._told:
            self._told = taken
            if taken:
                _log.info("spans_taken")
            else:
                _log.warning("spans_not_taken", lost=len(spans))

    # ------------------------------------------------------------------ a span

    def _span(self, line: Line) -> ReadableSpan | None:
        """The span of a request; ``None`` where it is not sampled: as the caller says, else by chance."""
        parent = _parent(line.get("traceparent"))
        if not (random.random() < self._sample if parent is None else parent.trace_flags.sampled):  # noqa: S311
            return None
        route = self._routes.get((line.get("provider") or "", line.get("operation") or ""))
        end = int(line["time"] * 1e9)
        return ReadableSpan(
            name="request" if route is None else f"{route.method} {route.path}",
            context=SpanContext(
                trace_id=random.getrandbits(128) if parent is None else parent.trace_id,
                span_id=random.getrandbits(64) or 1,
                is_remote=False,
                trace_flags=_SAMPLED,
            ),
            parent=parent,
            resource=self._resource,
            attributes=attributes(line, route),
            kind=SpanKind.SERVER,
            status=Status(StatusCode.ERROR if line["status"] >= 500 else StatusCode.UNSET),
            start_time=end - int(line.get("duration_ms", 0) * 1e6),
            end_time=end,
            instrumentation_scope=_SCOPE,
        )


def _parent(traceparent: str | None) -> SpanContext | None:
    """The caller's span (W3C Trace Context §3.2.2)."""
    if traceparent is None:
        return None
    _, trace, span, flags = traceparent.split("-")
    return SpanContext(int(trace, 16), int(span, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16)))


NAMES: dict[str, str] = {
    "status": "http.response.status_code",
    "bytes_in": "http.request.body.size",
    "bytes_out": "http.response.body.size",
    "model": "gen_ai.request.model",
    "stream": "gen_ai.request.stream",
    "caller": "enduser.pseudo.id",
    "request_id": "portcullis.request_id",
    "revision": "portcullis.revision",
    "decision": "portcullis.decision",
    "reason": "portcullis.reason",
    "restriction": "portcullis.restriction",
    "order": "portcullis.order",
    "would_deny": "portcullis.would_deny",
    "severed": "portcullis.severed",
    "org": "portcullis.org",
}
"""Fields of a request's line, and the attributes that they become."""


def attributes(line: Line, route: Route | None) -> dict[str, Any]:
    """What a span says: no body, no credential, no nationality; nothing that the log does not say."""
    found = {name: line[field] for field, name in NAMES.items() if line.get(field) is not None}
    if route is not None:
        found |= {"http.request.method": route.method, "http.route": route.path, "server.address": route.server}
        if route.operation:
            found |= {"gen_ai.provider.name": route.system, "gen_ai.operation.name": route.operation}
    if "first_byte_ms" in line:
        found["gen_ai.response.time_to_first_chunk"] = line["first_byte_ms"] / 1000
    if line["status"] >= 500:
        found["error.type"] = line.get("reason") or str(line["status"])
    return found


def exporter(endpoint: str) -> SpanExporter:
    """What sends spans by OTLP over HTTP; ``OTEL_EXPORTER_OTLP_HEADERS`` may hold its credentials."""
    logging.getLogger("opentelemetry").disabled = True
    logging.getLogger("opentelemetry.exporter.otlp.proto.http.trace_exporter").disabled = True
    return OTLPSpanExporter(endpoint=endpoint, timeout=TIMEOUT_SECONDS)
