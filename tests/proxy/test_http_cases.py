"""Every hostile request of the table, against the real data plane: what is answered, what goes on, how it ends."""

import asyncio
import json
import re
import tempfile
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

import pytest
import uvloop
from http_cases import CASES, EOF, LIMITS, REASONS, Case
from http_wire import Answer, GateRunner, Outcome, Recorder, answers
from proxy_harness import Door

from gateway.proxy.wire import CONTINUE

SERVED = re.compile(
    rb"HTTP/1\.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n"
    rb"portcullis-request-id: req_\w+\r\nportcullis-revision: 1\r\n(connection: close\r\n)?\r\n\{\}"
)
REFUSAL = (
    r"HTTP/1\.1 {status} {phrase}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n"
    r"Portcullis-Reason: {reason}\r\nCache-Control: no-store\r\nx-should-retry: false\r\n"
    r"(?:x-request-id: req_\w+\r\n)?portcullis-request-id: req_\w+\r\nportcullis-revision: 1\r\n(connection: close\r\n)?\r\n"
)


async def _run_all() -> tuple[dict[str, Outcome], dict[str, float]]:
    async with Recorder() as recorder:
        with tempfile.TemporaryDirectory() as directory:
            runner = GateRunner(Door(recorder.port, Path(directory), limits=LIMITS), recorder)
            await runner.open()
            try:
                return {case.name: await runner.run(case.sent) for case in CASES}, runner.door.counts
            finally:
                await runner.close()


@pytest.fixture(scope="module")
def outcomes() -> Iterator[tuple[dict[str, Outcome], dict[str, float]]]:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        yield runner.run(_run_all())


def test_the_names_are_unique_and_the_table_is_as_large_as_it_says():
    assert len({case.name for case in CASES}) == len(CASES)
    assert len(CASES) >= 200


def test_no_case_makes_the_gateway_fail(outcomes):
    assert "portcullis_internal_errors_total" not in outcomes[1]


def _check(answer: Answer, status: int, *, last: bool, case: Case) -> None:
    if status == 100:
        assert answer.whole == CONTINUE
        return
    pattern = SERVED
    if status != 200:
        length = len(answer.body) if case.sent[0][:4] != b"HEAD" else r"[1-9]\d*"
        phrase = re.escape(HTTPStatus(status).phrase)
        text = REFUSAL.format(status=status, phrase=phrase, length=length, reason=REASONS[status])
        pattern = re.compile(text.encode() + re.escape(answer.body))
    found = pattern.fullmatch(answer.whole)
    assert found, answer.whole
    assert bool(found[1]) is (last and case.end != "open" and EOF not in case.sent), (
        "only the last answer says that it is the last"
    )
    if status != 200 and answer.body:
        error = json.loads(answer.body)["error"]
        assert error["portcullis"]["reason"] == REASONS[status]
        assert case.says in error["message"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(outcomes, case: Case):
    outcome = outcomes[0][case.name]
    found = answers(outcome.raw, head_only=case.sent[0] is not None and case.sent[0].startswith(b"HEAD"))
    assert tuple(answer.status for answer in found) == case.answers
    assert tuple(outcome.seen) == case.seen
    assert outcome.end == case.end
    for number, (answer, status) in enumerate(zip(found, case.answers, strict=True)):
        _check(answer, status, last=number == len(found) - 1, case=case)
