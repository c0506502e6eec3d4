"""The judge of the fault scenarios: what it takes for a violation, and what it reads out of a connection's bytes."""

import pytest
from judge import Denial, Got, ended, judge, provided

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
DENIAL = Denial("m", 100, 200)


def record(head: int, *emissions: tuple[int, int]) -> dict:
    return {"head_ns": head, "emissions": list(emissions)}


@pytest.mark.parametrize(
    ("got", "seen", "violations"),
    [
        (Got("t", "m", 90, 30), record(95, (96, 10), (99, 20), (150, 30)), 1),
        (Got("t", "m", 90, 20), record(95, (96, 10), (99, 20), (150, 30)), 0),  # emitted, but it reached nobody
        (Got("t", "m", 90, 21), record(95, (96, 10), (99, 20), (150, 30)), 1),  # one byte is enough
        (Got("t", "other", 90, 30), record(95, (150, 30)), 0),
        (Got("t", "m", 110, 0), record(120), 1),  # began after the receipt, and reached the provider
        (Got("t", "m", 90, 0), record(120), 0),  # was on its way: in a kernel, perhaps
        (Got("t", "m", 110, 0), None, 0),  # refused
        (Got("t", "m", 190, 10), record(210, (220, 10)), 0),  # waited until it was permitted again
        (Got("t", "m", 210, 10), record(220, (230, 10)), 0),
    ],
)
def test_what_a_violation_is(got, seen, violations):
    assert len(judge(got, seen, [DENIAL])) == violations


@pytest.mark.parametrize(
    ("raw", "size", "how"),
    [
        (b"", 0, "nothing"),
        (HEAD, 0, "200 cut"),
        (HEAD + b"3\r\nabc\r\n", 3, "200 cut"),
        (HEAD + b"3\r\nabc\r\n0\r\n\r\n", 3, "200"),
        (HEAD + b"3\r\nab", 2, "200 cut"),
        (HEAD + b"3\r\nabc\r\n1", 3, "200 cut"),
        (HEAD + b'5\r\nabc\n\n\r\n17\r\ndata: {"portcullis": {}}\r\n', 5, "200 cut"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabc", 3, "200 cut"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", 3, "200"),
        (b"HTTP/1.1 403 Forbidden\r\nPortcullis-Reason: x\r\nContent-Length: 1\r\n\r\na", 0, "403 x"),
    ],
)
def test_what_of_a_connection_came_from_the_provider(raw, size, how):
    assert (provided(raw), ended(raw)) == (size, how)
