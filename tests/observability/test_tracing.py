"""Spans are made from the log's lines, and a collector gets them as OTLP over HTTP."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="the extra otel is not installed")

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from gateway.observability import tracing
from gateway.observability.tracing import NAMES, Spans, exporter
from gateway.proxy.traced import routes
from gateway.settings import Provider

ROUTES = routes({"openai": Provider(dialect="openai", base_url="https://api.example/v", api_key="k")})
PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-{flags}"
LINE = {
    "event": "request", "time": 1_782_000_000.5, "request_id": "req_1", "revision": 7, "provider": "openai",
    "operation": "chat.completions.create", "caller": "p-1", "org": None, "decision": "permit", "model": "gpt-5.4", "reason": None,
    "restriction": None, "order": None, "would_deny": None, "severed": False, "stream": True, "status": 200,
    "bytes_in": 10, "bytes_out": 20, "duration_ms": 250.0, "first_byte_ms": 100.0,
}  # fmt: skip
OPERATION = next(operation for (_, operation), route in ROUTES.items() if route.path.endswith("/chat/completions"))


class Kept(SpanExporter):
    def __init__(self, *, takes: bool = True) -> None:
        self.spans, self.takes = [], takes

    def export(self, spans):
        self.spans += spans
        return SpanExportResult.SUCCESS if self.takes else SpanExportResult.FAILURE


class Log(list):
    add = list.append


def made(*lines, sample: float = 1.0, takes: bool = True, log_permits: bool = True):
    kept, log = Kept(takes=takes), Log()
    spans = Spans(log, kept, ROUTES, sample, replica="r")
    spans.log_permits = log_permits
    for line in lines:
        spans.add(LINE | {"operation": OPERATION} | line)
    spans.close()
    return kept.spans, log, spans


def test_a_span_says_what_the_line_says_by_the_names_of_the_conventions():
    (span,), log, _ = made({})
    assert len(log) == 1
    assert span.name == "POST /v1/chat/completions"
    assert (span.end_time, span.start_time) == (1_782_000_000_500_000_000, 1_782_000_000_250_000_000)
    found = dict(span.attributes)
    assert found["http.request.method"] == "POST"
    assert found["http.route"] == "/v1/chat/completions"
    assert found["http.response.status_code"] == 200
    assert found["server.address"] == "api.example"
    assert found["gen_ai.provider.name"] == "openai"
    assert found["gen_ai.operation.name"] == "chat"
    assert found["gen_ai.request.model"] == "gpt-5.4"
    assert found["gen_ai.response.time_to_first_chunk"] == 0.1
    assert found["portcullis.request_id"] == "req_1"
    assert "portcullis.reason" not in found
    assert dict(span.resource.attributes)["service.instance.id"] == "r"
    assert span.parent is None


def test_the_callers_span_is_the_parent_and_says_whether_there_is_one():
    sampled, left_out = PARENT.format(flags="01"), PARENT.format(flags="00")
    (span,), _, _ = made({"traceparent": sampled}, {"traceparent": left_out}, sample=0.0)
    assert f"{span.context.trace_id:032x}" == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert f"{span.parent.span_id:016x}" == "00f067aa0ba902b7"
    assert span.context.span_id != span.parent.span_id


@pytest.mark.parametrize(("line", "status", "error"), [({"status": 503, "reason": "policy_stale"}, "ERROR", "policy_stale"), ({"status": 500}, "ERROR", "500"), ({"status": 451, "reason": "model_offline"}, "UNSET", None)])  # fmt: skip
def test_only_failures_are_errors(line, status, error):
    (span,), _, _ = made(line)
    assert (span.status.status_code.name, span.attributes.get("error.type")) == (status, error)


def test_a_line_without_an_operation_is_a_span_too():
    short = {key: LINE[key] for key in ("time", "request_id", "revision")} | {"decision": "deny", "reason": "malformed", "status": 400}  # fmt: skip
    kept = Kept()
    spans = Spans(Log(), kept, ROUTES, 1.0, replica="r")
    spans.add(short)
    spans.close()
    assert kept.spans[0].name == "request"


def test_permits_are_kept_from_the_log_where_it_does_not_want_them():
    found, log, _ = made({}, {"decision": "deny"}, log_permits=False)
    assert len(found) == 2
    assert [line["decision"] for line in log] == ["deny"]


def test_what_is_not_taken_is_counted_and_what_waits_is_bounded(monkeypatch, capsys):
    _, _, spans = made({}, {}, takes=False)
    assert spans.dropped == 2
    monkeypatch.setattr(tracing, "MAX_WAITING", 3)
    monkeypatch.setattr(tracing, "EXPORT_SECONDS", 60.0)
    found, _, spans = made(*[{}] * 5)
    assert (len(found), spans.dropped) == (3, 2)


def test_every_name_is_of_a_field_of_the_line():
    assert NAMES.keys() <= LINE.keys()


def test_a_collector_gets_them():
    got = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self):
            got.append((self.path, self.headers["Content-Type"], self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        spans = Spans(Log(), exporter(f"http://127.0.0.1:{server.server_port}/v1/traces"), ROUTES, 1.0, replica="r")
        spans.add(LINE | {"operation": OPERATION})
        spans.close()
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    ((path, kind, body),) = got
    assert (path, kind) == ("/v1/traces", "application/x-protobuf")
    request = ExportTraceServiceRequest.FromString(body)
    (span,) = request.resource_spans[0].scope_spans[0].spans
    assert span.name == "POST /v1/chat/completions"
    assert (
        json.loads(json.dumps({a.key: a.value.string_value for a in span.attributes}))["gen_ai.request.model"]
        == "gpt-5.4"
    )
