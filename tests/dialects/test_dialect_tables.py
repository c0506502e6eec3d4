"""The tables of operations: exact, without overlap, and with a selector wherever a model runs."""

import dataclasses

import pytest

from gateway.dialects import DIALECTS
from gateway.settings import Provider

OPERATIONS = [pytest.param(d, o, id=f"{d.name} {o.id}") for d in DIALECTS.values() for o in d.operations]


@pytest.mark.parametrize(
    ("dialect", "method", "path", "operation", "model"),
    [
        ("openai", "POST", "/v1/chat/completions", "chat.completions", None),
        ("openai", "POST", "/v1/responses", "responses", None),
        ("openai", "POST", "/v1/completions", "completions", None),
        ("openai", "POST", "/v1/embeddings", "embeddings", None),
        ("openai", "GET", "/v1/models", "models.list", None),
        ("openai", "GET", "/v1/models/gpt-5.4", "models.retrieve", "gpt-5.4"),
        ("openai", "GET", "/v1/models/ft:gpt-5.4:org::id", "models.retrieve", "ft:gpt-5.4:org::id"),
        ("openai-compatible", "POST", "/v1/chat/completions", "chat.completions", None),
        ("anthropic", "POST", "/v1/messages", "messages", None),
        ("anthropic", "POST", "/v1/messages/count_tokens", "messages.count_tokens", None),
        ("anthropic", "GET", "/v1/models", "models.list", None),
        ("anthropic", "GET", "/v1/models/claude-fable-5", "models.retrieve", "claude-fable-5"),
    ],
)
def test_what_is_listed(dialect, method, path, operation, model):
    found = DIALECTS[dialect].operation(method, path)
    assert found is not None
    assert (found[0].id, found[1]) == (operation, model)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/chat/completions"), ("HEAD", "/v1/models"), ("POST", "/v1/models"), ("DELETE", "/v1/models/x"),
        ("PUT", "/v1/messages"), ("OPTIONS", "/v1/messages"), ("post", "/v1/messages"), ("", ""), ("POST", ""),
        ("POST", "/v1/messages/"), ("POST", "//v1/messages"), ("POST", "/v1//messages"), ("POST", "/V1/messages"),
        ("POST", "/v1/Messages"), ("POST", "v1/messages"), ("POST", "/v1/messages;x"), ("POST", "/v1/messages%2f"),
        ("POST", "/v1/messages\n"), ("POST", "/v2/messages"), ("POST", "/v1/messages/batches"), ("POST", "/v1/files"),
        ("POST", "/v1/batches"), ("POST", "/v1/fine_tuning/jobs"), ("POST", "/v1/images/generations"),
        ("GET", "/v1/models/"), ("GET", "/v1/models/a/b"), ("GET", "/v1/models/.."), ("GET", "/v1/models/a%2fb"),
        ("GET", "/v1/models/-a"), ("GET", "/v1/models/a\n"), ("GET", "/v1/models/" + "a" * 257),
    ],
)  # fmt: skip
@pytest.mark.parametrize("dialect", DIALECTS)
def test_what_is_not_listed_is_not_found(dialect, method, path):
    assert DIALECTS[dialect].operation(method, path) is None


@pytest.mark.parametrize(("dialect", "operation"), OPERATIONS)
def test_whatever_runs_a_model_says_which(dialect, operation):
    names_a_model = bool(operation.selectors) or "{model}" in operation.path
    assert operation.invokes == names_a_model
    if operation.selectors:
        assert ("model",) in {selector.path for selector in operation.selectors}


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS)
def test_no_two_operations_are_the_same(dialect):
    assert len({(o.method, o.path) for o in dialect.operations}) == len(dialect.operations)
    assert len({o.id for o in dialect.operations}) == len(dialect.operations)


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS)
def test_credentials_are_known_by_lower_case_names(dialect):
    assert all(name == name.lower() for name, _ in dialect.credentials)
    name, scheme = dialect.credential
    assert (name.lower(), scheme) in dialect.credentials, "what the gateway sends is where callers put it"


def test_settings_and_tables_know_the_same_dialects():
    annotation = Provider.model_fields["dialect"].annotation
    assert set(DIALECTS) == set(annotation.__args__)


def test_an_empty_table_serves_nothing():
    empty = dataclasses.replace(DIALECTS["openai"], operations=())
    assert empty.operation("GET", "/v1/models") is None
