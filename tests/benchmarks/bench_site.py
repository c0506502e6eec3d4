"""Where a measurement runs, what a contender is, and the words that all of the benchmark's parts share."""

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from bench_processes import Cores, Processes

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
BUILD = ROOT / "build" / "bench"
sys.path.insert(0, str(ROOT / "tests"))

from certificates import Authority, Pair  # noqa: E402 - found by the line above

TOOLS = BUILD / "tools"
"""Where ``make bench`` puts contenders that come from PyPI, apart from the project's own environment."""

REFUSE = "x-bench-refuse"
"""The header by which the other proxies refuse: their cheapest rule. Ours looks at the model in the body."""

MODEL, KILLED = "gpt-5.4", "gpt-5.4-mini"
PATH = "/openai/v1/chat/completions"
KEY = "bench-key"

OURS, DIRECT, MARK = "portcullis", "direct", "envoy"
"""Us; the ceiling; and whom the ratios are to."""


@dataclass(frozen=True, slots=True)
class Site:
    """Where a measurement runs. The upstream listens twice: in the clear, and with a certificate of ``authority``."""

    directory: Path
    cores: Cores
    processes: Processes
    authority: Path
    pair: Pair
    upstream: int
    upstream_tls: int


@dataclass(frozen=True, slots=True)
class Running:
    """A started contender: its port, the processes of its data plane, and those it needs beside.

    ``headers`` are sent with every request. ``callers``: how many keys it knows beside the usual one; ``forget`` makes
    its cache forget them, before each run.
    """

    port: int
    pids: tuple[int, ...]
    beside: tuple[int, ...] = ()
    path: str = PATH
    headers: tuple[tuple[str, str], ...] = ()
    tls: bool = False
    callers: int = 0
    forget: Callable[[], None] | None = None

    @property
    def url(self) -> str:
        """What a client is told."""
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}{self.path}"


Start = Callable[[Site], Running]


@dataclass(frozen=True, slots=True)
class Contender:
    """A proxy that can be measured. ``missing`` says why it cannot, or nothing.

    ``start_tls`` starts it with TLS on both sides. ``tags`` say that it runs only in rows that name it, ``rows`` that
    it runs only in these.
    """

    name: str
    note: str
    missing: Callable[[], str | None]
    start: Start
    start_tls: Start | None = None
    tags: frozenset[str] = field(default_factory=frozenset)
    rows: tuple[str, ...] = ()


def which(program: str) -> str | None:
    """A program's path; Debian keeps servers where users do not look."""
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


def needs(program: str, package: str) -> Callable[[], str | None]:
    """Why a program cannot be run."""
    return lambda: None if which(program) else f"no {program} on PATH (Debian: {package})"


def certified(directory: Path) -> tuple[Path, Pair]:
    """An authority made for this run, and a pair of it for loopback: ECDSA P-256, as most servers have today."""
    authority = Authority(directory / "certificates")
    return authority.file, authority.issue("bench")
