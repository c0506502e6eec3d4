"""Frames and messages of WebSockets under arbitrary bytes: no crash, one reading however they come, no name missed."""

import itertools
import json
import typing
from pathlib import Path

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage

from gateway.dialects import DIALECTS
from gateway.dialects.bodies import heard, told
from gateway.dialects.selectors import MalformedBodyError
from gateway.proxy.body import Buffered
from gateway.proxy.inbox import Inbox
from gateway.proxy.socket_frames import BrokenFramesError, Side
from gateway.settings import Limits

SHORT = settings(max_examples=150, deadline=None)
TALKS = {
    f"{dialect.name} {operation.id}": operation.talk
    for dialect in DIALECTS.values()
    for operation in dialect.operations
    if operation.talk is not None
}
READERS = {id(talk.reader): name for name, talk in TALKS.items()}.values()
"""One name for each."""

READ = TALKS["openai responses.connect"].reader


def cut(data: bytes, at: list[int]) -> list[bytes]:
    """Data in pieces."""
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in at)})
    return [data[start:end] for start, end in itertools.pairwise(edges)]


def read(side: Side, pieces: list[bytes]) -> list[object]:
    """What a side makes of bytes: whole messages and control frames, and how it ended."""
    inbox, found = Inbox(Buffered(Limits(), Path("/tmp")), "alice"), []
    try:
        for piece in pieces:
            side.feed(piece)
            for event in side.events():
                match event:
                    case TextMessage() | BytesMessage():
                        said = inbox.take(event)
                        if said is not None:
                            found.append((said.is_text, said.content()))
                            said.close()
                    case Ping() | Pong():
                        found.append((type(event), bytes(event.payload)))
                    case CloseConnection():
                        found.append((int(event.code), event.reason))
    except BrokenFramesError as error:
        found.append(error.code)
    inbox.close()
    return found


frame_like = st.builds(
    lambda first, length, rest: bytes([first, 0x80 | length]) + rest,
    st.integers(0, 255), st.integers(0, 127), st.binary(max_size=140),
)  # fmt: skip


@SHORT
@given(
    st.lists(st.one_of(frame_like, st.binary(max_size=40)), max_size=6).map(b"".join),
    st.lists(st.integers(0, 1000), max_size=8),
)
@pytest.mark.parametrize("server", [True, False])
def test_any_bytes_are_read_in_one_way(server, data, at):
    assert read(Side(server=server), cut(data, at)) == read(Side(server=server), [data])


@SHORT
@given(
    st.lists(
        st.tuples(st.one_of(st.text(max_size=300), st.binary(max_size=300)), st.integers(1, 5), st.booleans()),
        max_size=6,
    ),
    st.lists(st.integers(0, 5000), max_size=20),
)
def test_messages_come_out_as_they_went_in(messages, at):
    sender, data, expected = Side(server=False), b"", []
    for whole, pieces, ping in messages:
        size = len(whole) // pieces + 1
        parts = [whole[start : start + size] for start in range(0, len(whole), size)] or [whole]
        for number, part in enumerate(parts):
            data += sender.message(part, finished=number == len(parts) - 1)
            if ping and number < len(parts) - 1:
                data += sender.ping()
                expected.append((Ping, b""))
        expected.append((isinstance(whole, str), whole.encode() if isinstance(whole, str) else whole))
    assert read(Side(server=True), cut(data, at)) == expected


# ------------------------------------------------------------------------------------------------ messages

keys = st.sampled_from(
    [
        '"type"',
        '"Type"',
        '"ty\\u0070e"',
        '"model"',
        '"MODEL"',
        '"mod\\u0065l"',
        '"input"',
        '"a\\u0022type"',
        '"x"',
        '"tools"',
    ]
)
values = st.sampled_from(
    [
        '"response.create"',
        '"response.steer"',
        '"gpt-a"',
        '"gpt-b"',
        '"hi"',
        "null",
        "1",
        '{"type":"x"}',
        '[{"model":"gpt-c"}]',
        '{"model":"gpt-d"}',
        '{"type":1,"type":2}',
    ]
)
documents = st.lists(st.tuples(keys, values), max_size=6).map(
    lambda pairs: "{" + ",".join(f"{k}:{v}" for k, v in pairs) + "}"
)


def first_wins(pairs):
    return dict(reversed(pairs))


def folded(pairs):
    return {key.casefold(): value for key, value in pairs}


@settings(max_examples=400, deadline=None)
@given(documents)
def test_no_parser_reads_another_kind_or_model(text):
    try:
        reading = READ.read(text.encode())
    except MalformedBodyError:
        return
    for read_ in (
        orjson.loads(text), json.loads(text), json.loads(text, object_pairs_hook=first_wins), json.loads(text, object_pairs_hook=folded),
    ):  # fmt: skip
        assert read_["type"] in READ.kinds
        if isinstance(read_.get("model"), str):
            assert read_["model"] in reading.names
        if read_["type"] == "response.create" and "model" not in read_:
            assert "chat" in reading.unnamed
        tools = read_.get("tools")
        for tool in tools if isinstance(tools, list) else ():
            assert tool["model"] in reading.names


@SHORT
@given(st.one_of(st.binary(max_size=200), documents.map(str.encode)))
@pytest.mark.parametrize("name", READERS)
def test_any_bytes_are_a_message_or_refused(name, data):
    reader = TALKS[name].reader
    try:
        here = reader.read(data)
    except MalformedBodyError:
        here = None
    try:
        there = heard(json.loads(json.dumps(told(reader)))).read(data)
    except MalformedBodyError:
        there = None
    assert here == there, "the process beside reads as this one"


def test_the_kinds_are_those_of_the_sdk():
    """Each event of openai-python's unions for clients is listed, and nothing that its servers send."""
    from openai.types.realtime import RealtimeClientEvent, RealtimeServerEvent
    from openai.types.realtime.realtime_translation_client_event import RealtimeTranslationClientEvent
    from openai.types.responses.responses_client_event_param import ResponsesClientEventParam

    def kinds(union) -> set[str]:
        union = typing.get_args(union)[0] if typing.get_origin(union) is typing.Annotated else union
        found: set[str] = set()
        for event in typing.get_args(union):
            fields = getattr(event, "model_fields", None)
            found |= set(typing.get_args(fields["type"].annotation if fields else typing.get_type_hints(event)["type"]))
        return found

    realtime = set(TALKS["openai realtime.connect"].reader.kinds)
    asked = kinds(RealtimeClientEvent) | kinds(RealtimeTranslationClientEvent)
    assert asked <= realtime
    assert realtime - asked == {"transcription_session.update"}, "of the beta"
    assert not realtime & kinds(RealtimeServerEvent)
    assert kinds(ResponsesClientEventParam) == set(READ.kinds)
