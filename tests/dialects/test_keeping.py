"""What operations do with kept things: where ids stand, and what an id speaks for."""

import pytest

from gateway.dialects import DIALECTS
from gateway.dialects.bodies import heard, told
from gateway.dialects.keeping import CHANGEABLE, REMEMBERED, Act, Thing, Use
from gateway.dialects.selectors import MalformedBodyError
from gateway.dialects.table import ANY

OPERATIONS = [operation for dialect in DIALECTS.values() for operation in dialect.operations]


def op(dialect: str, name: str):
    return next(operation for operation in DIALECTS[dialect].operations if operation.id == name)


def test_what_some_row_changes_is_known_as_changeable():
    changed = {kept.kind for operation in OPERATIONS for kept in operation.kept if kept.act is Act.CHANGES}
    assert changed == CHANGEABLE
    assert changed <= REMEMBERED


@pytest.mark.parametrize("name", ["chat.completions", "embeddings", "models.list", "images.generations", "completions"])
def test_the_hot_operations_keep_nothing(name):
    assert op("openai", name).keeping is None


@pytest.mark.parametrize(
    ("body", "ids"),
    [
        (b'{"input":"x"}', ()),
        (b'{"previous_response_id":"resp_1"}', (("previous_response_id", "resp_1"),)),
        (b'{"previous_response_id":null}', ()),
        (b'{"previous_response_id":7}', (("previous_response_id", ""),)),
        (b'{"conversation":"conv_1"}', (("conversation", "conv_1"),)),
        (b'{"conversation":{"id":"conv_1"}}', (("conversation", "conv_1"),)),
        (b'{"prompt":{"id":"pmpt_1","version":"2"}}', (("prompt.id", "pmpt_1"),)),
        (b'{"prompt":{"variables":{"id":"x"},"id":"pmpt_1"}}', (("prompt.id", "pmpt_1"),)),
        (b'{"input":[{"id":"a"},{"id":"b","prompt":{"id":"c"}}]}', ()),
    ],
)
def test_ids_in_a_body(body, ids):
    reader = op("openai", "responses").reader
    assert reader.read(body).ids == ids
    assert heard(told(reader)).read(body).ids == ids, "the process beside finds the same"


@pytest.mark.parametrize(
    "body",
    [
        b'{"previous_response_id":"resp_1","previous_response_id":"resp_2"}',
        b'{"previous\\u005fresponse_id":"resp_1","previous_response_id":"resp_2"}',
        b'{"Previous_Response_Id":"resp_1"}',
        b'{"prompt":{"id":"a","id":"b"}}',
        b'{"prompt":{"id":"a","ID":"b"}}',
        b'{"conversation":{"id":"a"},"conversation":"b"}',
    ],
)
def test_an_id_that_can_be_read_in_two_ways_is_refused(body):
    with pytest.raises(MalformedBodyError):
        op("openai", "responses").reader.read(body)


@pytest.mark.parametrize(
    ("dialect", "name", "segments", "ids", "uses"),
    [
        ("openai", "responses.retrieve", {"response": "resp_1"}, (), [Use(Thing("response", "resp_1"), changes=False)]),
        ("openai", "threads.runs.create", {"thread": "t"}, (("assistant_id", "a"),),
         [Use(Thing("thread", "t"), changes=True), Use(Thing("assistant", "a"), changes=False)]),
        ("openai", "batches.create", {}, (("input_file_id", "f"),), [Use(Thing("file", "f"), changes=False)]),
        ("openai", "containers.files.content", {"container": "c", "file": "f"}, (), [Use(Thing("container", ""), changes=False)]),
        ("gemini", "v1beta.models.generateContent", {"model": "m"}, (("cachedContent", "cachedContents/abc"),),
         [Use(Thing("cached_content", "abc"), changes=False)]),
        ("gemini", "v1beta.tunedModels.generateContent", {"model": "t-1"}, (), [Use(Thing("model", "t-1"), changes=False)]),
        ("bedrock", "async-invoke.get", {"invocation": "arn:aws:bedrock:us-east-1:1:async-invoke%2Fxyz"}, (),
         [Use(Thing("invocation", "xyz"), changes=False)]),
    ],
)  # fmt: skip
def test_what_a_request_uses(dialect, name, segments, ids, uses):
    assert list(op(dialect, name).keeping.used(segments, ids)) == uses


@pytest.mark.parametrize(
    ("dialect", "name", "body", "made"),
    [
        ("openai", "responses", b'{"id":"resp_1","model":"m"}', [Thing("response", "resp_1")]),
        ("openai", "responses", b'{"id":"resp_1","store":false}', []),
        ("openai", "responses", b'{"id":7}', []),
        ("openai", "responses", b"[]", []),
        ("openai", "responses", b"no JSON", []),
        ("openai", "batches.retrieve", b'{"output_file_id":"f1","error_file_id":null}', [Thing("file", "f1")]),
        ("openai", "realtime.sessions", b'{"client_secret":{"value":"ek_1"}}', [Thing("client_secret", "ek_1")]),
        ("openai", "uploads.complete", b'{"file":{"id":"f1"}}', None),
        ("gemini", "v1.cachedContents.create", b'{"name":"cachedContents/abc"}', [Thing("cached_content", "abc")]),
        ("gemini", "v1.tunedModels.create", b'{"name":"tunedModels/t/operations/o","metadata":{"tunedModel":"tunedModels/t"}}',
         [Thing("model", "t"), Thing("operation", "o")]),
    ],
)  # fmt: skip
def test_what_a_response_made(dialect, name, body, made):
    keeping = op(dialect, name).keeping
    assert (None if keeping is None else keeping.created(body)) == made


def test_what_an_event_made():
    responses, run = op("openai", "responses").keeping, op("openai", "threads.create_and_run").keeping
    created = b'event: response.created\ndata: {"type":"response.created","response":{"id":"r","object":"response"}}'
    assert responses.created_by(created) == [Thing("response", "r")]
    assert responses.created_by(b'data: {"type":"response.output_item.added","item":{"id":"msg_1"}}') == []
    assert run.created_by(b'data: {"id":"thread_1","object":"thread"}') == []
    assert run.created_by(b'data: {"id":"run_1","object":"thread.run","thread_id":"t"}') == [
        Thing("run", "run_1"), Thing("thread", "t"),
    ]  # fmt: skip
    assert responses.created_by(b"data: [DONE]") == responses.created_by(b": comment") == []


def test_a_long_response_is_known_by_what_it_begins_with():
    keeping = op("openai", "responses").keeping
    assert keeping.created_first(b'{"id": "resp_1", "output": "...') == [Thing("response", "resp_1")]
    assert keeping.created_first(b'{"output": [{"id": "x"') == []


def test_a_known_thing_speaks_for_the_default_and_not_for_what_a_word_lets_run():
    assert op("openai", "responses").keeping.speaks_for == {"chat"}
    assert op("openai", "batches.create").keeping.speaks_for == {ANY}
    assert op("anthropic", "messages.batches.create").keeping.speaks_for == frozenset()
