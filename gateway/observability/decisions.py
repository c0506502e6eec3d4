"""Decision records: every refusal and some permits, apart from the request log, to files or to somebody's collector.

A record says which revision decided, why, by which restriction and term, about whom (a pseudonym); never a body, a
credential or a nationality. ``add`` costs an append; a thread renders and delivers. Whoever takes nothing loses
records, which are counted, and never slows a request down.
"""

import contextlib
import http.client
import queue
import random
import ssl
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import orjson

FIELDS = (
    "time", "request_id", "revision", "decision", "reason", "restriction", "order", "model", "provider", "operation",
    "caller", "end_user", "org", "would_deny", "severed", "status",
)  # fmt: skip
"""What of a request's line a decision record says, beside the terms of the restriction."""

BATCH = 500
BATCH_SECONDS = 1.0
ATTEMPTS, PAUSE_SECONDS = 3, 0.5
SECONDS = 10.0
_FILE = "decisions-{}.jsonl"

Terms = Callable[[str], tuple[str, ...]]


class Sink(Protocol):
    """Where records go."""

    name: str

    def deliver(self, lines: bytes) -> None:
        """Deliver some, a JSON object a line.

        Raises:
            OSError: they were not taken.
        """


class Decisions:
    """One worker's records. ``terms`` gives the terms that a restriction names; ``sample`` is the share of permits."""

    def __init__(self, sinks: list[Sink], terms: Terms, sample: float, size: int) -> None:
        self.lost = {sink.name: 0 for sink in sinks}
        self._terms = terms
        self._sample = sample
        self._queues = [queue.Queue[dict[str, Any] | None](size) for _ in sinks]
        self._threads = [
            threading.Thread(target=self._run, args=(sink, waiting), name=f"decisions-{sink.name}", daemon=True)
            for sink, waiting in zip(sinks, self._queues, strict=True)
        ]
        self._names = [sink.name for sink in sinks]
        for thread in self._threads:
            thread.start()

    def add(self, line: dict[str, Any]) -> None:
        """Record a decision, by the line that the request log has of it."""
        decision = line["decision"]
        if decision == "none" or (decision == "permit" and random.random() >= self._sample):  # noqa: S311 - a sample
            return
        record = {name: line[name] for name in FIELDS if line.get(name) is not None}
        restriction = line.get("restriction") or line.get("would_deny")
        if restriction is not None:
            record["terms"] = self._terms(restriction)
        for name, waiting in zip(self._names, self._queues, strict=True):
            try:
                waiting.put_nowait(record)
            except queue.Full:
                self.lost[name] += 1

    def close(self, wait_seconds: float = 2.0) -> None:
        """Deliver what waits, but do not wait long for whoever takes nothing."""
        for waiting in self._queues:
            with contextlib.suppress(queue.Full):
                waiting.put(None, timeout=wait_seconds)
        for thread in self._threads:
            thread.join(wait_seconds)

    # ------------------------------------------------------------------ the threads

    def _run(self, sink: Sink, waiting: "queue.Queue[dict[str, Any] | None]") -> None:
        ended = False
        while not ended:
            records, ended = _batch(waiting)
            if records and not _delivered(sink, records):
                self.lost[sink.name] += len(records)


def _batch(waiting: "queue.Queue[dict[str, Any] | None]") -> tuple[list[dict[str, Any]], bool]:
    """Some records, as soon as there is one; and whether that was the end."""
    records: list[dict[str, Any]] = []
    deadline: float | None = None
    while len(records) < BATCH:
        try:
            record = waiting.get(timeout=None if deadline is None else max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            break
        if record is None:
            return records, True
        records.append(record)
        deadline = deadline or time.monotonic() + BATCH_SECONDS
    return records, False


def _delivered(sink: Sink, records: list[dict[str, Any]]) -> bool:
    lines = b"".join(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE) for record in records)
    for attempt in range(ATTEMPTS):
        with contextlib.suppress(OSError, http.client.HTTPException):
            sink.deliver(lines)
            return True
        time.sleep(PAUSE_SECONDS * 2**attempt)
    return False


# ------------------------------------------------------------------------------------------------ sinks


class Files:
    """A file a day; those that are older than they need be kept are removed."""

    name = "file"

    def __init__(
        self, directory: Path, keep_days: float, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._keep_days = keep_days
        self._now = now
        self._today = ""

    def deliver(self, lines: bytes) -> None:
        """Append to the file of today.

        Raises:
            OSError: it cannot be written.
        """
        today = f"{self._now():%Y-%m-%d}"
        if today != self._today:
            self._today = today
            self._remove_old()
        with (self._directory / _FILE.format(today)).open("ab", buffering=0) as file:  # one write: workers share it
            file.write(lines)

    def _remove_old(self) -> None:
        if not self._keep_days:
            return
        oldest = _FILE.format(f"{self._now() - timedelta(days=self._keep_days):%Y-%m-%d}")
        for path in self._directory.glob(_FILE.format("*")):
            if path.name < oldest:
                path.unlink(missing_ok=True)  # another worker does it, too


class Http:
    """A collector that takes JSON lines by POST."""

    name = "http"

    def __init__(self, url: str, authorization: str | None) -> None:
        self._parts = urlsplit(url)
        self._headers = {"Content-Type": "application/x-ndjson"}
        if authorization is not None:
            self._headers["Authorization"] = authorization

    def deliver(self, lines: bytes) -> None:
        """POST them.

        Raises:
            OSError, HTTPException: it did not take them.
        """
        connection = self._connection()
        try:
            connection.request("POST", self._target, lines, self._headers)
            status = connection.getresponse().status
        finally:
            connection.close()
        if not 200 <= status < 300:
            raise OSError(f"it answered {status}")

    @property
    def _target(self) -> str:
        path = self._parts.path or "/"
        return f"{path}?{self._parts.query}" if self._parts.query else path

    def _connection(self) -> http.client.HTTPConnection:
        host, port = self._parts.hostname or "", self._parts.port
        if self._parts.scheme == "https":
            return http.client.HTTPSConnection(host, port, timeout=SECONDS, context=ssl.create_default_context())
        return http.client.HTTPConnection(host, port, timeout=SECONDS)
