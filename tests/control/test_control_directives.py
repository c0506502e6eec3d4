"""Terms, groups, organisations, orders, directives: the words of the policy, and their lives."""

import pytest
from control_harness import OPERATOR

NON_US = {"models": ["claude-fable-5"], "who": {"not": {"term": "us-person"}}}
ORDER = {"authority": "US Department of Commerce", "reference": "BIS-2026-0612"}
D1 = "/api/v1/directives/d-1"


async def decision(gate, caller, model="claude-fable-5"):
    answer = await gate.post("/api/v1/explain", {"caller": caller, "model": model})
    return answer["decision"]


# ------------------------------------------------------------------------------------------------ nouns


@pytest.mark.parametrize(
    ("kind", "body", "other"),
    [
        ("terms", {"condition": {"kind": {"any_of": ["person"]}}, "source": "here"}, {"condition": {"everyone": True}}),
        ("groups", {"countries": ["DE", "group:eu"], "as_of": "2026-01-31"}, {"countries": ["FR"]}),
        ("orgs", {"name": "Acme", "country": "DE"}, {"country": "FR", "end_users": "required"}),
        ("orders", {"authority": "court", "reference": "1/26"}, {"authority": "court", "reference": "2/26"}),
        ("directives", NON_US, {**NON_US, "note": "as of today"}),
    ],
)
async def test_an_object_is_created_read_changed_and_removed_under_preconditions(gate, kind, body, other):
    path = f"/api/v1/{kind}/mine"
    assert (await gate.put(path, body, token=OPERATOR)).status == 428
    created = await gate.put(path, body, token=OPERATOR, If_None_Match="*")
    assert (created.status, created.headers["ETag"], created["basis"]) == (200, '"2"', "all_acked")
    got = await gate.get(path)
    assert got.headers["ETag"] == '"2"'
    assert got["id"] == "mine"
    for field, value in body.items():
        assert got[field] == value
    assert "mine" in [each["id"] for each in (await gate.get(f"/api/v1/{kind}"))[kind]]
    assert (await gate.put(path, body, If_None_Match="*")).status == 412
    assert (await gate.put(path, body, If_Match='"2"')).problem == "unchanged"
    assert (await gate.put(path, other, If_Match='"2"')).headers["ETag"] == '"3"'
    assert (await gate.delete(path, If_Match='"2"')).status == 412
    assert (await gate.delete(path, token=OPERATOR, If_Match='"3"')).status == 200
    assert (await gate.get(path)).status == 404
    assert (await gate.delete(path, If_Match='"3"')).status == 404
    assert "mine" not in str((await gate.get("/api/v1/policy"))["changed"])


@pytest.mark.parametrize(
    ("path", "body", "status", "where"),
    [
        ("directives/d", {"models": ["gpt-5.4"], "who": {"term": "nobody"}}, 409, "directives.d.who.term"),
        (
            "directives/d",
            {"models": ["gpt-5.4"], "who": {"all": [{"nationality": {"any_of": ["group:moon"]}}]}},
            409,
            "directives.d.who.all[0].nationality.any_of[0]",
        ),
        ("directives/d", {"models": ["gpt-5.4"], "who": {}}, 400, "who"),
        ("directives/d", {"models": ["gpt-5.4"], "who": {"everyone": True, "term": "us-person"}}, 400, "who"),
        ("directives/d", {"models": ["gpt-5.4"], "who": {"nationality": {"any_of": ["UK"]}}}, 400, "who.nationality"),
        ("directives/d", {"models": ["gpt-5.4"], "who": {"not": {"org_country": {"any_of": ["UK"]}}}}, 400, "who.not"),
        ("directives/d", {"models": [], "who": {"everyone": True}}, 400, "models"),
        ("directives/d", {"models": ["gpt-55"], "who": {"everyone": True}}, 404, None),
        ("directives/d", {**NON_US, "order": "o-1"}, 404, None),
        (
            "directives/d",
            {**NON_US, "window": {"from": "2026-02-01T00:00:00Z", "until": "2026-01-01T00:00:00Z"}},
            400,
            "window",
        ),
        ("terms/a", {"condition": {"term": "a"}}, 409, "terms.a"),
        ("terms/a", {"condition": {"not": {"term": "b"}}}, 409, "terms.a.condition.not.term"),
        ("groups/a", {"countries": ["group:a"]}, 409, "groups.a"),
        ("groups/a", {"countries": ["XX"]}, 400, "countries[0]"),
        ("groups/a", {"countries": ["DE"], "as_of": "yesterday"}, 400, "as_of"),
        ("orgs/a", {"country": "Germany"}, 409, "orgs.a.country"),
        (
            "orgs/a",
            {"attestation": {"terms": {"x": True}, "signer": "s", "evidence": "e", "expires": "2030-01-01T00:00:00Z"}},
            409,
            "orgs.a.attestation.terms",
        ),
    ],
)
async def test_a_mistake_is_refused_with_its_path(gate, path, body, status, where):
    answer = await gate.put(f"/api/v1/{path}", body, If_None_Match="*")
    assert answer.status == status, answer.body
    assert answer.problem
    assert where is None or any(mistake["path"].startswith(where) for mistake in answer["errors"]), answer.body
    assert await gate.revision() == 1


async def test_what_is_used_is_not_removed_and_its_users_are_named(gate):
    await gate.put(
        D1, {**NON_US, "except": [{"nationality": {"any_of": ["group:eu"]}}], "order": ORDER}, If_None_Match="*"
    )
    await gate.put("/api/v1/terms/not-us", {"condition": {"not": {"term": "us-person"}}}, If_None_Match="*")
    order = (await gate.get(D1))["order"]
    for path, used_by in (
        ("terms/us-person", ["directives/d-1", "terms/not-us"]),
        ("groups/eu", ["directives/d-1"]),
        (f"orders/{order}", ["directives/d-1"]),
    ):
        shown = await gate.get(f"/api/v1/{path}")
        answer = await gate.delete(f"/api/v1/{path}", If_Match=shown.headers["ETag"])
        assert (answer.status, answer.problem, answer["used_by"]) == (409, "in-use", used_by)
    assert (await gate.get("/api/v1/terms/us-person"))["used_by"] == ["directives/d-1", "terms/not-us"]
    assert (await gate.get(f"/api/v1/orders/{order}"))["directives"] == ["d-1"]


async def test_an_order_is_not_written_down_twice(gate):
    await gate.put("/api/v1/orders/o-1", ORDER, If_None_Match="*")
    answer = await gate.put("/api/v1/orders/o-2", ORDER, If_None_Match="*")
    assert (answer.status, answer.problem) == (409, "conflict")
    assert (await gate.post("/api/v1/offline", {"models": ["gpt-5.4"], "order": ORDER}))["order"] == "o-1"


# ------------------------------------------------------------------------------------------------ lives


async def test_a_directive_is_a_draft_unless_something_else_is_said(gate):
    await gate.put(D1, NON_US, If_None_Match="*")
    got = await gate.get(D1)
    assert (got["state"], got["by"], got["covers"]) == ("draft", "demo-approver", ["claude-fable-5"])
    assert await decision(gate, "demo-chen") == "permit"
    await gate.put("/api/v1/directives/d-2", {**NON_US, "state": "in_force"}, If_None_Match="*")
    assert await decision(gate, "demo-chen") == "deny"
    assert (await gate.put("/api/v1/directives/d-3", {**NON_US, "state": "lifted"}, If_None_Match="*")).status == 409


STATES = ("draft", "shadow", "in_force", "lifted")
CALLS = {"shadow": "shadow", "enforce": "in_force", "lift": "lifted"}
ALLOWED = {
    ("draft", "shadow"),
    ("draft", "in_force"),
    ("draft", "lifted"),
    ("shadow", "in_force"),
    ("shadow", "lifted"),
    ("in_force", "shadow"),
    ("in_force", "lifted"),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("state", STATES)
async def test_a_directive_goes_only_where_its_life_leads(gate, state, call):
    await gate.put(D1, {**NON_US, "state": "draft" if state == "lifted" else state}, If_None_Match="*")
    if state == "lifted":
        await gate.post(f"{D1}/lift")
    answer = await gate.post(f"{D1}/{call}")
    wanted = CALLS[call]
    if (state, wanted) in ALLOWED:
        assert (answer.status, answer["directive_state"]) == (200, wanted)
        assert (await gate.get(D1))["state"] == wanted
    else:
        assert (answer.status, answer.problem) == (409, "unchanged" if state == wanted else "conflict")
        assert (await gate.get(D1))["state"] == state


async def test_put_leaves_the_state_as_it_is(gate):
    await gate.put(D1, {**NON_US, "state": "in_force"}, If_None_Match="*")
    before = await gate.get(D1)
    assert (await gate.put(D1, {**NON_US, "note": "n"}, If_Match='"2"')).status == 200
    after = await gate.get(D1)
    assert (after["state"], after["at"], after["by"]) == ("in_force", before["at"], before["by"])
    assert (await gate.put(D1, {**NON_US, "note": "m", "state": "in_force"}, If_Match='"3"')).status == 200
    answer = await gate.put(D1, {**NON_US, "state": "draft"}, If_Match='"4"')
    assert (answer.status, answer.problem) == (409, "conflict")


@pytest.mark.parametrize("state", ["shadow", "in_force", "lifted"])
async def test_only_drafts_are_deleted(gate, state):
    await gate.put(D1, NON_US, If_None_Match="*")
    await gate.post(f"{D1}/{ {v: k for k, v in CALLS.items()}[state] }")
    answer = await gate.delete(D1, If_Match='"3"')
    assert (answer.status, answer.problem) == (409, "conflict")


async def test_a_directive_closes_a_model_to_those_it_means(gate):
    receipt = await gate.put(D1, {**NON_US, "state": "in_force", "order": ORDER}, If_None_Match="*")
    assert receipt["models"] == ["claude-fable-5"]
    decisions = {
        name: await decision(gate, f"demo-{name}") for name in ("alice", "bob", "chen", "dana", "farid", "hana")
    }
    assert decisions == {
        "alice": "permit",
        "bob": "permit",
        "chen": "deny",
        "dana": "deny",
        "farid": "permit",
        "hana": "deny",
    }


async def test_an_inline_order_comes_in_with_a_directive(gate):
    await gate.put(D1, {**NON_US, "order": ORDER}, If_None_Match="*")
    (order,) = (await gate.get("/api/v1/orders"))["orders"]
    assert (await gate.get(D1))["order"] == order["id"]
    assert (await gate.get(f"/api/v1/orders/{order['id']}")).headers["ETag"] == '"2"'


async def test_a_names_of_models_become_ids_and_patterns_stay(gate):
    await gate.put(D1, {**NON_US, "models": ["claude-5-fable", "tag:controlled"]}, If_None_Match="*")
    got = await gate.get(D1)
    assert got["models"] == ["claude-fable-5", "tag:controlled"]
    assert got["covers"] == ["claude-fable-5", "claude-mythos-5"]
