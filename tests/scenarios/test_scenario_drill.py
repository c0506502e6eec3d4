"""The canary goes off and on by hand and by schedule, through real listeners, and whatever fails is said."""

import json

from system import ROOT, System, until

CANARY = {
    "PORTCULLIS_DRILL__MODEL": "canary",
    "PORTCULLIS_DRILL__KEY": "demo-alice",
    "PORTCULLIS_PROVIDERS__CANARY__DIALECT": "openai-compatible",
    "PORTCULLIS_PROVIDERS__CANARY__API_KEY": "sim-key",
}


EVERY = 1


async def drills(system: System) -> list[dict]:
    return (await system.ask_admin("GET", "/api/v1/drills")).json["drills"]


async def test_a_drill_walks_the_whole_way_and_two_control_processes_share_a_schedule(fresh_system):
    system = fresh_system
    system.start_redis()
    system.start_simulator("--provider", "canary=openai", "--model", "canary=canary", "--require-key", "canary=sim-key")
    system.env |= CANARY | {"PORTCULLIS_PROVIDERS__CANARY__BASE_URL": f"{system.simulator}/canary"}
    system.run("init", "--seeds", str(ROOT / "seeds"))
    system.start_gateway()

    said = system.run("drill")
    print(f"\n{said}")
    words = [line.split("  ")[0].strip() for line in said.splitlines()]
    assert words[:6] == ["permitted", "streaming", "offline", "refused", "cut", "online"]
    assert words[6] == "permitted again"
    assert "DRILL PASSED canary" in said
    (drill,) = await drills(system)
    offline = next(step for step in drill["steps"] if step["step"] == "offline")
    assert (offline["basis"], offline["replicas"], offline["streams_cut"]) == ("all_acked", 2, 4)
    assert not await system.holds()
    found = await system.metrics()
    assert found['portcullis_drills_total{result="passed"}'] == 1
    assert found['portcullis_drill_seconds_count{step="offline"}'] == 1
    assert found["portcullis_drill_last_success_timestamp_seconds"] > 0

    hold = (await system.offline("canary"))["hold"]
    said = system.run("drill", "--json", code=4)
    assert json.loads(said)["failure"].startswith("permitted: the canary was answered with 403 model_offline")
    assert await system.holds() == [hold], "what others hold is not touched"
    assert (await system.metrics())['portcullis_drills_total{result="failed"}'] == 1
    await system.release_all()

    gateway = system.processes.pop("gateway")
    gateway.terminate()
    gateway.wait(20)
    system.env["PORTCULLIS_DRILL__EVERY"] = str(EVERY)
    system.start_gateway()
    first = system.admin
    other = System(system.directory, dict(system.env), system.redis_socket)
    other.env["PORTCULLIS_STATE_DIR"] = str(system.directory / "other")
    (system.directory / "other").mkdir()
    for name in ("signing.key", "signing.pub", "pseudonym.key"):
        source = system.directory / "state" / name
        if source.exists():
            (system.directory / "other" / name).write_bytes(source.read_bytes())
    try:
        other.start_gateway()
        assert other.admin != first

        async def three() -> bool:
            return sum(drill["scheduled"] and drill["state"] != "running" for drill in await drills(system)) >= 3

        await until(three, "three scheduled drills", 30)
    finally:
        gateway = other.processes.pop("gateway", None)
        if gateway is not None:
            gateway.terminate()
            gateway.wait(20)
    scheduled = [drill for drill in await drills(system) if drill["scheduled"]]
    assert {drill["state"] for drill in scheduled} <= {"passed", "running"}, scheduled
    moments = sorted(_seconds(drill["at"]) for drill in scheduled)
    assert len(scheduled) <= (moments[-1] - moments[0]) / EVERY + 2, "each by one of the two"


def _seconds(at: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(at).timestamp()
