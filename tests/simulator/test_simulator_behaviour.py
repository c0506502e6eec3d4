"""X-Sim headers, defaults, keys: what a request can ask for, and the 400 on nonsense."""

import aiohttp
import pytest

from gateway.simulator import Behaviour, Ended, SimulatorConfig
from gateway.simulator.content import write

CHAT = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
PATH = "/openai/v1/chat/completions"


async def answer_text(http, **headers):
    async with http.post(PATH, json=CHAT, headers=headers) as answer:
        assert answer.status == 200, await answer.text()
        return (await answer.json())["choices"][0]["message"]["content"]


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("X-Sim-Tag", "two words"),
        ("X-Sim-Tag", "x" * 201),
        ("X-Sim-Events", "-1"),
        ("X-Sim-Events", "1.5"),
        ("X-Sim-Events", "1000001"),
        ("X-Sim-Events", ""),
        ("X-Sim-Events", "٣"),
        ("X-Sim-Interval", "nan"),
        ("X-Sim-Interval", "inf"),
        ("X-Sim-Interval", "1e3"),
        ("X-Sim-Interval", "3601"),
        ("X-Sim-First-Byte", "soon"),
        ("X-Sim-Event-Bytes", "1048577"),
        ("X-Sim-Status", "200"),
        ("X-Sim-Status", "600"),
        ("X-Sim-Retry-After", "-5"),
        ("X-Sim-Truncate", "some"),
        ("X-Sim-Split", "maybe"),
        ("X-Sim-Stall", "0x10"),
        ("X-Sim-Tool", "not a name"),
    ],
)
async def test_nonsense_in_a_header_is_a_400_that_names_it(http, header, value):
    async with http.post(PATH, json=CHAT, headers={header: value}) as answer:
        assert answer.status == 400
        assert header in (await answer.json())["error"]["message"]


async def test_a_header_given_twice_is_a_400(http):
    async with http.post(PATH, json=CHAT, headers=[("X-Sim-Events", "1"), ("X-Sim-Events", "2")]) as answer:
        assert answer.status == 400


async def test_truncate_and_stall_together_are_a_400(http):
    async with http.post(PATH, json=CHAT, headers={"X-Sim-Truncate": "1", "X-Sim-Stall": "1"}) as answer:
        assert answer.status == 400


async def test_events_set_the_number_of_deltas(http):
    assert len((await answer_text(http, **{"X-Sim-Events": "7"})).split()) == 7
    assert await answer_text(http, **{"X-Sim-Events": "0"}) == ""


async def test_event_bytes_set_the_size_of_a_delta(http):
    text = await answer_text(http, **{"X-Sim-Events": "10", "X-Sim-Event-Bytes": "5000"})
    assert len(text) == 50_000


@pytest.mark.parametrize("path", [PATH, "/openai/v1/responses"])
async def test_an_answer_too_long_for_one_piece_is_a_400(http, path):
    headers = {"X-Sim-Events": "1000000", "X-Sim-Event-Bytes": "1000000"}
    async with http.post(path, json={**CHAT, "input": "x"}, headers=headers) as answer:
        assert answer.status == 400


def test_pieces_join_to_a_prefix_of_the_repeated_text():
    for size in (1, 7, 64, 1000):
        script = write("m", "prompt", Behaviour(events=50, event_bytes=size))
        pieces = list(script.pieces())
        assert {len(piece) for piece in pieces} == {size}
        assert ((script.text + " ") * 200).startswith("".join(pieces))


def test_the_text_depends_on_model_and_prompt_alone():
    first = write("m", "prompt", Behaviour())
    assert first.whole() == write("m", "prompt", Behaviour(interval=1.0)).whole()
    assert first.whole() != write("m", "another", Behaviour()).whole()
    assert first.whole() != write("n", "prompt", Behaviour()).whole()


async def test_equal_requests_get_equal_bytes(http):
    async def fetch(stream: bool) -> bytes:
        async with http.post(PATH, json={**CHAT, "stream": stream}) as answer:
            return await answer.read()

    assert await fetch(False) == await fetch(False)
    assert await fetch(True) == await fetch(True)


async def test_defaults_change_at_run_time(http):
    async with http.post("/_sim/defaults", json={"events": 3, "interval": 0}) as answer:
        assert (await answer.json())["events"] == 3
    assert len((await answer_text(http)).split()) == 3
    assert len((await answer_text(http, **{"X-Sim-Events": "4"})).split()) == 4
    async with http.post("/_sim/defaults", json={"events": None}) as answer:
        assert (await answer.json())["events"] is None
    async with http.get("/_sim/defaults") as answer:
        assert (await answer.json()) == {
            "events": None, "interval": 0, "first_byte": 0.0, "event_bytes": 0, "status": None,
            "retry_after": None, "truncate": None, "split": False, "stall": None, "tool": None,
        }  # fmt: skip


@pytest.mark.parametrize(
    "document",
    [b"x", b"[]", b'{"event": 3}', b'{"events": "3"}', b'{"interval": -1}', b'{"split": 1}', b'{"events": true}'],
)
async def test_nonsense_in_defaults_changes_nothing(http, document):
    async with http.post("/_sim/defaults", data=document) as answer:
        assert answer.status == 400
    async with http.get("/_sim/defaults") as answer:
        assert (await answer.json())["events"] is None


async def test_a_header_replaces_a_default_cut_of_the_other_kind(http, simulator):
    await (await http.post("/_sim/defaults", json={"stall": 3})).read()
    async with http.post(PATH, json={**CHAT, "stream": True}, headers={"X-Sim-Truncate": "1"}) as answer:
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.read()
    assert simulator.journal.find(1).ended is Ended.TRUNCATED


class TestRequiredKey:
    @pytest.fixture
    def config(self):
        return SimulatorConfig(require_key={"openai": "sk-real", "anthropic": "sk-ant-real"})

    @pytest.mark.parametrize(
        ("path", "headers", "status"),
        [
            ("/openai/v1/models", {"Authorization": "Bearer sk-real"}, 200),
            ("/openai/v1/models", {"Authorization": "Bearer sk-other"}, 401),
            ("/openai/v1/models", {}, 401),
            ("/anthropic/v1/models", {"x-api-key": "sk-ant-real"}, 200),
            ("/anthropic/v1/models", {"Authorization": "Bearer sk-ant-real"}, 200),
            ("/anthropic/v1/models", {"x-api-key": "sk-ant-real", "Authorization": "Bearer leaked"}, 401),
            ("/anthropic/v1/models", {}, 401),
            ("/compat/v1/models", {}, 200),
        ],
    )
    async def test_only_the_providers_key_is_accepted(self, http, path, headers, status):
        async with http.get(path, headers=headers) as answer:
            assert answer.status == status


@pytest.mark.parametrize(
    "settings",
    [
        {"providers": {"openai": "klingon"}},
        {"providers": {"_sim": "openai"}},
        {"providers": {"Open AI": "openai"}},
        {"require_key": {"nobody": "k"}},
        {"keep_requests": 0},
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings)).removesuffix("s").removesuffix("_key")):
        SimulatorConfig(**settings)
