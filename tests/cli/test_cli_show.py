"""What people read of what is not as it should be."""

import pytest

from gateway.cli import show
from gateway.cli.client import Reply
from gateway.cli.exits import Exit
from gateway.cli.session import code_of

RECEIPT = {
    "revision": 7, "basis": "all_acked", "elapsed_ms": 4.1, "streams_cut": 0, "draining": 0, "enforced": True,
    "replicas": {"expected": 1, "live": 1, "list": [{"id": "w0", "state": "acked"}]},
}  # fmt: skip
LOCAL = {
    "scope": "this machine", "enforced": False, "workers": {"expected": 2, "holding": 2}, "streams_cut": 1,
    "hold": "h-1", "models": ["m"], "kept": True, "detail": "Redis cannot be reached.",
}  # fmt: skip


def test_too_few_replicas_of_redis_are_no_enforcement():
    assert show.receipt_line("OFFLINE m", RECEIPT) == "OFFLINE m · revision 7 · enforced on 1 of 1 replica after 4.1 ms"
    line = show.receipt_line("OFFLINE m", {**RECEIPT, "durable": False})
    assert line == (
        "OFFLINE m · revision 7 · NOT ENFORCED after 4.1 ms: too few of Redis' replicas have it, and a failover could forget it"
    )
    assert "enforced on 1 of 1" in show.receipt_line("OFFLINE m", {**RECEIPT, "durable": True})


def test_what_a_replica_cannot_read_is_said(capsys):
    show.nacks([{"id": "w0", "nack": {"revision": 7, "parts": ["directives.d", "holds.h"]}}, {"id": "w1"}])
    assert capsys.readouterr().out == "w0 DENIES WHAT IT CANNOT READ of revision 7: directives.d, holds.h\n"


@pytest.mark.parametrize(
    ("more", "out", "err"),
    [
        ({}, "THIS MACHINE ONLY: OFFLINE m · held on 2 of 2 workers · 1 stream cut · hold h-1\n", ""),
        ({"workers": {"expected": 2, "holding": 1}}, "HELD ONLY on 1 of 2 workers", ""),
        ({"kept": False}, "", "IT IS NOT ON DISK"),
        ({"may_come_back": True}, "", "it may have been committed just before Redis went away"),
    ],
    ids=["all", "some", "a full disk", "an undo"],
)
def test_what_is_only_so_on_this_machine_is_said_plainly(capsys, more, out, err):
    show.local("OFFLINE m", {**LOCAL, **more}, "hold h-1")
    shown = capsys.readouterr()
    assert out in shown.out
    assert err in shown.err
    assert "Redis cannot be reached." in shown.err


def test_it_has_an_exit_code_of_its_own():
    assert code_of(Reply(202, None, "", LOCAL)) is Exit.THIS_MACHINE_ONLY
    assert code_of(Reply(200, None, "", {**RECEIPT, "durable": False, "enforced": False})) is Exit.NOT_ENFORCED
