"""What a dialect is to the simulator: operations as a table, pure functions from a call to a reply."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import orjson

from gateway.simulator.behaviour import Behaviour

if TYPE_CHECKING:
    from gateway.simulator.shelf import Shelf

JSON_TYPE = "application/json"
EVENT_STREAM_TYPE = "text/event-stream; charset=utf-8"
EPOCH = 1_700_000_000  # `created` of every object lies within 116 days after this second
_MARKER = "\x00delta\x00"

Json = dict[str, Any]


class ApiError(Exception):
    """A call that the provider refuses; the dialect gives it its shape.

    `param` and `code` are the OpenAI dialect's: the field at fault and a machine-readable name.
    """

    def __init__(self, status: int, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code


@dataclass(frozen=True, slots=True)
class Call:
    """One request as an operation receives it; `path` holds the parameters of its path, decoded.

    `shelf` is what its provider keeps between requests.
    """

    digest: bytes  # of the body (of the raw target where there is none): equal requests get equal ids
    parsed: Json | ApiError
    path: Mapping[str, str]
    query: Mapping[str, str]
    behaviour: Behaviour
    models: tuple[str, ...]
    body: bytes
    shelf: "Shelf"

    @property
    def document(self) -> Json:
        """The body's JSON object; raises ApiError 400 where it holds none."""
        if isinstance(self.parsed, ApiError):
            raise self.parsed
        return self.parsed

    def identifier(self, prefix: str) -> str:
        """Return an id such as `chatcmpl-3f…`: the same for the same request and prefix."""
        return derive_id(self.digest, prefix)

    @property
    def created(self) -> int:
        """Unix seconds, derived from the request, not from the clock."""
        return EPOCH + int.from_bytes(self.digest[:4]) % 10_000_000

    def required_model(self) -> str:
        """Return the model that the request names; raise ApiError 400 where it names none."""
        model = self.document.get("model")
        if not isinstance(model, str) or not model:
            raise ApiError(400, "you must provide a model parameter", param="model")
        return model

    @property
    def streaming(self) -> bool:
        """Whether the request asks for a stream."""
        return self.document.get("stream") is True


@dataclass(frozen=True, slots=True)
class Plain:
    """A reply in one piece."""

    body: bytes
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stream:
    """A reply as server-sent events, each complete with its blank line, or as other whole messages.

    Only `deltas` are paced, counted by X-Sim-Events and cut by X-Sim-Truncate and X-Sim-Stall.
    """

    opening: Iterable[bytes]
    deltas: Iterable[bytes]
    closing: Iterable[bytes]
    content_type: str = EVENT_STREAM_TYPE


Reply = Plain | Stream


@dataclass(frozen=True, slots=True)
class Operation:
    """One method and path (below `/{provider}`, in aiohttp's pattern syntax) and what answers it."""

    method: str
    path: str
    run: Callable[[Call], Reply]


@dataclass(frozen=True, slots=True)
class Dialect:
    """How an API looks: operations, credentials, the shape of errors, the header that carries the request's id."""

    name: str
    operations: tuple[Operation, ...]
    credentials: Callable[[Mapping[str, str]], list[str]]
    error_body: Callable[[ApiError, str], bytes]
    request_id_header: str
    error_headers: Callable[[ApiError], Mapping[str, str]] = lambda _error: {}


def no_operation(_call: Call) -> Reply:
    """Answer what no operation of the dialect answers: 404."""
    raise ApiError(404, "Unknown request URL")


def json_reply(document: Json | list[Json]) -> Plain:
    """Return a 200 with `document`."""
    return Plain(orjson.dumps(document))


def named_event(document: Json) -> bytes:
    """Return a server-sent event named after the document's `type`."""
    return b"event: %b\ndata: %b\n\n" % (document["type"].encode(), orjson.dumps(document))


def data_event(document: Json) -> bytes:
    """Return a server-sent event without a name."""
    return b"data: %b\n\n" % orjson.dumps(document)


def event_template(render: Callable[[str], bytes]) -> Callable[[str], bytes]:
    """Return a fast `render`: only the text differs between deltas, so the rest is serialised once.

    `render` must put the text after every value that the caller chose.
    """
    before, _, after = render(_MARKER).rpartition(orjson.dumps(_MARKER))

    def fast(text: str) -> bytes:
        return before + orjson.dumps(text) + after

    return fast


def derive_id(digest: bytes, prefix: str) -> str:
    """Return `prefix` and 24 hexadecimal digits that follow from both arguments."""
    return prefix + sha256(digest + prefix.encode()).hexdigest()[:24]


def parse_object(body: bytes) -> Json | ApiError:
    """Return the body's JSON object, or the error 400 for an operation that needs one."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        return ApiError(400, f"the request body is not valid JSON: {error}")
    return document if isinstance(document, dict) else ApiError(400, "the request body is not a JSON object")


def required_list(document: Json, name: str) -> list[Any]:
    """Return a field that must be a list with something in it; raise ApiError 400."""
    value = document.get(name)
    if not isinstance(value, list) or not value:
        raise ApiError(400, f"{name}: a non-empty list is required", param=name)
    return value
