"""POST …:generateContent, :streamGenerateContent, :countTokens, :embedContent and :batchEmbedContents."""

from collections.abc import Iterator
from hashlib import sha256
from typing import Any

from gateway.simulator import content
from gateway.simulator.dialect import ApiError, Call, Json, Reply, Stream, data_event, json_reply, required_list

DIMENSIONS = 8


def create(call: Call) -> Reply:
    """Answer with a GenerateContentResponse."""
    script = _script(call)
    return json_reply(_response(call, script.whole(), "STOP", script.count))


def stream(call: Call) -> Reply:
    """Answer with a stream of GenerateContentResponse; without ``alt=sse`` with one array of them."""
    script = _script(call)
    if call.query.get("alt") != "sse":
        return json_reply([_response(call, script.whole(), "STOP", script.count)])
    deltas = (data_event(_response(call, piece, None, 1)) for piece in script.pieces())
    return Stream([], deltas, [data_event(_response(call, "", "STOP", script.count))])


def count_tokens(call: Call) -> Reply:
    """Answer with a CountTokensResponse."""
    return json_reply({"totalTokens": content.tokens_in(call.document)})


def embed(call: Call) -> Reply:
    """Answer with an embedding, or with one for each request."""
    document = call.document
    if "requests" in document:
        return json_reply({"embeddings": [_embedding(one) for one in required_list(document, "requests")]})
    return json_reply({"embedding": _embedding(document)})


def _embedding(request: Any) -> Json:
    digest = sha256(repr(request.get("content") if isinstance(request, dict) else request).encode()).digest()
    return {"values": [byte / 255 for byte in digest[:DIMENSIONS]]}


def _script(call: Call) -> content.Script:
    return content.write(_model(call), content.last_user_text(list(_messages(call))), call.behaviour)


def _messages(call: Call) -> Iterator[Json]:
    """The contents as messages; a content without a role is the user's."""
    for one in required_list(call.document, "contents"):
        if not isinstance(one, dict):
            raise ApiError(400, "contents: a list of objects is required")
        yield {"role": one.get("role", "user"), "content": one.get("parts")}


def _model(call: Call) -> str:
    return call.path["model"]


def _response(call: Call, text: str, finish_reason: str | None, tokens: int) -> Json:
    candidate: Json = {"content": {"parts": [{"text": text}], "role": "model"}, "index": 0}
    if finish_reason is not None:
        candidate["finishReason"] = finish_reason
    prompt = content.tokens_in(call.document.get("contents"))
    return {
        "candidates": [candidate],
        "usageMetadata": {
            "promptTokenCount": prompt,
            "candidatesTokenCount": tokens,
            "totalTokenCount": prompt + tokens,
        },
        "modelVersion": _model(call),
        "responseId": call.identifier("r"),
    }
