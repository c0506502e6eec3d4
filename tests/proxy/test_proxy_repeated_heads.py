"""A head that a client repeats on its connection is judged once; whose credential it has is asked each time."""

import asyncio
import json

import pytest
from proxy_harness import OK, get, post

from gateway.proxy import connection
from gateway.proxy.head import read_head
from gateway.proxy.known_head import known


@pytest.fixture
def judged(monkeypatch):
    """The targets of heads that were judged."""
    targets, really = [], connection.read_head

    def read_head(method, target, *arguments, **options):
        targets.append(target)
        return really(method, target, *arguments, **options)

    monkeypatch.setattr(connection, "read_head", read_head)
    return targets


async def until_read(door, size: int) -> None:
    """Wait until the gate has read so much of the request."""
    connection_ = next(iter(door.gate.connections))
    while connection_._reading is None or connection_._reading.bytes_in < size:
        await asyncio.sleep(0)


async def exchange(client, upstream, request: bytes):
    client.send(request)
    seen = await upstream.message()
    upstream.send(OK)
    assert (await client.message()).status == 200
    return seen


async def test_the_same_head_with_another_length_is_judged_once(client, provider, judged):
    client.send(post())
    upstream = await provider.accept()
    first = await upstream.message()
    upstream.send(OK)
    await client.message()
    second = await exchange(client, upstream, post(text="longer"))
    assert len(judged) == 1
    assert (second.start, second.header("authorization")) == (first.start, first.header("authorization"))
    assert second.header("content-length") == str(len(second.body))
    assert json.loads(second.body)["text"] == "longer"


@pytest.mark.parametrize(
    "other",
    [
        post(headers=("X-More: 1",)),
        post(key="pc-bob"),
        post(path="/openai/v1/completions"),
        post(version="1.1", headers=("Authorization: Bearer pc-bob",), key=None),
    ],
)
async def test_another_head_is_judged(client, provider, judged, other):
    client.send(post())
    upstream = await provider.accept()
    await upstream.message()
    upstream.send(OK)
    await client.message()
    await exchange(client, upstream, other)
    assert len(judged) == 2


async def test_a_repeated_head_is_of_whoever_the_credential_is_now(door, client, provider):
    client.send(post())
    upstream = await provider.accept()
    await upstream.message()
    upstream.send(OK)
    await client.message()
    door.records.clear()
    door.apply(callers=["alice"])
    assert (await client.ask(post())).reason == "unauthenticated"


async def test_a_repeated_head_is_decided_by_the_policy_in_force(door, client, provider):
    client.send(post())
    upstream = await provider.accept()
    await upstream.message()
    upstream.send(OK)
    await client.message()
    door.close_models("gpt-5.4")
    assert (await client.ask(post())).reason == "model_offline"


@pytest.mark.parametrize("length", [b"1234567890123456", b"+5", b"5, 5", b""])
async def test_a_length_is_judged_though_the_rest_was_before(client, provider, length):
    client.send(post())
    upstream = await provider.accept()
    await upstream.message()
    upstream.send(OK)
    await client.message()
    head, _, body = post().partition(b"\r\n\r\n")
    name, _, rest = head.partition(b"Content-Length: ")
    refused = await client.ask(name + b"Content-Length: " + length + rest.lstrip(b"0123456789") + b"\r\n\r\n" + body)
    assert (refused.status, refused.header("connection")) == (400, "close")


@pytest.mark.parametrize("cut", [0, 1, 10])
async def test_the_body_of_a_repeated_head_may_come_in_pieces(door, client, provider, judged, cut):
    client.send(post())
    upstream = await provider.accept()
    await upstream.message()
    upstream.send(OK)
    await client.message()
    again = post(text="x" * 100)
    end = again.index(b"\r\n\r\n") + 4 + cut
    client.send(again[:end])
    await until_read(door, cut)
    assert (await exchange(client, upstream, again[end:])).body == again[end - cut :]
    assert len(judged) == 1


@pytest.mark.parametrize("apart", [False, True])
async def test_what_follows_a_repeated_head_s_body_is_the_next_request(door, client, provider, apart):
    client.send(post())
    upstream = await provider.accept()
    await upstream.message()
    upstream.send(OK)
    await client.message()
    first, second = post(text="first"), post(path="/openai/v1/responses", text="second")
    at = first.index(b"\r\n\r\n") + 5 if apart else 0
    client.send(first[:at])
    if apart:
        await until_read(door, 1)
    client.send(first[at:] + second)
    for text in ("first", "second"):
        assert json.loads((await upstream.message()).body)["text"] == text
        upstream.send(OK)
        assert (await client.message()).status == 200


@pytest.mark.parametrize("ending", [b"Connection: close", b"Connection: X", b"Expect: 100-continue"])
async def test_a_head_that_changes_how_the_connection_goes_on_is_always_parsed(client, provider, ending):
    lines = post(headers=(ending.decode(),))
    head = lines[: lines.index(b"\r\n\r\n") + 4]
    read = read_head(
        b"POST", b"/x", "1.1", [(b"host", b"g"), (b"content-length", b"2"), tuple(ending.lower().split(b": "))],
        keep_alive=not ending.endswith(b"close"),
    )  # fmt: skip
    assert known(head, read) is None


def test_only_the_very_same_bytes_are_recognised():
    head = post()[: post().index(b"\r\n\r\n") + 4]
    read = read_head(b"POST", b"/x", "1.1", [(b"host", b"g"), (b"content-length", b"2")], keep_alive=True)
    seen = known(head, read)
    assert seen is not None
    size = head.split(b"Content-Length: ")[1].split(b"\r")[0]
    assert seen.rest(head + b"{}") == (int(size), b"{}")
    for at in range(len(head)):
        other = head[:at] + bytes([head[at] ^ 1]) + head[at + 1 :]
        found = seen.rest(other)
        assert found is None or chr(other[at]).isdigit(), other
    for end in range(len(head)):
        assert seen.rest(head[:end]) is None


async def test_a_refusal_of_a_repeated_head_is_the_same(client, judged):
    answers = [await client.ask(get("/nowhere")) for _ in range(2)]
    assert [(answer.status, answer.reason) for answer in answers] == [(404, "operation_not_listed")] * 2
    assert len(judged) == 1
