"""``GET /availability/events``: how it is, and every change of it."""

import json

import pytest
from proxy_harness import Message, get

from gateway.identity.keys import fingerprint

PATH = "/availability/events"


async def watch(client, *headers: str, key: str = "pc-alice") -> Message:
    client.send(get(PATH, *headers, key=key))
    return await client.head()


async def event(client) -> dict:
    """The next chunk's fields; comments and the advice on retries have none of their own."""
    return dict(line.split(": ", 1) for line in (await client.chunk()).decode().splitlines() if line)


def off(told: dict) -> list[str]:
    return [entry["model"] for entry in json.loads(told["data"])["models"] if not entry["available"]]


async def test_the_first_event_is_what_availability_says(door, connect):
    door.close_models("gpt-5.4")
    head = await watch(client := await connect(door))
    assert (head.status, head.header("content-type")) == (200, "text/event-stream")
    assert (head.header("cache-control"), head.header("connection")) == ("no-store", "close")
    told = await event(client)
    assert (told["retry"], told["event"]) == ("2000", "availability")
    assert told["id"].startswith("2-")
    asked = await (await connect(door)).ask(get("/availability"))
    assert json.loads(told["data"]) == asked.json
    assert off(told) == ["gpt-5.4"]


async def test_every_change_is_told_and_nothing_else(door, connect):
    await watch(client := await connect(door))
    assert off(await event(client)) == []
    door.apply()  # a revision that changes nothing for anybody
    door.close_models("gpt-5.4")
    told = await event(client)
    assert (told["id"].split("-")[0], off(told)) == ("3", ["gpt-5.4"])
    door.apply(holds={})
    assert off(await event(client)) == []


async def test_who_comes_back_is_told_what_it_missed(door, connect):
    await watch(first := await connect(door))
    seen = (await event(first))["id"]
    await watch(again := await connect(door), f"Last-Event-ID: {seen}")
    assert await again.chunk() == b"retry: 2000\n\n", "it knows"
    await first.close()
    door.close_models("gpt-5.4")
    door.close_models("gpt-5.4", "gpt-5.4-mini")
    await watch(late := await connect(door), f"Last-Event-ID: {seen}")
    assert off(await event(late)) == ["gpt-5.4", "gpt-5.4-mini"]
    door.apply(holds={})
    await watch(back := await connect(door), f"Last-Event-ID: {seen}")
    assert off(await event(back)) == [], "the same again, but of another revision"


async def test_it_ends_with_the_key_in_one_line(door, connect, until):
    await watch(client := await connect(door))
    await event(client)
    del door.records[fingerprint("pc-alice")]
    door.apply(callers=["alice"], fresh={fingerprint("pc-alice"): None})
    told = await event(client)
    assert told["event"] == "stale", "Redis could not be asked"
    await watch(client := await connect(door), key="pc-bob")
    await event(client)
    from gateway.identity.directory import Unknown

    door.apply(callers=["bob"], fresh={fingerprint("pc-bob"): Unknown()})
    told = await event(client)
    assert (told["event"], json.loads(told["data"])["reason"]) == ("end", "unauthenticated")
    await client.ends()
    line = door.lines[-1]
    assert (line["operation"], line["severed"], line["stream"]) == ("availability-events", True, True)
    assert line["bytes_out"] > 0
    assert not door.gate.watchers.open
    assert not door.gate.in_flight


async def test_without_a_lease_it_is_stale(door, connect):
    await watch(client := await connect(door))
    await event(client)
    door.end_lease()
    door.gate.sever_overdue()
    told = await event(client)
    assert (told["event"], json.loads(told["data"])["retry"]) == ("stale", True)
    await client.ends()
    refused = await watch(await connect(door))
    assert (refused.status, refused.header("retry-after")) == (503, "2")


@pytest.mark.parametrize(("limits", "last"), [({"watchers_per_caller": 2}, "pc-bob"), ({"watchers": 2}, None)])
async def test_so_many_and_no_more(open_door, connect, until, limits, last):
    door = await open_door(limits=limits)
    clients = [await connect(door) for _ in range(2)]
    for client in clients:
        assert (await watch(client)).status == 200
    refused = await watch(more := await connect(door))
    assert (refused.status, refused.reason) == (503, "overloaded")
    await more.close()
    assert (await watch(await connect(door), key="pc-bob")).status == (200 if last else 503)
    await clients[0].close()
    await until(lambda: len(door.gate.watchers.open) == (2 if last else 1))
    assert (await watch(await connect(door))).status == 200


async def test_one_heartbeat_for_all(door, connect):
    await watch(client := await connect(door))
    await event(client)
    watchers, now = door.gate.watchers, door.gate.now()
    watchers.sweep(now)
    assert await client.chunk() == b":\n\n"
    watchers.sweep(now + 14)
    watchers.sweep(now + 16)
    assert await client.chunk() == b":\n\n"
    door.close_models("gpt-5.4")
    assert off(await event(client)) == ["gpt-5.4"], "no other heartbeat before it"


async def test_who_does_not_read_is_told_only_the_last_and_closed_in_the_end(door, connect, until):
    await watch(await connect(door, receive_buffer=4096, limit=1024))
    (watcher,) = door.gate.watchers.open
    while not watcher.client.takes_nothing():
        door.close_models("gpt-5.4", public_message="x" * 500)
        watcher.tell()
        door.apply(holds={})
        watcher.tell()
    sent, waiting = watcher.relay.bytes_out, watcher.client.transport.get_write_buffer_size()
    for _ in range(10):
        door.close_models("gpt-5.4")
        watcher.tell()
        door.gate.watchers.sweep(door.gate.now() + 1000)
    assert watcher.relay.bytes_out == sent, "nothing more is kept for it"
    assert waiting < 2 * door.gate.limits.write_buffer
    watcher.client.deadline = 0.0
    door.gate.sweep()
    await until(lambda: not door.gate.watchers.open)


async def test_who_reads_on_is_told_how_it_is_now(door, connect):
    await watch(client := await connect(door))
    await event(client)
    (watcher,) = door.gate.watchers.open
    watcher.client.pause_writing()
    door.close_models("gpt-5.4")
    door.apply(holds={})
    door.close_models("gpt-5.4-mini")
    watcher.tell()
    watcher.client.resume_writing()
    assert off(await event(client)) == ["gpt-5.4-mini"]


async def test_a_worker_that_leaves_ends_it_in_order(door, connect):
    await watch(client := await connect(door))
    await event(client)
    door.gate.stop()
    assert await client.chunk() == b""
    await client.ends()


async def test_more_than_a_turn_are_told(door, connect, monkeypatch):
    monkeypatch.setattr("gateway.proxy.watching.TOLD_A_TURN", 1)
    clients = [await connect(door) for _ in range(3)]
    for client in clients:
        await watch(client)
        await event(client)
    door.close_models("gpt-5.4")
    assert [off(await event(client)) for client in clients] == [["gpt-5.4"]] * 3


@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_both_versions_of_http(door, connect, version):
    client = await connect(door)
    client.send(get(PATH).replace(b"HTTP/1.1", f"HTTP/{version}".encode()))
    head = await client.head()
    assert head.header("transfer-encoding") == (None if version == "1.0" else "chunked")
    assert b"event: availability" in await client.reader.readuntil(b"data: ")


@pytest.mark.parametrize(
    "request_", [get(PATH, key="nobody"), get(PATH).replace(b"GET", b"POST"), get(PATH + "?model=x")]
)
async def test_nobody_else_gets_it(door, client, request_):
    assert (await client.ask(request_)).status in (401, 404)
    assert not door.gate.watchers.open
