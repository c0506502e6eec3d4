"""Whatever the installed SDKs can ask for is in a table, or is said not to be served, with the reason."""

import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path

import anthropic
import botocore
import google.genai
import mistralai.client
import openai
import pytest

from gateway.dialects import DIALECTS

_CALL = re.compile(
    r'self\.(_get|_post|_delete|_patch|_put|_get_api_list)\(\s*(?:path_template\(\s*)?f?"(/[^"?]+)', re.DOTALL
)
_METHOD = re.compile(r'method="(\w+)"')


def stainless(package: Path, prefix: str) -> Iterator[tuple[str, str]]:
    """The requests in OpenAI's and Anthropic's SDKs, which are generated alike."""
    for file in (package / "resources").rglob("*.py"):
        text = file.read_text()
        for call in _CALL.finditer(text):
            method = call[1].strip("_").upper()
            if method == "GET_API_LIST":
                listed = _METHOD.search(text[call.end() : call.end() + 3000].split("\n        )", 1)[0])
                method = listed[1].upper() if listed else "GET"
            yield method, prefix + call[2]


def google_models(package: Path) -> Iterator[tuple[str, str]]:
    """What google-genai asks of models: a verb behind a name."""
    text = (package / "models.py").read_text()
    for verb in sorted(set(re.findall(r"path = '\{model\}:(\w+)", text))):
        yield "POST", f"/v1beta/models/{{model}}:{verb}"
    yield "GET", "/v1beta/models"
    yield "GET", "/v1beta/models/{model}"


def bedrock_runtime(package: Path) -> Iterator[tuple[str, str]]:
    (file,) = (package / "data" / "bedrock-runtime").rglob("service-2.json*")
    data = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    for operation in json.loads(data)["operations"].values():
        yield operation["http"]["method"], operation["http"]["requestUri"]


SDKS = {
    "openai": lambda: stainless(Path(openai.__file__).parent, "/v1"),
    "anthropic": lambda: stainless(Path(anthropic.__file__).parent, ""),
    "gemini": lambda: google_models(Path(google.genai.__file__).parent),
    "bedrock": lambda: bedrock_runtime(Path(botocore.__file__).parent),
}


@pytest.mark.parametrize("name", SDKS)
def test_the_sdks_operations_are_known(name):
    dialect = DIALECTS[name]
    unknown = set()
    found = sorted(set(SDKS[name]()))
    assert len(found) > 5
    for method, template in found:
        path = re.sub(r"\{[^}]*\}", "x", template)
        bare = re.sub(r"\{[^}]*\}", "{}", template)
        listed = dialect.operation(method, path) is not None
        reasons = [why for pattern, why in dialect.not_served if re.fullmatch(pattern, f"{method} {bare}")]
        assert not (listed and reasons), f"{method} {template} is served, and said not to be"
        if not listed and not reasons:
            unknown.add(f"{method} {template}")
    assert sorted(unknown) == [], "add rows to the table, or a reason to not_served"


def test_what_mistral_names_its_model_in_is_known():
    """Its SDK has some hundred operations of agents and libraries; those that run a model by name are in the table."""
    text = "".join(file.read_text() for file in Path(mistralai.client.__path__[0]).glob("*.py"))
    for path in ("/v1/chat/completions", "/v1/fim/completions", "/v1/embeddings", "/v1/ocr", "/v1/agents/completions",
                 "/v1/moderations", "/v1/chat/moderations", "/v1/classifications", "/v1/audio/transcriptions"):  # fmt: skip
        assert f'path="{path}' in text, "the SDK still has it"
        assert DIALECTS["openai-compatible"].operation("POST", path) is not None
