"""Questions of a proxy that carries the traffic itself: yes, no, and never more than was shown."""

import json

import pytest

from gateway.dialects import DIALECTS
from gateway.proxy.authz import says_nothing
from gateway.settings import Settings

BODY = b'{"model":"gpt-5.4","messages":[]}'
CHAT = "/authz/envoy/openai/v1/chat/completions"
WHOLE = "x-envoy-auth-partial-body: false"
BY_PATH = "/openai/v1/models/gpt-5.4"


def question(path: str, body: bytes = BODY, *headers: str, method: str = "POST", key: str = "pc-alice") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "host: gate", f"authorization: Bearer {key}", f"x-goog-api-key: {key}"]
    if body:
        lines += ["content-type: application/json", f"content-length: {len(body)}"]
    return "\r\n".join([*lines, *headers]).encode() + b"\r\n\r\n" + body


def told(target: str, method: str = "GET", *more: str) -> bytes:
    """As nginx asks."""
    return question(
        "/authz/nginx", b"", f"x-original-method: {method}", f"x-original-uri: {target}", *more, method="GET"
    )


@pytest.fixture
def door(door):
    door.gate.answers_authz = True
    return door


async def test_yes(door, client, provider):
    for _ in range(2):
        answer = await client.ask(question(CHAT, BODY, WHOLE))
        assert (answer.status, answer.body, answer.reason) == (200, b"", None)
        assert answer.header("portcullis-revision") == "1"
    assert provider.accepted.empty()
    assert [(line["decision"], line["model"], line["status"]) for line in door.lines] == [
        ("permit", "gpt-5.4", 200)
    ] * 2
    assert not door.gate.in_flight


async def test_no_in_the_dialects_shape_and_at_once(door, client):
    assert (await client.ask(question(CHAT, BODY, WHOLE))).status == 200
    door.close_models("gpt-5.4")
    refused = await client.ask(question(CHAT, BODY, WHOLE))
    assert (refused.status, refused.reason) == (403, "model_offline")
    assert refused.json["error"]["code"] == "model_offline"
    assert (await client.ask(question(CHAT, BODY.replace(b"5.4", b"5.4-mini"), WHOLE))).status == 200


async def test_the_same_head_may_ask_about_something_else(door, client):
    """Heads that come again are recognised by their bytes; a question's body decides all the same."""
    door.close_models("gpt-5.4")
    other = BODY.replace(b"gpt-5.4", b"mistral")
    assert [(await client.ask(question(CHAT, body, WHOLE))).status for body in (BODY, other, BODY)] == [403, 404, 403]


@pytest.mark.parametrize(
    "mark", [(), ("x-envoy-auth-partial-body: true",), (WHOLE, WHOLE), ("x-envoy-auth-partial-body: False",)]
)
async def test_a_body_that_is_not_shown_whole_is_denied(door, client, mark):
    refused = await client.ask(question(CHAT, BODY, *mark))
    assert (refused.status, refused.reason) == (413, "malformed")


async def test_a_lease_that_is_over_denies(door, client):
    door.end_lease()
    refused = await client.ask(question(CHAT, BODY, WHOLE))
    assert (refused.status, refused.reason) == (503, "policy_stale")


async def test_nobody_and_strangers_are_refused(door, client):
    assert (await client.ask(question(CHAT, BODY, WHOLE, key="nobody"))).status == 401


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/authz/", 400),
        ("/authz/envoy", 400),
        ("/authz/traefik/openai/v1/models", 400),
        ("/authz/envoy/authz/envoy/openai/v1/models", 404),
        ("/authz/envoy/availability", 404),
        ("/authz/envoy/openai/v1/nothing", 404),
        ("/authz/envoy/openai/v1/realtime?model=gpt-5.4", 404),
    ],
)
async def test_what_no_question_can_be_about(door, client, path, status):
    assert (await client.ask(question(path, b"", WHOLE, method="GET"))).status == status


async def test_a_body_that_is_not_read_need_not_be_whole(door, client):
    part = question("/authz/envoy/openai/v1/uploads/u1/parts", b"x" * 100, "x-envoy-auth-partial-body: true")
    assert (await client.ask(part)).status in (200, 415)
    assert not door.gate.buffered.total


async def test_by_headers_what_the_path_decides(door, client):
    assert (await client.ask(told(BY_PATH))).status == 200
    door.close_models("gpt-5.4")
    refused = await client.ask(told(BY_PATH))
    assert (refused.status, refused.reason, refused.header("portcullis-status")) == (403, "model_offline", "403")
    assert json.loads(refused.header("portcullis-refusal"))["error"]["portcullis"]["model"] == "gpt-5.4"
    assert refused.body == b""
    strange = await client.ask(told("/openai/v1/models/none"))
    assert (strange.status, strange.header("portcullis-status")) == (403, "404")


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (told("/gemini/v1beta/models/gemini-3-pro:generateContent", "POST"), "model_unresolved"),
        (told("/openai/v1/chat/completions", "POST"), "model_unresolved"),
        (told("/gemini/v1beta/models/a%2Fb"), "malformed"),
        (told("/openai/v1/models/../models/gpt-5.4"), "malformed"),
        (told(BY_PATH, "GET", f"x-original-uri: {BY_PATH}"), "malformed"),
        (told(BY_PATH, "G\xc9T"), "malformed"),
        (question("/authz/nginx", b"", method="GET"), "malformed"),
        (question("/authz/nginx", BODY, f"x-original-uri: {BY_PATH}", "x-original-method: GET"), "malformed"),
    ],
)
async def test_by_headers_the_rest_is_denied(door, client, asked, reason):
    refused = await client.ask(asked)
    assert (refused.status, refused.reason) == (403, reason)


async def test_a_caller_that_is_not_known_is_401_to_nginx_too(door, client):
    asked = told(BY_PATH).replace(b"pc-alice", b"nobody")
    assert (await client.ask(asked)).status == 401


async def test_by_default_nobody_answers(door, client):
    door.gate.answers_authz = False
    assert (await client.ask(question(CHAT, BODY, WHOLE))).status == 404


def test_a_provider_cannot_have_its_name():
    provider = {"authz": {"dialect": "openai", "base_url": "https://x"}}
    assert Settings(providers=provider)
    with pytest.raises(ValueError, match="none can be called authz"):
        Settings(providers=provider, authz={"enabled": True})


def test_which_bodies_say_nothing():
    """What passes unseen by nginx, invoking a model; every row of it was thought about."""
    seen = {
        f"{name} {operation.id}"
        for name, dialect in DIALECTS.items()
        for operation in dialect.operations
        if operation.invokes and operation.method not in ("GET", "DELETE") and says_nothing(operation)
    }
    assert seen == {
        "bedrock converse",
        "bedrock converse-stream",
        "bedrock count-tokens",
        "anthropic deployments.run",
        "anthropic deployments.unpause",
        "anthropic sessions.events.send",
        "openai fine_tuning.jobs.resume",
        "openai threads.runs.submit_tool_outputs",
        "openai videos.remix",
        "openai-compatible conversations.append",
    }, "a model in the path, or every candidate is looked at"
