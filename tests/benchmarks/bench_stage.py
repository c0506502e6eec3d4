"""The frame of every measurement beside others: what must be there, a site, and an end whatever happens."""

import os
import resource
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench_nginx import start_upstream, upstream_missing
from bench_processes import BenchError, Processes, choose_cores
from bench_site import Site, certified, which


def perform(measure: Callable[[Site], int]) -> int:
    """Measure on a site of its own; gives what the process ends with: 2 where nothing can be measured."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    missing = upstream_missing() or (None if which("wrk") else "no wrk on PATH (Debian: wrk)")
    if missing:
        print(f"nothing can be measured: {missing}", file=sys.stderr)
        return 2
    many_descriptors()
    try:
        with site() as made:
            return measure(made)
    except BenchError as error:
        print(f"\nbench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nbench: interrupted; everything that was started is ended", file=sys.stderr)
        return 130


def many_descriptors() -> None:
    """As many as this process may have; its children inherit that."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@contextmanager
def site() -> Iterator[Site]:
    """A directory, certificates, the upstream, and the end of everything."""
    cores = choose_cores(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores.load})
    directory = Path(tempfile.mkdtemp(prefix="pcb-", dir="/tmp"))  # short: sockets live in it
    try:
        authority, pair = certified(directory)
        with Processes(directory) as processes:
            upstream, upstream_tls = start_upstream(directory, cores, processes, pair)
            yield Site(directory, cores, processes, authority, pair, upstream, upstream_tls)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def say(line: str) -> None:
    """What goes on, apart from figures."""
    print(f"# {line}", flush=True)
