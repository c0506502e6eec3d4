"""What settings add to a dialect's table: operations it does not list, and the header that carries the key."""

from collections.abc import Iterable
from dataclasses import replace

from gateway.dialects.selectors import Selector
from gateway.dialects.table import Dialect, Operation


def added(id_: str, method: str, path: str, models: Iterable[str], candidates: str, *, invokes: bool) -> Operation:
    """An operation as settings say it: ``models`` are selectors, as ``Selector.parse`` reads them.

    Raises:
        ValueError: one of them is none.
    """
    selectors = tuple(Selector.parse(text) for text in models)
    return Operation(id_, method, path, selectors, invokes, candidates, also=True)


def extended(dialect: Dialect, more: Iterable[Operation], key_header: str | None) -> Dialect:
    """A dialect with more operations, after its own: where a path fits both, the table's own stands.

    With ``key_header`` the gateway's key is sent there, bare, and callers may send theirs there, too.
    """
    listed = {(operation.method, operation.path) for operation in dialect.operations}
    rows = tuple(one for one in more if (one.method, one.path) not in listed)
    if key_header is not None:
        header = key_header.encode()
        places = dialect.credentials
        if header.lower() not in dict(places):
            places = (*places, (header.lower(), b""))
        dialect = replace(dialect, credential=(header, b""), credentials=places)
    return replace(dialect, operations=(*dialect.operations, *rows)) if rows else dialect
