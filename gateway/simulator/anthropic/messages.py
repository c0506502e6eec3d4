"""POST /v1/messages and /v1/messages/count_tokens."""

from collections.abc import Iterable
from typing import Any

import orjson

from gateway.simulator import content, tools
from gateway.simulator.dialect import (
    Call,
    Json,
    Reply,
    Stream,
    event_template,
    json_reply,
    named_event,
    required_list,
)


def create(call: Call) -> Reply:
    """Answer with a Message or its stream: one block of text, or one of tool use."""
    prompt = content.last_user_text(required_list(call.document, "messages"))
    call.required_model()
    tool = tools.choose(_offered(call.document), _forced(call.document), call.behaviour.tool)
    if tool is None:
        return _text(call, prompt)
    return _tool_use(call, tool, prompt)


def count_tokens(call: Call) -> Reply:
    """Answer with a MessageTokensCount."""
    required_list(call.document, "messages")
    call.required_model()
    return json_reply({"input_tokens": _input_tokens(call)})


def _text(call: Call, prompt: str) -> Reply:
    script = content.write(call.required_model(), prompt, call.behaviour)
    if not call.streaming:
        block = {"type": "text", "text": script.whole(), "citations": None}
        return json_reply(_message(call, [block], "end_turn", script.count))
    start = {"type": "text", "text": "", "citations": None}
    delta = event_template(lambda text: _delta_event({"type": "text_delta", "text": text}))
    return _stream(call, start, map(delta, script.pieces()), "end_turn", script.count)


def _tool_use(call: Call, tool: tools.Tool, prompt: str) -> Reply:
    arguments = tools.arguments(tool.schema, prompt)
    text = orjson.dumps(arguments).decode()
    block: Json = {"type": "tool_use", "id": call.identifier("toolu_"), "name": tool.name}
    tokens = content.tokens_in(text)
    if not call.streaming:
        return json_reply(_message(call, [{**block, "input": arguments}], "tool_use", tokens))
    delta = event_template(lambda piece: _delta_event({"type": "input_json_delta", "partial_json": piece}))
    deltas = map(delta, content.cut(text, call.behaviour))
    return _stream(call, {**block, "input": {}}, deltas, "tool_use", tokens)


def _stream(call: Call, block: Json, deltas: Iterable[bytes], stop_reason: str, tokens: int) -> Stream:
    opening: list[Json] = [
        {"type": "message_start", "message": _message(call, [], None, 1)},
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "ping"},
    ]
    closing: list[Json] = [
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": stop_reason, "stop_sequence": None},
            "usage": {"output_tokens": tokens},
        },
        {"type": "message_stop"},
    ]
    return Stream(map(named_event, opening), deltas, map(named_event, closing))


def _delta_event(delta: Json) -> bytes:
    return named_event({"type": "content_block_delta", "index": 0, "delta": delta})


def _message(call: Call, blocks: list[Json], stop_reason: str | None, output_tokens: int) -> Json:
    return {
        "id": call.identifier("msg_"),
        "type": "message",
        "role": "assistant",
        "model": call.required_model(),
        "content": blocks,
        "stop_reason": stop_reason,
        "stop_sequence": None,
        "usage": {
            "input_tokens": _input_tokens(call),
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": output_tokens,
            "service_tier": "standard",
        },
    }


def _input_tokens(call: Call) -> int:
    document = call.document
    return content.tokens_in(document.get("messages"), document.get("system"), document.get("tools"))


def _offered(document: Json) -> list[tools.Tool]:
    """Return the tools that the client runs: those with an input schema."""
    listed: Any = document.get("tools")
    return [
        tools.Tool(entry["name"], entry["input_schema"])
        for entry in (listed if isinstance(listed, list) else [])
        if isinstance(entry, dict) and isinstance(entry.get("name"), str) and "input_schema" in entry
    ]


def _forced(document: Json) -> str | None:
    choice = document.get("tool_choice")
    if not isinstance(choice, dict):
        return None
    if choice.get("type") == "any":
        return tools.ANY_TOOL
    name = choice.get("name")
    return name if choice.get("type") == "tool" and isinstance(name, str) else None
