"""LiteLLM as a library, for three providers, only address and key changed: answers, streams, lists, models that are off."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from system import ROOT

LIBRARY = ROOT / "build" / "clients"
CLIENT = Path(__file__).with_name("litellm_client.py")
MODELS = ["anthropic/claude-opus-4-5", "openai/gpt-5.4", "gemini/gemini-3-flash"]
IDS = [model.partition("/")[2] for model in MODELS]
WAYS = ["completion", "stream", "async completion", "async stream"]
pytestmark = pytest.mark.skipif(not (LIBRARY / "litellm").is_dir(), reason="no LiteLLM: make clients")


class LiteLLM:
    """The process in which it runs."""

    def __init__(self, system) -> None:
        env = system.env | {
            "PYTHONPATH": str(LIBRARY),
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else it asks the network, thrice, with pauses
        }
        # What it says is seen by pytest alone, if something fails.
        self._process = subprocess.Popen(
            [sys.executable, CLIENT, system.proxy], env=env, cwd=system.directory, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=None if "DEBUG" in os.environ else subprocess.DEVNULL,
        )  # fmt: skip

    def ask(self, *command: str):
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        return self.answer()

    def answer(self):
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()


@pytest.fixture(scope="module")
def litellm(module_system):
    client = LiteLLM(module_system)
    yield client
    client.close()


async def requests(system) -> tuple[float, int]:
    """How many the gateway has had, and how many the simulator."""
    metrics = await system.metrics()
    ours = sum(value for name, value in metrics.items() if name.startswith("portcullis_requests_total"))
    return ours, (await system.simulated("/_sim/stats"))["total"]


async def test_every_way_of_calling_gives_the_models_text(system, litellm):
    found = litellm.ask("call_all", *MODELS)
    for model in MODELS:
        assert list(found[model]) == WAYS
        texts = {answer["gave"] for answer in found[model].values()}
        assert len(texts) == 1, "the same, however it was asked for"
        assert model.partition("/")[2] in texts.pop()


async def test_a_list_has_what_the_caller_may_use(system, litellm):
    """OpenAI's is asked for at the root of the address, whatever its path: for that a provider needs a host of its own."""
    for model_id in IDS:
        await system.offline(model_id)
    assert litellm.ask("list_all", "anthropic", "gemini") == {
        "anthropic": ["anthropic/claude-fable-5"],
        "gemini": ["gemini/gemini-3-pro"],
    }


@pytest.mark.parametrize(
    ("status", "raised", "order"),
    [
        (403, {"PermissionDeniedError", "APIError", "BadRequestError"}, {}),
        (451, {"BadRequestError", "APIError"}, {"order": {"authority": "BIS", "reference": "2026-1"}}),
    ],
)
async def test_a_model_that_is_off_is_an_exception_of_its_own_and_asked_for_once(
    system, litellm, status, raised, order
):
    for model_id in IDS:
        await system.offline(model_id, **order)
    ours, theirs = await requests(system)
    found = litellm.ask("call_all", *MODELS)
    for model in MODELS:
        for way, answer in found[model].items():
            assert answer["status"] == status, (model, way, answer)
            assert answer["raised"] in raised
            assert f"{model.partition('/')[2]} is offline for everyone" in answer["message"]
            assert "You may use" in answer["message"]
    assert await requests(system) == (ours + len(MODELS) * len(WAYS), theirs), "not retried, and nobody was asked"


@pytest.mark.parametrize("model", MODELS)
async def test_a_stream_that_is_cut_raises(system, litellm, model):
    assert litellm.ask("stream", model) == "begun"
    await system.offline(model.partition("/")[2])
    cut = litellm.answer()
    assert "raised" in cut
    assert "is offline for everyone" in cut["message"]
