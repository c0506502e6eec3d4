"""Which reader a request's body gets, by its operation and what its head says; and how that is told another process.

One media type is accepted for each kind of body, spelled plainly: JSON as text/plain, or under two types, is what some
servers read and others do not.
"""

import re
from functools import lru_cache
from typing import Any

from gateway.dialects.coding import CODINGS, Decoded
from gateway.dialects.forms import BOUNDARY, Form, FormReader
from gateway.dialects.lines import LineReader
from gateway.dialects.messages import MessageReader
from gateway.dialects.selectors import BodyReader, Implied, MalformedBodyError, Reader, Reading, Selector
from gateway.dialects.table import Kind, Operation

JSON = (b"application/json", b"application/json; charset=utf-8", b"application/json;charset=utf-8")
_FORM = re.compile(rb"multipart/form-data; ?boundary=(?P<quote>\"?)(?P<boundary>[^\"\s;]+)(?P=quote)", re.IGNORECASE)
_TYPE = re.compile(rb"[A-Za-z0-9!#$&^_.+-]{1,64}/[A-Za-z0-9!#$&^_.+-]{1,64}(?:;[\x20-\x7e]{0,200})?")
_NOTHING = Reading((), stream=False)


class Unread:
    """For bodies that can name no model."""

    def read_light(self, _body: bytes) -> Reading:
        """Nothing."""
        return _NOTHING

    read = read_light


class Optional:
    """For bodies that may be left out."""

    def __init__(self, reader: BodyReader) -> None:
        self.reader = reader

    def read_light(self, body: bytes) -> Reading:
        """As the other reader's; nothing where there is no body."""
        return self.reader.read_light(body) if body else _NOTHING

    def read(self, body: bytes) -> Reading:
        """As the other reader's; nothing where there is no body."""
        return self.reader.read(body) if body else _NOTHING


def reader_for(
    operation: Operation, content_type: bytes | None, content_encoding: bytes | None, *, has_body: bool, limit: int
) -> Reader:
    """The reader for a body that is not plain JSON as every request's.

    Args:
        operation: what the request is.
        content_type: as its head says, if it does.
        content_encoding: as its head says, if it does.
        has_body: whether a body follows.
        limit: bytes that it may decode to.

    Raises:
        MalformedBodyError: 415, it is of no kind that this operation takes.
    """
    reader = _reader(operation, content_type, has_body=has_body)
    coding = (content_encoding or b"identity").lower()
    if coding == b"identity":
        return reader
    if coding.decode("latin-1") not in CODINGS:
        raise MalformedBodyError(f"Send the body without Content-Encoding, or with one of {', '.join(CODINGS)}.", 415)
    return Decoded(reader, coding.decode(), limit)


def _reader(operation: Operation, content_type: bytes | None, *, has_body: bool) -> Reader:
    kind = operation.body
    if kind is Kind.OPTIONAL and not has_body:
        return Optional(operation.reader)
    given = JSON[0] if content_type is None and operation.untyped else content_type or b""
    if kind is Kind.OPAQUE and _TYPE.fullmatch(given):
        return Unread()
    if given.lower() in JSON and kind in (Kind.JSON, Kind.OPTIONAL, Kind.EITHER):
        return operation.reader if kind is not Kind.OPTIONAL else Optional(operation.reader)
    form = _FORM.fullmatch(given) if kind in (Kind.FORM, Kind.EITHER) else None
    if form is not None and BOUNDARY.fullmatch(form["boundary"]):
        return FormReader(operation.form, form["boundary"])
    raise MalformedBodyError(f"The body must be sent as {_WANTED[kind]}.", 415)


_WANTED = {
    Kind.JSON: "application/json in UTF-8",
    Kind.OPTIONAL: "application/json in UTF-8, or not at all",
    Kind.FORM: "multipart/form-data",
    Kind.EITHER: "application/json in UTF-8, or as multipart/form-data",
    Kind.OPAQUE: "what its one Content-Type says",
    Kind.NONE: "nothing",
}

# ------------------------------------------------------------------------------------------------ told elsewhere


def told(reader: Reader) -> dict[str, Any]:
    """A reader as JSON."""
    match reader:
        case BodyReader():
            selectors = [[s.path, s.required, s.absent, s.or_key] for s in reader.selectors]
            implied = [[i.path, i.value, i.capability, i.unless] for i in reader.implied]
            return {"reads": "json", "selectors": selectors, "implied": implied, "batch": reader.batch,
                    "references": [list(path) for path in reader.references]}  # fmt: skip
        case Optional():
            return {"reads": "optional", "reader": told(reader.reader)}
        case LineReader() | MessageReader():
            return _told_of_several(reader)
        case FormReader():
            form = reader.form
            return {
                "reads": "form",
                "boundary": reader.boundary.decode("ascii"),
                "selectors": [[s.path, s.required, s.absent, s.or_key] for s in form.selectors],
                "documents": [[name, told(document)] for name, document in form.documents],
                "batch": None if form.batch is None else told(form.batch),
            }
        case Decoded():
            return {"reads": "decoded", "coding": reader.coding, "limit": reader.limit, "reader": told(reader.reader)}
        case _:
            return {"reads": "nothing"}


def heard(form: dict[str, Any]) -> Any:
    """The reader that somebody else has told of."""
    match form["reads"]:
        case "json":
            implied = tuple(Implied(tuple(path), *rest) for path, *rest in form["implied"])
            references = tuple(tuple(path) for path in form["references"])
            return _body_reader(_selectors(form["selectors"]), implied, references, batch=form["batch"])
        case "optional":
            return Optional(heard(form["reader"]))
        case "lines" | "message":
            return _heard_of_several(form)
        case "form":
            documents = tuple((name, heard(document)) for name, document in form["documents"])
            batch = None if form["batch"] is None else heard(form["batch"])
            return FormReader(Form(_selectors(form["selectors"]), documents, batch), form["boundary"].encode())
        case "decoded":
            return Decoded(heard(form["reader"]), form["coding"], form["limit"])
        case _:
            return Unread()


def _told_of_several(reader: LineReader | MessageReader) -> dict[str, Any]:
    if isinstance(reader, LineReader):
        return {"reads": "lines", "line": told(reader.line)}
    return {"reads": "message", "key": reader.key, "kinds": {kind: told(one) for kind, one in reader.kinds.items()}}


def _heard_of_several(form: dict[str, Any]) -> LineReader | MessageReader:
    if form["reads"] == "lines":
        return LineReader(heard(form["line"]))
    return MessageReader({kind: heard(one) for kind, one in form["kinds"].items()}, form["key"])


def _selectors(rows: list[Any]) -> tuple[Selector, ...]:
    return tuple(Selector(tuple(path), *rest) for path, *rest in rows)


@lru_cache(maxsize=512)
def _body_reader(
    selectors: tuple[Selector, ...],
    implied: tuple[Implied, ...],
    references: tuple[tuple[str, ...], ...],
    *,
    batch: bool,
) -> BodyReader:
    return BodyReader(selectors, implied, batch=batch, references=references)
