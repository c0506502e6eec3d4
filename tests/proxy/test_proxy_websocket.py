"""WebSockets through the gate: each message is decided, frames pass, a kill ends them."""

import asyncio
import json
import struct

import pytest
from proxy_harness import PATIENCE
from samples import MODELS, document, model
from socket_peers import Talker, agree, opening, talk
from wsproto.connection import ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage

A, K = "gpt-5.4-mini", "gpt-5.4"
REALTIME = f"/openai/v1/realtime?model={A}"
LIVE = "/gemini/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent"
LENIENT = {"default": 3600, "controlled": 1800}
GEMINI = document(
    models=MODELS
    | {
        "gemini-3-pro": model("gemini", "gemini-3-pro", "models/gemini-3-pro"),
        "gemini-3-flash": model("gemini", "gemini-3-flash", "models/gemini-3-flash"),
    },
    max_stale=LENIENT,
)


def create(name: str | None = A, **fields):
    return {"type": "response.create", **({"model": name} if name else {}), "input": "hello", **fields}


async def ended(door):
    """The line of the one exchange, when it is over."""
    async with asyncio.timeout(PATIENCE):
        while not door.lines:
            await asyncio.sleep(0)
    assert not door.gate.in_flight
    assert door.gate.buffered.total == 0
    return door.lines[-1]


def stalled(door):
    """The one connection to a provider, which takes nothing for now, and the exchange on it."""
    (exchange,) = door.gate.in_flight
    (upstream,) = door.gate.providers["openai"].pool.open
    upstream.pause_writing()
    return upstream, exchange


async def waits(exchange):
    """Until a message waits to be sent."""
    async with asyncio.timeout(PATIENCE):
        while not exchange._outgoing:
            await asyncio.sleep(0)


# ------------------------------------------------------------------------------------------------ the handshake


async def test_the_handshake_is_written_anew(door, client, provider):
    client.send(
        opening(
            REALTIME,
            "Sec-WebSocket-Extensions: permessage-deflate",
            "OpenAI-Beta: realtime=v1",
            "Portcullis-Rehearse: claude-fable-5",
            "X-Forwarded-For: 1.2.3.4",
        )
    )
    peer = await provider.accept()
    head = await peer.head()
    assert head.start == f"GET {REALTIME} HTTP/1.1".encode()
    assert head.header("authorization") == "Bearer sk-provider"
    assert head.header("sec-websocket-extensions") is None
    assert head.header("sec-websocket-key") != "dGhlIHNhbXBsZSBub25jZQ=="
    assert (head.header("upgrade"), head.header("connection"), head.header("sec-websocket-version")) == (
        "websocket",
        "Upgrade",
        "13",
    )
    assert head.header("openai-beta") == "realtime=v1"
    assert not [name for name, _ in head.headers if name.startswith(("portcullis", "x-forwarded"))]
    await agree(peer, head, b"x-request-id: up_1", b"portcullis-revision: 9")
    answer = await client.head()
    assert answer.status == 101
    assert answer.header("sec-websocket-accept") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # RFC 6455 §1.3
    assert answer.header("x-request-id") == "up_1"
    assert answer.header("portcullis-revision") == "1"


@pytest.mark.parametrize(
    ("request_", "status", "reason"),
    [
        (opening(f"/openai/v1/realtime?model={K}"), 403, "model_offline"),
        (opening("/openai/v1/realtime?model=gpt-99"), 404, "unknown_model"),
        (opening("/openai/v1/realtime"), 403, "model_unresolved"),
        (opening("/openai/v1/realtime?call_id=rtc_1"), 403, "model_unresolved"),
        (opening(f"/openai/v1/realtime?model={A}&call_id=rtc_1"), 403, "model_unresolved"),
        (opening(f"/openai/v1/realtime?model={A}&model={K}"), 400, "malformed"),
        (opening(f"/openai/v1/realtime?MODEL={K}"), 400, "malformed"),
        (opening(f"/openai/v1/realtime?%6dodel={K}"), 400, "malformed"),
        (opening(f"/openai/v1/realtime?model={A}&%63all_id=rtc_1"), 400, "malformed"),
        (opening(f"/openai/v1/responses?model={K}"), 400, "malformed"),
        (opening(REALTIME, key="pc-nobody"), 401, "unauthenticated"),
        (opening(REALTIME, key=None), 401, "unauthenticated"),
        (opening(REALTIME, "Sec-WebSocket-Protocol: openai-insecure-api-key.pc-bob"), 401, "unauthenticated"),
        (opening(REALTIME, version="8"), 426, "malformed"),
        (opening(REALTIME, bare=True), 426, "malformed"),
        (opening(REALTIME, "Sec-WebSocket-Version: 13", bare=True), 400, "malformed"),
        (opening(REALTIME, "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: short", bare=True), 400, "malformed"),
        (opening(REALTIME, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="), 400, "malformed"),
        (opening(REALTIME, "Sec-WebSocket-Protocol: a b"), 400, "malformed"),
        (opening(REALTIME, "Sec-WebSocket-Protocol: a, a"), 400, "malformed"),
        (opening(REALTIME, "Content-Length: 2") + b"{}", 400, "malformed"),
        (opening("/openai/v1/nothing"), 404, "operation_not_listed"),
        (opening("/openai/v1/chat/completions"), 403, "model_unresolved"),  # another operation, by GET
        (opening(REALTIME).replace(b"GET", b"POST"), 404, "operation_not_listed"),
        (opening(REALTIME).replace(b"Connection: keep-alive, Upgrade", b"Connection: keep-alive"), 426, "malformed"),
        (opening(REALTIME).replace(b"Upgrade: WebSocket", b"Upgrade: h2c"), 426, "malformed"),
        (opening(REALTIME, "Upgrade: websocket"), 426, "malformed"),
    ],
)
async def test_what_is_refused_before_the_101(door, client, provider, request_, status, reason):
    door.close_models(K)
    answer = await client.ask(request_)
    assert (answer.status, answer.reason) == (status, reason)
    assert answer.json["error"]["portcullis"]["reason"] == reason
    if status == 426:
        assert (answer.header("upgrade"), answer.header("sec-websocket-version")) == ("websocket", "13")
    assert provider.connections == 0


async def test_a_connection_goes_on_after_a_refusal(door, client, provider):
    assert (await client.ask(opening(REALTIME, version="8"))).status == 426
    await talk(client, provider, REALTIME)


async def test_behind_another_request_it_is_none(door, client, provider):
    client.send(opening("/openai/v1/models").replace(b"Upgrade: WebSocket\r\n", b"") + opening(REALTIME))
    peer = await provider.accept()
    await peer.head()
    peer.send(b'HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\n{"data":[]}')
    assert (await client.message()).status == 200
    assert (await client.message()).status == 426


async def test_a_key_in_a_subprotocol(door, client, provider):
    client.send(
        opening(
            REALTIME,
            "Sec-WebSocket-Protocol: realtime, openai-insecure-api-key.pc-alice, openai-beta.realtime-v1",
            key=None,
        )
    )
    peer = await provider.accept()
    head = await peer.head()
    assert head.header("sec-websocket-protocol") == "realtime, openai-beta.realtime-v1"
    await agree(peer, head, b"sec-websocket-protocol: realtime")
    assert (await client.head()).header("sec-websocket-protocol") == "realtime"


async def test_a_key_in_a_subprotocol_goes_nowhere_with_another_request(door, client, provider):
    client.send(opening("/openai/v1/models", "Sec-WebSocket-Protocol: openai-insecure-api-key.pc-alice"))
    head = await (await provider.accept()).head()
    assert not [name for name, _ in head.headers if name.startswith("sec-websocket")]


async def test_where_credentials_are_forwarded_the_subprotocol_is_the_providers(door, client, provider):
    client.send(
        opening(
            "/compatible/v1/responses",
            "Portcullis-Key: pc-alice",
            "Sec-WebSocket-Protocol: openai-insecure-api-key.sk-own",
            key=None,
        )
    )
    head = await (await provider.accept()).head()
    assert head.header("sec-websocket-protocol") == "openai-insecure-api-key.sk-own"


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 101 X\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
        b"HTTP/1.1 101 X\r\nupgrade: h2c\r\nconnection: upgrade\r\nsec-websocket-accept: %b\r\n\r\n",
        b"HTTP/1.1 101 X\r\nconnection: upgrade\r\nsec-websocket-accept: %b\r\n\r\n",
        b"HTTP/1.1 101 X\r\nupgrade: websocket\r\nsec-websocket-accept: %b\r\n\r\n",
        b"HTTP/1.1 101 X\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: %b\r\nsec-websocket-extensions: permessage-deflate\r\n\r\n",
        b"HTTP/1.1 101 X\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: %b\r\nsec-websocket-protocol: other\r\n\r\n",
        b"HTTP/1.1 101 X\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: %b\r\ncontent-length: 3\r\n\r\nabc",
        b"HTTP/1.1 101 X\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: %b\r\nsec-websocket-accept: %b\r\n\r\n",
    ],
)
async def test_an_answer_to_another_handshake_is_none(door, client, provider, answer):
    from gateway.proxy.handshake import accept

    client.send(opening(REALTIME))
    peer = await provider.accept()
    key = accept((await peer.head()).header("sec-websocket-key").encode())
    peer.send(answer.replace(b"%b", key))
    assert (await client.message()).status == 502
    assert await peer.is_reset()


async def test_a_provider_that_refuses_is_passed_on(door, client, provider):
    client.send(opening(REALTIME))
    peer = await provider.accept()
    await peer.head()
    peer.send(b"HTTP/1.1 429 Too Many\r\nretry-after: 3\r\ncontent-length: 2\r\n\r\n{}")
    answer = await client.message()
    assert (answer.status, answer.header("retry-after"), answer.body) == (429, "3", b"{}")
    assert (await client.ask(opening(REALTIME, version="8"))).status == 426, "the connection goes on"


# ------------------------------------------------------------------------------------------------ messages


async def test_messages_pass_both_ways(door, client, provider):
    ours, theirs = await talk(client, provider)
    ours.say(create(A))
    assert await theirs.json() == create(A)
    for delta in ("one", "two"):
        theirs.say({"type": "response.output_text.delta", "delta": delta})
        assert (await ours.json())["delta"] == delta
    ours.say(create(A), binary=True)
    event = await theirs.heard()
    assert isinstance(event, BytesMessage)
    theirs.say(b"\x00\xff")
    assert (await ours.heard()).data == b"\x00\xff"
    ours.event(CloseConnection(code=1000, reason="bye"))
    assert await theirs.closed() == (1000, "bye")
    theirs.event(CloseConnection(code=1000, reason="bye"))
    assert await ours.closed() == (1000, "bye")
    line = await ended(door)
    assert (line["decision"], line["model"], line["status"], line["operation"]) == (
        "permit",
        A,
        101,
        "responses.connect",
    )
    assert line["bytes_in"] == 2 * len(json.dumps(create(A)))


@pytest.mark.parametrize(
    ("path", "message", "reason"),
    [
        ("/openai/v1/responses", create(K), "model_offline"),
        ("/openai/v1/responses", create(f"openai/{K}"), "model_offline"),
        ("/openai/v1/responses", create("gpt-99"), "unknown_model"),
        ("/openai/v1/responses", create(None), "model_unresolved"),
        ("/openai/v1/responses", create(None, previous_response_id="resp_1"), "model_unresolved"),
        ("/openai/v1/responses", create(A, tools=[{"type": "image_generation", "model": K}]), "model_offline"),
        ("/openai/v1/responses", create(A, moderation={"model": K}), "model_offline"),
        ("/openai/v1/responses", {"type": "response.create", "response": {"model": K}}, "model_offline"),
        ("/openai/v1/responses", {"type": "response.steer", "model": K, "input": "x"}, "model_offline"),
        ("/openai/v1/responses", {"type": "session.update", "model": A}, "malformed"),
        ("/openai/v1/responses", {"model": A}, "malformed"),
        (
            "/openai/v1/responses",
            b'{"type":"response.create","model":"%b","model":"%b"}' % (A.encode(), K.encode()),
            "malformed",
        ),
        (
            "/openai/v1/responses",
            b'{"type":"response.create","mod\\u0065l":"%b","model":"%b"}' % (K.encode(), A.encode()),
            "malformed",
        ),
        (
            "/openai/v1/responses",
            b'{"type":"response.create","Model":"%b","model":"%b"}' % (K.encode(), A.encode()),
            "malformed",
        ),
        ("/openai/v1/responses", b'{"type":"response.steer","type":"response.create","input":"x"}', "malformed"),
        ("/openai/v1/responses", b'{"TYPE":"response.create","type":"response.steer","input":"x"}', "malformed"),
        (
            "/openai/v1/responses",
            b'{"a\\u0022type":1,"type":"response.steer","type":"response.create","model":"gpt-5.4-mini"}',
            "malformed",
        ),
        ("/openai/v1/responses", b"\xef\xbb\xbf{}", "malformed"),
        ("/openai/v1/responses", b"[]", "malformed"),
        ("/openai/v1/responses", b"", "malformed"),
        ("/openai/v1/responses", b"not json", "malformed"),
        ("/openai/v1/responses", json.dumps(create(A)).encode("utf-16"), "malformed"),
        ("/openai/v1/responses", b'{"type":"response.create","model":"gpt-5.4-mini","x":NaN}', "malformed"),
        ("/openai/v1/responses", b'{"type":"response.create","model":"gpt-5.4-mini"}{}', "malformed"),
        ("/openai/v1/responses", b"[" * 100_000, "malformed"),
        (REALTIME, {"type": "session.update", "session": {"model": K}}, "model_offline"),
        (
            REALTIME,
            {"type": "session.update", "session": {"audio": {"input": {"transcription": {"model": K}}}}},
            "model_offline",
        ),
        (REALTIME, {"type": "session.update", "session": {"input_audio_transcription": {"model": K}}}, "model_offline"),
        (
            REALTIME,
            {"type": "transcription_session.update", "session": {"input_audio_transcription": {"model": K}}},
            "model_offline",
        ),
        (REALTIME, {"type": "conversation.item.create", "session": {"model": K}}, "model_offline"),
        (REALTIME, {"type": "response.create", "response": {"model": K}}, "model_offline"),
        (REALTIME, {"type": "something.new"}, "malformed"),
    ],
)
@pytest.mark.parametrize("binary", [False, True])
async def test_a_denied_message_goes_nowhere_and_ends_it(door, client, provider, path, message, reason, binary):
    ours, theirs = await talk(client, provider, path)
    door.close_models(K)
    data = message if isinstance(message, bytes) else json.dumps(message).encode()
    try:
        ours.say(data if binary else data.decode())
    except UnicodeDecodeError:
        ours.say(data)
    refused = await ours.json()
    assert refused["type"] == "error"
    assert refused["error"]["portcullis"]["reason"] == reason
    assert await ours.closed() == (1008, reason)
    assert await theirs.quiet()
    line = await ended(door)
    assert (line["decision"], line["reason"], line["severed"]) == ("deny", reason, False)


async def test_frame_one_is_permitted_and_frame_two_is_not(door, client, provider):
    door.close_models(K)
    ours, theirs = await talk(client, provider)
    ours.say(create(A))
    ours.say(create(K))
    ours.say(create(A))
    assert await theirs.json() == create(A)
    assert await theirs.quiet()
    assert (await ours.json())["error"]["code"] == "model_offline"
    assert await ours.closed() == (1008, "model_offline")


@pytest.mark.parametrize("pieces", [2, 3, 50])
async def test_a_fragmented_message_is_read_whole(door, client, provider, pieces):
    door.close_models(K)
    for name in (A, K):
        ours, theirs = await talk(client, provider)
        text = json.dumps(create(name))
        size = len(text) // pieces + 1
        cuts = [text[at : at + size] for at in range(0, len(text), size)]
        for number, cut in enumerate(cuts):
            ours.event(TextMessage(data=cut, message_finished=number == len(cuts) - 1))
            ours.event(Ping(payload=b"between"))
            assert isinstance(await ours.heard(), Pong) or name == K
        if name == A:
            assert await theirs.json() == create(A)
            ours.event(CloseConnection(code=1000))
            theirs.event(CloseConnection(code=1000))
            await client.rest()
            client = await type(client).connect(door.port)
        else:
            assert await theirs.quiet()
    await client.close()


async def test_what_comes_before_a_model_is_named_is_held(door, client, provider):
    ours, theirs = await talk(client, provider)
    steer = {"type": "response.steer", "previous_response_id": "resp_1", "input": "x"}
    ours.say(steer)
    ours.say(create(A))
    assert await theirs.json() == steer
    assert await theirs.json() == create(A)


async def test_only_so_much_is_held(open_door, connect, provider):
    door = await open_door(limits={"websocket_held_bytes": 3000})
    ours, theirs = await talk(await connect(door), provider)
    for _ in range(4):
        ours.say({"type": "response.steer", "input": "x" * 900})
    assert "before a message that names the model" in (await ours.json())["error"]["message"]
    assert await ours.closed() == (1009, "malformed")
    assert await theirs.quiet()
    await ended(door)


async def test_a_message_has_a_limit(open_door, connect, provider):
    door = await open_door(limits={"websocket_message_bytes": 1000})
    ours, theirs = await talk(await connect(door), provider)
    ours.raw(b"\x81\xfe" + struct.pack("!H", 60_000) + b"\0\0\0\0" + b"{" * 2000)  # announced, and not even complete
    assert (await ours.json())["error"]["portcullis"]["reason"] == "malformed"
    assert await ours.closed() == (1009, "malformed")
    assert await theirs.quiet()
    await ended(door)


async def test_a_large_message_is_read_elsewhere_and_passes_in_pieces(door, client, provider):
    ours, theirs = await talk(client, provider)
    ours.patience = theirs.patience = 30.0  # the process that reads has to start
    whole = create(A, input="ü" * 600_000)
    ours.say(json.dumps(whole, ensure_ascii=False))
    ours.say(create(A))
    assert await theirs.json() == whole
    assert await theirs.json() == create(A)
    assert door.gate.reading.started == 1
    door.close_models(K)
    ours.say(json.dumps(create(K, input="x" * 1_100_000)))
    assert (await ours.json())["error"]["code"] == "model_offline"
    assert await theirs.quiet()
    await ended(door)


async def test_live_names_its_model_in_the_first_message(open_door, connect, provider):
    door = await open_door(policy=GEMINI)
    door.close_models("gemini-3-pro")
    client = await connect(door)
    client.send(opening(LIVE, "x-goog-api-key: pc-alice", key=None))
    peer = await provider.accept()
    head = await peer.head()
    assert head.header("x-goog-api-key") == "g-provider"
    theirs = await agree(peer, head)
    await client.head()
    ours = Talker(client, ConnectionType.CLIENT)
    ours.say({"realtime_input": {"text": "early"}})
    ours.say({"setup": {"model": "models/gemini-3-flash"}})
    assert await theirs.json() == {"realtime_input": {"text": "early"}}
    assert "setup" in await theirs.json()
    theirs.say({"setupComplete": {}})
    assert await ours.json() == {"setupComplete": {}}
    ours.say({"setup": {"model": "models/gemini-3-pro"}})
    refused = await ours.json()
    assert refused["code"] == 403, "where the SDK looks"
    assert (refused["error"]["code"], refused["error"]["status"]) == (403, "PERMISSION_DENIED")
    assert await ours.closed() == (1008, "model_offline")
    assert await theirs.quiet()


@pytest.mark.parametrize(
    "message",
    [
        b'{"setup":{"model":"models/gemini-3-flash"},"setup":{"model":"models/gemini-3-pro"}}',
        b'{"setup":{},"setup":{"model":"models/gemini-3-flash"}}',
        b'{"Setup":{"model":"models/gemini-3-pro"}}',
        b'{"setup":{"model":"models/gemini-3-flash"},"clientContent":{}}',
        b'{"setup":{"model":"models/gemini-3-flash","Model":"models/gemini-3-pro"}}',
        b'{"setup":{}}',
        b"{}",
        b'{"other":{}}',
    ],
)
async def test_what_live_does_not_take(open_door, connect, provider, message):
    door = await open_door(policy=GEMINI)
    door.close_models("gemini-3-pro")
    ours, theirs = await talk(await connect(door), provider, LIVE)
    ours.say(message)
    code, why = await ours.closed()
    assert (code, why.partition(":")[0]) in ((1008, "malformed"), (1008, "model_unresolved"))
    assert await theirs.quiet()


async def test_live_is_refused_by_the_close_alone_before_anything_was_said(open_door, connect, provider):
    """The SDK takes any first message for a good answer; what a close says it raises."""
    door = await open_door(policy=GEMINI)
    door.close_models("gemini-3-pro", public_message="ü" * 200)
    ours, theirs = await talk(await connect(door), provider, LIVE)
    ours.say({"setup": {"model": "models/gemini-3-pro"}})
    assert await ours.closed() == (1008, "model_offline: " + "ü" * 54)
    assert await theirs.quiet()


# ------------------------------------------------------------------------------------------------ frames and ends


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x81\x02hi", 1002),  # not masked
        (b"\xc1\x82\0\0\0\0hi", 1002),  # compressed, which nobody agreed to
        (b"\x83\x82\0\0\0\0hi", 1002),  # no such opcode
        (b"\x80\x82\0\0\0\0hi", 1002),  # a continuation of nothing
        (b"\x81\xff" + b"\xff" * 8 + b"\0\0\0\0", 1002),  # a negative length
        (b"\x81\xfe\x00\x02\0\0\0\0hi", 1002),  # a length in more bytes than it needs
        (b"\x09\x80\0\0\0\0", 1002),  # a ping in pieces
        (b"\x81\x82\0\0\0\0\xff\xff", 1007),  # text that is none
        (b"\x88\x81\0\0\0\0x", 1002),  # half a code
    ],
)
async def test_frames_that_may_not_stand_there(door, client, provider, data, code):
    ours, theirs = await talk(client, provider)
    ours.raw(data)
    await ours.json()
    assert (await ours.closed())[0] == code
    assert await theirs.quiet()
    assert (await ended(door))["reason"] == "malformed"


async def test_frames_that_came_with_the_handshake_wait_for_it(door, client, provider):
    frames = Talker(client, ConnectionType.CLIENT)._connection.send(TextMessage(data=json.dumps(create(A))))
    client.send(opening() + frames)
    peer = await provider.accept()
    theirs = await agree(peer, await peer.head())
    assert await theirs.json() == create(A)


async def test_pings_are_answered_by_the_gate(door, client, provider):
    ours, theirs = await talk(client, provider)
    ours.event(Ping(payload=b"a"))
    assert (await ours.heard()).payload == b"a"
    theirs.event(Ping(payload=b"b"))
    assert (await theirs.heard()).payload == b"b"
    ours.event(Pong(payload=b"unasked"))
    ours.say(create(A))
    assert await theirs.json() == create(A)


async def test_a_provider_closes(door, client, provider):
    ours, theirs = await talk(client, provider)
    theirs.event(CloseConnection(code=4001, reason="session expired"))
    assert await ours.closed() == (4001, "session expired")
    ours.event(CloseConnection(code=4001))
    assert (await theirs.closed())[0] == 4001
    assert (await ended(door))["decision"] == "permit"


async def test_a_provider_that_leaves_without_a_word(door, client, provider):
    ours, theirs = await talk(client, provider)
    theirs.peer.reset()
    assert await ours.closed() == (1011, "the provider is gone")
    await ended(door)
    assert door.counts["portcullis_upstream_failures_total"] == 1


async def test_a_provider_that_speaks_something_else(door, client, provider):
    ours, theirs = await talk(client, provider)
    theirs.say({"delta": 1})
    theirs.raw(b"\x81\x82\0\0\0\0hi")  # masked
    assert await ours.json() == {"delta": 1}
    assert (await ours.closed())[0] == 1011


@pytest.mark.parametrize("how", ["eof", "reset"])
async def test_a_client_that_leaves_without_a_word(door, client, provider, how):
    _, theirs = await talk(client, provider)
    getattr(client, how)()
    assert await theirs.peer.is_reset()
    await ended(door)


async def test_ten_thousand_empty_frames(door, client, provider):
    ours, theirs = await talk(client, provider)
    text = json.dumps(create(A)).encode()
    ours.raw(
        b"\x01\x80\0\0\0\0" + b"\x00\x80\0\0\0\0" * 10_000 + b"\x80" + bytes([0x80 | len(text)]) + b"\0\0\0\0" + text
    )
    theirs.raw(b"\x01\x00" + b"\x00\x00" * 10_000 + b"\x80\x02hi")
    assert await theirs.json() == create(A)
    assert (await ours.heard()).data == "hi"


# ------------------------------------------------------------------------------------------------ kills


@pytest.mark.parametrize("path", ["/openai/v1/responses", REALTIME])
async def test_a_kill_ends_it_with_a_word(door, client, provider, path):
    ours, theirs = await talk(client, provider, path)
    ours.say(create(A) if "responses" in path else {"type": "response.create"})
    await theirs.heard()
    theirs.say({"type": "response.output_text.delta", "delta": "x"})
    await ours.json()
    door.close_models(A)
    refused = await ours.json()
    assert (refused["type"], refused["error"]["code"], refused["error"]["portcullis"]["model"]) == (
        "error",
        "model_offline",
        A,
    )
    assert await ours.closed() == (1008, "model_offline")
    assert await theirs.peer.is_reset()
    line = await ended(door)
    assert (line["severed"], line["decision"], line["reason"]) == (True, "deny", "model_offline")
    assert door.replica.streams_cut == 1
    assert door.counts["portcullis_streams_cut_total"] == 1


async def test_a_kill_within_a_message_resets(door, client, provider):
    ours, theirs = await talk(client, provider)
    ours.say(create(A))
    await theirs.heard()
    theirs.event(TextMessage(data="half", message_finished=False))
    assert (await ours._next()).data == "half"
    door.close_models(A)
    assert await client.is_reset()
    assert await theirs.peer.is_reset()
    await ended(door)


async def test_a_kill_while_the_client_sends_a_message(door, client, provider):
    ours, theirs = await talk(client, provider)
    ours.say(create(A))
    await theirs.heard()
    ours.event(TextMessage(data='{"type":"response.create","model":"', message_finished=False))
    ours.event(Ping())
    await ours.heard()
    door.close_models(A)
    assert (await ours.json())["error"]["code"] == "model_offline"
    assert await theirs.quiet()
    await ended(door)


async def test_a_kill_resets_a_client_that_takes_nothing(open_door, connect, provider):
    door = await open_door(limits={"write_buffer": 4096})
    client = await connect(door, receive_buffer=4096, limit=4096)
    ours, theirs = await talk(client, provider)
    ours.say(create(A))
    await theirs.heard()
    (exchange,) = door.gate.in_flight
    async with asyncio.timeout(PATIENCE):
        while not exchange.client.takes_nothing():
            theirs.say("x" * 20_000)
            await theirs.peer.writer.drain()
            await asyncio.sleep(0)
    door.close_models(A)
    assert await client.is_reset()
    assert await theirs.peer.is_reset()
    await ended(door)


async def test_the_kill_of_another_model_hurts_nothing(door, client, provider):
    ours, theirs = await talk(client, provider)
    ours.say(create(A))
    await theirs.heard()
    door.close_models(K)
    ours.say(create(A))
    assert await theirs.json() == create(A)


async def test_a_lease_that_ends_severs(door, client, provider):
    ours, theirs = await talk(client, provider)
    ours.say(create(A))
    await theirs.heard()
    door.end_lease()
    theirs.say({"type": "response.output_text.delta"})
    assert (await ours.json())["error"]["code"] == "policy_stale"
    assert await ours.closed() == (1008, "policy_stale")
    assert await theirs.peer.is_reset()


async def test_a_kill_between_two_pieces_of_a_large_message(door, client, provider, monkeypatch):
    ours, theirs = await talk(client, provider)
    upstream, exchange = stalled(door)
    ours.say(json.dumps(create(A, input="x" * 500_000)))
    await waits(exchange)
    takes = iter([False])
    monkeypatch.setattr(upstream, "takes_nothing", lambda: next(takes, True))
    upstream._paused = False
    exchange._send_on()
    assert isinstance(await theirs._next(), TextMessage)
    assert exchange._outgoing, "a piece has gone, and the rest has not"
    door.close_models(A)
    assert (await ours.json())["error"]["code"] == "model_offline"
    assert await theirs.quiet()
    await ended(door)


async def test_a_caller_that_is_removed(door, client, provider):
    ours, theirs = await talk(client, provider)
    ours.say(create(A))
    await theirs.heard()
    (exchange,) = door.gate.in_flight
    door.apply(callers=["alice"], fresh={exchange.credential: "nobody"})
    assert (await ours.json())["error"]["code"] == "unauthenticated"
    assert await ours.closed() == (1008, "unauthenticated")


# ------------------------------------------------------------------------------------------------ silence


async def test_silence_is_asked_about_and_then_cut(open_door, connect, provider):
    door = await open_door()
    client = await connect(door)
    ours, theirs = await talk(client, provider)
    (connection,) = door.gate.connections
    connection.timed_out()
    assert isinstance(await ours.heard(), Ping)
    ours.event(Pong())
    ours.event(Ping(payload=b"still here"))
    await ours.heard()
    connection.timed_out()
    assert isinstance(await ours.heard(), Ping)
    (upstream,) = door.gate.providers["openai"].pool.open
    upstream.timed_out()
    assert isinstance(await theirs.heard(), Ping)
    connection.timed_out()
    assert await client.is_reset()
    await ended(door)


async def test_a_silent_provider_is_cut(door, client, provider):
    ours, _ = await talk(client, provider)
    (upstream,) = door.gate.providers["openai"].pool.open
    upstream.timed_out()
    upstream.timed_out()
    assert await ours.closed() == (1011, "the provider is gone")
    await ended(door)


async def test_a_websocket_on_which_nothing_is_said_is_closed(open_door, connect, provider):
    door = await open_door(timeouts={"websocket_idle": 0.001})
    ours, theirs = await talk(await connect(door), provider)
    (connection,) = door.gate.connections
    await asyncio.sleep(0.002)
    connection.timed_out()
    assert await ours.closed() == (1001, "idle")
    assert await theirs.closed() == (1001, "idle")
    await ended(door)


async def test_the_gauge_of_open_websockets(door, client, provider):
    def open_now():
        return sum(value for name, _, value in door.gate.samples("r") if name == "portcullis_websockets")

    assert open_now() == 0
    ours, theirs = await talk(client, provider)
    assert open_now() == 1
    theirs.event(CloseConnection(code=1000))
    await ours.closed()
    ours.event(CloseConnection(code=1000))
    await ended(door)
    assert open_now() == 0


async def test_pings_do_not_keep_a_websocket_open_on_which_nothing_is_said(open_door, connect, provider):
    door = await open_door(timeouts={"websocket_idle": 10.0})
    ours, _ = await talk(await connect(door), provider)
    (connection,) = door.gate.connections
    (exchange,) = door.gate.in_flight
    before = connection.deadline
    exchange._spoke_at -= 9.0
    ours.event(Ping())
    assert isinstance(await ours.heard(), Pong)
    assert connection.deadline < before, "what is left of it"
    exchange._spoke_at -= 9.0
    connection.timed_out()
    assert await ours.closed() == (1001, "idle")


# ------------------------------------------------------------------------------------------------ back-pressure


async def test_a_provider_that_reads_nothing_holds_its_client_back_and_may_speak(door, client, provider):
    ours, theirs = await talk(client, provider)
    upstream, exchange = stalled(door)
    for _ in range(4):
        ours.say(create(A))
    await waits(exchange)
    theirs.say({"delta": 1})
    assert await ours.json() == {"delta": 1}
    assert len(exchange._outgoing) == 1, "the others are not even read"
    upstream.resume_writing()
    for _ in range(4):
        assert await theirs.json() == create(A)


async def test_a_client_that_reads_nothing_holds_its_provider_back_and_may_speak(open_door, connect, provider):
    door = await open_door(limits={"write_buffer": 4096})
    client = await connect(door, receive_buffer=4096, limit=4096)
    ours, theirs = await talk(client, provider)
    ours.say(create(A))
    await theirs.heard()
    (exchange,) = door.gate.in_flight
    sent = 0
    async with asyncio.timeout(PATIENCE):
        while not exchange.client.takes_nothing():
            theirs.say("x" * 20_000)
            sent += 1
            await asyncio.sleep(0)
    theirs.say("last")
    ours.say(create(A))
    assert await theirs.json() == create(A)
    for _ in range(sent):
        assert (await ours.heard()).data == "x" * 20_000
    assert (await ours.heard()).data == "last"


async def test_a_provider_that_closes_takes_no_more_of_a_message(door, client, provider):
    ours, theirs = await talk(client, provider)
    upstream, exchange = stalled(door)
    ours.say(json.dumps(create(A, input="x" * 500_000)))
    await waits(exchange)
    upstream.resume_writing()
    theirs.event(CloseConnection(code=1009, reason="too big"))
    assert await ours.closed() == (1009, "too big")
    ours.event(CloseConnection(code=1009))
    assert (await ended(door))["decision"] == "permit"


async def test_a_provider_that_is_gone_after_its_close_is_not_missed(door, client, provider):
    ours, theirs = await talk(client, provider)
    theirs.event(CloseConnection(code=1000))
    theirs.peer.eof()
    assert (await ours.closed())[0] == 1000
    ours.event(CloseConnection(code=1000))
    await client.ends()
    assert (await ended(door))["status"] == 101
    assert "portcullis_upstream_failures_total" not in door.counts


async def test_who_does_not_answer_a_close_is_cut(door, client, provider):
    ours, theirs = await talk(client, provider)
    ours.event(CloseConnection(code=1000))
    assert (await theirs.closed())[0] == 1000
    (connection,) = door.gate.connections
    assert connection.deadline < door.gate.now() + 6
    ours.raw(b"")
    connection.timed_out()
    assert await client.is_reset()
    await ended(door)


async def test_a_full_worker_takes_no_message(open_door, connect, provider):
    door = await open_door(limits={"body_bytes": 2000, "buffered_bytes": 2000, "buffered_bytes_per_caller": 2000})
    ours, theirs = await talk(await connect(door), provider)
    door.gate.buffered.take("bob", 1500)
    ours.say(create(A, input="x" * 1000))
    assert (await ours.json())["error"]["code"] == "overloaded"
    assert await ours.closed() == (1013, "overloaded")
    assert await theirs.quiet()
    door.gate.buffered.give("bob", 1500)
    await ended(door)


async def test_a_caller_is_looked_up_before_the_101(door, client, provider):
    door.hold_loads = asyncio.Event()
    frames = Talker(client, ConnectionType.CLIENT)._connection.send(TextMessage(data=json.dumps(create(A))))
    client.send(opening())
    async with asyncio.timeout(PATIENCE):
        while not door.loads:
            await asyncio.sleep(0)
    client.send(frames)
    door.hold_loads.set()
    peer = await provider.accept()
    theirs = await agree(peer, await peer.head())
    assert await theirs.json() == create(A)


async def test_an_unknown_caller_that_already_speaks_is_refused_and_closed(door, client, provider):
    frames = Talker(client, ConnectionType.CLIENT)._connection.send(TextMessage(data=json.dumps(create(A))))
    client.send(opening(key="pc-nobody") + frames)
    answer = await client.message()
    assert (answer.status, answer.header("connection")) == (401, "close")
    await client.ends()
    assert provider.connections == 0
