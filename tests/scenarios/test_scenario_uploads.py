"""Files that can name no model go through piece by piece: nothing of them stays in the gateway."""

import asyncio
import contextlib
import json
import socket
from urllib.parse import urlsplit

import pytest
from system import new_system, until

MIB = 2**20
SIZE = 512 * MIB
LIMIT_MIB = 24
PART = "/sink/v1/uploads/upload_1/parts"
OK = b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 15\r\n\r\n{"id":"part_1"}'
TOO_LARGE = (
    b"HTTP/1.1 413 Too Large\r\ncontent-type: application/json\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}"
)


class Sink:
    """A provider that throws away what it is sent, or answers before it has read all."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.received = 0
        self.heads: list[bytes] = []
        self.answer_after: int | None = None
        self.reads = asyncio.Event()
        self.reads.set()
        self.lost = 0

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, limit=MIB)
        return self

    async def __aexit__(self, *_):
        self._server.close()

    async def _serve(self, reader, writer):
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            self.heads.append(head)
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
            chunked = b"transfer-encoding: chunked" in head.lower()
            got, tail = 0, b""
            while got < length or (chunked and not tail.endswith(b"0\r\n\r\n")):
                await self.reads.wait()
                data = await reader.read(MIB)
                if not data:
                    self.lost += 1
                    return
                got += len(data)
                tail = (tail + data)[-5:]
                self.received += len(data)
                if self.answer_after is not None and got >= self.answer_after:
                    writer.write(TOO_LARGE)
                    await writer.drain()
                    await asyncio.sleep(0.2)  # a server that closes with bytes unread would reset its own answer away
                    return
            writer.write(OK)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            self.lost += 1
        finally:
            writer.close()


@pytest.fixture(scope="module")
def port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


@pytest.fixture
async def sink(port):
    async with Sink(port) as running:
        yield running


@pytest.fixture(scope="module")
def module_system(port):
    system = new_system(
        PORTCULLIS_PROXY__WORKERS="1",
        PORTCULLIS_PROVIDERS__SINK__DIALECT="openai",
        PORTCULLIS_PROVIDERS__SINK__BASE_URL=f"http://127.0.0.1:{port}",
        PORTCULLIS_PROVIDERS__SINK__API_KEY="sk-sink",
    )
    try:
        yield system.start()
    finally:
        system.stop()


def head(framing: str, *more: str, key: str = "demo-alice") -> bytes:
    lines = [f"POST {PART} HTTP/1.1", "Host: gate", f"Authorization: Bearer {key}", framing]
    return "\r\n".join([*lines, "Content-Type: multipart/form-data; boundary=x", *more, "", ""]).encode()


async def connect(system):
    address = urlsplit(system.proxy)
    return await asyncio.open_connection(address.hostname, address.port)


async def answer(reader):
    """The response's head and JSON."""
    start = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
    length = int(start.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    return start, json.loads(await reader.readexactly(length))


async def most_memory(worker, done) -> int:
    most = 0
    while not done.is_set():
        most = max(most, worker.memory_info().rss)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(done.wait(), 0.02)
    return most


async def test_half_a_gigabyte_goes_through_flat_memory(system, sink):
    (worker,) = system.workers()
    idle, done = worker.memory_info().rss, asyncio.Event()
    watching = asyncio.create_task(most_memory(worker, done))
    reader, writer = await connect(system)
    writer.write(head(f"Content-Length: {SIZE}"))
    piece = bytes(MIB)
    began = asyncio.get_running_loop().time()
    for _ in range(SIZE // MIB):
        writer.write(piece)
        await writer.drain()
    start, told = await answer(reader)
    seconds = asyncio.get_running_loop().time() - began
    done.set()
    most = await watching
    print(f"\n512 MiB through in {seconds:.1f} s: worker {most / MIB:.0f} MiB at the most, idle {idle / MIB:.0f} MiB")
    assert start.startswith(b"HTTP/1.1 200")
    assert told == {"id": "part_1"}
    assert sink.received == SIZE
    assert most - idle < LIMIT_MIB * MIB
    writer.close()

    def logged():
        return [line for line in system.events("request") if line["operation"] == "uploads.parts"]

    (line,) = await until(logged, "the log line")
    assert line["bytes_in"] == SIZE


async def test_a_provider_that_takes_nothing_holds_the_client_back(system, sink):
    (worker,) = system.workers()
    sink.reads.clear()
    idle = worker.memory_info().rss
    reader, writer = await connect(system)
    writer.write(head("Transfer-Encoding: chunked"))
    chunk = b"%x\r\n%b\r\n" % (MIB, bytes(MIB))
    sent = 0
    with contextlib.suppress(TimeoutError):
        for _ in range(200):
            writer.write(chunk)
            await asyncio.wait_for(writer.drain(), 1)
            sent += 1
    assert sent < 100, "nobody would have taken so much"
    assert worker.memory_info().rss - idle < LIMIT_MIB * MIB
    sink.reads.set()
    writer.write(b"0\r\n\r\n")
    start, told = await answer(reader)
    assert start.startswith(b"HTTP/1.1 200")
    assert told == {"id": "part_1"}
    assert b"transfer-encoding: chunked" in sink.heads[0]
    writer.close()


async def test_an_early_answer_gets_to_the_client(system, sink):
    sink.answer_after = 3 * MIB
    reader, writer = await connect(system)
    writer.write(head(f"Content-Length: {SIZE}"))
    with contextlib.suppress(ConnectionError, TimeoutError):
        for _ in range(8):
            writer.write(bytes(MIB // 2))
            await asyncio.wait_for(writer.drain(), 5)
    start, told = await answer(reader)
    assert start.startswith(b"HTTP/1.1 413")
    assert b"connection: close" in start
    assert told == {}
    writer.close()


async def test_an_upload_of_a_caller_that_is_gone_is_cut(system, sink):
    reader, writer = await connect(system)
    try:
        writer.write(head(f"Content-Length: {SIZE}", key="demo-bob") + bytes(MIB))
        await until(lambda: sink.received >= MIB, "the first piece at the provider")
        path, approver = "/api/v1/callers/demo-bob", "demo-approver"
        found = await system.ask_admin("GET", path, token=approver)
        version = {"If-Match": found.headers["ETag"]}
        gone = await system.ask_admin("DELETE", path, token=approver, headers=version)
        assert gone.status == 200, gone.json
        await until(lambda: sink.lost == 1, "the provider's connection to be cut")
        start, told = await answer(reader)
        assert start.startswith(b"HTTP/1.1 401")
        assert told["error"]["portcullis"]["reason"] == "unauthenticated"
        assert sink.received == MIB
    finally:
        writer.close()
