"""A kill: proven on every replica, cuts streams in flight, tells the refused why, and hurts nothing else."""

import asyncio
import json
import statistics
import time
import tomllib

import anthropic
import openai
import pytest
from raw import Raw, ask
from system import ROOT

MESSAGES = [{"role": "user", "content": "Tell me a story."}]
CATALOG = tomllib.loads((ROOT / "seeds" / "catalog.toml").read_text())["models"]


def names(model: str, provider: str) -> list[str]:
    """Every name of a model at a provider, aliases and all; patterns aside."""
    (route,) = (route for route in CATALOG[model]["routes"] if route["provider"] == provider)
    return [name for name in (*route["names"], *CATALOG[model]["aliases"]) if "*" not in name]


FABLE_NAMES = names("claude-fable-5", "anthropic")
GPT_NAMES = names("gpt-5.4", "openai")
ORDER = {"authority": "Department of Commerce", "reference": "BIS-2026-0612", "disclose": True}


def claude(system, **more) -> anthropic.AsyncAnthropic:
    return anthropic.AsyncAnthropic(base_url=f"{system.proxy}/anthropic", api_key="demo-alice", **more)


def gpt(system, **more) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{system.proxy}/openai/v1", api_key="demo-alice", **more)


def stream_body(model: str) -> dict:
    return {"model": model, "max_tokens": 999, "stream": True, "messages": MESSAGES}


async def arrivals(system, model: str) -> int:
    stats = await system.simulated("/_sim/requests?limit=10000")
    return sum(1 for request in stats["requests"] if request.get("model") == model)


async def test_the_command_takes_a_model_offline_and_a_thousand_attempts_are_refused(system):
    said = system.run(
        "offline", "claude-fable-5", "--note", "letter 17:05", "--public-message", "Unavailable under an order.",
        "--authority", ORDER["authority"], "--reference", ORDER["reference"], "--disclose", token="demo-operator",
    )  # fmt: skip
    assert "enforced on 2 of 2 replicas" in said, said
    gpt_receipt = await system.offline("gpt-5.4", order=ORDER)
    assert gpt_receipt["enforced"]
    before = await system.simulated("/_sim/stats")
    blocked = (await system.metrics()).get
    was = sum(
        blocked(f'portcullis_blocked_total{{model="{m}",reason="model_offline"}}', 0)
        for m in ("claude-fable-5", "gpt-5.4")
    )

    async def attempt_claude(client, number):
        with pytest.raises(anthropic.APIStatusError) as raised:
            await client.messages.create(model=FABLE_NAMES[number % len(FABLE_NAMES)], max_tokens=9, messages=MESSAGES)
        return raised.value.response

    async def attempt_gpt(client, number):
        with pytest.raises(openai.APIStatusError) as raised:
            await client.chat.completions.create(model=GPT_NAMES[number % len(GPT_NAMES)], messages=MESSAGES)
        return raised.value.response

    async with claude(system) as anthropic_client, gpt(system) as openai_client:
        responses = await asyncio.gather(
            *(attempt_claude(anthropic_client, n) for n in range(500)),
            *(attempt_gpt(openai_client, n) for n in range(500)),
        )
    for response in responses:
        assert response.status_code == 451
        assert response.headers["cache-control"] == "no-store"
        assert response.headers["x-should-retry"] == "false"
        assert 'rel="blocked-by"' in response.headers["link"]
        error = response.json()["error"]
        assert error["type"] == "permission_error"
        details = error["portcullis"]
        assert details["reason"] == "model_offline"
        assert details["scope"] == "everyone"
        assert details["retry"] is False
        assert details["alternatives"]
        assert details["order"]["reference"] == ORDER["reference"]
        assert details["request_id"] == response.headers["portcullis-request-id"]
        assert "letter" not in response.text
    after = await system.simulated("/_sim/stats")
    assert after["total"] == before["total"], "a request reached the provider after the receipt"
    now = await system.metrics()
    blocked_now = sum(
        now[f'portcullis_blocked_total{{model="{m}",reason="model_offline"}}'] for m in ("claude-fable-5", "gpt-5.4")
    )
    assert blocked_now - was == 1000, "an SDK retried"


async def test_two_holds_are_released_one_by_one(system):
    first = await system.offline("claude-fable-5", note="mine")
    second = await system.offline("claude-fable-5", order=ORDER)
    said = system.run("online", "claude-fable-5", "--hold", first["hold"], code=None)
    assert "STILL OFF" in said
    assert "demo-operator" in said
    assert second["hold"] in said
    async with claude(system, max_retries=0) as client:
        with pytest.raises(anthropic.APIStatusError) as raised:
            await client.messages.create(model="claude-fable-5", max_tokens=9, messages=MESSAGES)
        assert raised.value.status_code == 451
        refused = await system.ask_admin("POST", f"/api/v1/holds/{second['hold']}/release", {})
        assert refused.status == 202, "more access under an order takes two"
        assert refused.json["awaiting"] == "approval"
        with pytest.raises(anthropic.APIStatusError):
            await client.messages.create(model="claude-fable-5", max_tokens=9, messages=MESSAGES)
        assert (await system.online("claude-fable-5"))["enforced"]
        answer = await client.messages.create(model="claude-fable-5", max_tokens=9, messages=MESSAGES)
    assert answer.content


async def test_without_an_order_the_status_is_403(system):
    await system.offline("claude-fable-5", public_message="Maintenance.")
    async with claude(system, max_retries=0) as client:
        with pytest.raises(anthropic.PermissionDeniedError) as raised:
            await client.messages.create(model="claude-fable-5", max_tokens=9, messages=MESSAGES)
    assert "Maintenance." in str(raised.value)
    assert "link" not in raised.value.response.headers


async def test_a_pattern_covers_a_model_that_is_added_later(system):
    said = system.run("offline", "--pattern", "*")
    assert "enforced" in said
    model = {"routes": [{"provider": "openai", "names": ["gpt-6"]}], "family": "gpt"}
    answer = await system.ask_admin(
        "PUT", "/api/v1/models/gpt-6", model, headers={"If-None-Match": "*"}, token="demo-approver"
    )
    assert answer.status in (200, 201), answer.json
    async with gpt(system, max_retries=0) as client:
        with pytest.raises(openai.PermissionDeniedError):
            await client.chat.completions.create(model="gpt-6", messages=MESSAGES)


async def test_three_hundred_streams_half_of_them_cut(system):
    """Half on the model that goes offline: an error event at a boundary or a reset, never a clean end."""
    paced = {"x-api-key": "demo-alice", "X-Sim-Interval": "0.08", "X-Sim-Events": "60"}
    split = {**paced, "X-Sim-Split": "1"}
    killed = [Raw() for _ in range(150)]
    spared = [Raw() for _ in range(150)]
    tasks = [
        asyncio.create_task(
            ask(system.proxy, "/anthropic/v1/messages", stream_body("claude-fable-5"),
                {**(split if n % 3 == 0 else paced), "X-Sim-Tag": f"killed-{n}"}, raw)
        )
        for n, raw in enumerate(killed)
    ]  # fmt: skip
    tasks += [
        asyncio.create_task(
            ask(system.proxy, "/anthropic/v1/messages", stream_body("claude-opus-4-5"), {**paced, "X-Sim-Tag": f"spared-{n}"}, raw)
        )
        for n, raw in enumerate(spared)
    ]  # fmt: skip
    ends: list[float] = []
    for task in tasks[:150]:
        task.add_done_callback(lambda _: ends.append(time.monotonic()))
    sdk = asyncio.create_task(sdk_stream(system))
    for raw in killed + spared:
        await asyncio.wait_for(raw.began.wait(), 20)

    ordered_at = time.monotonic()
    receipt = await system.offline("claude-fable-5", order=ORDER)
    receipt_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    assert receipt["enforced"]
    assert receipt["streams_cut"] >= 150
    raised = await sdk
    assert raised is not None, "the SDK took a cut for an end"
    await asyncio.gather(*tasks)

    endings = {}
    for n, raw in enumerate(killed):
        assert raw.ended in ("cut", "reset"), f"stream {n} ended {raw.ended}"
        last = raw.body.rsplit(b"event: ", 1)[-1]
        told = last.startswith(b"error\n") and b"model_offline" in last
        if told:
            assert raw.ended == "cut"
            assert json.loads(last.split(b"data: ", 1)[1])["error"]["portcullis"]["reason"] == "model_offline"
        else:
            assert raw.ended == "reset", raw.body[-200:]
        endings["error event" if told else "reset"] = endings.get("error event" if told else "reset", 0) + 1
        await assert_nothing_after(system, f"killed-{n}", raw, receipt_ns, told=told)
    assert endings.get("error event"), endings
    assert endings.get("reset"), "some were in the middle of an event"
    # byte-identical with what the provider gives directly
    direct = await ask(system.simulator, "/anthropic/v1/messages", stream_body("claude-opus-4-5"),
                       {"x-api-key": "sim-key", "X-Sim-Interval": "0", "X-Sim-Events": "60"})  # fmt: skip
    assert {raw.ended for raw in spared} == {"complete"}
    assert {raw.body for raw in spared} == {direct.body}
    stats = await system.simulated("/_sim/stats")
    assert stats["open_streams"] == 0
    cuts = sorted(end - ordered_at for end in ends)
    print(f"\n300 streams, 150 cut: endings {endings}; receipt after {receipt['elapsed_ms']:.1f} ms; "
          f"time from the order to the last client's end {cuts[-1] * 1000:.0f} ms (median {statistics.median(cuts) * 1000:.0f})")  # fmt: skip


async def sdk_stream(system) -> Exception | None:
    async with claude(system, max_retries=0) as client:
        try:
            async with client.messages.stream(
                model="claude-fable-5",
                max_tokens=9,
                messages=MESSAGES,
                extra_headers={"X-Sim-Interval": "0.02", "X-Sim-Events": "400"},
            ) as stream:
                async for _ in stream:
                    pass
        except Exception as error:
            return error
    return None


async def assert_nothing_after(system, tag: str, raw: Raw, receipt_ns: int, *, told: bool) -> None:
    """The last byte that the client got of the provider's stream was emitted before the receipt."""
    got = len(raw.body) if not told else raw.body.rindex(b"event: error")
    found = await system.simulated(f"/_sim/requests?tag={tag}&full=1")
    (record,) = found["requests"]
    assert record["ended"] == "client_gone"
    covering = [at for at, offset in record["emissions"] if offset >= got]
    assert covering, "the client has more than was emitted"
    assert covering[0] <= receipt_ns


async def test_a_request_waiting_for_its_first_byte_gets_the_refusal(system):
    headers = {"x-api-key": "demo-alice", "X-Sim-First-Byte": "30"}
    waiting = asyncio.create_task(ask(system.proxy, "/anthropic/v1/messages", stream_body("claude-fable-5"), headers))

    async def in_flight() -> bool:
        return (await system.metrics()).get('portcullis_in_flight_requests{provider="anthropic"}', 0) >= 1

    while not await in_flight():
        await asyncio.sleep(0.01)
    await system.offline("claude-fable-5", order=ORDER)
    raw = await asyncio.wait_for(waiting, 2)
    assert raw.status == 451
    assert raw.json()["error"]["portcullis"]["reason"] == "model_offline"
    assert (await system.simulated("/_sim/stats"))["open_streams"] == 0


async def test_let_finish_lets_streams_end_and_refuses_new_ones(system):
    raw = Raw()
    headers = {"x-api-key": "demo-alice", "X-Sim-Interval": "0.02", "X-Sim-Events": "40"}
    stream = asyncio.create_task(
        ask(system.proxy, "/anthropic/v1/messages", stream_body("claude-fable-5"), headers, raw)
    )
    await asyncio.wait_for(raw.began.wait(), 10)
    receipt = await system.offline("claude-fable-5", in_flight={"let_finish": 30})
    assert receipt["enforced"]
    assert receipt["streams_cut"] == 0
    assert stream.done(), "enforced means: nothing of it goes on"
    assert raw.ended == "complete"
