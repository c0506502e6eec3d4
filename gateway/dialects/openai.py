"""The OpenAI dialect, and the same as spoken by others (Mistral, xAI, vLLM, LiteLLM, Ollama, Azure's ``/openai/v1``).

Sources: openai-python ``resources/``; mistralai 3.7; LiteLLM's ``fallbacks`` and OpenRouter's ``models``, by which a
request names more than one model. What a provider has beside it is added by ``providers.<name>.operations``.
"""

from dataclasses import replace

from gateway.dialects import openai_operations as rows
from gateway.dialects.events import chat_error, error_body
from gateway.dialects.selectors import Selector
from gateway.dialects.table import ANY, Dialect, Operation

_CREDENTIALS = ((b"authorization", b"Bearer "),)

OPENAI = Dialect(
    name="openai",
    operations=rows.OPERATIONS,
    credentials=_CREDENTIALS,
    credential=(b"Authorization", b"Bearer "),
    error_body=error_body,
    request_id_header="x-request-id",
    not_served=rows.NOT_SERVED,
    source="openai-python 3.54",
)

_MORE = tuple(
    Selector((key, "[]"), or_key="model")
    for key in ("fallbacks", "models", "context_window_fallbacks", "content_policy_fallbacks")
)
_AGENT = Selector(("model",), absent=ANY)
"""Mistral: a model, or an agent's id."""

_ROUTED = (rows.CHAT_COMPLETIONS, rows.RESPONSES, rows.COMPLETIONS, rows.EMBEDDINGS)
_OPERATIONS = (
    *(replace(operation, selectors=(*operation.selectors, *_MORE)) for operation in _ROUTED),
    *rows.MODELS, *rows.AUDIO, *rows.IMAGES, rows.MODERATIONS,
    *(Operation(name.replace("/", "."), "POST", f"/v1/{name}", (rows.MODEL, *_MORE)) for name in ("rerank", "score")),
    Operation("fim.completions", "POST", "/v1/fim/completions", (rows.MODEL,), stream_error=chat_error),
    Operation("chat.moderations", "POST", "/v1/chat/moderations", (rows.MODEL,)),
    Operation("classifications", "POST", "/v1/classifications", (rows.MODEL,)),
    Operation("chat.classifications", "POST", "/v1/chat/classifications", (rows.MODEL,)),
    Operation("ocr", "POST", "/v1/ocr", (rows.MODEL,)),
    Operation("agents.completions", "POST", "/v1/agents/completions", (_AGENT,), stream_error=chat_error),
    Operation("conversations.start", "POST", "/v1/conversations", (_AGENT,), stream_error=chat_error),
    Operation(
        "conversations.append", "POST", "/v1/conversations/{conversation}", candidates=ANY, stream_error=chat_error
    ),
    Operation("files.list", "GET", "/v1/files", invokes=False),
    Operation("tokenize", "POST", "/tokenize", (rows.MODEL,)),
)  # fmt: skip

OPENAI_COMPATIBLE = Dialect(
    name="openai-compatible",
    operations=_OPERATIONS,
    credentials=(*_CREDENTIALS, (b"api-key", b"")),
    credential=(b"Authorization", b"Bearer "),
    error_body=error_body,
    request_id_header="x-request-id",
    source="openai-python 3.54, mistralai 3.7",
)

_DEPLOYMENT = "/openai/deployments/{model}"
_DEPLOYED = {
    operation.path: operation
    for operation in (rows.CHAT_COMPLETIONS, rows.COMPLETIONS, rows.EMBEDDINGS, *rows.AUDIO, *rows.IMAGES[:2])
}
AZURE = Dialect(
    name="azure-openai",
    operations=tuple(
        replace(
            operation,
            path=_DEPLOYMENT + path.removeprefix("/v1"),
            selectors=tuple(replace(s, required=False, absent="") for s in operation.selectors),
            also=True,
        )
        for path, operation in _DEPLOYED.items()
    ),
    credentials=((b"api-key", b""), *_CREDENTIALS),
    credential=(b"api-key", b""),
    error_body=error_body,
    request_id_header="apim-request-id",
    source="openai-python 3.54 lib/azure.py",
)
