"""The entries that dialects are made of."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from typing import Any
from urllib.parse import unquote

from gateway.dialects.forms import Form
from gateway.dialects.keeping import Keeping, Kept, keeping
from gateway.dialects.lines import LineReader
from gateway.dialects.listing import ListShape
from gateway.dialects.messages import Talk
from gateway.dialects.query_keys import NO_KEYS, QueryKeys
from gateway.dialects.selectors import BodyReader, Implied, Selector

_SLASH = r"%2[Ff](?=[A-Za-z0-9])"
"""An encoded ``/``. Behind it stands a name: dots or a second one would lead a server elsewhere that decodes."""

_MODEL_SEGMENT = rf"[A-Za-z0-9](?:[A-Za-z0-9._:@+-]|{_SLASH}|%3[Aa]){{0,255}}"
"""A model's name in a path: ``/`` and ``:`` may be percent-encoded, once, as SDKs do; nothing else may."""

_ID_SEGMENT = rf"[A-Za-z0-9](?:[A-Za-z0-9._~-]|{_SLASH}|%3[Aa]|:){{0,511}}"
"""Anything else that has an id."""

ANY = "*"
"""Candidates of every capability."""

ErrorBody = Callable[["Problem"], dict[str, Any]]
StreamError = Callable[["Problem"], bytes]


@dataclass(frozen=True, slots=True)
class Problem:
    """What went wrong, before a dialect gives it its shape. ``details`` is the ``portcullis`` object."""

    status: int
    code: str
    message: str
    details: Mapping[str, Any]
    request_id: str


class Kind(StrEnum):
    """What bodies an operation takes."""

    NONE = "none"
    JSON = "JSON"
    OPTIONAL = "JSON or none"
    FORM = "a form"
    EITHER = "JSON or a form"
    OPAQUE = "anything; it is not read"


@dataclass(frozen=True, slots=True)
class Operation:
    """One method and path of a dialect. ``path`` is relative to the provider; ``{model}`` is one segment of it.

    ``invokes`` is false where no model runs, unless the body names one. ``candidates`` is the capability of models that
    run beside those that are named: all that could are looked at (``*``: of any capability). ``prefix`` stands before
    the path's name in the catalog. ``also``: the body's names count beside the path's; else they must be the same.
    ``query``: the parameter that names a model. ``streams``: it answers with a stream without being asked to;
    ``framed``: of binary messages. ``untyped``: a body without a Content-Type is JSON.
    ``stream_error`` writes the last event of a stream that is cut. ``kept`` are the things that outlive the request;
    ``keeping`` is what they come to, ``None`` where that is nothing.
    ``talk``: it is a WebSocket, and what may be said on it.
    """

    id: str
    method: str
    path: str
    selectors: tuple[Selector, ...] = ()
    invokes: bool = True
    candidates: str = ""
    body: Kind = Kind.JSON
    implied: tuple[Implied, ...] = ()
    batch: bool = False
    prefix: str = ""
    also: bool = False
    query: str = ""
    streams: bool = False
    framed: bool = False
    untyped: bool = False
    stream_error: StreamError | None = None
    listing: ListShape | None = None
    kept: tuple[Kept, ...] = ()
    documents: tuple[tuple[str, tuple[Selector, ...]], ...] = ()
    lines: BodyReader | None = None
    talk: Talk | None = None
    reader: BodyReader = field(init=False, repr=False)
    form: Form = field(init=False, repr=False)
    keeping: Keeping | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.method in ("GET", "DELETE"):
            object.__setattr__(self, "body", Kind.NONE)
        object.__setattr__(self, "keeping", self._keeping())
        references = self.keeping.references if self.keeping is not None else ()
        reader = BodyReader(self.selectors, self.implied, batch=self.batch, references=references)
        object.__setattr__(self, "reader", reader)
        documents = tuple((name, BodyReader(selectors)) for name, selectors in self.documents)
        lines = None if self.lines is None else LineReader(self.lines)
        object.__setattr__(self, "form", Form(self.selectors, documents, lines))

    @property
    def pattern(self) -> re.Pattern[str]:
        """What its raw path matches. Compiled when it is first looked at: few of 300 ever are."""
        return _pattern(self.path)

    def _keeping(self) -> Keeping | None:
        """A thing that is known says which models run unnamed, but for those that a word in the body lets run."""
        unnamed = {self.candidates, *(selector.absent for selector in self.selectors)}
        speaks_for = frozenset(unnamed - {"", *(implied.capability for implied in self.implied)})
        return keeping(self.kept, self.path, looks=self.method == "GET", invokes=self.invokes, speaks_for=speaks_for)


@cache
def _pattern(path: str) -> re.Pattern[str]:
    """What a path's template matches: whole, and by raw bytes."""
    pieces = re.split(r"\{(\w+)\}", path)
    for at in range(1, len(pieces), 2):
        name = pieces[at]
        pieces[at] = f"(?P<{name}>{_MODEL_SEGMENT if name == 'model' else _ID_SEGMENT})"
    return re.compile("".join(piece if at % 2 else re.escape(piece) for at, piece in enumerate(pieces)))


def _no_headers(_problem: Problem) -> tuple[tuple[str, str], ...]:
    return ()


@dataclass(frozen=True)
class Dialect:
    """How an API looks.

    ``credentials`` are the request headers that may carry the caller's key, lower case, with the scheme that
    precedes it; ``credential`` is how the gateway's own key is sent upstream. ``error_headers`` are what a refusal's
    head says beside its body. ``not_served`` are operations that its SDKs have and the table has not, with the reason:
    regular expressions over ``METHOD /path``. ``query_keys`` are parameters that its servers take a key from.
    """

    name: str
    operations: tuple[Operation, ...]
    credentials: tuple[tuple[bytes, bytes], ...]
    credential: tuple[bytes, bytes]
    error_body: ErrorBody
    request_id_header: str
    error_headers: Callable[[Problem], tuple[tuple[str, str], ...]] = _no_headers
    not_served: tuple[tuple[str, str], ...] = ()
    query_keys: QueryKeys = NO_KEYS
    source: str = ""
    _exact: dict[tuple[str, str], Operation] = field(init=False, repr=False, default_factory=dict)
    _patterns: dict[tuple[str, int], list[Operation]] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        for operation in self.operations:
            if "{" in operation.path:
                self._patterns.setdefault((operation.method, operation.path.count("/")), []).append(operation)
            else:
                self._exact[operation.method, operation.path] = operation

    def operation(self, method: str, path: str) -> tuple[Operation, str | None] | None:
        """The operation that a method and raw path are, exactly, and the model its path names; else ``None``."""
        operation = self._exact.get((method, path))
        if operation is not None:
            return operation, None
        for candidate in self._patterns.get((method, path.count("/")), ()):
            if match := candidate.pattern.fullmatch(path):
                model = match.groupdict().get("model")
                return candidate, None if model is None else candidate.prefix + unquote(model)
        return None
