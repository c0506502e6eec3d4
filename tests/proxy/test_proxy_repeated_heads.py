"""A head that a client repeats on its connection is judged once; whose credential it has is asked each time."""

import json

import pytest
from proxy_harness import OK, get, post

from gateway.proxy import connection


@pytest.fixture
def judged(monkeypatch):
    """The targets of heads that were judged."""
    targets, really = [], connection.read_head

    def read_head(method, target, *arguments, **options):
        targets.append(target)
        return really(method, target, *arguments, **options)

    monkeypatch.setattr(connection, "read_head", read_head)
    return targets


async def exchange(client, upstream, request: bytes):
    client.send(request)
    seen = await upstream.message()
    upstream.send(OK)
    assert (await client.message()).status == 200
    return seen


async def test_the_same_head_with_another_length_is_judged_once(client, provider, judged):
    client.send(post())
    upstream = await provider.accept()
    first = await upstream.message()
    upstream.send(OK)
    await client.message()
    second = await exchange(client, upstream, post(text="longer"))
    assert len(judged) == 1
    assert (second.start, second.header("authorization")) == (first.start, first.header("authorization"))
    assert second.header("content-length") == str(len(second.body))
    assert json.loads(second.body)["text"] == "longer"


@pytest.mark.parametrize(
    "other",
    [
        post(headers=("X-More: 1",)),
        post(key="pc-bob"),
        post(path="/openai/v1/completions"),
        post(version="1.1", headers=("Authorization: Bearer pc-bob",), key=None),
    ],
)
async def test_another_head_is_judged(client, provider, judged, other):
    client.send(post())
    upstream = await provider.accept()
    await upstream.message()
    upstream.send(OK)
    await client.message()
    await exchange(client, upstream, other)
    assert len(judged) == 2


async def test_a_repeated_head_is_of_whoever_the_credential_is_now(door, client, provider):
    client.send(post())
    upstream = await provider.accept()
    await upstream.message()
    upstream.send(OK)
    await client.message()
    door.records.clear()
    door.apply(callers=["alice"])
    assert (await client.ask(post())).reason == "unauthenticated"


async def test_a_repeated_head_is_decided_by_the_policy_in_force(door, client, provider):
    client.send(post())
    upstream = await provider.accept()
    await upstream.message()
    upstream.send(OK)
    await client.message()
    door.close_models("gpt-5.4")
    assert (await client.ask(post())).reason == "model_offline"


@pytest.mark.parametrize("length", [b"1234567890123456", b"+5", b"5, 5", b""])
async def test_a_length_is_judged_though_the_rest_was_before(client, provider, length):
    client.send(post())
    upstream = await provider.accept()
    await upstream.message()
    upstream.send(OK)
    await client.message()
    head, _, body = post().partition(b"\r\n\r\n")
    name, _, rest = head.partition(b"Content-Length: ")
    refused = await client.ask(name + b"Content-Length: " + length + rest.lstrip(b"0123456789") + b"\r\n\r\n" + body)
    assert (refused.status, refused.header("connection")) == (400, "close")


async def test_a_refusal_of_a_repeated_head_is_the_same(client, judged):
    answers = [await client.ask(get("/nowhere")) for _ in range(2)]
    assert [(answer.status, answer.reason) for answer in answers] == [(404, "operation_not_listed")] * 2
    assert len(judged) == 1
