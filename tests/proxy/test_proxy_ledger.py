"""What one request does with the ledger: looked up before the decision, remembered before the client knows the id."""

import asyncio
import json

import pytest
from proxy_harness import Door, get, post
from redis.exceptions import ConnectionError as RedisConnectionError

from gateway.enforcement.made import Entry, Made
from gateway.proxy.ledger import Ledger

A, K = "gpt-5.4-mini", "gpt-5.4"
RESPONSES = "/openai/v1/responses"


class Memory:
    """A store in memory. ``gate`` holds whatever is asked of it; ``failing`` is what it says instead."""

    def __init__(self) -> None:
        self.entries: dict[Made, Entry] = {}
        self.gate = asyncio.Event()
        self.gate.set()
        self.failing: Exception | None = None
        self.asked = 0

    async def _turn(self) -> None:
        self.asked += 1
        await self.gate.wait()
        if self.failing is not None:
            raise self.failing

    async def get(self, things):
        await self._turn()
        return [self.entries.get(thing) for thing in things]

    async def put(self, things, entry):
        await self._turn()
        self.entries.update(dict.fromkeys(things, entry))

    async def add(self, thing, names, also):
        await self._turn()
        if thing in self.entries:
            self.entries[thing] = self.entries[thing].with_more(names, also)

    async def forget(self, things):
        await self._turn()
        for thing in things:
            self.entries.pop(thing, None)


@pytest.fixture
def store(door: Door) -> Memory:
    memory = Memory()
    door.gate.ledger = Ledger(memory, door.gate.counters)
    return memory


def answer(**fields) -> bytes:
    body = json.dumps(fields).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


async def test_a_response_waits_until_it_is_remembered(client, provider, store):
    client.send(post(RESPONSES, A))
    upstream = await provider.accept()
    await upstream.message()
    store.gate.clear()
    upstream.send(answer(id="resp_1", model=A))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await client.reader.readexactly(1)
    assert store.asked == 1
    store.gate.set()
    assert (await client.message()).json == {"id": "resp_1", "model": A}
    assert store.entries == {Made("openai", "response", "resp_1"): Entry((A,), (), "alice")}


async def test_a_redis_that_fails_keeps_no_response_from_its_client(door, client, provider, store):
    client.send(post(RESPONSES, A))
    upstream = await provider.accept()
    await upstream.message()
    store.failing = RedisConnectionError("gone")
    upstream.send(answer(id="resp_1", model=A))
    assert (await client.message()).status == 200
    assert door.counts["portcullis_ledger_failures_total"] == 1


@pytest.mark.parametrize("failing", [RedisConnectionError("gone"), TimeoutError()])
async def test_where_redis_does_not_say_the_request_is_refused(client, provider, store, failing):
    store.failing = failing
    refused = await client.ask(get("/openai/v1/responses/resp_1"))
    assert (refused.status, refused.reason) == (503, "policy_stale")
    assert provider.connections == 0


async def test_a_kill_while_redis_is_asked_refuses(door, client, provider, store):
    store.entries[Made("openai", "response", "resp_1")] = Entry((K,), (), "bob")
    store.gate.clear()
    client.send(get("/openai/v1/responses/resp_1"))
    async with asyncio.timeout(5):
        while not store.asked:
            await asyncio.sleep(0)
    door.close_models(K)
    store.gate.set()
    refused = await client.message()
    assert (refused.status, refused.reason) == (403, "model_offline")
    assert provider.connections == 0


async def test_a_kill_while_what_it_made_is_remembered_cuts(door, client, provider, store):
    client.send(post(RESPONSES, K))
    upstream = await provider.accept()
    await upstream.message()
    store.gate.clear()
    upstream.send(answer(id="resp_1", model=K))
    async with asyncio.timeout(5):
        while not store.asked:
            await asyncio.sleep(0)
    door.close_models(K)
    assert (await client.message()).reason == "model_offline"
    store.gate.set()


async def test_what_never_changes_is_asked_for_once(client, provider, store):
    store.entries[Made("openai", "response", "resp_1")] = Entry((A,), (), "bob")
    upstream = None
    for _ in range(3):
        client.send(get("/openai/v1/responses/resp_1"))
        upstream = upstream or await provider.accept()
        await upstream.message()
        upstream.send(answer(id="resp_1"))
        assert (await client.message()).status == 200
    assert store.asked == 1


async def test_a_known_thing_names_no_other_model_that_is_off(door, client, provider, store):
    store.entries[Made("openai", "file", "f1")] = Entry((A,), (), "bob")
    door.close_models(K)
    client.send(post("/openai/v1/batches", body=b'{"input_file_id":"f1","endpoint":"/v1/responses"}'))
    upstream = await provider.accept()
    await upstream.message()
    upstream.send(answer(id="batch_1"))
    assert (await client.message()).status == 200
    assert store.entries[Made("openai", "batch", "batch_1")] == Entry((A,), (), "alice")
    refused = await client.ask(post("/openai/v1/batches", body=b'{"input_file_id":"f2","endpoint":"/v1/responses"}'))
    assert (refused.status, refused.reason) == (403, "model_unresolved")


async def test_a_file_of_no_model_runs_nothing_by_itself(door, client, store):
    store.entries[Made("openai", "file", "f1")] = Entry((), (), "bob")
    door.close_models(K)
    refused = await client.ask(post("/openai/v1/batches", body=b'{"input_file_id":"f1"}'))
    assert refused.reason == "model_unresolved"


async def test_an_id_beside_a_model_counts_too(door, client, store):
    store.entries[Made("openai", "response", "resp_1")] = Entry((K,), (), "bob")
    door.close_models(K)
    refused = await client.ask(post(RESPONSES, A, previous_response_id="resp_1"))
    assert refused.reason == "model_offline"


async def test_what_is_deleted_is_forgotten(client, provider, store):
    made = Made("openai", "response", "resp_1")
    store.entries[made] = Entry((A,), (), "alice")
    client.send(get("/openai/v1/responses/resp_1").replace(b"GET", b"DELETE", 1))
    upstream = await provider.accept()
    await upstream.message()
    upstream.send(answer(deleted=True))
    assert (await client.message()).status == 200
    async with asyncio.timeout(5):
        while made in store.entries:
            await asyncio.sleep(0)


async def test_a_request_that_keeps_nothing_asks_nothing(client, provider, store):
    client.send(post(model=A))
    upstream = await provider.accept()
    await upstream.message()
    upstream.send(answer(id="chatcmpl-1", model=A))
    assert (await client.message()).status == 200
    assert store.asked == 0
