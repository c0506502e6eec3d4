"""The provider's side: what counts as an answer, what is tried again, what is cut."""

import asyncio
import contextlib

import pytest
from proxy_harness import OK, STREAM, Door, chunked, get, post

from gateway.proxy.exchange import Exchange


async def asked(client, provider, request: bytes | None = None):
    """Send a request; the provider's connection, with the request read."""
    client.send(request or post())
    upstream = await provider.accept()
    await upstream.message()
    return upstream


def failures(door: Door) -> dict[str, float]:
    return {
        labels[1]: value
        for name, labels, value in door.gate.counters.samples()
        if name == "portcullis_upstream_failures_total"
    }


# ---------------------------------------------------------------- interim responses


async def test_interim_responses_are_swallowed(client, provider):
    upstream = await asked(client, provider)
    upstream.send(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n")
    upstream.send(b"HTTP/1.1 102 Processing\r\n\r\n" + OK)
    response = await client.message()
    assert (response.status, response.header("link")) == (200, None)
    client.send(post())
    assert (await upstream.message()).json == {"model": "gpt-5.4"}, "the connection is in order"
    upstream.send(OK)
    assert (await client.message()).status == 200


async def test_nobody_asked_to_switch_protocols(client, provider, door):
    upstream = await asked(client, provider)
    upstream.send(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\nxyz")
    refused = await client.message()
    assert (refused.status, refused.reason) == (502, "upstream_unreachable")
    assert failures(door) == {"invalid_response": 1}


# ---------------------------------------------------------------- ends of responses


async def test_a_response_may_end_with_its_connection(client, provider):
    upstream = await asked(client, provider)
    upstream.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\none")
    head = await client.head()
    assert head.header("transfer-encoding") == "chunked"
    assert await client.chunk() == b"one"
    upstream.send(b"two")
    assert await client.chunk() == b"two"
    await upstream.close()
    assert await client.chunk() == b""
    assert (await client.ask(get("/nowhere"))).status == 404


async def test_such_a_connection_is_not_used_again(client, provider):
    upstream = await asked(client, provider)
    upstream.send(b"HTTP/1.0 200 OK\r\n\r\nx")
    await upstream.close()
    assert (await client.message()).body == b"x"
    await asked(client, provider)
    assert provider.connections == 2


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}",
        b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\n{}",
        OK + OK,
        OK + b"nonsense",
        OK + b"HTTP/1.1 500",
    ],
)
async def test_a_connection_with_a_doubtful_end_is_not_used_again(client, provider, answer, until, door):
    upstream = await asked(client, provider)
    upstream.send(answer)
    response = await client.message()
    assert (response.status, response.body) == (200, b"{}")
    await until(lambda: not door.gate.providers["openai"].pool.open)
    second = await asked(client, provider)
    second.send(OK)
    assert (await client.message()).status == 200
    assert provider.connections == 2


async def test_what_nobody_asked_for_closes_an_idle_connection(client, provider, door, until):
    upstream = await asked(client, provider)
    upstream.send(OK)
    await client.message()
    upstream.send(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged")
    await until(lambda: not door.gate.providers["openai"].pool.open)
    second = await asked(client, provider)
    second.send(OK)
    assert (await client.message()).body == b"{}"


CUT = [
    b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nhalf",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\n",
]


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("answer", CUT)
async def test_a_truncated_response_never_looks_complete(client, provider, door, answer, how, until):
    upstream = await asked(client, provider)
    upstream.send(answer)
    head = await client.head()
    is_chunked = head.header("transfer-encoding") == "chunked"
    assert (await client.chunk() if is_chunked else await client.exactly(4)) == b"half"
    if how == "close":
        await upstream.close()
    else:
        upstream.reset()
    if is_chunked:
        await client.ends()  # without the last chunk
    else:
        assert await client.is_reset()
    assert failures(door) == {"closed": 1}
    assert not door.gate.in_flight


async def test_a_truncated_response_to_http_1_0_is_reset(client, provider):
    upstream = await asked(client, provider, post(version="1.0"))
    upstream.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n")
    await client.head()
    assert await client.exactly(4) == b"half"
    await upstream.close()
    assert await client.is_reset(), "an orderly end would make it complete"


# ---------------------------------------------------------------- what is no answer

NO_ANSWER = {
    "nonsense": b"nonsense\r\n\r\n",
    "HTTP/2": b"HTTP/2 200\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n{}",
    "length and chunks": b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "bad length": b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n{}",
    "NUL in a header": b"HTTP/1.1 200 OK\r\nx: a\0b\r\n\r\n",
    "header without a name": b"HTTP/1.1 200 OK\r\n: x\r\n\r\n",
    "bad chunk at once": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n",
}


@pytest.mark.parametrize("answer", NO_ANSWER.values(), ids=NO_ANSWER)
async def test_what_is_no_http_is_a_failure_of_the_provider(client, provider, door, answer):
    upstream = await asked(client, provider)
    upstream.send(answer)
    refused = await client.message()
    assert (refused.status, refused.reason) == (502, "upstream_unreachable")
    assert failures(door) == {"invalid_response": 1}
    assert await upstream.is_reset()
    assert (await client.ask(get("/nowhere"))).status == 404, "the client's connection is sane"


async def test_a_bad_chunk_within_a_stream_cuts_it(client, provider, door):
    upstream = await asked(client, provider)
    upstream.send(STREAM + chunked(b"data: 1\n\n"))
    await client.head()
    assert await client.chunk() == b"data: 1\n\n"
    upstream.send(b"xyz\r\n")
    await client.ends()
    assert failures(door) == {"invalid_response": 1}


async def test_a_large_response_head_is_refused(open_door, connect, provider):
    door = await open_door(limits={"response_head_bytes": 1000})
    client = await connect(door)
    upstream = await asked(client, provider)
    upstream.send(b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 500)
    refused = await client.message()
    assert (refused.status, refused.reason) == (502, "upstream_unreachable")
    assert failures(door) == {"response_head_too_large": 1}


async def test_a_long_body_is_no_large_head(open_door, connect, provider):
    door = await open_door(limits={"response_head_bytes": 1000})
    client = await connect(door)
    upstream = await asked(client, provider)
    upstream.send(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n" + b"x" * 100_000)
    assert len((await client.message()).body) == 100_000


# ---------------------------------------------------------------- no answer at all


async def test_a_provider_that_is_not_there(client, door):
    refused = await client.ask(get("/closed/v1/batches"))
    assert (refused.status, refused.reason) == (502, "upstream_unreachable")
    assert refused.header("retry-after") is None
    assert failures(door) == {"connect_failed": 1}


async def test_a_connection_that_takes_too_long(open_door, connect, monkeypatch):
    door = await open_door(timeouts={"connect": 0.01})
    client = await connect(door)

    async def never(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(door.gate.providers["openai"].pool._dialler, "open", never)
    refused = await client.ask(post())
    assert (refused.status, refused.reason) == (504, "upstream_timeout")
    assert failures(door) == {"connect_timeout": 1}


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_new_connection_that_dies_is_not_tried_again(client, provider, door, how):
    upstream = await asked(client, provider)
    await upstream.close() if how == "close" else upstream.reset()
    refused = await client.message()
    assert (refused.status, refused.reason) == (502, "upstream_unreachable")
    assert provider.connections == 1
    assert failures(door) == {"closed": 1}


async def test_a_provider_that_stays_silent(client, provider, door):
    upstream = await asked(client, provider)
    (connection,) = door.gate.providers["openai"].pool.open
    assert connection.deadline == pytest.approx(door.gate.now() + 600, abs=5)
    door.gate.providers["openai"].pool.sweep(connection.deadline + 1)
    refused = await client.message()
    assert (refused.status, refused.reason) == (504, "upstream_timeout")
    assert await upstream.is_reset()


async def test_a_provider_that_falls_silent_in_the_middle(client, provider, door):
    upstream = await asked(client, provider)
    upstream.send(STREAM + chunked(b"data: 1\n\n"))
    await client.head()
    await client.chunk()
    (connection,) = door.gate.providers["openai"].pool.open
    assert connection.deadline == pytest.approx(door.gate.now() + 300, abs=5)
    door.gate.providers["openai"].pool.sweep(connection.deadline + 1)
    await client.ends()
    assert failures(door) == {"timeout": 1}


# ---------------------------------------------------------------- reuse


async def used_once(client, provider):
    upstream = await asked(client, provider)
    upstream.send(OK)
    assert (await client.message()).status == 200
    return upstream


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_an_idle_connection_that_died_in_use_is_replaced_once(client, provider, door, how):
    upstream = await used_once(client, provider)
    client.send(post(number=2))
    await upstream.message()
    await upstream.close() if how == "close" else upstream.reset()
    second = await provider.accept()
    assert (await second.message()).json["number"] == 2
    second.send(OK)
    assert (await client.message()).status == 200
    assert failures(door) == {}


async def test_it_is_replaced_as_well_when_the_response_before_had_its_end_in_a_read_of_its_own(
    client, provider, door, until
):
    upstream = await asked(client, provider)
    upstream.send(STREAM + chunked(b"data: 1\n\n"))
    await client.head()
    await client.chunk()
    upstream.send(b"0\r\n\r\n")
    assert await client.chunk() == b""
    client.send(post(number=2))
    await upstream.message()
    await upstream.close()
    second = await provider.accept()
    assert (await second.message()).json["number"] == 2
    second.send(OK)
    assert (await client.message()).status == 200
    assert failures(door) == {}


async def test_it_is_not_replaced_twice(client, provider):
    upstream = await used_once(client, provider)
    client.send(post())
    await upstream.message()
    await upstream.close()
    second = await provider.accept()
    await second.message()
    await second.close()
    assert (await client.message()).status == 502
    assert provider.connections == 2


@pytest.mark.parametrize("begun", [b"H", b"HTTP/1.1 100 Continue\r\n\r\n"])
async def test_it_is_not_replaced_when_an_answer_has_begun(client, provider, begun, door, until):
    upstream = await used_once(client, provider)
    (connection,) = door.gate.providers["openai"].pool.open
    client.send(post())
    await upstream.message()
    upstream.send(begun)
    await until(lambda: connection._head_bytes)
    await upstream.close()
    assert (await client.message()).status == 502
    assert provider.connections == 1


async def test_the_policy_is_asked_before_it_is_replaced(client, provider, door, until, monkeypatch):
    upstream = await used_once(client, provider)
    pool = door.gate.providers["openai"].pool
    waiting, really_connect = [], pool.connect
    monkeypatch.setattr(pool, "connect", waiting.append)
    client.send(post())
    await upstream.message()
    await upstream.close()
    await until(lambda: waiting)
    door.close_models("gpt-5.4")
    refused = await client.message()
    assert refused.reason == "model_offline"
    really_connect(waiting.pop())
    await until(lambda: pool._idle)
    assert (await provider.accept()).reader._buffer == b""


async def test_an_idle_connection_that_closed_is_forgotten(client, provider, door, until):
    upstream = await used_once(client, provider)
    await upstream.close()
    await until(lambda: not door.gate.providers["openai"].pool.open)
    assert not door.gate.providers["openai"].pool._idle
    await used_once(client, provider)


async def test_an_idle_connection_does_not_stay_for_ever(client, provider, door):
    upstream = await used_once(client, provider)
    pool = door.gate.providers["openai"].pool
    pool.sweep(door.gate.now() + 29)
    assert pool.open
    pool.sweep(door.gate.now() + 31)
    assert not pool.open
    assert await upstream.is_reset()


async def test_a_provider_has_only_so_many_connections(open_door, connect, provider, door):
    door = await open_door(limits={"upstream_connections": 1, "upstream_queue": 0})
    first, second = await connect(door), await connect(door)
    upstream = await asked(first, provider)
    refused = await second.ask(post())
    assert (refused.status, refused.reason, refused.header("retry-after")) == (503, "overloaded", "2")
    upstream.send(OK)
    await first.message()
    second.send(post())
    await upstream.message()
    upstream.send(OK)
    assert (await second.message()).status == 200


async def test_a_new_connection_that_is_closing_when_it_is_taken_up_is_a_failure(client, door, monkeypatch):
    """The provider spoke before it was asked: the connection is gone before the request can be written."""
    pool = door.gate.providers["openai"].pool
    really_connected = Exchange.connected

    def too_late(exchange, upstream):
        upstream.buffer_updated(0)
        really_connected(exchange, upstream)

    monkeypatch.setattr(Exchange, "connected", too_late)
    refused = await client.ask(post())
    assert (refused.status, refused.reason) == (502, "upstream_unreachable")
    assert failures(door) == {"closed": 1}
    assert not pool.open


# ---------------------------------------------------------------- uploads


async def test_an_early_answer_ends_the_upload(client, provider, door, until):
    """The provider answers before it has read the body: the answer goes on, the rest of the body does not."""
    body = b'{"model":"gpt-5.4","x":"' + b"y" * 20_000_000 + b'"}'
    client.send(post(body=body))
    upstream = await provider.accept()
    await upstream.head()
    upstream.send(b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\n{}")
    response = await client.message()
    assert (response.status, response.body) == (413, b"{}")
    await until(lambda: not door.gate.providers["openai"].pool.open)
    with contextlib.suppress(ConnectionResetError):
        assert len(await upstream.rest()) < len(body)
    assert (await client.ask(get("/nowhere"))).status == 404


async def test_a_large_upload_looks_at_the_lease_between_its_pieces(client, provider, door, until):
    body = b'{"model":"gpt-5.4","x":"' + b"y" * 20_000_000 + b'"}'
    client.send(post(body=body))
    upstream = await provider.accept()
    await upstream.head()
    await until(lambda: any(u._paused for u in door.gate.providers["openai"].pool.open))
    door.end_lease()
    assert await upstream.is_reset(), "the rest of the body did not come"
    refused = await client.message()
    assert (refused.status, refused.reason) == (503, "policy_stale")


async def test_a_large_upload_arrives_whole(client, provider):
    body = b'{"model":"gpt-5.4","x":"' + b"y" * 5_000_000 + b'"}'
    client.send(post(body=body))
    upstream = await provider.accept()
    assert (await upstream.message()).body == body
    upstream.send(OK)
    assert (await client.message()).status == 200
    client.send(post())
    await upstream.message()
