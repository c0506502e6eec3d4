"""Forms, files of lines and coded bodies: read in one way only, or not at all; and the same by another process."""

import gzip
import json
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.dialects import DIALECTS
from gateway.dialects.bodies import heard, reader_for, told
from gateway.dialects.coding import Decoded, decode
from gateway.dialects.forms import Form, FormReader
from gateway.dialects.lines import MAX_LINES, LineReader
from gateway.dialects.selectors import BodyReader, HeavyBodyError, MalformedBodyError, Reading, Selector
from gateway.dialects.table import Kind

LINE = BodyReader((Selector(("body", "model"), absent="*"),), batch=True)
FORM = Form((Selector(("model",), required=True), Selector(("svg", "model"))), (("session", LINE),), None)
BATCH = Form((), (), LineReader(LINE))
CHAT = DIALECTS["openai"].operation("POST", "/v1/chat/completions")[0]
EDITS = DIALECTS["openai"].operation("POST", "/v1/images/edits")[0]


def form(*parts: tuple[str, str | bytes], boundary: str = "b") -> bytes:
    body = b""
    for name, content in parts:
        head = name if ":" in name else f'Content-Disposition: form-data; name="{name}"'
        body += (
            f"--{boundary}\r\n{head}\r\n\r\n".encode()
            + (content if isinstance(content, bytes) else content.encode())
            + b"\r\n"
        )
    return body + f"--{boundary}--\r\n".encode()


def read(body: bytes, what: Form = FORM) -> Reading:
    return FormReader(what, b"b").read(body)


FILE = 'Content-Disposition: form-data; name="file"; filename="a b;c.bin"\r\nContent-Type: application/octet-stream'


def test_a_form_names_its_models():
    body = form(
        (FILE, b"\0\r\n--x\r\n\xff"),
        ("svg[model]", "K"),
        ("svg[reasoning][effort]", "low"),
        ("model", "A"),
        ("image[]", "x"),
        ("image[]", "y"),
    )
    assert read(body) == Reading(("A", "K"), stream=False)
    assert read(body[:-2]) == Reading(("A", "K"), stream=False), "the last line feed may be left out"


@pytest.mark.parametrize(("value", "stream"), [("true", True), ("false", False), ("True", False), ("1", False)])
def test_a_form_asks_for_a_stream(value, stream):
    assert read(form(("model", "A"), ("stream", value))).stream is stream


def test_a_document_in_a_form_is_read_by_its_own_reader():
    session = json.dumps({"body": {"model": "K"}})
    assert read(form(("model", "A"), ("session", session))).names == ("A", "K")
    assert read(form(("model", "A"), ("session", "{}"))) == Reading(("A",), stream=False)
    with pytest.raises(MalformedBodyError):
        read(form(("model", "A"), ("session", '{"body":{"model":"A","model":"K"}}')))


def test_what_a_form_leaves_out_is_unnamed_where_it_may_be():
    reader = FormReader(EDITS.form, b"b")
    assert reader.read(form(("prompt", "x"))).unnamed == ("image",)
    with pytest.raises(MalformedBodyError, match="model is missing"):
        read(form(("prompt", "x")))


def test_a_file_of_a_batch_is_read_and_any_other_is_not():
    lines = '{"body":{"model":"A"}}\n{"body":{"model":"K"}}\n{"body":{}}\n'
    assert read(form(("purpose", "batch"), (FILE, lines)), BATCH) == Reading(("A", "K"), stream=False, unnamed=("*",))
    assert read(form((FILE, lines), ("purpose", "batch")), BATCH).names == ("A", "K"), "in any order"
    assert read(form(("purpose", "fine-tune"), (FILE, b"\xff")), BATCH) == Reading((), stream=False)
    with pytest.raises(HeavyBodyError):
        FormReader(BATCH, b"b").read_light(form(("purpose", "batch"), (FILE, lines)))


@pytest.mark.parametrize(
    "text", ["", "\n", "{}\n\n{}", "{}\r\n", "{}\n ", "\ufeff{}", "{}\u2028", "[]", "{} {}", '{"body":{"model":1}}']
)
def test_lines_that_could_be_read_in_two_ways(text):
    with pytest.raises(MalformedBodyError):
        LineReader(LINE).read(text.encode())


def test_lines_are_bounded():
    with pytest.raises(MalformedBodyError):
        LineReader(LINE).read(b"{}\n" * (MAX_LINES + 1))
    with pytest.raises(MalformedBodyError, match="more than"):
        LineReader(LINE).read(b"\n".join(b'{"body":{"model":"m%d"}}' % n for n in range(40)))
    with pytest.raises(HeavyBodyError):
        LineReader(LINE).read_light(b"{}\n" * 1000)


# ---------------------------------------------------------------- codings


@pytest.mark.parametrize(("coding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
@given(body=st.binary(max_size=200), cut=st.integers(0, 300), tail=st.binary(max_size=3))
def test_one_whole_stream_is_decoded_and_nothing_else(coding, pack, body, cut, tail):
    packed = pack(body)
    assert decode(packed, coding, 1000) == body
    if cut < len(packed):
        with pytest.raises(MalformedBodyError):
            decode(packed[:cut], coding, 1000)
    if tail:
        with pytest.raises(MalformedBodyError):
            decode(packed + tail, coding, 1000)


def test_a_bomb_is_never_inflated():
    bomb = gzip.compress(b'{"model":"A","x":"' + b"a" * 30_000_000 + b'"}')
    assert decode(bomb, "gzip", 1000) is None
    with pytest.raises(MalformedBodyError) as caught:
        Decoded(CHAT.reader, "gzip", 100_000).read_light(bomb)
    assert caught.value.status == 413
    with pytest.raises(HeavyBodyError):
        Decoded(CHAT.reader, "gzip", 100_000_000).read_light(bomb)
    assert Decoded(CHAT.reader, "gzip", 100_000_000).read(bomb).names == ("A",)


# ---------------------------------------------------------------- which reader, and by whom


@pytest.mark.parametrize(
    ("operation", "kind", "coding", "status"),
    [
        (CHAT, b"application/json", b"br", 415), (CHAT, b"text/plain", None, 415), (CHAT, None, None, 415),
        (CHAT, b"multipart/form-data; boundary=b", None, 415), (EDITS, b"multipart/form-data", None, 415),
        (EDITS, b"multipart/form-data; boundary=b; boundary=c", None, 415), (EDITS, b"multipart/mixed; boundary=b", None, 415),
        (CHAT, b"application/json", b"gzip, gzip", 415), (CHAT, b"application/json", b"identity", None),
        (EDITS, b"application/json", None, None), (EDITS, b'Multipart/Form-Data; boundary="b"', None, None),
        (EDITS, b"multipart/form-data; boundary=b", b"gzip", None),
    ],
)  # fmt: skip
def test_which_bodies_are_taken(operation, kind, coding, status):
    def choose():
        return reader_for(operation, kind, coding, has_body=True, limit=1000)

    if status is None:
        assert choose() is not None
    else:
        with pytest.raises(MalformedBodyError) as caught:
            choose()
        assert caught.value.status == status


EVERY = [
    pytest.param(dialect, operation, id=f"{dialect.name} {operation.id}")
    for dialect in DIALECTS.values()
    for operation in dialect.operations
    if operation.body is not Kind.NONE
]
TYPES = {Kind.FORM: b"multipart/form-data; boundary=b", Kind.OPAQUE: b"application/octet-stream"}


@pytest.mark.parametrize(("dialect", "operation"), EVERY)
def test_a_reader_that_is_told_another_process_is_the_same(dialect, operation):
    for coding in (None, b"gzip"):
        reader = reader_for(operation, TYPES.get(operation.body, b"application/json"), coding, has_body=True, limit=999)
        assert told(heard(json.loads(json.dumps(told(reader))))) == json.loads(
            json.dumps(told(reader)), object_hook=_tuples
        )


def _tuples(told_of):
    """JSON has no tuples; what is told has."""
    for key in ("selectors", "implied"):
        if key in told_of:
            told_of[key] = [[tuple(row[0]), *row[1:]] for row in told_of[key]]
    return told_of


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=80))
def test_no_bytes_make_a_form_fail_otherwise(data):
    for body in (data, form(("model", "A"), ("x", data)), form(("model", data)), form(("model", "A"))[:-6] + data):
        try:
            assert read(body).names[0] in {"A", data.decode("latin-1")}
        except MalformedBodyError:
            continue
