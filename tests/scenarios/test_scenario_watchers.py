"""A client that watches what it may use: it learns of a kill at once, and misses none while it is away."""

import json
import statistics
import time
from contextlib import asynccontextmanager

import aiohttp

KILLS = 20


@asynccontextmanager
async def watching(system, last_seen: str | None = None):
    """The events of one stream, as they come: ids and what is off."""
    headers = {"Authorization": "Bearer demo-alice"} | ({"Last-Event-ID": last_seen} if last_seen else {})
    timeout = aiohttp.ClientTimeout(total=None, sock_read=20)
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        session.get(f"{system.proxy}/availability/events", headers=headers) as response,
    ):
        assert response.status == 200
        yield events(response)


async def events(response):
    fields: dict[str, str] = {}
    async for raw in response.content:
        line = raw.decode().rstrip("\n")
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif "data" in fields:
            models = json.loads(fields["data"])["models"]
            yield fields["id"], {entry["model"] for entry in models if not entry["available"]}
            fields = {}


async def test_a_watcher_learns_of_every_kill_and_misses_none_while_it_is_away(system):
    after: list[float] = []
    async with watching(system) as told:
        seen, off_before = await anext(told)
        assert "claude-fable-5" not in off_before
        for _ in range(KILLS):
            began = time.monotonic()
            await system.offline("claude-fable-5")
            _, off = await anext(told)
            after.append(time.monotonic() - began)
            assert off == off_before | {"claude-fable-5"}
            await system.release_all()
            seen, off = await anext(told)
            assert off == off_before
    await system.offline("claude-fable-5")
    await system.offline("gpt-5.4")
    async with watching(system, seen) as told:
        seen, off = await anext(told)
        assert off == off_before | {"claude-fable-5", "gpt-5.4"}
    print(f"\nfrom the order to the receipt and the event, {KILLS} times: median "
          f"{statistics.median(after) * 1000:.1f} ms, longest {max(after) * 1000:.1f} ms")  # fmt: skip
