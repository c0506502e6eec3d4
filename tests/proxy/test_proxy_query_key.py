"""Gemini's ``?key=``: the caller's key, which goes to no provider and into no log."""

import json

import pytest
from proxy_harness import OK, get, post
from samples import document, model
from socket_peers import opening

GENERATE = "/gemini/v1beta/models/gemini-3-flash:generateContent"
LIVE = "/gemini/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent"
POLICY = document(
    models={name: model("gemini", name, f"models/{name}") for name in ("gemini-3-pro", "gemini-3-flash")},
    max_stale={"default": 3600, "controlled": 1800},
)
BODY = b'{"contents":[]}'


def asked(query: str, *headers: str, key: str | None = None, path: str = GENERATE) -> bytes:
    return post(path + query, body=BODY, key=key, headers=headers)


@pytest.fixture
async def door(open_door):
    return await open_door(policy=POLICY)


async def test_it_is_the_callers_and_goes_no_further(door, client, provider):
    client.send(asked("?alt=sse&key=pc-alice&prettyPrint=false"))
    upstream = await provider.accept()
    seen = await upstream.message()
    assert seen.start == b"POST /v1beta/models/gemini-3-flash:generateContent?alt=sse&prettyPrint=false HTTP/1.1"
    assert seen.header("x-goog-api-key") == "g-provider"
    assert "pc-alice" not in repr(seen)
    upstream.send(OK)
    assert (await client.message()).status == 200
    (line,) = door.lines
    assert (line["caller"], line["decision"]) == ("p-alice", "permit")
    assert "pc-alice" not in json.dumps(door.lines)


async def test_alone_it_leaves_no_query(client, provider):
    client.send(get("/gemini/v1beta/models?key=pc-alice").replace(b"Authorization: Bearer pc-alice\r\n", b""))
    seen = await (await provider.accept()).message()
    assert seen.start == b"GET /v1beta/models HTTP/1.1"


async def test_on_one_connection_each_key_counts_for_its_own_request(door, client, provider):
    upstream = None
    for name in ("alice", "alice", "bob"):
        client.send(asked(f"?key=pc-{name}"))
        upstream = upstream or await provider.accept()
        await upstream.message()
        upstream.send(OK)
        assert (await client.message()).status == 200
    assert [line["caller"] for line in door.lines] == ["p-alice", "p-alice", "p-bob"]
    assert (await client.ask(asked("?key=pc-nobody"))).status == 401


async def test_a_live_session_is_opened_by_it(client, provider):
    client.send(opening(f"{LIVE}?key=pc-alice", key=None))
    head = await (await provider.accept()).head()
    assert head.start == LIVE.removeprefix("/gemini").join(("GET ", " HTTP/1.1")).encode()
    assert head.header("x-goog-api-key") == "g-provider"


@pytest.mark.parametrize(
    "request_",
    [
        asked("?key=pc-alice", key="pc-alice"),
        asked("?key=pc-alice", "x-goog-api-key: pc-bob"),
        asked("?key=pc-alice", "Portcullis-Key: pc-alice"),
        asked("?key=pc-alice&key=pc-alice"),
        asked("?key="),
        asked("?Key=pc-alice"),
        asked("?access_token=pc-alice"),
        asked("?key=%70c-alice"),
        asked("?key=own", "Portcullis-Key: pc-alice", path=GENERATE.replace("gemini", "own-keys", 1)),
        opening(f"{LIVE}?key=pc-alice"),
    ],
)
async def test_beside_another_or_unclear_it_is_refused(client, provider, request_):
    answer = await client.ask(request_)
    assert (answer.status, answer.reason) == (400, "malformed")
    assert "alice" not in answer.json["error"]["message"]
    assert provider.connections == 0


async def test_a_model_that_is_off_is_off_for_it_too(door, client, provider):
    door.close_models("gemini-3-flash")
    assert (await client.ask(asked("?key=pc-alice"))).reason == "model_offline"
    assert provider.connections == 0


async def test_elsewhere_it_is_a_parameter_as_any(client, provider):
    """OpenAI's API has no such parameter: it is no key there, and goes on."""
    answer = await client.ask(post("/openai/v1/chat/completions?key=pc-alice", key=None))
    assert answer.status == 401
    assert provider.connections == 0
