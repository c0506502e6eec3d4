"""What messages on a WebSocket do with the ledger: as a request over HTTP, before anything of them goes on."""

import asyncio
import json

import pytest
from proxy_harness import PATIENCE, get
from redis.exceptions import ConnectionError as RedisConnectionError
from socket_peers import talk
from test_proxy_ledger import A, K, Memory
from wsproto.events import TextMessage

from gateway.enforcement.made import Entry, Made
from gateway.proxy.ledger import Ledger

REALTIME = f"/openai/v1/realtime?model={A}"
OF_K = Made("openai", "response", "resp_k")
OF_A = Made("openai", "response", "resp_a")
TALKS_OF_K = Made("openai", "conversation", "conv_k")


def create(**fields):
    return {"type": "response.create", "input": "hello", **fields}


@pytest.fixture
def store(door) -> Memory:
    memory = Memory()
    memory.entries |= {OF_K: Entry((K,), (), "bob"), OF_A: Entry((A,), (), "bob"), TALKS_OF_K: Entry((K,), (), "bob")}
    door.gate.ledger = Ledger(memory, door.gate.counters)
    return memory


async def refused(ours, theirs) -> str:
    """The reason for which it is ended; nothing goes on."""
    error = await ours.json()
    reason = error["error"]["portcullis"]["reason"]
    assert await ours.closed() == (1013 if reason == "overloaded" else 1008, reason)
    assert await theirs.quiet()
    return reason


async def until(condition) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("path", "message", "reason"),
    [
        ("/openai/v1/responses", create(model=A, previous_response_id="resp_k"), "model_offline"),
        ("/openai/v1/responses", create(previous_response_id="resp_k"), "model_offline"),
        ("/openai/v1/responses", create(previous_response_id="resp_of_nobody"), "model_unresolved"),
        ("/openai/v1/responses", create(previous_response_id=7), "model_unresolved"),
        ("/openai/v1/responses", create(model=A, conversation="conv_k"), "model_offline"),
        ("/openai/v1/responses", create(model=A, conversation={"id": "conv_k"}), "model_offline"),
        ("/openai/v1/responses", create(prompt={"id": "pmpt_1"}), "model_unresolved"),
        ("/openai/v1/responses", {"type": "response.steer", "previous_response_id": "resp_k", "input": "x"}, "model_offline"),
        ("/openai/v1/responses", create(response={"model": A, "previous_response_id": "resp_k"}, model=A), "model_offline"),
        ("/openai/v1/responses", create(response={"conversation": {"id": "conv_k"}}, model=A), "model_offline"),
        ("/openai/v1/responses", json.dumps(create(model=A, previous_response_id="resp_a"))[:-1] + ',"previous_response_id":"resp_k"}', "malformed"),
        ("/openai/v1/responses", json.dumps(create(model=A, Previous_Response_ID="resp_k")), "malformed"),
        (REALTIME, {"type": "response.create", "response": {"conversation": "conv_k"}}, "model_offline"),
        (REALTIME, {"type": "response.create", "response": {"conversation": {"id": "conv_k"}}}, "model_offline"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("binary", [False, True])
async def test_a_message_that_names_a_thing_of_a_model_that_is_off_ends_it(
    door, client, provider, store, path, message, reason, binary
):
    ours, theirs = await talk(client, provider, path)
    door.close_models(K)
    ours.say(message, binary=binary)
    assert await refused(ours, theirs) == reason
    assert door.lines[-1]["reason"] == reason
    assert door.gate.buffered.total == 0


async def test_as_over_http(door, client, provider, store):
    door.close_models(K)
    over_http = await client.ask(get("/openai/v1/responses/resp_k"))
    assert (over_http.status, over_http.reason) == (403, "model_offline")


async def test_a_thing_of_another_model_goes_on_and_names_it(door, client, provider, store):
    door.close_models(K)
    ours, theirs = await talk(client, provider)
    ours.say(create(previous_response_id="resp_a"))
    ours.say(create(model=A, conversation="conv_of_nobody"))
    assert (await theirs.json())["previous_response_id"] == "resp_a"
    assert (await theirs.json())["conversation"] == "conv_of_nobody"
    door.close_models(A)
    assert (await ours.json())["error"]["portcullis"]["reason"] == "model_offline", "it counts until the end"


async def test_messages_stay_in_order_while_redis_is_asked(door, client, provider, store):
    ours, theirs = await talk(client, provider)
    store.gate.clear()
    ours.say(create(model=A, previous_response_id="resp_a"))
    ours.say(create(model=A, input="second"))
    await until(lambda: store.asked)
    store.gate.set()
    assert [(await theirs.json())["input"] for _ in range(2)] == ["hello", "second"]


async def test_a_kill_while_redis_is_asked_ends_it(door, client, provider, store):
    ours, theirs = await talk(client, provider)
    ours.say(create(model=A))
    await theirs.json()
    store.gate.clear()
    ours.say(create(model=A, previous_response_id="resp_k"))
    await until(lambda: store.asked)
    door.close_models(K)
    store.gate.set()
    assert await refused(ours, theirs) == "model_offline"


@pytest.mark.parametrize("failing", [RedisConnectionError("gone"), TimeoutError()])
async def test_where_redis_does_not_say_it_is_ended(door, client, provider, store, failing):
    ours, theirs = await talk(client, provider)
    store.failing = failing
    ours.say(create(model=A, previous_response_id="resp_a"))
    assert await refused(ours, theirs) == "policy_stale"


async def test_without_a_lease_nobody_is_asked(door, client, provider, store):
    ours, theirs = await talk(client, provider)
    door.end_lease()
    ours.say(create(model=A, previous_response_id="resp_a"))
    assert await refused(ours, theirs) == "policy_stale"
    assert store.asked == 0


async def test_a_model_is_noted_in_a_conversation_before_the_message_goes_on(door, client, provider, store):
    made = Made("openai", "conversation", "conv_1")
    store.entries[made] = Entry((), (), "alice")
    ours, theirs = await talk(client, provider)
    ours.say(create(model=A, conversation="conv_1"))
    await theirs.json()
    assert store.entries[made].names == (A,)
    door.close_models(K)
    ours.say(create(model=K, conversation="conv_1"))
    assert await refused(ours, theirs) == "model_offline"
    assert store.entries[made].names == (A,), "what is refused leaves nothing"


@pytest.mark.parametrize("pieces", [1, 3])
async def test_what_is_made_is_known_over_http(door, client, provider, store, pieces):
    ours, theirs = await talk(client, provider)
    ours.say(create(model=K))
    await theirs.json()
    said = json.dumps({"type": "response.created", "response": {"id": "resp_1", "object": "response", "x": "y" * 300}})
    size = len(said) // pieces
    for at in range(pieces):
        last = at == pieces - 1
        theirs.event(
            TextMessage(data=said[at * size :] if last else said[at * size : (at + 1) * size], message_finished=last)
        )
    assert (await ours.json())["response"]["id"] == "resp_1"
    theirs.say({"type": "response.output_text.delta", "delta": "x"})
    await ours.json()
    made = Made("openai", "response", "resp_1")
    await until(lambda: made in store.entries)
    assert store.entries[made] == Entry((K,), (), "alice")


async def test_what_is_not_stored_or_too_long_is_not_remembered(door, client, provider, store):
    ours, theirs = await talk(client, provider)
    ours.say(create(model=K))
    await theirs.json()
    before = len(store.entries)
    theirs.say('{"type":"response.created","response":{"id":"resp_1","object":"response"},"x":"%s"}' % ("y" * 70_000))
    theirs.say({"type": "response.created", "response": {"id": "resp_2", "object": "another"}})
    theirs.say({"type": "response.created", "response": {"id": "resp_3", "object": "response"}})
    for _ in range(3):
        await ours.json()
    await until(lambda: len(store.entries) > before)
    assert {made.id for made in store.entries} - {"resp_k", "resp_a", "conv_k"} == {"resp_3"}


async def test_a_word_is_no_conversation(door, client, provider, store):
    ours, theirs = await talk(client, provider, REALTIME)
    ours.say({"type": "response.create", "response": {"conversation": "auto"}})
    await theirs.json()
    ours.say({"type": "input_audio_buffer.commit"})
    await theirs.json()
    assert store.asked == 0
