"""Decision records: every refusal, some permits; bounded, counted where lost, and removed when old."""

import json
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer

from gateway.observability.decisions import FIELDS, Decisions, Files, Http
from gateway.observability.effects import Effects, merged

LINE = {
    "event": "request", "time": 1.5, "request_id": "r", "revision": 7, "decision": "deny", "reason": "restricted",
    "restriction": "d-1", "order": "o", "model": "m", "caller": "0123", "org": "acme", "status": 451, "bytes_in": 9,
    "severed": False, "client": "10.0.0.1", "would_deny": None,
}  # fmt: skip


def lines(path) -> list[dict]:
    return [json.loads(line) for found in sorted(path.iterdir()) for line in found.read_bytes().splitlines()]


def test_a_refusal_is_recorded_with_its_terms_and_nothing_about_the_person(tmp_path):
    records = Decisions([Files(tmp_path, 0)], lambda _: ("us-person",), 0.0, 10)
    records.add(LINE)
    records.add(LINE | {"decision": "permit", "reason": None, "restriction": None})
    records.add(LINE | {"decision": "none"})
    records.close()
    (record,) = lines(tmp_path)
    assert record.keys() <= {*FIELDS, "terms"}
    assert (record["revision"], record["reason"], record["terms"]) == (7, "restricted", ["us-person"])
    assert "client" not in record


def test_permits_are_sampled(tmp_path):
    records = Decisions([Files(tmp_path, 0)], lambda _: (), 0.5, 10_000)
    for _ in range(1000):
        records.add(LINE | {"decision": "permit", "restriction": None})
    records.close()
    assert 300 < len(lines(tmp_path)) < 700


class Stuck:
    """Somebody who takes nothing."""

    name = "stuck"

    def __init__(self) -> None:
        self.asked, self.go = threading.Event(), threading.Event()

    def deliver(self, _: bytes) -> None:
        self.asked.set()
        self.go.wait(5)


def test_what_nobody_takes_is_lost_and_counted(monkeypatch):
    monkeypatch.setattr("gateway.observability.decisions.BATCH", 1)
    sink = Stuck()
    records = Decisions([sink], lambda _: (), 0.0, 5)
    records.add(LINE)
    assert sink.asked.wait(5)
    for _ in range(12):
        records.add(LINE)
    assert records.lost == {"stuck": 7}
    sink.go.set()
    records.close()


def test_files_that_are_old_are_removed(tmp_path):
    now = datetime(2026, 6, 12, tzinfo=UTC)
    for days in (0, 1, 5):
        Files(tmp_path, 0, lambda days=days: now - timedelta(days=days)).deliver(b"{}\n")
    Files(tmp_path, 3, lambda: now).deliver(b"{}\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "decisions-2026-06-11.jsonl", "decisions-2026-06-12.jsonl",
    ]  # fmt: skip


def test_a_collector_gets_json_lines_and_one_that_refuses_loses_them(monkeypatch):
    monkeypatch.setattr("gateway.observability.decisions.PAUSE_SECONDS", 0.0)
    got = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got.append((self.path, self.headers["Authorization"], body))
            self.send_response(204 if self.path == "/in?x=1" else 500)
            self.end_headers()

        def log_message(self, *_):
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"http://127.0.0.1:{server.server_port}"
        taken, refused = Http(f"{url}/in?x=1", "Bearer t"), Http(f"{url}/broken", None)
        records = Decisions([taken], lambda _: (), 0.0, 10)
        records.add(LINE)
        records.close()
        assert records.lost == {"http": 0}
        assert (got[0][:2], json.loads(got[0][2])["model"]) == (("/in?x=1", "Bearer t"), "m")
        records = Decisions([refused], lambda _: (), 0.0, 10)
        records.add(LINE)
        records.close()
        assert records.lost == {"http": 1}
    finally:
        server.shutdown()
        server.server_close()


def test_effects_count_whom_a_restriction_hit_and_are_put_together():
    first, second = Effects(), Effects()
    first.add(LINE)
    first.add(LINE | {"time": 3.0, "caller": "4567"})
    second.add(LINE | {"time": 0.5, "severed": True})
    second.add(LINE | {"restriction": None})
    views = [worker.take()["d-1"] for worker in (first, second)]
    assert first.take() == {}
    found = merged(views)
    assert (found["refused"], found["cut"], found["first_refused"], found["last_cut"]) == (2, 1, 1.5, 0.5)
    assert found["by_org"] == {"acme": {"callers": 2, "refused_or_cut": 3}}
    assert merged([]) is None
