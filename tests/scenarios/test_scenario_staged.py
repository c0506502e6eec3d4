"""An order in its stages: off for all, back for some, for one's own staff too, for everybody.

Each step is one command, one revision, one receipt; a second person approves where access grows.
"""

import asyncio
import json

import anthropic
from raw import Raw, ask

MODEL = "claude-fable-5"
MESSAGES = [{"role": "user", "content": "Hi"}]
PEOPLE = ("demo-alice", "demo-bob", "demo-chen", "demo-dana", "demo-farid", "demo-hana")
REASONS = {
    "open": dict.fromkeys(PEOPLE),
    "off": dict.fromkeys(PEOPLE, "model_offline"),
    "us persons": {
        "demo-alice": None, "demo-bob": None, "demo-farid": None,
        "demo-chen": "restricted", "demo-hana": "restricted", "demo-dana": "attribute_unknown",
    },
    "and staff": {
        "demo-alice": None, "demo-bob": None, "demo-farid": None, "demo-hana": None,
        "demo-chen": "restricted", "demo-dana": "attribute_unknown",
    },
}  # fmt: skip


async def reasons(system) -> dict[str, str | None]:
    """Who is refused and why, as the official SDK sees it."""
    found: dict[str, str | None] = {}
    for person in PEOPLE:
        base = f"{system.proxy}/anthropic"
        async with anthropic.AsyncAnthropic(base_url=base, api_key=person, max_retries=0) as client:
            try:
                await client.messages.create(model=MODEL, max_tokens=9, messages=MESSAGES)
            except anthropic.APIStatusError as error:
                assert error.status_code == 451
                found[person] = error.response.json()["error"]["portcullis"]["reason"]
            else:
                found[person] = None
    return found


async def revision(system) -> int:
    return (await system.ask_admin("GET", "/api/v1/models")).json["revision"]


async def streaming(system, key: str, model: str) -> tuple[Raw, asyncio.Task]:
    raw = Raw()
    body = {"model": model, "max_tokens": 9, "stream": True, "messages": MESSAGES}
    headers = {"x-api-key": key, "X-Sim-Interval": "0.05", "X-Sim-Events": "2000"}
    task = asyncio.create_task(ask(system.proxy, "/anthropic/v1/messages", body, headers, raw))
    await asyncio.wait_for(raw.began.wait(), 10)
    return raw, task


async def command(system, *words: str, token: str = "demo-operator", code: int = 0) -> str:
    return await asyncio.to_thread(system.run, *words, token=token, code=code)


async def test_an_order_in_its_stages(system):
    assert await reasons(system) == REASONS["open"]
    staff = {
        "kind": "person",
        "org": "ourselves",
        "attributes": {"nationality": ["IN"], "permanent_residence": [], "legal_status": []},
    }
    caller = await system.ask_admin("GET", "/api/v1/callers/demo-hana", token="demo-approver")
    moved = await system.ask_admin(
        "PUT", "/api/v1/callers/demo-hana", staff, token="demo-approver", headers={"If-Match": caller.headers["ETag"]}
    )
    assert moved.status == 200, moved.json
    cut, cut_task = await streaming(system, "demo-alice", MODEL)
    other, other_task = await streaming(system, "demo-alice", "claude-opus-4-5")

    # the order arrives: off for all
    at = await revision(system)
    said = await command(system, "offline", MODEL, "--authority", "Commerce", "--reference", "2026-0612")
    assert "enforced on 2 of 2 replicas" in said
    assert await revision(system) == at + 1
    await asyncio.wait_for(cut_task, 5)
    assert cut.ended in ("cut", "reset")
    assert await reasons(system) == REASONS["off"]

    # off for all becomes off for some, in one revision, by two people
    said = await command(system, "online", MODEL, "--only", "us-person", code=7)
    assert "STILL DENIED" in said
    assert await reasons(system) == REASONS["off"]
    said = await command(system, "change", "approve", token="demo-approver")
    assert "enforced on 2 of 2 replicas" in said
    assert await revision(system) == at + 2
    assert await reasons(system) == REASONS["us persons"]

    # one's own foreign staff
    (directive_id,) = (await system.ask_admin("GET", "/api/v1/policy")).json["directives"]
    found = await system.ask_admin("GET", f"/api/v1/directives/{directive_id}")
    policy = (await system.ask_admin("GET", "/api/v1/policy")).json["directives"][directive_id]
    body = {name: policy[name] for name in ("models", "who", "order") if name in policy}
    body["except"] = [{"org": {"any_of": ["ourselves"]}}]
    answer = await system.ask_admin(
        "PUT", f"/api/v1/directives/{directive_id}", body, headers={"If-Match": found.headers["ETag"]}
    )
    assert answer.json.get("awaiting") == "approval", answer.json
    assert await reasons(system) == REASONS["us persons"]
    assert (await system.agreed(answer))["enforced"]
    assert await reasons(system) == REASONS["and staff"]

    # the order is lifted
    newly, newly_task = await streaming(system, "demo-alice", MODEL)
    said = await command(system, "lift", directive_id, code=7)
    said = await command(system, "change", "approve", token="demo-approver")
    assert "enforced" in said
    assert await revision(system) == at + 4
    assert await reasons(system) == REASONS["open"]
    assert not other_task.done(), "a stream of another model was never touched"
    assert not newly_task.done()
    for task in (other_task, newly_task):
        task.cancel()
    assert json.dumps(other.status) == "200"
    assert newly.status == 200
