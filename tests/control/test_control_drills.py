"""Drills against a made-up data plane: one that obeys, and ones that do not."""

import asyncio
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from control_harness import start_gate, stop_gate

from gateway.control.drills import Drills
from gateway.control.problems import Conflict
from gateway.enforcement.signing import ForgedError
from gateway.observability.metrics import Counters
from gateway.settings import Settings


class DataPlane:
    """Answers for the canary as the policy says; ``fault`` says in what it does not."""

    def __init__(self, store: Any, fault: str) -> None:
        self.store = store
        self.fault = fault
        app = web.Application()
        app.router.add_post("/canary/v1/chat/completions", self.answer)
        self.server = TestServer(app)

    async def off(self) -> bool:
        return "canary" in (await self.store.current()).snapshot.offline

    async def answer(self, request: web.Request) -> web.StreamResponse:
        assert request.headers["Portcullis-Key"] == "k"
        body = await request.json()
        if await self.off() and self.fault != "lets through":
            return web.Response(status=403, headers={"Portcullis-Reason": "model_offline"})
        if not body["stream"]:
            return web.Response(status=503 if self.fault == "is down" else 200)
        response = web.StreamResponse()
        await response.prepare(request)
        if self.fault == "has short streams":
            await response.write(b"data: [DONE]\n\n")
            return response
        while self.fault == "does not cut" or not await self.off():
            await response.write(b"data: {}\n\n")
            await asyncio.sleep(0.005)
        request.transport.abort()
        return response


@pytest.fixture
async def gate(redis_server, tmp_path):
    gate = await start_gate(redis_server, tmp_path)
    await gate.replica()
    yield gate
    await gate.settle()
    await stop_gate(gate)


@pytest.fixture
async def plane(gate, request):
    plane = DataPlane(gate.store, getattr(request, "param", ""))
    await plane.server.start_server()
    yield plane
    await plane.server.close()


def drills_of(gate: Any, plane: Any, **drill: Any) -> tuple[Drills, Counters]:
    settings = Settings(
        gateway="test",
        state_dir=gate.settings.state_dir,
        proxy={"workers": 1},
        redis={"prefix": gate.settings.redis.prefix},
        providers={
            "canary": {"dialect": "openai", "base_url": "http://127.0.0.1:9", "api_key": "x"},
            "gemini": {"dialect": "gemini", "base_url": "http://127.0.0.1:9", "api_key": "x"},
        },
        drill={"model": "canary", "key": "k", "patience": 5, **drill},
    )
    counters = Counters()
    address = f"{plane.server.host}:{plane.server.port}"
    return Drills(lambda: settings, gate.store, gate.receipts, counters, lambda: address), counters


async def test_a_data_plane_that_obeys_passes(gate, plane):
    drills, counters = drills_of(gate, plane)
    drill = await drills.start("op")
    assert (await drills.listing())[0]["state"] == "running"
    await drill.done.wait()
    assert (drill.state, drill.failure) == ("passed", None)
    assert [step["step"] for step in drill.steps] == [
        "permitted", "streaming", "offline", "refused", "cut", "online", "permitted again",
    ]  # fmt: skip
    assert ("portcullis_drills_total", ("passed",), 1) in counters.samples()
    (stored,) = await drills.listing()
    assert stored == drill.view() == await drills.get(drill.id)
    sealed = [
        fields for _, fields in await gate.store.redis.xrange(gate.store.keys.evidence) if fields[b"kind"] == b"drill"
    ]
    gate.store.signer.unseal("drill", drill.id, sealed[0][b"sealed"])
    with pytest.raises(ForgedError):
        gate.store.signer.unseal("drill", "another", sealed[0][b"sealed"])


@pytest.mark.parametrize(
    ("plane", "failure"),
    [
        ("is down", "permitted: the canary was answered with 503"),
        ("has short streams", "it is too short"),
        ("lets through", "refused: the canary is off, and was answered with 200"),
        ("does not cut", "cut: 2 of 2 streams go on"),
    ],
    indirect=["plane"],
    ids=str,
)
async def test_what_does_not_obey_is_found_and_the_canary_is_online_again(gate, plane, failure, monkeypatch):
    monkeypatch.setattr("gateway.control.drills.CUT_SECONDS", 0.1)
    drills, counters = drills_of(gate, plane)
    drill = await drills.start("op")
    await drill.done.wait()
    assert (drill.state, failure in drill.failure) == ("failed", True), drill.failure
    assert not (await gate.store.current()).document.holds
    assert ("portcullis_drills_total", ("failed",), 1) in counters.samples()
    assert drills.samples() == [("portcullis_drill_interval_seconds", (), 0.0)], "none has succeeded"


async def test_what_a_drill_that_died_left_off_is_put_online_first(gate, plane):
    drills, _ = drills_of(gate, plane)
    base = await gate.store.current()
    from datetime import UTC, datetime

    from gateway.policy.document import Hold

    held = base.document.edited(holds={"drill-old": Hold(models=("canary",), by="drill", at=datetime.now(UTC))})
    await gate.store.commit(base, held, actor="drill", action="drill.offline", subject="models/canary")
    drill = await drills.start("op")
    await drill.done.wait()
    assert drill.state == "passed", drill.failure
    assert not (await gate.store.current()).document.holds


async def test_one_at_a_time_on_all_machines(gate, plane):
    here, _ = drills_of(gate, plane)
    there, _ = drills_of(gate, plane)
    drill = await here.start("op")
    for other in (here, there):
        with pytest.raises(Conflict, match="running"):
            await other.start("op")
    await drill.done.wait()
    again = await there.start("op")
    await again.done.wait()


async def test_a_schedule_is_kept_by_one_of_several(gate, plane):
    processes = [drills_of(gate, plane, every=100)[0] for _ in range(3)]
    for moment in (1000.0, 1050.0, 1099.0):
        await asyncio.gather(*(drills._look(moment) for drills in processes))
    running = [drills._running for drills in processes if drills._running]
    assert len(running) == 1
    await running[0].done.wait()
    await processes[0]._look(1100.0)
    await processes[0]._running.done.wait()
    found = await processes[1].listing()
    assert [(each["by"], each["scheduled"]) for each in found] == [("scheduler", True)] * 2


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"model": None}, "set drill.model"),
        ({"model": "no-such"}, "set drill.model"),
        ({"model": "gemini-3-flash"}, "must speak one of anthropic, openai, openai-compatible"),
        ({"model": "mistral-large"}, "No provider of mistral-large is configured"),
        ({"key": None}, "set drill.key_file"),
        ({"key": None, "key_env": "NOT_SET_ANYWHERE"}, "NOT_SET_ANYWHERE"),
    ],
)
async def test_what_is_missing_is_said(gate, plane, settings, what):
    drills, _ = drills_of(gate, plane, **settings)
    with pytest.raises(Conflict) as raised:
        await drills.start("op")
    assert what in raised.value.detail
