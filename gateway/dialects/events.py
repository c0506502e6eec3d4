"""Errors in OpenAI's shapes, as bodies and as the last event of a stream.

Sources: openai-python ``_exceptions.py``, ``_streaming.py`` (an ``error`` key in an event's data raises ``APIError``;
on the responses stream, an event of type ``error`` is yielded unless it also has that key).
"""

from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from gateway.dialects.table import Problem

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
    451: "permission_error",
    **dict.fromkeys((500, 502, 503, 504), "server_error"),
}


def error_body(problem: "Problem") -> dict[str, Any]:
    """``{"error": {message, type, param, code}}``, as ``APIStatusError`` reads it."""
    return {"error": _error(problem)}


def _error(problem: "Problem") -> dict[str, Any]:
    return {
        "message": problem.message,
        "type": _TYPES.get(problem.status, "invalid_request_error"),
        "param": None,
        "code": problem.code,
        "portcullis": problem.details,
    }


def chat_error(problem: "Problem") -> bytes:
    """The event that makes the SDK's stream raise ``APIError``."""
    return b"data: " + orjson.dumps({"error": _error(problem)}) + b"\n\n"


def responses_error(problem: "Problem") -> bytes:
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
