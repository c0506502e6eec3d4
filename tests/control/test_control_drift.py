"""Drift: what providers list and callers ask for beside the catalog; and names that are adopted, under all that was there."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from control_harness import AUDITOR, FABLE, OPERATOR, VIEWER, Gate, start_gate, stop_gate

from gateway.control import upstream_lists

DRIFT, ADOPT = "/api/v1/catalog/drift", "/api/v1/catalog/adopt"
ORDER = {"authority": "court", "reference": "1/26"}
OPENAI = ["gpt-5.4", "gpt-5.4-2026-09-01", "gpt-7", "strange name\u202e", "gpt-5.4-mini"]


class Provider:
    """A provider that lists what it is told to, and remembers how it was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {
            "/openai/v1/models": {"data": [{"id": name} for name in OPENAI]},
            "/gemini/v1beta/models": {"models": [{"name": "models/gemini-3-pro"}, {"name": "models/gemini-9"}]},
        }
        self.asked: list[web.Request] = []
        self.forced: tuple[int, str] | None = None

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(request)
        if self.forced is not None:
            status, text = self.forced
            return web.Response(status=status, text=text, headers={"Location": "http://127.0.0.1:1/"})
        if request.path == "/anthropic/v1/models":
            return self.page(request)
        found = self.answers.get(request.path)
        return web.json_response(found) if found is not None else web.Response(status=404)

    @staticmethod
    def page(request: web.Request) -> web.Response:
        pages = {None: ["claude-fable-5", "claude-opus-4-5"], "claude-opus-4-5": ["claude-fable-5-20271231"]}
        names = pages[request.query.get("after_id")]
        more = {"has_more": "after_id" not in request.query, "last_id": names[-1]}
        return web.json_response({"data": [{"id": name} for name in names], **more})


@pytest.fixture
async def provider() -> AsyncIterator[tuple[Provider, str]]:
    provider = Provider()
    app = web.Application()
    app.router.add_route("*", "/{any:.*}", provider.answer)
    server = TestServer(app)
    await server.start_server()
    yield provider, str(server.make_url("")).rstrip("/")
    await server.close()


@pytest.fixture
async def gate(redis_server: str, tmp_path: Path, provider: tuple[Provider, str]) -> AsyncIterator[Gate]:
    base = provider[1]
    providers = {
        "openai": {"dialect": "openai", "base_url": f"{base}/openai", "api_key": "sk-secret"},
        "anthropic": {"dialect": "anthropic", "base_url": f"{base}/anthropic", "api_key": "sk-ant-secret"},
        "gemini": {"dialect": "gemini", "base_url": f"{base}/gemini", "api_key": "g-secret"},
        "mine": {"dialect": "openai-compatible", "base_url": f"{base}/mine", "credentials": "forward"},
        "away": {"dialect": "openai", "base_url": "http://127.0.0.1:1", "api_key": "sk-secret"},
    }
    gate = await start_gate(redis_server, tmp_path, providers=providers)
    await gate.replica()
    yield gate
    await stop_gate(gate)


# ------------------------------------------------------------------------------------------------ drift


async def test_what_a_provider_lists_and_the_catalog_has_not(gate, provider):
    told = await gate.get(DRIFT, token=OPERATOR)
    openai = told["providers"]["openai"]
    assert openai["missing"] == [{"name": "gpt-5.4-2026-09-01", "like": ["gpt-5.4"]}, {"name": "gpt-7", "like": []}]
    assert (openai["listed"], openai["unreadable"], openai["trouble"]) == (5, 1, None)
    assert "strange" not in json.dumps(told.body), "what no request may give is counted, and not shown"
    assert [each["name"] for each in told["providers"]["anthropic"]["missing"]] == ["claude-fable-5-20271231"]
    assert [each["name"] for each in told["providers"]["gemini"]["missing"]] == ["models/gemini-9"]
    assert "gpt-5.4" not in openai["gone"]
    assert "gpt-image-1" in openai["gone"]


async def test_it_is_asked_with_the_gateways_own_credential_and_nothing_of_it_is_told(gate, provider):
    told = await gate.get(DRIFT, token=OPERATOR)
    asked = {request.path: request.headers for request in provider[0].asked}
    assert asked["/openai/v1/models"]["Authorization"] == "Bearer sk-secret"
    assert asked["/anthropic/v1/models"]["x-api-key"] == "sk-ant-secret"
    assert asked["/anthropic/v1/models"]["anthropic-version"] == "2023-06-01"
    assert asked["/gemini/v1beta/models"]["x-goog-api-key"] == "g-secret"
    assert not [path for path in asked if path.startswith("/mine")]
    assert "secret" not in json.dumps(told.body)
    assert OPERATOR not in json.dumps([dict(request.headers) for request in provider[0].asked])


@pytest.mark.parametrize(
    ("answer", "trouble"),
    [
        ((401, ""), "it answered 401"),
        ((302, ""), "it answered 302"),
        ((200, "<html>"), "its answer is no list of models"),
        ((200, "[]"), "its answer is no list of models"),
        ((200, '{"data":{}}'), "its answer is no list of models"),
        ((200, '{"data":["' + "x" * 9_000_000 + '"]}'), "its list is longer than 8388608 bytes"),
        ((200, '{"data":[],"nextToken":"x"}'), "its list has more than 50 pages"),
    ],
)
async def test_a_list_that_is_none_is_told_and_stops_nothing(gate, provider, answer, trouble):
    provider[0].forced = answer
    found = await upstream_lists.lists({"openai": gate.settings.providers["openai"]})
    assert found["openai"].trouble == trouble
    assert found["openai"].names == frozenset()


async def test_who_cannot_be_asked(gate):
    told = (await gate.get(DRIFT, token=OPERATOR))["providers"]
    assert told["away"]["trouble"].startswith("it cannot be asked (Client")
    assert told["mine"]["trouble"] == "callers' own keys go there, and the gateway has none"
    for token in (VIEWER, AUDITOR):
        assert (await gate.get(DRIFT, token=token)).status == 403, "it spends the gateway's credential"


async def test_names_that_were_refused(gate):
    gate.refused = [("openai", "gpt-7", 12, 1_700_000_000.0), ("openai", "gpt-5.4", 3, 1_700_000_000.0)]
    (row,) = (await gate.get(DRIFT, token=OPERATOR))["refused"]
    assert row == {"provider": "openai", "name": "gpt-7", "times": 12, "last": 1_700_000_000.0, "like": []}


# ------------------------------------------------------------------------------------------------ adopt


async def test_a_name_is_adopted_as_what_it_says_it_is(gate):
    done = await gate.post(ADOPT, {"name": "gpt-5.4-2026-09-01"})
    assert (done.status, done["like"], done["provider"], done["basis"]) == (200, "gpt-5.4", "openai", "all_acked")
    assert done["restricted_by"]["holds"] == []
    assert (await gate.get("/api/v1/models/gpt-5.4-2026-09-01"))["id"] == "gpt-5.4"
    missing = (await gate.get(DRIFT, token=OPERATOR))["providers"]["openai"]["missing"]
    assert [each["name"] for each in missing] == ["gpt-7"]
    assert (await gate.post(ADOPT, {"name": "gpt-5.4-2026-09-01"})).problem == "unchanged"


async def test_it_is_under_all_that_restricts_the_other_today_and_later(gate):
    today = (await gate.post(f"{FABLE}/offline", {"order": ORDER}))["hold"]
    done = await gate.post(ADOPT, {"name": "claude-saga-1", "like": "claude-fable-5", "provider": "anthropic"})
    assert done["restricted_by"]["holds"] == [today]
    assert (await gate.get("/api/v1/models/claude-saga-1"))["state"] == "offline"
    adopted = await gate.post(ADOPT, {"name": "gpt-7", "like": "gpt-5.4"})
    assert adopted.status == 200
    await gate.post("/api/v1/models/gpt-5.4/offline", {})
    assert (await gate.get("/api/v1/models/gpt-7"))["state"] == "offline"


@pytest.mark.parametrize("made", ["ft:claude-fable-5:acme::1", "claude-fable-5-20271231", "CLAUDE_FABLE-5"])
@pytest.mark.parametrize("off", [True, False])
async def test_what_a_name_is_made_of_is_not_left_behind(gate, made, off):
    if off:
        await gate.post(f"{FABLE}/offline", {"order": ORDER})
    refused = await gate.post(ADOPT, {"name": made, "like": "gpt-5.4"})
    assert (refused.status, refused.problem) == (409, "conflict")
    assert "claude-fable-5" in refused["detail"]
    assert await gate.revision() == (2 if off else 1)


async def test_of_two_that_it_could_be_the_one_with_fewer_restrictions_is_not_taken(gate):
    twin = {"routes": [{"provider": "openai", "names": ["gpt-5.4-2027-01-01"]}]}
    assert (await gate.put("/api/v1/models/gpt-5.4-other", twin, token=OPERATOR, If_None_Match="*")).status == 200
    asked = {"name": "gpt-5.4-2026-09-01"}
    both = await gate.post(ADOPT, asked)
    assert both.status == 409
    assert "say which" in both["detail"]
    hold = (await gate.post("/api/v1/models/gpt-5.4/offline", {}))["hold"]
    refused = await gate.post(ADOPT, {**asked, "like": "gpt-5.4-other"})
    assert refused.status == 409
    assert hold in refused["detail"]
    assert (await gate.post(ADOPT, {**asked, "like": "gpt-5.4"})).status == 200


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"name": "gpt-7"}, 400, "--like"),
        ({"name": "gpt 7", "like": "gpt-5.4"}, 400, "no name that a request may give"),
        ({"name": "*", "like": "gpt-5.4"}, 400, "no name that a request may give"),
        ({"name": "gpt-7", "like": "gpt-5.4", "provider": "nobody"}, 400, "no provider"),
        ({"name": "saga", "like": "claude-fable-5"}, 400, "--provider"),
        ({"name": "gpt-7", "like": "gpt-99"}, 404, "no model"),
    ],
)
async def test_what_is_not_said_is_asked_for(gate, body, status, words):
    refused = await gate.post(ADOPT, body)
    assert refused.status == status
    assert words in refused["detail"]


async def test_who_may_adopt(gate):
    for token in (VIEWER, AUDITOR):
        assert (await gate.post(ADOPT, {"name": "gpt-7", "like": "gpt-5.4"}, token=token)).status == 403
