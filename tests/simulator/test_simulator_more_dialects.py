"""Gemini and Bedrock as their clients expect them: shapes, streams, errors, keys."""

import base64
import json

import pytest
from botocore.eventstream import EventStreamBuffer

from gateway.simulator import SimulatorConfig

FLASH = "/gemini/v1beta/models/gemini-3-flash"
OPUS = "/bedrock/model/anthropic.claude-opus-4-5-20251101-v1%3A0"
ASKED = {"contents": [{"parts": [{"text": "Hi"}]}]}
TURN = {"messages": [{"role": "user", "content": [{"text": "Hi"}]}]}


def frames(data: bytes) -> list[tuple[str, dict]]:
    buffer = EventStreamBuffer()
    buffer.add_data(data)
    return [(one.headers[":event-type"], json.loads(one.payload)) for one in buffer]


async def test_gemini_answers_and_streams_the_same_words(http):
    async with http.post(f"{FLASH}:generateContent", json=ASKED) as answer:
        whole = await answer.json()
    async with http.post(f"{FLASH}:streamGenerateContent?alt=sse", json=ASKED) as answer:
        assert answer.content_type == "text/event-stream"
        events = [json.loads(line[6:]) for line in (await answer.text()).splitlines() if line]
    text = "".join(part["text"] for event in events for part in event["candidates"][0]["content"]["parts"])
    assert text == whole["candidates"][0]["content"]["parts"][0]["text"]
    assert whole["modelVersion"] == "gemini-3-flash"
    assert events[-1]["candidates"][0]["finishReason"] == "STOP"
    async with http.post(f"{FLASH}:streamGenerateContent", json=ASKED) as answer:
        assert isinstance(await answer.json(), list), "without alt=sse it is one array"


async def test_gemini_lists_and_embeds(http):
    async with http.get("/gemini/v1beta/models") as answer:
        assert [one["name"] for one in (await answer.json())["models"]] == [
            "models/gemini-3-pro",
            "models/gemini-3-flash",
        ]
    async with http.post(f"{FLASH}:batchEmbedContents", json={"requests": [{"content": 1}, {"content": 2}]}) as answer:
        first, second = (await answer.json())["embeddings"]
    assert first != second


async def test_bedrock_streams_frames_that_botocore_reads(http):
    async with http.post(f"{OPUS}/converse", json=TURN) as answer:
        whole = await answer.json()
    async with http.post(f"{OPUS}/converse-stream", json=TURN) as answer:
        assert answer.content_type == "application/vnd.amazon.eventstream"
        events = frames(await answer.read())
    assert [events[0][0], *(kind for kind, _ in events[-3:])] == [
        "messageStart",
        "contentBlockStop",
        "messageStop",
        "metadata",
    ]
    text = "".join(event["delta"]["text"] for kind, event in events if kind == "contentBlockDelta")
    assert text == whole["output"]["message"]["content"][0]["text"]


async def test_bedrock_wraps_a_models_own_events(http):
    async with http.post(
        f"{OPUS}/invoke-with-response-stream", json={"messages": [{"role": "user", "content": "Hi"}]}
    ) as answer:
        events = frames(await answer.read())
    inner = [json.loads(base64.b64decode(event["bytes"]))["type"] for _, event in events]
    assert (inner[0], inner[-1]) == ("message_start", "message_stop")


@pytest.mark.parametrize(
    ("path", "body", "status", "shape"),
    [
        (f"{FLASH}:generateContent", {}, 400, {"status": "INVALID_ARGUMENT"}),
        ("/gemini/v1beta/nothing", {}, 404, {"status": "NOT_FOUND"}),
        (f"{OPUS}/converse", {}, 400, {"x-amzn-ErrorType": "ValidationException"}),
        ("/bedrock/nothing", {}, 404, {"x-amzn-ErrorType": "ResourceNotFoundException"}),
    ],
)
async def test_errors_have_the_dialects_shape(http, path, body, status, shape):
    async with http.post(path, json=body) as answer:
        assert answer.status == status
        document = await answer.json()
        for key, value in shape.items():
            assert (document["error"][key] if "error" in document else answer.headers[key]) == value


@pytest.fixture
def config() -> SimulatorConfig:
    return SimulatorConfig(
        require_key={"vault": "k"}, providers={"vault": "bedrock", "gemini": "gemini", "bedrock": "bedrock"}
    )


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        ("Bearer k", 400), ("Bearer other", 401), ("AWS4-HMAC-SHA256 Credential=k/20261124/us-east-1/bedrock/aws4_request", 400),
        ("AWS4-HMAC-SHA256 Credential=other/20261124/us-east-1/bedrock/aws4_request", 401),
    ],
)  # fmt: skip
async def test_bedrock_knows_a_bearer_key_or_the_key_of_a_signature(http, authorization, status):
    async with http.post("/vault/model/m/converse", json={}, headers={"Authorization": authorization}) as answer:
        assert answer.status == status
