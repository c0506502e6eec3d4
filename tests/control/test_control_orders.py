"""An order comes in, is in force, partly lifted, lifted; all that was done under it is listed; its end is agreed to."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from control_harness import APPROVER, AUDITOR, OPERATOR, SECOND, VIEWER, Gate

from gateway.control.evidence import Evidence
from gateway.control.reaching import tell_reach
from gateway.control.scheduler import Scheduler
from gateway.observability.metrics import Counters

NOW = datetime.now(UTC)
LETTER = {
    "authority": "BIS",
    "reference": "2026-0612",
    "citation": "15 CFR 744.11",
    "text_sha256": "0" * 64,
    "received": "2026-06-12T17:05:00Z",
    "scope": "two models",
    "contact": "counsel@example.com",
    "review": "2026-12-12",
    "disclose": True,
}
ORDER = "/api/v1/orders/bis"
D1 = "/api/v1/directives/d-1"


async def received(gate: Gate) -> None:
    assert (await gate.put(ORDER, LETTER, token=OPERATOR, If_None_Match="*")).status == 200


async def restricted(gate: Gate, **fields) -> None:
    body = {"models": ["claude-fable-5", "claude-mythos-5"], "who": {"not": {"term": "us-person"}}, "order": "bis"}
    made = await gate.put(D1, {**body, "state": "in_force", **fields}, token=OPERATOR, If_None_Match="*")
    assert made.status == 200, made.body


async def edited(gate: Gate, **fields) -> None:
    there = await gate.get(D1)
    kept = {name: there[name] for name in ("models", "who", "except", "window", "order") if name in there.body}
    await agreed(gate, await gate.put(D1, {**kept, **fields}, token=OPERATOR, If_Match=there.headers["ETag"]))


async def agreed(gate: Gate, answer) -> None:
    assert answer.status == 202, answer.body
    assert (await gate.post(f"/api/v1/changes/{answer['change']}/approve", token=APPROVER)).status == 200


async def progress(gate: Gate) -> str:
    return (await gate.get(ORDER))["progress"]


async def test_what_is_known_of_an_order_is_kept(gate):
    await received(gate)
    shown = await gate.get(ORDER, token=VIEWER)
    assert {name: shown[name] for name in LETTER} == LETTER
    assert (shown["progress"], shown["holds"], shown["directives"]) == ("received", [], [])
    wrong = await gate.put(ORDER, {**LETTER, "progress": "lifted"}, If_Match=shown.headers["ETag"])
    assert wrong.status == 400, "nobody writes how far it has come"


async def test_how_far_an_order_has_come(gate):
    await received(gate)
    await restricted(gate, state="shadow")
    assert await progress(gate) == "received", "who is in shadow denies nobody"
    await gate.post(f"{D1}/enforce")
    assert await progress(gate) == "in_force"
    await edited(gate, **{"except": [{"caller": {"any_of": ["demo-bob"]}}]})
    assert await progress(gate) == "partly_lifted", "somebody is exempted"
    await agreed(gate, await gate.post(f"{ORDER}/lift"))
    assert await progress(gate) == "lifted"
    await gate.post("/api/v1/models/claude-fable-5/offline", {"order": "bis"})
    assert await progress(gate) == "in_force", "and it can come into force again"


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        ({"models": ["claude-fable-5"]}, "partly_lifted"),
        ({"models": ["claude-fable-5", "claude-mythos-5", "gpt-5.4"]}, "in_force"),
        ({"public_message": "By order."}, "in_force"),
        ({"who": {"not": {"nationality": {"any_of": ["US", "GB"]}}}}, "partly_lifted"),
    ],
)
async def test_what_an_edit_means_for_it(gate, edit, expected):
    await received(gate)
    await restricted(gate)
    there = await gate.get(D1)
    kept = {name: there[name] for name in ("models", "who", "order")}
    answer = await gate.put(D1, {**kept, **edit}, token=OPERATOR, If_Match=there.headers["ETag"])
    if answer.status == 202:
        await agreed(gate, answer)
    assert await progress(gate) == expected


async def test_an_order_in_waiting_is_in_force_when_its_window_begins(gate):
    await received(gate)
    begins = NOW + timedelta(hours=1)
    await restricted(gate, window={"from": begins.isoformat()})
    assert await progress(gate) == "received"
    await Scheduler(gate.store, gate.receipts).look(begins)
    assert await progress(gate) == "in_force"
    await edited(gate, **{"except": [{"caller": {"any_of": ["demo-bob"]}}]})
    before = await gate.revision()
    await Scheduler(gate.store, gate.receipts).look(begins + timedelta(hours=1))
    assert await gate.revision() == before, "what has begun does not begin again when it is edited"


async def test_only_what_stands_can_be_lifted_and_two_people_do_it(gate):
    await received(gate)
    assert (await gate.post(f"{ORDER}/lift")).status == 409
    await gate.post("/api/v1/models/claude-fable-5/offline", {"order": "bis"})
    await restricted(gate)
    answer = await gate.post(f"{ORDER}/lift")
    assert {opening["model"] for opening in answer["opens"]} == {"claude-fable-5", "claude-mythos-5"}
    await agreed(gate, answer)
    assert await gate.state("claude-fable-5") == "available"


# ---------------------------------------------------------------- the end of a window


async def test_the_end_reopens_only_if_a_second_person_agreed(gate):
    await received(gate)
    ends = NOW + timedelta(hours=1)
    await restricted(gate, window={"until": ends.isoformat()})
    scheduler = Scheduler(gate.store, gate.receipts)
    await scheduler.look(ends)
    assert await progress(gate) == "in_force"
    answer = await gate.post(f"{D1}/reopen")
    assert {opening["model"] for opening in answer["opens"]} == {"claude-fable-5", "claude-mythos-5"}
    assert "whomever d-1 denies" in answer["opens"][0]["profile"]
    await agreed(gate, answer)
    await scheduler.look(ends - timedelta(seconds=1))
    assert await progress(gate) == "in_force"
    await scheduler.look(ends)
    assert await progress(gate) == "lifted"


async def test_a_directive_is_not_written_by_one_person_so_that_it_ends_by_itself(gate):
    await received(gate)
    window = {"until": (NOW + timedelta(hours=1)).isoformat(), "reopens": True}
    body = {"models": ["claude-fable-5"], "who": {"everyone": True}, "order": "bis", "window": window}
    answer = await gate.put(D1, {**body, "state": "in_force"}, token=OPERATOR, If_None_Match="*")
    assert (answer.status, answer["awaiting"]) == (202, "approval")


async def test_what_has_no_end_does_not_end(gate):
    await received(gate)
    await restricted(gate)
    assert (await gate.post(f"{D1}/reopen")).status == 409


# ---------------------------------------------------------------- the evidence


@pytest.fixture
async def evidence(gate, tmp_path):
    kept = Evidence(gate.settings, gate.store, Counters(), tell_reach)
    yield kept
    kept.mirror.close()


async def test_everything_done_under_an_order_is_listed_on_it(gate, evidence):
    await received(gate)
    await restricted(gate)
    await edited(gate, **{"except": [{"caller": {"any_of": ["demo-bob"]}}]})
    await gate.settle()
    await gate.post("/api/v1/models/gpt-5.4/offline")
    await evidence.settle()
    done = (await gate.get(ORDER))["done"]
    told = [(each["kind"], each.get("action")) for each in done]
    for deed in (("revision", "order.put"), ("revision", "directive.put"), ("change", None), ("revision", "approve")):
        assert deed in told
    assert sum(kind == "receipt" for kind, _ in told) == 3
    assert sum(kind == "reach" for kind, _ in told) == 3
    assert ("revision", "offline") not in told, "that was under no order"
    told = (await gate.get("/api/v1/audit?order=bis&kind=reach", token=AUDITOR))["entries"]
    reach = max((entry["body"] for entry in told), key=lambda body: body["revision"])
    bob = gate_pseudonym(gate, "demo-bob")
    (fable,) = [model for model in reach["models"] if model["model"] == "claude-fable-5"]
    because = {who["caller"]: who["because"] for who in fable["who"]}
    assert because[bob] == [{"directive": "d-1", "by": "who"}], "a us-person: who the directive is not about"
    assert "nationality" not in str(fable["who"])


def gate_pseudonym(gate: Gate, caller: str) -> str:
    from gateway.control.pseudonyms import pseudonym

    return pseudonym(gate.settings, caller)


async def test_the_evidence_is_read_a_page_at_a_time_by_those_who_may(gate, evidence):
    await received(gate)
    await gate.settle()
    await evidence.turn()
    first = await gate.get("/api/v1/audit?limit=2", token=AUDITOR)
    assert [entry["seq"] for entry in first["entries"]] == [1, 2]
    second = await gate.get(f"/api/v1/audit?limit=100&after={first['next']}", token=SECOND)
    assert second["entries"][0]["seq"] == 3
    assert second["next"] is None
    assert (await gate.get("/api/v1/audit", token=VIEWER)).status == 403
    assert (await gate.get("/api/v1/audit?after=-1")).status == 400
    assert (await gate.get("/api/v1/audit/head")).status == 503, "nobody keeps it in this process"


async def test_callers_and_keys_are_told_by_keyed_digests(gate, evidence):
    there = await gate.get("/api/v1/callers/demo-chen")
    body = {"kind": "person", "attributes": {"nationality": ["FR"]}}
    await gate.put("/api/v1/callers/demo-chen", body, If_Match=there.headers["ETag"])
    added = await gate.post("/api/v1/callers/demo-chen/keys", {}, token=APPROVER)
    await evidence.turn()
    found = (await gate.get("/api/v1/audit?kind=revision"))["entries"]
    put, key = [entry["body"]["records"]["callers/demo-chen"] for entry in found[-2:]]
    assert put["before"] != put["after"]
    assert key["keys"] == {"added": [added["key_id"]], "removed": []}
    assert put["after"] == key["before"]
    told = json.dumps(found[-2:])
    for secret in ("nationality", '"FR"', added["key"]):
        assert secret not in told


async def test_a_sign_in_is_told_once_an_hour_and_a_stranger_too(gate, evidence):
    for _ in range(3):
        evidence.signed_in("demo-operator", "10.0.0.1")
        evidence.turned_away("10.0.0.9")
    while len((await gate.get("/api/v1/audit"))["entries"]) < 3:
        await evidence.turn()
    kinds = [entry["kind"] for entry in (await gate.get("/api/v1/audit"))["entries"]]
    assert kinds.count("sign_in") == kinds.count("sign_in_refused") == 1
