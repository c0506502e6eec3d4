"""The Anthropic dialect.

Sources: anthropic-python ``resources/messages``, ``_streaming.py`` (``event: error`` raises ``APIStatusError``),
``_client.py`` (``x-api-key``, or a bearer token).
"""

from typing import Any

import orjson

from gateway.dialects.listing import ListShape
from gateway.dialects.selectors import Selector
from gateway.dialects.table import Dialect, Operation, Problem

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    415: "invalid_request_error",
    431: "invalid_request_error",
    451: "permission_error",
    503: "overloaded_error",
}


def error_body(problem: Problem) -> dict[str, Any]:
    """``{"type": "error", "error": {type, message}, "request_id"}``."""
    return {
        "type": "error",
        "error": {
            "type": _TYPES.get(problem.status, "api_error"),
            "message": problem.message,
            "portcullis": problem.details,
        },
        "request_id": problem.request_id,
    }


def stream_error(problem: Problem) -> bytes:
    """The event that makes the SDK's stream raise ``APIStatusError``."""
    return b"event: error\ndata: " + orjson.dumps(error_body(problem)) + b"\n\n"


_MODELS = (
    Selector(("model",), required=True),
    Selector(("fallbacks", "[]", "model")),
    Selector(("tools", "[]", "model")),
)

ANTHROPIC = Dialect(
    name="anthropic",
    operations=(
        Operation("messages", "POST", "/v1/messages", _MODELS, stream_error=stream_error),
        Operation("messages.count_tokens", "POST", "/v1/messages/count_tokens", _MODELS),
        Operation("models.list", "GET", "/v1/models", invokes=False, listing=ListShape("data", "id", cursors=True)),
        Operation("models.retrieve", "GET", "/v1/models/{model}"),
    ),
    credentials=((b"x-api-key", b""), (b"authorization", b"Bearer ")),
    credential=(b"x-api-key", b""),
    error_body=error_body,
    request_id_header="request-id",
)
