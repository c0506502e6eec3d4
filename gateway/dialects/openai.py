"""The OpenAI dialect, and the same as spoken by others (LiteLLM, vLLM, Mistral, xAI …).

Sources: openai-python ``resources/``, ``_exceptions.py``, ``_streaming.py`` (an ``error`` key in an event's data
raises ``APIError``; on the responses stream, an event of type ``error`` is yielded unless it also has that key).
"""

from typing import Any

import orjson

from gateway.dialects.listing import ListShape
from gateway.dialects.selectors import Selector
from gateway.dialects.table import Dialect, Operation, Problem

MODEL = Selector(("model",), required=True)
MODERATION = Selector(("moderation", "model"))


def error_body(problem: Problem) -> dict[str, Any]:
    """``{"error": {message, type, param, code}}``, as ``APIStatusError`` reads it."""
    return {"error": _error(problem)}


def _error(problem: Problem) -> dict[str, Any]:
    return {
        "message": problem.message,
        "type": _TYPES.get(problem.status, "invalid_request_error"),
        "param": None,
        "code": problem.code,
        "portcullis": problem.details,
    }


_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
    451: "permission_error",
    **dict.fromkeys((500, 502, 503, 504), "server_error"),
}


def chat_error(problem: Problem) -> bytes:
    """The event that makes the SDK's stream raise ``APIError``."""
    return b"data: " + orjson.dumps({"error": _error(problem)}) + b"\n\n"


def responses_error(problem: Problem) -> bytes:
    """``event: error`` of the responses stream; the added ``error`` object makes the SDK raise."""
    event = {
        "type": "error",
        "code": problem.code,
        "message": problem.message,
        "param": None,
        "sequence_number": 0,
        "error": _error(problem),
    }
    return b"event: error\ndata: " + orjson.dumps(event) + b"\n\n"


_OPERATIONS = (
    Operation("chat.completions", "POST", "/v1/chat/completions", (MODEL, MODERATION), stream_error=chat_error),
    Operation(
        "responses",
        "POST",
        "/v1/responses",
        (
            Selector(("model",)),
            MODERATION,
            Selector(("tools", "[]", "model")),
            Selector(("tools", "[]", "svg", "model")),
        ),
        stream_error=responses_error,
    ),
    Operation("completions", "POST", "/v1/completions", (MODEL,), stream_error=chat_error),
    Operation("embeddings", "POST", "/v1/embeddings", (MODEL,), capability="embedding"),
    Operation("models.list", "GET", "/v1/models", invokes=False, listing=ListShape("data", "id")),
    Operation("models.retrieve", "GET", "/v1/models/{model}"),
)

_CREDENTIALS = ((b"authorization", b"Bearer "),)

OPENAI = Dialect(
    name="openai",
    operations=_OPERATIONS,
    credentials=_CREDENTIALS,
    credential=(b"Authorization", b"Bearer "),
    error_body=error_body,
    request_id_header="x-request-id",
)

OPENAI_COMPATIBLE = Dialect(
    name="openai-compatible",
    operations=_OPERATIONS,
    credentials=(*_CREDENTIALS, (b"api-key", b"")),
    credential=(b"Authorization", b"Bearer "),
    error_body=error_body,
    request_id_header="x-request-id",
)
