"""Every hostile answer of the table, through the real data plane: what the client gets, and what is counted."""

import asyncio
import contextlib
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import uvloop
from http_cases import post
from http_upstream_cases import LIMITS, PLAIN, PLAINLY, REPLIES, RESET, Relay, Reply
from http_wire import PROBE, GateRunner, Recorder, answers, read_to_the_end, until
from proxy_harness import PATIENCE, Door

from gateway.proxy.upstream import reset


class Script(Recorder):
    """An upstream that answers the next request of a connection with the pieces it is given, others with ``PLAIN``."""

    def __init__(self) -> None:
        super().__init__()
        self.next: tuple[bytes | str, ...] = ()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await self._request(reader)
            pieces, self.next = self.next or (PLAIN,), ()
            for piece in pieces:
                await self._play(piece, writer)

    async def _play(self, piece: bytes | str, writer: asyncio.StreamWriter) -> None:
        if isinstance(piece, bytes):
            writer.write(piece)
            await writer.drain()
            for _ in range(3):  # a read of the gate for each piece
                await asyncio.sleep(0)
            return
        if piece == RESET and not writer.is_closing():
            reset(writer.transport)
        writer.close()
        raise ConnectionResetError


@dataclass
class Result:
    """What came of a reply."""

    raw: bytes = b""
    end: str = "hangs"
    kept: bool = False
    causes: dict[str, float] = field(default_factory=dict)
    after: bytes = b""


class Runner:
    """Asks, lets the script answer, reads; then another client asks for something plain."""

    def __init__(self, door: Door, script: Script) -> None:
        self.script = script
        self.gate = GateRunner(door, script)

    @property
    def pool(self):
        return self.gate.door.gate.providers["openai"].pool

    def failures(self) -> dict[str, float]:
        samples = self.gate.door.gate.counters.samples()
        return {labels[1]: value for name, labels, value in samples if name == "portcullis_upstream_failures_total"}

    async def run_once(self, pieces: tuple[bytes | str, ...]) -> Result:
        """Any answer that ends with its connection, and nothing after it."""
        return await self.run(Reply("", pieces), once=True)

    async def run(self, reply: Reply, *, once: bool = False) -> Result:
        result = Result()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                await self._run(reply, result)
                if not once:
                    result.after, _ = await self._ask(post(), ())
        return result

    async def _run(self, reply: Reply, result: Result) -> None:
        for upstream in list(self.pool.open):
            upstream.abort()
        if reply.used_before:
            await self._ask(post(), ())
        before = self.failures()
        result.raw, result.end = await self._ask(reply.request, reply.sent)
        result.causes = {
            cause: n - before.get(cause, 0) for cause, n in self.failures().items() if n != before.get(cause)
        }
        if not reply.kept:
            await until(lambda: not self.pool.open)
        result.kept = bool(self.pool.open)

    async def _ask(self, request: bytes, pieces: tuple[bytes | str, ...]) -> tuple[bytes, str]:
        self.script.next = pieces
        client, connection = await self.gate.connect()
        with client:
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(client, request)
            await until(lambda: connection.received and (connection.gone or not connection._exchanges))
            if not connection.over:
                await loop.sock_sendall(client, PROBE)
            raw, orderly = await read_to_the_end(client)
            begin = raw.rfind(b"HTTP/1.1 404 ")
            if begin >= 0:
                return raw[:begin], "open"
            return raw, "closed" if orderly else "reset"


async def _run_all() -> dict[str, Result]:
    async with Script() as script:
        with tempfile.TemporaryDirectory() as directory:
            runner = Runner(Door(script.port, Path(directory), limits=LIMITS), script)
            await runner.gate.open()
            try:
                return {reply.name: await runner.run(reply) for reply in REPLIES}
            finally:
                await runner.gate.close()


@pytest.fixture(scope="module")
def results() -> Iterator[dict[str, Result]]:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        yield runner.run(_run_all())


def test_the_names_are_unique():
    assert len({reply.name for reply in REPLIES}) == len(REPLIES)


def _plain(head: bytes) -> bytes:
    return re.sub(rb"req_\w+", b"ID", head)


def _check_relay(result: Result, relay: Relay) -> None:
    found = answers(result.raw)
    assert result.end == relay.end
    if relay.end == "reset":  # what is still on its way is thrown away
        assert (not found) or (_plain(found[0].head) == relay.head and relay.body.startswith(found[0].body))
        assert not found or not found[0].complete or b"content-length" not in found[0].head
        return
    (answer,) = found
    assert (_plain(answer.head), answer.body, answer.complete) == (relay.head, relay.body, relay.complete)


def _check_refusal(result: Result) -> None:
    (answer,) = answers(result.raw)
    assert (answer.status, result.end) == (502, "open")
    assert b"\r\nPortcullis-Reason: upstream_unreachable\r\n" in answer.head


@pytest.mark.parametrize("reply", REPLIES, ids=lambda reply: reply.name)
def test_reply(results, reply: Reply):
    result = results[reply.name]
    if reply.gets is None:
        _check_refusal(result)
    else:
        _check_relay(result, reply.gets)
    assert result.causes == ({reply.cause: 1} if reply.cause else {})
    assert result.kept is reply.kept
    (after,) = answers(result.after)
    assert (_plain(after.head), after.body) == (PLAINLY.head, PLAINLY.body), "the next client gets its own"
