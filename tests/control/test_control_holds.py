"""Offline and online: holds like padlocks, undo, patterns, inline orders."""

import asyncio
from datetime import timedelta

import pytest
from control_harness import APPROVER, FABLE, OPERATOR, OTHER, SECOND

ORDER = {"authority": "US Department of Commerce", "reference": "BIS-2026-0612"}


async def test_offline_answers_with_a_receipt_once_every_replica_acknowledged(gate):
    await gate.replica("w1", cut_per_revision=37)
    answer = await gate.post(f"{FABLE}/offline", {"note": "directive of this evening"})
    assert answer.status == 200
    assert answer["enforced"] is True
    assert answer["state"] == "enforced"
    assert answer["basis"] == "all_acked"
    assert answer["models"] == ["claude-fable-5"]
    assert answer["hold"].startswith("h-")
    assert len(answer["hold"]) == 10
    assert answer["streams_cut"] == 37
    assert answer["replicas"]["expected"] == 2
    assert {member["state"] for member in answer["replicas"]["list"]} == {"acked"}
    assert answer.headers["Portcullis-Revision"] == str(answer["revision"]) == "2"
    assert await gate.state("claude-fable-5") == "offline"
    stored = await gate.get("/api/v1/receipts/2")
    assert {name: answer[name] for name in stored.body} == stored.body


async def test_with_no_replica_nothing_is_proven_and_that_is_said_at_once(empty_gate):
    answer = await empty_gate.post(f"{FABLE}/offline")
    assert answer.status == 200
    assert answer["enforced"] is False
    assert answer["basis"] == "no_replicas"
    assert answer["replicas"]["expected"] == 0


async def test_there_is_no_early_yes_when_the_wait_runs_out(empty_gate):
    replica = await empty_gate.replica(deaf=True)
    answer = await empty_gate.post(f"{FABLE}/offline?wait=0.01")
    assert answer.status == 202
    assert answer["enforced"] is False
    assert answer["state"] == "pending"
    assert answer["basis"] is None
    assert answer.headers["Location"] == "/api/v1/receipts/2"
    assert (await empty_gate.get(answer.headers["Location"]))["state"] == "pending"
    await replica.catch_up()
    await empty_gate.settle()
    closed = await empty_gate.get(answer.headers["Location"])
    assert closed["basis"] == "all_acked"
    assert closed["hold"] == answer["hold"]


async def test_a_name_or_alias_means_its_model(gate):
    answer = await gate.post("/api/v1/models/us.anthropic.claude-fable-5-20260324-v1%3A0/offline")
    assert answer["models"] == ["claude-fable-5"]
    answer = await gate.post("/api/v1/offline", {"models": ["gpt-5.4-mini-latest", "claude-5-mythos"]})
    assert answer["models"] == ["claude-mythos-5", "gpt-5.4-mini"]
    assert (await gate.get("/api/v1/holds"))["holds"][0]["models"] == ["gpt-5.4-mini", "claude-mythos-5"]


@pytest.mark.parametrize("path", ["/api/v1/models/claude-fabel-5/offline", "/api/v1/models/Claude-Fable/online"])
async def test_an_unknown_name_is_answered_with_near_ones(gate, path):
    answer = await gate.post(path)
    assert (answer.status, answer.problem) == (404, "no-such-model")
    assert "claude-fable-5" in answer["near"]
    assert "claude-fable-5" in answer["detail"]
    assert await gate.revision() == 1


async def test_one_unknown_name_among_many_takes_nothing_offline(gate):
    answer = await gate.post("/api/v1/offline", {"models": ["claude-fable-5", "claude-mythos"]})
    assert answer.status == 404
    assert await gate.revision() == 1


@pytest.mark.parametrize(
    ("pattern", "covered"),
    [
        ("tag:controlled", ["claude-fable-5", "claude-mythos-5"]),
        ("family:gpt-5.4", ["gpt-5.4", "gpt-5.4-mini", "gpt-5.4-nano"]),
        ("gpt-5.4-*", ["gpt-5.4-mini", "gpt-5.4-nano"]),
        ("provider:gemini", ["gemini-3-flash", "gemini-3-pro"]),
        ("family:not-yet", []),
        ("claude-9-*", []),
    ],
)
async def test_a_pattern_is_resolved_and_may_mean_nothing_today(gate, pattern, covered):
    answer = await gate.post("/api/v1/offline", {"models": [pattern]})
    assert answer.status == 200
    assert answer["models"] == covered
    assert answer["matches"] == {pattern: covered}
    assert (await gate.get("/api/v1/holds"))["holds"][0]["covers"] == covered


async def test_a_pattern_closes_models_added_later(gate):
    await gate.post("/api/v1/offline", {"models": ["family:fable"]})
    model = {"routes": [{"provider": "anthropic", "names": ["claude-fable-6"]}], "family": "fable"}
    await gate.put("/api/v1/models/claude-fable-6", model, If_None_Match="*")
    assert await gate.state("claude-fable-6") == "offline"


@pytest.mark.parametrize("text", ["tag:no such", "a[bc]*", "*;"])
async def test_a_malformed_pattern_is_refused(gate, text):
    answer = await gate.post("/api/v1/offline", {"models": [text]})
    assert (answer.status, answer.problem) == (400, "malformed")


async def test_a_model_stays_offline_until_the_last_hold_is_released(gate):
    first = (await gate.post(f"{FABLE}/offline"))["hold"]
    second = (await gate.post(f"{FABLE}/offline", token=OTHER))["hold"]
    assert first != second
    answer = await gate.post(f"/api/v1/holds/{first}/release")
    assert answer["released"] == [first]
    assert [(held["model"], held["holds"][0]["id"]) for held in answer["still_held"]] == [("claude-fable-5", second)]
    assert answer["still_held"][0]["holds"][0]["by"] == OTHER
    assert await gate.state("claude-fable-5") == "offline"
    answer = await gate.post(f"/api/v1/holds/{second}/release")
    assert answer["still_held"] == []
    assert await gate.state("claude-fable-5") == "available"


async def test_online_releases_every_hold_on_exactly_this_model(gate):
    holds = [(await gate.post(f"{FABLE}/offline"))["hold"] for _ in range(2)]
    answer = await gate.post(f"{FABLE}/online")
    assert answer["released"] == sorted(holds)
    assert answer["still_held"] == []
    assert await gate.state("claude-fable-5") == "available"


async def test_online_leaves_a_pattern_hold_and_says_so(gate):
    exact = (await gate.post(f"{FABLE}/offline"))["hold"]
    broad = (await gate.post("/api/v1/offline", {"models": ["tag:controlled"]}, token=OTHER))["hold"]
    answer = await gate.post(f"{FABLE}/online")
    assert answer["released"] == [exact]
    assert [hold["id"] for hold in answer["still_held"][0]["holds"]] == [broad]
    answer = await gate.post(f"{FABLE}/online")
    assert (answer.status, answer.problem) == (409, "still-held")
    assert answer["still_held"][0]["holds"][0]["by"] == OTHER
    answer = await gate.post(f"{FABLE}/online", {"hold": broad})
    assert answer["models"] == ["claude-fable-5", "claude-mythos-5"]
    assert answer["still_held"] == []


async def test_online_with_a_hold_releases_only_that_one(gate):
    first, second = [(await gate.post(f"{FABLE}/offline"))["hold"] for _ in range(2)]
    answer = await gate.post(f"{FABLE}/online", {"hold": first})
    assert answer["released"] == [first]
    assert answer["still_held"][0]["holds"][0]["id"] == second


async def test_what_would_change_nothing_makes_no_revision(gate):
    hold = (await gate.post("/api/v1/models/gpt-5.4/offline"))["hold"]
    for path, body, status in (
        (f"{FABLE}/online", None, 409),
        (f"{FABLE}/online", {"hold": "h-00000000"}, 404),
        (f"{FABLE}/online", {"hold": hold}, 409),
        ("/api/v1/holds/h-00000000/release", None, 404),
        ("/api/v1/holds/h-00000000/undo", None, 404),
    ):
        answer = await gate.post(path, body)
        assert answer.status == status, path
        assert answer.problem
    assert await gate.revision() == 2


async def test_ones_own_hold_can_be_undone_also_under_an_order(gate):
    hold = (await gate.post(f"{FABLE}/offline", {"order": ORDER}))["hold"]
    answer = await gate.post(f"/api/v1/holds/{hold}/undo")
    assert answer.status == 200
    assert answer["released"] == [hold]
    assert await gate.state("claude-fable-5") == "available"


async def test_nobody_else_can_undo_a_hold(gate):
    hold = (await gate.post(f"{FABLE}/offline"))["hold"]
    for token in (OTHER, APPROVER):
        answer = await gate.post(f"/api/v1/holds/{hold}/undo", token=token)
        assert (answer.status, answer.problem) == (403, "forbidden")
    assert await gate.state("claude-fable-5") == "offline"


@pytest.mark.parametrize(("ago", "status"), [(timedelta(seconds=590), 200), (timedelta(seconds=601), 409)])
async def test_undoing_ends_after_ten_minutes(gate, ago, status):
    await gate.hold("h-old", "claude-fable-5", OPERATOR, ago)
    answer = await gate.post("/api/v1/holds/h-old/undo")
    assert answer.status == status


async def test_releasing_under_an_order_waits_for_a_second_person(gate):
    hold = (await gate.post(f"{FABLE}/offline", {"order": ORDER}))["hold"]
    for token in (OPERATOR, APPROVER):
        for path in (f"/api/v1/holds/{hold}/release", f"{FABLE}/online"):
            answer = await gate.post(path, token=token)
            assert (answer.status, answer["state"], answer["awaiting"]) == (202, "awaiting approval", "approval")
            assert answer.headers["Location"] == f"/api/v1/changes/{answer['change']}"
            assert answer["opens"] == [{"model": "claude-fable-5", "profile": "everyone", "profiles": 1}]
    assert await gate.revision() == 2
    assert await gate.state("claude-fable-5") == "offline"
    assert (await gate.post(f"/api/v1/changes/{answer['change']}/approve", token=SECOND)).status == 200
    assert await gate.state("claude-fable-5") == "available"


async def test_the_same_authority_and_reference_mean_the_same_order(gate):
    first = (
        await gate.post(f"{FABLE}/offline", {"order": {**ORDER, "url": "https://example.org/1", "disclose": True}})
    )["order"]
    second = (await gate.post("/api/v1/models/claude-mythos-5/offline", {"order": ORDER}))["order"]
    third = (await gate.post("/api/v1/models/gpt-5.4/offline", {"order": first}))["order"]
    assert first == second == third
    listed = (await gate.get("/api/v1/orders"))["orders"]
    assert [order["id"] for order in listed] == [first]
    assert len(listed[0]["holds"]) == 3
    got = await gate.get(f"/api/v1/orders/{first}")
    assert got["reference"] == "BIS-2026-0612"
    assert got["by"] == OPERATOR
    assert got["disclose"] is True
    assert got.headers["ETag"] == '"2"'
    other = (await gate.post(f"{FABLE}/offline", {"order": {**ORDER, "reference": "BIS-2026-0613"}}))["order"]
    assert other != first


async def test_an_inline_order_does_not_change_the_one_that_is_there(gate):
    await gate.post(f"{FABLE}/offline", {"order": ORDER})
    answer = await gate.post(f"{FABLE}/offline", {"order": {**ORDER, "disclose": True}})
    assert (answer.status, answer.problem) == (409, "conflict")


async def test_an_unknown_order_is_refused(gate):
    assert (await gate.post(f"{FABLE}/offline", {"order": "o-1"})).status == 404
    assert (await gate.get("/api/v1/orders/o-1")).status == 404


async def test_a_hold_keeps_what_the_operator_said(gate):
    body = {"note": "call Ada first", "public_message": "Back soon.", "in_flight": {"let_finish": 30}}
    hold = (await gate.post(f"{FABLE}/offline", body))["hold"]
    (listed,) = (await gate.get("/api/v1/holds"))["holds"]
    assert listed["id"] == hold
    assert listed["note"] == "call Ada first"
    assert listed["public_message"] == "Back soon."
    assert listed["in_flight"] == {"let_finish": 30.0}
    assert listed["models"] == ["claude-fable-5"]
    assert listed["by"] == OPERATOR


async def test_holds_can_be_asked_for_by_their_maker_newest_first(gate):
    mine = [(await gate.post(f"{FABLE}/offline"))["hold"] for _ in range(2)]
    other = (await gate.post(f"{FABLE}/offline", token=OTHER))["hold"]
    listed = await gate.get("/api/v1/holds?by=me", token=OPERATOR)
    assert [hold["id"] for hold in listed["holds"]] == mine[::-1]
    listed = await gate.get(f"/api/v1/holds?by={OTHER}")
    assert [hold["id"] for hold in listed["holds"]] == [other]


async def test_twenty_at_once_all_take_their_model_offline(gate):
    models = ["claude-fable-5", "gpt-5.4", "gemini-3-pro", "claude-opus-4-5"]
    calls = [
        gate.post(
            f"/api/v1/models/{models[n % 4]}/offline", {"note": str(n), "order": {**ORDER, "reference": str(n // 2)}}
        )
        for n in range(20)
    ]
    answers = await asyncio.gather(*calls)
    assert {answer.status for answer in answers} == {200}
    assert sorted(answer["revision"] for answer in answers) == list(range(2, 22))
    assert len({answer["hold"] for answer in answers}) == 20
    listed = (await gate.get("/api/v1/holds"))["holds"]
    assert {hold["id"]: hold["note"] for hold in listed} == {answer["hold"]: str(n) for n, answer in enumerate(answers)}
    assert len((await gate.get("/api/v1/orders"))["orders"]) == 10


async def test_a_release_that_is_overtaken_says_so_and_changes_nothing(gate, monkeypatch):
    hold = (await gate.post(f"{FABLE}/offline"))["hold"]
    stale = await gate.store.current()
    await gate.post("/api/v1/models/gpt-5.4/offline")

    async def current():
        return stale

    monkeypatch.setattr(gate.store, "current", current)
    answer = await gate.post(f"/api/v1/holds/{hold}/release")
    assert (answer.status, answer.problem) == (409, "overtaken")
    answer = await gate.post(f"{FABLE}/offline")
    assert (answer.status, answer.problem) == (409, "overtaken")
    answer = await gate.call("DELETE", FABLE, token=OPERATOR, If_Match='"1"')
    assert (answer.status, answer.problem) == (412, "precondition-failed")
