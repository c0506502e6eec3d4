"""What a process uses, and the most it used meanwhile."""

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

MIB = 2**20


@dataclass(frozen=True)
class Usage:
    """Descriptors and bytes. ``anonymous`` is memory proper: pages of mapped files are the kernel's to take back."""

    descriptors: int
    pss: int
    anonymous: int

    @classmethod
    def of(cls, process: psutil.Process) -> "Usage":
        rollup = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
        kib = {name: int(size) for name, size in re.findall(r"^(\w+): +(\d+) kB$", rollup, re.MULTILINE)}
        return cls(process.num_fds(), kib["Pss"] * 1024, kib["Anonymous"] * 1024)

    def __str__(self) -> str:
        return f"{self.descriptors} descriptors, PSS {self.pss / MIB:.1f} MiB, anonymous {self.anonymous / MIB:.1f} MiB"


def most(one: Usage, other: Usage) -> Usage:
    pairs = zip(vars(one).values(), vars(other).values(), strict=True)
    return Usage(*(max(pair) for pair in pairs))


@dataclass
class Watch:
    """A process under attack: before, and the most since."""

    process: psutil.Process
    before: Usage
    peak: Usage
    looks: int = 0
    began: float = field(default_factory=time.monotonic)

    def look(self) -> None:
        self.peak = most(self.peak, Usage.of(self.process))
        self.looks += 1

    @property
    def grown(self) -> float:
        """MiB of memory proper above what it had before."""
        return (self.peak.anonymous - self.before.anonymous) / MIB


@contextlib.asynccontextmanager
async def watched(process: psutil.Process, every: float = 0.1) -> AsyncIterator[Watch]:
    now = Usage.of(process)
    watch = Watch(process, now, now)

    async def look_on() -> None:
        while True:
            await asyncio.to_thread(watch.look)
            await asyncio.sleep(every)

    looking = asyncio.ensure_future(look_on())
    try:
        yield watch
    finally:
        looking.cancel()
        watch.look()
