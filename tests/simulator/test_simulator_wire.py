"""What happens on the socket: pace, silence, halves, cuts, peers that leave."""

import asyncio
import itertools
import json

import pytest

from gateway.simulator import Ended, Simulator

MESSAGES = [{"role": "user", "content": "x"}]
STREAM = json.dumps({"model": "m", "stream": True, "messages": MESSAGES}).encode()
PLAIN = json.dumps({"model": "m", "messages": MESSAGES}).encode()
OPENAI = "/openai/v1/chat/completions"
ANTHROPIC = "/anthropic/v1/messages"


@pytest.fixture
def first(simulator):
    return lambda: simulator.journal.find(1)


async def test_truncate_closes_after_n_deltas_without_the_terminating_chunk(raw, first, until):
    await raw.post(OPENAI, STREAM, X_Sim_Truncate="3")
    await raw.until(b"\r\n\r\n")
    body = await raw.rest()
    assert body.count(b"data: ") == 1 + 3
    assert b"[DONE]" not in body
    assert not body.endswith(b"0\r\n\r\n")
    await until(lambda: first().ended is Ended.TRUNCATED)


async def test_truncate_halves_a_plain_answer(raw, first, until):
    await raw.post(OPENAI, PLAIN, X_Sim_Truncate="0")
    head = await raw.until(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    assert len(await raw.rest()) == length // 2
    await until(lambda: first().ended is Ended.TRUNCATED)


async def test_a_complete_stream_ends_with_the_terminating_chunk_and_the_connection_stays(raw, first):
    for _ in range(2):
        await raw.post(OPENAI, STREAM)
        assert (await raw.until(b"\r\n0\r\n\r\n")).count(b"[DONE]") == 1
    assert first().ended is Ended.COMPLETE


@pytest.mark.parametrize("path", [OPENAI, ANTHROPIC])
async def test_stall_says_nothing_more_until_the_peer_leaves(raw, first, until, path):
    await raw.post(path, STREAM, X_Sim_Stall="2")
    await until(lambda: first() and first().stalled_ns)
    assert first().ended is None
    await raw.close()
    await until(lambda: first().ended)
    assert first().ended is Ended.STALLED
    assert first().ended_ns > first().stalled_ns


@pytest.mark.parametrize(
    "headers",
    [
        {"X_Sim_Interval": "3600"},
        {"X_Sim_First_Byte": "3600"},
        {"X_Sim_Events": "1000000", "X_Sim_Event_Bytes": "1000"},
        {"X_Sim_Events": "1000000", "X_Sim_Interval": "0.001"},
    ],
    ids=["waiting for the next event", "before the head", "blocked by back-pressure", "in the flow"],
)
async def test_a_peer_that_leaves_ends_the_stream_at_once(raw, simulator, first, until, headers):
    await raw.post(OPENAI, STREAM, **headers)
    await until(lambda: first() and first().body_ns)
    if "X_Sim_First_Byte" not in headers:
        await raw.until(b"\n\n")
    await raw.close()
    await until(lambda: first().ended)
    assert first().ended is Ended.CLIENT_GONE
    assert simulator.journal.counters.open_streams == 0


async def test_a_peer_that_leaves_in_its_upload_is_recorded(raw, first, until):
    raw.writer.write(f"POST {OPENAI} HTTP/1.1\r\nHost: s\r\nContent-Length: 100\r\n\r\nhalf".encode())
    await until(first)
    await raw.close()
    await until(lambda: first().ended)
    assert first().ended is Ended.CLIENT_GONE
    assert first().body_ns is None


async def test_first_byte_is_silence_before_the_head(raw, first):
    await raw.post(OPENAI, STREAM, X_Sim_First_Byte="0.05")
    await raw.until(b"[DONE]")
    assert first().emissions[0] - first().body_ns >= 50e6


async def test_first_byte_holds_back_errors_too(raw, first):
    await raw.post(OPENAI, STREAM, X_Sim_First_Byte="0.05", X_Sim_Status="500")
    await raw.until(b"}}")
    assert first().emissions[0] - first().body_ns >= 50e6


async def test_split_writes_each_event_in_two_halves(raw, first):
    await raw.post(OPENAI, STREAM, X_Sim_Events="4", X_Sim_Split="1")
    await raw.until(b"\r\n\r\n")
    chunks = []
    while size := int(await raw.until(b"\r\n"), 16):
        chunks.append((await raw.until(b"\r\n"))[:-2] if size else b"")
        while len(chunks[-1]) < size:  # the chunk itself holds a line end
            chunks[-1] += b"\r\n" + (await raw.until(b"\r\n"))[:-2]
    events = [one + two for one, two in zip(chunks[::2], chunks[1::2], strict=True)]
    assert len(events) == 1 + 4 + 2
    assert all(event.startswith(b"data: ") and event.endswith(b"\n\n") for event in events)
    times = [at for at, _ in first().pairs()]
    assert all(later - earlier >= 1e6 for earlier, later in itertools.pairwise(times))


async def test_split_streams_are_the_same_bytes(http):
    async def fetch(**headers):
        async with http.post(ANTHROPIC, data=STREAM, headers={"X-Sim-Events": "5", **headers}) as answer:
            return await answer.read()

    assert await fetch() == await fetch(**{"X-Sim-Split": "1"})


async def test_pipelined_requests_are_answered_in_order(raw, simulator):
    await raw.post(OPENAI, PLAIN, X_Sim_Tag="one")
    await raw.post(OPENAI, PLAIN, X_Sim_Tag="two")
    assert b"X-Sim-Serial: 1\r\n" in await raw.until(b"\r\n\r\n")
    assert b"X-Sim-Serial: 2\r\n" in await raw.until(b"\r\n\r\n")
    assert [exchange.tag for exchange in simulator.journal.select()] == ["one", "two"]


async def test_hundreds_of_streams_flow_at_once(http, simulator):
    async def one() -> int:
        headers = {"X-Sim-Events": "20", "X-Sim-Interval": "0.02"}
        async with http.post(OPENAI, data=STREAM, headers=headers) as answer:
            return (await answer.read()).count(b"data: ")

    assert await asyncio.gather(*(one() for _ in range(100))) == [23] * 100
    assert {exchange.ended for exchange in simulator.journal.select()} == {Ended.COMPLETE}


async def test_stopping_cuts_open_streams():
    simulator = Simulator()
    await simulator.start()
    host, port = simulator.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        f"POST {OPENAI} HTTP/1.1\r\nHost: s\r\nX-Sim-Stall: 1\r\nContent-Length: {len(STREAM)}\r\n\r\n".encode()
        + STREAM
    )
    await reader.readuntil(b"\n\n")
    async with asyncio.timeout(2):
        await simulator.stop()
        await reader.read()
    writer.close()
    await writer.wait_closed()
    assert simulator.journal.find(1).ended is Ended.SHUTDOWN
