"""The signing key is rotated under load: nothing restarts, nothing is refused, and the old key ends."""

import asyncio

from raw import Raw, ask
from system import until

BODY = {"model": "claude-opus-4-5", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
PATH = "/anthropic/v1/messages"
KEY = {"x-api-key": "demo-alice", "X-Sim-Interval": "0"}
LONG = {**KEY, "X-Sim-Interval": "0.05", "X-Sim-Events": "100000"}


async def test_a_key_is_rotated_while_everything_serves(fresh_system):
    system = fresh_system.start()
    before = {worker.pid for worker in system.workers()}
    began, seen, stop = Raw(), [], asyncio.Event()
    running = asyncio.create_task(ask(system.proxy, PATH, {**BODY, "stream": True}, LONG, began))
    await began.began.wait()

    async def load() -> None:
        while not stop.is_set():
            seen.append((await ask(system.proxy, PATH, BODY, KEY)).status)
            await asyncio.sleep(0.05)

    client = asyncio.create_task(load())
    (old,) = (await asyncio.to_thread(system.run, "signing", "list")).split("  signs")[:1]
    await asyncio.to_thread(system.run, "signing", "prepare")
    new = (await asyncio.to_thread(system.run, "signing", "activate")).split()[0]
    await until(lambda: new in str(system.events("keys_loaded")[-1:]), "everybody to follow")

    async def signed_by(kid: str) -> bool:
        receipt = await system.offline("gpt-5.4")
        assert (receipt["enforced"], receipt["basis"]) == (True, "all_acked")
        await system.release_all()
        return kid in str(system.events("keys_loaded")[-1])

    assert await signed_by(new)
    assert "records were signed anew" in await asyncio.to_thread(system.run, "signing", "retire", old)
    await until(lambda: _trusted(system) == {(new,)}, "everybody to trust the new key alone")
    assert (await system.offline("gpt-5.4"))["basis"] == "all_acked"
    stop.set()
    await client
    assert set(seen) == {200}
    assert {worker.pid for worker in system.workers()} == before
    assert not running.done(), "the stream goes on"
    receipt = await system.offline("claude-opus-4-5")
    assert (receipt["basis"], receipt["streams_cut"]) == ("all_acked", 1)
    assert (await running).ended != "complete"


def _trusted(system) -> set[tuple[str, ...]]:
    """What the control process and two workers trust by now."""
    return {tuple(event["trusted"]) for event in system.events("keys_loaded")[-3:]}
