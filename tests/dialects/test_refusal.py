"""Every denial has its HTTP form, in the shape that the provider's SDK understands."""

import json

import pytest
from botocore.eventstream import EventStreamBuffer
from samples import SINCE, document, hold, order

from gateway.dialects import DIALECTS, bedrock
from gateway.dialects.refusal import REFUSALS, RETRY_AFTER, Refusal, refuse
from gateway.policy.decision import Deny, Reason, Scope

DENY = Deny(
    Reason.MODEL_OFFLINE,
    7,
    model="claude-fable-5",
    restriction="h-1",
    scope=Scope.EVERYONE,
    since=SINCE,
    message="Off by directive.",
)
POLICY = {Reason.MODEL_OFFLINE, Reason.RESTRICTED, Reason.ATTRIBUTE_UNKNOWN, Reason.MODEL_UNRESOLVED}
SDKS_RETRY = {408, 409, 429, *range(500, 600)}


def ordered(disclose: bool) -> tuple[Deny, object]:
    deny = Deny(Reason.MODEL_OFFLINE, 7, model="claude-fable-5", restriction="h-1", order="o-1")
    policy = document(
        holds={"h-1": hold("claude-fable-5", order="o-1", note="our lawyers say no")},
        orders={"o-1": order(disclose=disclose, url="https://example.gov/1")},
        information="https://example.com/blocked",
    )
    return deny, policy


def headers_of(refusal: Refusal) -> dict[str, str]:
    assert len({name.lower() for name, _ in refusal.headers}) == len(refusal.headers), "each header once"
    return {name.lower(): value for name, value in refusal.headers}


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_a_form(reason):
    form = REFUSALS[reason]
    assert form.message.format(model="m")
    for status in (form.status, form.under_order):
        assert 400 <= status < 600
        assert form.retry == (status in SDKS_RETRY) or reason is Reason.INTERNAL


@pytest.mark.parametrize("reason", Reason)
def test_an_order_turns_a_refusal_by_policy_into_451(reason):
    form = REFUSALS[reason]
    assert (form.status, form.under_order) == ((403, 451) if reason in POLICY else (form.status, form.status))


@pytest.mark.parametrize(
    ("reason", "status"),
    [
        (Reason.UNKNOWN_MODEL, 404), (Reason.OPERATION_NOT_LISTED, 404), (Reason.MALFORMED, 400),
        (Reason.UNAUTHENTICATED, 401), (Reason.POLICY_STALE, 503), (Reason.OVERLOADED, 503),
        (Reason.UPSTREAM_UNREACHABLE, 502), (Reason.UPSTREAM_TIMEOUT, 504), (Reason.INTERNAL, 500),
    ],
)  # fmt: skip
def test_the_other_statuses(reason, status):
    assert refuse(Deny(reason, 1), None, None, "req_1").status == status


@pytest.mark.parametrize("status", [408, 413, 415, 431])
def test_a_denial_may_bring_its_own_status(status):
    assert refuse(Deny(Reason.MALFORMED, 0, status=status), None, None, "req_1").status == status


@pytest.mark.parametrize("reason", Reason)
def test_headers_of_every_refusal(reason):
    refusal = refuse(Deny(reason, 1, model="m"), document(), None, "req_1")
    headers = headers_of(refusal)
    assert headers["portcullis-reason"] == reason.value
    assert headers["cache-control"] == "no-store"
    assert headers["x-should-retry"] == ("true" if REFUSALS[reason].retry else "false")
    assert headers.get("retry-after") == (RETRY_AFTER if refusal.status == 503 else None)
    assert "link" not in headers


@pytest.mark.parametrize("reason", sorted(POLICY))
def test_no_refusal_by_policy_is_ever_retried(reason):
    for order_id in (None, "o-1"):
        refusal = refuse(Deny(reason, 1, model="m", order=order_id), None, None, "req_1")
        assert refusal.status not in SDKS_RETRY
        assert headers_of(refusal)["x-should-retry"] == "false"
        assert refusal.problem.details["retry"] is False


def test_who_implements_the_block_is_named_under_an_order_alone():
    deny, policy = ordered(disclose=False)
    assert headers_of(refuse(deny, policy, None, "r"))["link"] == '<https://example.com/blocked>; rel="blocked-by"'
    free = refuse(DENY, policy, None, "r")
    assert "link" not in headers_of(free)
    nowhere = refuse(deny, document(), None, "r")
    assert headers_of(nowhere)["link"] == '</availability>; rel="blocked-by"', "without a page: the gateway itself"


def test_an_order_is_told_only_if_it_may_be():
    deny, policy = ordered(disclose=False)
    hidden = refuse(deny, policy, DIALECTS["openai"], "r")
    assert b"BIS" not in hidden.body()
    assert b"example.gov" not in hidden.body()
    deny, policy = ordered(disclose=True)
    told = json.loads(refuse(deny, policy, DIALECTS["openai"], "r").body())
    assert told["error"]["portcullis"]["order"] == {
        "authority": "BIS", "reference": "2026-1", "url": "https://example.gov/1",
    }  # fmt: skip


def test_the_operators_note_never_leaves():
    deny, policy = ordered(disclose=True)
    for dialect in (None, *DIALECTS.values()):
        refusal = refuse(deny, policy, dialect, "r")
        assert b"lawyers" not in refusal.body()
        assert "lawyers" not in repr(refusal.headers)


def test_the_portcullis_object_says_everything():
    refusal = refuse(DENY, document(), None, "req_1", ["claude-opus-4-5", "claude-haiku-4-5"])
    assert json.loads(refusal.body())["error"]["portcullis"] == {
        "reason": "model_offline",
        "model": "claude-fable-5",
        "scope": "everyone",
        "since": SINCE,
        "until": None,
        "message": "Off by directive.",
        "alternatives": ["claude-opus-4-5", "claude-haiku-4-5"],
        "contact": "help@example.com",
        "request_id": "req_1",
        "retry": False,
    }


@pytest.mark.parametrize(
    ("deny", "alternatives", "message"),
    [
        (DENY, [], "Off by directive. Your key is valid. Contact: help@example.com"),
        (DENY, ["a", "b"], "Off by directive. Your key is valid. You may use: a, b. Contact: help@example.com"),
        (Deny(Reason.MODEL_OFFLINE, 1, model="m"), [], "m is offline for everyone. Your key is valid. Contact: help@example.com"),
        (Deny(Reason.UNKNOWN_MODEL, 1, model="m"), [], "There is no model m here. Contact: help@example.com"),
        (Deny(Reason.MODEL_OFFLINE, 1), [], "The model is offline for everyone. Your key is valid. Contact: help@example.com"),
        (Deny(Reason.RESTRICTED, 1, model="m", order="o-1", until=SINCE), [], f"m is not available to you. Until {SINCE}. Contact: help@example.com"),
    ],
)  # fmt: skip
def test_the_message_says_what_and_what_else(deny, alternatives, message):
    assert refuse(deny, document(), None, "r", alternatives).problem.message == message


def test_the_message_names_an_order_that_may_be_told():
    deny, policy = ordered(disclose=True)
    assert refuse(deny, policy, None, "r", ["a"]).problem.message == (
        "claude-fable-5 is offline for everyone. Order: BIS, 2026-1. You may use: a. Contact: help@example.com"
    )


SHAPES = {
    "openai": ("x-request-id", lambda body: body["error"]),
    "openai-compatible": ("x-request-id", lambda body: body["error"]),
    "anthropic": ("request-id", lambda body: body["error"]),
    "azure-openai": ("apim-request-id", lambda body: body["error"]),
    "gemini": ("x-request-id", lambda body: body["error"]),
    "vertex": ("x-request-id", lambda body: body["error"]),
    "bedrock": ("x-amzn-requestid", lambda body: body),
}


def test_every_dialect_has_a_shape():
    assert set(SHAPES) == set(DIALECTS)


@pytest.mark.parametrize("reason", Reason)
@pytest.mark.parametrize("name", DIALECTS)
def test_the_body_has_the_dialects_shape(name, reason):
    header, error_of = SHAPES[name]
    refusal = refuse(Deny(reason, 1, model="m", order="o"), document(), DIALECTS[name], "req_1")
    body = json.loads(refusal.body())
    error = error_of(body)
    assert headers_of(refusal)[header] == "req_1"
    assert error["message"] == refusal.problem.message
    assert error["portcullis"]["reason"] == reason.value
    if name == "anthropic":
        assert set(body) == {"type", "error", "request_id"}
        assert (body["type"], body["request_id"]) == ("error", "req_1")
    elif name in ("gemini", "vertex"):
        assert set(body) == {"error"}
        assert next(iter(error)) == "code"
        assert error["code"] == refusal.status
        assert error["status"].isupper()
    elif name == "bedrock":
        assert headers_of(refusal)["x-amzn-errortype"].endswith("Exception")
    else:
        assert set(body) == {"error"}
        assert (error["param"], error["code"]) == (None, reason.value)


@pytest.mark.parametrize(
    ("name", "reason", "order_id", "kind"),
    [
        ("openai", Reason.MODEL_OFFLINE, None, "permission_error"),
        ("openai", Reason.MODEL_OFFLINE, "o", "permission_error"),
        ("openai", Reason.UNAUTHENTICATED, None, "authentication_error"),
        ("openai", Reason.MALFORMED, None, "invalid_request_error"),
        ("openai", Reason.POLICY_STALE, None, "server_error"),
        ("openai", Reason.UPSTREAM_TIMEOUT, None, "server_error"),
        ("anthropic", Reason.MODEL_OFFLINE, None, "permission_error"),
        ("anthropic", Reason.MODEL_OFFLINE, "o", "permission_error"),
        ("anthropic", Reason.UNAUTHENTICATED, None, "authentication_error"),
        ("anthropic", Reason.UNKNOWN_MODEL, None, "not_found_error"),
        ("anthropic", Reason.MALFORMED, None, "invalid_request_error"),
        ("anthropic", Reason.POLICY_STALE, None, "api_error"),
        ("anthropic", Reason.UPSTREAM_UNREACHABLE, None, "api_error"),
    ],
)
def test_the_types_of_errors(name, reason, order_id, kind):
    refusal = refuse(Deny(reason, 1, order=order_id), None, DIALECTS[name], "r")
    assert json.loads(refusal.body())["error"]["type"] == kind


STREAMS = [
    pytest.param(dialect, operation, id=f"{dialect.name} {operation.id}")
    for dialect in DIALECTS.values()
    for operation in dialect.operations
    if operation.stream_error
]


def test_whatever_streams_can_be_ended_by_an_event():
    assert {(p.values[0].name, p.values[1].id) for p in STREAMS} >= {
        ("openai", "chat.completions"), ("openai", "responses"), ("openai", "completions"), ("anthropic", "messages"),
    }  # fmt: skip


@pytest.mark.parametrize(("dialect", "operation"), STREAMS)
def test_the_last_event_is_one_event_with_an_error_object(dialect, operation):
    event = refuse(DENY, document(), dialect, "req_1").last_event(operation)
    assert event is not None
    if operation.stream_error is bedrock.stream_error:
        return  # a binary frame: below
    assert event.endswith(b"\n\n")
    lines = event.removesuffix(b"\n\n").split(b"\n")
    fields = dict(line.split(b": ", 1) for line in lines)
    assert len(fields) == len(lines)
    data = json.loads(fields[b"data"])
    assert data["error"]["portcullis"]["reason"] == "model_offline", "an SDK's stream raises on the error object"
    if b"event" in fields:
        assert (fields[b"event"], data["type"]) == (b"error", "error")


def test_bedrocks_last_event_is_a_frame_that_raises_in_the_sdk():
    event = refuse(DENY, document(), DIALECTS["bedrock"], "req_1").last_event(
        DIALECTS["bedrock"].operation("POST", "/model/m/converse-stream")[0]
    )
    buffer = EventStreamBuffer()
    buffer.add_data(event)
    (message,) = list(buffer)
    raised = message.to_response_dict()
    assert raised["status_code"] == 400, "an error, not an event"
    assert raised["headers"][":error-code"] == "AccessDeniedException"
    assert raised["headers"][":error-message"].startswith("Off by directive.")
    assert json.loads(raised["body"])["portcullis"]["reason"] == "model_offline"


def test_an_operation_that_does_not_stream_has_no_last_event():
    embeddings = DIALECTS["openai"].operation("POST", "/v1/embeddings")[0]
    assert refuse(DENY, None, DIALECTS["openai"], "r").last_event(embeddings) is None


def test_text_beyond_ascii_stays_text():
    deny = Deny(Reason.MODEL_OFFLINE, 1, model="m", message="Gesperrt – bitte später")
    assert (
        json.loads(refuse(deny, None, None, "r").body())["error"]["message"]
        == "Gesperrt – bitte später. Your key is valid."
    )
