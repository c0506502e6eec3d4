"""The way of one request, step by step: operation, caller, models, decision, forwarding, record."""

import asyncio
import gzip
import json
import re
import socket
import zlib

import pytest
from proxy_harness import LIST, OK, STREAM, caller_record, chunked, get, post
from samples import document

from gateway.identity.keys import fingerprint

MESSAGES = "/anthropic/v1/messages"


async def answered(client, provider, request: bytes, answer: bytes = OK):
    """Send a request through; what the provider got, and what the client got."""
    client.send(request)
    upstream = await provider.accept()
    got = await upstream.message()
    upstream.send(answer)
    return got, await client.message()


# ---------------------------------------------------------------- forward


async def test_a_permitted_request_is_written_anew(client, provider):
    body = b'{ "model" : "gpt-5.4",\n "x": "\xc3\xa9" }'
    request, response = await answered(
        client,
        provider,
        post(
            "/openai/v1/chat/completions?api-version=1",
            body=body,
            headers=(
                "X-Stainless-Lang: python",
                "X-B: 1",
                "x-b: 2",
                "Accept: */*",
                "Accept-Encoding: gzip",
                "TE: trailers",
            ),
        ),
    )
    assert request.start == b"POST /openai/v1/chat/completions?api-version=1 HTTP/1.1"
    assert request.body == body, "bodies pass unchanged"
    assert request.headers == [
        ("host", f"127.0.0.1:{provider.port}"),
        ("authorization", "Bearer sk-provider"),
        ("content-type", "application/json"),
        ("x-stainless-lang", "python"),
        ("x-b", "1"),
        ("x-b", "2"),
        ("accept", "*/*"),
        ("accept-encoding", "gzip"),
        ("content-length", str(len(body))),
    ]
    assert response.status == 200


async def test_the_answer_is_the_providers_and_says_who_let_it_through(client, provider):
    answer = (
        b"HTTP/1.1 429 Slow Down\r\nContent-Type: application/json\r\nretry-after: 3\r\nset-cookie: a\r\nset-cookie: b\r\n"
        b"Portcullis-Revision: 99\r\nportcullis-reason: forged\r\nConnection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n"
        b"Proxy-Authenticate: x\r\nTrailer: X\r\nContent-Length: 2\r\n\r\n{}"
    )
    _, response = await answered(client, provider, post(), answer)
    assert response.start == b"HTTP/1.1 429 Slow Down"
    names = [name for name, _ in response.headers]
    assert names == [
        "content-type", "retry-after", "set-cookie", "set-cookie", "content-length", "portcullis-request-id",
        "portcullis-revision",
    ]  # fmt: skip
    assert response.header("portcullis-revision") == "1"
    assert re.fullmatch(r"req_[0-9a-f]{20}", response.header("portcullis-request-id"))


async def test_request_ids_are_never_the_same(client):
    ids = {(await client.ask(get("/nowhere"))).header("portcullis-request-id") for _ in range(20)}
    assert len(ids) == 20


@pytest.mark.parametrize(
    ("path", "headers", "sent"),
    [
        (MESSAGES, ("x-api-key: pc-alice",), {"x-api-key": "sk-ant-provider", "authorization": None}),
        (MESSAGES, ("Authorization: Bearer pc-alice",), {"x-api-key": "sk-ant-provider", "authorization": None}),
        (MESSAGES, ("Portcullis-Key: pc-alice",), {"x-api-key": "sk-ant-provider", "portcullis-key": None}),
        (MESSAGES, ("Authorization: bearer pc-alice", "X-Api-Key: pc-alice"), {"x-api-key": "sk-ant-provider"}),
        (
            "/compatible/v1/chat/completions",
            ("Authorization: Bearer sk-own", "Portcullis-Key: pc-alice"),
            {"authorization": "Bearer sk-own", "portcullis-key": None},
        ),
    ],
)
async def test_credentials_are_replaced_or_forwarded(client, provider, path, headers, sent):
    model = "claude-fable-5" if path == MESSAGES else "openai/gpt-5.4"
    request, response = await answered(client, provider, post(path, model, key=None, headers=headers))
    assert response.status == 200
    assert {name: request.header(name) for name in sent} == sent


async def test_no_header_of_ours_goes_on(client, provider):
    headers = ("Portcullis-Nationality: US", "Portcullis-Rehearse: x", "PORTCULLIS-X: y")
    request, _ = await answered(client, provider, post(headers=headers))
    assert [name for name, _ in request.headers if name.startswith("portcullis")] == []


async def test_a_stream_is_asked_for_without_compression(client, provider):
    request, _ = await answered(client, provider, post(stream=True, headers=("Accept-Encoding: gzip, br",)))
    assert request.header("accept-encoding") == "identity"


async def test_a_get_has_no_body_and_no_length(client, provider):
    request, _ = await answered(client, provider, get("/openai/v1/models/gpt-5.4"))
    assert request.start == b"GET /openai/v1/models/gpt-5.4 HTTP/1.1"
    assert request.header("content-length") is None


async def test_a_provider_may_be_meant_by_host(client, provider):
    request, _ = await answered(client, provider, post("/v1/models").replace(b"POST", b"GET").split(b"\r\n\r\n")[0].replace(
        b"Host: gate", b"Host: Models.Example").replace(b"Content-Length", b"X-Length") + b"\r\n\r\n")  # fmt: skip
    assert request.start == b"GET /v1/models HTTP/1.1"


async def test_a_host_that_means_a_provider_hides_the_others(client, provider):
    refused = await client.ask(post().replace(b"Host: gate", b"Host: models.example"))
    assert (refused.status, refused.reason) == (404, "operation_not_listed")


# ---------------------------------------------------------------- operation


@pytest.mark.parametrize(
    "request_",
    [
        get("/"), get("/openai"), get("/openai/"), get("/nobody/v1/models"), get("/OPENAI/v1/models"),
        get("/openai/v1/models/"), get("/openai/v1/completions"), get("/anthropic/v1/chat/completions"),
        get("/openai/V1/models"), get("/openai/v1/organization/users"), get("/openai/v1/models").replace(b"GET", b"DELETE"),
        get("/openai/v1/models").replace(b"GET", b"OPTIONS"), get("/openai/v1/models").replace(b"GET", b"PUT"),
    ],
)  # fmt: skip
async def test_what_no_table_lists_is_not_served(client, provider, request_):
    refused = await client.ask(request_)
    assert (refused.status, refused.reason) == (404, "operation_not_listed")
    assert refused.header("connection") is None
    assert provider.connections == 0


# ---------------------------------------------------------------- caller


@pytest.mark.parametrize(
    ("path", "key", "headers"),
    [
        ("/openai/v1/chat/completions", None, ()),
        ("/openai/v1/chat/completions", "nobody", ()),
        ("/openai/v1/chat/completions", None, ("Authorization: Basic pc-alice",)),
        ("/openai/v1/chat/completions", None, ("x-api-key: pc-alice",)),
        ("/openai/v1/chat/completions", None, ("Authorization: Bearer",)),
        ("/openai/v1/chat/completions", None, ("Authorization: Bearer " + "x" * 5000,)),
        ("/openai/v1/chat/completions", "pc-alice", ("Portcullis-Key: pc-bob",)),
        ("/openai/v1/chat/completions", "pc-alice", ("Authorization: Bearer pc-bob",)),
        (MESSAGES, "pc-alice", ("x-api-key: pc-bob",)),
        ("/compatible/v1/chat/completions", "pc-alice", ()),
        ("/openai/v1/chat/completions?api_key=pc-alice", None, ()),
    ],
)
async def test_who_cannot_be_told_is_refused(client, provider, door, path, key, headers):
    refused = await client.ask(post(path, "gpt-5.4", key=key, headers=headers))
    assert (refused.status, refused.reason) == (401, "unauthenticated")
    assert b"pc-" not in refused.body
    assert provider.connections == 0


async def test_redis_is_asked_once_for_a_caller(connect, door):
    for _ in range(3):
        assert (await (await connect(door)).ask(post(model="nobody"))).status == 404
        assert (await (await connect(door)).ask(post(key="stranger"))).status == 401
    assert door.loads == 2


async def test_redis_that_fails_means_not_now(client, door, monkeypatch):
    async def fails(_: str) -> None:
        raise OSError("gone")

    monkeypatch.setattr(door.gate.directory, "_load", fails)
    refused = await client.ask(post())
    assert (refused.status, refused.reason, refused.header("retry-after")) == (503, "policy_stale", "2")


async def test_a_client_that_leaves_while_redis_is_asked(client, door, until, provider):
    door.hold_loads = asyncio.Event()
    client.send(post())
    await until(lambda: door.loads)
    client.reset()
    await until(lambda: not door.gate.connections)
    door.hold_loads.set()
    await until(lambda: door.gate.directory.cached(fingerprint("pc-alice")))
    assert provider.connections == 0


async def test_a_body_that_is_there_before_its_caller_waits(client, door, until, provider):
    door.hold_loads = asyncio.Event()
    client.send(post())
    await until(lambda: door.loads)
    assert provider.connections == 0
    door.hold_loads.set()
    upstream = await provider.accept()
    assert (await upstream.message()).json == {"model": "gpt-5.4"}


async def test_a_key_withdrawn_while_the_body_comes_is_worth_nothing(client, door, provider, until):
    """The caller was known when the head came; the revision that names it comes before the body's end."""
    await client.ask(post(model="nobody"))
    request = post()
    client.send(request[:-5])
    await until(lambda: any(c._begun is not None and c._begun.caller is not None for c in door.gate.connections))
    del door.records[fingerprint("pc-alice")]
    door.apply(callers=("alice",))
    client.send(request[-5:])
    refused = await client.message()
    assert (refused.status, refused.reason) == (401, "unauthenticated")
    assert provider.connections == 0


async def test_a_caller_changed_while_the_body_comes_is_looked_up_anew(client, door, provider, until):
    await client.ask(post(model="nobody"))
    request = post()
    client.send(request[:-5])
    await until(lambda: any(c._begun is not None and c._begun.caller is not None for c in door.gate.connections))
    door.records[fingerprint("pc-alice")] = caller_record("alice-the-second", "pc-alice")
    door.apply(callers="all")
    client.send(request[-5:])
    upstream = await provider.accept()
    await upstream.message()
    upstream.send(OK)
    assert (await client.message()).status == 200
    assert door.lines[-1]["caller"] == "p-alice-the-second"


# ---------------------------------------------------------------- body


@pytest.mark.parametrize(
    ("content_type", "allowed"),
    [
        ("application/json", True), ("application/json; charset=utf-8", True), ("Application/JSON;charset=UTF-8", True),
        ("application/json; charset=utf-16", False), ("application/json; charset=latin-1", False),
        ("text/plain", False), ("application/octet-stream", False), ("multipart/form-data; boundary=x", False),
        ("application/json, text/plain", False), ("application/jsonx", False), ("text/json", False), ("", False),
        (None, False),
    ],
)  # fmt: skip
async def test_a_body_is_json_in_utf_8_or_refused(client, provider, content_type, allowed):
    line = b"" if content_type is None else f"Content-Type: {content_type}\r\n".encode()
    client.send(post().replace(b"Content-Type: application/json\r\n", line))
    if allowed:
        await (await provider.accept()).message()
    else:
        assert (await client.message()).status == 415
        assert provider.connections == 0


@pytest.mark.parametrize(
    "path", ["/openai/v1/models/a%2fb%2fc%2f..", "/openai/v1%2fmodels", "/openai%2Fv1/models", "/nobody/%3a", "/%3A"]
)
async def test_what_is_encoded_in_a_path_is_a_models_or_malformed(client, provider, path):
    refused = await client.ask(get(path))
    assert (refused.status, refused.reason) in ((400, "malformed"), (404, "unknown_model"))
    assert provider.connections == 0


@pytest.mark.parametrize("query", ["model=gpt-5.4", "limit=2&model=gpt-5.4"])
@pytest.mark.parametrize("path", ["/openai/v1/models", "/openai/v1/models/gpt-5.4", "/availability", "/nobody/v1"])
async def test_a_model_in_the_query_is_refused_where_no_operation_takes_it(client, provider, path, query):
    refused = await client.ask(get(f"{path}?{query}"))
    assert refused.status in (400, 404)
    assert provider.connections == 0


async def test_a_model_in_the_query_counts_where_an_operation_takes_it(client, provider):
    refused = await client.ask(get("/openai/v1/chat/completions?model=gpt-none"))
    assert (refused.status, refused.reason) == (404, "unknown_model")
    client.send(get("/openai/v1/chat/completions?model=gpt-5.4"))
    assert b"?model=gpt-5.4 " in (await (await provider.accept()).message()).start


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
async def test_a_compressed_body_is_read_and_goes_on_as_it_is(client, provider, encoding, pack):
    body = pack(json.dumps({"model": "gpt-5.4", "x": "y" * 100}).encode())
    client.send(post(body=body, headers=(f"Content-Encoding: {encoding}",)))
    sent = await (await provider.accept()).message()
    assert sent.body == body
    assert sent.header("content-encoding") == encoding


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_a_body_that_is_not_compressed_as_it_says_is_refused(client, provider, encoding):
    refused = await client.ask(post(headers=(f"Content-Encoding: {encoding}",)))
    assert (refused.status, refused.reason) == (400, "malformed")
    assert provider.connections == 0


@pytest.mark.parametrize("encoding", ["x-gzip", "gzip, gzip", "br", "zstd", "identity, gzip"])
async def test_a_compressed_body_is_refused(client, provider, encoding):
    refused = await client.ask(post(headers=(f"Content-Encoding: {encoding}",)))
    assert (refused.status, refused.reason) == (415, "malformed")
    assert provider.connections == 0


async def test_identity_is_no_compression(client, provider):
    _, response = await answered(client, provider, post(headers=("Content-Encoding: identity",)))
    assert response.status == 200


async def test_a_get_with_a_body_is_refused(client, provider):
    refused = await client.ask(get("/openai/v1/models", "Content-Length: 13") + b'{"model":"K"}')
    assert (refused.status, refused.reason) == (400, "malformed")
    assert provider.connections == 0


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{}", b'{"model":"gpt-5.4","model":"gpt-5.4-mini"}', b'{"model":"gpt-5.4","MODEL":"x"}', b'\xef\xbb\xbf{"model":"gpt-5.4"}',
        b'{"model":"gpt-5.4"}{}', b'{"model":["gpt-5.4"]}', b'{"model":"gpt-5.4 "}', b"[" * 100_000,
    ],
)  # fmt: skip
async def test_a_body_that_is_ambiguous_goes_nowhere(client, provider, body):
    refused = await client.ask(post(body=body))
    assert (refused.status, refused.reason) == (400, "malformed")
    assert refused.header("connection") is None, "the request was read to its end: the connection is sane"
    assert provider.connections == 0


async def test_the_largest_body_allowed_goes_on_in_pieces(open_door, connect, provider):
    body = json.dumps({"model": "gpt-5.4", "x": "y" * 1_000_000}).encode()
    door = await open_door(limits={"body_bytes": len(body)})
    client = await connect(door)
    request, response = await answered(client, provider, post(body=body))
    assert (request.body, response.status) == (body, 200)


# ---------------------------------------------------------------- decision


@pytest.mark.parametrize(
    ("path", "fields", "status", "reason", "model"),
    [
        ("/openai/v1/chat/completions", {"model": "gpt-5.4"}, 403, "model_offline", "gpt-5.4"),
        ("/openai/v1/chat/completions", {"model": "GPT-5.4"}, 403, "model_offline", "gpt-5.4"),
        ("/openai/v1/chat/completions", {"model": "gpt-5.4[1m]"}, 403, "model_offline", "gpt-5.4"),
        ("/openai/v1/chat/completions", {"model": "openai/gpt-5.4"}, 403, "model_offline", "gpt-5.4"),
        ("/openai/v1/chat/completions", {"model": "ft:gpt-5.4:org::1"}, 403, "model_offline", "gpt-5.4"),
        (
            "/openai/v1/chat/completions",
            {"model": "gpt-5.4-mini", "moderation": {"model": "gpt-5.4"}},
            403,
            "model_offline",
            "gpt-5.4",
        ),
        ("/openai/v1/responses", {"model": "gpt-5.4"}, 403, "model_offline", "gpt-5.4"),
        ("/openai/v1/responses", {"input": "hi", "previous_response_id": "r"}, 403, "model_unresolved", None),
        ("/openai/v1/responses", {"model": "gpt-5.4-mini", "tools": [{"model": "gpt-5.4"}]}, 403, "model_offline", "gpt-5.4"),
        ("/openai/v1/completions", {"model": "gpt-5.4"}, 403, "model_offline", "gpt-5.4"),
        ("/openai/v1/embeddings", {"model": "gpt-5.4"}, 403, "model_offline", "gpt-5.4"),
        ("/openai/v1/chat/completions", {"model": "unheard-of"}, 404, "unknown_model", "unheard-of"),
        ("/openai/v1/chat/completions", {"model": "claude-fable-5"}, 403, "model_offline", "claude-fable-5"),
        ("/openai/v1/chat/completions", {"model": "claude-haiku-4-5"}, 404, "unknown_model", "claude-haiku-4-5"),
        (MESSAGES, {"model": "claude-fable-5"}, 403, "model_offline", "claude-fable-5"),
        (MESSAGES, {"model": "claude-fable-latest"}, 403, "model_offline", "claude-fable-5"),
        (MESSAGES, {"model": "claude-haiku-4-5", "fallbacks": [{"model": "claude-fable-5"}]}, 403, "model_offline", "claude-fable-5"),
        (MESSAGES, {"model": "claude-haiku-4-5", "tools": [{"type": "advisor", "model": "claude-fable-5"}]}, 403, "model_offline", "claude-fable-5"),
        (MESSAGES + "/count_tokens", {"model": "claude-fable-5"}, 403, "model_offline", "claude-fable-5"),
    ],
)  # fmt: skip
async def test_what_the_policy_denies_goes_nowhere(client, provider, door, path, fields, status, reason, model):
    door.close_models("gpt-5.4", "claude-fable-5")
    refused = await client.ask(post(path, body=json.dumps(fields).encode()))
    assert (refused.status, refused.reason) == (status, reason)
    assert refused.json["error"]["portcullis"]["model"] == model
    assert provider.connections == 0
    assert (door.lines[0]["decision"], door.lines[0]["reason"]) == ("deny", reason)
    wanted = [row[:3] for row in door.gate.recorder.refused.rows()]
    assert wanted == ([(path.split("/")[1], model, 1)] if reason == "unknown_model" else []), "what catalog drift tells"


async def test_a_refusal_says_what_else_there_is(client, door):
    door.close_models("claude-fable-5", public_message="Off by directive.")
    refused = await client.ask(post(MESSAGES, "claude-fable-5"))
    told = refused.json["error"]["portcullis"]
    assert told["alternatives"] == ["claude-haiku-4-5", "claude-opus-4-5"]
    assert (told["scope"], told["message"], told["contact"]) == ("everyone", "Off by directive.", "help@example.com")
    assert told["request_id"] == refused.header("portcullis-request-id") == refused.header("request-id")
    assert refused.header("portcullis-revision") == "2"


async def test_a_list_shows_what_this_caller_may_use(client, provider):
    _, response = await answered(client, provider, get("/openai/v1/models"), LIST)
    assert [model["id"] for model in response.json["data"]] == ["gpt-5.4"], "not what the catalog lacks"


async def test_a_list_goes_through_empty_while_everything_is_offline(client, provider, door):
    door.close_models("*")
    _, response = await answered(client, provider, get("/openai/v1/models"), LIST)
    assert (response.status, response.json["data"]) == (200, [])


async def test_a_list_that_cannot_be_read_is_not_passed_on(client, provider):
    _, response = await answered(client, provider, get("/openai/v1/models"))
    assert (response.status, response.reason) == (502, "upstream_unreachable")


async def test_before_there_is_a_policy_everything_waits(client, provider, door):
    await client.ask(post(model="nobody"))
    door.gate.snapshot = None
    for request in (post(), get("/openai/v1/models")):
        refused = await client.ask(request)
        assert (refused.status, refused.reason) == (503, "policy_stale")
    assert provider.connections == 0


async def test_without_a_lease_everything_waits(client, provider, door):
    await client.ask(post(model="nobody"))
    door.end_lease()
    for request in (post(), get("/openai/v1/models"), post(model="unheard-of"), post(key="stranger")):
        refused = await client.ask(request)
        assert (refused.status, refused.reason) == (503, "policy_stale")
        assert (refused.header("retry-after"), refused.header("x-should-retry")) == ("2", "true")
    assert provider.connections == 0


async def test_a_strict_model_waits_before_the_others(open_door, connect, provider):
    door = await open_door(policy=document(max_stale={"default": 3600, "controlled": 5}))
    client = await connect(door)
    await client.ask(post(model="nobody"))
    door.replica._renewed_at -= 60
    refused = await client.ask(post(MESSAGES, "claude-fable-5"))
    assert (refused.status, refused.reason) == (503, "policy_stale"), "it is tagged controlled"
    _, response = await answered(client, provider, post(MESSAGES, "claude-haiku-4-5"))
    assert response.status == 200


async def test_the_policy_is_asked_again_when_a_connection_had_to_be_waited_for(
    door, client, provider, until, monkeypatch
):
    pool = door.gate.providers["openai"].pool
    waiting, really_connect = [], pool.connect
    monkeypatch.setattr(pool, "connect", waiting.append)
    client.send(post())
    await until(lambda: waiting)
    door.gate.in_flight.clear()  # as if the sweep had missed it
    door.close_models("gpt-5.4")
    really_connect(waiting.pop())
    refused = await client.message()
    assert refused.reason == "model_offline"
    await (await provider.accept()).close()
    assert provider.peers[0].reader._buffer == b""


# ---------------------------------------------------------------- relay


async def test_a_stream_arrives_event_by_event(client, provider):
    client.send(post(stream=True))
    upstream = await provider.accept()
    await upstream.message()
    upstream.send(STREAM)
    head = await client.head()
    assert (head.status, head.header("transfer-encoding")) == (200, "chunked")
    for number in range(5):
        event = b"data: %d\n\n" % number
        upstream.send(chunked(event))
        assert await client.chunk() == event
    upstream.send(b"0\r\n\r\n")
    assert await client.chunk() == b""
    assert (await client.ask(get("/nowhere"))).status == 404, "the connection goes on"


async def test_trailers_of_the_provider_are_dropped(client, provider):
    answer = (
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
        + chunked(b"x")
        + b"0\r\nX-Late: 1\r\nPortcullis-Revision: 9\r\n\r\n"
    )
    client.send(post())
    upstream = await provider.accept()
    await upstream.message()
    upstream.send(answer)
    head = await client.head()
    assert (await client.chunk(), await client.chunk()) == (b"x", b"")
    assert head.header("x-late") is None
    assert (await client.ask(get("/nowhere"))).status == 404


@pytest.mark.parametrize("status", [204, 304])
async def test_responses_without_a_body(client, provider, status):
    client.send(post())
    upstream = await provider.accept()
    await upstream.message()
    upstream.send(b"HTTP/1.1 %d X\r\n\r\n" % status)
    response = await client.head()
    assert (response.status, response.header("transfer-encoding")) == (status, None)
    assert (await client.ask(get("/nowhere"))).status == 404


@pytest.mark.parametrize("location", ["https://elsewhere.example/", "/openai/v1/models"])
async def test_redirects_are_passed_on_and_not_followed(client, provider, location):
    answer = f"HTTP/1.1 307 Temporary Redirect\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n".encode()
    _, response = await answered(client, provider, post(), answer)
    assert (response.status, response.header("location")) == (307, location)
    assert provider.connections == 1


async def test_a_length_is_no_hop_by_hop_header(client, provider):
    answer = b"HTTP/1.1 200 OK\r\nconnection: content-length\r\ncontent-length: 2\r\n\r\n{}"
    _, response = await answered(client, provider, post(), answer)
    assert (response.header("content-length"), response.body) == ("2", b"{}")


# ---------------------------------------------------------------- back-pressure


async def test_a_slow_client_slows_the_provider_down(open_door, connect, provider, until):
    door = await open_door(limits={"write_buffer": 1000})
    client = await connect(door, receive_buffer=4096, limit=4096)
    client.send(post())
    upstream = await provider.accept()
    await upstream.message()
    size = 20_000_000
    upstream.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size + b"x" * size)
    await until(lambda: any(u._waiting_client for u in door.gate.providers["openai"].pool.open))
    exchange = next(iter(door.gate.in_flight))
    assert exchange.relay.bytes_out < size
    assert len((await client.message()).body) == size


async def test_a_connection_held_back_at_the_end_serves_the_next(open_door, connect, provider, until):
    """The last piece fills the client's buffer, while the provider's connection is already given back."""
    door = await open_door(limits={"write_buffer": 1})
    client = await connect(door, receive_buffer=2304, limit=1024)
    await client.ask(get("/nowhere"))
    sock = next(iter(door.gate.connections)).transport.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2304)
    client.send(post())
    upstream = await provider.accept()
    await upstream.message()
    (connection,) = door.gate.providers["openai"].pool.open
    whole = b"HTTP/1.1 200 OK\r\ncontent-length: 30000\r\n\r\n" + b"x" * 30_000
    connection.get_buffer(-1)[: len(whole)] = whole
    connection.buffer_updated(len(whole))
    assert any(c._writing_paused for c in door.gate.connections)
    other = await connect(door)
    other.send(post())
    await upstream.message()
    upstream.send(OK)
    assert (await other.message()).status == 200
    assert len((await client.message()).body) == 30_000


async def test_a_client_that_takes_nothing_is_cut_in_the_end(open_door, connect, provider, until):
    door = await open_door(limits={"write_buffer": 1000})
    client = await connect(door, receive_buffer=4096, limit=4096)
    client.send(post())
    upstream = await provider.accept()
    await upstream.message()
    upstream.send(b"HTTP/1.1 200 OK\r\ncontent-length: 20000000\r\n\r\n" + b"x" * 20_000_000)
    await until(lambda: any(c._writing_paused for c in door.gate.connections))
    connection = next(iter(door.gate.connections))
    assert connection.deadline < float("inf")
    connection.timed_out()
    assert await client.is_reset()
    assert await upstream.is_reset()


# ---------------------------------------------------------------- record


async def test_one_line_says_what_happened(client, provider, door):
    body = json.dumps({"model": "claude-fable-latest", "stream": True}).encode()
    await answered(client, provider, post(MESSAGES, body=body))
    (line,) = door.lines
    assert line.pop("time") > 1_700_000_000
    assert line.pop("duration_ms") >= line.pop("first_byte_ms") >= 0
    assert line == {
        "event": "request",
        "request_id": line["request_id"],
        "revision": 1,
        "provider": "anthropic",
        "operation": "messages",
        "model": "claude-fable-5",
        "caller": "p-alice",
        "org": None,
        "decision": "permit",
        "reason": None,
        "restriction": None,
        "would_deny": None,
        "order": None,
        "severed": False,
        "stream": True,
        "status": 200,
        "bytes_in": len(body),
        "bytes_out": 2,
    }


async def test_a_refusal_is_recorded_with_its_cause(client, door):
    door.close_models("gpt-5.4")
    await client.ask(post())
    (line,) = door.lines
    assert (line["decision"], line["reason"], line["restriction"], line["status"]) == (
        "deny",
        "model_offline",
        "h-1",
        403,
    )
    assert door.counts["portcullis_blocked_total"] == 1


async def test_logs_hold_neither_keys_nor_names(client, provider, door):
    await answered(client, provider, post(x="my secret prompt"))
    await client.ask(post(key="pc-wrong"))
    text = json.dumps(door.lines)
    for secret in ("pc-alice", "pc-wrong", "sk-provider", "secret prompt", '"alice"', fingerprint("pc-alice")):
        assert secret not in text


async def test_permits_need_not_be_logged_but_refusals_always_are(open_door, connect, provider):
    door = await open_door()
    door.gate.recorder._log_permits = False
    client = await connect(door)
    await answered(client, provider, post())
    assert door.lines == []
    await client.ask(post(model="nobody"))
    assert [line["decision"] for line in door.lines] == ["deny"]


async def test_made_up_models_do_not_make_up_metrics(client, door):
    for number in range(5):
        await client.ask(post(model=f"made-up-{number}"))
    labels = {labels for name, labels, _ in door.gate.counters.samples() if name == "portcullis_requests_total"}
    assert labels == {("openai", "other", "deny", "unknown_model")}


# ---------------------------------------------------------------------- traces

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


async def test_trace_context_goes_on_unchanged_and_stands_in_the_line(client, provider, door):
    headers = (f"traceparent: {TRACEPARENT}", "tracestate: congo=t61rcWkgMzE,rojo=00f067aa0ba902b7")
    client.send(post(headers=headers))
    upstream = await provider.accept()
    message = await upstream.message()
    sent = dict(message.headers)
    assert sent["traceparent"] == TRACEPARENT
    assert sent["tracestate"] == "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7"
    upstream.send(b"HTTP/1.1 204 No Content\r\n\r\n")
    await client.head()
    assert [line["traceparent"] for line in door.lines] == [TRACEPARENT]


@pytest.mark.parametrize(
    "headers",
    [
        (),
        ("traceparent: secret",),
        (f"traceparent: {TRACEPARENT}", f"traceparent: {TRACEPARENT}"),
        ("traceparent: 00-00000000000000000000000000000000-00f067aa0ba902b7-01",),
        (f"traceparent: {TRACEPARENT}-more",),
    ],
)
async def test_what_is_no_trace_context_is_not_in_the_line(client, door, headers):
    door.close_models("gpt-5.4")
    await client.ask(post(headers=headers))
    assert ["traceparent" in line for line in door.lines] == [False]
