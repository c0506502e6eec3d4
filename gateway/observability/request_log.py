"""One canonical JSON line per request, written in batches by a thread, so that a slow reader never stops the loop."""

import asyncio
import contextlib
import os
import queue
import threading
from typing import Any

import orjson

FLUSH_SECONDS = 0.05
QUEUE_BATCHES = 1000
"""Batches that may wait for a slow reader: at 20 a second, 50 seconds. What comes after is dropped and counted."""


class RequestLog:
    """Lines for a file descriptor. ``add`` costs a list append; rendering and writing come later, together."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lines: list[dict[str, Any]] = []
        self._scheduled = False
        self._queue: queue.Queue[bytes | None] = queue.Queue(QUEUE_BATCHES)
        self.dropped = 0
        self._writer = threading.Thread(target=self._write, name="request-log", daemon=True)
        self._writer.start()

    def add(self, line: dict[str, Any]) -> None:
        """Log a request."""
        self._lines.append(line)
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_later(FLUSH_SECONDS, self.flush)

    def flush(self) -> None:
        """Hand over what has gathered."""
        self._scheduled = False
        lines, self._lines = self._lines, []
        if not lines:
            return
        batch = b"".join([orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE) for line in lines])
        try:
            self._queue.put_nowait(batch)
        except queue.Full:
            self.dropped += len(lines)

    def close(self, wait_seconds: float = 1.0) -> None:
        """Write what is left, but do not wait long for a reader that takes nothing."""
        self.flush()
        with contextlib.suppress(queue.Full):  # nobody reads, and nobody will
            self._queue.put(None, timeout=wait_seconds)
        self._writer.join(wait_seconds)

    def _write(self) -> None:
        while (batch := self._queue.get()) is not None:
            view = memoryview(batch)
            try:
                while view:
                    written = os.write(self._fd, view)  # apart: compiled, a slice's bounds may be evaluated twice
                    view = view[written:]
            except OSError:
                self.dropped += batch.count(b"\n")
