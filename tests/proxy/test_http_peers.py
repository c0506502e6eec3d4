"""The same requests through nginx and HAProxy: every difference has its reason, and every reason is still needed."""

import asyncio
import contextlib
import re
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvloop
from http_cases import CASES, ENDS, Case
from http_peers import HAPROXY, NGINX, PEERS, Peer
from http_wire import PROBE, Recorder, answers, connected, dechunked, read_to_the_end
from proxy_harness import PATIENCE

COMPARED = [case for case in CASES if case not in ENDS]
"""All but the half-closes and the uploads that go on: how much of those a proxy reads is a matter of time."""

Met = tuple[int, tuple[tuple[bytes, bytes, bytes], ...]]
"""How many answers were 200, and what the upstream saw: method, target, body of each request."""


def _request(raw: bytes) -> tuple[bytes, bytes, bytes]:
    head, _, body = raw.partition(b"\r\n\r\n")
    method, target, _ = head.split(b"\r\n")[0].split(b" ", 2)
    if re.search(rb"(?i)\r\ntransfer-encoding: *chunked", head):
        body = dechunked(re.sub(rb"\r\n0\r\n(?:[^\r\n]+\r\n)+\r\n$", b"\r\n0\r\n\r\n", body))[0]
    return method, target, body


def _met(statuses: list[int], seen: tuple[bytes, ...]) -> Met:
    return statuses.count(200), tuple(_request(raw) for raw in seen)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def _ready(process: subprocess.Popen[bytes], port: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            assert process.poll() is None, process.communicate()
            with contextlib.suppress(ConnectionError):
                (await connected(port)).close()
                return
            await asyncio.sleep(0.01)


async def _meet(case: Case, port: int, recorder: Recorder) -> Met:
    """Send it, and behind it a request that closes; a peer that waits for more is ended by its own timeout."""
    client = await connected(port)
    loop = asyncio.get_running_loop()
    with client:
        with contextlib.suppress(ConnectionError):  # it has closed already
            for piece in case.sent:
                if piece is None:
                    client.shutdown(socket.SHUT_WR)
                else:
                    await loop.sock_sendall(client, piece)
            if None not in case.sent and case.end != "waits":
                await loop.sock_sendall(client, PROBE)
        async with asyncio.timeout(PATIENCE):
            raw, _ = await read_to_the_end(client)
            while recorder.open:
                await asyncio.sleep(0.001)
    raw = raw[: raw.rfind(b"HTTP/1.1 200")] if b"\r\n\r\nprobe" in raw else raw
    if case.sent[0] is not None and case.sent[0].startswith(b"HEAD"):
        statuses = [int(status) for status in re.findall(rb"HTTP/1\.1 ([0-9]{3}) ", raw)]
    else:
        statuses = [answer.status for answer in answers(raw)] if raw.startswith(b"HTTP/") else []
    return _met(statuses, tuple(recorder.take()))


@contextlib.contextmanager
def _running(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        try:
            yield process
        finally:
            process.kill()


def _differs(case: Case, met: Met) -> bool:
    return met != _met(list(case.answers), case.seen)


async def _meet_surely(peer: Peer, case: Case, port: int, recorder: Recorder) -> Met:
    """What does not come as the table says is tried again: on a busy machine a timeout of the peer may come first."""
    for _ in range(3):
        met = await _meet(case, port, recorder)
        if _differs(case, met) is (case.name in peer.explained()):
            break
    return met


async def _meet_all(peer: Peer) -> dict[str, Met]:
    port = _free_port()
    with tempfile.TemporaryDirectory() as directory:
        async with Recorder() as recorder:
            (Path(directory) / "conf").write_text(peer.config(port, recorder.port, directory))
            with _running(peer.command(directory)) as process:
                await _ready(process, port)
                return {case.name: await _meet_surely(peer, case, port, recorder) for case in COMPARED}


@pytest.fixture(scope="module", params=PEERS, ids=lambda peer: peer.name)
def peer(request) -> Iterator[tuple[Peer, dict[str, Met]]]:
    if reason := request.param.missing():
        pytest.skip(reason)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        yield request.param, runner.run(_meet_all(request.param))


def test_every_difference_has_its_reason_and_every_reason_its_difference(peer):
    which, met = peer
    differing = {case.name for case in COMPARED if _differs(case, met[case.name])}
    explained = which.explained()
    print(f"{which.name}: {len(COMPARED)} cases, {len(differing)} differ")
    assert differing - explained.keys() == set(), "differences without a reason"
    assert explained.keys() - differing == set(), "reasons without a difference"


@pytest.mark.parametrize("table", [NGINX, HAPROXY], ids=["nginx", "haproxy"])
def test_the_reasons_name_cases_that_exist_once_each(table):
    names = [name for cases in table.values() for name in cases]
    assert len(names) == len(set(names))
    assert set(names) <= {case.name for case in COMPARED}
