"""Things made through the gateway are known by their models afterwards: what is off stops those of it, and no others."""

import asyncio
import contextlib
import json

import aiohttp
import pytest
import redis
from system import until
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

A, K = "gpt-5.4-mini", "gpt-5.4"
ALICE, BOB = "demo-alice", "demo-bob"


class Api:
    """OpenAI's API through the gateway."""

    def __init__(self, system, session) -> None:
        self.system, self.session = system, session

    async def __call__(self, method, path, body=None, *, key=ALICE, form=None):
        headers = {"Authorization": f"Bearer {key}", "X-Sim-Interval": "0"}
        url = f"{self.system.proxy}/openai/v1/{path}"
        async with self.session.request(method, url, json=body, data=form, headers=headers) as response:
            text = await response.text()
            return response.status, json.loads(text) if text.startswith("{") and "\n" not in text.strip() else text

    async def made(self, path, body=None, **options):
        status, answer = await self("POST", path, body, **options)
        assert status == 200, answer
        return answer["id"]

    async def file(self, *models):
        lines = [
            json.dumps({"custom_id": str(n), "method": "POST", "url": "/v1/responses", "body": {"model": model}})
            for n, model in enumerate(models)
        ]
        form = aiohttp.FormData()
        form.add_field("purpose", "batch")
        form.add_field("file", "\n".join(lines).encode(), filename="b.jsonl", content_type="application/jsonl")
        return await self.made("files", form=form)


@pytest.fixture
async def api(system):
    async with aiohttp.ClientSession() as session:
        yield Api(system, session)


def reason(answer):
    return answer["error"]["portcullis"]["reason"]


async def refused(api, method, path, body=None, **options):
    status, answer = await api(method, path, body, **options)
    assert status in (403, 451), (method, path, status, answer)
    return reason(answer)


async def of_model(api, model):
    """One of each kind, all made with a model."""
    file = await api.file(model)
    batch = await api.made("batches", {"input_file_id": file, "endpoint": "/v1/responses", "completion_window": "24h"})
    status, told = await api("GET", f"batches/{batch}")
    assert status == 200
    assistant, thread = await api.made("assistants", {"model": model}), await api.made("threads", {})
    return {
        "response": await api.made("responses", {"model": model, "input": f"Hi {model}"}),
        "file": file,
        "output": told["output_file_id"],
        "assistant": assistant,
        "thread": thread,
        "run": await api.made(f"threads/{thread}/runs", {"assistant_id": assistant}),
    }


def modelless(things):
    """Operations that name no model, and use one of each kind."""
    batch = {"input_file_id": things["file"], "endpoint": "/v1/responses", "completion_window": "24h"}
    return [
        ("GET", f"responses/{things['response']}", None),
        ("POST", "responses", {"previous_response_id": things["response"], "input": "And?"}),
        ("POST", "batches", batch),
        ("GET", f"files/{things['file']}/content", None),
        ("GET", f"files/{things['output']}/content", None),
        ("POST", f"threads/{things['thread']}/runs", {"assistant_id": things["assistant"]}),
        ("GET", f"threads/{things['thread']}/messages", None),
    ]


async def test_one_model_off_stops_what_was_made_with_it_and_nothing_else(system, api):
    of_a, of_k = await of_model(api, A), await of_model(api, K)
    unknown = {kind: f"{kind}-from-elsewhere" for kind in of_a}
    before = [(await api(*one))[0] for one in (*modelless(of_a), *modelless(of_k))]
    assert set(before) == {200}
    await system.offline(K)
    for operation in modelless(of_a):
        status, answer = await api(*operation)
        assert status == 200, (operation, answer)
    assert [await refused(api, *operation) for operation in modelless(of_k)] == ["model_offline"] * 7
    for operation in modelless(unknown):
        status, answer = await api(*operation)
        assert (status, reason(answer)) == (403, "model_unresolved")
        assert "Name the model" in answer["error"]["message"]
    # what runs nothing goes on: a batch can still be cancelled, a thing looked after and ended
    assert (await api("GET", f"assistants/{of_k['assistant']}"))[0] == 200
    assert (await api("DELETE", f"responses/{of_k['response']}"))[0] == 200
    await system.release_all()
    assert (await api(*modelless(of_k)[1]))[0] != 403


@contextlib.asynccontextmanager
async def socket(system, path="responses"):
    headers = {"Authorization": f"Bearer {ALICE}", "X-Sim-Interval": "0"}
    async with connect(f"{system.proxy.replace('http', 'ws')}/openai/v1/{path}", additional_headers=headers) as ws:
        yield ws


async def said(ws, **message):
    """What comes back to a message, up to the end of the answer or the connection."""
    await ws.send(json.dumps({"type": "response.create", **message}))
    heard = []
    with contextlib.suppress(ConnectionClosed):
        while not heard or heard[-1]["type"] not in ("response.completed", "error"):
            heard.append(json.loads(await asyncio.wait_for(ws.recv(), 10)))
    return heard


async def test_a_message_on_a_websocket_is_decided_as_a_request(system, api):
    of_a = await api.made("responses", {"model": A, "input": "Hi A"})
    of_k = await api.made("responses", {"model": K, "input": "Hi K"})
    conversation = await api.made("threads", {})  # any id that nobody has for a conversation
    async with socket(system) as ws:
        begun = [event for event in await said(ws, model=K, input="Hi K") if event["type"] == "response.created"]
    by_socket = begun[0]["response"]["id"]
    await system.offline(K)
    arrived = (await system.simulated("/_sim/stats"))["total"]
    for message in (
        {"previous_response_id": of_k, "input": "And?"},
        {"previous_response_id": of_k, "model": A, "input": "And?"},
        {"previous_response_id": by_socket, "model": A, "input": "And?"},
    ):
        over_http = await refused(api, "POST", "responses", message)
        async with socket(system) as ws:
            (error,) = await said(ws, **message)
            assert reason(error) == over_http == "model_offline"
            with pytest.raises(ConnectionClosed) as closed:
                await ws.recv()
            assert closed.value.rcvd.code == 1008
    assert (await system.simulated("/_sim/stats"))["total"] - arrived <= 3, "handshakes alone"
    async with socket(system) as ws:
        assert (await said(ws, model=A, previous_response_id=of_a, input="And?"))[-1]["type"] == "response.completed"
        assert (await said(ws, model=A, conversation=conversation, input="Hi"))[-1]["type"] == "response.completed"
        assert reason((await said(ws, previous_response_id="resp_elsewhere"))[-1]) == "model_unresolved"


async def test_a_thing_is_decided_for_whoever_uses_it(system, api):
    made = await api.made("responses", {"model": K, "input": "Hi"}, key=ALICE)
    assert (await api("GET", f"responses/{made}", key=BOB))[0] == 200
    await system.offline(K)
    assert await refused(api, "GET", f"responses/{made}", key=BOB) == "model_offline"


async def test_what_was_changed_to_another_model_is_of_both(system, api):
    assistant = await api.made("assistants", {"model": A})
    thread = await api.made("threads", {})
    assert (await api("POST", f"assistants/{assistant}", {"model": K}))[0] == 200
    await api.made(f"threads/{thread}/runs", {"assistant_id": assistant})
    await system.offline(K)
    assert await refused(api, "POST", f"assistants/{assistant}", {"model": K}) == "model_offline"
    run = {"assistant_id": assistant}
    assert await refused(api, "POST", f"threads/{thread}/runs", run) == "model_offline"
    assert await refused(api, "GET", f"threads/{thread}/messages") == "model_offline"
    other = await api.made("threads", {})
    assert (await api("GET", f"threads/{other}/messages"))[0] == 200, "nobody has written in it"


async def test_a_refused_change_leaves_nothing(system, api):
    assistant, thread = await api.made("assistants", {"model": A}), await api.made("threads", {})
    await system.offline(K)
    await refused(api, "POST", f"assistants/{assistant}", {"model": K})
    await refused(api, "POST", f"threads/{thread}/runs", {"assistant_id": assistant, "model": K})
    assert (await api("POST", f"threads/{thread}/runs", {"assistant_id": assistant}))[0] == 200


async def test_what_a_stream_makes_is_known_from_its_first_event(system, api):
    made = {}
    for model in (A, K):
        status, text = await api("POST", "responses", {"model": model, "input": f"Stream {model}", "stream": True})
        assert status == 200
        made[model] = json.loads(text.split("data: ", 1)[1].split("\n")[0])["response"]["id"]
    await system.offline(K)

    async def known() -> bool:
        return (await api("GET", f"responses/{made[A]}"))[0] == 200

    await until(known, "the stream's response to be known")
    assert await refused(api, "GET", f"responses/{made[K]}") == "model_offline"


async def test_who_writes_to_redis_gains_nothing(system, api):
    of_a = await api.made("responses", {"model": A, "input": "Hi A"})
    of_k = await api.made("responses", {"model": K, "input": "Hi K"})
    with redis.Redis(unix_socket_path=str(system.redis_socket)) as client:
        sealed = client.get(f"{{pc}}:made:openai:response:{of_a}")
        assert sealed is not None
        assert 29 * 86_400 < client.ttl(f"{{pc}}:made:openai:response:{of_a}") <= 30 * 86_400
        forged = {"resp_moved": sealed, "resp_torn": sealed[:-1], "resp_bare": b"{}", "resp_none": b""}
        for name, value in forged.items():
            client.set(f"{{pc}}:made:openai:response:{name}", value)
        client.set(f"{{pc}}:made:openai:response:{of_k}", sealed.replace(A.encode(), K.encode()))
    await system.offline(K)
    for name in forged:
        assert await refused(api, "GET", f"responses/{name}") == "model_unresolved"
    assert await refused(api, "GET", f"responses/{of_k}") in ("model_offline", "model_unresolved")

    async def alarmed() -> bool:
        return (await system.metrics()).get("portcullis_ledger_forged_total", 0) >= len(forged)

    await until(alarmed, "the alarm")
    assert system.events("ledger_forged")


async def test_without_redis_nothing_is_known(fresh_system):
    system = fresh_system.start()
    async with aiohttp.ClientSession() as session:
        api = Api(system, session)
        thread = await api.made("threads", {})
        system.processes["redis"].send_signal(19)  # SIGSTOP: it answers nothing, and its lease is not over yet
        try:
            async with asyncio.timeout(10):
                status, answer = await api("GET", f"threads/{thread}/messages")
        finally:
            system.processes["redis"].send_signal(18)
        assert (status, reason(answer)) == (503, "policy_stale")
