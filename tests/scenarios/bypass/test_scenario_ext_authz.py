"""The decision as a service: whatever cannot be got past the gateway cannot be got past an Envoy or nginx that asks it.

The bytes are those of `test_scenario_bypass`, sent to the proxy; what counts is what arrives at the provider. One in six
is sent, of every row some; all of them with ``EVERY_CASE=1``.
"""

import asyncio
import json
import os
import statistics
from collections import defaultdict
from time import monotonic

import aiohttp
import anthropic
import openai
import pytest
from bypass_client import Answer, Client
from bypass_proxies import SHOWN, start_envoy, start_nginx
from bypass_requests import Case, request
from raw import ask
from system import new_system, until
from test_scenario_bypass import CASES, PERMITTED, ask_all, hold, received

KEY = {"Authorization": "Bearer demo-alice"}
HELLO = {"model": "gpt-5.4-mini", "messages": [{"role": "user", "content": "Hi"}]}
CHAT = "/openai/v1/chat/completions"
CONVERSE = "/model/us.anthropic.claude-opus-4-5-20251101-v1%3A0/converse"
DENIED_CONVERSE = "/model/anthropic.claude-fable-5-20260324-v1%3A0/converse"
REPAIRED = ("absolute form", "foreign authority", "bare line feeds", "folded")
"""What Envoy makes a plain request of before it asks, and the gateway refuses where it comes in: A is asked for, and had."""

STEP = 1 if os.environ.get("EVERY_CASE") else 6
ROWS = sorted({case.row for case in CASES}, key=int)


def tried() -> list[Case]:
    """Some of every row."""
    asks = [case for case in CASES if not case.name.endswith(REPAIRED)]
    return [case for row in ROWS for case in [one for one in asks if one.row == row][::STEP]]


TRIED = tried()


def denied(answer: Answer) -> bool:
    """Whether it is a refusal; Envoy gives one to gRPC as 200 with the status of gRPC."""
    return answer.status >= 400 or answer.headers.get("grpc-status", "0") != "0"


@pytest.fixture(scope="module")
def asked():
    """A gateway that answers questions, with the holds of the bypass tests."""
    system = new_system(PORTCULLIS_AUTHZ__ENABLED="true", PORTCULLIS_PROXY__LIMITS__BODY_BYTES=str(1024 * 1024))
    try:
        asyncio.run(hold(system.start()))
        yield system
    finally:
        system.stop()


@pytest.fixture(scope="module")
def envoy(asked):
    return start_envoy(asked)


@pytest.fixture(scope="module")
def nginx(asked):
    return start_nginx(asked)


class Through:
    """A system as its clients see it through a proxy."""

    def __init__(self, proxy: str) -> None:
        self.proxy = proxy


# ------------------------------------------------------------------------------------------------ Envoy


async def test_nothing_gets_past_envoy(asked, envoy):
    before = await received(asked)
    answers = await ask_all(Through(envoy), TRIED)
    reached = await received(asked) - before
    wrong, tally = [], defaultdict(int)
    for case, answer in answers:
        if isinstance(answer, Exception):
            tally["closed by Envoy"] += 1
        elif not denied(answer):
            wrong.append(f"row {case.row} {case.name}: {answer.status}")
        else:
            tally["refused by the gateway" if "portcullis-reason" in answer.headers else "refused by Envoy"] += 1
    print(f"\nthrough Envoy: tried {len(answers)}, {dict(tally)}, reached the provider {reached}")
    assert wrong == [], "\n".join(wrong)
    assert reached == 0
    assert tally["refused by the gateway"] > len(TRIED) * 0.8


@pytest.mark.parametrize("name", PERMITTED)
async def test_what_is_permitted_passes_envoy(asked, envoy, name):
    before = await received(asked)
    client = Client(envoy)
    answer = await client.ask(PERMITTED[name])
    client.close()
    assert "portcullis-reason" not in answer.headers, answer.body
    assert await received(asked) == before + 1


async def test_official_sdks_work_through_envoy_and_are_told(asked, envoy):
    async with openai.AsyncOpenAI(base_url=f"{envoy}/openai/v1", api_key="demo-alice", max_retries=0) as client:
        events = [
            event
            async for event in await client.chat.completions.create(
                model="gpt-5.4-mini", messages=[{"role": "user", "content": "Hi"}], stream=True
            )
        ]
        assert len(events) > 2
        with pytest.raises(openai.APIStatusError) as refused:
            await client.chat.completions.create(model="gpt-5.4", messages=[])
        assert (refused.value.status_code, refused.value.code) == (451, "model_offline")
    async with anthropic.AsyncAnthropic(base_url=f"{envoy}/anthropic", api_key="demo-alice", max_retries=0) as client:
        with pytest.raises(anthropic.APIStatusError, match="You may use"):
            await client.messages.create(model="claude-fable-5", max_tokens=9, messages=[])


async def test_the_provider_never_gets_the_callers_key(asked, envoy):
    assert (await ask(envoy, CHAT, HELLO, KEY)).status == 200
    (last,) = (await asked.simulated("/_sim/requests?full=1&limit=1"))["requests"]
    assert "demo-alice" not in json.dumps(last)


async def test_a_body_that_envoy_cuts_is_denied(asked, envoy):
    """Past ``max_request_bytes`` it is marked; the mark is Envoy's, not the client's."""
    before = await received(asked)
    seen = []
    async with aiohttp.ClientSession(envoy, headers=KEY) as session:
        for size, mark in ((10, "true"), (SHOWN + 1, "false")):
            body = HELLO | {"pad": "x" * size}
            async with session.post(CHAT, json=body, headers={"x-envoy-auth-partial-body": mark}) as answer:
                seen.append((answer.status, answer.headers.get("Portcullis-Reason")))
    assert seen == [(200, None), (413, "malformed")]
    assert await received(asked) == before + 1


async def test_a_websocket_is_denied(asked, envoy):
    handshake = (
        "GET /openai/v1/responses HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer demo-alice\r\nConnection: Upgrade\r\n"
        "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    before = await received(asked)
    client = Client(envoy)
    assert (await client.ask(handshake.encode())).status >= 400
    client.close()
    assert await received(asked) == before


async def test_a_kill_takes_effect_through_envoy(asked, envoy):
    """Who asks after the receipt is refused; until then, the last that was permitted is younger than the order."""
    permitted, refused, stop = [], [], asyncio.Event()

    async def keep_asking() -> None:
        while not stop.is_set():
            began = monotonic()
            answer = await ask(envoy, CHAT, HELLO, KEY)
            (permitted if answer.status == 200 else refused).append((began, monotonic(), answer.status))

    clients = [asyncio.create_task(keep_asking()) for _ in range(4)]
    await until(lambda: len(permitted) >= 40, "requests that are permitted")
    ordered = monotonic()
    receipt = await asked.offline("gpt-5.4-mini")
    enforced = monotonic()
    await until(lambda: sum(began > enforced for began, *_ in refused) >= 20, "requests after the receipt")
    stop.set()
    await asyncio.gather(*clients)
    await asked.ask_admin("POST", f"/api/v1/holds/{receipt['hold']}/undo", {})
    assert receipt["enforced"]
    assert {status for *_, status in refused} == {403}
    assert not [began for began, *_ in permitted if began > enforced]
    last = max(began for began, *_ in permitted)
    took = [ended - began for began, ended, _ in permitted]
    print(
        f"\nthrough Envoy: receipt after {receipt['elapsed_ms']} ms, last request that was permitted asked "
        f"{(last - ordered) * 1000:.1f} ms after the order; a permitted request takes {statistics.median(took) * 1000:.1f} ms"
    )


async def test_no_gateway_means_no(asked, envoy):
    """Stopped, not gone: it does not answer."""
    for worker in asked.workers():
        worker.suspend()
    try:
        answer = await ask(envoy, CHAT, HELLO, KEY)
    finally:
        for worker in asked.workers():
            worker.resume()
    assert answer.status == 503


# ------------------------------------------------------------------------------------------------ nginx


def to_nginx(data: bytes) -> bytes:
    """The same request, below the name that nginx gives to its one provider."""
    return data.replace(b" /bedrock/", b" /", 1)


def by_path(case: Case) -> bool:
    """Whether it is about Bedrock, and can be asked there at all."""
    return case.provider == "bedrock" and b" /bedrock/" in case.data.split(b"\r\n", 1)[0]


async def test_nothing_gets_past_nginx(asked, nginx):
    cases = [Case(one.row, one.name, one.provider, to_nginx(one.data), one.statuses) for one in CASES if by_path(one)]
    before = await received(asked)
    answers = await ask_all(Through(nginx), cases)
    reached = await received(asked) - before
    wrong = [
        f"row {case.row} {case.name}: {answer.status}"
        for case, answer in answers
        if isinstance(answer, Answer) and answer.status < 400
    ]
    print(f"\nthrough nginx: tried {len(cases)}, reached the provider {reached}")
    assert wrong == []
    assert reached == 0
    assert len(cases) > 50


async def through_nginx(nginx: str, path: str, body, *headers: str) -> Answer:
    client = Client(nginx)
    try:
        return await client.ask(to_nginx(request("bedrock", path, body, *headers)))
    finally:
        client.close()


async def test_nginx_passes_what_the_path_decides_and_passes_a_refusal_on(asked, nginx):
    messages = {"messages": [{"role": "user", "content": [{"text": "Hi"}]}]}
    before = await received(asked)
    assert (await through_nginx(nginx, CONVERSE, messages)).status == 200
    assert (await through_nginx(nginx, CONVERSE.replace("converse", "converse-stream"), messages)).status == 200
    assert await received(asked) == before + 2
    refused = await through_nginx(nginx, DENIED_CONVERSE, messages)
    assert (refused.status, refused.headers["portcullis-reason"]) == (451, "model_offline")
    assert refused.json["portcullis"]["model"] == "claude-fable-5"
    unread = await through_nginx(nginx, CONVERSE.replace("converse", "invoke"), messages)
    assert (unread.status, unread.headers["portcullis-reason"]) == (403, "model_unresolved")
    told = await through_nginx(
        nginx, DENIED_CONVERSE, messages, f"X-Original-URI: /bedrock{CONVERSE}", "X-Original-Method: POST"
    )
    assert told.status == 451, "what a client says of itself does not count"
    slash = await through_nginx(nginx, "/model/a%2Fconverse/converse", messages)
    assert slash.status == 400
    assert await received(asked) == before + 2


async def test_a_kill_takes_effect_through_nginx(asked, nginx):
    messages = {"messages": [{"role": "user", "content": [{"text": "Hi"}]}]}
    assert (await through_nginx(nginx, CONVERSE, messages)).status == 200
    receipt = await asked.offline("claude-opus-4-5")
    assert (await through_nginx(nginx, CONVERSE, messages)).status == 403
    print(f"\nthrough nginx: refused from {receipt['elapsed_ms']} ms on")
    await asked.ask_admin("POST", f"/api/v1/holds/{receipt['hold']}/undo", {})
    assert (await through_nginx(nginx, CONVERSE, messages)).status == 200
