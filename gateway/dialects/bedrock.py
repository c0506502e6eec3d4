"""The Bedrock dialect: model ids in the path, errors by header, streams as binary frames.

Sources: botocore 1.44 ``data/bedrock-runtime``; ``parsers.py`` (the code of an error is ``x-amzn-errortype``; in a
stream, of one that the operation does not declare, ``:error-code``); ``eventstream.py`` (a frame is prelude, headers,
payload and two CRC-32; ``:message-type: error`` raises ``EventStreamError``). ``invoke_model`` sends no Content-Type.
"""

import struct
from typing import Any
from zlib import crc32

import orjson

from gateway.dialects.anthropic import FALLBACK, MORE
from gateway.dialects.events import chat_error
from gateway.dialects.listing import ListShape
from gateway.dialects.openai_operations import creates, lists, plain, stored, uses
from gateway.dialects.selectors import Selector
from gateway.dialects.table import ANY, Dialect, Operation, Problem

_CODES = {
    400: "ValidationException",
    401: "UnrecognizedClientException",
    403: "AccessDeniedException",
    404: "ResourceNotFoundException",
    413: "ValidationException",
    415: "ValidationException",
    431: "ValidationException",
    451: "AccessDeniedException",
    500: "InternalServerException",
    503: "ServiceUnavailableException",
    504: "ModelTimeoutException",
}


def error_body(problem: Problem) -> dict[str, Any]:
    """``{"message"}``; the code is in a header."""
    return {"message": problem.message, "portcullis": problem.details}


def error_headers(problem: Problem) -> tuple[tuple[str, str], ...]:
    """The exception's name, from which the SDK makes its class."""
    return (("x-amzn-ErrorType", _code(problem)),)


def _code(problem: Problem) -> str:
    return _CODES.get(problem.status, "ServiceUnavailableException")


def stream_error(problem: Problem) -> bytes:
    """The frame that makes the SDK's stream raise ``EventStreamError``."""
    headers = {
        ":message-type": "error",
        ":error-code": _code(problem),
        ":error-message": problem.message,
        ":content-type": "application/json",
    }
    return frame(headers, orjson.dumps(error_body(problem)))


def frame(headers: dict[str, str], payload: bytes) -> bytes:
    """One message of an event stream (application/vnd.amazon.eventstream)."""
    head = b"".join(
        struct.pack("!B", len(name)) + name.encode() + struct.pack("!BH", 7, len(value.encode())) + value.encode()
        for name, value in headers.items()
    )
    prelude = struct.pack("!II", 16 + len(head) + len(payload), len(head))
    message = prelude + struct.pack("!I", crc32(prelude)) + head + payload
    return message + struct.pack("!I", crc32(message))


_MODEL = "/model/{model}"
_BODY = (Selector(("modelId",), required=True),)

BEDROCK = Dialect(
    name="bedrock",
    operations=(
        Operation("converse", "POST", f"{_MODEL}/converse"),
        Operation(
            "converse-stream", "POST", f"{_MODEL}/converse-stream", streams=True, framed=True, stream_error=stream_error
        ),
        Operation("invoke", "POST", f"{_MODEL}/invoke", MORE, also=True, untyped=True, implied=(FALLBACK,)),
        Operation(
            "invoke-with-response-stream", "POST", f"{_MODEL}/invoke-with-response-stream", MORE, also=True,
            untyped=True, implied=(FALLBACK,), streams=True, framed=True, stream_error=stream_error,
        ),
        Operation("count-tokens", "POST", f"{_MODEL}/count-tokens"),
        Operation("async-invoke.start", "POST", "/async-invoke", _BODY, kept=(creates("invocation", "invocationArn"),)),
        plain("async-invoke.list", "GET", "/async-invoke", lists("invocation")),
        stored("async-invoke.get", "/async-invoke/{invocation}", uses("invocation"), candidates=ANY),
        plain("guardrail.apply", "POST", "/guardrail/{guardrail}/version/{version}/apply"),
        plain("guardrail-checks.invoke", "POST", "/guardrail-checks/invoke"),
        Operation(
            "openai.chat.completions", "POST", "/openai/v1/chat/completions", (Selector(("model",), required=True),),
            stream_error=chat_error,
        ),
        Operation(
            "foundation-models.list", "GET", "/foundation-models", invokes=False,
            listing=ListShape("modelSummaries", "modelId"),
        ),
        Operation(
            "inference-profiles.list", "GET", "/inference-profiles", invokes=False,
            listing=ListShape("inferenceProfileSummaries", "inferenceProfileId"),
        ),
    ),
    credentials=((b"authorization", b"Bearer "),),
    credential=(b"Authorization", b"Bearer "),
    error_body=error_body,
    request_id_header="x-amzn-requestid",
    error_headers=error_headers,
    not_served=(
        (r"POST /model/\{\}/invoke-with-bidirectional-stream", "HTTP/2 only"),
    ),
    source="botocore 1.44, bedrock-runtime 2023-09-30",
)  # fmt: skip
