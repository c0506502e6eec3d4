"""Logs of what changes: JSON lines on standard error, one event each."""

import contextlib
import logging
import sys
from typing import TextIO, cast

import orjson
import structlog


def configure() -> None:
    """Set structlog up for this process."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(serializer=lambda event, **_: orjson.dumps(event, default=str).decode()),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        # a line is one write: processes share it
        logger_factory=structlog.WriteLoggerFactory(file=cast(TextIO, Lossy(sys.stderr))),
        cache_logger_on_first_use=True,
    )


class Lossy:
    """A stream that loses what it cannot write: where a disk is full, what is being told of must go on all the same."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        """Write, if it can be written."""
        with contextlib.suppress(OSError):
            self._stream.write(text)

    def flush(self) -> None:
        """Flush, if it can be written."""
        with contextlib.suppress(OSError):
            self._stream.flush()
