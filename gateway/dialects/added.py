"""What settings add to a dialect's table: operations it does not list, and the header that carries the key."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Protocol

from gateway.dialects.selectors import Selector
from gateway.dialects.table import Dialect, Operation


class Added(Protocol):
    """An operation as settings say it."""

    @property
    def id(self) -> str: ...  # noqa: D102
    @property
    def method(self) -> str: ...  # noqa: D102
    @property
    def path(self) -> str: ...  # noqa: D102
    @property
    def models(self) -> Sequence[str]: ...  # noqa: D102
    @property
    def candidates(self) -> str: ...  # noqa: D102
    @property
    def invokes(self) -> bool: ...  # noqa: D102


def extended(dialect: Dialect, added: Iterable[Added], key_header: str | None) -> Dialect:
    """A dialect with more operations, after its own: where a path fits both, the table's own stands.

    With ``key_header`` the gateway's key is sent there, bare, and callers may send theirs there, too.
    """
    listed = {(operation.method, operation.path) for operation in dialect.operations}
    rows = tuple(_operation(one) for one in added if (one.method, one.path) not in listed)
    if key_header is not None:
        header = key_header.encode()
        places = dialect.credentials
        if header.lower() not in dict(places):
            places = (*places, (header.lower(), b""))
        dialect = replace(dialect, credential=(header, b""), credentials=places)
    return replace(dialect, operations=(*dialect.operations, *rows)) if rows else dialect


def _operation(one: Added) -> Operation:
    selectors = tuple(Selector.parse(text) for text in one.models)
    return Operation(one.id, one.method, one.path, selectors, one.invokes, one.candidates, also=True)
