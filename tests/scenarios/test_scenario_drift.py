"""A model that its provider has and the catalog has not: refused, found, adopted in one command, and off with its like."""

import json

import pytest
from raw import ask
from system import ROOT, new_system

NEW, LIKE = "gpt-7", "gpt-5.4"
SEEDS = ROOT / "seeds"


@pytest.fixture(scope="module")
def module_system():
    system = new_system(PORTCULLIS_PROXY__WORKERS="1")
    try:
        system.start_redis()
        system.start_simulator("--model", f"openai={NEW}")
        system.run("init", "--seeds", str(SEEDS))
        system.start_gateway()
        yield system
    finally:
        system.stop()


async def status(system, model: str, path: str = "/openai/v1/chat/completions") -> int:
    body = {"model": model, "messages": [{"role": "user", "content": "Hi"}]}
    return (await ask(system.proxy, path, body, {"Authorization": "Bearer demo-alice", "X-Sim-Interval": "0"})).status


async def test_a_new_model_is_found_and_adopted_in_one_command(system):
    for _ in range(3):
        assert await status(system, NEW) == 404
    assert await status(system, "made-up", "/compatible/v1/chat/completions") == 404
    told = json.loads(system.run("catalog", "drift", "--json"))
    assert told["providers"]["openai"]["missing"] == [{"name": NEW, "like": []}]
    assert [(each["provider"], each["name"], each["times"]) for each in told["refused"]] == [
        ("openai", NEW, 3), ("compatible", "made-up", 1),
    ]  # fmt: skip
    assert f"{NEW}" in system.run("catalog", "drift")
    assert "say like which" in system.run("catalog", "adopt", NEW, code=None)
    said = system.run("catalog", "adopt", NEW, "--like", LIKE)
    assert f"ADOPTED {NEW} as {LIKE} at openai" in said
    assert "enforced on 1 of 1 replica" in said
    assert f"nothing restricts {LIKE} today" in said
    assert await status(system, NEW) == 200
    await system.offline(LIKE)
    assert await status(system, NEW) == 403
    assert "already" in system.run("catalog", "adopt", NEW, "--like", LIKE, code=None)
    after = json.loads(system.run("catalog", "drift", "--json"))
    assert after["providers"]["openai"]["missing"] == []
    assert [each["name"] for each in after["refused"]] == ["made-up"]
