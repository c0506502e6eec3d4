"""The rim: who may, what is understood, what a mistake looks like, what never leaks."""

import asyncio

import pytest
from control_harness import APPROVER, AUDITOR, FABLE, OPERATOR, OTHER, REGISTRAR, VIEWER
from redis.exceptions import ConnectionError as RedisConnectionError
from structlog.testing import capture_logs

from gateway.control.access import ROLES, Access
from gateway.control.routes import ROUTES
from gateway.enforcement.signing import ForgedError
from gateway.identity.records import Role

TOKENS = {
    Role.VIEWER: VIEWER,
    Role.OPERATOR: OPERATOR,
    Role.APPROVER: APPROVER,
    Role.REGISTRAR: REGISTRAR,
    Role.AUDITOR: AUDITOR,
}
ALLOWED = {
    "GET models": "viewer operator approver auditor",
    "PUT models": "operator approver",
    "DELETE models": "operator approver",
    "POST models": "operator approver",
    "POST offline": "operator approver",
    "GET catalog": "operator approver",
    "POST catalog": "operator approver",
    "GET holds": "viewer operator approver auditor",
    "POST holds": "operator approver",
    "GET orders": "viewer operator approver auditor",
    "PUT orders": "operator approver",
    "DELETE orders": "operator approver",
    "GET directives": "viewer operator approver auditor",
    "PUT directives": "operator approver",
    "DELETE directives": "operator approver",
    "POST directives": "operator approver",
    "GET terms": "viewer operator approver auditor",
    "PUT terms": "operator approver",
    "DELETE terms": "operator approver",
    "GET groups": "viewer operator approver auditor",
    "PUT groups": "operator approver",
    "DELETE groups": "operator approver",
    "GET orgs": "viewer operator approver auditor",
    "PUT orgs": "operator approver",
    "DELETE orgs": "operator approver",
    "GET changes": "viewer operator approver auditor registrar",
    "POST changes": "operator approver",
    "POST /api/v1/changes/{id}/approve": "approver",
    "POST /api/v1/changes/{id}/reject": "approver",
    "POST explain": "viewer operator approver auditor registrar",
    "GET refusals": "viewer operator approver auditor",
    "GET callers": "viewer operator approver auditor registrar",
    "GET callers:export": "viewer operator approver auditor registrar",
    "POST callers:import": "approver registrar",
    "PUT callers": "registrar approver",
    "DELETE callers": "registrar approver",
    "POST callers": "registrar approver",
    "GET operators": "approver auditor",
    "PUT operators": "approver",
    "DELETE operators": "approver",
    "POST operators": "approver",
    "GET drills": "viewer operator approver auditor",
    "POST drills": "operator approver",
    "GET replicas": "viewer operator approver auditor",
    "POST replicas:restart": "operator approver",
    "GET receipts": "viewer operator approver auditor",
    "GET policy": "viewer operator approver auditor",
    "POST orders": "operator approver",
    "GET audit": "operator approver auditor",
}
PROTECTED = [route for route in ROUTES if route.access is not Access.OPEN]


@pytest.mark.parametrize("route", PROTECTED, ids=lambda route: f"{route.method} {route.path}")
async def test_every_route_is_open_to_exactly_its_roles(gate, route):
    noun = route.path.split("/")[3]
    expected = set(ALLOWED.get(f"{route.method} {route.path}", ALLOWED[f"{route.method} {noun}"]).split())
    assert ROLES[route.access] == expected
    path = route.path.replace("{id}", "nothing").replace("{key}", "none").replace("{revision}", "0")
    answers = await asyncio.gather(*(gate.call(route.method, path, b"[", token) for token in TOKENS.values()))
    refused = {role for role, answer in zip(TOKENS, answers, strict=True) if answer.status == 403}
    assert refused == set(Role) - expected
    for token in (None, "wrong", "x" * 5000):
        answer = await gate.call(route.method, path, token=token)
        assert (answer.status, answer.problem) == (401, "unauthenticated")
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("value", ["", "Bearer", "Bearer ", "Basic ZGVtbzo=", "demo-operator", "Token demo-operator"])
async def test_only_a_bearer_token_counts(gate, value):
    assert (await gate.get("/api/v1/holds", token=None, Authorization=value)).status == 401
    assert (await gate.get("/api/v1/holds", token=None, Authorization=f"bearer {OPERATOR}")).status == 200


async def test_where_redis_is_empty_nobodys_token_is_called_wrong(gate):
    await gate.store.redis.flushdb()
    answer = await gate.get("/api/v1/holds", token=OPERATOR)
    assert (answer.status, answer.problem) == (503, "unavailable")
    assert "portcullis init" in answer["detail"]


async def test_a_callers_key_is_no_operators_token(gate):
    assert (await gate.get("/api/v1/holds", token="demo-alice")).status == 401


async def test_probes_and_metrics_ask_for_no_token(gate):
    assert (await gate.get("/livez", token=None)).status == 200
    assert (await gate.get("/readyz", token=None)).status == 200
    metrics = await gate.get("/metrics", token=None)
    assert metrics.body == b"portcullis_up 1\n"
    assert metrics.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    gate.is_ready = False
    assert (await gate.get("/readyz", token=None)).status == 503
    assert (await gate.get("/livez", token=None)).status == 200


async def test_openapi_describes_every_route(gate):
    described = await gate.get("/openapi.json", token=None)
    listed = {(method.upper(), path) for path, methods in described["paths"].items() for method in methods}
    assert listed == {(route.method, route.path) for route in ROUTES} | {("GET", "/openapi.json")}
    operation = described["paths"]["/api/v1/models/{id}/offline"]["post"]
    assert operation["x-roles"] == ["approver", "operator"]
    assert operation["requestBody"]["content"]["application/json"]["schema"] == {
        "$ref": "#/components/schemas/HoldBody"
    }
    assert {parameter["name"] for parameter in operation["parameters"]} == {"id", "wait", "Idempotency-Key"}
    identifiers = [entry["operationId"] for methods in described["paths"].values() for entry in methods.values()]
    assert len(identifiers) == len(set(identifiers))
    schemas = described["components"]["schemas"]
    references = str(described.body).split("#/components/schemas/")[1:]
    assert {reference.split("'")[0] for reference in references} <= set(schemas)


async def test_every_answer_says_how_to_treat_it(gate):
    for answer in (
        await gate.get("/api/v1/holds"),
        await gate.get("/metrics", token=None),
        await gate.get("/nothing"),
        await gate.get("/api/v1/holds", token=None),
    ):
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Server"] == "portcullis"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8081", 200),
        ("127.0.0.1:8081", 200),
        ("192.0.2.7", 200),
        ("[::1]:8081", 200),
        ("portcullis:8081", 200),
        ("evil.example:8081", 421),
        ("127.0.0.1.evil.example", 421),
        ("localhost.evil.example", 421),
        ("", 421),
    ],
)
async def test_a_page_that_rebinds_dns_is_turned_away(gate, host, status):
    answer = await gate.get("/livez", token=None, Host=host)
    assert answer.status == status


@pytest.mark.parametrize(
    "query", ["?force=1", "?wait=-1", "?wait=121", "?wait=nan", "?wait=soon", "?wait=1&wait=2", "?WAIT=1", "?wait="]
)
async def test_a_query_is_read_strictly(gate, query):
    answer = await gate.post(f"{FABLE}/offline{query}")
    assert (answer.status, answer.problem) == (400, "malformed")
    assert await gate.revision() == 1


async def test_a_read_takes_no_parameter_that_it_does_not_know(gate):
    assert (await gate.get("/api/v1/models?wait=1")).status == 400
    assert (await gate.get("/api/v1/callers?limit=0")).status == 400
    assert (await gate.get("/api/v1/callers?limit=1001")).status == 400


@pytest.mark.parametrize(
    "body",
    [
        b"[",
        b"[]",
        b"null",
        b'"x"',
        b'{"note": "a", "note": "b"}',
        b'{"note": NaN}',
        b'\xef\xbb\xbf{"note": "a"}',
        b'{"note": "\xff"}',
        b'{"note": "\\ud800"}',
        b'{"note": 1}',
        b'{"Note": "a"}',
        b'{"models": ["gpt-5.4"]}',
        b'{"order": {"authority": "", "reference": "x"}}',
        b'{"order": {"authority": "x"}}',
        b'{"order": {"authority": "x", "reference": "y", "url": "javascript:1"}}',
        b'{"in_flight": {"let_finish": -1}}',
        b'{"in_flight": {"let_finish": "5"}}',
        '{"note": "a"}'.encode("utf-16"),
        b"[" * 100_000,
    ],
)
async def test_a_body_is_read_strictly(gate, body):
    answer = await gate.post(f"{FABLE}/offline", body)
    assert (answer.status, answer.problem) == (400, "malformed")
    assert await gate.revision() == 1


async def test_a_body_has_a_limit(gate):
    answer = await gate.post(f"{FABLE}/offline", b'{"note": "' + b"a" * 1024 * 1024 + b'"}')
    assert answer.status == 413
    assert answer["detail"] == "A body may have 1 MiB."


async def test_unknown_paths_and_methods_are_problems_too(gate):
    answer = await gate.get("/api/v1/nothing")
    assert (answer.status, answer["type"]) == (404, "about:blank")
    answer = await gate.call("PATCH", FABLE)
    assert answer.status == 405
    assert set(answer.headers["Allow"].split(",")) == {"GET", "PUT", "DELETE"}


@pytest.mark.parametrize(
    ("error", "part"),
    [
        (RedisConnectionError("refused"), "Redis does not answer"),
        (TimeoutError(), "Redis does not answer"),
        (ForgedError("revision 3"), "was not signed"),
    ],
)
async def test_without_redis_the_answer_is_503(gate, monkeypatch, error, part):
    async def broken():
        raise error

    monkeypatch.setattr(gate.store, "current", broken)
    answer = await gate.get("/api/v1/holds")
    assert (answer.status, answer.problem) == (503, "unavailable")
    assert part in answer["detail"]


async def test_a_lost_answer_is_not_called_a_no(gate, monkeypatch):
    async def broken(*_, **__):
        raise RedisConnectionError("reset")

    monkeypatch.setattr(gate.store, "commit", broken)
    answer = await gate.post(f"{FABLE}/offline")
    assert (answer.status, answer.problem) == (503, "unavailable")
    assert "Idempotency-Key" in answer["detail"]


async def test_an_emptied_redis_is_not_taken_for_a_policy(gate):
    records = gate.store.redis
    await records.delete(gate.store.keys.cur)
    answer = await gate.get("/api/v1/models")
    assert (answer.status, answer.problem) == (503, "unavailable")
    assert "portcullis init" in answer["detail"]


async def test_a_bug_is_logged_and_not_shown(gate, monkeypatch):
    async def broken():
        raise KeyError("inner detail")

    monkeypatch.setattr(gate.store, "members", broken)
    with capture_logs() as logs:
        answer = await gate.get("/api/v1/replicas")
    assert (answer.status, answer.problem) == (500, "internal")
    assert "inner detail" not in str(answer.body)
    (line,) = [line for line in logs if line["event"] == "request_failed"]
    assert line["path"] == "/api/v1/replicas"
    assert "inner detail" in line["trace"]


async def test_changes_are_logged_with_who_what_and_under_which_order(gate):
    with capture_logs() as logs:
        answer = await gate.post(f"{FABLE}/offline", {"order": {"authority": "a", "reference": "b"}})
    (line,) = [line for line in logs if line["event"] == "policy_changed"]
    assert (line["actor"], line["action"], line["revision"]) == (OPERATOR, "offline", 2)
    assert line["subject"] == f"holds/{answer['hold']}"
    assert line["order"] == answer["order"]


async def test_no_secret_is_in_any_log_or_problem_or_view(gate):
    with capture_logs() as logs:
        key = (await gate.post("/api/v1/callers/demo-bob/keys", token=APPROVER, Idempotency_Key="k1"))["key"]
        token = (await gate.put("/api/v1/operators/eve", {"roles": ["viewer"]}, If_None_Match="*"))["token"]
        rotated = (await gate.post("/api/v1/operators/eve/token", token=APPROVER, Idempotency_Key="k2"))["token"]
        seen = [
            await gate.post("/api/v1/callers/demo-bob/keys", token=APPROVER, Idempotency_Key="k1"),
            await gate.post("/api/v1/operators/eve/token", token=APPROVER, Idempotency_Key="k2"),
            await gate.post("/api/v1/offline", {"models": ["*"]}, token=rotated),
            await gate.get("/api/v1/holds", token=f"{token}x"),
            await gate.post(f"{FABLE}/offline", {"token": rotated}),
            await gate.get("/api/v1/callers/demo-bob"),
            await gate.get("/api/v1/operators"),
            await gate.get("/api/v1/policy"),
            await gate.get("/api/v1/receipts/2"),
        ]
    stored = [
        await gate.store.redis.dump(name) or b""
        async for name in gate.store.redis.scan_iter(f"*{gate.store.keys.prefix[1:]}*")
    ]
    assert len(stored) > 5
    for secret in (key, token, rotated):
        assert secret not in str([answer.body for answer in seen])
        assert secret not in str(logs)
        assert all(secret.encode() not in value for value in stored)
    assert "nationality" not in str(logs)


# ------------------------------------------------------------------------------------------------ idempotency


async def test_the_same_key_and_body_get_the_same_answer_and_no_second_hold(gate):
    body = {"note": "once", "order": {"authority": "a", "reference": "b"}}
    first = await gate.post(f"{FABLE}/offline", body, Idempotency_Key="friday-1705")
    await gate.post("/api/v1/models/gpt-5.4/offline")
    again = await gate.post(f"{FABLE}/offline", body, Idempotency_Key="friday-1705")
    assert (again.status, again.body) == (first.status, first.body)
    assert len((await gate.get("/api/v1/holds"))["holds"]) == 2


async def test_a_repetition_of_what_could_not_happen_twice_gets_the_first_answer(gate):
    hold = (await gate.post(f"{FABLE}/offline"))["hold"]
    for path in (f"/api/v1/holds/{hold}/undo",):
        first = await gate.post(path, Idempotency_Key="u")
        again = await gate.post(path, Idempotency_Key="u")
        assert (again.status, again.body) == (first.status, first.body)
    assert await gate.revision() == 3


async def test_the_same_key_with_another_body_is_refused(gate):
    await gate.post(f"{FABLE}/offline", {"note": "a"}, Idempotency_Key="k")
    answer = await gate.post(f"{FABLE}/offline", {"note": "b"}, Idempotency_Key="k")
    assert (answer.status, answer.problem) == (422, "idempotency-key-reused")
    assert await gate.revision() == 2


async def test_a_key_is_bound_to_who_sent_it_and_where(gate):
    holds = {
        (await gate.post(f"{FABLE}/offline", Idempotency_Key="k"))["hold"],
        (await gate.post(f"{FABLE}/offline", token=OTHER, Idempotency_Key="k"))["hold"],
        (await gate.post("/api/v1/models/gpt-5.4/offline", Idempotency_Key="k"))["hold"],
    }
    assert len(holds) == 3


async def test_the_same_call_in_flight_many_times_makes_one_revision(gate):
    calls = [gate.post(f"{FABLE}/offline", {"note": "n"}, Idempotency_Key="k") for _ in range(8)]
    answers = await asyncio.gather(*calls)
    assert {answer.status for answer in answers} == {200}
    assert {answer["hold"] for answer in answers} == {answers[0]["hold"]}
    assert {answer["revision"] for answer in answers} == {2}


async def test_a_secret_is_not_shown_again_to_a_repetition(gate):
    first = await gate.post("/api/v1/callers/demo-bob/keys", token=APPROVER, Idempotency_Key="k")
    again = await gate.post("/api/v1/callers/demo-bob/keys", token=APPROVER, Idempotency_Key="k")
    assert (again.status, again.problem) == (409, "conflict")
    assert again["key_id"] == first["key_id"]
    assert len((await gate.get("/api/v1/callers/demo-bob"))["keys"]) == 2


async def test_a_repetition_waits_for_a_receipt_that_is_still_open(empty_gate):
    gate = empty_gate
    replica = await gate.replica(deaf=True)
    first = await gate.post(f"{FABLE}/offline?wait=0", Idempotency_Key="k")
    assert first.status == 202
    again = await gate.post(f"{FABLE}/offline?wait=0", Idempotency_Key="k")
    assert again.status == 202
    assert again["hold"] == first["hold"]
    await replica.catch_up()
    final = await gate.post(f"{FABLE}/offline", Idempotency_Key="k")
    assert (final.status, final["basis"], final["hold"]) == (200, "all_acked", first["hold"])


async def test_a_repetition_proves_anew_what_a_control_process_left_unproven(gate):
    first = await gate.post(f"{FABLE}/offline", Idempotency_Key="k")
    await gate.store.redis.hdel(gate.store.keys.receipts, str(first["revision"]))
    again = await gate.post(f"{FABLE}/offline", Idempotency_Key="k")
    assert (again.status, again["basis"], again["hold"]) == (200, "all_acked", first["hold"])


@pytest.mark.parametrize("key", ["a b", "x" * 256, "ü"])
async def test_an_idempotency_key_has_a_form(gate, key):
    assert (await gate.post(f"{FABLE}/offline", Idempotency_Key=key)).status == 400


# ------------------------------------------------------------------------------------------------ what is proven


async def test_replicas_are_listed_with_what_they_enforce(gate):
    await gate.post(f"{FABLE}/offline")
    await gate.store.redis.hset(gate.store.keys.replicas, "w9:gone", '{"left":true}')
    listed = await gate.get("/api/v1/replicas", token=VIEWER)
    assert listed["revision"] == 2
    live, left = listed["replicas"]
    assert (live["id"], live["state"], live["rev"], live["swept"]) == ("w0", "live", 2, 2)
    assert (live["host"], live["version"]) == ("here", "1")
    assert (left["id"], left["state"], left["rev"]) == ("w9", "left", None)


@pytest.mark.parametrize("revision", ["0", "7", "x", "-1", "1" * 30, "²"])
async def test_an_unknown_receipt_is_404(gate, revision):
    assert (await gate.get(f"/api/v1/receipts/{revision}")).status == 404


async def test_the_policy_is_given_as_it_stands(gate):
    await gate.post(f"{FABLE}/offline")
    answer = await gate.get("/api/v1/policy", token=AUDITOR)
    current = await gate.store.current()
    assert answer["schema"] == 1
    assert list(answer["holds"]) == list(current.document.holds)
    assert answer.headers["ETag"] == '"2"'
    assert answer.headers["Portcullis-Hash"] == current.position.hash
