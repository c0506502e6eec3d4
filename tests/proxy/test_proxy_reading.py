"""Large bodies, read by a process beside the worker."""

import asyncio
import json
import os
import signal
import tempfile

import pytest
from proxy_harness import OK, post

from gateway.dialects.openai import OPENAI
from gateway.dialects.selectors import MalformedBodyError
from gateway.proxy import exchange, reading
from gateway.proxy.reading import AbandonedError, ReadingFailedError, ReadingProcess

FOUND = OPENAI.operation("POST", "/v1/chat/completions")
assert FOUND is not None
CHAT = FOUND[0].reader


@pytest.fixture
async def process():
    beside = ReadingProcess()
    yield beside
    await beside.close()


@pytest.fixture
def file_of():
    files = []

    def make(body: bytes):
        file = tempfile.TemporaryFile()  # noqa: SIM115
        files.append(file)
        file.write(body)
        file.flush()
        return file

    yield make
    for file in files:
        file.close()


async def test_it_finds_what_the_reader_finds(process, file_of):
    for body in (
        b'{"model":"A","stream":true}',
        b'{"model":"A"}',
        json.dumps({"model": "A", "x": "y" * 3_000_000}).encode(),
    ):
        assert await process.read(CHAT, file_of(body)) == CHAT.read(body)
    assert process.started == 1


@pytest.mark.parametrize("body", [b'{"model":"A","model":"K"}', b"[]", b'{"model":1}', b"{}", b"", b"{" * 50_000])
async def test_it_refuses_what_the_reader_refuses(process, file_of, body):
    with pytest.raises(MalformedBodyError) as here:
        CHAT.read(body)
    with pytest.raises(MalformedBodyError) as there:
        await process.read(CHAT, file_of(body))
    assert (str(there.value), there.value.status) == (str(here.value), here.value.status)


async def test_when_it_dies_the_body_is_not_known_and_the_next_one_gets_another(process, file_of):
    body = file_of(b'{"model":"A"}')
    await process.read(CHAT, body)
    os.kill(process._process.pid, signal.SIGKILL)
    await process._process.wait()
    with pytest.raises(ReadingFailedError):
        await process.read(CHAT, body)
    assert (await process.read(CHAT, body)).names == ("A",)
    assert process.started == 2


async def test_when_it_takes_too_long_the_body_is_not_known(process, file_of, monkeypatch):
    body = file_of(b'{"model":"A"}')
    await process.read(CHAT, body)
    os.kill(process._process.pid, signal.SIGSTOP)
    monkeypatch.setattr(reading, "LONGEST_SECONDS", 0.05)
    with pytest.raises(ReadingFailedError):
        await process.read(CHAT, body)
    monkeypatch.undo()
    assert (await process.read(CHAT, body)).names == ("A",)


async def test_an_answer_that_nobody_took_is_not_the_next_ones(process, file_of):
    await process.read(CHAT, file_of(b'{"model":"A"}'))
    os.kill(process._process.pid, signal.SIGSTOP)
    asked = asyncio.ensure_future(process.read(CHAT, file_of(b'{"model":"A"}')))
    await asyncio.sleep(0)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    assert (await process.read(CHAT, file_of(b'{"model":"K"}'))).names == ("K",)


async def test_one_caller_that_queues_many_waits_for_itself(process, file_of):
    order = []

    async def read(owner: str) -> None:
        await process.read(CHAT, file_of(b'{"model":"A"}'), owner)
        order.append(owner)

    await asyncio.gather(*(read("greedy") for _ in range(20)), *(read(name) for name in ("alice", "bob", "alice")))
    assert {order.index("alice"), order.index("bob")} == {2, 3}, "the first is served, and another is its turn's"
    assert order[:7].count("alice") == 2


async def test_a_body_closed_before_its_turn_is_not_asked_about(process, file_of):
    await process.read(CHAT, file_of(b'{"model":"A"}'))
    os.kill(process._process.pid, signal.SIGSTOP)
    first = asyncio.ensure_future(process.read(CHAT, file_of(b'{"model":"A"}')))
    await asyncio.sleep(0)
    closed = file_of(b'{"model":"K"}')
    second = asyncio.ensure_future(process.read(CHAT, closed))
    await asyncio.sleep(0)
    closed.close()
    os.kill(process._process.pid, signal.SIGCONT)
    assert (await first).names == ("A",)
    with pytest.raises(AbandonedError):
        await second
    assert process.started == 1


# ------------------------------------------------------------------------------------------------ in an exchange


def large(model: str = "gpt-5.4", size: int = 2_000_000) -> bytes:
    return json.dumps({"model": model, "x": "y" * size}).encode()


def dense(model: str = "gpt-5.4") -> bytes:
    return json.dumps({"model": model, "x": [{}] * 15_000}).encode()


@pytest.mark.parametrize("body", [large(), dense()], ids=["large", "dense"])
async def test_a_large_body_arrives_unchanged(open_door, connect, provider, body):
    door = await open_door()
    client = await connect(door)
    client.send(post(body=body))
    upstream = await provider.accept()
    assert (await upstream.message()).body == body
    upstream.send(OK)
    assert (await client.message()).status == 200
    assert (door.gate.reading.started, door.gate.buffered.total, door.gate.buffered.spooled) == (1, 0, 0)


@pytest.mark.parametrize("body", [large("gpt-5.4-mini"), dense("gpt-5.4-mini")], ids=["large", "dense"])
async def test_a_large_body_does_not_hide_a_model(open_door, connect, provider, body):
    door = await open_door()
    door.close_models("gpt-5.4-mini")
    client = await connect(door)
    assert (await client.ask(post(body=body))).reason == "model_offline"
    assert (provider.connections, door.gate.buffered.total) == (0, 0)


async def test_others_are_served_while_a_large_body_is_read(open_door, connect, provider):
    door = await open_door()
    slow, quick = await connect(door), await connect(door)
    slow.send(post(body=large()))
    upstream = await provider.accept()
    await upstream.message()
    os.kill(door.gate.reading._process.pid, signal.SIGSTOP)
    late = await connect(door)
    late.send(post(body=large()))
    quick.send(post())
    other = await provider.accept()
    await other.message()
    other.send(OK)
    assert (await quick.message()).status == 200
    os.kill(door.gate.reading._process.pid, signal.SIGCONT)
    assert json.loads((await other.message()).body)["x"].startswith("y")  # on the connection that is free again


@pytest.fixture
async def stalled(open_door, connect, until):
    """A gate whose reading process is stopped while it has a client's large body; what ends the stop."""
    door = await open_door()
    await door.gate.reading._start()
    os.kill(door.gate.reading._process.pid, signal.SIGSTOP)
    client = await connect(door)
    client.send(post(body=large()))
    await until(door.gate.reading._turn.locked)
    return door, client, lambda how=signal.SIGCONT: os.kill(door.gate.reading._process.pid, how)


async def test_a_kill_while_a_large_body_is_read_refuses_it(stalled, provider):
    door, client, go_on = stalled
    door.close_models("gpt-5.4")
    go_on()
    assert (await client.message()).reason == "model_offline"
    assert provider.connections == 0


async def test_a_reader_that_dies_refuses_the_body(stalled, provider):
    door, client, go_on = stalled
    go_on(signal.SIGKILL)
    assert (await client.message()).status == 500
    assert (provider.connections, door.counts["portcullis_internal_errors_total"]) == (0, 1)


async def test_a_client_that_leaves_while_its_body_is_read_leaves_nothing(stalled, provider, until):
    door, client, go_on = stalled
    client.reset()
    await until(lambda: not door.gate.connections)
    go_on()
    await until(lambda: not door.gate.reading._turn.locked())
    assert (door.gate.buffered.total, door.gate.buffered.spooled, provider.connections) == (0, 0, 0)


async def test_a_client_that_leaves_while_its_body_waits_for_its_turn_leaves_nothing(
    stalled, connect, provider, until, caplog
):
    door, first, go_on = stalled
    second = await connect(door)
    second.send(post(body=large()))
    await until(lambda: door.gate.buffered.spooled == 2)
    await until(lambda: door.gate.reading._turn._round)
    second.reset()
    await until(lambda: len(door.gate.connections) == 1)
    go_on()
    upstream = await provider.accept()
    await upstream.message()
    upstream.send(OK)
    assert (await first.message()).status == 200
    await until(lambda: not door.gate.reading._turn.locked())
    assert (door.gate.buffered.total, door.gate.buffered.spooled, provider.connections) == (0, 0, 1)
    assert "portcullis_internal_errors_total" not in door.counts


LIMITS = {"body_bytes": 1000, "spool_above": 100, "buffered_bytes_per_caller": 1500, "buffered_bytes": 2000}


async def test_a_caller_that_keeps_too_much_waiting_is_told_to_come_back(open_door, connect, provider, until):
    door = await open_door(limits=LIMITS)
    first, second, other = await connect(door), await connect(door), await connect(door)
    whole = post(body=large(size=900))
    first.send(whole[:-1])
    await until(lambda: door.gate.buffered._of.get("alice", 0) > 900)  # no longer its credential's
    refused = await second.ask(whole)
    assert (refused.status, refused.reason, refused.header("retry-after")) == (503, "overloaded", "2")
    other.send(post(key="pc-bob"))
    upstream = await provider.accept()
    await upstream.message()
    first.reset()
    await until(lambda: len(door.gate.connections) == 2 and door.gate.buffered.total < 900)


async def test_a_chunked_body_of_no_known_length_has_the_same_limit(open_door, connect, provider, until):
    door = await open_door(limits=LIMITS)
    first, second = await connect(door), await connect(door)
    whole = post(body=large(size=900))
    first.send(whole[:-1])
    await until(lambda: door.gate.buffered._of.get("alice", 0) > 900)  # no longer its credential's
    head = post(body=b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    refused = await second.ask(head + b"384\r\n" + b" " * 900 + b"\r\n0\r\n\r\n")
    assert (refused.status, refused.reason) == (503, "overloaded")


async def test_a_body_is_kept_until_its_answer_begins_and_no_longer(open_door, connect, provider, until):
    door = await open_door()
    client = await connect(door)
    client.send(post(body=large()))
    upstream = await provider.accept()
    await upstream.message()
    assert (door.gate.buffered.total, door.gate.buffered.spooled) == (len(large()), 1)
    upstream.send(OK.replace(b"content-length: 2", b"content-length: 9"))
    await until(lambda: door.gate.buffered.total == 0)
    assert door.gate.buffered.spooled == 0
    assert len(door.gate.in_flight) == 1


async def test_a_client_that_leaves_before_its_body_is_handed_over_leaves_no_file(
    open_door, connect, until, monkeypatch
):
    """A dense body is small enough to be in memory; it must not go to disk when nobody waits for it any more."""
    door = await open_door()
    spawn, left = exchange.tasks.spawn, []

    def spawn_too_late(work, name, **options):
        if name == "read-body":
            (connection,) = door.gate.connections
            left.append(connection._begun)
            connection._begun.client_gone()
        return spawn(work, name, **options)

    monkeypatch.setattr(exchange.tasks, "spawn", spawn_too_late)
    client = await connect(door)
    client.send(post(body=dense()))
    await until(lambda: left and not door.gate.reading._turn.locked())
    assert (door.gate.buffered.total, door.gate.buffered.spooled, door.gate.reading.started) == (0, 0, 0)
