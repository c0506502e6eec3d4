"""Reads many event streams at once and counts events: a process of its own, so that it can be pinned.

Says ``running`` once every stream has had an event, then counts for the given seconds and prints one line. Of each
read it looks at the last event's time of sending, so that how long events take is known, and cheaply.
"""

import argparse
import asyncio
import json
import resource
import sys
import time
from array import array
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import quantiles
from typing import NoReturn, cast

import uvloop

EVENTS = 10_000_000
PATIENCE = 30.0
CONNECTING = 64
MAY_FAIL = 0.01
"""Which part of the streams may stay without an event; they are counted as errors."""


STAMP = b'"@'
"""What stands before an event's time of sending: 16 digits, microseconds of CLOCK_MONOTONIC."""


def sent_at(data: bytes) -> int | None:
    """When the last event in a read was sent, if all of the time is there."""
    found = data.rfind(STAMP)
    digits = data[found + 2 : found + 18]
    return int(digits) if found >= 0 and len(digits) == 16 and digits.isdigit() else None


def spread(microseconds: Sequence[int]) -> tuple[float | None, float | None]:
    """The median and the 99th percentile, in milliseconds."""
    if len(microseconds) < 2:
        return None, None
    cuts = quantiles(microseconds, n=100)
    return cuts[49] / 1000, cuts[98] / 1000


class Counts:
    """What all streams have brought."""

    def __init__(self, streams: int) -> None:
        self.waiting = streams
        self.begun = asyncio.Event()
        self.events = 0
        self.reads = 0
        self.lost = 0
        self.took = array("q")
        self.statuses: Counter[str] = Counter()


class Stream(asyncio.Protocol):
    """One stream. An event ends with an empty line; that one is cut by two reads is not looked at: reads are whole."""

    def __init__(self, counts: Counts, request: bytes) -> None:
        self._counts = counts
        self._request = request
        self._answered = False
        self._begun = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast("asyncio.Transport", transport).write(self._request)  # uvloop's is none by inheritance

    def data_received(self, data: bytes) -> None:
        counts = self._counts
        found = data.count(b"\n\n")
        counts.events += found
        counts.reads += 1
        sent = sent_at(data)
        if sent is not None:
            counts.took.append(time.monotonic_ns() // 1000 - sent)
        if not self._answered:
            self._answered = True
            counts.statuses[data[9:12].decode("latin-1")] += 1
        if not self._begun and found:
            self._begun = True
            counts.waiting -= 1
            if not counts.waiting:
                counts.begun.set()

    def connection_lost(self, error: Exception | None) -> None:
        self._counts.lost += 1


def request(options: argparse.Namespace) -> bytes:
    """The bytes that each stream begins with."""
    body = Path(options.body).read_bytes()
    given = dict(line.split(": ", 1) for line in options.header)
    more = "".join(
        f"{name}: {value}\r\n" for name, value in ({"Authorization": f"Bearer {options.key}"} | given).items()
    )
    head = (
        f"POST {options.path} HTTP/1.1\r\nHost: 127.0.0.1:{options.port}\r\n{more}"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        f"x-bench-events: {EVENTS}\r\nx-bench-pause: {options.pause}\r\n\r\n"
    )
    return head.encode() + body


async def measure(options: argparse.Namespace) -> None:
    """Open, wait, count, say."""
    counts = Counts(options.streams)
    loop = asyncio.get_running_loop()
    asked = request(options)
    turns = asyncio.Semaphore(CONNECTING)

    async def open_one() -> None:
        async with turns:
            await loop.create_connection(lambda: Stream(counts, asked), "127.0.0.1", options.port)

    await asyncio.gather(*(open_one() for _ in range(options.streams)))
    try:
        async with asyncio.timeout(PATIENCE):
            await counts.begun.wait()
    except TimeoutError:
        if counts.waiting > options.streams * MAY_FAIL:
            _give_up(counts, options)
    print("running", flush=True)
    events, reads, took, began = counts.events, counts.reads, len(counts.took), time.monotonic()
    await asyncio.sleep(options.seconds)
    seconds = time.monotonic() - began
    p50, p99 = spread(counts.took[took:])
    found = {
        "events": counts.events - events, "reads": counts.reads - reads, "seconds": seconds, "p50_ms": p50, "p99_ms": p99,
        "lost": counts.lost + counts.waiting,
    }  # fmt: skip
    print("RESULT " + json.dumps(found), flush=True)
    await loop.run_in_executor(None, sys.stdin.read)  # until we are ended, so that no end of a stream is measured


def _give_up(counts: Counts, options: argparse.Namespace) -> NoReturn:
    said = f"statuses {dict(counts.statuses)}, {counts.lost} connections lost"
    sys.exit(f"{counts.waiting} of {options.streams} streams had no event in {PATIENCE:.0f} s; {said}")


def main() -> None:
    """Read arguments and measure."""
    arguments = argparse.ArgumentParser()
    for name, kind in (("port", int), ("path", str), ("key", str), ("body", str), ("streams", int)):
        arguments.add_argument(f"--{name}", type=kind, required=True)
    arguments.add_argument("--header", action="append", default=[])
    arguments.add_argument("--pause", type=float, required=True)
    arguments.add_argument("--seconds", type=float, required=True)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    uvloop.run(measure(arguments.parse_args()))


if __name__ == "__main__":
    main()
