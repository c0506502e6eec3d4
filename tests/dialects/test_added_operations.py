"""Settings add to a table; they never take from it."""

import pytest
from pydantic import ValidationError

from gateway.dialects import DIALECTS
from gateway.dialects.added import added, extended
from gateway.dialects.selectors import Selector
from gateway.settings import AddedOperation, Provider

OPENAI = DIALECTS["openai-compatible"]


def one(**fields):
    said = AddedOperation(**({"id": "search", "path": "/v1/search", "models": ["model!"]} | fields))
    return added(said.id, said.method, said.path, said.models, said.candidates, invokes=said.invokes)


def test_an_operation_is_added():
    dialect = extended(OPENAI, [one(path="/v1/search/{index}", models=["model!", "rerankers[].model"])], None)
    operation, _ = dialect.operation("POST", "/v1/search/a")
    body = b'{"model":"A","rerankers":[{"model":"K"}]}'
    assert operation.reader.read(body).names == ("A", "K")
    assert OPENAI.operation("POST", "/v1/search/a") is None, "the table itself is as it was"


def test_what_the_table_lists_stands():
    loose = one(path="/v1/chat/completions", models=[], candidates="", invokes=False)
    dialect = extended(OPENAI, [loose, one(path="/v1/models/{any}", method="GET", models=[], invokes=False)], None)
    assert dialect.operation("POST", "/v1/chat/completions")[0].invokes
    assert dialect.operation("GET", "/v1/models/gpt-5.4") == (dialect.operations[5], "gpt-5.4")


def test_a_key_may_go_in_another_header():
    dialect = extended(DIALECTS["openai"], [], "X-Key")
    assert dialect.credential == (b"X-Key", b"")
    assert dialect.credentials == (*DIALECTS["openai"].credentials, (b"x-key", b""))
    assert extended(OPENAI, [], "api-key").credentials == OPENAI.credentials


@pytest.mark.parametrize(
    "fields",
    [
        {"models": ["model"]}, {"models": []}, {"path": "v1"}, {"path": "/v1//x"}, {"path": "/v1/../x"}, {"path": "/v1/x?y"},
        {"models": ["tools[]!"]}, {"models": ["a..b!"]}, {"models": ["model!!"]}, {"models": ["mo del!"]}, {"candidates": "video"},
        {"method": "GET"}, {"method": "CONNECT", "models": [], "candidates": "*"}, {"id": ""}, {"path": "/v1/{Model}"},
    ],
)  # fmt: skip
def test_what_does_not_say_what_it_runs_stops_the_start(fields):
    with pytest.raises(ValidationError):
        one(**fields)


@pytest.mark.parametrize(
    "text", ["model!", "session.model", "tools[].svg.model", "input[]?.tools[].model", "graders.*.model", "a-b_c!"]
)
def test_whatever_settings_accept_is_a_selector(text):
    AddedOperation(id="x", path="/x", models=[text], candidates="*")
    assert str(Selector.parse(text)) == text


@pytest.mark.parametrize("text", ["", "!", "[]", "a.[]", "a b", "*", "a.*"])
def test_what_is_no_selector_is_none(text):
    with pytest.raises(ValueError):
        Selector.parse(text)


def test_signing_is_bedrocks_and_replaces_the_callers_key():
    aws = {"region": "us-east-1", "access_key_id": "id", "secret_access_key": "secret"}
    Provider(dialect="bedrock", base_url="https://x", aws=aws)
    for wrong in ({"dialect": "openai"}, {"dialect": "bedrock", "credentials": "forward"}):
        with pytest.raises(ValidationError):
            Provider(base_url="https://x", aws=aws, **wrong)
