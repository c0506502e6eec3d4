"""A client that stops reading holds back its provider; five hundred of them do not fill a worker's memory."""

import asyncio
import json
import socket
from urllib.parse import urlsplit

import pytest
from raw import request
from system import new_system, until

BODY = {"model": "claude-opus-4-5", "max_tokens": 9, "stream": True, "messages": [{"role": "user", "content": "Hi"}]}
# Each stream would be 40 MB, at 40 KB an event as fast as it is taken.
HEADERS = {"x-api-key": "demo-alice", "X-Sim-Interval": "0", "X-Sim-Events": "1000", "X-Sim-Event-Bytes": "40000"}
STREAMS = 500
LIMIT_MIB = 150


@pytest.fixture(scope="module")
def module_system():
    system = new_system(PORTCULLIS_PROXY__WORKERS="1")
    try:
        yield system.start()
    finally:
        system.stop()


def open_stream(address) -> socket.socket:
    sock = socket.create_connection((address.hostname, address.port))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.sendall(request("/anthropic/v1/messages", json.dumps(BODY).encode(), HEADERS))
    return sock


async def test_clients_that_stop_reading_hold_back_their_providers(system):
    (worker,) = system.workers()
    idle = worker.memory_info().rss
    address = urlsplit(system.proxy)
    socks = [await asyncio.to_thread(open_stream, address) for _ in range(STREAMS)]
    try:

        async def all_started() -> bool:
            return (await system.simulated("/_sim/stats"))["open_streams"] == STREAMS

        await until(all_started, "all streams", 60)
        await until(lambda: settled(system), "the providers to be held back", 60)
        full = worker.memory_info().rss
        emitted = (await system.simulated("/_sim/stats"))["emitted_events"]
        print(f"\n{STREAMS} clients that do not read: worker {full / 2**20:.0f} MiB (idle {idle / 2**20:.0f} MiB); "
              f"emitted {emitted * 40_000 / 2**20:.0f} MiB of {STREAMS * 40_000 * 1000 / 2**20:.0f}")  # fmt: skip
        assert full < LIMIT_MIB * 2**20
    finally:
        for sock in socks:
            sock.close()

    async def none_left() -> bool:
        return (await system.simulated("/_sim/stats"))["open_streams"] == 0

    await until(none_left, "the providers to be let go", 30)


async def test_a_client_that_pauses_and_reads_on_gets_everything(system):
    reader, writer = await asyncio.open_connection(urlsplit(system.proxy).hostname, urlsplit(system.proxy).port)
    writer.write(request("/anthropic/v1/messages", json.dumps(BODY).encode(), HEADERS))
    reader._transport.pause_reading()
    await until(lambda: settled(system), "the provider to be held back", 30)
    reader._transport.resume_reading()
    total = 0
    tail = b""
    while not tail.endswith(b"0\r\n\r\n"):
        data = await asyncio.wait_for(reader.read(1 << 20), 20)
        assert data, "closed before the end"
        total += len(data)
        tail = (tail + data)[-5:]
    assert total > 1000 * 40_000
    writer.close()


async def settled(system) -> bool:
    first = (await system.simulated("/_sim/stats"))["emitted_events"]
    await asyncio.sleep(0.5)  # the condition is that nothing happens
    return first == (await system.simulated("/_sim/stats"))["emitted_events"]
