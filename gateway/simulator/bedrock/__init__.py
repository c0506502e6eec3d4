"""The Bedrock dialect, as botocore's model of bedrock-runtime describes it."""

from collections.abc import Mapping

import orjson

from gateway.simulator.bedrock import converse, invoke, models
from gateway.simulator.dialect import ApiError, Dialect, Operation

_ERRORS = {
    400: "ValidationException",
    401: "UnrecognizedClientException",
    403: "AccessDeniedException",
    404: "ResourceNotFoundException",
    429: "ThrottlingException",
    503: "ServiceUnavailableException",
}


def _credentials(headers: Mapping[str, str]) -> list[str]:
    """The bearer key; of a signature, the id of the key that it is made with."""
    value = headers.get("Authorization")
    if value is None:
        return []
    signed = value.partition("Credential=")[2]
    return [signed.partition("/")[0] if signed else value.removeprefix("Bearer ")]


def _error_body(error: ApiError, _request_id: str) -> bytes:
    return orjson.dumps({"message": error.message})


def _error_headers(error: ApiError) -> dict[str, str]:
    return {"x-amzn-ErrorType": _ERRORS.get(error.status, "InternalServerException")}


_MODEL = "/model/{model:[^/]+}"

BEDROCK = Dialect(
    name="bedrock",
    operations=(
        Operation("POST", f"{_MODEL}/converse", converse.create),
        Operation("POST", f"{_MODEL}/converse-stream", converse.stream),
        Operation("POST", f"{_MODEL}/invoke", invoke.create),
        Operation("POST", f"{_MODEL}/invoke-with-response-stream", invoke.stream),
        Operation("POST", f"{_MODEL}/count-tokens", converse.count_tokens),
        Operation("GET", "/foundation-models", models.list_models),
    ),
    credentials=_credentials,
    error_body=_error_body,
    request_id_header="x-amzn-requestid",
    error_headers=_error_headers,
)
