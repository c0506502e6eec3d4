"""How a process says it is."""

import os
from pathlib import Path

import psutil
import pytest

from gateway.observability import process


def said() -> dict[str, float]:
    return {name: value for name, labels, value in process.samples("r") if labels == ("r",)}


def test_it_says_what_the_system_says():
    found, me = said(), psutil.Process()
    assert found["process_open_fds"] == me.num_fds() - 1, "listing them opens one itself"
    assert found["process_max_fds"] == me.rlimit(psutil.RLIMIT_NOFILE)[0]
    assert found["process_resident_memory_bytes"] == pytest.approx(me.memory_info().rss, rel=0.1)


def test_descriptors_are_counted_alike_where_the_kernel_does_not_say(monkeypatch):
    said_by_kernel, stat = process.open_descriptors(), Path.stat
    unsaid = os.stat_result((0,) * 10)
    monkeypatch.setattr(Path, "stat", lambda self: unsaid if self == process._DESCRIPTORS else stat(self))
    assert process.open_descriptors() == said_by_kernel
