"""A client's connection: order, reuse, limits, and what happens to what is not HTTP."""

import asyncio
import json
import socket

import pytest
from proxy_harness import OK, chunked, get, post
from structlog.testing import capture_logs

from gateway.proxy.connection import FULL_READ, ClientConnection, unread
from gateway.proxy.exchange import Exchange

# ---------------------------------------------------------------- order and reuse


async def test_a_connection_serves_one_request_after_the_other(client, provider, door):
    for number in range(3):
        client.send(post(number=number))
        upstream = provider.peers[0] if provider.peers else await provider.accept()
        assert (await upstream.message()).json["number"] == number
        upstream.send(OK)
        response = await client.message()
        assert (response.status, response.header("connection")) == (200, None)
    assert provider.connections == 1
    assert len(door.gate.connections) == 1


async def test_pipelined_requests_are_answered_in_their_order(client, provider):
    client.send(post(number=0) + post(model="nobody") + post(number=2))
    upstream = await provider.accept()
    assert (await upstream.message()).json["number"] == 0
    upstream.send(OK)
    assert (await upstream.message()).json["number"] == 2, "the next goes on when the one before it is answered"
    upstream.send(OK.replace(b"{}", b"[]"))
    first, second, third = [await client.message() for _ in range(3)]
    assert (first.status, second.status, third.status) == (200, 404, 200)
    assert (first.body, second.reason, third.body) == (b"{}", "unknown_model", b"[]")


async def test_a_pipelined_request_is_judged_when_its_turn_comes(client, provider, door):
    client.send(post(number=0) + post(model="gpt-5.4-mini"))
    upstream = await provider.accept()
    await upstream.message()
    door.close_models("gpt-5.4-mini")
    upstream.send(OK)
    assert (await client.message()).status == 200
    assert (await client.message()).reason == "model_offline"
    assert provider.connections == 1


async def test_a_refusal_keeps_the_connection(client, provider, door):
    door.close_models("claude-fable-5")
    for _ in range(2):
        refused = await client.ask(post("/anthropic/v1/messages", "claude-fable-5"))
        assert (refused.status, refused.reason, refused.header("connection")) == (403, "model_offline", None)
    client.send(post())
    upstream = await provider.accept()
    await upstream.message()
    upstream.send(OK)
    assert (await client.message()).status == 200


@pytest.mark.parametrize("header", ["Connection: close", "Connection: Close, X"])
async def test_a_client_may_ask_for_the_end(client, provider, header):
    client.send(post(headers=(header,)))
    upstream = await provider.accept()
    assert (await upstream.message()).header("connection") is None
    upstream.send(OK)
    response = await client.message()
    assert response.header("connection") == "close"
    await client.ends()


async def test_bytes_may_come_one_by_one(client, provider):
    for byte in post():
        client.send(bytes([byte]))
        await client.writer.drain()
    upstream = await provider.accept()
    assert (await upstream.message()).json == {"model": "gpt-5.4"}
    for byte in OK:
        upstream.send(bytes([byte]))
        await upstream.writer.drain()
    assert (await client.message()).body == b"{}"


async def test_more_requests_ahead_than_allowed_are_refused_after_the_answers(open_door, connect, provider):
    door = await open_door(limits={"pipelined": 2})
    client = await connect(door)
    client.send(post() * 6)
    upstream = await provider.accept()
    for _ in range(3):
        await upstream.message()
        upstream.send(OK)
        assert (await client.message()).status == 200
    assert (await client.message()).status == 400
    await client.ends()


async def test_what_cannot_be_parsed_is_answered_after_what_came_before(client, provider):
    client.send(post(number=0) + post(number=1) + b"\0\0\0\0 nonsense\r\n\r\n")
    upstream = await provider.accept()
    for _ in range(2):
        await upstream.message()
        upstream.send(OK)
        assert (await client.message()).status == 200
    fault = await client.message()
    assert (fault.status, fault.reason, fault.header("connection")) == (400, "malformed", "close")
    await client.ends()


EARLY = {
    "operation": post("/openai/v1/organization"),
    "provider": post("/nobody/v1/chat/completions"),
    "credential": post(key=None),
    "encoding": post(headers=("Content-Encoding: br",)),
}


@pytest.mark.parametrize("refused", EARLY.values(), ids=EARLY)
async def test_behind_a_body_that_is_not_wanted_nothing_is_taken_up(client, provider, door, until, refused):
    """The refusal says that the connection closes: what comes behind it in the same read goes nowhere."""
    client.send(refused + post())
    response = await client.message()
    assert response.status in (404, 401, 415)
    assert response.header("connection") == "close"
    await client.ends()
    await client.close()
    await until(lambda: not door.gate.connections)
    assert (len(door.lines), door.loads, provider.connections) == (1, 1 if response.status == 415 else 0, 0)
    assert "portcullis_internal_errors_total" not in door.counts


# ---------------------------------------------------------------- what is not a request

NOT_HTTP = {
    "nonsense": b"nonsense\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 50,
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/0.9": b"GET /openai/v1/models\r\n\r\n",
    "HTTP/2.0 line": b"GET /openai/v1/models HTTP/2.0\r\nHost: gate\r\n\r\n",
    "HTTP/1.2 line": b"GET /openai/v1/models HTTP/1.2\r\nHost: gate\r\n\r\n",
    "bare line feeds": b"POST /openai/v1/chat/completions HTTP/1.1\nHost: gate\nContent-Length: 0\n\n",
    "bare carriage return": b"GET /openai/v1/models HTTP/1.1\r\nHost: gate\rX: y\r\n\r\n",
    "folded header": b"GET /openai/v1/models HTTP/1.1\r\nHost: gate\r\nX: a\r\n b\r\n\r\n",
    "blank before the colon": b"GET /openai/v1/models HTTP/1.1\r\nHost : gate\r\n\r\n",
    "NUL in a value": b"GET /openai/v1/models HTTP/1.1\r\nHost: gate\r\nX: a\0b\r\n\r\n",
    "header without a colon": b"GET /openai/v1/models HTTP/1.1\r\nHost: gate\r\nX\r\n\r\n",
    "no host": b"GET /openai/v1/models HTTP/1.1\r\n\r\n",
    "two hosts": b"GET /openai/v1/models HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "absolute form": b"GET http://gate/openai/v1/models HTTP/1.1\r\nHost: gate\r\n\r\n",
    "fragment": b"GET /openai/v1/models#x HTTP/1.1\r\nHost: gate\r\n\r\n",
    "CONNECT": b"CONNECT gate:443 HTTP/1.1\r\nHost: gate\r\n\r\n",
    "asterisk": b"OPTIONS * HTTP/1.1\r\nHost: gate\r\n\r\n",
    "encoded path": b"GET /openai/v1/%6dodels HTTP/1.1\r\nHost: gate\r\n\r\n",
    "length and chunks": post(headers=("Transfer-Encoding: chunked",)),
    "two lengths": post(headers=("Content-Length: 20",)),
    "signed length": b'POST /openai/v1/chat/completions HTTP/1.1\r\nHost: gate\r\nContent-Length: +5\r\n\r\n{"a":',
    "gzip, chunked": b"POST /x HTTP/1.1\r\nHost: gate\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked, gzip": b"POST /x HTTP/1.1\r\nHost: gate\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "chunked in HTTP/1.0": b"POST /x HTTP/1.0\r\nHost: gate\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "method override": get("/openai/v1/models", "X-HTTP-Method-Override: DELETE"),
    "model header": post(headers=("azureml-model-deployment: K",)),
}  # fmt: skip


@pytest.mark.parametrize("data", NOT_HTTP.values(), ids=NOT_HTTP)
async def test_what_is_not_plain_http_is_refused_and_closed(client, provider, door, data):
    refused = await client.ask(data)
    assert (refused.status, refused.reason, refused.header("connection")) == (400, "malformed", "close")
    assert refused.header("x-should-retry") == "false"
    assert refused.json["error"]["portcullis"]["reason"] == "malformed"
    await client.ends()
    assert provider.connections == 0
    assert "portcullis_internal_errors_total" not in door.counts


BAD_BODIES = {
    "chunk size": b"x\r\n",
    "signed chunk size": b"+2\r\n{}\r\n0\r\n\r\n",
    "blank chunk size": b" 2\r\n{}\r\n0\r\n\r\n",
    "chunk longer than its size": b"2\r\n{}}\r\n0\r\n\r\n",
    "bare line feed after a chunk": b"2\r\n{}\n0\r\n\r\n",
    "huge chunk size": b"fffffffffffffffff\r\n",
}


@pytest.mark.parametrize("data", BAD_BODIES.values(), ids=BAD_BODIES)
async def test_a_body_that_cannot_be_parsed_is_refused(client, provider, data):
    client.send(
        b"POST /openai/v1/chat/completions HTTP/1.1\r\nHost: gate\r\nContent-Type: application/json\r\n"
        b"Authorization: Bearer pc-alice\r\nTransfer-Encoding: chunked\r\n\r\n" + data
    )
    refused = await client.message()
    assert (refused.status, refused.reason, refused.header("connection")) == (400, "malformed", "close")
    await client.ends()
    assert provider.connections == 0


# ---------------------------------------------------------------- limits


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"a" * 2000 + b" HTTP/1.1\r\nHost: gate\r\n\r\n",
        b"GET /" + b"a" * 2000,
        b"GET /x HTTP/1.1\r\nHost: gate\r\nX: " + b"a" * 2000 + b"\r\n\r\n",
        b"GET /x HTTP/1.1\r\nHost: gate\r\nX: " + b"a" * 2000,
        b"GET /x HTTP/1.1\r\nHost: gate\r\n" + b"X: y\r\n" * 300 + b"\r\n",
        b"GET /x HTTP/1.1\r\nHost: gate\r\n" + b"X: y\r\n" * 11 + b"\r\n",
        b"GET /x HTTP/1.1\r\nHost: gate\r\n" + b"X: y\r\n" * 11,
    ],
)
async def test_a_large_head_is_refused(open_door, connect, head):
    door = await open_door(limits={"head_bytes": 1000, "header_count": 10})
    client = await connect(door)
    refused = await client.ask(head)
    assert (refused.status, refused.reason) == (431, "malformed")
    await client.ends()


async def test_a_large_head_that_comes_slowly_is_refused_as_well(open_door, connect):
    door = await open_door(limits={"head_bytes": 1000})
    client = await connect(door)
    client.send(b"GET /x HTTP/1.1\r\n")
    for _ in range(100):
        client.send(b"X-Y: " + b"z" * 20 + b"\r\n")
        await client.writer.drain()
    assert (await client.message()).status == 431


async def test_many_small_requests_are_no_large_head(open_door, connect, provider):
    door = await open_door(limits={"head_bytes": 1000})
    client = await connect(door)
    for _ in range(30):
        assert (await client.ask(get("/openai/v1/nothing"))).status == 404


@pytest.mark.parametrize("pieces", [[b"x" * 2000], [b"x" * 500] * 4])
@pytest.mark.parametrize("chunks", [False, True])
async def test_a_large_body_is_refused_before_a_byte_goes_on(open_door, connect, provider, pieces, chunks):
    door = await open_door(limits={"body_bytes": 1000})
    client = await connect(door)
    framing = "Transfer-Encoding: chunked" if chunks else "Content-Length: 2000"
    client.send(
        f"POST /openai/v1/chat/completions HTTP/1.1\r\nHost: gate\r\nContent-Type: application/json\r\nAuthorization: Bearer pc-alice\r\n{framing}\r\n\r\n".encode()
    )  # fmt: skip
    for piece in pieces:
        client.send(chunked(piece) if chunks else piece)
    refused = await client.message()
    assert (refused.status, refused.reason, refused.header("connection")) == (413, "malformed", "close")
    await client.ends()
    assert provider.connections == 0


async def test_too_many_connections_are_closed_at_once(open_door, connect, until):
    door = await open_door(limits={"connections": 1})
    first = await connect(door)
    assert (await first.ask(get("/nowhere"))).status == 404
    second = await connect(door)
    assert await second.is_reset()
    assert (await first.ask(get("/nowhere"))).status == 404
    await first.close()
    await until(lambda: not door.gate.connections)
    third = await connect(door)
    assert (await third.ask(get("/nowhere"))).status == 404


async def test_what_is_still_sent_after_a_refusal_is_read_a_while_and_then_cut(client, door, until):
    client.send(post("/nowhere").partition(b"{")[0])
    assert (await client.message()).status == 404
    client.send(b"x" * 5_000_000)
    await until(lambda: not door.gate.connections)


# ---------------------------------------------------------------- time


def overdue(door):
    """Let every deadline pass that is set."""
    for connection in list(door.gate.connections):
        assert connection.deadline < float("inf"), "there is no deadline at all"
        connection.timed_out()


async def reached(until, door, condition):
    await until(lambda: any(condition(connection) for connection in door.gate.connections))


async def test_an_idle_connection_ends(client, door):
    await client.ask(get("/nowhere"))
    overdue(door)
    await client.ends()


async def test_a_connection_that_never_asks_ends(client, door, until):
    await until(lambda: door.gate.connections)
    overdue(door)
    await client.ends()


async def test_a_slow_head_is_refused(client, door, until):
    client.send(b"GET /x HTTP/1.1\r\nHos")
    await reached(until, door, lambda connection: connection._in_head)
    overdue(door)
    refused = await client.message()
    assert (refused.status, refused.reason) == (408, "malformed")
    await client.ends()


async def test_a_slow_body_is_refused(client, door, until, provider):
    client.send(post()[:-5])
    await reached(until, door, lambda connection: connection._reading)
    overdue(door)
    refused = await client.message()
    assert (refused.status, refused.reason) == (408, "malformed")
    assert refused.json["error"]["code"] == "malformed", "in the dialect's shape: the operation is known"
    await client.ends()
    assert provider.connections == 0


async def test_a_slow_head_behind_another_request_has_a_deadline_too(client, door, until, provider):
    client.send(post())
    upstream = await provider.accept()
    await upstream.message()
    client.send(b"GET /x HT")
    await reached(until, door, lambda connection: connection._in_head)
    upstream.send(OK)
    assert (await client.message()).status == 200
    overdue(door)
    assert (await client.message()).status == 408


async def test_waiting_for_the_provider_has_no_deadline_on_the_clients_side(client, door, provider):
    client.send(post())
    await (await provider.accept()).message()
    assert [connection.deadline for connection in door.gate.connections] == [float("inf")]


async def test_an_upgrade_changes_nothing_about_that(client, door, provider):
    client.send(post(headers=("Connection: Upgrade", "Upgrade: h2c")))
    await (await provider.accept()).message()
    assert [connection.deadline for connection in door.gate.connections] == [float("inf")]


async def test_a_refused_client_that_stays_is_cut(client, door):
    client.send(b"nonsense\r\n\r\n")
    await client.message()
    overdue(door)
    await client.ends()
    assert door.gate.connections == set()


# ---------------------------------------------------------------- dialects of HTTP


async def test_expect_100_continue(client, provider):
    request = post(headers=("Expect: 100-continue",))
    head, _, body = request.partition(b"\r\n\r\n")
    client.send(head + b"\r\n\r\n")
    assert (await client.head()).start == b"HTTP/1.1 100 Continue"
    client.send(body)
    upstream = await provider.accept()
    assert (await upstream.message()).header("expect") is None
    upstream.send(OK)
    assert (await client.message()).status == 200


async def test_a_refused_head_gets_no_100_continue(client, provider):
    request = post("/openai/v1/organization", headers=("Expect: 100-continue",))
    client.send(request.partition(b"\r\n\r\n")[0] + b"\r\n\r\n")
    refused = await client.message()
    assert (refused.status, refused.header("connection")) == (404, "close")
    await client.ends()


async def test_http_1_0_never_gets_100_continue(client, provider):
    """RFC 9110 §10.1.1."""
    request = post(version="1.0", headers=("Expect: 100-continue",))
    head, _, body = request.partition(b"\r\n\r\n")
    client.send(head + b"\r\n\r\n")
    client.send(body)
    upstream = await provider.accept()
    await upstream.message()
    upstream.send(OK)
    assert (await client.message()).status == 200


async def test_http_1_0_ends_with_its_answer(client, provider):
    client.send(post(version="1.0"))
    upstream = await provider.accept()
    assert (await upstream.message()).start.endswith(b"HTTP/1.1")
    upstream.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + chunked(b"one", b"two") + b"0\r\n\r\n")
    response = await client.message()
    assert (response.header("transfer-encoding"), response.header("connection")) == (None, "close")
    assert await client.rest() == b"onetwo"


async def test_head_requests_get_a_head_alone(client):
    client.send(b"HEAD /openai/v1/models HTTP/1.1\r\nHost: gate\r\n\r\n" + get("/nowhere"))
    head = await client.head()
    assert (head.status, head.reason) == (404, "operation_not_listed")
    assert int(head.header("content-length")) > 0
    assert (await client.message()).status == 404, "the next answer follows at once: there was no body"


@pytest.mark.parametrize("protocol", ["h2c", "websocket", "TLS/1.0", "h2c, websocket"])
async def test_an_upgrade_is_ignored_and_the_body_decided_upon(client, provider, door, protocol):
    door.close_models("gpt-5.4-mini")
    headers = ("Connection: Upgrade, HTTP2-Settings", f"Upgrade: {protocol}", "HTTP2-Settings: AAMAAABkAAQ")
    refused = await client.ask(post(model="gpt-5.4-mini", headers=headers))
    assert (refused.status, refused.reason) == (403, "model_offline")
    client.send(post(headers=headers) + post(number=2))
    upstream = await provider.accept()
    for _ in range(2):
        request = await upstream.message()
        assert (request.header("upgrade"), request.header("http2-settings")) == (None, None)
        upstream.send(OK)
        assert (await client.message()).status == 200


async def test_a_get_may_ask_for_an_upgrade_in_vain(client):
    upgrade = get("/openai/v1/completions", "Connection: Upgrade", "Upgrade: websocket")
    assert (await client.ask(upgrade + get("/nowhere"))).status == 404
    assert (await client.message()).status == 404


async def test_a_chunked_body_goes_on_with_its_length(client, provider):
    client.send(
        b"POST /openai/v1/chat/completions HTTP/1.1\r\nHost: gate\r\nContent-Type: application/json\r\n"
        b"Authorization: Bearer pc-alice\r\nTransfer-Encoding: chunked\r\nTrailer: X-Late\r\n\r\n"
        + chunked(b'{"model":', b'"gpt-5.4"}')
        + b"0\r\nX-Late: 1\r\nPortcullis-Key: x\r\n\r\n"
    )
    upstream = await provider.accept()
    request = await upstream.message()
    assert request.header("content-length") == "19"
    assert request.header("transfer-encoding") is None
    assert (request.header("trailer"), request.header("x-late")) == (None, None)
    assert request.json == {"model": "gpt-5.4"}
    upstream.send(OK)
    assert (await client.message()).status == 200


async def test_chunk_extensions_are_not_passed_on(client, provider):
    client.send(
        b"POST /openai/v1/chat/completions HTTP/1.1\r\nHost: gate\r\nContent-Type: application/json\r\n"
        b"Authorization: Bearer pc-alice\r\nTransfer-Encoding: chunked\r\n\r\n"
        b'13;a="model:K"\r\n{"model":"gpt-5.4"}\r\n0;x\r\n\r\n'
    )
    upstream = await provider.accept()
    assert (await upstream.message()).body == b'{"model":"gpt-5.4"}'


# ---------------------------------------------------------------- ends


async def test_a_client_that_leaves_ends_the_providers_work(client, provider, door, until):
    client.send(post())
    upstream = await provider.accept()
    await upstream.message()
    client.reset()
    assert await upstream.is_reset()
    await until(lambda: door.lines)
    assert (door.lines[0]["status"], door.lines[0]["decision"]) == (499, "permit")
    assert not door.gate.in_flight


async def test_a_client_that_half_closes_has_left(client, provider, door, until):
    """As for nginx and Envoy: one that waits looks like one that is gone, and a model that goes on for nobody costs."""
    client.send(post())
    upstream = await provider.accept()
    await upstream.message()
    client.eof()
    assert await upstream.is_reset()
    await client.ends()
    assert [line["status"] for line in door.lines] == [499]


async def test_a_last_answer_survives_what_the_client_sends_behind_it(client, door, until):
    """RFC 9112 §9.6: a close with bytes unread would reset the answer away."""
    client.send(get("/nowhere", "Connection: close"))
    await until(lambda: any(connection._drained is not None for connection in door.gate.connections))
    client.send(get("/nowhere") * 100)
    assert (await client.message()).status == 404
    await client.ends()
    assert len(door.lines) == 1


async def test_no_100_continue_for_a_caller_that_nobody_knows(client, door):
    request = post(key="pc-mallory", headers=("Expect: 100-continue",))
    client.send(request.partition(b"\r\n\r\n")[0] + b"\r\n\r\n")
    refused = await client.message()
    assert (refused.status, refused.header("connection")) == (401, "close")


async def test_a_client_that_leaves_while_it_waits_for_a_connection(door, connect, provider, until, monkeypatch):
    pool = door.gate.providers["openai"].pool
    waiting, really_connect = [], pool.connect
    monkeypatch.setattr(pool, "connect", waiting.append)
    client = await connect(door)
    client.send(post())
    await until(lambda: waiting)
    client.reset()
    await until(lambda: not door.gate.in_flight)
    really_connect(waiting.pop())
    upstream = await provider.accept()
    await until(lambda: pool._idle)
    again = await connect(door)
    again.send(post())
    assert (await upstream.message()).json == {"model": "gpt-5.4"}, "the connection it asked for serves another"


async def test_leaving_closes_idle_connections_and_lets_the_busy_end(door, connect, provider, until):
    idle, busy = await connect(door), await connect(door)
    await idle.ask(get("/nowhere"))
    busy.send(post())
    upstream = await provider.accept()
    await upstream.message()
    door.gate.stop()
    await idle.ends()
    assert len(door.gate.connections) == 1
    upstream.send(OK)
    response = await busy.message()
    assert (response.status, response.header("connection")) == (200, "close")
    await busy.ends()
    await busy.close()
    await until(lambda: not door.gate.connections)


async def test_whoever_asks_a_leaving_gateway_is_told_that_the_connection_closes(door, client):
    assert (await client.ask(get("/nowhere"))).header("connection") is None
    door.gate.drain()
    response = await client.ask(get("/nowhere"))
    assert (response.status, response.header("connection")) == (404, "close")
    await client.ends()


async def test_requests_that_came_together_are_all_answered_by_a_leaving_gateway(door, client, provider):
    client.send(post(number=0) + post(number=1) + get("/nowhere"))
    upstream = await provider.accept()
    await upstream.message()
    door.gate.stop()
    upstream.send(OK)
    await upstream.message()
    upstream.send(OK)
    assert [(await client.message()).header("connection") for _ in range(3)] == [None, None, "close"]
    await client.ends()


async def test_what_a_response_promised_before_leaving_is_kept(door, client, provider):
    client.send(post())
    upstream = await provider.accept()
    await upstream.message()
    upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{")
    await client.head()
    door.gate.stop()
    client.send(get("/nowhere"))
    upstream.send(b"}")
    assert (await client.exactly(2)) == b"{}"
    assert (await client.message()).header("connection") == "close"


async def test_a_request_that_has_come_is_read_before_an_idle_connection_closes(door, client):
    await client.ask(get("/nowhere"))
    (connection,) = door.gate.connections
    connection.transport.pause_reading()
    client.send(get("/nowhere"))
    async with asyncio.timeout(5):
        while not unread(connection.transport):
            await asyncio.sleep(0.001)
    door.gate.stop()
    connection.timed_out()
    connection.transport.resume_reading()
    assert (await client.message()).header("connection") == "close"
    await client.ends()


async def test_closing_cuts_what_is_left(door, client, provider):
    client.send(post())
    await (await provider.accept()).message()
    door.gate.close()
    assert await client.is_reset() or door.lines[0]["reason"] == "overloaded"


async def test_a_failure_of_the_gateway_closes_the_door_and_is_counted(client, provider, door, connect, monkeypatch):
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(door.gate.snapshot, "decide", broken)
    with capture_logs() as logged:
        refused = await client.ask(post() + post())
        assert (refused.status, refused.reason, refused.header("connection")) == (500, "internal", "close")
        await client.ends()
        again = await connect(door)
        assert (await again.ask(post())).status == 500, "the caller is known now, and it fails on another way"
        await again.ends()
    assert [line["event"] for line in logged] == ["internal_error"] * 2
    assert door.counts["portcullis_internal_errors_total"] == 2
    assert provider.connections == 0
    assert not door.gate.in_flight


async def test_a_body_in_chunks_of_one_byte_is_passed_on_once_per_read(client, door, provider, monkeypatch):
    """A read may bring forty thousand of them; what is done for each holds everybody up."""
    pieces = []
    body_piece = Exchange.body_piece
    monkeypatch.setattr(Exchange, "body_piece", lambda self, data: (pieces.append(data), body_piece(self, data)))
    body = json.dumps({"model": "gpt-5.4", "x": "y" * 5000}).encode()
    head = post(body=b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    client.send(head + chunked(*(bytes([byte]) for byte in body)) + b"0\r\n\r\n" + post())
    upstream = await provider.accept()
    assert (await upstream.message()).body == body
    assert len(pieces) < 20
    upstream.send(OK)
    assert (await client.message()).status == 200
    assert json.loads((await upstream.message()).body) == {"model": "gpt-5.4"}


async def test_a_body_in_too_many_tiny_chunks_is_refused(client, door, provider):
    head = post(body=b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    client.send(head + b"1\r\n \r\n" * 10_001)
    refused = await client.message()
    assert (refused.status, refused.reason) == (400, "malformed")
    assert provider.connections == 0


async def test_uploads_take_turns_with_one_full_read_each(door, monkeypatch):
    """Two clients have sent a megabyte before anybody looks; neither is read to the end before the other."""
    reads = []
    feed = ClientConnection._feed
    monkeypatch.setattr(ClientConnection, "_feed", lambda self, data: (reads.append(self), feed(self, data)))
    with socket.socket() as first, socket.socket() as second:
        for sock in (first, second):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
            sock.setblocking(False)
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", door.port))
        await _until(lambda: len(door.gate.connections) == 2)
        for connection in door.gate.connections:  # as the kernel makes it by itself for a long upload
            connection.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        whole = post(body=b" " * (8 << 20))
        assert min(sock.send(whole) for sock in (first, second)) > 3 * FULL_READ
        await _until(lambda: len(reads) >= 4)
    assert len(set(reads[:2])) == 2, "after one read it is the other's turn"
    assert len(set(reads[2:4])) == 2


async def test_a_body_that_drips_is_refused_though_it_is_never_silent(open_door, connect, provider, monkeypatch):
    door = await open_door(timeouts={"body": 30}, limits={"body_bytes_per_second": 10})
    client = await connect(door)
    clock = door.gate.now()
    monkeypatch.setattr(door.gate, "now", lambda: clock)
    client.send(post(body=b" " * 1000)[:-999])
    (connection,) = await _connections(door)
    sent = 0
    while connection.deadline >= clock:
        sent += 1
        clock += 2
        before = connection.deadline
        client.send(b" ")
        await _until(lambda before=before: connection.deadline != before)
    assert 16 <= sent <= 18, "thirty seconds, and a tenth of one for each byte"
    connection.timed_out()
    assert (await client.message()).status == 408
    assert provider.connections == 0


async def _until(condition) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


async def _connections(door) -> list:
    await _until(lambda: any(connection._reading for connection in door.gate.connections))
    return list(door.gate.connections)
