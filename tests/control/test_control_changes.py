"""Changes: tried out, made as one revision, and kept until a second person agrees."""

import asyncio
from datetime import timedelta

import pytest
from control_harness import APPROVER, FABLE, OPERATOR, OTHER, REGISTRAR, SECOND, VIEWER
from structlog.testing import capture_logs

from gateway.control import preview, proposals

NON_US = {"not": {"term": "us-person"}}
ORDER = {"authority": "US Department of Commerce", "reference": "BIS-2026-0612"}
CHANGES = "/api/v1/changes"


def put(kind, object_id, body):
    return {"op": "put", "kind": kind, "id": object_id, "body": body}


def delete(kind, object_id):
    return {"op": "delete", "kind": kind, "id": object_id}


def only_us(order=None, state="in_force"):
    return put("directives", "d-1", {"models": ["claude-fable-5"], "who": NON_US, "state": state, "order": order})


async def off_to_some(gate, **more):
    """Off for all, then for some: one change."""
    held = await gate.post(f"{FABLE}/offline", {"order": ORDER})
    edits = [delete("holds", held["hold"]), only_us(held["order"])]
    return await gate.post(CHANGES, {"edits": edits, **more})


async def decision(gate, caller, model="claude-fable-5"):
    return (await gate.post("/api/v1/explain", {"caller": caller, "model": model}))["decision"]


# ------------------------------------------------------------------------------------------------ made at once


async def test_edits_become_one_revision(gate):
    edits = [
        put("terms", "adult", {"condition": {"kind": {"any_of": ["person"]}}}),
        put("directives", "d-1", {"models": ["gpt-5.4"], "who": {"not": {"term": "adult"}}, "state": "in_force"}),
        put("holds", "h-mine", {"models": ["gemini-3-*"], "note": "n"}),
        delete("models", "gpt-5.4-nano"),
    ]
    answer = await gate.post(CHANGES, {"edits": edits, "note": "spring cleaning"})
    assert (answer.status, answer["revision"], answer["basis"]) == (200, 2, "all_acked")
    assert answer["models"] == ["gemini-3-flash", "gemini-3-pro", "gpt-5.4", "gpt-5.4-nano"]
    assert await gate.state("gemini-3-pro") == "offline"
    assert (await gate.get("/api/v1/terms/adult")).headers["ETag"] == '"2"'
    kept = await gate.get(f"{CHANGES}/{answer['change']}")
    assert (kept["state"], kept["by"], kept["note"], kept["revision"]) == ("committed", OPERATOR, "spring cleaning", 2)
    assert "awaiting" not in kept.body
    entry = await gate.store.entry(2)
    assert (entry.actor, entry.action, entry.subject) == (OPERATOR, "change", f"changes/{answer['change']}")


@pytest.mark.parametrize(
    ("edits", "status", "where"),
    [
        ([], 400, "edits"),
        ([{"op": "put", "kind": "operators", "id": "x", "body": {}}], 400, "edits.0.kind"),
        ([{"op": "move", "kind": "terms", "id": "x"}], 400, "edits.0.op"),
        ([put("terms", "x", {"condition": {}})], 400, "edits.0.body.condition"),
        ([only_us(), put("terms", "x", None)], 400, "edits.1.body.condition"),
        ([put("models", "family:x", {"routes": []})], 400, None),
        ([put("holds", "h-1", {"models": ["no-such-model"]})], 404, None),
        ([delete("terms", "nothing")], 404, None),
        ([delete("terms", "us-person"), only_us()], 409, "directives.d-1.who.not.term"),
        (
            [put("terms", "a", {"condition": {"term": "b"}}), put("terms", "b", {"condition": {"term": "a"}})],
            409,
            "terms.",
        ),
        ([{"op": "state", "kind": "terms", "id": "us-person", "body": {"state": "lifted"}}], 400, None),
        ([{"op": "state", "kind": "directives", "id": "d-9", "body": {"state": "lifted"}}], 404, None),
        ([only_us(), {"op": "state", "kind": "directives", "id": "d-1", "body": {"state": "draft"}}], 409, None),
        ([put("callers", "ada", {"kind": "person"})], 403, None),
    ],
)
async def test_edits_that_do_not_fit_change_nothing(gate, edits, status, where):
    for query in ("", "?dry_run=true"):
        answer = await gate.post(CHANGES + query, {"edits": edits})
        assert answer.status == status, answer.body
        assert answer.problem
        paths = [mistake["path"] for mistake in answer.body.get("errors", ())]
        if where is not None and not (status == 409 and "used_by" in answer.body):
            assert any(path.startswith(where) for path in paths), answer.body
    assert await gate.revision() == 1


async def test_a_hold_that_is_there_is_not_made_ones_own(gate):
    held = (await gate.post(f"{FABLE}/offline", token=OTHER))["hold"]
    again = put("holds", held, {"models": ["claude-fable-5"]})
    assert (await gate.post(CHANGES, {"edits": [again]})).status == 409
    assert (await gate.post(CHANGES, {"edits": [delete("holds", held), again]})).status == 409


# ------------------------------------------------------------------------------------------------ tried out


async def test_a_dry_run_says_who_loses_and_who_is_not_known(gate):
    answer = await gate.post(f"{CHANGES}?dry_run=true", {"edits": [only_us(ORDER)]})
    assert (answer.status, answer["dry_run"], answer["needs_approval"], answer["gains"]) == (200, True, False, [])
    (loses,) = answer["loses"]
    assert loses["model"] == "claude-fable-5"
    assert loses["callers"] == {"total": 2, "by_org": {"no org": 2}}
    assert loses["examples"] == ["nationality any other; no permanent residence; no legal status"]
    (unknown,) = answer["not_known"]
    assert unknown["callers"] == {"total": 2, "by_org": {"acme": 1, "no org": 1}}
    assert "nationality not known; permanent residence not known; legal status not known" in unknown["examples"]
    assert answer["callers"] == {"looked_at": 8, "of": 8, "capped": False}
    assert await gate.revision() == 1
    assert (await gate.get(CHANGES))["changes"] == []


async def test_a_dry_run_says_who_gains_and_that_somebody_must_agree(gate):
    held = await gate.post(f"{FABLE}/offline", {"order": ORDER})
    edits = [delete("holds", held["hold"]), only_us(held["order"])]
    answer = await gate.post(f"{CHANGES}?dry_run=true", {"edits": edits})
    (gains,) = answer["gains"]
    assert gains["callers"] == {"total": 4, "by_org": {"no org": 4}}
    assert (answer["loses"], answer["not_known"]) == ([], [])
    assert answer["needs_approval"] is True
    assert answer["opens"][0]["model"] == "claude-fable-5"


async def test_a_dry_run_counts_recent_requests_of_those_it_hits(gate):
    gate.traffic |= {
        ("demo-chen", "claude-fable-5"): 40,
        ("demo-chen", "gpt-5.4"): 7,
        ("demo-alice", "claude-fable-5"): 9,
    }
    answer = await gate.post(f"{CHANGES}?dry_run=true", {"edits": [only_us()]})
    assert answer["loses"][0]["recent_requests"] == 40
    assert answer["not_known"][0]["recent_requests"] == 0


async def test_a_dry_run_of_a_caller_says_what_it_gains(gate):
    await gate.post(CHANGES, {"edits": [only_us()]})
    edit = put("callers", "demo-chen", {"kind": "person", "attributes": {"nationality": ["US"]}})
    answer = await gate.post(f"{CHANGES}?dry_run=true", {"edits": [edit]}, token=APPROVER)
    assert [(gain["model"], gain["callers"]["total"]) for gain in answer["gains"]] == [("claude-fable-5", 1)]


async def test_a_scan_of_callers_has_an_end_and_says_so(gate, monkeypatch):
    monkeypatch.setattr(preview, "MAX_CALLERS", 3)
    answer = await gate.post(f"{CHANGES}?dry_run=true", {"edits": [only_us()]})
    assert answer["callers"] == {"looked_at": 3, "of": 8, "capped": True}


async def test_with_too_many_profiles_the_callers_are_counted_all_the_same(gate, monkeypatch):
    monkeypatch.setattr("gateway.policy.reach.LIMIT", 3)
    answer = await gate.post(f"{CHANGES}?dry_run=true", {"edits": [only_us()]})
    (loses,) = answer["loses"]
    assert (loses["profiles"], loses["callers"]["total"]) == (None, 2)


# ------------------------------------------------------------------------------------------------ approved


async def test_off_for_all_becomes_off_for_some_by_two_people(gate):
    with capture_logs() as logs:
        waiting = await off_to_some(gate, note="counsel agrees")
    assert waiting.status == 202
    assert (waiting["state"], waiting["awaiting"]) == ("awaiting approval", "approval")
    assert waiting.headers["Location"] == f"{CHANGES}/{waiting['change']}"
    assert waiting["opens"][0]["profile"].startswith("nationality US")
    assert {"digest", "seen"}.isdisjoint(str(waiting.body))
    assert any(line["event"] == "change_proposed" for line in logs)
    assert await gate.revision() == 2
    assert await decision(gate, "demo-alice") == "deny"
    (listed,) = (await gate.get(f"{CHANGES}?state=awaiting approval", token=VIEWER))["changes"]
    assert (listed["change"], listed["by"], listed["note"], listed["base"]) == (
        waiting["change"],
        OPERATOR,
        "counsel agrees",
        2,
    )
    approved = await gate.post(f"{waiting.headers['Location']}/approve", token=APPROVER)
    assert (approved.status, approved["revision"], approved["basis"]) == (200, 3, "all_acked")
    assert (approved["models"], approved["still_held"]) == (["claude-fable-5"], [])
    assert await decision(gate, "demo-alice") == "permit"
    assert await decision(gate, "demo-chen") == "deny"
    assert (await gate.get("/api/v1/directives/d-1"))["by"] == OPERATOR
    entry = await gate.store.entry(3)
    assert (entry.actor, entry.action) == (APPROVER, "approve")
    assert entry.subject == f"changes/{waiting['change']} of {OPERATOR}: change changes/{waiting['change']}"
    kept = await gate.get(waiting.headers["Location"])
    assert (kept["state"], kept["decided_by"], kept["revision"]) == ("committed", APPROVER, 3)


async def test_what_is_decided_is_not_decided_again(gate):
    path = (await off_to_some(gate)).headers["Location"]
    assert (await gate.post(f"{path}/approve", token=APPROVER)).status == 200
    for verb in ("approve", "reject"):
        for token in (APPROVER, SECOND):
            answer = await gate.post(f"{path}/{verb}", token=token)
            assert (answer.status, answer.problem) == (409, "conflict")
            assert "committed already" in answer["detail"]
    assert await gate.revision() == 3


async def test_a_rejected_change_is_over(gate):
    path = (await off_to_some(gate)).headers["Location"]
    rejected = await gate.post(f"{path}/reject", token=SECOND)
    assert (rejected.status, rejected["revision"]) == (200, 3)
    assert (await gate.post(f"{path}/approve", token=APPROVER)).status == 409
    assert (await gate.get(path))["state"] == "rejected"
    assert await gate.state("claude-fable-5") == "offline"
    assert (await gate.store.entry(3)).action == "reject"


async def test_two_who_decide_at_once_decide_once(gate):
    path = (await off_to_some(gate)).headers["Location"]
    answers = await asyncio.gather(
        gate.post(f"{path}/approve", token=APPROVER),
        gate.post(f"{path}/reject", token=SECOND),
        gate.post(f"{path}/approve", token=SECOND),
    )
    assert sorted(answer.status for answer in answers) == [200, 409, 409]
    assert await gate.revision() == 3


async def test_a_repeated_approval_gets_the_first_answer(gate):
    path = (await off_to_some(gate)).headers["Location"]
    first = await gate.post(f"{path}/approve", token=APPROVER, Idempotency_Key="k")
    again = await gate.post(f"{path}/approve", token=APPROVER, Idempotency_Key="k")
    assert (again.status, again.body) == (first.status, first.body)


async def test_a_repeated_proposal_is_one_change(gate):
    hold = (await gate.post(f"{FABLE}/offline", {"order": ORDER}))["hold"]
    path = f"/api/v1/holds/{hold}/release"
    first = await gate.post(path, Idempotency_Key="k")
    again = await gate.post(path, Idempotency_Key="k")
    assert (again.status, again.body) == (first.status, first.body)
    assert len((await gate.get(CHANGES))["changes"]) == 1


async def test_a_change_expires(gate, monkeypatch):
    monkeypatch.setattr(proposals, "EXPIRES", timedelta(0))
    path = (await off_to_some(gate)).headers["Location"]
    assert (await gate.get(path))["state"] == "expired"
    for verb in ("approve", "reject"):
        answer = await gate.post(f"{path}/{verb}", token=APPROVER)
        assert (answer.status, answer.problem) == (409, "conflict")
        assert "expired" in answer["detail"]


@pytest.mark.parametrize(
    ("name", "edits"),
    [
        ("the hold is gone and another is there", None),
        ("the directive is there already", [only_us(state="draft")]),
        ("the term means more people", [put("terms", "us-person", {"condition": {"everyone": True}})]),
        ("the term is gone", [delete("terms", "us-person")]),
    ],
)
async def test_what_is_no_longer_what_was_shown_is_not_approved(gate, name, edits):
    waiting = await off_to_some(gate)
    if edits is None:
        hold = (await gate.get("/api/v1/holds"))["holds"][0]["id"]
        await gate.post(f"/api/v1/holds/{hold}/undo")
        await gate.post(f"{FABLE}/offline", {"order": ORDER})
    else:
        assert (await gate.post(CHANGES, {"edits": edits})).status == 200
    answer = await gate.post(f"{CHANGES}/{waiting['change']}/approve", token=APPROVER)
    assert (answer.status, answer.problem) == (409, "conflict"), name
    assert (await gate.get(f"{CHANGES}/{waiting['change']}"))["state"] == "awaiting approval"
    assert await gate.state("claude-fable-5") == "offline"


async def test_what_else_happened_meanwhile_does_not_matter(gate):
    waiting = await off_to_some(gate)
    await gate.post("/api/v1/models/gpt-5.4/offline", {"order": ORDER}, token=OTHER)
    assert (await gate.post(f"{CHANGES}/{waiting['change']}/approve", token=APPROVER)).status == 200


async def test_a_caller_that_changed_meanwhile_is_not_overwritten(gate):
    await gate.post(CHANGES, {"edits": [only_us(ORDER)]})
    person = {"kind": "person", "attributes": {"nationality": ["US"]}}
    waiting = await gate.put("/api/v1/callers/demo-chen", person, token=REGISTRAR, If_Match='"1"')
    await gate.post("/api/v1/callers/demo-chen/keys", token=REGISTRAR)
    answer = await gate.post(f"{CHANGES}/{waiting['change']}/approve", token=APPROVER)
    assert (answer.status, answer.problem) == (409, "conflict")


async def test_a_forged_change_is_not_a_change(gate):
    path = (await off_to_some(gate)).headers["Location"]
    key = gate.store.keys.record("change", path.rpartition("/")[2])
    sealed = await gate.store.redis.get(key)
    await gate.store.redis.set(key, sealed.replace(b"demo-operator", b"demo-approver"))
    assert (await gate.get(path)).status == 503
    await gate.store.redis.rename(key, gate.store.keys.record("change", "c-other"))
    assert (await gate.post(f"{CHANGES}/c-other/approve", token=SECOND)).status == 503


async def test_an_unknown_change_is_404(gate):
    assert (await gate.get(f"{CHANGES}/c-1")).status == 404
    assert (await gate.post(f"{CHANGES}/c-1/approve", token=APPROVER)).status == 404
    assert (await gate.get(f"{CHANGES}?state=lost")).status == 400
    assert (await gate.post(f"{CHANGES}?dry_run=yes", {"edits": [only_us()]})).status == 400


async def test_what_was_proposed_is_evidence_and_what_is_known_of_a_caller_is_not(gate):
    await gate.post(CHANGES, {"edits": [only_us(ORDER)]})
    person = {"kind": "person", "attributes": {"nationality": ["US"]}}
    await gate.put("/api/v1/callers/demo-chen", person, token=REGISTRAR, If_Match='"1"')
    entries = [fields for _, fields in await gate.store.redis.xrange(gate.store.keys.evidence)]
    (proposed,) = [fields[b"sealed"] for fields in entries if fields[b"kind"] == b"change"]
    assert b"caller.put" in proposed
    assert b"nationality" not in proposed
