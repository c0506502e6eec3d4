"""After a refusal: why, what this caller may use, whom a change would hit."""

import json

from raw import ask, request, send

BODY = {"model": "claude-fable-5", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
US_ONLY = ("restrict", "claude-fable-5", "--only", "us-person")


async def test_why_availability_and_the_lists_agree(system):
    system.run(*US_ONLY, "--id", "d-us", "--authority", "Commerce", "--reference", "2026-1")
    raw = await ask(system.proxy, "/anthropic/v1/messages", BODY, {"x-api-key": "demo-chen"})
    assert raw.status == 451
    request_id = raw.header("portcullis-request-id")
    told = system.run("why", request_id)
    assert "claude-fable-5 · restricted · d-us" in told
    found = await system.ask_admin("GET", f"/api/v1/refusals/{request_id}")
    assert found.json["reason"] == "restricted"
    assert "CN" not in json.dumps(found.json).replace("bytes_in", ""), "no nationality"
    assert (await system.ask_admin("GET", "/api/v1/refusals/req_none")).status == 404
    for key, available in (("demo-chen", False), ("demo-alice", True)):
        head = {"x-api-key": key, "Connection": "close"}
        answer = await send(system.proxy, request("/availability", b"", head, method="GET"))
        models = {entry["model"]: entry for entry in json.loads(answer.partition(b"\r\n\r\n")[2])["models"]}
        assert models["claude-fable-5"]["available"] is available
        assert models["claude-opus-4-5"]["available"]
        answer = await send(system.proxy, request("/anthropic/v1/models", b"", head, method="GET"))
        listed = [model["id"] for model in json.loads(answer.partition(b"\r\n\r\n")[2])["data"]]
        assert ("claude-fable-5" in listed) is available
    system.run("lift", "d-us", code=7)
    system.run("change", "approve", token="demo-approver")


async def test_no_nationality_in_logs_or_metrics(system):
    """Everything that this process has logged and counted; the demo callers are of seven countries."""
    system.run(*US_ONLY, "--id", "d-shadow", "--shadow")
    for caller in ("alice", "bob", "chen", "dana", "erin", "farid", "hana"):
        await ask(system.proxy, "/anthropic/v1/messages", BODY, {"x-api-key": f"demo-{caller}"})
    metrics = (await system.ask_admin("GET", "/metrics")).json
    assert 'portcullis_would_deny_total{model="claude-fable-5",restriction="d-shadow"}' in metrics
    said = (system.directory / "gateway.log").read_text() + metrics
    for country in ("US", "GB", "CN", "FR", "IR", "IN"):
        assert f'"{country}"' not in said
    for caller in ("demo-alice", "demo-chen"):
        assert caller not in said, "a pseudonym stands for a caller"
    system.run("lift", "d-shadow")
