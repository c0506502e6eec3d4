"""The bytes that the gateway writes itself."""

import pytest

from gateway.proxy.wire import CHUNKED_END, chunk, own_response, response_head


@pytest.mark.parametrize(
    ("data", "wire"), [(b"a", b"1\r\na\r\n"), (b"x" * 16, b"10\r\n" + b"x" * 16 + b"\r\n"), (b"\r\n", b"2\r\n\r\n\r\n")]
)
def test_chunks(data, wire):
    assert chunk(data) == wire
    assert not wire.startswith(CHUNKED_END[:1])


@pytest.mark.parametrize(
    ("status", "reason", "line"),
    [
        (200, b"", b"HTTP/1.1 200 OK"),
        (200, b"Fine", b"HTTP/1.1 200 Fine"),
        (451, b"", b"HTTP/1.1 451 Unavailable For Legal Reasons"),
        (599, b"", b"HTTP/1.1 599 "),
    ],
)
def test_status_lines(status, reason, line):
    head = response_head(status, reason, [], "req_1", 3, chunked=False, keep_alive=True)
    assert head == line + b"\r\nportcullis-request-id: req_1\r\nportcullis-revision: 3\r\n\r\n"


def test_framing():
    head = response_head(200, b"", [(b"a", b"b")], "r", 1, chunked=True, keep_alive=False)
    assert head.endswith(b"\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n")
    assert b"\r\na: b\r\n" in head


def test_a_response_of_our_own():
    response = own_response(403, (("Portcullis-Reason", "restricted"),), b"{}", "r", 1, keep_alive=True)
    head, _, body = response.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 403 Forbidden\r\ncontent-type: application/json\r\ncontent-length: 2\r\n")
    assert b"Portcullis-Reason: restricted" in head
    assert body == b"{}"
    assert own_response(403, (), b"{}", "r", 1, keep_alive=True, head_only=True).endswith(b"\r\n\r\n")


def test_a_value_beyond_latin_1_cannot_break_a_head():
    assert b"x: ?" in own_response(403, (("x", "–"),), b"", "r", 1, keep_alive=True)
