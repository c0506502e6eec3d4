"""The Gemini dialect, as the official SDK's types describe it."""

from collections.abc import Mapping

import orjson

from gateway.simulator.dialect import ApiError, Dialect, Operation
from gateway.simulator.gemini import generate, models

# google.rpc.Code by status; https://ai.google.dev/gemini-api/docs/troubleshooting
_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


def _credentials(headers: Mapping[str, str]) -> list[str]:
    found = [headers["x-goog-api-key"]] if "x-goog-api-key" in headers else []
    if "Authorization" in headers:
        found.append(headers["Authorization"].removeprefix("Bearer "))
    return found


def _error_body(error: ApiError, _request_id: str) -> bytes:
    status = _STATUSES.get(error.status, "INTERNAL")
    return orjson.dumps({"error": {"code": error.status, "message": error.message, "status": status}})


_MODEL = "/{version:v1|v1beta}/{kind:models|tunedModels}/{model:[^/:]+}"

GEMINI = Dialect(
    name="gemini",
    operations=(
        Operation("POST", f"{_MODEL}:generateContent", generate.create),
        Operation("POST", f"{_MODEL}:streamGenerateContent", generate.stream),
        Operation("POST", f"{_MODEL}:countTokens", generate.count_tokens),
        Operation("POST", f"{_MODEL}:embedContent", generate.embed),
        Operation("POST", f"{_MODEL}:batchEmbedContents", generate.embed),
        Operation("GET", "/{version:v1|v1beta}/models", models.list_models),
        Operation("GET", "/{version:v1|v1beta}/models/{id}", models.retrieve),
    ),
    credentials=_credentials,
    error_body=_error_body,
    request_id_header="x-request-id",
)
