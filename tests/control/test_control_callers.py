"""Callers, keys, operators: records beside the policy, their secrets shown once."""

import stat

import pytest
from control_harness import APPROVER, OPERATOR, REGISTRAR, SECOND

from gateway.control.pseudonyms import pseudonym
from gateway.identity.keys import fingerprint

ADA = "/api/v1/callers/ada"
PERSON = {"kind": "person", "org": "acme", "attributes": {"nationality": ["GB", "XXA"], "permanent_residence": []}}


async def test_a_caller_is_created_changed_and_removed(gate):
    created = await gate.put(ADA, PERSON, token=REGISTRAR, If_None_Match="*")
    assert created.status == 200
    assert created["basis"] == "all_acked"
    assert created.headers["ETag"] == '"2"'
    got = await gate.get(ADA)
    assert got.headers["ETag"] == '"2"'
    assert got.body == {
        "id": "ada",
        "kind": "person",
        "org": "acme",
        "attributes": {"nationality": ["GB", "XXA"], "permanent_residence": []},
        "keys": {},
        "pseudonym": pseudonym(gate.settings, "ada"),
        "changed": 2,
    }
    entry = await gate.store.entry(2)
    assert (entry.action, entry.actor, entry.callers) == ("caller.put", REGISTRAR, ("ada",))
    assert (await gate.put(ADA, {"kind": "service"}, token=REGISTRAR, If_Match='"2"')).status == 200
    assert (await gate.get(ADA))["attributes"] == {}
    assert (await gate.delete(ADA, token=REGISTRAR, If_Match='"3"')).status == 200
    assert (await gate.get(ADA)).status == 404


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        (ADA, {}, 428),
        (ADA, {"If_Match": '"1"'}, 412),
        ("/api/v1/callers/demo-bob", {"If_None_Match": "*"}, 412),
        ("/api/v1/callers/demo-bob", {"If_Match": '"2"'}, 412),
        ("/api/v1/callers/demo-bob", {"If_Match": '"2", "1"'}, 200),
    ],
)
async def test_a_precondition_is_needed_and_must_fit(gate, path, headers, status):
    assert (await gate.put(path, PERSON, **headers)).status == status


async def test_the_same_caller_again_makes_no_revision(gate):
    await gate.put(ADA, PERSON, If_None_Match="*")
    answer = await gate.put(ADA, PERSON, If_Match='"2"')
    assert (answer.status, answer.problem) == (409, "unchanged")


@pytest.mark.parametrize(
    "attributes",
    [
        {"nationality": ["USA"]},
        {"nationality": ["us"]},
        {"nationality": ["UK"]},
        {"nationality": []},
        {"permanent_residence": ["EU"]},
        {"nationalities": ["US"]},
        {"legal_status": "green card"},
    ],
)
async def test_an_attribute_that_no_rule_could_match_is_refused_without_repeating_it(gate, attributes):
    answer = await gate.put(ADA, {"kind": "person", "attributes": attributes}, If_None_Match="*")
    assert (answer.status, answer.problem) == (400, "malformed")
    assert answer["errors"][0]["path"].startswith("attributes.")
    for values in attributes.values():
        assert not any(f'"{value}"' in str(answer.body) or f"'{value}'" in str(answer.body) for value in values)


# ---------------------------------------------------------------- ids of those who come by a token

RESERVED = ("oidc:corp:alice", "obo:acme:user-17", "oidc:x", "obo:")


@pytest.mark.parametrize("caller_id", RESERVED)
async def test_nobody_is_registered_under_the_id_of_whoever_comes_by_a_token(gate, caller_id):
    put = {"op": "put", "kind": "callers", "id": caller_id, "body": PERSON}
    answers = [
        await gate.put(f"/api/v1/callers/{caller_id}", PERSON, token=REGISTRAR, If_None_Match="*"),
        await gate.post("/api/v1/changes", {"edits": [put]}, token=APPROVER),
        await gate.post("/api/v1/changes?dry_run=true", {"edits": [put]}, token=APPROVER),
    ]
    for answer in answers:
        assert (answer.status, answer.problem) == (400, "malformed")
        assert "signed token" in answer["detail"]
        assert answer["errors"][0]["path"] == "edits.0.id"
    assert await gate.store.records.caller(caller_id) is None


async def test_an_id_that_only_resembles_theirs_is_free(gate):
    for caller_id in ("oidc", "OIDC:corp:alice", "obo-acme", "x:oidc:alice"):
        assert (await gate.put(f"/api/v1/callers/{caller_id}", PERSON, If_None_Match="*")).status == 200


# ---------------------------------------------------------------- until when something is known


async def test_what_is_known_of_a_caller_may_have_an_end(gate):
    until = {**PERSON, "attributes": {**PERSON["attributes"], "expires": "2031-05-01T02:00:00.5+02:00"}}
    assert (await gate.put(ADA, until, token=REGISTRAR, If_None_Match="*")).status == 200
    assert (await gate.get(ADA))["attributes"]["expires"] == "2031-05-01T00:00:00.500000Z", "in UTC"
    same = {**PERSON, "attributes": {**PERSON["attributes"], "expires": "2031-05-01T00:00:00.5Z"}}
    assert (await gate.put(ADA, same, If_Match='"2"')).problem == "unchanged"


async def test_what_has_ended_is_not_known(gate):
    over = {"kind": "person", "attributes": {"nationality": ["US"], "expires": "2020-01-01T00:00:00Z"}}
    assert (await gate.put(ADA, over, If_None_Match="*")).status == 200
    who = {"not": {"nationality": {"any_of": ["US"]}}}
    body = {"models": ["claude-fable-5"], "who": who, "state": "in_force"}
    await gate.put("/api/v1/directives/us-only", body, If_None_Match="*")
    told = await gate.post("/api/v1/explain", {"caller": "ada", "model": "claude-fable-5"}, token=APPROVER)
    assert (told["decision"], told["reason"]) == ("deny", "attribute_unknown")


@pytest.mark.parametrize(
    "expires",
    [
        "2031-05-01",
        "2031-05-01T00:00:00",
        "1935366400",
        1935366400,
        "tomorrow",
        "2031-13-01T00:00:00Z",
        "0001-01-01T00:00:00+14:00",
        "",
    ],
)
async def test_a_time_is_written_with_its_zone(gate, expires):
    body = {"kind": "person", "attributes": {"nationality": ["US"], "expires": expires}}
    answer = await gate.put(ADA, body, If_None_Match="*")
    assert (answer.status, answer.problem) == (400, "malformed")
    assert answer["errors"][0]["path"] == "attributes.expires"


# ---------------------------------------------------------------- keys


async def test_a_key_is_shown_once_and_finds_its_caller(gate):
    await gate.put(ADA, PERSON, If_None_Match="*")
    made = await gate.post(f"{ADA}/keys", {"note": "laptop"}, token=REGISTRAR)
    assert made.status == 201
    key, key_id = made["key"], made["key_id"]
    assert key.startswith(f"pc_{key_id}_")
    assert (await gate.store.records.caller_by_key(fingerprint(key))).id == "ada"
    shown = await gate.get(ADA)
    assert list(shown["keys"]) == [key_id]
    assert shown["keys"][key_id]["note"] == "laptop"
    assert "sha256" not in str(shown.body)
    assert (await gate.delete(f"{ADA}/keys/{key_id}", token=REGISTRAR)).status == 200
    assert await gate.store.records.caller_by_key(fingerprint(key)) is None
    assert (await gate.delete(f"{ADA}/keys/{key_id}")).status == 404


async def test_a_key_cannot_be_brought_along(gate):
    answer = await gate.post("/api/v1/callers/demo-bob/keys", {"key": "hunter2-hunter2"}, token=APPROVER)
    assert (answer.status, answer.problem) == (400, "malformed")
    assert "hunter2" not in str(answer.body)


async def test_keys_outlive_a_change_of_attributes(gate):
    await gate.put("/api/v1/callers/demo-bob", PERSON, If_Match='"1"')
    assert (await gate.store.records.caller_by_key(fingerprint("demo-bob"))).org == "acme"


async def test_a_caller_that_is_gone_has_no_keys(gate):
    await gate.delete("/api/v1/callers/demo-bob", If_Match='"1"')
    assert await gate.store.records.caller_by_key(fingerprint("demo-bob")) is None
    assert (await gate.post("/api/v1/callers/demo-bob/keys", token=APPROVER)).status == 404


async def test_callers_are_listed_by_pages(gate):
    first = await gate.get("/api/v1/callers?limit=5")
    assert [caller["id"] for caller in first["callers"]][:2] == ["demo-acme", "demo-alice"]
    assert first["next"] == "demo-dana"
    second = await gate.get(f"/api/v1/callers?limit=5&after={first['next']}")
    assert [caller["id"] for caller in second["callers"]] == ["demo-erin", "demo-farid", "demo-hana"]
    assert second["next"] is None


async def test_a_receipt_about_callers_waits_for_the_longest_lease(empty_gate):
    gate = empty_gate
    await gate.post("/api/v1/models/claude-fable-5/offline")
    await gate.replica(deaf=True)
    answer = await gate.delete("/api/v1/callers/demo-bob/keys/seed?wait=0")
    assert answer.status == 202
    receipt = gate.receipts._open[answer["revision"]]
    assert receipt.deadline - receipt.committed.at > 15


# ------------------------------------------------------------------------------------------------ pseudonyms


def test_a_pseudonym_needs_the_key_and_stays_the_same(gate):
    first = pseudonym(gate.settings, "ada")
    assert first == pseudonym(gate.settings, "ada") != pseudonym(gate.settings, "bob")
    assert len(first) == 16
    key = gate.settings.state_dir / "pseudonym.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert len(key.read_bytes()) == 32
    key.write_bytes(b"short")
    with pytest.raises(ValueError, match="32 bytes"):
        pseudonym(gate.settings, "ada")


# ------------------------------------------------------------------------------------------------ operators

EVE = "/api/v1/operators/eve"


async def test_an_operator_gets_a_token_once_and_then_only_other_roles(gate):
    made = await gate.put(EVE, {"roles": ["viewer"]}, If_None_Match="*")
    token = made["token"]
    assert made.status == 200
    assert (await gate.get("/api/v1/holds", token=token)).status == 200
    assert (await gate.post("/api/v1/offline", {"models": ["*"]}, token=token)).status == 403
    changed = await gate.put(EVE, {"roles": ["operator", "viewer"]}, If_Match=made.headers["ETag"])
    assert "token" not in changed.body
    assert (await gate.post("/api/v1/offline", {"models": ["gpt-5.4"]}, token=token)).status == 200
    got = await gate.get(EVE)
    assert got.body == {"id": "eve", "roles": ["operator", "viewer"], "counts_as": APPROVER, "changed": 3}
    assert (await gate.put(EVE, {"roles": ["viewer", "operator"]}, If_Match='"3"')).status == 409


async def test_a_rotated_token_replaces_the_old_one(gate):
    old = (await gate.put(EVE, {"roles": ["viewer"]}, If_None_Match="*"))["token"]
    new = (await gate.post(f"{EVE}/token", token=APPROVER))["token"]
    assert (await gate.get("/api/v1/holds", token=old)).status == 401
    assert (await gate.get("/api/v1/holds", token=new)).status == 200


async def test_an_operator_that_is_gone_has_no_token(gate):
    token = (await gate.put(EVE, {"roles": ["viewer"]}, If_None_Match="*"))["token"]
    assert (await gate.delete(EVE, If_Match='"2"')).status == 200
    assert (await gate.get("/api/v1/holds", token=token)).status == 401
    assert (await gate.get(EVE)).status == 404
    assert (await gate.delete(EVE, If_Match='"2"')).status == 404
    assert (await gate.post(f"{EVE}/token", token=APPROVER)).status == 404


async def test_the_last_approver_stays(gate):
    path = f"/api/v1/operators/{APPROVER}"
    await gate.delete(f"/api/v1/operators/{SECOND}", If_Match='"1"')
    for answer in (
        await gate.delete(path, If_Match='"1"'),
        await gate.put(path, {"roles": ["operator"]}, If_Match='"1"'),
    ):
        assert (answer.status, answer.problem) == (409, "conflict")
    await gate.put(EVE, {"roles": ["approver"]}, If_None_Match="*")
    assert (await gate.put(path, {"roles": ["viewer"]}, If_Match='"1"')).status == 200
    listed = await gate.get("/api/v1/operators", token="demo-auditor")
    assert {operator["id"]: operator["roles"] for operator in listed["operators"]}[APPROVER] == ["viewer"]
    assert OPERATOR in str(listed.body)


@pytest.mark.parametrize(("headers", "status"), [({}, 428), ({"If_Match": '"9"'}, 412), ({"If_None_Match": "*"}, 412)])
async def test_operators_are_changed_under_preconditions(gate, headers, status):
    assert (await gate.put(f"/api/v1/operators/{OPERATOR}", {"roles": ["viewer"]}, **headers)).status == status


@pytest.mark.parametrize("roles", [[], ["root"], "operator", [1]])
async def test_an_unknown_role_is_refused(gate, roles):
    assert (await gate.put(EVE, {"roles": roles}, If_None_Match="*")).status == 400
