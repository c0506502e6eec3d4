"""Clients and providers that mean harm: what a worker uses stays bounded, and everybody else is served meanwhile.

Figures are printed: before, the most during the attack, and the latency of a client that has nothing to do with it.
"""

import asyncio
import contextlib
import http.client
import json
import resource
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from raw import ask, request
from system import System, new_system, until
from usage import MIB, Usage, watched

CONNECTIONS = 5_500
NEEDED = 12_000
"""Descriptors of this process, and of a worker: 5,500 clients, their providers' connections, and some to spare."""

SETTINGS = {
    "PORTCULLIS_PROXY__WORKERS": "1",
    "PORTCULLIS_PROXY__LIMITS__CONNECTIONS": str(CONNECTIONS),
    "PORTCULLIS_PROXY__TIMEOUTS__HEAD": "2",
    "PORTCULLIS_PROXY__TIMEOUTS__BODY": "3",
    "PORTCULLIS_PROXY__TIMEOUTS__WRITE": "1",
    "PORTCULLIS_PROXY__TIMEOUTS__FIRST_BYTE": "3",
    "PORTCULLIS_PROXY__TIMEOUTS__IDLE": "2",
    "PORTCULLIS_PROXY__TIMEOUTS__UPSTREAM_KEEP_ALIVE": "1",
}
PATH, HOSTILE_PATH = "/openai/v1/chat/completions", "/compatible/v1/chat/completions"
CALM, HOSTILE = "gpt-5.4-mini", "mistral-large"
FAST = {"X-Sim-Interval": "0"}


def body(model: str, **more: object) -> bytes:
    return json.dumps({"model": model, "messages": [{"role": "user", "content": "Hi"}], **more}).encode()


def key(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {name}"}


@pytest.fixture(scope="module")
def module_system():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < NEEDED:
        pytest.skip(f"needs {NEEDED} descriptors, and the hard limit is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    system = new_system(**SETTINGS)
    try:
        system.start_redis()
        system.start_simulator()
        system.env["PORTCULLIS_PROVIDERS__COMPATIBLE__BASE_URL"] = f"http://127.0.0.1:{start_hostile(system)}"
        system.run("init", "--seeds", str(Path(__file__).resolve().parents[2] / "seeds"))
        system.start_gateway()
        yield system
    finally:
        system.stop()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def start_hostile(system: System) -> int:
    process = subprocess.Popen(
        [sys.executable, Path(__file__).with_name("hostile_provider.py")],
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    system.processes["hostile"] = process
    assert process.stdout is not None
    with process.stdout as said:
        return int(said.readline())


async def hostile_stats(system: System) -> dict:
    raw = await ask(system.env["PORTCULLIS_PROVIDERS__COMPATIBLE__BASE_URL"], "/stats", b"", {})
    return raw.json()


# ------------------------------------------------------------------------------------------------ who is not attacking


@dataclass
class Calm:
    """Somebody with one connection and one request after the other, on a thread of its own; each must succeed."""

    base: str
    seconds: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    leaves: threading.Event = field(default_factory=threading.Event)

    def go_on(self) -> None:
        address = urlsplit(self.base)
        connection = http.client.HTTPConnection(address.hostname, address.port, timeout=30)
        headers = {**key("demo-alice"), **FAST, "Content-Type": "application/json"}
        try:
            while not self.leaves.wait(0.01):
                began = time.monotonic()
                connection.request("POST", PATH, body(CALM), headers)
                response = connection.getresponse()
                response.read()
                self.seconds.append(time.monotonic() - began)
                if response.status != 200 or response.will_close:
                    self.wrong.append(f"{response.status} {response.headers}")
        except (OSError, http.client.HTTPException) as error:
            self.wrong.append(repr(error))
        finally:
            connection.close()

    def __str__(self) -> str:
        ms = sorted(1000 * second for second in self.seconds)
        return f"others: {len(ms)} requests, median {statistics.median(ms):.1f} ms, worst {ms[-1]:.0f} ms"


@contextlib.asynccontextmanager
async def attack(system: System, name: str, *, bound: float):
    """Watch the worker, and somebody who is calm; afterwards nothing may be left, and memory within ``bound`` MiB."""
    (worker,) = system.workers()
    calm = Calm(system.proxy)
    going_on = asyncio.ensure_future(asyncio.to_thread(calm.go_on))
    await until(lambda: len(calm.seconds) > 5, "the calm client")
    async with watched(worker) as watch:
        try:
            yield watch
            count = len(calm.seconds)
            await until(lambda: len(calm.seconds) > count + 5 or calm.wrong, "the calm client to go on")
        finally:
            calm.leaves.set()
            await going_on
    await until(lambda: rests(system), f"nothing to be left of {name}", 30)
    print(f"\n{name}\n  before: {watch.before}\n  peak:   {watch.peak}\n  after:  {Usage.of(worker)}\n  {calm}")
    assert calm.wrong == []
    assert watch.grown < bound
    assert system.workers() == [worker]


async def rests(system: System) -> bool:
    names = ("in_flight_requests", "client_connections", "buffered_bytes", "spooled_bodies", "upstream_connections")
    metrics = await system.metrics()
    return not any(v for k, v in metrics.items() if k.split("{")[0].removeprefix("portcullis_") in names)


# ------------------------------------------------------------------------------------------------ slow clients


async def connect(system: System, receive: int = 0) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    sock = socket.socket()
    if receive:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
    sock.setblocking(False)
    address = urlsplit(system.proxy)
    await asyncio.get_running_loop().sock_connect(sock, (address.hostname, address.port))
    return await asyncio.open_connection(sock=sock)


async def drip(system: System, at_once: bytes, slowly: bytes) -> int:
    """Send a part, then a byte at a time, until an answer comes: its status."""
    reader, writer = await connect(system)
    writer.write(at_once)
    answer = asyncio.ensure_future(reader.read())
    for byte in slowly:
        if answer.done():
            break
        writer.write(bytes([byte]))
        await asyncio.sleep(0.05)
    said = await answer
    writer.close()
    return int(said.split(b" ", 2)[1]) if said else 0


async def test_heads_and_bodies_byte_by_byte(system):
    """No byte of a body is a second after the one before: that they are never silent does not help them."""
    async with attack(system, "200 heads and 200 bodies, byte by byte", bound=30):
        head = request(PATH, body(CALM), {**key("demo-bob"), "X-Long": "x" * 2000})
        data = request(PATH, body(CALM, user="x" * 2000), key("demo-bob"))
        drips = [(b"", head), (data[:-2000], data[-2000:])] * 200
        statuses = await asyncio.gather(*(drip(system, at_once, slowly) for at_once, slowly in drips))
        assert set(statuses) == {408}


# ------------------------------------------------------------------------------------------------ many clients


async def idle(system: System) -> socket.socket:
    """A connection that has been of use once, and stays."""
    loop, address = asyncio.get_running_loop(), urlsplit(system.proxy)
    sock = socket.socket()
    sock.setblocking(False)
    try:
        await loop.sock_connect(sock, (address.hostname, address.port))
        await loop.sock_sendall(sock, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        if not await loop.sock_recv(sock, 4096):
            raise ConnectionResetError
    except OSError:
        sock.close()
        raise
    return sock


async def idle_ones(system: System, count: int) -> tuple[list[socket.socket], int]:
    """So many of them; and how many were turned away."""
    socks, refused = [], 0
    for start in range(0, count, 250):
        tries = (idle(system) for _ in range(min(250, count - start)))
        for found in await asyncio.gather(*tries, return_exceptions=True):
            if isinstance(found, socket.socket):
                socks.append(found)
            else:
                assert isinstance(found, OSError), found
                refused += 1
    return socks, refused


async def test_idle_connections_and_a_flood_past_the_limit(system):
    (worker,) = system.workers()
    async with attack(
        system, f"5,000 idle connections, then a flood past the limit of {CONNECTIONS}", bound=150
    ) as watch:
        socks, refused = await idle_ones(system, 5_000)
        assert refused == 0
        watch.look()
        print(f"\n5,000 idle: {Usage.of(worker)}, {watch.grown * 1024 / 5_000:.1f} KiB each")
        more, refused = await idle_ones(system, 1_500)
        assert (await system.metrics())["portcullis_client_connections"] == CONNECTIONS
        assert (len(more), refused) == (CONNECTIONS - 5_001, 1_500 - len(more)), "the calm client has one"
        print(f"flood: {len(more)} more let in, {refused} turned away")
        for sock in socks + more:
            sock.close()
    raw = await ask(system.proxy, PATH, body(CALM), {**key("demo-bob"), **FAST})
    assert raw.status == 200


# ------------------------------------------------------------------------------------------------ large bodies


async def upload(system: System, whole: memoryview, name: str) -> int:
    """Send it, without a copy; the status, or 0 if it was cut before it could be read."""
    loop, address = asyncio.get_running_loop(), urlsplit(system.proxy)
    head = request(HOSTILE_PATH, b"", key(name)).replace(b"Content-Length: 0", b"Content-Length: %d" % len(whole))
    with socket.socket() as sock:
        sock.setblocking(False)
        try:
            await loop.sock_connect(sock, (address.hostname, address.port))
            await loop.sock_sendall(sock, head)
            sending = asyncio.ensure_future(loop.sock_sendall(sock, whole))
            answer = await loop.sock_recv(sock, 65536)
        except OSError:
            answer = b""
        sending.cancel()
        with contextlib.suppress(asyncio.CancelledError, OSError):
            await sending
    return int(answer.split(b" ", 2)[1]) if answer else 0


async def test_large_bodies_all_at_once(system):
    whole = memoryview(body(HOSTILE, user="x" * 30 * MIB))
    peaks: Counter[str] = Counter()

    async def look() -> None:
        while True:
            metrics = await system.metrics()
            for name in ("portcullis_buffered_bytes", "portcullis_spooled_bodies"):
                peaks[name] = max(peaks[name], int(metrics[name]))
            await asyncio.sleep(0.05)

    async with attack(system, "200 bodies of 30 MiB, of two callers", bound=150):
        looking = asyncio.ensure_future(look())
        callers = ["demo-bob", "demo-erin"] * 100
        statuses = Counter(await asyncio.gather(*(upload(system, whole, name) for name in callers)))
        looking.cancel()
        print(f"\n{dict(statuses)} (0: cut while it sent); at most {peaks['portcullis_buffered_bytes'] / MIB:.0f} MiB in "
              f"{peaks['portcullis_spooled_bodies']} files")  # fmt: skip
        assert set(statuses) <= {0, 200, 503}
        assert statuses[200]
        assert peaks["portcullis_buffered_bytes"] <= 2 * 256 * MIB + MIB
    raw = await ask(system.proxy, HOSTILE_PATH, bytes(whole), key("demo-bob"))
    assert raw.status == 200, "afterwards there is room"


async def test_a_caller_whose_bodies_take_long_to_read_waits_for_itself(system):
    """Bodies that only the slow pass can read: each takes a third of a second, and somebody else has one of 2 MiB."""
    heavy = body(HOSTILE, x={"model": "K"}, y=[{}] * 95_000)
    done = []

    async def send(name: str, data: bytes) -> None:
        raw = await ask(system.proxy, HOSTILE_PATH, data, key(name))
        assert raw.status == 200
        done.append(name)

    async with attack(system, "12 bodies that take long to read", bound=60):
        began = time.monotonic()
        greedy = [asyncio.ensure_future(send("demo-bob", heavy)) for _ in range(12)]
        await until(lambda: done, "the first of them")
        await send("demo-erin", body(HOSTILE, user="x" * 2 * MIB))
        before = done.count("demo-bob")
        first = time.monotonic() - began
        await asyncio.gather(*greedy)
        print(f"\nanother's large body came after {before} of 12, at {first:.1f} s of {time.monotonic() - began:.1f} s")
        assert before <= 4, "its turn was next but one"


async def test_bodies_in_chunks_of_one_byte(system):
    async with attack(system, "20 clients that send 200 kB in chunks of one byte each", bound=60):
        head = request(PATH, b"", key("demo-bob")).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
        pairs = [await connect(system) for _ in range(20)]
        for _, writer in pairs:
            writer.write(head + b"1\r\n \r\n" * 200_000 + b"0\r\n\r\n")
        answers = await asyncio.gather(*(reader.readuntil(b"\r\n\r\n") for reader, _ in pairs))
        for _, writer in pairs:
            writer.close()
        assert {answer.split(b" ", 2)[1] for answer in answers} == {b"400"}


# ------------------------------------------------------------------------------------------------ hostile providers


@pytest.mark.parametrize(
    ("harm", "count", "outcome"),
    [
        ("silent", 300, (504, "upstream_timeout", "complete")),
        ("head_only", 300, (200, None, "cut")),
        ("endless_header", 20, (502, "upstream_unreachable", "complete")),
        ("endless_headers", 20, (502, "upstream_unreachable", "complete")),
    ],
)
async def test_providers_that(system, harm, count, outcome):
    data, headers = body(HOSTILE, stream=True), {**key("demo-bob"), "X-Hostile": harm}
    async with attack(system, f"{count} times: {harm}", bound=60):
        raws = await asyncio.gather(*(ask(system.proxy, HOSTILE_PATH, data, headers) for _ in range(count)))
        assert {(raw.status, raw.header("portcullis-reason"), raw.ended) for raw in raws} == {outcome}
        sent = (await hostile_stats(system))["sent"].get(harm, 0)
        print(f"\n{harm}: sent {sent / MIB:.0f} MiB")


async def test_an_endless_body_to_clients_that_do_not_read(system):
    """The third slow client. What lies in between is a buffer each; the provider waits; after a second both are cut."""
    async with attack(system, "50 endless bodies to clients that do not read", bound=60):
        writers = []
        for _ in range(50):
            _, writer = await connect(system, receive=4096)
            writer.transport.pause_reading()
            writer.write(
                request(HOSTILE_PATH, body(HOSTILE, stream=True), {**key("demo-bob"), "X-Hostile": "endless_body"})
            )
            writers.append(writer)
        await until(lambda: all_begun(system), "all of them", 30)

        async def all_cut() -> bool:
            return (await hostile_stats(system))["connections"] == 0

        await until(all_cut, "providers to be cut", 30)
        sent = (await hostile_stats(system))["sent"]["endless_body"]
        print(f"\nendless_body: sent {sent / MIB:.0f} MiB, most of it into the kernel's buffers")
        for writer in writers:
            writer.close()


async def all_begun(system: System) -> bool:
    return (await hostile_stats(system))["begun"].get("endless_body") == 50
