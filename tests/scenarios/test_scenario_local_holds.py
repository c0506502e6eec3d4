"""Redis is gone, and a model must go off all the same: on this machine at once, everywhere when Redis is back."""

import asyncio
import signal

from raw import Raw, ask
from system import System, until

OPUS = {"model": "claude-opus-4-5", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
PATH = "/anthropic/v1/messages"
KEY = {"x-api-key": "demo-alice", "X-Sim-Interval": "0"}
LONG = {**KEY, "X-Sim-Interval": "0.02", "X-Sim-Events": "100000"}
STREAMS = 4


async def status(system: System, model: str) -> tuple[int, str | None]:
    raw = await ask(system.proxy, PATH, {**OPUS, "model": model}, KEY)
    return raw.status, raw.header("portcullis-reason")


async def test_a_model_goes_off_without_redis_and_stays_off_through_restarts_until_redis_has_it(fresh_system):
    system = fresh_system.start()
    await asyncio.gather(*(status(system, "claude-opus-4-5") for _ in range(100)))  # every worker knows the caller
    begun = [Raw() for _ in range(STREAMS)]
    streams = [asyncio.create_task(ask(system.proxy, PATH, {**OPUS, "stream": True}, LONG, raw)) for raw in begun]
    await asyncio.gather(*(raw.began.wait() for raw in begun))
    known = system.directory / "state" / "operators.json"
    await until(known.exists, "the operators to be remembered")
    system.kill("redis")

    said = await asyncio.to_thread(system.run, "offline", "claude-opus-4-5", "--note", "letter", code=8)
    assert "THIS MACHINE ONLY: OFFLINE claude-opus-4-5" in said
    assert f"held on 2 of 2 workers · {STREAMS} streams cut" in said
    assert "complete" not in {raw.ended for raw in await asyncio.gather(*streams)}
    assert [await status(system, "claude-opus-4-5") for _ in range(20)] == [(403, "model_offline")] * 20
    assert await status(system, "claude-haiku-4-5") == (200, None), "nothing else is hurt while the lease lasts"
    assert (await system.metrics())["portcullis_local_holds"] == 1

    worker = system.workers()[0]
    worker.send_signal(signal.SIGKILL)
    await until(lambda: len(system.workers()) == 2 and worker not in system.workers(), "another worker")
    refused = await asyncio.to_thread(system.run, "online", "claude-opus-4-5", code=1)
    assert "nothing is opened without it" in refused
    mistake = await asyncio.to_thread(system.run, "offline", "claude-haiku-4-5", code=8)
    assert "THIS MACHINE ONLY: ONLINE claude-haiku-4-5" in await asyncio.to_thread(system.run, "undo", code=8), mistake

    gateway = system.processes.pop("gateway")
    gateway.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(gateway.wait, 20) == 0
    await asyncio.to_thread(system.start_gateway)
    assert (await system.metrics())["portcullis_local_holds"] == 1
    assert [await status(system, "claude-opus-4-5") for _ in range(10)] == [(503, "policy_stale")] * 10

    await asyncio.to_thread(system.start_redis)
    seen = set()

    async def proposed_and_applied() -> bool:
        seen.add(await status(system, "claude-opus-4-5"))
        return (await system.metrics())["portcullis_local_holds"] == 0

    await until(proposed_and_applied, "the hold to be a revision on every worker")
    await until(lambda: _serves(system, "claude-haiku-4-5"), "leases")
    assert {await status(system, "claude-opus-4-5") for _ in range(20)} == {(403, "model_offline")}
    assert seen <= {(503, "policy_stale"), (403, "model_offline")}
    (hold,) = (await system.ask_admin("GET", "/api/v1/holds")).json["holds"]
    assert (hold["by"], hold["note"], hold["models"]) == ("demo-operator", "letter", ["claude-opus-4-5"])
    revision = (await system.ask_admin("GET", "/api/v1/policy")).headers["Portcullis-Revision"]
    assert (await system.ask_admin("GET", f"/api/v1/receipts/{revision}")).json["hold"] == hold["id"]


async def _serves(system: System, model: str) -> bool:
    return await status(system, model) == (200, None)
