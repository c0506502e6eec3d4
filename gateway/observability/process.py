"""How a process is, under the names that Prometheus' own clients use; Linux only, elsewhere nothing is said."""

import os
import resource
import time
from pathlib import Path

from gateway.observability.metrics import Sample

_DESCRIPTORS = Path("/proc/self/fd")
_MEMORY = Path("/proc/self/statm")
_STAT = Path("/proc/self/stat")


def samples(replica: str) -> list[Sample]:
    """Descriptors and memory of this process."""
    if not _MEMORY.exists():
        return []
    pages = int(_MEMORY.read_bytes().split()[1])
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return [
        ("process_cpu_seconds_total", (replica,), time.process_time()),
        ("process_start_time_seconds", (replica,), began_at()),
        ("process_open_fds", (replica,), open_descriptors()),
        ("process_max_fds", (replica,), soft),
        ("process_resident_memory_bytes", (replica,), pages * resource.getpagesize()),
    ]


def began_at() -> float:
    """When this process began, in seconds since the epoch: proc(5), ``starttime``, after the name in parentheses."""
    ticks = int(_STAT.read_bytes().rpartition(b")")[2].split()[19])
    since = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    return round(time.time() - since, 2)


def open_descriptors() -> int:
    """How many descriptors are open. Linux 6.2 and later say it as the directory's size; before, it is listed."""
    return _DESCRIPTORS.stat().st_size or sum(1 for _ in _DESCRIPTORS.iterdir()) - 1  # listing opens one
