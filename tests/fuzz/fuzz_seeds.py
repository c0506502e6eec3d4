"""What fuzzing starts from: of each reader's table a whole document, and the ambiguities that are known; and mutations."""

import json
import random
from collections.abc import Iterator
from typing import Any

from fuzz_targets import BODIES, BOUNDARY, FORMS, TALKS

from gateway.dialects.forms import Form
from gateway.dialects.selectors import ANY_MEMBER, EACH, EACH_OR_TEXT, BodyReader

WORDS = (
    b'"model"', b'"Model"', b'"mod\\u0065l"', b'"model":"K"', b',"model":"K"', b'"id":"r_1"', b'"stream":true', b'"type"',
    b'"image_generation"', b'"default"', b"\\u212a", b"\\u017f", "\u017f".encode(), "\u212a".encode(), b"\xef\xbb\xbf",
    b"\\ud800", b'\\"', b"\\\\", b"\\/", b"NaN", b"1e400", b"null", b"{", b"}", b"[", b"]", b":", b",", b'"', b"\0", b"\xff",
    b"\n", b"\r\n", b"\r", b"\x0b", b"\x0c", b"\x85", "\u2028".encode(), b" ", b"\t",
    b"--x", b"--x--", b"\r\n--x\r\n", b'name="model"', b'filename="f"', b"filename*=utf-8''f", b"Content-Type: text/plain",
    b"Content-Transfer-Encoding: base64", b"charset=utf-16", b"svg[model]", b"model[]", b"purpose", b"batch",
    b"Host: gate", b"Content-Length: 5", b"Transfer-Encoding: chunked", b"Connection: close, x", b"Portcullis-Key: k",
    b"Portcullis_Key: k", b"?model=K", b"&MODEL=K", b"%6d", b"%2f", b"%2F..%2F", b"%3a", b"/..", b"//", b";x", b"#", b"*",
    b"\x81\x80\0\0\0\0", b"\x01\x80\0\0\0\0", b"\x80\x80\0\0\0\0", b"\x82\x80\0\0\0\0", b"\x88\x80\0\0\0\0", b"\x89\x80\0\0\0\0",
    b"\xc1\x80\0\0\0\0", b"\x81\xfe\0\x7e\0\0\0\0",
)  # fmt: skip
"""Pieces that mean something to some reader."""


def document(reader: BodyReader) -> dict[str, Any]:
    """A document that names a model wherever the reader looks, and an id wherever it may stand."""
    whole: dict[str, Any] = {"stream": True, "input": "text"}
    for at, selector in enumerate(reader.selectors):
        _put(whole, selector.path, f"m{at}")
    for implied in reader.implied:
        _put(whole, implied.path, implied.value or "x")
    for path in reader.references:
        _put(whole, path, "r_1")
    return whole


def _put(holder: Any, path: tuple[str, ...], value: Any) -> None:
    """Put a value at a path; where something else stands in the way, leave that."""
    step, rest = path[0], path[1:]
    if isinstance(holder, list):
        if not holder:
            holder.append({})
        if step in (EACH, EACH_OR_TEXT, ANY_MEMBER) and rest:
            _put(holder[0], rest, value)
        return
    if not isinstance(holder, dict):
        return
    key = "any" if step in (EACH, EACH_OR_TEXT, ANY_MEMBER) else step
    if not rest:
        holder.setdefault(key, value)
        return
    many = rest[0] in (EACH, EACH_OR_TEXT)
    if not isinstance(holder.get(key), dict | list):
        holder[key] = [] if many else {}
    _put(holder[key], rest, value)


def _bytes(of: Any) -> bytes:
    return json.dumps(of, separators=(",", ":")).encode()


def json_bodies() -> Iterator[bytes]:
    """Each reader's, after its number."""
    for at, reader in enumerate(BODIES):
        body = _bytes(document(reader))
        yield bytes([at % 256]) + body
    first = bytes([0])
    for text in (
        b'{"model":"A","model":"K"}', b'{"model":"A","Model":"K"}', b'{"mod\\u0065l":"A"}', b'\xef\xbb\xbf{"model":"A"}',
        b'{"model":"A","x":NaN}', b'{"model":"A","x":1e400}', b'{"model":"A"}{"model":"K"}', b'{"model":"A[1m]"}',
        b'{"model":"A","metadata":{"model":"K"}}', '{"model":"A"}'.encode("utf-16"), b"[" * 2000, b'{"model":["K"]}',
        b'{"model":"A","tools":[{"type":"image_generation"}]}', b'{"fallbacks":"default","model":"A"}',
    ):  # fmt: skip
        yield first + text


def line_files() -> Iterator[bytes]:
    """Batches."""
    line = _bytes({"custom_id": "1", "url": "/v1/chat/completions", "body": {"model": "A", "messages": []}})
    yield line
    yield line + b"\n" + line.replace(b'"A"', b'"K"') + b"\n"
    yield line + b"\r\n" + line
    yield line.replace(b"[]", '["\u2028"]'.encode()) + b"\n" + line


def forms() -> Iterator[bytes]:
    """Each form's, after its number."""
    for at, wanted in enumerate(FORMS):
        yield bytes([at % 256]) + _form(wanted)


def _form(wanted: Form) -> bytes:
    parts = []
    for number, selector in enumerate(wanted.selectors):
        name = selector.path[0] + "".join(f"[{step}]" for step in selector.path[1:])
        parts.append((f'name="{name}"'.encode(), f"m{number}".encode()))
    parts += [(f'name="{name}"'.encode(), _bytes(document(reader))) for name, reader in wanted.documents]
    if wanted.batch is not None:
        parts.append((b'name="purpose"', b"batch"))
    parts.append((b'name="file"; filename="f.jsonl"\r\nContent-Type: application/jsonl', next(line_files())))
    body = b"".join(
        b"--%b\r\nContent-Disposition: form-data; %b\r\n\r\n%b\r\n" % (BOUNDARY, head, content)
        for head, content in parts
    )
    return body + b"--%b--\r\n" % BOUNDARY


def heads() -> Iterator[bytes]:
    """After where the first read ends."""
    for target in (
        b"/v1/chat/completions", b"/v1/models/openai%2Fgpt-5.4", b"/v1beta/models/gemini-4:generateContent", b"/v1/realtime?model=A",
        b"/v1/files/file-1/content", b"/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A%3Afoundation-model%2Fx/converse",
    ):  # fmt: skip
        for method in (b"POST", b"GET"):
            yield b"\x20%b %b HTTP/1.1\r\nHost: gate\r\nAuthorization: Bearer k\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}" % (
                method, target,
            )  # fmt: skip
    yield b"\x05GET /v1/realtime?model=A HTTP/1.1\r\nHost: gate\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    yield b"\x09POST /v1/files HTTP/1.1\r\nHost: gate\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n2;x=y\r\n{}\r\n0\r\nTrailer: x\r\n\r\n"


def frame(data: bytes, opcode: int = 1, *, fin: bool = True) -> bytes:
    """A client's frame, masked with nothing, so that what is in it can be mutated."""
    first = bytes([(0x80 if fin else 0) | opcode])
    length = bytes([0x80 | len(data)]) if len(data) < 126 else b"\xfe" + len(data).to_bytes(2, "big")
    return first + length + bytes(4) + data


def conversations() -> Iterator[bytes]:
    """After the talk's number, and where the first read ends."""
    for at, talk in enumerate(TALKS):
        for kind, reader in talk.reader.kinds.items():
            said = document(reader)
            key = talk.reader.key
            message = _bytes(
                {key: kind, **{k: v for k, v in said.items() if k != key}} if key else {kind: said.get(kind, {})}
            )
            if len(message) < 0x10000:
                yield bytes([at, 9]) + frame(message)
                yield (
                    bytes([at, 3])
                    + frame(message[:5], fin=False)
                    + frame(b"?", 9)
                    + frame(message[5:], 0)
                    + frame(b"\x03\xe8", 8)
                )


SEEDS = {"json": json_bodies, "lines": line_files, "form": forms, "head": heads, "frames": conversations}


def seeds(target: str) -> list[bytes]:
    """What a target starts from, each once."""
    return list(dict.fromkeys(SEEDS[target]()))


def mutated(data: bytes, pick: random.Random) -> bytes:
    """One to three changes: a word put in, a slice twice, gone, or in the other case, a byte changed."""
    for _ in range(pick.randint(1, 3)):
        start = pick.randrange(len(data) + 1)
        end = min(len(data), start + pick.randint(1, 24))
        match pick.randrange(6):
            case 0 | 1:
                data = data[:start] + pick.choice(WORDS) + data[start:]
            case 2:
                data = data[:end] + data[start:end] + data[end:]
            case 3:
                data = data[:start] + data[end:]
            case 4:
                data = data[:start] + data[start:end].swapcase() + data[end:]
            case _:
                data = data[:start] + bytes([pick.randrange(256)]) + data[start + 1 :]
    return data
