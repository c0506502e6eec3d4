"""Processes that die: workers, Redis, Redis' memory. What is refused, what goes on, what comes back."""

import asyncio
import os
import signal

import anthropic
from raw import ask
from system import ROOT, System, until

BODY = {"model": "claude-opus-4-5", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
PATH = "/anthropic/v1/messages"
KEY = {"x-api-key": "demo-alice", "X-Sim-Interval": "0"}


async def status(system: System, model: str) -> tuple[int, str | None]:
    try:
        raw = await ask(system.proxy, PATH, {**BODY, "model": model}, KEY)
    except OSError:
        return 0, None
    return raw.status, raw.header("portcullis-reason")


async def test_a_killed_worker_comes_back_and_no_request_is_answered_wrongly(fresh_system):
    system = fresh_system.start()
    await system.offline("claude-fable-5")
    seen: list[tuple[str, int, str | None]] = []
    stop = asyncio.Event()

    async def load(model: str) -> None:
        while not stop.is_set():
            seen.append((model, *await status(system, model)))

    clients = [asyncio.create_task(load(m)) for m in ("claude-opus-4-5", "claude-fable-5") for _ in range(10)]
    await until(lambda: len(seen) > 200, "load")
    victim = system.workers()[0]
    os.kill(victim.pid, signal.SIGKILL)
    count = len(seen)
    await until(lambda: len(seen) > count + 100, "the others going on")
    await until(
        lambda: len(system.workers()) == 2 and victim.pid not in [w.pid for w in system.workers()], "a new worker"
    )
    count = len(seen)
    await until(lambda: len(seen) > count + 200, "both serving")
    receipt = await system.offline("gpt-5.4")
    assert receipt["enforced"]
    assert receipt["elapsed_ms"] < 3000, "the dead worker's lease was not waited for"
    stop.set()
    await asyncio.gather(*clients)
    allowed = {
        "claude-opus-4-5": {(200, None), (0, None)},
        "claude-fable-5": {(403, "model_offline"), (0, None)},
    }
    wrong = [row for row in seen if row[1:] not in allowed[row[0]]]
    assert not wrong, wrong[:5]
    assert sum(1 for row in seen if row[1] == 0) <= 40, "only what the dead worker held was lost"


async def test_redis_gone_and_back(fresh_system):
    system = fresh_system.start()
    await system.offline("claude-fable-5")
    await asyncio.gather(*(status(system, "claude-opus-4-5") for _ in range(100)))  # both workers know the caller
    system.kill("redis")

    async def stale(model: str) -> bool:
        return await status(system, model) == (503, "policy_stale")

    assert (await status(system, "claude-opus-4-5"))[0] == 200, "a lease outlives its Redis"
    await until(lambda: stale("claude-fable-5"), "the controlled model's lease to end", 10)
    await until(lambda: stale("claude-opus-4-5"), "the default lease to end", 20)
    async with anthropic.AsyncAnthropic(
        base_url=f"{system.proxy}/anthropic", api_key="demo-alice", max_retries=0
    ) as client:
        try:
            await client.messages.create(**BODY)
        except anthropic.InternalServerError as error:
            assert error.response.headers["retry-after"]
            assert error.response.headers["x-should-retry"] == "true"
        else:
            raise AssertionError("served without a lease")
    system.start_redis()
    await serves_again(system)


async def serves_again(system: System) -> None:
    """Both workers are back: what is on is served, what is off is refused as that, and never served before."""
    on, off = [], []
    while not (on[-20:] == [200] * 20 and off[-20:] == [(403, "model_offline")] * 20):
        on.append((await status(system, "claude-opus-4-5"))[0])
        off.append(await status(system, "claude-fable-5"))
        assert len(on) < 20_000, (on[-5:], off[-5:])
    assert set(on) <= {200, 503}
    assert set(off) <= {(403, "model_offline"), (503, "policy_stale")}


async def test_a_redis_that_comes_back_empty_reopens_nothing(fresh_system):
    system = fresh_system.start()
    receipt = await system.offline("claude-fable-5")
    system.empty_redis()

    async def refused() -> bool:
        return (
            await status(system, "claude-fable-5") == (503, "policy_stale") == await status(system, "claude-opus-4-5")
        )

    await until(refused, "everything refused", 20)

    async def fenced() -> bool:
        return sum('state="fenced"' in name for name in await system.metrics()) == 2

    await until(fenced, "both workers to know")
    key = {**KEY, "x-api-key": "demo-bob"}  # no worker has seen it, and Redis has forgotten it
    assert {(await ask(system.proxy, PATH, BODY, key)).status for _ in range(6)} == {503}, "401 would be a lie"
    said = system.run("init", "--seeds", str(system.directory / "none"), code=None)
    assert "restore" not in said, "seeds that are not there restore nothing"
    said = system.run("init", "--seeds", str(ROOT / "seeds"))
    assert "restore" in said
    await serves_again(system)
    replicas = (await system.ask_admin("GET", "/api/v1/policy")).json
    assert receipt["hold"] in str(replicas)


async def test_sigterm_lets_streams_end_and_refuses_new_connections(fresh_system):
    system = fresh_system.start()
    headers = {**KEY, "X-Sim-Interval": "0.02", "X-Sim-Events": "60"}
    stream = asyncio.create_task(ask(system.proxy, PATH, {**BODY, "stream": True}, headers))

    async def streaming() -> bool:
        return (await system.metrics()).get('portcullis_in_flight_requests{provider="anthropic"}', 0) == 1

    await until(streaming, "the stream")
    gateway = system.processes["gateway"]
    gateway.send_signal(signal.SIGTERM)
    raw = await stream
    assert raw.ended == "complete"
    assert b"message_stop" in raw.body
    assert await asyncio.to_thread(gateway.wait, 10) == 0
    members = await _members(system)
    assert all(said.get("left") for said in members.values()), members
    system.processes.pop("gateway")


async def _members(system: System) -> dict:
    import json

    import redis.asyncio

    async with redis.asyncio.Redis(unix_socket_path=str(system.redis_socket)) as client:
        return {key: json.loads(value) for key, value in (await client.hgetall("{pc}:replicas")).items()}


async def test_a_second_signal_ends_at_once(fresh_system):
    system = fresh_system.start()
    headers = {**KEY, "X-Sim-Interval": "1", "X-Sim-Events": "1000"}
    stream = asyncio.create_task(ask(system.proxy, PATH, {**BODY, "stream": True}, headers))

    async def streaming() -> bool:
        return (await system.metrics()).get('portcullis_in_flight_requests{provider="anthropic"}', 0) == 1

    await until(streaming, "the stream")
    gateway = system.processes["gateway"]
    gateway.send_signal(signal.SIGTERM)
    await until(lambda: system.events("leaving"), "the first signal to be taken")
    gateway.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(gateway.wait, 5) == 0
    assert (await stream).ended in ("cut", "reset")
    system.processes.pop("gateway")
