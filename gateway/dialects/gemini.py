"""The Gemini dialect (Google AI), and Vertex AI's.

Sources: google-genai 3.4 ``models.py``, ``batches.py``, ``caches.py``, ``errors.py`` (``error.code``, ``.message``,
``.status``), ``_api_client.py`` (a stream's chunk with ``error`` raises; ``x-goog-api-key``); the discovery documents
of generativelanguage and aiplatform. proto3 JSON takes ``generate_content_request`` for ``generateContentRequest``.
"""

from typing import Any

import orjson

from gateway.dialects.anthropic import FALLBACK, MORE
from gateway.dialects.events import chat_error
from gateway.dialects.listing import ListShape
from gateway.dialects.messages import MessageReader, Talk
from gateway.dialects.openai_operations import creates, deletes, lists, plain, stored, uses
from gateway.dialects.query_keys import QueryKeys
from gateway.dialects.selectors import BodyReader, Implied, Selector
from gateway.dialects.table import ANY, Dialect, Operation, Problem

_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    413: "INVALID_ARGUMENT",
    415: "INVALID_ARGUMENT",
    431: "INVALID_ARGUMENT",
    451: "PERMISSION_DENIED",
    500: "INTERNAL",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


def error_body(problem: Problem) -> dict[str, Any]:
    """``{"error": {code, message, status}}``, code being the number of the HTTP status."""
    return {
        "error": {
            "code": problem.status,
            "message": problem.message,
            "status": _STATUSES.get(problem.status, "UNKNOWN"),
            "portcullis": problem.details,
        }
    }


def stream_error(problem: Problem) -> bytes:
    """The event that makes the SDK's stream raise ``ClientError``."""
    return b"data: " + orjson.dumps(error_body(problem)) + b"\n\n"


def socket_event(problem: Problem) -> bytes:
    """The last message of a WebSocket: the SDK raises ``ClientError`` by a ``code`` that stands outside, too."""
    return orjson.dumps({"code": problem.status, **error_body(problem)})


_NOTHING = BodyReader(())
_LIVE = Talk(
    MessageReader(
        {
            "setup": BodyReader((Selector(("setup", "model"), absent=ANY),)),
            **dict.fromkeys(
                ("clientContent", "client_content", "realtimeInput", "realtime_input", "toolResponse", "tool_response"),
                _NOTHING,
            ),
        }
    ),
    socket_event,
    answers_first=True,
)
"""The Live API (google-genai 3.4 ``live.py``): the first message names the model; proto3 JSON takes both spellings."""

_SAME = Selector(("model",))
_COUNTED = tuple(Selector((key, "model")) for key in ("generateContentRequest", "generate_content_request"))
_EACH = (Selector(("requests", "[]", "model")), Selector(("requests", "[]", "request", "model")))
_TUNED = tuple(
    Selector(path)
    for path in (
        ("baseModel",), ("base_model",), ("tunedModelSource", "tunedModel"), ("tuned_model_source", "tuned_model"),
        ("tunedModelSource", "baseModel"), ("tuned_model_source", "base_model"),
    )
)  # fmt: skip
_CACHED = (uses("cached_content", "cachedContent"), uses("cached_content", "cached_content"))
_VERSIONS = ("v1beta", "v1")
_TOKENS = frozenset(("access_token", "oauth_token"))
"""System parameters of Google's APIs that hold a credential, beside ``key``."""


def _verbs(version: str, models: str, prefix: str) -> list[Operation]:
    """The operations on one model, named by the path."""
    path = f"/{version}/{models}/{{model}}"
    name = f"{version}.{models}"
    tuned = (uses("model"),) if prefix else ()
    return [
        Operation(f"{name}.generateContent", "POST", f"{path}:generateContent", (_SAME,), prefix=prefix,
                  kept=(*_CACHED, *tuned)),
        Operation(f"{name}.streamGenerateContent", "POST", f"{path}:streamGenerateContent", (_SAME,), prefix=prefix,
                  streams=True, stream_error=stream_error, kept=(*_CACHED, *tuned)),
        Operation(f"{name}.countTokens", "POST", f"{path}:countTokens", (_SAME, *_COUNTED), prefix=prefix, kept=tuned),
        Operation(f"{name}.embedContent", "POST", f"{path}:embedContent", (_SAME,), prefix=prefix, kept=tuned),
        Operation(f"{name}.batchEmbedContents", "POST", f"{path}:batchEmbedContents", (_SAME, *_EACH), prefix=prefix,
                  batch=True),
        Operation(f"{name}.predict", "POST", f"{path}:predict", (_SAME,), prefix=prefix, kept=tuned),
        Operation(f"{name}.predictLongRunning", "POST", f"{path}:predictLongRunning", (_SAME,), prefix=prefix,
                  kept=(creates("operation", "name"), *tuned)),
        Operation(f"{name}.batchGenerateContent", "POST", f"{path}:batchGenerateContent", (_SAME,), prefix=prefix,
                  candidates=ANY, kept=(creates("batch", "name"),)),
        Operation(f"{name}.asyncBatchEmbedContent", "POST", f"{path}:asyncBatchEmbedContent", (_SAME,), prefix=prefix,
                  candidates=ANY, kept=(creates("batch", "name"),)),
        Operation(f"{name}.get", "GET", path, prefix=prefix),
        Operation(f"{name}.operations.get", "GET", f"{path}/operations/{{operation}}", prefix=prefix,
                  kept=(uses("operation"),)),
    ]  # fmt: skip


def _version(version: str) -> list[Operation]:
    """The operations of one version of the API."""
    cached, operation, batch = (f"/{version}/{name}" for name in ("cachedContents", "operations", "batches"))
    return [
        *_verbs(version, "models", ""),
        *_verbs(version, "tunedModels", "tunedModels/"),
        Operation(f"{version}.models.list", "GET", f"/{version}/models", invokes=False,
                  listing=ListShape("models", "name")),
        Operation(f"{version}.tunedModels.list", "GET", f"/{version}/tunedModels", invokes=False,
                  listing=ListShape("tunedModels", "name")),
        Operation(f"{version}.tunedModels.create", "POST", f"/{version}/tunedModels", _TUNED, candidates=ANY,
                  kept=(creates("model", "metadata.tunedModel"), creates("operation", "name"))),
        Operation(f"{version}.tunedModels.delete", "DELETE", f"/{version}/tunedModels/{{model}}",
                  prefix="tunedModels/"),
        Operation(f"{version}.cachedContents.create", "POST", cached, (Selector(("model",), required=True),),
                  kept=(creates("cached_content", "name"),)),
        plain(f"{version}.cachedContents.list", "GET", cached, lists("cached_content")),
        plain(f"{version}.cachedContents.get", "GET", f"{cached}/{{cached_content}}", uses("cached_content")),
        plain(f"{version}.cachedContents.patch", "PATCH", f"{cached}/{{cached_content}}", uses("cached_content")),
        plain(f"{version}.cachedContents.delete", "DELETE", f"{cached}/{{cached_content}}", deletes("cached_content")),
        stored(f"{version}.operations.get", f"{operation}/{{operation}}", uses("operation")),
        plain(f"{version}.batches.list", "GET", batch, lists("batch")),
        stored(f"{version}.batches.get", f"{batch}/{{batch}}", uses("batch")),
        plain(f"{version}.batches.cancel", "POST", f"{batch}/{{batch}}:cancel", uses("batch")),
        plain(f"{version}.batches.delete", "DELETE", f"{batch}/{{batch}}", deletes("batch")),
        plain(f"{version}.files.list", "GET", f"/{version}/files", lists("file")),
        plain(f"{version}.files.get", "GET", f"/{version}/files/{{file}}", uses("file")),
        plain(f"{version}.files.delete", "DELETE", f"/{version}/files/{{file}}", deletes("file")),
        Operation(f"{version}.interactions.create", "POST", f"/{version}/interactions",
                  (Selector(("model",), absent=ANY),), stream_error=stream_error, kept=(creates("interaction"),)),
        stored(f"{version}.interactions.get", f"/{version}/interactions/{{interaction}}", uses("interaction")),
        plain(f"{version}.interactions.cancel", "POST", f"/{version}/interactions/{{interaction}}/cancel",
              uses("interaction")),
        plain(f"{version}.interactions.delete", "DELETE", f"/{version}/interactions/{{interaction}}",
              deletes("interaction")),
    ]  # fmt: skip


_MODEL = Selector(("model",), required=True)
_COMPAT = (
    Operation("openai.chat.completions", "POST", "/v1beta/openai/chat/completions", (_MODEL,), stream_error=chat_error),
    Operation("openai.embeddings", "POST", "/v1beta/openai/embeddings", (_MODEL,)),
    Operation("openai.images", "POST", "/v1beta/openai/images/generations", (_MODEL,)),
    Operation("openai.models.list", "GET", "/v1beta/openai/models", invokes=False, listing=ListShape("data", "id")),
    Operation("openai.models.retrieve", "GET", "/v1beta/openai/models/{model}"),
)

GEMINI = Dialect(
    name="gemini",
    operations=(
        *(operation for version in _VERSIONS for operation in _version(version)),
        *_COMPAT,
        *(
            Operation(
                f"{version}.live",
                "GET",
                f"/ws/google.ai.generativelanguage.{version}.GenerativeService.BidiGenerateContent",
                invokes=False,
                talk=_LIVE,
            )
            for version in ("v1alpha", *_VERSIONS)
        ),
    ),
    credentials=((b"x-goog-api-key", b""), (b"authorization", b"Bearer ")),
    credential=(b"x-goog-api-key", b""),
    error_body=error_body,
    request_id_header="x-request-id",
    query_keys=QueryKeys(taken="key", refused=_TOKENS),
    not_served=(
        (r"\w+ /v1beta/(upload/.*|files:register)|\w+ /upload/.*", "uploads go on at an address outside the gateway"),
        (
            r"\w+ /v1beta/(agents|triggers|environments|credentials|webhooks|voices|decisions).*",
            "agents of the provider",
        ),
        (
            r"\w+ /v1beta/(fileSearchStores|corpora|auth_tokens|tuningJobs|batchPredictionJobs).*",
            "no one's model is named",
        ),
        (r"\w+ /v1beta/models/\{\}:(computeTokens|bidiGenerateContent)", "of Vertex, or a WebSocket"),
        (r"GET /ws/.*BidiGenerateContentConstrained", "its ephemeral token names the model, and is minted elsewhere"),
    ),
    source="google-genai 3.4",
)

# ------------------------------------------------------------------------------------------------------- Vertex AI

_PLACE = "projects/{project}/locations/{location}"
_ROUTING = tuple(
    Selector(path)
    for path in (
        ("routingConfig", "manualMode", "modelName"), ("routing_config", "manual_mode", "model_name"),
        ("generationConfig", "routingConfig", "manualMode", "modelName"),
        ("generation_config", "routing_config", "manual_mode", "model_name"),
    )
)  # fmt: skip
_AUTOMATIC = tuple(
    Implied(path, "", ANY)
    for path in (
        ("routingConfig", "autoMode"), ("routing_config", "auto_mode"),
        ("generationConfig", "routingConfig", "autoMode"), ("generation_config", "routing_config", "auto_mode"),
        ("modelSelectionConfig",), ("model_selection_config",),
        ("generationConfig", "modelSelectionConfig"), ("generation_config", "model_selection_config"),
    )
)  # fmt: skip


def _vertex(version: str) -> list[Operation]:
    """The operations of one version of Vertex AI."""
    published = f"/{version}/{_PLACE}/publishers/{{publisher}}/models"
    counting = f"/{version}/{_PLACE}/publishers/anthropic/models/count-tokens:rawPredict"
    endpoint = f"/{version}/{_PLACE}/endpoints"
    rows = [
        Operation(f"{version}.count-tokens", "POST", counting, (_MODEL, *MORE), implied=(FALLBACK,)),
        Operation(f"{version}.openapi.chat.completions", "POST", f"{endpoint}/openapi/chat/completions", (_MODEL,),
                  stream_error=chat_error),
    ]  # fmt: skip
    for verb in (
        "generateContent", "streamGenerateContent", "countTokens", "computeTokens", "predict", "predictLongRunning",
        "fetchPredictOperation", "rawPredict", "streamRawPredict", "serverStreamingPredict", "embedContent",
    ):  # fmt: skip
        streams = verb.lower().startswith(("stream", "serverstream"))
        for path, prefix in ((f"{published}/{{model}}", ""), (f"{endpoint}/{{model}}", "endpoints/")):
            where = "endpoints" if prefix else "publishers"
            rows.append(
                Operation(
                    f"{version}.{where}.{verb}",
                    "POST",
                    f"{path}:{verb}",
                    (_SAME, *_COUNTED, *_ROUTING, *MORE),
                    implied=(*_AUTOMATIC, FALLBACK),
                    also=True,
                    prefix=prefix,
                    streams=streams,
                    stream_error=stream_error if streams else None,
                )
            )
    rows.append(Operation(f"{version}.publishers.get", "GET", f"{published}/{{model}}"))
    return rows


VERTEX = Dialect(
    name="vertex",
    operations=(
        *(operation for version in ("v1", "v1beta1") for operation in _vertex(version)),
        *(
            Operation(
                f"{version}.live",
                "GET",
                f"/ws/google.cloud.aiplatform.{version}.LlmBidiService/BidiGenerateContent",
                invokes=False,
                talk=_LIVE,
            )
            for version in ("v1", "v1beta1")
        ),
    ),
    credentials=((b"authorization", b"Bearer "), (b"x-goog-api-key", b"")),
    credential=(b"authorization", b"Bearer "),
    error_body=error_body,
    request_id_header="x-request-id",
    query_keys=QueryKeys(refused=_TOKENS | {"key"}),
    source="google-genai 3.4 with vertexai=True, anthropic-python 2.12 lib/vertex",
)
