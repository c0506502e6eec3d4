"""The entries that dialects are made of."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.dialects.listing import ListShape
from gateway.dialects.selectors import BodyReader, Selector

_MODEL_SEGMENT = r"[A-Za-z0-9][A-Za-z0-9._:@+-]{0,255}"

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


@dataclass(frozen=True, slots=True)
class Operation:
    """One method and path of a dialect. ``path`` is relative to the provider; ``{model}`` is one segment.

    ``invokes`` is false where no model runs (lists, look-ups). ``capability`` says which models could be meant
    where the request names none. ``stream_error`` writes the last event of a stream that is cut.
    """

    id: str
    method: str
    path: str
    selectors: tuple[Selector, ...] = ()
    invokes: bool = True
    capability: str = "chat"
    stream_error: StreamError | None = None
    listing: ListShape | None = None
    reader: BodyReader = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "reader", BodyReader(self.selectors))


@dataclass(frozen=True)
class Dialect:
    """How an API looks.

    ``credentials`` are the request headers that may carry the caller's key, lower case, with the scheme that
    precedes it; ``credential`` is how the gateway's own key is sent upstream.
    """

    name: str
    operations: tuple[Operation, ...]
    credentials: tuple[tuple[bytes, bytes], ...]
    credential: tuple[bytes, bytes]
    error_body: ErrorBody
    request_id_header: str
    _exact: dict[tuple[str, str], Operation] = field(init=False, repr=False, default_factory=dict)
    _patterns: list[tuple[str, re.Pattern[str], Operation]] = field(init=False, repr=False, default_factory=list)

    def __post_init__(self) -> None:
        for operation in self.operations:
            if "{model}" in operation.path:
                pattern = re.escape(operation.path).replace(re.escape("{model}"), f"(?P<model>{_MODEL_SEGMENT})")
                self._patterns.append((operation.method, re.compile(pattern), operation))
            else:
                self._exact[operation.method, operation.path] = operation

    def operation(self, method: str, path: str) -> tuple[Operation, str | None] | None:
        """The operation that a method and raw path are, exactly, and the model its path names; else ``None``."""
        operation = self._exact.get((method, path))
        if operation is not None:
            return operation, None
        for expected, pattern, candidate in self._patterns:
            if expected == method and (match := pattern.fullmatch(path)):
                return candidate, match["model"]
        return None
