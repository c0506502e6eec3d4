"""What a connection costs: memory per idle client, and per open stream: ``python tests/benchmarks/bench_memory.py``.

Each proxy is started anew, asked a little, and read; then 1,000 and 4,000 clients are connected that have had one answer
and say nothing more, or that have a stream with an event every few seconds. What is printed is what its processes of
the data plane have more than before, by client: resident (RSS), and their own alone (USS). Buffers of the kernel are
not in it.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import cast

import psutil
import uvloop
from bench_contenders import CONTENDERS
from bench_processes import BenchError
from bench_report import aligned, number
from bench_site import BUILD, MODEL, OURS, Contender, Running, Site
from bench_stage import perform, say
from bench_streams import CONNECTING
from bench_watch import Seen, open_streams, request

COUNTS = (1_000, 4_000)
NAMES = (OURS, "nginx", "haproxy", "envoy")
PAUSE = 4.0
"""Between two events of a stream: the stream is what is weighed, not its work."""

WARM_UP = 256
SETTLED = 1.0
"""Seconds between what is done and what is read: what is freed later than that is not free."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of some processes."""

    rss: int
    uss: int

    @classmethod
    def of(cls, pids: Sequence[int]) -> "Memory":
        """Read them.

        Raises:
            BenchError: one of them has ended.
        """
        try:
            found = [psutil.Process(pid).memory_full_info() for pid in pids]
        except psutil.NoSuchProcess as error:
            raise BenchError(f"process {error.pid} of the proxy has ended") from error
        return cls(sum(each.rss for each in found), sum(each.uss for each in found))


@dataclass(frozen=True, slots=True)
class Weight:
    """KiB per client: of the first 1,000, and of all 4,000."""

    contender: str
    what: str
    base_mib: float
    rss: tuple[float, ...]
    uss: tuple[float, ...]


def weight(contender: str, what: str, base: Memory, grown: Sequence[Memory], counts: Sequence[int]) -> Weight:
    """What each has more than before, by client."""
    pairs = list(zip(grown, counts, strict=True))
    return Weight(
        contender, what, base.uss / 2**20,
        rss=tuple((memory.rss - base.rss) / count / 1024 for memory, count in pairs),
        uss=tuple((memory.uss - base.uss) / count / 1024 for memory, count in pairs),
    )  # fmt: skip


def table(weights: Sequence[Weight], counts: Sequence[int]) -> str:
    """A line for each proxy and kind of client."""
    kinds = [f"{kind} at {count:,}" for kind in ("USS", "RSS") for count in counts]
    rows = [("", "alone MiB", *kinds, "KiB per client that …")]
    rows += [
        (each.contender, number(each.base_mib, 1), *(number(kib, 1) for kib in (*each.uss, *each.rss)), each.what)
        for each in weights
    ]
    return aligned(rows)


class Idle(asyncio.Protocol):
    """A client that asks once, and stays."""

    def __init__(self, asked: bytes, answered: "asyncio.Future[None]") -> None:
        self._asked, self._answered = asked, answered

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast("asyncio.Transport", transport).write(self._asked)

    def data_received(self, data: bytes) -> None:
        if self._answered.done():
            return
        if data.startswith(b"HTTP/1.1 200"):
            self._answered.set_result(None)
        else:
            self._answered.set_exception(BenchError(f"answered {data[:80]!r}"))

    def connection_lost(self, error: Exception | None) -> None:
        if not self._answered.done():
            self._answered.set_exception(BenchError("an idle connection was closed before it was answered"))


async def open_idle(port: int, count: int) -> list[asyncio.Transport]:
    """That many clients that have been answered."""
    loop, turns, asked = asyncio.get_running_loop(), asyncio.Semaphore(CONNECTING), request(MODEL)

    async def open_one() -> asyncio.Transport:
        async with turns:
            answered: asyncio.Future[None] = loop.create_future()
            transport, _ = await loop.create_connection(lambda: Idle(asked, answered), "127.0.0.1", port)
            await answered
            return transport

    return await asyncio.gather(*(open_one() for _ in range(count)))


async def weighed(running: Running, what: str, counts: Sequence[int]) -> tuple[Memory, list[Memory]]:
    """Before, and with so many clients."""
    seen, asked = Seen(), request(MODEL, pause=PAUSE)
    for transport in await open_idle(running.port, WARM_UP):
        transport.abort()
    await asyncio.sleep(SETTLED)
    base, grown, opened = Memory.of(running.pids), [], []
    for count in counts:
        more = count - len(opened)
        if what == IDLE:
            opened += await open_idle(running.port, more)
        else:
            opened += await open_streams(seen, (running.port,), more, asked, patience=PATIENCE)
        await asyncio.sleep(SETTLED)
        grown.append(Memory.of(running.pids))
    for transport in opened:
        transport.abort()
    return base, grown


IDLE, STREAM = "has had an answer and is idle", "has a stream open"
PATIENCE = 120.0


def measure(site: Site, contenders: Sequence[Contender], counts: Sequence[int]) -> int:
    """Each proxy twice, anew: one's freed memory is not the other's."""
    weights = []
    for what in (IDLE, STREAM):
        for number_of, contender in enumerate(contenders):
            if reason := contender.missing():
                say(f"skipped {contender.name}: {reason}")
                continue
            directory = site.directory / f"{'idle' if what == IDLE else 'stream'}-{number_of}"
            directory.mkdir()
            with site.processes.besides(directory) as processes:
                running = contender.start(replace(site, processes=processes, directory=directory))
                base, grown = uvloop.run(weighed(running, what, counts))
            weights.append(weight(contender.name, what, base, grown, counts))
            say(f"{contender.name}, a client that {what}: {weights[-1].uss[-1]:.1f} KiB")
    print(table(weights, counts), flush=True)
    BUILD.mkdir(parents=True, exist_ok=True)
    (BUILD / "memory.json").write_text(json.dumps([asdict(each) for each in weights], indent=1))
    return 0


def main() -> int:
    """Read arguments and measure."""
    parser = argparse.ArgumentParser(description="Memory per client.")
    parser.add_argument("--only", action="append", default=[], help="a contender's name (may be given again)")
    parser.add_argument("--count", action="append", type=int, default=[], help="of clients, the least first")
    options = parser.parse_args()
    names = options.only or NAMES
    chosen = [contender for contender in CONTENDERS if contender.name in names]
    return perform(lambda site: measure(site, chosen, options.count or COUNTS))


if __name__ == "__main__":
    sys.exit(main())
