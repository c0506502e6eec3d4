"""Cutting what is in flight: upstream at once, the client as far as it can be told."""

import json

import pytest
from proxy_harness import LIST, OK, STREAM, chunked, get, post
from samples import document

from gateway.identity.directory import UNKNOWN
from gateway.identity.keys import fingerprint
from gateway.policy.caller import Caller, Facts, Kind
from gateway.proxy.connection import ClientConnection

EVENT = b'data: {"n": 1}\n\n'


async def streaming(client, provider, request: bytes | None = None, *events: bytes):
    """A stream whose head, and events if any, have reached the client."""
    client.send(request or post(stream=True))
    upstream = await provider.accept()
    await upstream.message()
    upstream.send(STREAM)
    await client.head()
    for event in events:
        upstream.send(chunked(event))
        assert await client.chunk() == event
    return upstream


async def severed(client, provider, door, *events: bytes, request: bytes | None = None):
    """The same, and then the model is closed."""
    upstream = await streaming(client, provider, request, *events)
    door.close_models("gpt-5.4", "claude-fable-5")
    return upstream


# ---------------------------------------------------------------- by how far it has come


async def test_waiting_for_the_first_byte_it_is_refused(client, provider, door):
    client.send(post())
    upstream = await provider.accept()
    await upstream.message()
    door.close_models("gpt-5.4")
    refused = await client.message()
    assert (refused.status, refused.reason, refused.header("connection")) == (403, "model_offline", None)
    assert await upstream.is_reset()
    assert (await client.ask(get("/nowhere"))).status == 404
    assert (door.replica.streams_cut, door.lines[0]["severed"]) == (1, True)
    assert not door.gate.in_flight


async def test_an_interim_response_makes_no_difference(client, provider, door, until):
    client.send(post())
    upstream = await provider.accept()
    await upstream.message()
    upstream.send(b"HTTP/1.1 103 Early Hints\r\n\r\n")
    await until(lambda: any(u._head_bytes for u in door.gate.providers["openai"].pool.open))
    door.close_models("gpt-5.4")
    assert (await client.message()).reason == "model_offline"


async def test_at_an_events_end_it_gets_an_error_event_and_no_end(client, provider, door):
    upstream = await severed(client, provider, door, EVENT)
    event = await client.chunk()
    assert event.startswith(b"data: ")
    assert json.loads(event.removeprefix(b"data: "))["error"]["portcullis"]["reason"] == "model_offline"
    await client.ends()  # and no last chunk, so that it cannot be taken for complete
    assert await upstream.is_reset()
    assert (door.lines[0]["severed"], door.lines[0]["reason"], door.lines[0]["status"]) == (True, "model_offline", 200)


async def test_before_the_first_event_too(client, provider, door):
    await severed(client, provider, door)
    assert b"model_offline" in await client.chunk()
    await client.ends()


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\r\r"])
async def test_any_line_end_ends_an_event(client, provider, door, end):
    await severed(client, provider, door, b"data: 1" + end)
    assert b"model_offline" in await client.chunk()


async def test_an_events_end_may_come_in_pieces(client, provider, door):
    await severed(client, provider, door, b"data: 1\r\n", b"\r", b"\n")
    assert b"model_offline" in await client.chunk()


@pytest.mark.parametrize("events", [(b"data: 1",), (b"data: 1\n",), (EVENT, b"da"), (b"data: 1\r\n",), (EVENT, b":")])
async def test_within_an_event_it_is_reset(client, provider, door, events):
    await severed(client, provider, door, *events)
    assert await client.is_reset()
    assert door.lines[0]["severed"]


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n" + chunked(b"{}\n\n"),
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{}\n\n",
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 99\r\n\r\n{}\n\n",
    ],
)
async def test_what_is_no_chunked_event_stream_is_reset(client, provider, door, head):
    client.send(post())
    upstream = await provider.accept()
    await upstream.message()
    upstream.send(head)
    await client.head()
    await client.reader.readuntil(b"{}\n\n")
    door.close_models("gpt-5.4")
    assert await client.is_reset()


async def test_to_http_1_0_a_stream_is_reset(client, provider, door):
    client.send(post(version="1.0"))
    upstream = await provider.accept()
    await upstream.message()
    upstream.send(STREAM + chunked(EVENT))
    await client.head()
    await client.exactly(len(EVENT))
    door.close_models("gpt-5.4")
    assert await client.is_reset()


async def test_a_client_that_takes_nothing_is_reset(open_door, connect, provider, until):
    door = await open_door(limits={"write_buffer": 1000})
    client = await connect(door, receive_buffer=4096, limit=1024)
    client.send(post(stream=True))
    upstream = await provider.accept()
    await upstream.message()
    upstream.send(STREAM + chunked(*[b"data: " + b"x" * 10_000 + b"\n\n"] * 1000))
    await until(lambda: any(c._writing_paused for c in door.gate.connections))
    (connection,) = door.gate.connections
    door.close_models("gpt-5.4")
    assert connection.transport.is_closing()
    assert await client.is_reset()
    assert await upstream.is_reset()


async def test_what_still_waits_to_be_sent_is_thrown_away_though_it_is_whole(open_door, connect, provider, until):
    """The last byte written ends an event, but the client has it not: an error event behind it would come too late."""
    door = await open_door(limits={"write_buffer": 50_000_000})
    client = await connect(door, receive_buffer=4096, limit=1024)
    client.send(post(stream=True))
    upstream = await provider.accept()
    await upstream.message()
    event = b"data: " + b"x" * 9_999_992 + b"\n\n"
    upstream.send(STREAM + chunked(event))
    await until(lambda: any(exchange.relay.bytes_out == len(event) for exchange in door.gate.in_flight))
    (connection,) = door.gate.connections
    assert connection.transport.get_write_buffer_size() > 1_000_000
    assert not connection.nothing_buffered()
    door.close_models("gpt-5.4")
    assert connection.transport.is_closing()
    assert await client.is_reset()


async def test_an_operation_without_such_an_event_is_reset(client, provider, door):
    request = post("/openai/v1/embeddings", "text-embedding-3-small")
    await streaming(client, provider, request, EVENT)
    door.close_models("text-embedding-3-small")
    assert await client.is_reset()


async def test_the_event_has_the_dialects_shape(client, provider, door):
    request = post("/anthropic/v1/messages", "claude-fable-5", stream=True)
    await severed(client, provider, door, b"event: ping\ndata: {}\n\n", request=request)
    name, data = (await client.chunk()).removesuffix(b"\n\n").split(b"\n")
    assert name == b"event: error"
    body = json.loads(data.removeprefix(b"data: "))
    assert (body["type"], body["error"]["type"]) == ("error", "permission_error")


# ---------------------------------------------------------------- by what happened


async def test_only_what_is_denied_is_cut(door, connect, provider):
    clients = [await connect(door) for _ in range(3)]
    await streaming(clients[0], provider, post(model="gpt-5.4", stream=True), EVENT)
    upstream = await streaming(clients[1], provider, post(model="gpt-5.4-mini", stream=True), EVENT)
    await streaming(clients[2], provider, post("/anthropic/v1/messages", "claude-fable-5", stream=True), EVENT)
    door.close_models("gpt-5.4", "family:fable")
    for client in (clients[0], clients[2]):
        assert b"model_offline" in await client.chunk()
    upstream.send(chunked(EVENT) + b"0\r\n\r\n")
    assert await clients[1].chunk() == EVENT
    assert await clients[1].chunk() == b""
    assert door.replica.streams_cut == 2
    assert door.counts["portcullis_streams_cut_total"] == 2


async def test_a_list_in_flight_is_not_cut(client, provider, door):
    client.send(get("/openai/v1/models"))
    upstream = await provider.accept()
    await upstream.message()
    door.close_models("*")
    upstream.send(LIST)
    response = await client.message()
    assert (response.status, response.json["data"]) == (200, [])


async def test_a_request_that_names_no_model_is_cut_with_its_candidates(client, provider, door):
    client.send(post("/openai/v1/responses", body=b'{"input":"hi"}'))
    await (await provider.accept()).message()
    door.close_models("gpt-5.4-mini")
    assert (await client.message()).reason == "model_unresolved"


async def test_the_leases_end_cuts_everything(client, provider, door):
    upstream = await streaming(client, provider, None, EVENT)
    door.end_lease()
    door.gate.sever_overdue()
    assert b"policy_stale" in await client.chunk()
    await client.ends()
    assert await upstream.is_reset()
    assert door.lines[0]["reason"] == "policy_stale"


async def test_the_lease_is_looked_at_before_every_write(client, provider, door):
    """No timer has fired yet: what the provider sends is thrown away."""
    upstream = await streaming(client, provider, None, EVENT)
    door.end_lease()
    upstream.send(chunked(b"data: late\n\n"))
    assert await client.is_reset()
    assert not door.gate.in_flight


async def test_before_the_head_is_written_there_is_still_a_refusal(client, provider, door):
    client.send(post(stream=True))
    upstream = await provider.accept()
    await upstream.message()
    door.end_lease()
    upstream.send(STREAM + chunked(b"data: late\n\n"))
    refused = await client.message()
    assert (refused.status, refused.reason, refused.header("retry-after")) == (503, "policy_stale", "2")
    assert b"late" not in refused.body


async def test_a_whole_answer_that_comes_too_late_is_refused(client, provider, door):
    client.send(post())
    upstream = await provider.accept()
    await upstream.message()
    door.end_lease()
    upstream.send(OK)
    assert (await client.message()).reason == "policy_stale"
    door.renew()
    client.send(post())
    again = await provider.accept() if not provider.accepted.empty() else upstream
    await again.message()
    again.send(OK)
    assert (await client.message()).status == 200


async def test_what_completes_an_event_and_is_not_written_does_not_count(client, provider, door):
    """The client has half an event; the half that is thrown away must not make it look whole."""
    upstream = await streaming(client, provider, None, b"data: ha")
    door.end_lease()
    upstream.send(chunked(b"lf\n\n"))
    assert await client.is_reset()


async def test_a_lease_that_is_over_cuts_only_the_strict_model(open_door, connect, provider):
    door = await open_door(policy=document(max_stale={"default": 3600, "controlled": 5}))
    strict, other = await connect(door), await connect(door)
    await streaming(strict, provider, post("/anthropic/v1/messages", "claude-fable-5", stream=True), EVENT)
    upstream = await streaming(other, provider, post("/anthropic/v1/messages", "claude-haiku-4-5", stream=True), EVENT)
    door.replica._renewed_at -= 60
    door.gate.sever_overdue()
    assert b"policy_stale" in await strict.chunk()
    upstream.send(chunked(EVENT))
    assert await other.chunk() == EVENT


async def test_a_write_that_ended_too_late_is_counted(client, provider, door, monkeypatch):
    upstream = await streaming(client, provider, None, EVENT)

    def slept(self, data: bytes) -> None:
        self.transport.write(data)
        door.end_lease()

    monkeypatch.setattr(ClientConnection, "write", slept)
    upstream.send(chunked(EVENT))
    assert await client.chunk() == EVENT
    assert door.counts["portcullis_late_writes_total"] == 1


# ---------------------------------------------------------------- callers


async def test_a_caller_that_is_gone_is_cut(client, provider, door):
    await streaming(client, provider, None, EVENT)
    assert door.gate.affected(["alice"]) == [fingerprint("pc-alice")]
    assert door.gate.affected(["bob"]) == []
    assert door.gate.affected("all") == [fingerprint("pc-alice")]
    door.apply(callers=["alice"], fresh={fingerprint("pc-alice"): UNKNOWN})
    assert b"unauthenticated" in await client.chunk()
    await client.ends()


async def test_a_caller_that_is_still_there_goes_on(client, provider, door):
    upstream = await streaming(client, provider, None, EVENT)
    changed = Caller("alice", Facts(Kind.PERSON, nationality=frozenset({"FR"})), "p-new")
    door.apply(callers=["alice"], fresh={fingerprint("pc-alice"): changed})
    (exchange,) = door.gate.in_flight
    assert exchange.caller is changed
    upstream.send(chunked(EVENT))
    assert await client.chunk() == EVENT


async def test_a_caller_that_nobody_looked_up_is_cut_to_be_safe(client, provider, door):
    await streaming(client, provider, None, EVENT)
    door.apply(callers="all", fresh={})
    assert b"policy_stale" in await client.chunk()


async def test_a_revision_that_names_others_leaves_it_alone(client, provider, door):
    upstream = await streaming(client, provider, None, EVENT)
    door.apply(callers=["bob"], fresh={})
    assert door.gate.directory.cached(fingerprint("pc-alice")) is not None
    upstream.send(chunked(EVENT))
    assert await client.chunk() == EVENT


# ---------------------------------------------------------------- let finish


async def test_what_may_finish_goes_on_and_the_replica_says_so(client, provider, door, connect, until):
    told = []
    door.gate.swept = lambda: told.append(door.replica.draining)
    upstream = await streaming(client, provider, None, EVENT)
    door.close_models("gpt-5.4", in_flight={"let_finish": 60})
    assert door.replica.draining == 1
    refused = await (await connect(door)).ask(post())
    assert refused.reason == "model_offline", "nothing new begins"
    upstream.send(chunked(EVENT) + b"0\r\n\r\n")
    assert await client.chunk() == EVENT
    assert await client.chunk() == b""
    await until(lambda: told)
    assert (told, door.replica.draining, door.replica.streams_cut) == ([0], 0, 0)


async def test_when_the_grace_is_over_it_is_cut(client, provider, door, monkeypatch):
    await streaming(client, provider, None, EVENT)
    door.close_models("gpt-5.4", in_flight={"let_finish": 60})
    later = door.gate.now() + 61
    monkeypatch.setattr(door.gate, "now", lambda: later)
    for connection in door.gate.connections:
        connection.deadline = later + 999
    for upstream in door.gate.providers["openai"].pool.open:
        upstream.deadline = later + 999
    door.gate.sweep()
    assert b"model_offline" in await client.chunk()
    assert door.replica.draining == 0
    assert door.replica.streams_cut == 1


async def test_a_second_hold_cannot_lengthen_the_grace(client, provider, door):
    await streaming(client, provider, None, EVENT)
    door.close_models("gpt-5.4", in_flight={"let_finish": 60})
    (exchange,) = door.gate.in_flight
    first = exchange.finish_by
    door.apply()
    assert exchange.finish_by <= first


async def test_a_second_hold_can_end_the_grace(client, provider, door):
    await streaming(client, provider, None, EVENT)
    door.close_models("gpt-5.4", in_flight={"let_finish": 60})
    door.close_models("gpt-5.4")
    assert b"model_offline" in await client.chunk()
    assert door.replica.draining == 0


async def test_a_release_ends_the_draining(client, provider, door):
    upstream = await streaming(client, provider, None, EVENT)
    door.close_models("gpt-5.4", in_flight={"let_finish": 60})
    door.apply(holds={})
    (exchange,) = door.gate.in_flight
    assert (door.replica.draining, exchange.finish_by) == (0, None)
    upstream.send(chunked(EVENT))
    assert await client.chunk() == EVENT


async def test_the_leases_end_cuts_what_may_finish_too(client, provider, door):
    await streaming(client, provider, None, EVENT)
    door.close_models("gpt-5.4", in_flight={"let_finish": 60})
    door.end_lease()
    door.gate.sever_overdue()
    assert b"policy_stale" in await client.chunk()
    assert door.replica.draining == 0


async def test_what_waits_for_a_connection_may_not_finish_what_it_never_began(
    door, client, provider, until, monkeypatch
):
    pool = door.gate.providers["openai"].pool
    waiting, really_connect = [], pool.connect
    monkeypatch.setattr(pool, "connect", waiting.append)
    client.send(post())
    await until(lambda: waiting)
    door.close_models("gpt-5.4", in_flight={"let_finish": 60})
    really_connect(waiting.pop())
    assert (await client.message()).reason == "model_offline"
    assert door.replica.draining == 0


async def test_of_revisions_that_came_at_once_all_wait_for_what_may_finish(client, provider, door):
    """The feed may bring several; only the last is applied, and which of them denied first is not known."""
    upstream = await streaming(client, provider)
    door.revision += 2  # two more, of which this replica applies only what the third makes of them
    door.close_models("gpt-5.4", in_flight={"let_finish": 60})
    assert door.replica.finishing == (2, 3, 4)
    upstream.send(b"0\r\n\r\n")
    assert await client.chunk() == b""
    assert door.replica.finishing == ()
