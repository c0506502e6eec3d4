"""Bodies that can name no model are passed on as they come, under the lease."""

import asyncio

import pytest
from proxy_harness import OK, caller_record, chunked

from gateway.identity.keys import fingerprint

PIECE = 64 * 1024


def upload(framing: str, *more: str, kind: str = "multipart/form-data; boundary=x") -> bytes:
    lines = ["POST /openai/v1/uploads/u_1/parts HTTP/1.1", "Host: gate", "Authorization: Bearer pc-alice", framing]
    return "\r\n".join([*lines, f"Content-Type: {kind}", *more, "", ""]).encode()


async def until(condition):
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


async def test_pieces_go_on_before_the_body_is_complete(door, client, provider):
    client.send(upload("Content-Length: 10") + b"12345")
    upstream = await provider.accept()
    head = await upstream.head()
    assert head.header("content-length") == "10"
    assert head.header("authorization") == "Bearer sk-provider"
    assert await upstream.exactly(5) == b"12345"
    client.send(b"67890")
    assert await upstream.exactly(5) == b"67890"
    upstream.send(OK)
    assert (await client.message()).status == 200
    assert door.gate.buffered.total == 0
    assert door.lines[-1]["bytes_in"] == 10


async def test_chunks_go_on_as_chunks(client, provider):
    client.send(upload("Transfer-Encoding: chunked") + chunked(b"abc"))
    upstream = await provider.accept()
    assert (await upstream.head()).header("transfer-encoding") == "chunked"
    assert await upstream.chunk() == b"abc"
    client.send(chunked(b"def") + b"0\r\n\r\n")
    assert (await upstream.chunk(), await upstream.chunk()) == (b"def", b"")
    upstream.send(OK)
    assert (await client.message()).status == 200


async def test_the_connection_serves_the_next_request(client, provider):
    for _ in range(2):
        client.send(upload("Content-Length: 3") + b"abc")
        upstream = await provider.accept()
        await upstream.message()
        upstream.send(OK)
        assert (await client.message()).status == 200


async def test_a_body_that_is_waited_for_is_asked_for_when_it_can_go_on(client, provider):
    client.send(upload("Content-Length: 3", "Expect: 100-continue"))
    upstream = await provider.accept()
    await upstream.head()
    assert (await client.head()).start == b"HTTP/1.1 100 Continue"
    client.send(b"abc")
    assert await upstream.exactly(3) == b"abc"
    upstream.send(OK)
    assert (await client.message()).status == 200


async def test_an_early_answer_is_relayed_and_ends_both(client, provider):
    client.send(upload("Content-Length: 1000000") + b"x" * 1000)
    upstream = await provider.accept()
    await upstream.head()
    upstream.send(b"HTTP/1.1 413 No\r\ncontent-length: 2\r\n\r\n{}")
    answer = await client.message()
    assert (answer.status, answer.header("connection")) == (413, "close")
    assert await upstream.is_reset()


async def test_the_end_of_the_lease_cuts(door, client, provider):
    client.send(upload("Content-Length: 1000") + b"x" * 10)
    upstream = await provider.accept()
    await upstream.head()
    await upstream.exactly(10)
    door.end_lease()
    client.send(b"y" * 10)
    answer = await client.message()
    assert (answer.status, answer.reason) == (503, "policy_stale")
    assert await upstream.is_reset()


async def test_a_caller_that_is_gone_is_cut(door, client, provider):
    client.send(upload("Content-Length: 1000") + b"x" * 10)
    upstream = await provider.accept()
    await upstream.head()
    await upstream.exactly(10)
    door.records[fingerprint("pc-alice")] = caller_record("alice")
    door.apply(callers=["alice"], fresh={})
    assert (await client.message()).status == 503
    assert await upstream.is_reset()


async def test_a_client_that_leaves_is_not_waited_for(client, provider):
    client.send(upload("Content-Length: 1000") + b"x" * 10)
    upstream = await provider.accept()
    await upstream.head()
    await client.close()
    assert await upstream.is_reset()


async def test_a_provider_that_leaves_is_not_asked_twice(client, provider):
    client.send(upload("Content-Length: 1000") + b"x" * 10)
    upstream = await provider.accept()
    await upstream.head()
    upstream.reset()
    assert (await client.message()).status == 502
    assert provider.connections == 1


@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        (upload("Content-Length: 2000000000"), 413),
        (upload("Content-Length: 3", kind="multipart/form-data\tx"), 415),
        (upload("Content-Length: 3", "Content-Encoding: br"), 415),
    ],
)
async def test_what_is_refused_by_its_head_reaches_nobody(client, provider, request_head, status):
    assert (await client.ask(request_head)).status == status
    assert provider.connections == 0


async def test_chunks_over_the_limit_are_cut(open_door, connect, provider):
    door = await open_door(limits={"upload_bytes": 100_000})
    client = await connect(door)
    client.send(upload("Transfer-Encoding: chunked") + chunked(b"x" * 60_000))
    upstream = await provider.accept()
    await upstream.head()
    client.send(chunked(b"x" * 60_000))
    assert (await client.message()).status == 413
    assert await upstream.is_reset()


async def test_a_provider_that_takes_nothing_holds_the_client_back(door, client, provider):
    client.send(upload("Content-Length: 100000000"))
    upstream = await provider.accept()
    await upstream.head()
    upstream.reader._transport.pause_reading()
    sent = 0
    while sent < 100_000_000 and client.writer.transport.get_write_buffer_size() < 4 * PIECE:
        client.send(b"x" * PIECE)
        sent += PIECE
        for _ in range(20):
            await asyncio.sleep(0)
    assert sent < 50_000_000
    (exchange,) = door.gate.in_flight
    assert exchange.bytes_in < sent
    assert door.gate.buffered.total == 0
    upstream.reader._transport.resume_reading()
    while sent < 100_000_000:
        client.send(b"x" * min(PIECE, 100_000_000 - sent))
        sent += PIECE
    async with asyncio.timeout(30):
        got = 0
        while got < 100_000_000:
            got += len(await upstream.reader.read(1 << 20))
    upstream.send(OK)
    assert (await client.message()).status == 200
