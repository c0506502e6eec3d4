"""What the gateway writes means the same to everybody: seeded mutations, read again by two independent readers.

Upstream: behind the gateway stand two readers; they see exactly the requests that the gateway permitted, with its
method, path, Host and body; never one more. Towards clients: both see exactly as many responses as the gateway gave,
and none that was cut as complete. A failing case names its number: ``SEED`` and it make the bytes again.
"""

import asyncio
import random
import tempfile
from pathlib import Path
from typing import Any

import pytest
import uvloop
from http_cases import CASES, ENDS, LIMITS
from http_mutations import in_pieces, mutated
from http_readers import requests_of_aiohttp, requests_of_h11, responses_of_aiohttp, responses_of_h11
from http_upstream_cases import REPLIES
from http_wire import GateRunner, Outcome, Recorder
from proxy_harness import Door
from test_http_upstream_cases import Result, Runner, Script

from gateway.proxy.upstream import UpstreamConnection

SEED = 20251124
REQUESTS, RESPONSES = 2000, 1000
LARGEST = 1500
GOOD, ANY = (
    [sent for sent in found if len(sent) < LARGEST]
    for found in (
        [b"".join(case.sent) for case in CASES if case.seen],
        [b"".join(case.sent) for case in CASES if case not in ENDS],
    )
)
"""What is mutated: mostly what would be served."""


class Witness:
    """What the gateway itself says it did: requests it sent, methods it answered, faults it answered."""

    def __init__(self, door: Door, patch: pytest.MonkeyPatch) -> None:
        self.sent: list[tuple[str, str, bytes]] = []
        self.answered: list[str] = []
        send, record, fault = UpstreamConnection.send, door.gate.record, door.gate.fault_response

        def sending(upstream: UpstreamConnection, exchange: Any, permit: Any, head: bytes, body: bytes) -> None:
            query = "?" + exchange.head.query.decode() if exchange.head.query else ""
            self.sent.append((exchange.head.method, "/openai" + exchange.head.way.path + query, body))
            send(upstream, exchange, permit, head, body)

        def recording(exchange: Any) -> None:
            if exchange.status != 499:
                self.answered.append(exchange.head.method)
            record(exchange)

        def faulting(deny: Any) -> bytes:
            self.answered.append("GET")
            return fault(deny)

        patch.setattr(UpstreamConnection, "send", sending)
        patch.setattr(door.gate, "record", recording)
        patch.setattr(door.gate, "fault_response", faulting)

    def take(self) -> tuple[list[tuple[str, str, bytes]], list[str]]:
        """What was since the last time."""
        taken = self.sent, self.answered
        self.sent, self.answered = [], []
        return taken


def _check_requests(outcome: Outcome, sent: list[tuple[str, str, bytes]]) -> None:
    raw = b"".join(outcome.seen)
    for reader in (requests_of_h11, requests_of_aiohttp):
        found = reader(raw)
        assert [(*read.start, read.body) for read in found] == sent, reader.__name__
        assert all(read.complete and read.header("host") == "upstream" for read in found)
        assert all(read.header("transfer-encoding") is None for read in found)


def _check_answers(outcome: Outcome, answered: list[str]) -> None:
    methods = answered[:-1] if outcome.end == "open" else answered  # without the probe's
    statuses = []
    for reader in (responses_of_h11, responses_of_aiohttp):
        if reader is responses_of_aiohttp and "HEAD" in methods and len(methods) > 1:
            continue  # it has one method for all
        found = reader(outcome.raw, methods)
        assert len(found) == len(methods), reader.__name__
        assert all(read.complete for read in found)
        statuses.append([read.start for read in found])
    assert all(some == statuses[0] for some in statuses)


async def _requests() -> dict[str, int]:
    counts = {"cases": 0, "forwarded": 0, "refused": 0}
    pick = random.Random(SEED)
    with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        async with Recorder() as recorder:
            runner = GateRunner(Door(recorder.port, Path(directory), limits=LIMITS), recorder)
            await runner.open()
            witness = Witness(runner.door, patch)
            try:
                for number in range(REQUESTS):
                    pieces = in_pieces(mutated(pick.choice(pick.choice([GOOD, GOOD, ANY])), pick), pick)
                    outcome = await runner.run(pieces)
                    sent, answered = witness.take()
                    try:
                        assert outcome.end != "hangs"
                        assert outcome.end != "reset"
                        _check_requests(outcome, sent)
                        _check_answers(outcome, answered)
                    except Exception as error:
                        raise AssertionError(f"case {number}: {pieces!r} → {outcome!r}, sent {sent}") from error
                    counts["cases"] += 1
                    counts["forwarded"] += len(sent)
                    counts["refused"] += len(answered) - len(sent)
                assert "portcullis_internal_errors_total" not in runner.door.counts
            finally:
                await runner.close()
    return counts


def test_whoever_reads_it_upstream_reads_what_the_gateway_permitted():
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        counts = runner.run(_requests())
    print(counts)
    assert counts["forwarded"] > REQUESTS / 5
    assert counts["refused"] > REQUESTS / 5


def _check_result(result: Result) -> str:
    assert result.end != "hangs"
    one, other = responses_of_h11(result.raw, ["POST"]), responses_of_aiohttp(result.raw, ["POST"])
    if result.end == "reset":
        assert len(one) <= 1
        return "cut"
    assert one == other
    (read,) = one
    failed = bool(result.causes)
    if read.start == ("502",):
        assert read.complete
        return "refused"
    assert read.complete is not failed, "what was cut is not complete, what was not is"
    return "cut" if failed else "relayed"


async def _responses() -> dict[str, int]:
    counts = {"relayed": 0, "refused": 0, "cut": 0}
    pick = random.Random(SEED)
    replies = [b"".join(piece for piece in reply.sent if isinstance(piece, bytes)) for reply in REPLIES]
    replies = [reply for reply in replies if 0 < len(reply) < LARGEST]
    with tempfile.TemporaryDirectory() as directory:
        async with Script() as script:
            runner = Runner(Door(script.port, Path(directory), limits=LIMITS), script)
            await runner.gate.open()
            try:
                for number in range(RESPONSES):
                    pieces = (
                        *in_pieces(mutated(pick.choice(replies), pick), pick),
                        pick.choice(["close", "reset", "close"]),
                    )
                    result = await runner.run_once(pieces)
                    try:
                        counts[_check_result(result)] += 1
                    except Exception as error:
                        raise AssertionError(f"case {number}: {pieces!r} → {result!r}") from error
                assert "portcullis_internal_errors_total" not in runner.gate.door.counts
            finally:
                await runner.gate.close()
    return counts


def test_whoever_reads_it_as_a_client_reads_one_response_or_less():
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        counts = runner.run(_responses())
    print(counts)
    assert all(count > RESPONSES / 50 for count in counts.values()), counts
