"""Heads of providers' responses: what llhttp lets through, and no client may see."""

import pytest

from gateway.proxy.response import TOO_LARGE, UnreadableResponseError, check_interim, read_response
from gateway.settings import Limits

LIMITS = Limits(response_head_bytes=100, header_count=3)
LENGTH, CHUNKED = (b"content-length", b"2"), (b"transfer-encoding", b"chunked")


def read(*headers: tuple[bytes, bytes], status: int = 200, version: str = "1.1", reason: bytes = b"OK"):
    return read_response(status, version, reason, list(headers), LIMITS, 1000)


@pytest.mark.parametrize(
    ("headers", "status", "passed", "framed"),
    [
        ([], 200, [], False),
        ([LENGTH], 200, [LENGTH], True),
        ([(b"content-length", b"0002")], 200, [LENGTH], True),
        ([CHUNKED], 200, [], True),
        ([(b"transfer-encoding", b"Chunked")], 200, [], True),
        ([], 204, [], True),
        ([LENGTH], 204, [], True),
        ([LENGTH], 304, [LENGTH], True),
        ([], 304, [], True),
        ([], 205, [], False),
        ([(b"x", b"a"), (b"x", b"b")], 599, [(b"x", b"a"), (b"x", b"b")], False),
    ],
)
def test_what_passes_and_whether_its_end_is_known(headers, status, passed, framed):
    head = read(*headers, status=status)
    assert (head.headers, head.framed) == (passed, framed)


@pytest.mark.parametrize(
    ("headers", "passed"),
    [
        ([(b"connection", b"X, close"), (b"x", b"1"), (b"y", b"1")], [(b"y", b"1")]),
        ([(b"x", b"1"), (b"connection", b"keep-alive"), (b"keep-alive", b"timeout=5")], [(b"x", b"1")]),
        ([(b"connection", b"content-length"), LENGTH], [LENGTH]),
        ([(b"portcullis-revision", b"9"), (b"x", b"1")], [(b"x", b"1")]),
    ],
)
def test_what_is_about_the_connection_or_ours_does_not_pass(headers, passed):
    assert read(*headers).headers == passed


@pytest.mark.parametrize(
    ("headers", "status", "measured", "event_stream"),
    [
        ([LENGTH], 200, True, False),
        ([CHUNKED, (b"content-type", b"text/event-stream; charset=utf-8")], 200, False, True),
        ([CHUNKED], 304, True, False),
    ],
)
def test_what_the_relay_asks(headers, status, measured, event_stream):
    head = read(*headers, status=status)
    assert (head.measured, head.event_stream) == (measured, event_stream)


UNREADABLE = {
    "status": {"status": 600},
    "version": {"version": "2.0"},
    "NUL in the reason": {"reason": b"O\0K"},
    "CR in the reason": {"reason": b"O\rK"},
}


@pytest.mark.parametrize("fields", UNREADABLE.values(), ids=UNREADABLE)
def test_status_lines_that_are_none(fields):
    with pytest.raises(UnreadableResponseError) as caught:
        read(LENGTH, **fields)
    assert caught.value.cause == "invalid_response"


@pytest.mark.parametrize(
    ("headers", "version"),
    [
        ([(b"content-length", b"1" * 16)], "1.1"),
        ([(b"transfer-encoding", b"gzip, chunked")], "1.1"),
        ([(b"transfer-encoding", b"identity")], "1.1"),
        ([CHUNKED, CHUNKED], "1.1"),
        ([CHUNKED, LENGTH], "1.1"),
        ([CHUNKED], "1.0"),
    ],
)
def test_framing_with_two_meanings(headers, version):
    with pytest.raises(UnreadableResponseError):
        read(*headers, version=version)


@pytest.mark.parametrize("headers", [[(b"x", b"y")] * 4, [(b"x", b"y" * 100)]])
def test_heads_over_a_limit(headers):
    with pytest.raises(UnreadableResponseError) as caught:
        read(*headers)
    assert caught.value.cause == TOO_LARGE


def test_the_size_is_counted_only_where_so_much_has_come():
    assert read_response(200, "1.1", b"OK", [(b"x", b"y" * 100)], LIMITS, 100).framed is False


@pytest.mark.parametrize("status", [100, 102, 103, 199])
def test_interim_responses(status):
    check_interim(status, [(b"link", b"x")])


@pytest.mark.parametrize(("status", "headers"), [(101, []), (99, []), (0, []), (100, [LENGTH]), (103, [CHUNKED])])
def test_interim_responses_that_are_none(status, headers):
    with pytest.raises(UnreadableResponseError):
        check_interim(status, headers)
