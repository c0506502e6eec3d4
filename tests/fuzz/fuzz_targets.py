"""What is fuzzed: for any bytes each reader of the gateway says what it reads, or refuses; and nobody reads more in them.

A target takes bytes and asserts. Atheris feeds it (``fuzz_atheris.py``), and so do seeds and their mutations in the
suite (``test_fuzz_targets.py``). The first bytes choose among variants: the reader, where a read ends.
"""

import posixpath
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl, unquote

import h11
import httptools
from fuzz_forms import messages_of_websockets, readers
from fuzz_json import Parser, compare, folded, parsed, parsers, reading_of
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage

from gateway.dialects import DIALECTS, Operation
from gateway.dialects.forms import Form, FormReader
from gateway.dialects.lines import LineReader
from gateway.dialects.selectors import BodyReader, HeavyBodyError, MalformedBodyError, Reading
from gateway.dialects.table import Kind
from gateway.proxy.body import Buffered
from gateway.proxy.head import FORWARDING, HOP_BY_HOP, REFUSED, Head, Refused, read_head
from gateway.proxy.inbox import Inbox
from gateway.proxy.socket_frames import BrokenFramesError, Side
from gateway.settings import Limits

OPERATIONS = [operation for dialect in DIALECTS.values() for operation in dialect.operations]
BOUNDARY = b"x"


def _body_readers() -> Iterator[BodyReader]:
    for operation in OPERATIONS:
        yield operation.reader
        yield from (reader for _, reader in operation.form.documents)
        if operation.lines is not None:
            yield operation.lines
        if operation.talk is not None:
            yield from operation.talk.reader.kinds.values()


BODIES: list[BodyReader] = list(
    {
        (r.selectors, r.implied, r.batch, r.references): r for r in _body_readers() if r.selectors or r.references
    }.values()
)
"""Every reader of JSON that a dialect has, once."""

FORMS: list[Form] = list({repr(o.form): o.form for o in OPERATIONS if o.body in (Kind.FORM, Kind.EITHER)}.values())
LINES = [LineReader(line) for o in OPERATIONS if (line := o.lines) is not None]
TALKS = list({id(o.talk): o.talk for o in OPERATIONS if o.talk is not None}.values())


class Others:
    """The other readers, and what has been compared with them: ``read`` counts bodies that ours has read."""

    def __init__(self, *, node: bool = False) -> None:
        self.json: dict[str, Parser] = parsers(node=node)
        self.forms = readers()
        self.read = 0


# ------------------------------------------------------------------------------------------------ JSON


def json_body(data: bytes, others: Others) -> None:
    """A body of any operation."""
    reader, body = BODIES[data[0] % len(BODIES)] if data else BODIES[0], data[1:]
    reading = reading_of(reader, body)
    _same_if_light(reader, body, reading)
    if reading is not None:
        others.read += 1
        compare(reader, body, reading, others.json)


def _same_if_light(reader: Any, body: bytes, reading: Any) -> None:
    """What is read in a moment is what would be read elsewhere."""
    try:
        assert reader.read_light(body) == reading
    except MalformedBodyError:
        assert reading is None
    except HeavyBodyError:
        pass


def json_lines(data: bytes, others: Others) -> None:
    """A batch's file; others end their lines elsewhere."""
    reader = LINES[0]
    reading = reading_of(reader, data)
    if reading is None:
        return
    others.read += 1
    lines = {*data.split(b"\n"), *data.splitlines(), *(line.encode() for line in data.decode().splitlines())}
    for line in filter(bytes.strip, lines):
        _compare_part(reader.line, line, reading, others)


def _compare_part(reader: BodyReader, part: bytes, reading: Reading, others: Others) -> None:
    """A document within another body: ours reads it by itself, too, and has found in it what others find."""
    alone = reading_of(reader, part)
    assert alone is not None, "it is none that ours would read"
    assert set(alone.names) <= set(reading.names)
    assert set(alone.unnamed) <= set(reading.unnamed)
    compare(reader, part, alone, others.json)


# ------------------------------------------------------------------------------------------------ forms


def form(data: bytes, others: Others) -> None:
    """A form of any operation."""
    wanted, body = FORMS[data[0] % len(FORMS)] if data else FORMS[0], data[1:]
    reading = reading_of(FormReader(wanted, BOUNDARY), body)
    if reading is None:
        return
    others.read += 1
    for who, read in others.forms.items():
        try:
            fields = read(BOUNDARY, body)
        except Exception:  # whatever it refuses in, it reads nothing
            continue
        _compare_form(who, wanted, fields, reading, others)


def _compare_form(who: str, wanted: Form, fields: list[tuple[str, bytes]], reading: Any, others: Others) -> None:
    names = {folded(_spelt(selector.path)): selector for selector in wanted.selectors}
    documents = {folded(name): reader for name, reader in wanted.documents}
    for name, content in fields:
        key = folded(name)
        if key in names:
            assert content.decode("latin-1") in reading.names, f"{who} reads {content!r}"
        if key in documents:
            _compare_part(documents[key], content, reading, others)
        batch = (b"purpose", b"batch") in {(one.encode(), said.strip().lower()) for one, said in _folded(fields)}
        if key == "file" and wanted.batch is not None and batch:
            for line in content.splitlines():
                _compare_part(wanted.batch.line, line, reading, others)
    for selector in wanted.selectors:
        if selector.absent and folded(_spelt(selector.path)) not in dict(_folded(fields)):
            assert selector.absent in reading.unnamed, f"{who} finds no model"


def _folded(fields: list[tuple[str, bytes]]) -> Iterator[tuple[str, bytes]]:
    return ((folded(name), content) for name, content in fields)


def _spelt(path: tuple[str, ...]) -> str:
    return path[0] + "".join(f"[{step}]" for step in path[1:])


# ------------------------------------------------------------------------------------------------ heads


class _Parsed:
    """What llhttp calls, as the gateway's connection keeps it; of several requests the first."""

    def __init__(self) -> None:
        self.target = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.complete = False
        self.parser = httptools.HttpRequestParser(self)
        self.method = b""
        self.version = ""

    def on_url(self, url: bytes) -> None:
        if not self.complete:
            self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.complete:
            self.headers.append((name.lower(), value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        if not self.complete:
            self.method, self.version = self.parser.get_method(), self.parser.get_http_version()
        self.complete = True


def head(data: bytes, others: Others) -> None:
    """A request's head."""
    collected = _Parsed()
    cut = data[0] if data else 0
    try:
        for piece in (data[1 : cut + 1], data[cut + 1 :]):
            collected.parser.feed_data(piece)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade):
        pass
    if not collected.complete:
        return
    try:
        read = read_head(collected.method, collected.target, collected.version, collected.headers, keep_alive=True)
    except Refused as refused:
        assert refused.deny.status in (400, 415, 417, 431)
        return
    others.read += 1
    _check_head(read)
    _compare_head(read, data[1:])


def _check_head(read: Head) -> None:
    decoded = unquote(read.path)
    if _found(read):
        assert posixpath.normpath(decoded) == decoded, "it may be taken for another path"
        assert unquote(decoded) == decoded, "encoded twice"
    models = [
        value for name, value in parse_qsl(read.query.decode(), keep_blank_values=True) if "model" in folded(name)
    ]
    assert models == ([] if read.query_model is None else [read.query_model]), "the query names another model"
    for name, _ in read.forward:
        assert name not in HOP_BY_HOP | FORWARDING | REFUSED
        assert not name.replace(b"_", b"-").startswith(b"portcullis-")
        assert name.replace(b"_", b"-") not in (b"host", b"content-length", b"transfer-encoding")


def _found(read: Head) -> Operation | None:
    """An operation that the head could be."""
    for dialect in DIALECTS.values():
        if found := dialect.operation(read.method, read.path):
            return found[0]
    return None


def _compare_head(read: Head, data: bytes) -> None:
    """h11 shares no code with llhttp."""
    server = h11.Connection(h11.SERVER)
    try:
        server.receive_data(data)
        request = server.next_event()
    except h11.RemoteProtocolError:
        return
    if not isinstance(request, h11.Request):
        return
    target = read.path.encode() + (b"?" + read.query if read.query else b"")
    assert request.method == read.method.encode()
    assert request.target in (target, target + b"?"), "an empty query need not go on"
    said = [value for name, value in request.headers if name == b"host"]
    assert said == ([read.host] if read.host else [])
    lengths = {int(value) for name, value in request.headers if name == b"content-length"}
    assert lengths <= {read.content_length} or read.chunked


# ------------------------------------------------------------------------------------------------ WebSockets


def frames(data: bytes, others: Others) -> None:
    """What a client says on a WebSocket, in two reads."""
    talk = TALKS[data[0] % len(TALKS)] if data else TALKS[0]
    cut = data[1] if len(data) > 1 else 0
    ours = _messages((data[2 : cut + 2], data[cut + 2 :]))
    theirs = messages_of_websockets(data[2:])
    assert ours == theirs[: len(ours)], "another reader puts other messages together"
    for message in ours:
        reading = reading_of(talk.reader, message)
        if reading is None:
            return  # the connection is closed
        others.read += 1
        for who, parser in others.json.items():
            document = parsed(parser, message)
            kinds = {repr(value) for value in [document.get(talk.reader.key)]} if isinstance(document, dict) else ()
            assert len(kinds) <= 1, who
            kind = document.get(talk.reader.key) if isinstance(document, dict) and talk.reader.key else None
            if kind in talk.reader.kinds:
                compare(talk.reader.kinds[kind], message, reading, {who: parser})


@lru_cache(maxsize=1)
def _limits() -> Limits:
    return Limits()


def _messages(reads: tuple[bytes, ...]) -> list[bytes]:
    side, inbox, whole = Side(server=True), Inbox(Buffered(_limits(), None), "fuzz"), []
    try:
        for read in reads:
            side.feed(read)
            for event in side.events():
                match event:
                    case TextMessage() | BytesMessage():
                        said = inbox.take(event)
                        if said is not None:
                            whole.append(said.content())
                            said.close()
                    case Ping():
                        side.pong(event.payload)
                    case CloseConnection():
                        return whole
                    case _:
                        pass
    except BrokenFramesError as error:
        assert 1000 <= error.code < 5000
    finally:
        inbox.close()
    return whole


TARGETS: dict[str, Callable[[bytes, Others], None]] = {
    "json": json_body,
    "lines": json_lines,
    "form": form,
    "head": head,
    "frames": frames,
}
