"""The tables of operations: exact, without overlap, and with a selector wherever a model runs."""

import dataclasses

import pytest

from gateway.dialects import DIALECTS
from gateway.dialects.keeping import Act
from gateway.dialects.table import ANY, Kind
from gateway.policy.document import Model
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
        ("openai", "GET", "/v1/models/Qwen%2FQwen3", "models.retrieve", "Qwen/Qwen3"),
        ("openai", "POST", "/v1/responses/compact", "responses.compact", None),
        ("openai", "POST", "/v1/threads/runs", "threads.create_and_run", None),
        ("openai", "POST", "/v1/threads/t_1/runs", "threads.runs.create", None),
        ("anthropic", "POST", "/v1/messages/batches", "messages.batches.create", None),
        (
            "gemini",
            "POST",
            "/v1beta/models/gemini-3-pro:generateContent",
            "v1beta.models.generateContent",
            "gemini-3-pro",
        ),
        ("gemini", "POST", "/v1/tunedModels/t-1:countTokens", "v1.tunedModels.countTokens", "tunedModels/t-1"),
        ("gemini", "GET", "/v1beta/models/gemini-3-pro", "v1beta.models.get", "gemini-3-pro"),
        ("bedrock", "POST", "/model/anthropic.claude-v1%3A0/converse", "converse", "anthropic.claude-v1:0"),
        (
            "bedrock",
            "POST",
            "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A%3Afoundation-model%2Fk/invoke",
            "invoke",
            "arn:aws:bedrock:us-east-1::foundation-model/k",
        ),
        ("azure-openai", "POST", "/openai/deployments/prod/chat/completions", "chat.completions", "prod"),
        (
            "vertex",
            "POST",
            "/v1/projects/p/locations/l/publishers/anthropic/models/claude-fable-5@20260324:rawPredict",
            "v1.publishers.rawPredict",
            "claude-fable-5@20260324",
        ),
        (
            "vertex",
            "POST",
            "/v1/projects/p/locations/l/publishers/anthropic/models/count-tokens:rawPredict",
            "v1.count-tokens",
            None,
        ),
        ("vertex", "POST", "/v1/projects/p/locations/l/endpoints/7:predict", "v1.endpoints.predict", "endpoints/7"),
    ],
)
def test_what_is_listed(dialect, method, path, operation, model):
    found = DIALECTS[dialect].operation(method, path)
    assert found is not None
    assert (found[0].id, found[1]) == (operation, model)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/v1/chat/completions"), ("HEAD", "/v1/models"), ("POST", "/v1/models"), ("PATCH", "/v1/models/x"),
        ("PUT", "/v1/messages"), ("OPTIONS", "/v1/messages"), ("post", "/v1/messages"), ("", ""), ("POST", ""),
        ("POST", "/v1/messages/"), ("POST", "//v1/messages"), ("POST", "/v1//messages"), ("POST", "/V1/messages"),
        ("POST", "/v1/Messages"), ("POST", "v1/messages"), ("POST", "/v1/messages;x"), ("POST", "/v1/messages%2f"),
        ("POST", "/v1/messages\n"), ("POST", "/v2/messages"), ("POST", "/v1/messages/batches/x"), ("PUT", "/v1/files"),
        ("POST", "/v1/batches/x"), ("POST", "/v1/fine_tuning/jobs/"), ("POST", "/v1/images/generations/x"),
        ("POST", "/v1/load_lora_adapter"), ("POST", "/api/pull"), ("POST", "/v1/organization/users"),
        ("GET", "/v1/models/"), ("GET", "/v1/models/a/b"), ("GET", "/v1/models/.."), ("GET", "/v1/models/a%2eb"),
        ("GET", "/v1/models/a%2F..%2F..%2Ffiles"), ("GET", "/v1/files/f%2f%2e%2e"), ("GET", "/v1/files/f%2F..%2F..%2Fresponses%2Fr"),
        ("DELETE", "/v1/files/f%2F./x"), ("GET", "/v1/files/f%2F%2Fx"), ("GET", "/v1/files/f%2F/content"), ("GET", "/v1/models/a%2f"),
        ("GET", "/v1/models/a%252fb"), ("GET", "/v1/models/%2fa"), ("GET", "/v1%2fmodels"), ("GET", "/v1/models/a%00"),
        ("GET", "/v1/models/-a"), ("GET", "/v1/models/a\n"), ("GET", "/v1/models/" + "a" * 257),
    ],
)  # fmt: skip
@pytest.mark.parametrize("dialect", DIALECTS)
def test_what_is_not_listed_is_not_found(dialect, method, path):
    assert DIALECTS[dialect].operation(method, path) is None


@pytest.mark.parametrize(("dialect", "operation"), OPERATIONS)
def test_whatever_runs_a_model_says_which_or_which_could_be_meant(dialect, operation):
    required = any(selector.required or selector.absent for selector in operation.selectors) or any(
        selector.required for _, selectors in operation.documents for selector in selectors
    )
    says = required or "{model}" in operation.path or bool(operation.candidates)
    assert says or not operation.invokes
    assert not (operation.selectors and operation.body is Kind.NONE), "a selector has a body to look into"


@pytest.mark.parametrize(("dialect", "operation"), OPERATIONS)
def test_candidates_are_capabilities(dialect, operation):
    named = {operation.candidates, *(s.absent for s in operation.selectors), *(i.capability for i in operation.implied)}
    assert named <= {"", ANY, *Model.model_fields["capability"].annotation.__args__}


@pytest.mark.parametrize(("dialect", "operation"), OPERATIONS)
def test_what_a_path_keeps_is_a_segment_of_it(dialect, operation):
    for kept in operation.kept:
        if kept.act is Act.DELETES:
            assert f"{{{kept.at}}}" in operation.path
        if kept.act is Act.USES and "." not in kept.at and operation.body is Kind.NONE:
            assert f"{{{kept.at}}}" in operation.path


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
