"""Reads the names of models out of multipart/form-data, strictly (RFC 7578, RFC 2046 §5.1).

Of two fields of one name Starlette takes the last and Go the first; an encoded field is read by some and not by others;
what stands before, after or between the parts is skipped by most. So a field that names a model may stand once, spelled
exactly, as plain text; and nothing stands where no part is.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from multipart import MultipartError, MultipartSegment, PushMultipartParser

from gateway.dialects.lines import LineReader
from gateway.dialects.selectors import (
    LIGHT_BYTES,
    BodyReader,
    HeavyBodyError,
    MalformedBodyError,
    Reading,
    Selector,
)
from gateway.policy.names import well_formed

MAX_PARTS = 256
"""Parts in a form. The SDKs send some ten; images/edits takes 16 images."""

BOUNDARY = re.compile(rb"[0-9A-Za-z'()+_,./:=?-]{1,70}")
"""RFC 2046 §5.1.1, without the blank."""

_HEAD = re.compile(rb"\r\n(?:[A-Za-z-]+:[^\x00-\x1f\x7f]*\r\n)+\r\n")
"""A part's head. A bare carriage return in it ends a line, or all of it, to readers such as Python's ``email``."""

_DISPOSITION = re.compile(
    r'form-data; ?name="(?P<name>[^"\\]*)"(?P<file>(?:; ?filename="(?:[^"\\]|\\.)*")?(?:; ?filename\*=[^;"\s]+)?)'
)
_PLAIN = ("text/plain", "text/plain;charset=utf-8", "application/json")
_STEP = re.compile(r"[^\[\].\s]+")


@dataclass(frozen=True, slots=True)
class Form:
    """What a form of some operation may name models in.

    A selector's path is spelled ``svg[model]`` as a field's name. ``documents``: a field that holds a JSON object, and
    the reader for it. ``batch``: the file is a batch of requests where the field ``purpose`` says so.
    """

    selectors: tuple[Selector, ...] = ()
    documents: tuple[tuple[str, BodyReader], ...] = ()
    batch: LineReader | None = None


@dataclass(frozen=True, slots=True)
class _Part:
    """A part: its field's name, whether it is a plain one, its content."""

    name: str
    plain: bool
    content: bytes


class FormReader:
    """Reads one form; ``boundary`` is what its head says."""

    def __init__(self, form: Form, boundary: bytes) -> None:
        self.form = form
        self.boundary = boundary
        self._paths = {selector.path for selector in form.selectors}
        self._paths |= {(name,) for name, _ in form.documents} | {("stream",)}
        if form.batch is not None:
            self._paths |= {("purpose",), ("file",)}

    def read_light(self, body: bytes) -> Reading:
        """As ``read``, if that is done in a moment.

        Raises:
            MalformedBodyError: as ``read``.
            HeavyBodyError: it is not.
        """
        if len(body) > LIGHT_BYTES or self.form.batch is not None:
            raise HeavyBodyError
        return self.read(body)

    def read(self, body: bytes) -> Reading:
        """The names in a form.

        Raises:
            MalformedBodyError: it is not one form, or could be read in two ways.
        """
        fields = self._fields(body)
        names: list[str] = []
        unnamed: list[str] = []
        for selector in self.form.selectors:
            part = fields.get(selector.path)
            if part is not None:
                names.append(_name(part))
            elif selector.required:
                raise MalformedBodyError(f"The field {_spell(selector.path)} is missing.")
            elif selector.absent:
                unnamed.append(selector.absent)
        for name, reader in self.form.documents:
            if (part := fields.get((name,))) is not None:
                inner = reader.read(part.content)
                names += inner.names
                unnamed += inner.unnamed
        if (batch := self._batch(fields)) is not None:
            names += batch.names
            unnamed += batch.unnamed
        stream = fields.get(("stream",))
        return Reading(tuple(names), stream is not None and stream.content == b"true", tuple(dict.fromkeys(unnamed)))

    def _batch(self, fields: dict[tuple[str, ...], _Part]) -> Reading | None:
        """What a batch of requests names; ``None`` if it is another kind of file."""
        if self.form.batch is None:
            return None
        purpose, file = fields.get(("purpose",)), fields.get(("file",))
        if purpose is None or file is None or not purpose.plain:
            raise MalformedBodyError("The fields purpose and file are needed.")
        if not re.fullmatch(rb"[a-z_-]{1,64}", purpose.content):
            raise MalformedBodyError("The field purpose must be one word in lower case.")
        return self.form.batch.read(file.content) if purpose.content == b"batch" else None

    def _fields(self, body: bytes) -> dict[tuple[str, ...], _Part]:
        """The parts that count, by the path that their names spell.

        ``Model``, ``model[]``, ``model[0]`` and ``svg`` beside ``svg[model]`` are other spellings to some readers.
        """
        fields: dict[tuple[str, ...], _Part] = {}
        for part in self._parts(body):
            path = tuple(_STEP.findall(part.name.casefold()))
            for known in self._paths:
                if path[: len(known)] != tuple(step.casefold() for step in known[: len(path)]):
                    continue
                if part.name != _spell(known) or known in fields:
                    raise MalformedBodyError(f"The field {_spell(known)} stands twice, or in another spelling.")
                fields[known] = part
        return fields

    def _parts(self, body: bytes) -> Iterator[_Part]:
        delimiter = b"--" + self.boundary
        if not body.startswith(delimiter + b"\r\n") or not body.removesuffix(b"\r\n").endswith(
            b"\r\n" + delimiter + b"--"
        ):
            raise MalformedBodyError("The form must begin and end with its boundary.")
        _check_heads(body, delimiter)
        count = 0
        try:
            with PushMultipartParser(self.boundary, strict=True, max_segment_count=MAX_PARTS) as parser:
                segment: MultipartSegment | None = None
                pieces: list[bytes] = []
                for event in parser.parse(body):
                    if isinstance(event, MultipartSegment):
                        segment, pieces = event, []
                        count += 1
                    elif event:
                        pieces.append(event)
                    elif segment is not None:
                        yield _part(segment, b"".join(pieces))
        except MultipartError:
            raise MalformedBodyError("The form cannot be read.") from None
        if body.count(delimiter) != count + 1:
            raise MalformedBodyError("The form's boundary stands within a part, or after the end.")


def _check_heads(body: bytes, delimiter: bytes) -> None:
    """See that a plain head follows each delimiter but the last."""
    at, end = 0, body.rfind(delimiter)
    while (at := body.find(delimiter, at, end)) >= 0:
        at += len(delimiter)
        if not _HEAD.match(body, at):
            raise MalformedBodyError("A part of the form has a head that some readers read otherwise.")


def _part(segment: MultipartSegment, content: bytes) -> _Part:
    """A part, if its head says its name in the one way that all readers understand."""
    heads = dict(segment.headerlist)
    kind = heads.pop("Content-Type", "text/plain").lower()
    spelt = _DISPOSITION.fullmatch(heads.pop("Content-Disposition", ""))
    name = spelt["name"] if spelt else ""
    if spelt is None or heads or len(segment.headerlist) > len({key for key, _ in segment.headerlist}):
        raise MalformedBodyError("A part of the form has another head than name, filename and Content-Type.")
    if not name or "%" in name or name.startswith("=?") or kind.startswith("multipart/"):
        raise MalformedBodyError("A part of the form has an encoded name, or parts of its own.")
    plain = not spelt["file"] and kind.replace(" ", "") in _PLAIN
    return _Part(name, plain, content)


def _name(part: _Part) -> str:
    """The model's name that a field holds."""
    name = part.content.decode("latin-1")
    if not part.plain or not well_formed(name):
        raise MalformedBodyError(f"The field {part.name} must be a model's name, as plain text without a filename.")
    return name


def _spell(path: tuple[str, ...]) -> str:
    return path[0] + "".join(f"[{step}]" for step in path[1:])
