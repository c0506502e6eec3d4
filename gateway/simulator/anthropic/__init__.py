"""The Anthropic dialect, as the official SDK's types describe it."""

from collections.abc import Mapping

import orjson

from gateway.simulator.anthropic import messages, models
from gateway.simulator.dialect import ApiError, Dialect, Operation

# https://docs.anthropic.com/en/api/errors; any other status is one of the two fallbacks below
_ERROR_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def _credentials(headers: Mapping[str, str]) -> list[str]:
    found = [headers["x-api-key"]] if "x-api-key" in headers else []
    if "Authorization" in headers:
        found.append(headers["Authorization"].removeprefix("Bearer "))
    return found


def _error_body(error: ApiError, request_id: str) -> bytes:
    fallback = "invalid_request_error" if error.status < 500 else "api_error"
    shape = {"type": _ERROR_TYPES.get(error.status, fallback), "message": error.message}
    return orjson.dumps({"type": "error", "error": shape, "request_id": request_id})


ANTHROPIC = Dialect(
    name="anthropic",
    operations=(
        Operation("POST", "/v1/messages", messages.create),
        Operation("POST", "/v1/messages/count_tokens", messages.count_tokens),
        Operation("GET", "/v1/models", models.list_models),
        Operation("GET", "/v1/models/{id:.+}", models.retrieve),
    ),
    credentials=_credentials,
    error_body=_error_body,
    request_id_header="request-id",
)
