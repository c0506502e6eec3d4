"""A kill in the midst of an upload, a list, a message in fragments: refused or cut, and the provider's connection closed.

The client has sent half when the order comes. What is half sent names no model yet, so it is judged when it is whole; what
the provider is being sent, or answers already, is cut at once.
"""

import asyncio
import contextlib
import gzip
import json
import socket
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import pytest
from raw import Raw
from system import new_system, until
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

A, K, HEARD = "gpt-5.4-mini", "gpt-5.4", "gpt-4o-transcribe"
HELD = "held-1"
ORDER = {"authority": "BIS", "reference": "2026-1"}
OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
LARGE = 12 * 2**20


# ------------------------------------------------------------------------------------------------ bodies


def form(*fields: tuple[str, bytes], file: bytes, name: str = "f.jsonl") -> bytes:
    parts = [
        b'--x\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n' % (key.encode(), value)
        for key, value in fields
    ]
    head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="%b"\r\n\r\n' % name.encode()
    return b"".join(parts) + head + file + b"\r\n--x--\r\n"


def line(model: str) -> bytes:
    return json.dumps({"custom_id": model, "method": "POST", "url": "/v1/responses", "body": {"model": model}}).encode()


def chat(model: str, size: int = 200_000) -> bytes:
    return json.dumps({"messages": [{"role": "user", "content": "x" * size}], "model": model, "max_tokens": 9}).encode()


@dataclass(frozen=True)
class Upload:
    """A request that takes a while to send. ``off``: the model that it names, and that goes off."""

    name: str
    path: str
    body: bytes
    off: str
    kind: str = "multipart/form-data; boundary=x"
    coding: str = ""
    chunked: bool = False

    def head(self, tag: str, **more: str) -> bytes:
        framing = "Transfer-Encoding: chunked" if self.chunked else f"Content-Length: {len(self.body)}"
        lines = [f"POST /openai/v1/{self.path} HTTP/1.1", "Host: gate", "Authorization: Bearer demo-alice", framing,
                 f"Content-Type: {self.kind}", f"X-Sim-Tag: {tag}", *(f"{name.replace('_', '-')}: {value}" for name, value in more.items())]  # fmt: skip
        lines += [f"Content-Encoding: {self.coding}"] if self.coding else []
        return "\r\n".join([*lines, "", ""]).encode()

    def halves(self) -> tuple[bytes, bytes]:
        half = len(self.body) // 2
        first, second = self.body[:half], self.body[half:]
        if not self.chunked:
            return first, second
        return b"%x\r\n%b\r\n" % (len(first), first), b"%x\r\n%b\r\n0\r\n\r\n" % (len(second), second)


UPLOADS = [
    Upload("batch file", "files", form(("purpose", b"batch"), file=b"\n".join([*[line(A)] * 400, line(K)])), K),
    Upload("audio form", "audio/transcriptions", form(("model", HEARD.encode()), file=bytes(300_000), name="a.wav"), HEARD),
    Upload("gzip", "chat/completions", gzip.compress(chat(K, 0).replace(b"max_tokens", b"a" * 9_000 + b"max_tokens") * 1), K, "application/json", "gzip"),
    Upload("chunked gzip", "chat/completions", gzip.compress(chat(K), 0), K, "application/json", "gzip", chunked=True),
    Upload("JSON", "chat/completions", chat(K), K, "application/json"),
]  # fmt: skip


# ------------------------------------------------------------------------------------------------ ends


class HeldProvider:
    """A provider that reads nothing until it is told to, and says how its connections end."""

    def __init__(self) -> None:
        self.connected = asyncio.Event()
        self.reads = asyncio.Event()
        self.ended: list[str] = []
        self.received = 0

    async def serve(self, reader, writer) -> None:
        self.connected.set()
        await self.reads.wait()
        try:
            while data := await reader.read(2**16):
                self.received += len(data)
            self.ended.append("closed")
        except ConnectionResetError:
            self.ended.append("reset")
        finally:
            writer.close()


@pytest.fixture(scope="module")
def port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


@pytest.fixture(scope="module")
def module_system(port):
    system = new_system(
        PORTCULLIS_PROXY__WORKERS="1",
        PORTCULLIS_PROVIDERS__HELD__DIALECT="openai",
        PORTCULLIS_PROVIDERS__HELD__BASE_URL=f"http://127.0.0.1:{port}",
        PORTCULLIS_PROVIDERS__HELD__API_KEY="sk-held",
    )
    try:
        yield system.start()
    finally:
        system.stop()


@pytest.fixture
async def held(system, port) -> AsyncIterator[HeldProvider]:
    model = {"routes": [{"provider": "held", "names": [HELD]}], "family": "held"}
    new = {"If-None-Match": "*"}
    added = await system.ask_admin("PUT", f"/api/v1/models/{HELD}", model, token="demo-approver", headers=new)
    assert added.status in (200, 201, 412), added.json
    provider = HeldProvider()
    server = await asyncio.start_server(provider.serve, "127.0.0.1", port, limit=2**16)
    for sock in server.sockets:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**16)
    async with server:
        yield provider
        provider.reads.set()


async def open_connection(system):
    address = urlsplit(system.proxy)
    return await asyncio.open_connection(address.hostname, address.port)


async def answer(reader) -> Raw:
    result = Raw(head=await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10))
    result.body = await reader.readexactly(int(result.header("content-length")))
    return result


def reason(found: Raw) -> str:
    return found.json()["error"]["portcullis"]["reason"]


async def gauge(system, name: str, least: float = 1) -> None:
    """Until a gauge of the workers says so much, over all of its labels."""

    async def there() -> bool:
        found = await system.metrics()
        return sum(value for row, value in found.items() if row.split("{")[0] == name) >= least

    await until(there, name)


async def arrived(system, tag: str) -> list[dict]:
    return (await system.simulated(f"/_sim/requests?tag={tag}&full=1"))["requests"]


async def messages(system, tag: str) -> list[dict]:
    """What a provider was told on a WebSocket, after the handshake."""
    return [record for record in await arrived(system, tag) if record["method"] == "MESSAGE"]


async def none_left(system) -> None:
    """Nothing goes on at the provider, and the gateway keeps nothing."""

    async def over() -> bool:
        found = await system.metrics()
        kept = [
            value
            for row, value in found.items()
            if row.partition("{")[0] in ("portcullis_in_flight_requests", "portcullis_buffered_bytes")
        ]
        return not sum(kept)

    await until(over, "everything to be over")
    assert (await system.simulated("/_sim/stats"))["open_streams"] == 0


# ------------------------------------------------------------------------------------------------ uploads


@pytest.mark.parametrize("upload", UPLOADS, ids=lambda upload: upload.name)
async def test_half_of_an_upload_is_here_when_the_order_comes(system, upload):
    tag = f"half-{upload.name.replace(' ', '-')}"
    reader, writer = await open_connection(system)
    first, second = upload.halves()
    writer.write(upload.head(tag) + first)
    await gauge(system, "portcullis_buffered_bytes", len(upload.body) // 2 - 8)
    assert (await system.offline(upload.off, order=ORDER))["enforced"]
    writer.write(second)
    refused = await answer(reader)
    writer.close()
    assert (refused.status, reason(refused)) == (451, "model_offline")
    assert not await arrived(system, tag), "not a byte of it went on"
    await none_left(system)


@pytest.mark.parametrize("upload", UPLOADS, ids=lambda upload: upload.name)
async def test_the_provider_has_an_upload_when_the_order_comes(system, upload):
    tag = f"sent-{upload.name.replace(' ', '-')}"
    reader, writer = await open_connection(system)
    writer.write(upload.head(tag, X_Sim_First_Byte="30") + b"".join(upload.halves()))

    async def there() -> bool:
        return bool(await arrived(system, tag))

    await until(there, "the provider to have it")
    assert (await system.offline(upload.off, order=ORDER))["enforced"]
    refused = await answer(reader)
    writer.close()
    assert (refused.status, reason(refused)) == (451, "model_offline")

    async def gone() -> bool:
        (record,) = await arrived(system, tag)
        return record["ended"] == "client_gone" and not record["emissions"]

    await until(gone, "the provider's connection to be closed")
    await none_left(system)


@pytest.mark.parametrize("coding", ["", "gzip"])
async def test_half_of_an_upload_is_at_the_provider_when_the_order_comes(system, held, coding):
    """It takes nothing for now: the socket's buffers are full, the rest waits in the gateway."""
    body = chat(HELD, LARGE)
    upload = Upload(
        "large", "chat/completions", gzip.compress(body, 0) if coding else body, HELD, "application/json", coding
    )
    reader, writer = await open_connection(system)
    writer.write(upload.head("large").replace(b"/openai/", b"/held/", 1) + upload.body)
    async with asyncio.timeout(20):
        await writer.drain()
        await held.connected.wait()
    await gauge(system, "portcullis_in_flight_requests")
    assert (await system.offline(HELD, order=ORDER))["enforced"]
    refused = await answer(reader)
    writer.close()
    assert (refused.status, reason(refused)) == (451, "model_offline")
    held.reads.set()
    await until(lambda: held.ended, "the provider's connection to be closed")
    assert held.received < len(upload.body), "the rest of it never went on"
    await none_left(system)


# ------------------------------------------------------------------------------------------------ lists and contents


def get(path: str, tag: str, **more: str) -> bytes:
    lines = [f"GET /openai/v1/{path} HTTP/1.1", "Host: gate", "Authorization: Bearer demo-alice", f"X-Sim-Tag: {tag}",
             *(f"{name.replace('_', '-')}: {value}" for name, value in more.items())]  # fmt: skip
    return "\r\n".join([*lines, "", ""]).encode()


async def test_a_list_under_way_when_the_order_comes_has_the_model_no_more(system):
    reader, writer = await open_connection(system)
    writer.write(get("models", "list", X_Sim_First_Byte="1"))

    async def there() -> bool:
        return bool(await arrived(system, "list"))

    await until(there, "the provider to have it")
    assert (await system.offline(K, order=ORDER))["enforced"]
    assert not (await arrived(system, "list"))[0]["emissions"], "the list was not there yet"
    listed = await answer(reader)
    writer.close()
    names = [model["id"] for model in listed.json()["data"]]
    assert A in names
    assert K not in names
    await none_left(system)


async def test_what_a_model_has_put_out_under_way_when_the_order_comes_is_refused(system):
    reader, writer = await open_connection(system)
    upload = UPLOADS[0]
    writer.write(upload.head("content") + b"".join(upload.halves()))
    file = (await answer(reader)).json()["id"]
    writer.write(get(f"files/{file}/content", "contents", X_Sim_First_Byte="30"))

    async def there() -> bool:
        return bool(await arrived(system, "contents"))

    await until(there, "the provider to have it")
    assert (await system.offline(K, order=ORDER))["enforced"]
    refused = await answer(reader)
    writer.close()
    assert (refused.status, reason(refused)) == (451, "model_offline")
    (record,) = await arrived(system, "contents")
    assert not record["emissions"]
    await none_left(system)


# ------------------------------------------------------------------------------------------------ WebSockets


def create(model: str) -> str:
    return json.dumps({"type": "response.create", "model": model, "input": "x" * 3000})


@contextlib.asynccontextmanager
async def talk(system, tag: str):
    headers = {"Authorization": "Bearer demo-alice", "X-Sim-Tag": tag, "X-Sim-Interval": "0.02", "X-Sim-Events": "2000"}
    async with connect(f"{system.proxy.replace('http', 'ws')}/openai/v1/responses", additional_headers=headers) as ws:
        yield ws


async def in_fragments(text: str, begun: asyncio.Event, go_on: asyncio.Event) -> AsyncIterator[str]:
    """A message in pieces of 200 letters; half of it is sent before the order, half after."""
    pieces = [text[at : at + 200] for at in range(0, len(text), 200)]
    for number, piece in enumerate(pieces):
        if number == len(pieces) // 2:
            begun.set()
            await go_on.wait()
        yield piece


async def heard(ws) -> list[dict]:
    found = []
    with contextlib.suppress(ConnectionClosed):
        while True:
            found.append(json.loads(await asyncio.wait_for(ws.recv(), 10)))
    return found


async def test_half_of_a_message_is_here_when_the_order_comes(system):
    begun, go_on = asyncio.Event(), asyncio.Event()
    async with talk(system, "fragments") as ws:
        sending = asyncio.create_task(ws.send(in_fragments(create(K), begun, go_on)))
        await begun.wait()
        await gauge(system, "portcullis_buffered_bytes", 1500 // 2)
        assert (await system.offline(K, order=ORDER))["enforced"]
        go_on.set()
        await sending
        (error,) = await heard(ws)
        assert error["error"]["portcullis"]["reason"] == "model_offline"
        assert ws.close_code == 1008
    assert not await messages(system, "fragments"), "not a byte of it went on"
    await none_left(system)


async def test_half_of_the_next_message_is_here_and_a_response_is_running_when_the_order_comes(system):
    begun, go_on = asyncio.Event(), asyncio.Event()
    async with talk(system, "running") as ws:
        await ws.send(create(K))
        assert json.loads(await ws.recv())["type"] == "response.created"
        sending = asyncio.create_task(ws.send(in_fragments(create(A), begun, go_on)))
        await begun.wait()
        receipt = await system.offline(K, order=ORDER)
        assert receipt["enforced"]
        assert receipt["streams_cut"] == 1
        events = await heard(ws)
        assert events[-1]["error"]["portcullis"]["reason"] == "model_offline"
        assert ws.close_code == 1008
        go_on.set()
        with contextlib.suppress(ConnectionClosed):
            await sending

    async def gone() -> bool:
        (record,) = await messages(system, "running")
        return record["ended"] == "client_gone"

    await until(gone, "the provider's connection to be closed")
    await none_left(system)


async def test_a_fragment_within_a_tcp_segment_is_held_back_too(system):
    """Half of a frame, by hand: no message ends, so nothing of it has been judged when the order comes."""
    reader, writer = await open_connection(system)
    writer.write(
        b"GET /openai/v1/responses HTTP/1.1\r\nHost: gate\r\nAuthorization: Bearer demo-alice\r\nX-Sim-Tag: frame\r\n"
        b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
    message = create(K).encode()
    frame = b"\x81\xfe" + struct.pack("!H", len(message)) + bytes(4) + message
    writer.write(frame[:1000])
    await gauge(system, "portcullis_buffered_bytes", 500)
    assert (await system.offline(K, order=ORDER))["enforced"]
    writer.write(frame[1000:])
    last = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    assert b"model_offline" in last
    assert last[-2 - len("model_offline") :] == struct.pack("!H", 1008) + b"model_offline"
    assert not await messages(system, "frame")
    await none_left(system)
