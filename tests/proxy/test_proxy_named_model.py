"""A response that says it comes from a denied model is cut where it says so at once."""

import json

import pytest
from proxy_harness import STREAM, chunked, post

from gateway.proxy.relay import named_model


@pytest.mark.parametrize(
    ("start", "name"),
    [
        (b'{"id":"x","model":"gpt-5.4","choices":[]}', "gpt-5.4"),
        (b'data: {"id":"x", "model" : "gpt-5.4-2026","choices":[]}', "gpt-5.4-2026"),
        (b'event: message_start\ndata: {"type":"message_start","message":{"model":"claude-x","content":[]}}', "claude-x"),
        (b'{"id":"x","content":[{"input":{"model":"gpt-5.4"}}],"model":"y"}', None),
        (b'{"text":"say \\"model\\":\\"gpt-5.4\\" twice"}', None),
        (b'{"padding":"' + b"x" * 3000 + b'","model":"gpt-5.4"}', None),
        (b"", None),
    ],
)  # fmt: skip
def test_where_a_model_is_looked_for(start, name):
    assert named_model(start) == name


def answer(model: str) -> bytes:
    body = json.dumps({"id": "x", "model": model, "choices": []}).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


async def test_a_response_of_a_denied_model_is_cut(door, client, provider):
    door.close_models("gpt-5.4")
    client.send(post(model="gpt-5.4-mini"))
    upstream = await provider.accept()
    await upstream.message()
    upstream.send(answer("gpt-5.4"))
    refused = await client.message()
    assert (refused.status, refused.reason) == (403, "model_offline")
    assert door.counts["portcullis_response_model_denied_total"] == 1
    assert door.replica.streams_cut == 0, "no revision cut it"
    assert await upstream.is_reset()


async def test_a_stream_of_a_denied_model_is_cut_after_its_head(door, client, provider):
    door.close_models("gpt-5.4")
    client.send(post(model="gpt-5.4-mini", stream=True))
    upstream = await provider.accept()
    await upstream.message()
    upstream.send(STREAM)
    await client.head()
    upstream.send(chunked(b'data: {"id":"x","model":"gpt-5.4","choices":[]}\n\n'))
    event = await client.chunk()
    assert b"model_offline" in event
    assert b'"choices"' not in event
    assert door.replica.streams_cut == 0, "no revision cut it"


@pytest.mark.parametrize("model", ["gpt-5.4-mini", "gpt-5.4-mini-2026-03-17", "somebody-else"])
async def test_other_names_pass(door, client, provider, model):
    door.close_models("gpt-5.4")
    client.send(post(model="gpt-5.4-mini"))
    upstream = await provider.accept()
    await upstream.message()
    upstream.send(answer(model))
    assert (await client.message()).json["model"] == model
