"""One line per request, and no request ever waits for who reads them."""

import contextlib
import json
import os
import threading
import time

import pytest

from gateway.observability import logs, request_log
from gateway.observability.request_log import RequestLog


@pytest.fixture
def pipe():
    reader, writer = os.pipe()
    yield reader, writer
    for end in (reader, writer):
        with contextlib.suppress(OSError):  # the test has closed it
            os.close(end)


def lines(reader: int) -> list[dict]:
    return [json.loads(line) for line in os.read(reader, 1_000_000).splitlines()]


async def test_lines_come_out_as_json_in_their_order(pipe):
    reader, writer = pipe
    log = RequestLog(writer)
    for number in range(100):
        log.add({"n": number, "text": "é\n"})
    log.close()
    assert lines(reader) == [{"n": number, "text": "é\n"} for number in range(100)]
    assert log.dropped == 0


async def test_lines_come_out_by_themselves(pipe, monkeypatch, until):
    monkeypatch.setattr(request_log, "FLUSH_SECONDS", 0.0)
    reader, writer = pipe
    os.set_blocking(reader, False)
    log = RequestLog(writer)
    log.add({"n": 1})

    def read() -> bytes:
        try:
            return os.read(reader, 100)
        except BlockingIOError:
            return b""

    assert await until(read) == b'{"n":1}\n'
    log.close()


async def test_what_comes_together_is_written_together(pipe, monkeypatch):
    written = []
    monkeypatch.setattr(os, "write", lambda fd, data: (written.append(bytes(data)), len(data))[1])
    log = RequestLog(pipe[1])
    for number in range(50):
        log.add({"n": number})
    log.close()
    assert len(written) == 1
    assert written[0].count(b"\n") == 50


async def test_a_write_may_take_several_goes(pipe, monkeypatch):
    written = []
    monkeypatch.setattr(os, "write", lambda fd, data: (written.append(bytes(data[:3])), min(3, len(data)))[1])
    log = RequestLog(pipe[1])
    log.add({"a": 1})
    log.close()
    assert b"".join(written) == b'{"a":1}\n'


async def test_a_reader_that_takes_nothing_costs_lines_and_no_time(pipe, monkeypatch):
    monkeypatch.setattr(request_log, "QUEUE_BATCHES", 2)
    reader, writer = pipe
    log = RequestLog(writer)
    began = time.monotonic()
    for number in range(200):
        log.add({"n": number, "text": "x" * 10_000})
        log.flush()
    log.close(wait_seconds=0.05)
    assert time.monotonic() - began < 2
    assert log.dropped > 100
    os.close(reader)  # the thread's write ends


async def test_a_reader_that_went_away_is_counted(pipe):
    reader, writer = pipe
    os.close(reader)
    log = RequestLog(writer)
    for number in range(3):
        log.add({"n": number})
    log.close()
    assert log.dropped == 3


async def test_closing_ends_the_thread(pipe):
    log = RequestLog(pipe[1])
    log.close()
    assert not any(thread is log._writer for thread in threading.enumerate())


def test_logs_are_json_lines_on_standard_error(capsys):
    import structlog

    before = structlog.get_config()
    try:
        logs.configure()
        structlog.get_logger("x").info("something", path=os.curdir, number=1)
        structlog.get_logger("x").debug("too much")
        structlog.get_logger("x").error("failed", exc_info=ZeroDivisionError("boom"))
    finally:
        structlog.configure(**before)
    captured = capsys.readouterr()
    first, second = [json.loads(line) for line in captured.err.splitlines()]
    assert captured.out == ""
    assert (first["event"], first["level"], first["number"]) == ("something", "info", 1)
    assert first["timestamp"].endswith("Z")
    assert "ZeroDivisionError: boom" in second["exception"]
