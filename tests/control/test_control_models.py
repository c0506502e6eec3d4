"""The catalog: reading it, changing it under preconditions, and never past an order."""

import pytest
from control_harness import APPROVER, FABLE, OPERATOR

MODEL = {
    "routes": [{"provider": "anthropic", "names": ["claude-saga-1"]}],
    "aliases": ["claude-saga-latest"],
    "family": "saga",
}
SAGA = "/api/v1/models/claude-saga-1"
ORDER = {"authority": "court", "reference": "1/26"}


async def test_the_list_shows_every_model_and_what_holds_it(gate):
    hold = (await gate.post(f"{FABLE}/offline", {"order": ORDER}))["hold"]
    listed = await gate.get("/api/v1/models")
    assert listed["revision"] == 2
    models = {model["id"]: model for model in listed["models"]}
    assert len(models) >= 11
    fable = models["claude-fable-5"]
    assert fable["state"] == "offline"
    assert fable["family"] == "fable"
    assert fable["tags"] == ["frontier", "controlled"]
    assert fable["max_stale"] == 5.0
    assert fable["capability"] == "chat"
    assert "claude-5-fable" in fable["aliases"]
    assert {route["provider"] for route in fable["routes"]} == {"anthropic", "bedrock"}
    (held,) = fable["holds"]
    assert (held["id"], held["by"]) == (hold, OPERATOR)
    assert held["order"].startswith("o-")
    assert held["at"].endswith("Z")
    assert models["gpt-5.4"]["state"] == "available"
    assert models["gpt-5.4"]["holds"] == []


async def test_one_model_is_found_by_any_name(gate):
    for name in ("claude-fable-5", "claude-5-fable", "eu.anthropic.claude-fable-5-20260324-v1%3A0"):
        answer = await gate.get(f"/api/v1/models/{name}")
        assert answer["id"] == "claude-fable-5"
        assert answer.headers["ETag"] == '"1"'


async def test_a_model_is_created_changed_and_removed_under_preconditions(gate):
    created = await gate.put(SAGA, MODEL, token=OPERATOR, If_None_Match="*")
    assert created.status == 200
    assert created["basis"] == "all_acked"
    assert created["models"] == ["claude-saga-1"]
    assert created.headers["ETag"] == '"2"'
    assert (await gate.get(SAGA)).headers["ETag"] == '"2"'
    changed = await gate.put(SAGA, {**MODEL, "tags": ["controlled"]}, token=OPERATOR, If_Match='"2"')
    assert changed.headers["ETag"] == '"3"'
    assert (await gate.get(SAGA))["max_stale"] == 5.0
    removed = await gate.delete(SAGA, token=OPERATOR, If_Match='"3"')
    assert removed.status == 200
    assert (await gate.get(SAGA)).status == 404
    assert SAGA.rpartition("/")[2] not in str((await gate.get("/api/v1/policy"))["changed"])


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("PUT", SAGA, {}, 428),
        ("PUT", SAGA, {"If_Match": '"1"'}, 412),
        ("PUT", SAGA, {"If_None_Match": '"1"'}, 412),
        ("PUT", FABLE, {}, 428),
        ("PUT", FABLE, {"If_None_Match": "*"}, 412),
        ("PUT", FABLE, {"If_Match": '"7"'}, 412),
        ("PUT", FABLE, {"If_Match": 'W/"1"'}, 412),
        ("DELETE", FABLE, {}, 428),
        ("DELETE", FABLE, {"If_Match": '"7"'}, 412),
        ("DELETE", SAGA, {"If_Match": '"1"'}, 404),
        ("DELETE", "/api/v1/models/claude-5-fable", {"If_Match": '"1"'}, 409),
    ],
)
async def test_a_precondition_is_needed_and_must_fit(gate, method, path, headers, status):
    answer = await gate.call(method, path, MODEL if method == "PUT" else None, APPROVER, **headers)
    assert answer.status == status
    assert answer.problem
    assert await gate.revision() == 1


async def test_taking_a_model_offline_does_not_change_its_etag(gate):
    await gate.post(f"{FABLE}/offline")
    assert (await gate.get(FABLE)).headers["ETag"] == '"1"'


async def test_the_same_entry_again_makes_no_revision(gate):
    await gate.put(SAGA, MODEL, If_None_Match="*")
    answer = await gate.put(SAGA, MODEL, If_Match='"2"')
    assert (answer.status, answer.problem) == (409, "unchanged")
    assert await gate.revision() == 2


async def test_a_name_can_mean_only_one_model(gate):
    answer = await gate.put(SAGA, {**MODEL, "aliases": ["claude-5-fable"]}, If_None_Match="*")
    assert (answer.status, answer.problem) == (409, "conflict")
    assert "claude-fable-5" in answer["detail"]


@pytest.mark.parametrize("model_id", ["family:fable", "tag:x", "-x", "a%20b", "a" * 129])
async def test_an_id_must_not_read_as_something_else(gate, model_id):
    answer = await gate.put(f"/api/v1/models/{model_id}", MODEL, If_None_Match="*")
    assert (answer.status, answer.problem) == (400, "malformed")


@pytest.mark.parametrize(
    ("name", "edit"),
    [
        ("a tag that the hold is on", {"tags": []}),
        ("a name", {"aliases": []}),
        ("a route", {"routes": [{"provider": "anthropic", "names": ["claude-fable-5"]}]}),
    ],
)
async def test_a_model_cannot_be_edited_past_an_order_alone(gate, name, edit):
    await gate.post("/api/v1/offline", {"models": ["tag:controlled"], "order": ORDER})
    shown = (await gate.get(FABLE)).body
    model = {field: shown[field] for field in ("routes", "aliases", "family", "tags", "capability")}
    answer = await gate.put(FABLE, {**model, **edit}, token=OPERATOR, If_Match='"1"')
    assert (answer.status, answer["state"]) == (202, "awaiting approval"), name
    assert (await gate.delete(FABLE, token=OPERATOR, If_Match='"1"'))["state"] == "awaiting approval"
    assert await gate.revision() == 2
    assert (await gate.post(f"/api/v1/changes/{answer['change']}/approve", token=APPROVER)).status == 200
    assert await gate.revision() == 3


async def test_what_leaves_an_order_as_it_is_needs_nobody_else(gate):
    await gate.post("/api/v1/offline", {"models": ["tag:controlled"], "order": ORDER})
    shown = (await gate.get(FABLE)).body
    model = {field: shown[field] for field in ("routes", "aliases", "family", "tags", "capability")}
    changed = {**model, "family": "other", "aliases": [*model["aliases"], "claude-fable-5-new"]}
    assert (await gate.put(FABLE, changed, token=OPERATOR, If_Match='"1"')).status == 200


async def test_a_hold_outlives_its_model_and_closes_it_again(gate):
    shown = (await gate.get(FABLE)).body
    model = {field: shown[field] for field in ("routes", "aliases", "family", "tags", "capability")}
    await gate.post(f"{FABLE}/offline")
    assert (await gate.delete(FABLE, If_Match='"1"')).status == 200
    assert (await gate.put(FABLE, model, If_None_Match="*")).status == 200
    assert await gate.state("claude-fable-5") == "offline"


async def test_a_name_with_two_meanings_is_not_guessed(gate):
    for model_id, provider in (("a-1", "anthropic"), ("a-2", "openai")):
        entry = {"routes": [{"provider": provider, "names": ["twin"]}]}
        await gate.put(f"/api/v1/models/{model_id}", entry, If_None_Match="*")
    answer = await gate.post("/api/v1/models/twin/offline")
    assert (answer.status, answer.problem) == (409, "conflict")
    assert "a-1 and a-2" in answer["detail"]
