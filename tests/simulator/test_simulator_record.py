"""What is recorded, how it is bounded, how it is asked for."""

import asyncio
import base64
import hashlib
import io
import json
import time

import pytest

from gateway.simulator import Ended, Journal, SimulatorConfig

CHAT = json.dumps({"model": "gpt-5.4", "messages": [{"role": "user", "content": "x"}]}).encode()
STREAM = json.dumps({"model": "gpt-5.4", "stream": True, "messages": [{"role": "user", "content": "x"}]}).encode()
PATH = "/openai/v1/chat/completions"


async def fetch(http, path):
    async with http.get(path) as answer:
        assert answer.status == 200
        return await answer.json()


async def test_a_request_is_recorded_byte_for_byte(http, raw):
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    await raw.post(f"{PATH}?a=%2F&b", CHAT, X_Sim_Tag="t-1", x_CASE="Kept \xe9", Authorization="Bearer sk-caller")
    head = await raw.until(b"\r\n\r\n")
    assert b"X-Sim-Serial: 1\r\n" in head
    record = await fetch(http, "/_sim/requests/1")
    assert (record["serial"], record["tag"], record["provider"], record["model"]) == (1, "t-1", "openai", "gpt-5.4")
    assert (record["method"], record["target"]) == ("POST", f"{PATH}?a=%2F&b")
    assert record["headers"] == [
        ["Host", "simulator"],
        ["Content-Length", str(len(CHAT))],
        ["X-Sim-Tag", "t-1"],
        ["x-CASE", "Kept Ã©"],
        ["Authorization", "Bearer sk-caller"],
    ]
    assert base64.b64decode(record["body_base64"]) == CHAT
    assert record["body_sha256"] == hashlib.sha256(CHAT).hexdigest()
    assert record["peer_port"] == raw.port
    assert before < record["head_ns"] <= record["body_ns"] <= record["emissions"][0][0] <= record["ended_ns"]
    assert (record["status"], record["ended"]) == (200, "complete")
    length = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
    assert [record["emissions"][-1][1]] == [int(length.split(b":")[1])] == [record["sent_bytes"]]


async def test_emissions_tell_when_each_event_left_and_where_it_ends(http, simulator):
    async with http.post(PATH, data=STREAM, headers={"X-Sim-Events": "5", "X-Sim-Interval": "0.01"}) as answer:
        body = await answer.read()
    [exchange] = simulator.journal.select()
    pairs = list(exchange.pairs())
    assert len(pairs) == 1 + 5 + 2
    assert pairs == sorted(pairs)
    assert pairs[-1][1] == len(body)
    assert all(body[:offset].endswith(b"\n\n") for _, offset in pairs)
    assert pairs[5][0] - pairs[1][0] >= 39e6  # four intervals of 10 ms


async def test_compressed_bodies_are_kept_as_sent(raw, simulator):
    await raw.post(PATH, b"\x1f\x8bnot really", Content_Encoding="gzip")
    assert b" 400 " in await raw.until(b"\r\n")
    [exchange] = simulator.journal.select()
    assert exchange.body == b"\x1f\x8bnot really"


async def test_what_matches_no_operation_is_recorded_too(http, simulator):
    for path in ("/openai/v1/nothing", "/anthropic/v1/messages/", "/elsewhere"):
        async with http.post(path, data=b"x") as answer:
            assert answer.status == 404
    assert [(e.provider, e.status) for e in simulator.journal.select()] == [
        ("openai", 404), ("anthropic", 404), ("", 404),
    ]  # fmt: skip


async def test_requests_are_listed_by_serial_tag_and_limit(http):
    for tag in ("a", "b", "a", "b", "a"):
        async with http.get("/openai/v1/models", headers={"X-Sim-Tag": tag}) as answer:
            await answer.read()

    async def serials(query):
        return [entry["serial"] for entry in (await fetch(http, f"/_sim/requests{query}"))["requests"]]

    assert await serials("") == [1, 2, 3, 4, 5]
    assert await serials("?since=3") == [4, 5]
    assert await serials("?tag=a") == [1, 3, 5]
    assert await serials("?tag=a&since=1&limit=1") == [3]
    assert await serials("?limit=2") == [1, 2]
    listed = await fetch(http, "/_sim/requests?limit=1&full=1")
    assert listed["requests"] == [await fetch(http, "/_sim/requests/1")]
    assert "emissions" not in (await fetch(http, "/_sim/requests"))["requests"][0]


@pytest.mark.parametrize("query", ["since=-1", "since=x", "limit=1e9", "full=yes"])
async def test_nonsense_in_a_query_is_a_400(http, query):
    async with http.get(f"/_sim/requests?{query}") as answer:
        assert answer.status == 400


async def test_deleting_forgets_requests_but_serials_go_on(http, simulator):
    for _ in range(2):
        await (await http.get("/openai/v1/models")).read()
    async with http.delete("/_sim/requests") as answer:
        assert await answer.json() == {"deleted": 2}
    async with http.get("/_sim/requests/1") as answer:
        assert answer.status == 404
    async with http.get("/openai/v1/models") as answer:
        assert answer.headers["X-Sim-Serial"] == "3"


async def test_stats_count_what_is_open_and_what_was(http, raw, simulator, until):
    async with http.post(PATH, data=CHAT) as answer:
        await answer.read()
    await raw.post(PATH, STREAM, X_Sim_Stall="2")
    await until(lambda: simulator.journal.find(2) and simulator.journal.find(2).stalled_ns)
    stats = await fetch(http, "/_sim/stats")
    assert stats["total"] == 2
    assert stats["by_model"] == {"openai": {"gpt-5.4": 2}}
    assert (stats["open_streams"], stats["open_requests"]) == (1, 1)
    assert stats["open_connections"] == 2
    assert stats["emitted_events"] == 1 + 2
    assert stats["last_arrival_ns"] == simulator.journal.find(2).head_ns < stats["now_ns"]
    await raw.close()
    await until(lambda: simulator.journal.counters.open_streams == 0)
    assert simulator.journal.counters.open_requests == 0


def make(journal, body=b""):
    exchange = journal.open(provider="p", method="GET", target="/", headers=(), peer_port=None, tag=None)
    journal.body_arrived(exchange, body)
    return exchange


def test_the_ring_keeps_the_newest_requests():
    journal = Journal(keep_requests=3, keep_body_bytes=100, keep_emissions=10)
    for _ in range(5):
        make(journal)
    assert [exchange.serial for exchange in journal.select()] == [3, 4, 5]
    assert journal.find(2) is None


def test_the_ring_is_bounded_by_bytes_of_bodies_too():
    journal = Journal(keep_requests=100, keep_body_bytes=100, keep_emissions=10)
    for _ in range(5):
        make(journal, b"x" * 40)
    assert [exchange.serial for exchange in journal.select()] == [4, 5]
    make(journal, b"x" * 1000)
    assert [exchange.serial for exchange in journal.select()] == [6]


def test_emissions_are_bounded_and_the_newest_are_kept():
    exchange = make(Journal(keep_requests=1, keep_body_bytes=0, keep_emissions=10))
    for _ in range(1000):
        exchange.emitted(3)
        assert len(exchange.emissions) < 40
    assert [offset for _, offset in exchange.pairs()] == list(range(2973, 3001, 3))
    assert exchange.emissions_dropped + len(exchange.emissions) // 2 == 1000


def test_the_first_end_counts():
    exchange = make(Journal(1, 0, 1))
    exchange.end(Ended.TRUNCATED)
    at = exchange.ended_ns
    exchange.end(Ended.FAILED)
    assert (exchange.ended, exchange.ended_ns) == (Ended.TRUNCATED, at)


class TestBodyLimit:
    @pytest.fixture
    def config(self):
        return SimulatorConfig(max_body=1000)

    async def test_a_body_announced_too_large_is_refused_before_it_comes(self, raw):
        await raw.post(PATH, b"", Content_Type="application/json")
        await raw.until(b"}}")
        raw.writer.write(b"POST /anthropic/v1/messages HTTP/1.1\r\nHost: s\r\nContent-Length: 1001\r\n\r\n")
        assert b" 413 " in await raw.until(b"\r\n")
        await raw.until(b'"request_too_large"')

    async def test_a_chunked_body_that_grows_too_large_is_refused(self, http):
        async def grow():
            for _ in range(11):
                yield b"x" * 100
                await asyncio.sleep(0)

        async with http.post(PATH, data=grow()) as answer:
            assert answer.status == 413


async def test_a_body_of_64_mib_is_taken(http, simulator):
    document = b'{"model": "m", "input": "x", "padding": "'
    body = document + b"x" * ((64 << 20) - len(document) - 2) + b'"}'
    async with http.post("/openai/v1/responses", data=io.BytesIO(body)) as answer:
        assert answer.status == 200
    [exchange] = simulator.journal.select()
    assert len(exchange.body) == 64 << 20
