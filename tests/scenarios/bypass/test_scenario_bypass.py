"""No way round: thousands of requests that would reach a model that is off, and not one that does.

``bypass_bodies``, ``bypass_operations`` and ``bypass_heads`` make them, by the class of what they try. The simulator
records whatever it gets.
"""

import asyncio
import gzip
import json
from collections import defaultdict

import bypass_bodies
import bypass_heads
import bypass_operations
import pytest
from bypass_client import Answer, Client
from bypass_requests import Case, form, part, posted, request
from system import new_system

CASES = [*bypass_bodies.cases(), *bypass_operations.cases(), *bypass_heads.cases()]
ROWS = sorted({case.row for case in CASES}, key=int)
HELD = ["claude-fable-5", "gpt-5.4", "gemini-3-pro", "mistral-large", "gpt-image-1", "gpt-4o-transcribe"]
REASONS = {
    400: {"malformed"}, 401: {"unauthenticated"}, 404: {"unknown_model", "operation_not_listed"}, 413: {"malformed"},
    415: {"malformed"}, 451: {"model_offline", "model_unresolved"}, 505: {"malformed"},
}  # fmt: skip
AT_ONCE = 4
"""Connections: as many requests as two workers are kept busy by."""

ROUTES = {
    "claude-opus-4-5": [("vertex", ["claude-opus-4-5", "claude-opus-4-5@20251101"])],
    "gemini-3-flash": [("vertex", ["gemini-3-flash"])],
    "gemini-3-pro": [("vertex", ["gemini-3-pro", "google/gemini-3-pro"])],
    "gpt-5.4": [("azure", ["prod"])],
    "gpt-5.4-mini": [("azure", ["prod-mini"])],
    "gpt-oss": [("compatible", ["gpt-oss"])],
}
"""What the catalog of these tests has beside the seeds."""


@pytest.fixture(scope="module")
def held_system():
    """A system in which one model of each kind is off under an order."""
    system = new_system(PORTCULLIS_PROXY__LIMITS__BODY_BYTES=str(1024 * 1024))
    try:
        asyncio.run(hold(system.start()))
        yield system
    finally:
        system.stop()


async def hold(system) -> None:
    for model_id, routes in ROUTES.items():
        found = await system.ask_admin("GET", f"/api/v1/models/{model_id}")
        known = found.json if found.status == 200 else {"routes": []}
        model = {
            field: known[field] for field in ("routes", "aliases", "family", "tags", "capability") if known.get(field)
        }
        model["routes"] = [
            *model.get("routes", []),
            *({"provider": provider, "names": names} for provider, names in routes),
        ]
        match = {"If-Match": found.headers["ETag"]} if found.status == 200 else {"If-None-Match": "*"}
        answer = await system.ask_admin("PUT", f"/api/v1/models/{model_id}", model, headers=match)
        assert answer.status == 200, answer.json
    order = {"authority": "BIS", "reference": "2026-1"}
    answer = await system.ask_admin("POST", "/api/v1/offline", {"models": HELD, "order": order})
    assert answer.status == 200, answer.json


async def received(system) -> int:
    return (await system.simulated("/_sim/stats"))["total"]


async def ask_all(system, cases: list[Case]) -> list[tuple[Case, Answer | Exception]]:
    """Ask on a few connections; what came of each."""
    waiting = list(reversed(cases))
    answers: list[tuple[Case, Answer | Exception]] = []

    async def go_on() -> None:
        client = Client(system.proxy)
        while waiting:
            case = waiting.pop()
            try:
                answers.append((case, await client.ask(case.data)))
            except (OSError, asyncio.IncompleteReadError, TimeoutError, ValueError) as error:
                answers.append((case, error))
                client.close()
        client.close()

    await asyncio.gather(*(go_on() for _ in range(AT_ONCE)))
    return answers


def wrong(case: Case, answer: Answer | Exception) -> str | None:
    """What is wrong with an answer."""
    if isinstance(answer, Exception):
        return f"no answer: {answer!r}"
    if answer.status not in case.statuses:
        return f"{answer.status} instead of {case.statuses}: {answer.body[:160]!r}"
    reason = answer.headers.get("portcullis-reason")
    if reason not in REASONS[answer.status]:
        return f"{answer.status} for {reason}"
    document = answer.json
    inner = document.get("error", document)
    if inner["portcullis"]["reason"] != reason or not inner["message"]:
        return f"another shape: {answer.body[:160]!r}"
    if answer.status == 451 and (
        "blocked-by" not in answer.headers.get("link", "") or answer.headers["x-should-retry"] != "false"
    ):
        return "no link to who blocks, or a retry"
    return None


FIGURES: dict[str, int] = defaultdict(int)


@pytest.mark.parametrize("row", ROWS)
async def test_nothing_of_this_class_gets_through(held_system, row):
    cases = [case for case in CASES if case.row == row]
    before = await received(held_system)
    answers = await ask_all(held_system, cases)
    reached = await received(held_system) - before
    faults = [f"{case.name}: {fault}" for case, answer in answers if (fault := wrong(case, answer))]
    FIGURES["tried"] += len(cases)
    FIGURES["refused"] += len(cases) - len(faults)
    FIGURES["reached upstream"] += reached
    slowest = max(answer.seconds for _, answer in answers if isinstance(answer, Answer))
    print(
        f"row {row}: tried {len(cases)}, refused {len(cases) - len(faults)}, reached upstream {reached}, slowest {slowest * 1000:.0f} ms"
    )
    assert faults == []
    assert reached == 0


async def test_a_request_behind_a_refused_one_is_judged_on_its_own(held_system):
    """Row 65."""
    client = Client(held_system.proxy)
    bad, good = (
        {"model": model, "messages": [{"role": "user", "content": "Hi"}]} for model in ("gpt-5.4", "gpt-5.4-mini")
    )
    seen = []
    for bodies in ((bad, good, bad), (good, bad), (bad, bad, good)):
        data = b"".join(request("openai", "/v1/chat/completions", body) for body in bodies)
        answer = await client.ask(data)
        rest = [await client.ask(b"") for _ in bodies[1:]]
        seen.append([answer.status, *(one.status for one in rest)])
    client.close()
    assert seen == [[451, 200, 451], [200, 451], [451, 451, 200]]


PERMITTED = {
    "chat": request("openai", "/v1/chat/completions", {"model": "gpt-5.4-mini", "messages": [{"role": "user", "content": "Hi"}]}),
    "gzip": request("openai", "/v1/chat/completions", gzip.compress(json.dumps({"model": "gpt-5.4-mini", "messages": ["Hi"]}).encode()), "Content-Encoding: gzip"),
    "responses": request("openai", "/v1/responses", {"model": "gpt-5.4-mini", "input": "Hi", "tools": [{"type": "function", "name": "f"}]}),
    "moderation": request("openai", "/v1/moderations", {"input": "Hi"}),
    "batch file": posted("openai", "/v1/files", form(part("purpose", "batch"), part("file", json.dumps({"body": {"model": "gpt-5.4-mini"}}), more='; filename="b"'))),
    "other file": posted("openai", "/v1/files", form(part("purpose", "fine-tune"), part("file", b"\0\xff anything", more='; filename="b"'))),
    "batches": request("openai", "/v1/batches"),
    "compatible": request("compatible", "/v1/chat/completions", {"model": "gpt-oss", "messages": ["Hi"]}),
    "messages": request("anthropic", "/v1/messages", {"model": "claude-opus-4-5", "max_tokens": 9, "messages": ["Hi"]}),
    "anthropic batch": request("anthropic", "/v1/messages/batches", {"requests": [{"params": {"model": "claude-opus-4-5"}}] * 3}),
    "gemini": request("gemini", "/v1beta/models/gemini-3-flash:generateContent", {"contents": [{"parts": [{"text": "Hi"}]}]}),
    "gemini, repeated": request("gemini", "/v1beta/models/gemini-3-flash:countTokens", {"generateContentRequest": {"model": "models/gemini-3-flash"}}),
    "bedrock": request("bedrock", "/model/us.anthropic.claude-opus-4-5-20251101-v1%3A0/converse", {"messages": [{"role": "user", "content": [{"text": "Hi"}]}]}),
    "bedrock ARN": request("bedrock", "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A%3Afoundation-model%2Fanthropic.claude-opus-4-5-20251101-v1%3A0/converse", {"messages": ["Hi"]}),
    "vertex": request("vertex", "/v1/projects/p/locations/l/publishers/google/models/gemini-3-flash:generateContent", {"contents": []}),
    "azure": request("azure", "/openai/deployments/prod-mini/chat/completions", {"model": "prod-mini", "messages": []}),
}  # fmt: skip


@pytest.mark.parametrize("name", PERMITTED)
async def test_what_is_permitted_gets_through(held_system, name):
    """So that the figures above mean something."""
    before = await received(held_system)
    client = Client(held_system.proxy)
    answer = await client.ask(PERMITTED[name])
    client.close()
    assert "portcullis-reason" not in answer.headers, answer.body
    assert await received(held_system) == before + 1


async def test_the_gateway_is_unhurt_and_the_figures(held_system):
    assert (await held_system.metrics()).get("portcullis_internal_errors_total", 0) == 0
    assert len(held_system.workers()) == 2
    assert not held_system.events("worker_died")
    print(", ".join(f"{what} {FIGURES[what]}" for what in ("tried", "refused", "reached upstream")))
    assert FIGURES["tried"] == len(CASES) == FIGURES["refused"]
    assert len(CASES) >= 600
