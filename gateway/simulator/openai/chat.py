"""POST /v1/chat/completions."""

from collections.abc import Iterator

import orjson

from gateway.simulator import content, tools
from gateway.simulator.dialect import (
    Call,
    Json,
    Reply,
    Stream,
    data_event,
    event_template,
    json_reply,
    required_list,
)
from gateway.simulator.openai.tool_choice import forced, offered
from gateway.simulator.openai.usage import completion_usage, wants_usage

DONE = b"data: [DONE]\n\n"


def create(call: Call) -> Reply:
    """Answer with a ChatCompletion or a stream of ChatCompletionChunk: text, or one function call."""
    messages = required_list(call.document, "messages")
    prompt = content.last_user_text(messages)
    call.required_model()
    tool = tools.choose(offered(call.document), forced(call.document), call.behaviour.tool)
    if tool is not None:
        return _tool_call(call, tool, prompt)
    return _text(call, prompt)


def _text(call: Call, prompt: str) -> Reply:
    script = content.write(call.required_model(), prompt, call.behaviour)
    if not call.streaming:
        message: Json = {"role": "assistant", "content": script.whole(), "refusal": None, "annotations": []}
        return json_reply(_completion(call, message, "stop", script.count))
    opening = _chunk_event(call, {"role": "assistant", "content": "", "refusal": None})
    delta = event_template(lambda text: _chunk_event(call, {"content": text}))
    return Stream([opening], map(delta, script.pieces()), _closing(call, "stop", script.count))


def _tool_call(call: Call, tool: tools.Tool, prompt: str) -> Reply:
    text = orjson.dumps(tools.arguments(tool.schema, prompt)).decode()
    tool_call: Json = {"id": call.identifier("call_"), "type": "function"}
    if not call.streaming:
        done = {**tool_call, "function": {"name": tool.name, "arguments": text}}
        message: Json = {"role": "assistant", "content": None, "refusal": None, "tool_calls": [done]}
        return json_reply(_completion(call, message, "tool_calls", content.tokens_in(text)))
    start = {"index": 0, **tool_call, "function": {"name": tool.name, "arguments": ""}}
    opening = _chunk_event(call, {"role": "assistant", "content": None, "tool_calls": [start]})
    delta = event_template(
        lambda piece: _chunk_event(call, {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}),
    )
    deltas = map(delta, content.cut(text, call.behaviour))
    return Stream([opening], deltas, _closing(call, "tool_calls", content.tokens_in(text)))


def _completion(call: Call, message: Json, finish_reason: str, tokens: int) -> Json:
    return {
        "id": call.identifier("chatcmpl-"),
        "object": "chat.completion",
        "created": call.created,
        "model": call.required_model(),
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish_reason}],
        "usage": _usage(call, tokens),
        "service_tier": "default",
        "system_fingerprint": "fp_simulator",
    }


def _chunk(call: Call, choices: list[Json]) -> Json:
    chunk: Json = {
        "id": call.identifier("chatcmpl-"),
        "object": "chat.completion.chunk",
        "created": call.created,
        "model": call.required_model(),
        "service_tier": "default",
        "system_fingerprint": "fp_simulator",
        "choices": choices,
    }
    return {**chunk, "usage": None} if wants_usage(call.document) else chunk


def _chunk_event(call: Call, delta: Json, finish_reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    return data_event(_chunk(call, [choice]))


def _closing(call: Call, finish_reason: str, tokens: int) -> Iterator[bytes]:
    yield _chunk_event(call, {}, finish_reason)
    if wants_usage(call.document):
        yield data_event({**_chunk(call, []), "usage": _usage(call, tokens)})
    yield DONE


def _usage(call: Call, tokens: int) -> Json:
    return completion_usage(content.tokens_in(call.document["messages"]), tokens)
