"""The Anthropic dialect.

Sources: anthropic-python 2.12 ``resources/``, ``types/beta/*_param*.py``, ``_streaming.py`` (``event: error`` raises
``APIStatusError``), ``_client.py`` (``x-api-key``, or a bearer token).
"""

from typing import Any

import orjson

from gateway.dialects.listing import ListShape
from gateway.dialects.openai_operations import changes, creates, deletes, lists, looked_after, plain, stored, uses
from gateway.dialects.selectors import Implied, Selector
from gateway.dialects.table import Dialect, Kind, Operation, Problem

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    415: "invalid_request_error",
    431: "invalid_request_error",
    451: "permission_error",
}
"""Of a 503, too, none but ``api_error``: for ``overloaded_error`` Claude Code shows words of its own, about a 529."""


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


MORE = (Selector(("fallbacks", "[]", "model")), Selector(("tools", "[]", "model")))
"""What a message may name beside its model: fallbacks, and the advisor tool's."""

FALLBACK = Implied(("fallbacks",), "default", "chat")
"""The model's own fallbacks, which no request names."""

_MODELS = (Selector(("model",), required=True), *MORE)
_PARAMS = ("requests", "[]", "params")
_BATCHED = (Selector((*_PARAMS, "model"), required=True), *(Selector((*_PARAMS, *s.path)) for s in MORE))
_ROSTER = (
    Selector(("multiagent", "agents", "[]", "model"), or_key="id"),
    Selector(("multiagent", "advisor", "model"), or_key="id"),
    Selector(("multiagent", "predefined_agents", "[]", "model"), or_key="id"),
)
_AGENT = (Selector(("model",), required=True, or_key="id"), *_ROSTER)
_OVERRIDES = (Selector(("agent", "model"), or_key="id"),)

_BATCHES = (
    Operation(
        "messages.batches.create", "POST", "/v1/messages/batches", _BATCHED, batch=True, kept=(creates("batch"),),
        implied=(Implied((*_PARAMS, "fallbacks"), "default", "chat"),),
    ),
    plain("messages.batches.list", "GET", "/v1/messages/batches", lists("batch")),
    plain("messages.batches.retrieve", "GET", "/v1/messages/batches/{batch}", uses("batch")),
    plain("messages.batches.cancel", "POST", "/v1/messages/batches/{batch}/cancel", uses("batch")),
    plain("messages.batches.delete", "DELETE", "/v1/messages/batches/{batch}", deletes("batch")),
    stored("messages.batches.results", "/v1/messages/batches/{batch}/results", uses("batch"), candidates="chat"),
)  # fmt: skip
_FILES = (
    plain("files.create", "POST", "/v1/files", creates("file"), body=Kind.OPAQUE),
    plain("files.list", "GET", "/v1/files", lists("file")),
    plain("files.retrieve", "GET", "/v1/files/{file}", uses("file")),
    plain("files.delete", "DELETE", "/v1/files/{file}", deletes("file")),
    stored("files.content", "/v1/files/{file}/content", uses("file")),
)
_AGENTS = (
    plain("agents.list", "GET", "/v1/agents", lists("agent")),
    Operation("agents.create", "POST", "/v1/agents", _AGENT, kept=(creates("agent"),)),
    plain("agents.retrieve", "GET", "/v1/agents/{agent}", uses("agent")),
    Operation(
        "agents.update", "POST", "/v1/agents/{agent}", (Selector(("model",), or_key="id"), *_ROSTER), invokes=False,
        kept=(changes("agent"),),
    ),
    plain("agents.versions", "GET", "/v1/agents/{agent}/versions", uses("agent")),
    plain("agents.archive", "POST", "/v1/agents/{agent}/archive", deletes("agent")),
)  # fmt: skip
_SESSIONS = (
    plain("sessions.list", "GET", "/v1/sessions", lists("session")),
    Operation(
        "sessions.create", "POST", "/v1/sessions", _OVERRIDES, candidates="chat",
        kept=(creates("session"), uses("agent", "agent")),
    ),
    plain("sessions.retrieve", "GET", "/v1/sessions/{session}", uses("session")),
    Operation(
        "sessions.update", "POST", "/v1/sessions/{session}", _OVERRIDES, candidates="chat", kept=(changes("session"),)
    ),
    plain("sessions.delete", "DELETE", "/v1/sessions/{session}", deletes("session")),
    plain("sessions.archive", "POST", "/v1/sessions/{session}/archive", deletes("session")),
    stored("sessions.events.list", "/v1/sessions/{session}/events", uses("session"), candidates="chat"),
    Operation(
        "sessions.events.send", "POST", "/v1/sessions/{session}/events", candidates="chat", kept=(uses("session"),)
    ),
    Operation(
        "sessions.events.stream", "GET", "/v1/sessions/{session}/events/stream", candidates="chat", streams=True,
        stream_error=stream_error, kept=(uses("session"),),
    ),
    plain("sessions.resources.list", "GET", "/v1/sessions/{session}/resources", uses("session")),
    plain("sessions.resources.add", "POST", "/v1/sessions/{session}/resources", uses("session")),
    plain("sessions.resources.retrieve", "GET", "/v1/sessions/{session}/resources/{resource}", uses("session")),
    plain("sessions.resources.update", "POST", "/v1/sessions/{session}/resources/{resource}", uses("session")),
    plain("sessions.resources.delete", "DELETE", "/v1/sessions/{session}/resources/{resource}", uses("session")),
    plain("sessions.threads.list", "GET", "/v1/sessions/{session}/threads", uses("session")),
    plain("sessions.threads.retrieve", "GET", "/v1/sessions/{session}/threads/{thread}", uses("session")),
    plain("sessions.threads.archive", "POST", "/v1/sessions/{session}/threads/{thread}/archive", uses("session")),
    stored("sessions.threads.events", "/v1/sessions/{session}/threads/{thread}/events", uses("session")),
    Operation(
        "sessions.threads.stream", "GET", "/v1/sessions/{session}/threads/{thread}/stream", candidates="chat",
        streams=True, stream_error=stream_error, kept=(uses("session"),),
    ),
)  # fmt: skip
_DEPLOYMENTS = (
    plain("deployments.list", "GET", "/v1/deployments", lists("deployment")),
    Operation(
        "deployments.create", "POST", "/v1/deployments", _OVERRIDES, candidates="chat",
        kept=(creates("deployment"), uses("agent", "agent")),
    ),
    plain("deployments.retrieve", "GET", "/v1/deployments/{deployment}", uses("deployment")),
    Operation(
        "deployments.update", "POST", "/v1/deployments/{deployment}", _OVERRIDES, candidates="chat",
        kept=(uses("deployment"),),
    ),
    *(
        Operation(
            f"deployments.{verb}", "POST", f"/v1/deployments/{{deployment}}/{verb}", candidates="chat",
            body=Kind.OPTIONAL, kept=(uses("deployment"),),
        )
        for verb in ("run", "unpause")
    ),
    plain("deployments.pause", "POST", "/v1/deployments/{deployment}/pause", uses("deployment")),
    plain("deployments.archive", "POST", "/v1/deployments/{deployment}/archive", deletes("deployment")),
    plain("deployment_runs.list", "GET", "/v1/deployment_runs", lists("deployment_run")),
    plain("deployment_runs.retrieve", "GET", "/v1/deployment_runs/{deployment_run}", uses("deployment_run")),
    plain("dreams.list", "GET", "/v1/dreams", lists("dream")),
    Operation(
        "dreams.create", "POST", "/v1/dreams", (Selector(("model",), required=True, or_key="id"),),
        kept=(creates("dream"),),
    ),
    stored("dreams.retrieve", "/v1/dreams/{dream}", uses("dream"), candidates="chat"),
    plain("dreams.cancel", "POST", "/v1/dreams/{dream}/cancel", uses("dream")),
    plain("dreams.archive", "POST", "/v1/dreams/{dream}/archive", deletes("dream")),
)  # fmt: skip
_STORES = (
    *looked_after("environments", "/v1/environments", "environment"),
    plain("environments.archive", "POST", "/v1/environments/{environment}/archive", uses("environment")),
    *looked_after("memory_stores", "/v1/memory_stores", "memory_store"),
    plain("memory_stores.archive", "POST", "/v1/memory_stores/{memory_store}/archive", uses("memory_store")),
    *looked_after("memory_stores.memories", "/v1/memory_stores/{memory_store}/memories", "memory"),
)

ANTHROPIC = Dialect(
    name="anthropic",
    operations=(
        Operation("messages", "POST", "/v1/messages", _MODELS, implied=(FALLBACK,), stream_error=stream_error),
        Operation("messages.count_tokens", "POST", "/v1/messages/count_tokens", _MODELS, implied=(FALLBACK,)),
        Operation("models.list", "GET", "/v1/models", invokes=False, listing=ListShape("data", "id", cursors=True)),
        Operation("models.retrieve", "GET", "/v1/models/{model}"),
        *_BATCHES, *_FILES, *_AGENTS, *_SESSIONS, *_DEPLOYMENTS, *_STORES,
    ),
    credentials=((b"x-api-key", b""), (b"authorization", b"Bearer ")),
    credential=(b"x-api-key", b""),
    error_body=error_body,
    request_id_header="request-id",
    not_served=(
        (r"\w+ /v1/organizations?/.*|\w+ /v1/compliance/.*", "administration of the account"),
        (r"\w+ /v1/(oauth|user_profiles|vaults|tunnels).*", "credentials and connections of an agent's environment"),
        (r"\w+ /v1/skills.*", "uploads of code"),
        (r"\w+ /v1/environments/\{\}/work.*", "the queue of a self-hosted environment's own worker"),
        (r"\w+ /v1/memory_stores/\{\}/memory_versions.*", "past versions of memories"),
    ),
    source="anthropic-python 2.12",
)  # fmt: skip
