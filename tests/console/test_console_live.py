"""What pages are told: everything first, then what is new; what they are told when Redis is away, and when it ends."""

import asyncio
import json

import pytest
from control_harness import APPROVER, OPERATOR, REGISTRAR
from redis.exceptions import ConnectionError as RedisConnectionError

from gateway.console import live, pages, timeline
from gateway.console.meter import FIRST_BYTE, REQUESTS, Meter, quantile, total
from gateway.console.view import View
from gateway.observability.census import InFlight, rows, together
from gateway.observability.metrics import BY_NAME

ORDER = {"authority": "Commerce", "reference": "2026-0612"}


class Stream:
    """A page's event stream."""

    def __init__(self, answer):
        self.answer = answer
        self.seen: dict = {}

    async def event(self):
        kind = (await self.answer.content.readline()).decode().removeprefix("event: ").strip()
        data = json.loads((await self.answer.content.readline()).decode().removeprefix("data: "))
        await self.answer.content.readline()
        return kind, data

    async def until(self, condition):
        async with asyncio.timeout(10):
            while True:
                kind, data = await self.event()
                if condition(kind, data):
                    return data


@pytest.fixture
async def stream(desk, monkeypatch):
    monkeypatch.setattr(live, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(live, "CHECK_SECONDS", 0.0)
    await desk.sign_in(OPERATOR)
    answer = await desk.session.get(desk.url("/console/events"))
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/event-stream"
    yield Stream(answer)
    answer.close()


async def test_a_page_is_told_everything_and_then_what_is_new(stream, office):
    kind, first = await stream.event()
    assert kind == "full"
    assert first["models"]["claude-fable-5"]["family"]
    assert set(first["replicas"]) == {"w0:w0w0"}
    assert "holds" not in first
    hold = (await office.post("/api/v1/models/claude-fable-5/offline", {"order": ORDER}))["hold"]
    news = await stream.until(lambda _, data: "holds" in data)
    assert news["holds"][hold]["covers"] == ["claude-fable-5"]
    assert next(iter(news["orders"].values()))["reference"] == "2026-0612"
    assert "models" not in news, "nothing about them is new"
    waiting = (await office.post(f"/api/v1/holds/{hold}/release", {}))["change"]
    news = await stream.until(lambda _, data: "changes" in data)
    assert news["changes"][waiting]["opens"][0]["model"] == "claude-fable-5"
    await office.post(f"/api/v1/changes/{waiting}/approve", {}, token=APPROVER)
    news = await stream.until(lambda _, data: "holds" in data)
    assert news["holds"] == {hold: None}


async def test_while_redis_is_away_what_was_known_stays_and_it_is_said(stream, office, monkeypatch):
    await stream.event()

    async def away():
        raise RedisConnectionError

    with monkeypatch.context() as outage:
        outage.setattr(office.store, "current", away)
        news = await stream.until(lambda _, data: data["head"].get("redis") == "unreachable")
        assert news["head"]["away_since"] <= news["head"]["at"]
        assert "models" not in news
    news = await stream.until(lambda _, data: "redis" not in data["head"])
    assert news["head"]["revision"] == await office.revision()


async def test_an_operator_who_is_one_no_more_is_told_nothing_more(stream, office):
    await stream.event()
    await office.post(f"/api/v1/operators/{OPERATOR}/token", token=APPROVER)
    await stream.until(lambda kind, _: kind == "over")
    async with asyncio.timeout(5):
        assert await stream.answer.content.read() == b""


async def test_pages_are_bounded(desk, monkeypatch):
    monkeypatch.setattr(live, "MOST_PAGES", 0)
    await desk.sign_in(OPERATOR)
    assert (await desk.call("GET", "/console/events")).status == 503


def test_only_differences_are_told():
    old = View({"at": 1}, {"models": {"a": 1, "b": 2}, "holds": {}})
    assert View({"at": 2}, {"models": {"a": 1, "c": 3}, "holds": {}}).since(old) == {
        "head": {"at": 2}, "models": {"c": 3, "b": None},
    }  # fmt: skip


# ---------------------------------------------------------------------- the log, and whom an offline hits


async def test_the_log_is_read_backwards_filtered_and_with_its_receipts(desk, office, monkeypatch):
    monkeypatch.setattr(timeline, "PAGE", 2)
    monkeypatch.setattr(timeline, "READ_AT_ONCE", 2)
    for model in ("claude-fable-5", "gpt-5.4", "gemini-3-pro"):
        await office.post(f"/api/v1/models/{model}/offline", {"order": ORDER} if model == "gpt-5.4" else {})
    await desk.sign_in(OPERATOR)

    async def page(query=""):
        answer = await desk.call("GET", f"/console/timeline{query}")
        assert answer.status == 200, await answer.text()
        return await answer.json()

    first = await page()
    assert [each["revision"] for each in first["entries"]] == [4, 3]
    assert first["entries"][0]["receipt"]["models"] == ["gemini-3-pro"]
    second = await page(f"?before={first['next']}")
    assert [each["revision"] for each in second["entries"]] == [2, 1]
    assert (await page("?before=1"))["next"] is None
    order = second["entries"][0]["order"] or first["entries"][1]["order"]
    assert [each["revision"] for each in (await page(f"?order={order}"))["entries"]] == [3]
    assert [each["action"] for each in (await page("?text=INIT"))["entries"]] == ["init"]
    for query in ("?before=x", "?before=0", "?limit=3"):
        assert (await desk.call("GET", f"/console/timeline{query}")).status == 400


async def test_whom_an_offline_hits_is_counted_and_not_named(desk, office):
    office.traffic = {
        ("demo-alice", "claude-fable-5"): 5,
        ("demo-acme", "claude-fable-5"): 2,
        ("demo-bob", "gpt-5.4"): 9,
    }
    await desk.sign_in(OPERATOR)
    answer = await desk.call("GET", "/console/impact?models=claude-fable-5")
    found = await answer.json()
    assert found["requests"] == 7
    assert found["callers"] == {"total": 2, "by_org": {"acme": 1, "no org": 1}}
    assert "demo-alice" not in await answer.text()
    everything = await (await desk.call("GET", "/console/impact?models=*")).json()
    assert everything["requests"] == 16


async def test_a_dry_run_says_who_could_still_use_it(desk):
    await desk.sign_in(OPERATOR)
    body = {"models": ["claude-fable-5"], "who": {"not": {"term": "us-person"}}, "state": "in_force"}
    edits = {"edits": [{"op": "put", "kind": "directives", "id": "us-only", "body": body}]}
    answer = await desk.api("POST", "/changes?dry_run=true", edits)
    (remaining,) = (await answer.json())["remaining"]
    assert remaining["model"] == "claude-fable-5"
    assert remaining["callers"]["permitted"]["total"] == 4


# ---------------------------------------------------------------------- rates


def looked(permitted: float, denied: float, first_bytes: list[float]):
    counts = [0.0] * (len(BY_NAME[FIRST_BYTE].buckets) + 2)
    for index in first_bytes:
        counts[int(index)] += 1
    return total([[
        (REQUESTS, ("anthropic", "m", "permit", ""), permitted), (REQUESTS, ("anthropic", "m", "deny", "restricted"), denied),
        (FIRST_BYTE, ("anthropic",), counts),
    ]])  # fmt: skip


def test_rates_are_what_passed_between_two_looks():
    meter = Meter()
    meter.look(100.0, looked(10, 0, []), 0, 0)
    assert list(meter.history) == []
    meter.look(102.0, looked(30, 4, [3, 3]), 7, 5)
    (moment,) = meter.history
    assert (moment["permitted"], moment["blocked"]) == (10.0, {"restricted": 2.0})
    assert (moment["in_flight"], moment["streams"]) == (7, 5)
    assert 5 <= moment["p50"] <= 10
    assert meter.models == {"m": (10.0, 2.0)}
    meter.look(103.0, looked(5, 0, []), 0, 0)
    assert meter.history[-1]["permitted"] == 0, "a worker that died takes its counts with it"
    assert meter.models == {}


def test_a_quantile_of_nothing_is_nothing():
    assert quantile([0.0] * 19, 0.5) is None


def test_what_is_under_way_is_added_up_over_workers():
    one = rows({"m": InFlight(2, 1, {"a", "b"})})
    found = together([json.loads(json.dumps(one)), None, [["m", 1, 1, ["b"]]]])
    assert found == {"m": InFlight(3, 2, {"a", "b"})}


def test_every_page_has_a_module():
    static = pages.HERE / "static"
    assert {page.id for page in pages.PAGES} <= {path.stem for path in static.glob("*.js")}


async def test_a_registrar_sees_a_page_that_says_why_it_is_empty(desk):
    await desk.sign_in(REGISTRAR)
    assert (await desk.call("GET", "/console/explain")).status == 200
