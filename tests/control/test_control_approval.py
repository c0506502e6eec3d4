"""More access under an order takes two people, whatever is edited; everything else takes one."""

from datetime import UTC, datetime, timedelta

import pytest
from control_harness import APPROVER, FABLE, OPERATOR, OTHER, REGISTRAR, SECOND

from gateway.control import approval
from gateway.control.approval import meet, openings

NON_US = {"not": {"term": "us-person"}}
ORDER = {"authority": "US Department of Commerce", "reference": "BIS-2026-0612"}
D1 = "/api/v1/directives/d-1"
WAITS, DONE = 202, 200


async def under_order(gate, who=None, **more):
    """A directive in force, under an order; its ETag."""
    body = {"models": ["claude-fable-5"], "who": who or NON_US, "state": "in_force", "order": ORDER, **more}
    answer = await gate.put(D1, body, token=OPERATOR, If_None_Match="*")
    assert answer.status == DONE, answer.body
    return answer.headers["ETag"]


def body(**fields):
    return {"models": ["claude-fable-5"], "who": NON_US, "order": ORDER, **fields}


def soon(**ago):
    return (datetime.now(UTC) + timedelta(**ago)).isoformat()


async def model(gate):
    shown = (await gate.get(FABLE)).body
    return {field: shown[field] for field in ("routes", "aliases", "family", "tags", "capability")}


# ------------------------------------------------------------------------------------------------ directives


@pytest.mark.parametrize(
    ("name", "status", "change"),
    [
        ("the same with a note", DONE, {"note": "n"}),
        ("more models", DONE, {"models": ["claude-fable-5", "gpt-5.4"]}),
        ("everyone", DONE, {"who": {"everyone": True}}),
        ("an exception", WAITS, {"except": [{"nationality": {"any_of": ["GB"]}}]}),
        ("an exception for an organisation", WAITS, {"except": [{"org": {"any_of": ["acme"]}}]}),
        ("fewer people", WAITS, {"who": {"nationality": {"any_of": ["CN"]}}}),
        ("another model instead", WAITS, {"models": ["gpt-5.4"]}),
        ("no order any more", WAITS, {"order": None}),
        ("an end", WAITS, {"window": {"until": soon(minutes=1)}}),
        ("a beginning, later", WAITS, {"window": {"from": soon(days=1)}}),
        ("a beginning that has passed", DONE, {"window": {"from": soon(days=-1)}}),
    ],
)
async def test_a_directive_under_an_order_is_narrowed_by_two(gate, name, status, change):
    etag = await under_order(gate)
    answer = await gate.put(D1, body(**change), token=OPERATOR, If_Match=etag)
    assert answer.status == status, (name, answer.body)
    assert await gate.revision() == (3 if status == DONE else 2)


@pytest.mark.parametrize(("call", "status"), [("shadow", WAITS), ("lift", WAITS)])
@pytest.mark.parametrize("order", [ORDER, None])
async def test_ending_a_directive_takes_two_where_there_is_an_order(gate, call, status, order):
    await gate.put(D1, body(state="in_force", order=order), If_None_Match="*")
    assert (await gate.post(f"{D1}/{call}")).status == (status if order else DONE)


async def test_a_directive_that_has_not_begun_is_not_lifted_alone_either(gate):
    await under_order(gate, window={"from": soon(days=2)})
    answer = await gate.post(f"{D1}/lift")
    assert answer.status == WAITS
    assert answer["opens"][0]["profile"].startswith("from 20")


async def test_drafts_and_shadows_deny_nobody(gate):
    for state in ("draft", "shadow"):
        await gate.put(f"/api/v1/directives/{state}", body(state=state), If_None_Match="*")
        assert (await gate.post(f"/api/v1/directives/{state}/lift")).status == DONE


async def test_another_order_that_denies_the_same_keeps_it_closed(gate):
    await under_order(gate)
    other = body(state="in_force", order={**ORDER, "reference": "other"}, who={"everyone": True})
    await gate.put("/api/v1/directives/d-2", other, If_None_Match="*")
    assert (await gate.post(f"{D1}/lift")).status == DONE
    assert (await gate.post("/api/v1/directives/d-2/lift")).status == WAITS


# ------------------------------------------------------------------------------------------------ words


@pytest.mark.parametrize(
    ("path", "change", "status"),
    [
        ("terms/us-person", {"condition": {"nationality": {"any_of": ["US"]}}}, DONE),
        ("terms/us-person", {"condition": {"nationality": {"any_of": ["US", "GB"]}}}, WAITS),
        ("terms/us-person", {"condition": {"not": {"nationality": {"any_of": ["CN"]}}}}, WAITS),
    ],
)
async def test_a_term_is_widened_by_two(gate, path, change, status):
    await under_order(gate)
    answer = await gate.put(f"/api/v1/{path}", change, token=OPERATOR, If_Match='"1"')
    assert answer.status == status, answer.body


@pytest.mark.parametrize(("countries", "status"), [(["IR", "KP", "SY", "CU"], DONE), (["IR", "KP"], WAITS)])
async def test_a_group_is_narrowed_by_two(gate, countries, status):
    await under_order(gate, {"nationality": {"any_of": ["group:ear-e1"]}})
    answer = await gate.put("/api/v1/groups/ear-e1", {"countries": countries}, token=OPERATOR, If_Match='"1"')
    assert answer.status == status, answer.body
    if status == WAITS:
        assert answer["opens"][0]["model"] == "claude-fable-5"
        assert "SY" in answer["opens"][0]["profile"]


# ------------------------------------------------------------------------------------------------ models, names


@pytest.mark.parametrize(
    ("name", "edit", "status"),
    [
        ("a tag", {"tags": []}, WAITS),
        ("an alias less", {"aliases": []}, WAITS),
        ("an alias more", {"aliases": ["claude-fable-new"]}, None),
        ("another capability", {"capability": "other"}, WAITS),
        ("another family", {"family": "other"}, DONE),
    ],
)
async def test_a_model_is_edited_past_a_directive_by_two(gate, name, edit, status):
    await under_order(gate, models=["tag:controlled"])
    entry = await model(gate)
    if name == "an alias more":
        edit, status = {"aliases": [*entry["aliases"], *edit["aliases"]]}, DONE
    answer = await gate.put(FABLE, {**entry, **edit}, token=OPERATOR, If_Match='"1"')
    assert answer.status == status, (name, answer.body)


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("something-else", DONE),
        ("Claude-Fable-5", WAITS),
        ("us.anthropic.claude-fable-5-latest", WAITS),
        ("claude-5-fable-20991231", WAITS),
        ("ft:claude-fable-5:acme::x", WAITS),
    ],
)
async def test_a_name_that_reads_as_a_closed_models_is_taken_by_two(gate, name, status):
    await gate.post(f"{FABLE}/offline", {"order": ORDER})
    entry = {"routes": [{"provider": "anthropic", "names": [name]}]}
    answer = await gate.put("/api/v1/models/other", entry, token=OPERATOR, If_None_Match="*")
    assert answer.status == status, answer.body


async def test_a_name_under_a_closed_models_pattern_is_taken_by_two(gate):
    await gate.post("/api/v1/models/gpt-5.4/offline", {"order": ORDER})
    entry = {"routes": [{"provider": "openai", "names": ["ft:gpt-5.4:acme:x"]}]}
    assert (await gate.put("/api/v1/models/mine", entry, token=OPERATOR, If_None_Match="*")).status == WAITS
    entry = {"routes": [{"provider": "elsewhere", "names": ["ft:gpt-5.4:acme:x"]}]}
    assert (await gate.put("/api/v1/models/mine", entry, token=OPERATOR, If_None_Match="*")).status == WAITS
    entry = {"routes": [{"provider": "elsewhere", "names": ["ft:gpt-4.5:acme:x"]}]}
    assert (await gate.put("/api/v1/models/mine", entry, token=OPERATOR, If_None_Match="*")).status == DONE


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("a", "a", True),
        ("a", "b", False),
        ("ft:*", "ft:x:y", True),
        ("*:x", "ft:*", True),
        ("a*b", "a*c", False),
        ("a*b*c", "axxbyc", True),
        ("*", "anything", True),
        ("a*", "b*", False),
        ("**", "", True),
    ],
)
def test_patterns_meet(first, second, expected):
    assert meet(first, second) is meet(second, first) is expected


# ------------------------------------------------------------------------------------------------ holds


async def test_ones_own_hold_does_not_stand_in_for_an_orders(gate):
    held = (await gate.post(f"{FABLE}/offline", {"order": ORDER}, token=OTHER))["hold"]
    await gate.post(f"{FABLE}/offline", {"note": "mine, under no order"})
    assert (await gate.post(f"/api/v1/holds/{held}/release")).status == WAITS


async def test_an_undo_opens_no_more_than_was_open_before(gate):
    held = (await gate.post(f"{FABLE}/offline", {"order": ORDER}, token=OTHER))["hold"]
    mine = (await gate.post(f"{FABLE}/offline", {"order": ORDER}))["hold"]
    assert (await gate.post(f"/api/v1/holds/{held}/release")).status == DONE
    answer = await gate.post(f"/api/v1/holds/{mine}/undo")
    assert answer.status == WAITS
    assert await gate.state("claude-fable-5") == "offline"


async def test_an_undo_is_ones_own_although_others_changed_something(gate):
    mine = (await gate.post(f"{FABLE}/offline", {"order": ORDER}))["hold"]
    await gate.post("/api/v1/models/gpt-5.4/offline", {"order": ORDER}, token=OTHER)
    assert (await gate.post(f"/api/v1/holds/{mine}/undo")).status == DONE


async def test_a_pattern_under_an_order_is_kept_for_what_comes_later(gate):
    hold = (await gate.post("/api/v1/offline", {"models": ["family:nova"], "order": ORDER}))["hold"]
    answer = await gate.post(f"/api/v1/holds/{hold}/release")
    assert answer.status == WAITS
    assert answer["opens"][0]["model"] == "family:nova (a model added later)"


async def test_without_an_order_one_person_opens(gate):
    hold = (await gate.post(f"{FABLE}/offline"))["hold"]
    assert (await gate.post(f"/api/v1/holds/{hold}/release")).status == DONE


# ------------------------------------------------------------------------------------------------ callers, organisations


@pytest.mark.parametrize(
    ("attributes", "status"),
    [
        ({"nationality": ["US"]}, WAITS),
        ({"nationality": ["CN"], "permanent_residence": ["US"], "legal_status": []}, WAITS),
        ({"nationality": ["CN", "RU"], "permanent_residence": [], "legal_status": []}, DONE),
        ({}, DONE),
    ],
)
async def test_what_is_known_of_a_caller_does_not_free_it_alone(gate, attributes, status):
    await under_order(gate)
    changed = {"kind": "person", "attributes": attributes}
    answer = await gate.put("/api/v1/callers/demo-chen", changed, token=REGISTRAR, If_Match='"1"')
    assert answer.status == status, answer.body
    if status == WAITS:
        assert answer["opens"] == [{"model": "claude-fable-5", "profile": "the caller demo-chen", "profiles": 1}]
        path = f"/api/v1/changes/{answer['change']}"
        assert (await gate.get(path, token=REGISTRAR))["by"] == REGISTRAR
        assert (await gate.post(f"{path}/approve", token=APPROVER)).status == DONE
        assert (await gate.get("/api/v1/callers/demo-chen"))["attributes"]["nationality"] == attributes["nationality"]
        assert list((await gate.get("/api/v1/callers/demo-chen"))["keys"]) == ["seed"]


@pytest.mark.parametrize(("days", "status"), [(60, WAITS), (20, DONE), (-1, DONE), (None, WAITS)])
async def test_what_is_known_of_a_caller_is_known_for_longer_by_two(gate, days, status):
    def american(until):
        end = {} if until is None else {"expires": soon(days=until)}
        return {"kind": "person", "attributes": {"nationality": ["US"], **end}}

    await gate.put("/api/v1/callers/demo-alice", american(30), token=REGISTRAR, If_Match='"1"')
    await under_order(gate)
    answer = await gate.put("/api/v1/callers/demo-alice", american(days), token=REGISTRAR, If_Match='"2"')
    assert answer.status == status, answer.body


async def test_a_caller_whom_no_order_denies_is_edited_by_one(gate):
    await under_order(gate)
    changed = {"kind": "person", "attributes": {"nationality": ["US", "CN"]}}
    assert (await gate.put("/api/v1/callers/demo-alice", changed, token=REGISTRAR, If_Match='"1"')).status == DONE


async def test_a_new_caller_and_its_key_are_no_opening(gate):
    await under_order(gate)
    new = {"kind": "person", "attributes": {"nationality": ["US"]}}
    assert (await gate.put("/api/v1/callers/new", new, token=REGISTRAR, If_None_Match="*")).status == DONE
    assert (await gate.post("/api/v1/callers/demo-chen/keys", token=REGISTRAR)).status == 201


async def test_a_services_other_organisation_frees_its_end_users(gate):
    await under_order(gate, {"all": [{"org": {"any_of": ["acme"]}}, {"nationality": {"any_of": ["CN"]}}]})
    await gate.put(
        "/api/v1/directives/d-2",
        body(state="in_force", who={"not": {"nationality": {"any_of": ["CN", "US"]}}}),
        If_None_Match="*",
    )
    changed = {"kind": "service", "org": "other"}
    answer = await gate.put("/api/v1/callers/demo-acme", changed, token=REGISTRAR, If_Match='"1"')
    assert answer.status == WAITS, answer.body


def attested(value, **ago):
    expires = soon(**(ago or {"days": 30}))
    statement = {"terms": {"us-person": value}, "signer": "CEO", "evidence": "letter", "expires": expires}
    return {"end_users": "attested", "attestation": statement}


@pytest.mark.parametrize(
    ("first", "then", "status"),
    [
        (None, attested(True), WAITS),
        (None, attested(False), DONE),
        (None, {"country": "DE"}, DONE),
        ({"end_users": "none"}, attested(True), WAITS),
        (attested(True), attested(True, days=60), WAITS),
        (attested(True), attested(True, days=20), DONE),
        (attested(True), {"end_users": "none"}, DONE),
    ],
)
async def test_what_an_organisation_attests_opens_by_two(gate, first, then, status):
    etag = {"If_None_Match": "*"}
    if first is not None:
        await gate.put("/api/v1/orgs/acme", first, If_None_Match="*")
        etag = {"If_Match": '"2"'}
    await under_order(gate)
    answer = await gate.put("/api/v1/orgs/acme", then, token=OPERATOR, **etag)
    assert answer.status == status, answer.body


async def test_an_organisations_country_opens_by_two(gate):
    await gate.put("/api/v1/orgs/acme", {"country": "CN"}, If_None_Match="*")
    await under_order(gate, {"org_country": {"any_of": ["CN"]}})
    assert (await gate.put("/api/v1/orgs/acme", {"country": "DE"}, token=OPERATOR, If_Match='"2"')).status == WAITS


# ------------------------------------------------------------------------------------------------ by its effect

CHEN = {"nationality": ["CN"], "permanent_residence": [], "legal_status": []}
CHINESE = {"nationality": {"any_of": ["group:listed"]}}
BY_EFFECT = {
    # edited                     lets somebody in                                      lets nobody in
    "a term":                   ("terms/us-person", {"condition": {"everyone": True}},
                                 {"condition": {"nationality": {"any_of": ["US"]}}}),
    "a group":                  ("groups/listed", {"countries": ["IR"]}, {"countries": ["CN", "IR", "KP"]}),
    "a tag":                    ("models/claude-fable-5", {"tags": ["frontier"]}, {"tags": ["controlled", "new"]}),
    "an alias":                 ("models/claude-fable-5", {"aliases": []}, {"aliases": [..., "claude-fable-new"]}),
    "a caller":                 ("callers/demo-chen", {"kind": "person", "attributes": {**CHEN, "nationality": ["US"]}},
                                 {"kind": "person", "attributes": {**CHEN, "nationality": ["CN", "KP"]}}),
    "an organisation's word":   ("orgs/acme", "cleared", "other"),
}  # fmt: skip
CLOSED_TO = {"a caller": "demo-chen", "an organisation's word": "demo-acme"}


def word(term):
    """An organisation that answers for a term."""
    statement = {"terms": {term: True}, "signer": "CEO", "evidence": "letter", "expires": soon(days=30)}
    return {"end_users": "attested", "attestation": statement}


@pytest.mark.parametrize("edited", BY_EFFECT)
async def test_one_person_alone_lets_nobody_in_whatever_they_edit(gate, edited):
    path, opens, harmless = BY_EFFECT[edited]
    await gate.put("/api/v1/groups/listed", {"countries": ["CN", "IR"]}, If_None_Match="*")
    for term in ("cleared", "other"):
        body = {"condition": {"legal_status": {"any_of": [term]}}}
        await gate.put(f"/api/v1/terms/{term}", body, If_None_Match="*")
    await gate.put("/api/v1/orgs/acme", {"country": "US"}, If_None_Match="*")
    who = {"a group": CHINESE, "an organisation's word": {"not": {"term": "cleared"}}}.get(edited, NON_US)
    await under_order(gate, who, models=["tag:controlled"])
    before = await gate.revision()
    token = REGISTRAR if path.startswith("callers") else OPERATOR

    async def put(change):
        there = await gate.get(f"/api/v1/{path}")
        fields = word(change) if isinstance(change, str) else change
        if path.startswith("models"):
            fields = {**await model(gate), **fields}
            fields["aliases"] = [
                alias for given in fields["aliases"] for alias in (there["aliases"] if given is ... else [given])
            ]
        return await gate.put(f"/api/v1/{path}", fields, token=token, If_Match=there.headers["ETag"])

    async def decision():
        caller = CLOSED_TO.get(edited, "demo-chen")
        return (await gate.post("/api/v1/explain", {"caller": caller, "model": "claude-fable-5"}))["decision"]

    waiting = await put(opens)
    assert (waiting.status, waiting.body.get("awaiting")) == (WAITS, "approval"), waiting.body
    assert await gate.revision() == before
    assert await decision() == "deny"
    done = await put(harmless)
    assert (done.status, done["revision"]) == (DONE, before + 1), done.body
    assert await decision() == "deny"
    late = await gate.post(f"/api/v1/changes/{waiting['change']}/approve", token=APPROVER)
    assert (late.status, late.problem) == (409, "conflict"), "the object is not what it was when this was proposed"


# ------------------------------------------------------------------------------------------------ at its limits


async def test_what_cannot_be_enumerated_needs_somebody_else(gate, monkeypatch):
    await under_order(gate)
    monkeypatch.setattr("gateway.policy.reach.LIMIT", 3)
    answer = await gate.put(D1, body(note="the same"), token=OPERATOR, If_Match='"2"')
    assert answer.status == WAITS
    assert answer["opens"][0]["profile"] == approval.TOO_MANY


async def test_an_emergency_stop_asks_for_no_enumeration(gate, monkeypatch):
    await under_order(gate)
    monkeypatch.setattr(approval, "Snapshot", None)
    assert (await gate.post(f"{FABLE}/offline", {"order": ORDER})).status == DONE
    assert (await gate.put("/api/v1/directives/d-2", body(state="in_force"), If_None_Match="*")).status == DONE


async def test_many_windows_need_somebody_else(gate, monkeypatch):
    monkeypatch.setattr(approval, "MAX_MOMENTS", 1)
    await under_order(gate, window={"until": soon(days=1)})
    document = (await gate.store.current()).document
    (opening,) = openings(document, document.edited(models={}), (), datetime.now(UTC))
    assert opening.model == "*"


async def test_the_same_edit_of_a_policy_without_orders_opens_nothing(gate):
    document = (await gate.store.current()).document
    assert openings(document, document.edited(models={}), (), datetime.now(UTC)) == []


# ------------------------------------------------------------------------------------------------ who may agree


async def test_nobody_approves_or_rejects_what_is_their_own(gate):
    await under_order(gate)
    change = (await gate.post(f"{D1}/lift", token=APPROVER))["change"]
    for verb in ("approve", "reject"):
        answer = await gate.post(f"/api/v1/changes/{change}/{verb}", token=APPROVER)
        assert (answer.status, answer.problem) == (403, "forbidden")
    assert (await gate.post(f"/api/v1/changes/{change}/approve", token=SECOND)).status == DONE
    assert (await gate.get(D1))["state"] == "lifted"


async def test_an_operator_proposes_and_cannot_approve(gate):
    await under_order(gate)
    change = (await gate.post(f"{D1}/lift"))["change"]
    assert (await gate.post(f"/api/v1/changes/{change}/approve", token=OTHER)).status == 403
    assert (await gate.post(f"/api/v1/changes/{change}/approve", token=APPROVER)).status == DONE
