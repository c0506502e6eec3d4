"""OpenAI's operations.

Source: openai-python 3.54 ``resources/`` and ``types/*_params.py``. What a client may see of stored output (responses,
batches' files, messages of threads) counts as using it: it may be a model's that is off by now.
"""

from gateway.dialects.events import chat_error, responses_error, socket_event
from gateway.dialects.keeping import Act, Kept, references
from gateway.dialects.listing import ListShape
from gateway.dialects.messages import MessageReader, Talk
from gateway.dialects.selectors import BodyReader, Implied, Selector
from gateway.dialects.table import ANY, Kind, Operation

MODEL = Selector(("model",), required=True)
CHAT = Selector(("model",), absent="chat")
IMAGE = Selector(("model",), absent="image")
OTHER = Selector(("model",), absent="other")
VIDEO = Selector(("model",), absent=ANY)
UPDATED = Selector(("model",))
MODERATION = Selector(("moderation", "model"))
_TOOLS = (("tools", "[]"), ("input", "[]?", "tools", "[]"))
TOOLS = tuple(Selector((*tools, *name)) for tools in _TOOLS for name in (("model",), ("svg", "model")))
IMAGE_TOOLS = tuple(Implied((*tools, "type"), "image_generation", "image", "model") for tools in _TOOLS)


def graders(*at: str) -> tuple[Selector, ...]:
    """Where graders name their models: a grader itself, and those of a grader of several."""
    return (Selector((*at, "model")), Selector((*at, "graders", "*", "model")))


_BATCHED = (*(Selector(("body", *s.path)) for s in (MODERATION, *TOOLS)), Selector(("body", "svg", "model")))
BATCH_LINE = BodyReader(
    (Selector(("body", "model"), absent=ANY), *_BATCHED),
    tuple(Implied(("body", *i.path), i.value, i.capability, i.unless) for i in IMAGE_TOOLS),
    batch=True,
)
"""A line of a batch's file: a request of any operation that a batch may hold."""


def creates(kind: str, at: str = "id") -> Kept:
    """It makes one; where the response says its id."""
    return Kept(Act.CREATES, kind, at)


def uses(kind: str, at: str = "") -> Kept:
    """It needs one; by default the path says which."""
    return Kept(Act.USES, kind, at or kind)


def changes(kind: str, at: str = "") -> Kept:
    """It uses one, and leaves in it the models that it names or runs."""
    return Kept(Act.CHANGES, kind, at or kind)


def lists(kind: str) -> Kept:
    """It tells of all there are."""
    return Kept(Act.LISTS, kind)


def deletes(kind: str) -> Kept:
    """It ends one, which the path names."""
    return Kept(Act.DELETES, kind, kind)


def plain(id_: str, method: str, path: str, *kept: Kept, body: Kind = Kind.OPTIONAL) -> Operation:
    """An operation in which no model runs and none is named."""
    return Operation(id_, method, path, invokes=False, body=body, kept=kept)


def stored(id_: str, path: str, *kept: Kept, candidates: str = ANY) -> Operation:
    """A look at what some model has put out."""
    return Operation(id_, "GET", path, candidates=candidates, kept=kept)


def looked_after(name: str, path: str, kind: str, *, update: str = "POST") -> tuple[Operation, ...]:
    """List, create, get, update and delete of things that have no model."""
    one = f"{path}/{{{kind}}}"
    return (
        plain(f"{name}.list", "GET", path, lists(kind)),
        plain(f"{name}.create", "POST", path, creates(kind)),
        plain(f"{name}.retrieve", "GET", one, uses(kind)),
        plain(f"{name}.update", update, one, uses(kind)),
        plain(f"{name}.delete", "DELETE", one, deletes(kind)),
    )


CHAT_COMPLETIONS = Operation(
    "chat.completions", "POST", "/v1/chat/completions", (MODEL, MODERATION), stream_error=chat_error
)
COMPLETIONS = Operation("completions", "POST", "/v1/completions", (MODEL,), stream_error=chat_error)
EMBEDDINGS = Operation("embeddings", "POST", "/v1/embeddings", (MODEL,))
RESPONSES = Operation(
    "responses", "POST", "/v1/responses", (CHAT, MODERATION, *TOOLS), implied=IMAGE_TOOLS, stream_error=responses_error,
    kept=(creates("response"), uses("response", "previous_response_id"), changes("conversation", "conversation"),
          uses("prompt", "prompt.id")),
)  # fmt: skip
MODELS = (
    Operation("models.list", "GET", "/v1/models", invokes=False, listing=ListShape("data", "id")),
    Operation("models.retrieve", "GET", "/v1/models/{model}"),
)
AUDIO = (
    Operation("audio.speech", "POST", "/v1/audio/speech", (MODEL,), stream_error=chat_error),
    Operation(
        "audio.transcriptions", "POST", "/v1/audio/transcriptions", (MODEL,), body=Kind.FORM, stream_error=chat_error
    ),
    Operation("audio.translations", "POST", "/v1/audio/translations", (MODEL,), body=Kind.FORM),
)
SVG = Selector(("svg", "model"))
IMAGES = (
    Operation("images.generations", "POST", "/v1/images/generations", (IMAGE, SVG), stream_error=chat_error),
    Operation("images.edits", "POST", "/v1/images/edits", (IMAGE, SVG), body=Kind.EITHER, stream_error=chat_error),
    Operation("images.variations", "POST", "/v1/images/variations", (IMAGE,), body=Kind.FORM),
)
MODERATIONS = Operation("moderations", "POST", "/v1/moderations", (OTHER,))

_STORED_COMPLETIONS = (
    Operation("chat.completions.list", "GET", "/v1/chat/completions", query="model", candidates="chat", kept=(lists("completion"),)),
    stored("chat.completions.retrieve", "/v1/chat/completions/{completion}", uses("completion"), candidates="chat"),
    stored("chat.completions.messages", "/v1/chat/completions/{completion}/messages", uses("completion"), candidates="chat"),
    plain("chat.completions.update", "POST", "/v1/chat/completions/{completion}", uses("completion")),
    plain("chat.completions.delete", "DELETE", "/v1/chat/completions/{completion}", deletes("completion")),
)  # fmt: skip
_STORED_RESPONSES = (
    Operation("responses.compact", "POST", "/v1/responses/compact", (MODEL, *TOOLS), kept=(uses("response", "previous_response_id"),)),
    Operation("responses.input_tokens", "POST", "/v1/responses/input_tokens", (CHAT, *TOOLS), kept=(uses("response", "previous_response_id"),)),
    Operation("responses.retrieve", "GET", "/v1/responses/{response}", candidates=ANY, stream_error=responses_error, kept=(uses("response"),)),
    stored("responses.input_items", "/v1/responses/{response}/input_items", uses("response")),
    plain("responses.cancel", "POST", "/v1/responses/{response}/cancel", uses("response")),
    plain("responses.delete", "DELETE", "/v1/responses/{response}", deletes("response")),
    *looked_after("conversations", "/v1/conversations", "conversation")[1:],
    stored("conversations.items.list", "/v1/conversations/{conversation}/items", uses("conversation")),
    stored("conversations.items.retrieve", "/v1/conversations/{conversation}/items/{item}", uses("conversation")),
    plain("conversations.items.create", "POST", "/v1/conversations/{conversation}/items", uses("conversation")),
    plain("conversations.items.delete", "DELETE", "/v1/conversations/{conversation}/items/{item}", uses("conversation")),
)  # fmt: skip
_FILES = (
    Operation("files.create", "POST", "/v1/files", invokes=False, body=Kind.FORM, lines=BATCH_LINE, kept=(creates("file"),)),
    plain("files.list", "GET", "/v1/files", lists("file")),
    plain("files.retrieve", "GET", "/v1/files/{file}", uses("file")),
    plain("files.delete", "DELETE", "/v1/files/{file}", deletes("file")),
    stored("files.content", "/v1/files/{file}/content", uses("file")),
    plain("uploads.create", "POST", "/v1/uploads", creates("upload"), body=Kind.JSON),
    plain("uploads.parts", "POST", "/v1/uploads/{upload}/parts", uses("upload"), body=Kind.OPAQUE),
    plain("uploads.complete", "POST", "/v1/uploads/{upload}/complete", uses("upload")),
    plain("uploads.cancel", "POST", "/v1/uploads/{upload}/cancel", deletes("upload")),
    Operation("batches.create", "POST", "/v1/batches", candidates=ANY, kept=(creates("batch"), uses("file", "input_file_id"))),
    plain("batches.list", "GET", "/v1/batches", lists("batch")),
    plain("batches.retrieve", "GET", "/v1/batches/{batch}", uses("batch"), creates("file", "output_file_id"),
          creates("file", "error_file_id")),
    plain("batches.cancel", "POST", "/v1/batches/{batch}/cancel", uses("batch")),
)  # fmt: skip
_ASSISTANTS = (
    plain("assistants.list", "GET", "/v1/assistants", lists("assistant")),
    Operation("assistants.create", "POST", "/v1/assistants", (MODEL,), kept=(creates("assistant"),)),
    plain("assistants.retrieve", "GET", "/v1/assistants/{assistant}", uses("assistant")),
    Operation("assistants.update", "POST", "/v1/assistants/{assistant}", (UPDATED,), invokes=False, kept=(changes("assistant"),)),
    plain("assistants.delete", "DELETE", "/v1/assistants/{assistant}", deletes("assistant")),
    *looked_after("threads", "/v1/threads", "thread")[1:],
    stored("threads.messages.list", "/v1/threads/{thread}/messages", uses("thread")),
    stored("threads.messages.retrieve", "/v1/threads/{thread}/messages/{message}", uses("thread")),
    plain("threads.messages.create", "POST", "/v1/threads/{thread}/messages", uses("thread")),
    plain("threads.messages.update", "POST", "/v1/threads/{thread}/messages/{message}", uses("thread")),
    plain("threads.messages.delete", "DELETE", "/v1/threads/{thread}/messages/{message}", uses("thread")),
    Operation("threads.create_and_run", "POST", "/v1/threads/runs", (CHAT,), stream_error=chat_error,
              kept=(creates("run"), creates("thread", "thread_id"), uses("assistant", "assistant_id"))),
    Operation("threads.runs.create", "POST", "/v1/threads/{thread}/runs", (CHAT,), stream_error=chat_error,
              kept=(creates("run"), uses("assistant", "assistant_id"), changes("thread"))),
    Operation("threads.runs.submit_tool_outputs", "POST", "/v1/threads/{thread}/runs/{run}/submit_tool_outputs", candidates="chat",
              stream_error=chat_error, kept=(uses("run"),)),
    plain("threads.runs.list", "GET", "/v1/threads/{thread}/runs", lists("run")),
    plain("threads.runs.retrieve", "GET", "/v1/threads/{thread}/runs/{run}", uses("run")),
    plain("threads.runs.update", "POST", "/v1/threads/{thread}/runs/{run}", uses("run")),
    plain("threads.runs.cancel", "POST", "/v1/threads/{thread}/runs/{run}/cancel", uses("run")),
    stored("threads.runs.steps.list", "/v1/threads/{thread}/runs/{run}/steps", uses("run")),
    stored("threads.runs.steps.retrieve", "/v1/threads/{thread}/runs/{run}/steps/{step}", uses("run")),
)  # fmt: skip
_FINE_TUNING = (
    Operation("fine_tuning.jobs.create", "POST", "/v1/fine_tuning/jobs", (MODEL, *graders("method", "reinforcement", "grader")),
              kept=(creates("fine_tuning_job"), uses("file", "training_file"))),
    plain("fine_tuning.jobs.list", "GET", "/v1/fine_tuning/jobs", lists("fine_tuning_job")),
    plain("fine_tuning.jobs.retrieve", "GET", "/v1/fine_tuning/jobs/{fine_tuning_job}", uses("fine_tuning_job"), creates("model", "fine_tuned_model")),
    plain("fine_tuning.jobs.events", "GET", "/v1/fine_tuning/jobs/{fine_tuning_job}/events", uses("fine_tuning_job")),
    plain("fine_tuning.jobs.checkpoints", "GET", "/v1/fine_tuning/jobs/{fine_tuning_job}/checkpoints", uses("fine_tuning_job")),
    plain("fine_tuning.jobs.cancel", "POST", "/v1/fine_tuning/jobs/{fine_tuning_job}/cancel", uses("fine_tuning_job")),
    plain("fine_tuning.jobs.pause", "POST", "/v1/fine_tuning/jobs/{fine_tuning_job}/pause", uses("fine_tuning_job")),
    Operation("fine_tuning.jobs.resume", "POST", "/v1/fine_tuning/jobs/{fine_tuning_job}/resume", candidates=ANY, body=Kind.OPTIONAL,
              kept=(uses("fine_tuning_job"),)),
    Operation("fine_tuning.graders.run", "POST", "/v1/fine_tuning/alpha/graders/run", graders("grader"), invokes=False),
    Operation("fine_tuning.graders.validate", "POST", "/v1/fine_tuning/alpha/graders/validate", graders("grader"), invokes=False),
    Operation("models.delete", "DELETE", "/v1/models/{model}"),
)  # fmt: skip
_EVALS = (
    Operation("evals.create", "POST", "/v1/evals", graders("testing_criteria", "[]"), invokes=False, kept=(creates("eval"),)),
    *looked_after("evals", "/v1/evals", "eval")[:1],
    *looked_after("evals", "/v1/evals", "eval")[2:],
    Operation("evals.runs.create", "POST", "/v1/evals/{eval}/runs", (Selector(("data_source", "model")), Selector(("data_source", "source", "model"))),
              candidates="chat", kept=(creates("eval_run"), uses("eval"))),
    plain("evals.runs.list", "GET", "/v1/evals/{eval}/runs", lists("eval_run")),
    plain("evals.runs.retrieve", "GET", "/v1/evals/{eval}/runs/{eval_run}", uses("eval_run")),
    plain("evals.runs.cancel", "POST", "/v1/evals/{eval}/runs/{eval_run}/cancel", uses("eval_run")),
    plain("evals.runs.delete", "DELETE", "/v1/evals/{eval}/runs/{eval_run}", deletes("eval_run")),
    stored("evals.runs.output_items.list", "/v1/evals/{eval}/runs/{eval_run}/output_items", uses("eval_run")),
    stored("evals.runs.output_items.retrieve", "/v1/evals/{eval}/runs/{eval_run}/output_items/{item}", uses("eval_run")),
)  # fmt: skip
_VIDEOS = (
    Operation("videos.create", "POST", "/v1/videos", (VIDEO,), body=Kind.EITHER, kept=(creates("video"),)),
    Operation("videos.edits", "POST", "/v1/videos/edits", candidates=ANY, body=Kind.EITHER, kept=(creates("video"), uses("video", "video.id"))),
    Operation("videos.extensions", "POST", "/v1/videos/extensions", candidates=ANY, body=Kind.EITHER, kept=(creates("video"), uses("video", "video.id"))),
    Operation("videos.remix", "POST", "/v1/videos/{video}/remix", candidates=ANY, kept=(creates("video"), uses("video"))),
    plain("videos.list", "GET", "/v1/videos", lists("video")),
    plain("videos.retrieve", "GET", "/v1/videos/{video}", uses("video")),
    stored("videos.content", "/v1/videos/{video}/content", uses("video")),
    plain("videos.delete", "DELETE", "/v1/videos/{video}", deletes("video")),
)  # fmt: skip
_TRANSCRIPTION = (
    Selector(("session", "audio", "input", "transcription", "model")),
    Selector(("session", "input_audio_transcription", "model")),
)
_SESSION = Selector(("session", "model"), required=True)
_REALTIME = (
    Operation("realtime.client_secrets", "POST", "/v1/realtime/client_secrets", (_SESSION, *_TRANSCRIPTION), kept=(creates("client_secret", "value"),)),
    Operation("realtime.translations.client_secrets", "POST", "/v1/realtime/translations/client_secrets", (_SESSION, *_TRANSCRIPTION),
              kept=(creates("client_secret", "value"),)),
    Operation("realtime.sessions", "POST", "/v1/realtime/sessions", (Selector(("model",), absent=ANY), Selector(("input_audio_transcription", "model"))),
              kept=(creates("client_secret", "client_secret.value"),)),
    Operation("realtime.transcription_sessions", "POST", "/v1/realtime/transcription_sessions",
              (Selector(("input_audio_transcription", "model"), required=True),), kept=(creates("client_secret", "client_secret.value"),)),
    Operation("realtime.calls", "POST", "/v1/realtime/calls", body=Kind.FORM, invokes=False,
              documents=(("session", (Selector(("model",), required=True), Selector(("audio", "input", "transcription", "model")))),), candidates=ANY),
    Operation("realtime.calls.accept", "POST", "/v1/realtime/calls/{call}/accept",
              (Selector(("model",), absent=ANY), Selector(("audio", "input", "transcription", "model"))), kept=(uses("call"),)),
    *(plain(f"realtime.calls.{verb}", "POST", f"/v1/realtime/calls/{{call}}/{verb}", uses("call")) for verb in ("hangup", "refer", "reject")),
)  # fmt: skip
_KEY_PROTOCOL = b"openai-insecure-api-key."
"""As browsers send a key (OpenAI's guide to the Realtime API over WebSocket)."""

_KEPT_IN_REALTIME = (
    changes("conversation", "response.conversation"),
    changes("conversation", "response.conversation.id"),
)
_SESSIONS = BodyReader((
    Selector(("session", "model")), *_TRANSCRIPTION, Selector(("session", "audio", "output", "model")),
    Selector(("response", "model")), Selector(("model",)), *TOOLS,
), references=references(_KEPT_IN_REALTIME))  # fmt: skip
"""Every place of a client's event where a model could stand, whatever the event."""

_SAID_IN_REALTIME = MessageReader(
    dict.fromkeys(
        (
            "session.update", "transcription_session.update", "response.create", "response.cancel",
            "conversation.item.create", "conversation.item.delete", "conversation.item.retrieve", "conversation.item.truncate",
            "input_audio_buffer.append", "input_audio_buffer.clear", "input_audio_buffer.commit", "output_audio_buffer.clear",
            "session.input_audio_buffer.append", "session.close",
        ),
        _SESSIONS,
    ),
    "type",
)  # fmt: skip
_NESTED = Selector(("response", "model"))
_KEPT_IN_RESPONSES = (
    creates("response"), uses("response", "previous_response_id"), changes("conversation", "conversation"), uses("prompt", "prompt.id"),
    uses("response", "response.previous_response_id"), *_KEPT_IN_REALTIME, uses("prompt", "response.prompt.id"),
)  # fmt: skip
"""As of a request; an event may hold it in ``response``, too."""

_NAMED_IN_RESPONSES = references(_KEPT_IN_RESPONSES)
_SAID_IN_RESPONSES = MessageReader(
    {
        "response.create": BodyReader((CHAT, _NESTED, MODERATION, *TOOLS), IMAGE_TOOLS, references=_NAMED_IN_RESPONSES),
        "response.steer": BodyReader(
            (UPDATED, _NESTED, MODERATION, *TOOLS), IMAGE_TOOLS, references=_NAMED_IN_RESPONSES
        ),
    },
    "type",
)
REALTIME_TALK = Talk(
    _SAID_IN_REALTIME, socket_event, joins="call_id", key_protocol=_KEY_PROTOCOL, kept=_KEPT_IN_REALTIME
)
RESPONSES_TALK = Talk(
    _SAID_IN_RESPONSES, socket_event, key_protocol=_KEY_PROTOCOL, kept=_KEPT_IN_RESPONSES, made_by="response.created"
)
SOCKETS = (
    Operation("realtime.connect", "GET", "/v1/realtime", query="model", candidates=ANY, talk=REALTIME_TALK),
    Operation("realtime.translations.connect", "GET", "/v1/realtime/translations", query="model", candidates=ANY, talk=REALTIME_TALK),
    Operation("responses.connect", "GET", "/v1/responses", invokes=False, talk=RESPONSES_TALK),
)  # fmt: skip
"""WebSockets: what each message names is decided before it is passed on."""

_STORES = (
    *looked_after("vector_stores", "/v1/vector_stores", "vector_store"),
    plain("vector_stores.search", "POST", "/v1/vector_stores/{vector_store}/search", uses("vector_store"), body=Kind.JSON),
    *(plain(f"vector_stores.{name}", method, f"/v1/vector_stores/{{vector_store}}/{path}", uses("vector_store")) for name, method, path in (
        ("file_batches.create", "POST", "file_batches"), ("file_batches.retrieve", "GET", "file_batches/{file_batch}"),
        ("file_batches.cancel", "POST", "file_batches/{file_batch}/cancel"), ("file_batches.files", "GET", "file_batches/{file_batch}/files"),
        ("files.list", "GET", "files"), ("files.create", "POST", "files"), ("files.retrieve", "GET", "files/{file}"),
        ("files.update", "POST", "files/{file}"), ("files.delete", "DELETE", "files/{file}"),
    )),
    stored("vector_stores.files.content", "/v1/vector_stores/{vector_store}/files/{file}/content", uses("vector_store")),
    *(one for one in looked_after("containers", "/v1/containers", "container") if not one.id.endswith("update")),
    plain("containers.files.list", "GET", "/v1/containers/{container}/files", uses("container")),
    plain("containers.files.create", "POST", "/v1/containers/{container}/files", uses("container"), body=Kind.OPAQUE),
    plain("containers.files.retrieve", "GET", "/v1/containers/{container}/files/{file}", uses("container")),
    plain("containers.files.delete", "DELETE", "/v1/containers/{container}/files/{file}", uses("container")),
    stored("containers.files.content", "/v1/containers/{container}/files/{file}/content", uses("container")),
)  # fmt: skip

OPERATIONS = (
    CHAT_COMPLETIONS, RESPONSES, COMPLETIONS, EMBEDDINGS, *MODELS, *AUDIO, *IMAGES, MODERATIONS,
    Operation("decisions", "POST", "/v1/decisions", (MODEL,)),
    *_STORED_COMPLETIONS, *_STORED_RESPONSES, *_FILES, *_ASSISTANTS, *_FINE_TUNING, *_EVALS, *_VIDEOS, *_REALTIME, *SOCKETS, *_STORES,
)  # fmt: skip

NOT_SERVED = (
    (r"\w+ /v1/organization/.*|\w+ /v1/projects/.*", "administration of the account, which needs an administrator's key"),
    (r"\w+ /v1/webhook.*|\w+ /v1/safety/.*|\w+ /v1/vaults.*", "administration of the account"),
    (r"\w+ /v1/agents.*|\w+ /v1/chatkit/.*", "agents run models of their own choice, in environments of the provider"),
    (r"\w+ /v1/live/.*", "sessions whose media does not pass the gateway"),
    (r"\w+ /v1/audio/voice.*", "voices have models of their own, which no request names"),
    (r"\w+ /v1/skills.*|\w+ /v1/content_provenance_checks", "uploads of code and media for models that the request does not name"),
    (r"\w+ /v1/videos/characters.*", "trained by a model that the request does not name"),
    (r"\w+ /v1/fine_tuning/checkpoints/.*", "gives other projects a model"),
)  # fmt: skip
"""What the SDK has and this table has not, with the reason. ``providers.<name>.operations`` can add to the table."""
