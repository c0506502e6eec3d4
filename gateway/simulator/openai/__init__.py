"""The OpenAI dialect, as the official SDK's types describe it."""

from collections.abc import Mapping

import orjson

from gateway.simulator.dialect import ApiError, Dialect, Operation
from gateway.simulator.openai import chat, completions, embeddings, models, responses, stored

# (type, code) by status; https://platform.openai.com/docs/guides/error-codes
_ERRORS = {
    401: ("invalid_request_error", "invalid_api_key"),
    403: ("request_forbidden", None),
    429: ("requests", "rate_limit_exceeded"),
}

_KEPT = ("responses", "files", "batches", "assistants", "threads")


def _credentials(headers: Mapping[str, str]) -> list[str]:
    value = headers.get("Authorization")
    return [] if value is None else [value.removeprefix("Bearer ")]


def _error_body(error: ApiError, _request_id: str) -> bytes:
    fallback = "invalid_request_error" if error.status < 500 else "server_error"
    kind, code = _ERRORS.get(error.status, (fallback, None))
    shape = {"message": error.message, "type": kind, "param": error.param, "code": error.code or code}
    return orjson.dumps({"error": shape})


OPENAI = Dialect(
    name="openai",
    operations=(
        Operation("POST", "/v1/chat/completions", chat.create),
        Operation("POST", "/v1/responses", responses.create),
        Operation("POST", "/v1/completions", completions.create),
        Operation("POST", "/v1/embeddings", embeddings.create),
        Operation("GET", "/v1/models", models.list_models),
        Operation("GET", "/v1/models/{id:.+}", models.retrieve),
        *(Operation("GET", f"/v1/{kind}/{{id}}", stored.retrieve) for kind in _KEPT),
        *(Operation("DELETE", f"/v1/{kind}/{{id}}", stored.delete) for kind in _KEPT),
        Operation("POST", "/v1/files", stored.create_file),
        Operation("GET", "/v1/files/{id}/content", stored.file_content),
        Operation("POST", "/v1/batches", stored.create_batch),
        Operation("POST", "/v1/assistants", stored.create_assistant),
        Operation("POST", "/v1/assistants/{id}", stored.update),
        Operation("POST", "/v1/threads", stored.create_thread),
        Operation("POST", "/v1/threads/{thread}/runs", stored.create_run),
        Operation("GET", "/v1/threads/{thread}/messages", stored.messages),
        Operation("POST", "/v1/uploads/{id}/parts", stored.add_part),
    ),
    credentials=_credentials,
    error_body=_error_body,
    request_id_header="x-request-id",
)
