"""Questions: may somebody have a model, and why; who may have it at all."""

import pytest

FABLE = "claude-fable-5"
NON_US = {"models": [FABLE], "who": {"not": {"term": "us-person"}}, "state": "in_force", "public_message": "Not now."}


async def restricted(gate):
    await gate.put("/api/v1/directives/d-1", NON_US, If_None_Match="*")


async def ask(gate, **body):
    return await gate.post("/api/v1/explain", {"model": FABLE, **body})


async def test_an_explanation_says_what_was_looked_at(gate):
    await restricted(gate)
    answer = await ask(gate, caller="demo-chen")
    assert (answer.status, answer["decision"], answer["reason"]) == (200, "deny", "restricted")
    assert (answer["restriction"], answer["message"], answer["revision"]) == ("d-1", "Not now.", 2)
    assert answer["asked"] == {"provider": "anthropic", "name": FABLE}
    (about,) = answer["trace"]
    (rule,) = about["directives"]
    assert (rule["id"], rule["applies"]) == ("d-1", "yes")
    assert rule["as"][0]["who"]["condition"] == "not us-person"
    permitted = await ask(gate, caller="demo-alice")
    assert (permitted["decision"], permitted["models"]) == ("permit", [FABLE])


@pytest.mark.parametrize(
    ("attributes", "decision", "reason"),
    [
        ({"nationality": ["US"]}, "permit", None),
        ({"nationality": ["CN"], "permanent_residence": [], "legal_status": []}, "deny", "restricted"),
        ({"nationality": ["CN"]}, "deny", "attribute_unknown"),
        ({}, "deny", "attribute_unknown"),
        ({"kind": "service", "org": "acme"}, "deny", "attribute_unknown"),
    ],
)
async def test_it_can_be_asked_for_somebody_who_is_not_there(gate, attributes, decision, reason):
    await restricted(gate)
    answer = await ask(gate, attributes=attributes)
    assert (answer["decision"], answer.body.get("reason")) == (decision, reason)


async def test_it_can_be_asked_for_an_end_user(gate):
    await restricted(gate)
    for user, decision in (("demo-alice", "permit"), ("demo-chen", "deny"), ({"nationality": ["US"]}, "permit")):
        assert (await ask(gate, caller="demo-acme", on_behalf_of=user))["decision"] == decision


async def test_a_name_at_a_provider_is_taken_as_it_is(gate):
    name = "us.anthropic.claude-fable-5-20260324-v1:0"
    assert (await ask(gate, caller="demo-alice", model=name))["asked"]["provider"] == "anthropic"
    answer = await ask(gate, caller="demo-alice", model=name, provider="bedrock")
    assert (answer["decision"], answer["asked"]["name"]) == ("permit", name)
    answer = await ask(gate, caller="demo-alice", model="nothing", provider="bedrock")
    assert (answer["decision"], answer["reason"]) == ("deny", "unknown_model")
    assert (await ask(gate, caller="demo-alice", model="nothing")).problem == "no-such-model"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ({"caller": "demo-alice", "attributes": {}}, 400),
        ({"attributes": {"nationality": ["UK"]}}, 400),
        ({"caller": "nobody"}, 404),
        ({"caller": "demo-alice", "on_behalf_of": "nobody"}, 404),
    ],
)
async def test_a_question_that_is_none_is_refused(gate, body, status):
    answer = await ask(gate, **body)
    assert answer.status == status
    assert answer.problem


async def test_an_offline_model_is_reached_by_nobody(gate):
    await gate.post(f"/api/v1/models/{FABLE}/offline")
    answer = await gate.get(f"/api/v1/models/{FABLE}/reach")
    assert answer["permitted"] == {"profiles": 0, "examples": []}
    assert answer["callers"]["permitted"] == {"total": 0, "by_org": {}}


async def test_reach_is_everyone_or_those_whom_nothing_denies(gate):
    answer = await gate.get("/api/v1/models/claude-5-fable/reach")
    assert (answer["model"], answer["permitted"]) == (FABLE, {"profiles": 1, "examples": ["everyone"]})
    assert answer["callers"]["permitted"] == {"total": 8, "by_org": {"acme": 1, "no org": 7}}
    await restricted(gate)
    answer = await gate.get(f"/api/v1/models/{FABLE}/reach")
    assert answer["profiles"] > answer["permitted"]["profiles"] > 1
    assert all("US" in example or "us-protected" in example for example in answer["permitted"]["examples"])
    assert answer["callers"]["permitted"] == {"total": 4, "by_org": {"no org": 4}}
    assert (await gate.get("/api/v1/models/nothing/reach")).status == 404


async def test_a_reach_beyond_counting_is_said(gate, monkeypatch):
    await restricted(gate)
    monkeypatch.setattr("gateway.policy.reach.LIMIT", 3)
    answer = await gate.get(f"/api/v1/models/{FABLE}/reach")
    assert (answer.status, answer.problem) == (422, "not-enumerable")


async def test_a_model_that_has_only_patterns_is_explained(gate):
    entry = {"routes": [{"provider": "anthropic", "names": ["saga-*"]}]}
    await gate.put("/api/v1/models/saga", entry, If_None_Match="*")
    answer = await ask(gate, caller="demo-alice", model="saga")
    assert (answer["decision"], answer["asked"]["name"]) == ("permit", "saga-x")
