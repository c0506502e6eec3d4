"""A gateway in another network namespace, cut off from Redis: it falls silent by itself, and the receipt waits for that."""

import asyncio
import shutil
import time

import pytest
from cluster import free_port
from raw import ask
from system import ROOT, System, new_system, until
from wires import wire

HELD, OTHER, OPEN = "claude-fable-5", "claude-mythos-5", "claude-opus-4-5"
MAX_STALE = 3.0


async def status(system: System, model: str) -> tuple[int, str | None]:
    body = {"model": model, "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
    raw = await ask(system.proxy, "/anthropic/v1/messages", body, {"x-api-key": "demo-alice", "X-Sim-Interval": "0"})
    return raw.status, raw.header("portcullis-reason")


async def serves(system: System, model: str) -> bool:
    return all([await status(system, model) == (200, None) for _ in range(6)])


@pytest.fixture
async def sides(tmp_path):
    """Near Redis, and far from it at the other end of a wire."""
    there = await wire()
    near, far = new_system(), new_system()
    port = free_port()
    seeds = tmp_path / "seeds"
    shutil.copytree(ROOT / "seeds", seeds)
    (seeds / "zz-lease.toml").write_text(f"[max_stale]\ndefault = {MAX_STALE}\ncontrolled = {MAX_STALE}\n")
    try:
        await there.lead(far, port)
        await asyncio.to_thread(near.start_redis, "--port", str(port), "--bind", "0.0.0.0", "--protected-mode", "no")
        await asyncio.to_thread(lambda: near.start_simulator(host=there.provider))
        far.env |= {key: value for key, value in near.env.items() if key.startswith("PORTCULLIS_PROVIDERS__")}
        far.env["PORTCULLIS_SIGNING__KEY_FILE"] = f"{near.env['PORTCULLIS_STATE_DIR']}/signing.key"
        await asyncio.to_thread(near.run, "init", "--seeds", str(seeds))
        await asyncio.gather(asyncio.to_thread(near.start_gateway), asyncio.to_thread(far.start_gateway))
        yield near, far, there
    finally:
        for system in (far, near):
            await asyncio.to_thread(system.stop)
        await there.remove()


async def test_a_gateway_that_is_cut_off_falls_silent_and_the_receipt_waits_for_it(sides):
    near, far, there = sides
    for system in (near, far):
        await until(lambda system=system: serves(system, HELD), "both sides to serve")
    await asyncio.gather(*(status(far, HELD) for _ in range(60)))  # every worker knows the caller
    there.cut()
    assert await status(far, HELD) == (200, None), "a lease outlives the wire"

    served_last = [0.0]
    stop = asyncio.Event()

    async def ask_far() -> None:
        while not stop.is_set():
            began = time.monotonic()
            if (await status(far, HELD))[0] == 200:
                served_last[0] = began

    asking = asyncio.create_task(ask_far())
    order = asyncio.create_task(near.offline(HELD))
    await until(lambda: refused(near, HELD), "the near side to refuse")
    assert not order.done(), "the near side refuses at once; the proof waits for the far one"
    receipt = await order
    proven = time.monotonic()
    assert (receipt["enforced"], receipt["basis"]) == (True, "lease_expiry")
    assert receipt["elapsed_ms"] >= MAX_STALE * 1000
    states = sorted(replica["state"] for replica in receipt["replicas"]["list"])
    assert states == ["acked", "acked", "expired", "expired"]
    assert [await status(far, model) for model in (HELD, OPEN)] == [(503, "policy_stale")] * 2
    stop.set()
    await asking
    assert 0 < served_last[0] < proven

    async def others_alone() -> bool:
        listed = (await near.ask_admin("GET", "/api/v1/replicas")).json["replicas"]
        return sum(replica["state"] == "live" for replica in listed) == 2

    await until(others_alone, "the far side to be closed")
    second = await near.offline(OTHER)
    assert (second["basis"], second["replicas"]["expected"]) == ("all_acked", 2), "nobody waits for who is gone"

    there.restore()
    await until(lambda: serves(far, OPEN), "the far side to be back", 30)
    assert {await status(far, model) for model in (HELD, OTHER)} == {(403, "model_offline")}
    third = await near.offline(OPEN)
    assert (third["basis"], third["replicas"]["expected"]) == ("all_acked", 4)
    print(
        f"\ncut off by {there.kind}: max_stale {MAX_STALE:g} s; the receipt came after {receipt['elapsed_ms']:.0f} ms, "
        f"the far side's last answer was {(proven - served_last[0]) * 1000:.0f} ms before it; "
        f"another kill, with the far side gone: {second['elapsed_ms']:.1f} ms"
    )


async def refused(system: System, model: str) -> bool:
    return await status(system, model) == (403, "model_offline")
