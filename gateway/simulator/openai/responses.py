"""POST /v1/responses: a Response object, or its typed events with consecutive sequence numbers."""

from collections.abc import Callable, Iterable, Iterator
from itertools import count

import orjson

from gateway.simulator import content, tools
from gateway.simulator.dialect import ApiError, Call, Json, Reply, Stream, event_template, json_reply, named_event
from gateway.simulator.openai.tool_choice import forced, offered

DEFAULT_MODEL = "gpt-5.4"  # `model` is optional here: a stored prompt may imply it
_ECHOED: Json = {  # fields of the request that the response repeats, and what they are where it has none
    "instructions": None,
    "max_output_tokens": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "temperature": 1.0,
    "tool_choice": "auto",
    "tools": [],
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
}
_PLACE: Json = {"output_index": 0, "content_index": 0}


def create(call: Call) -> Reply:
    """Answer with a Response or its stream: one message with text, or one function call."""
    given = call.document.get("input", "")
    if not isinstance(given, str | list):
        raise ApiError(400, "input: a string or a list is required", param="input")
    prompt = content.last_user_text(given)
    tool = tools.choose(offered(call.document), forced(call.document), call.behaviour.tool)
    if tool is None:
        return _text(call, prompt)
    return _function_call(call, tool, prompt)


def _text(call: Call, prompt: str) -> Reply:
    script = content.write(_model(call), prompt, call.behaviour)
    whole = script.whole()
    item = _message(call, "completed", [_part(whole)])
    finished = call.shelf.put(_response(call, "completed", [item], script.count))
    if not call.streaming:
        return json_reply(finished)
    place: Json = {"item_id": item["id"], **_PLACE}
    number = count()
    opening = _numbered(
        number,
        *_started(call, _message(call, "in_progress", [])),
        {"type": "response.content_part.added", **place, "part": _part("")},
    )
    closing = _numbered(
        number,
        {"type": "response.output_text.done", **place, "text": whole, "logprobs": []},
        {"type": "response.content_part.done", **place, "part": _part(whole)},
        *_finished(item, finished),
    )
    delta: Json = {"type": "response.output_text.delta", **place, "logprobs": []}
    return Stream(opening, _deltas(number, delta, script.pieces()), closing)


def _function_call(call: Call, tool: tools.Tool, prompt: str) -> Reply:
    text = orjson.dumps(tools.arguments(tool.schema, prompt)).decode()
    item: Json = {
        "id": call.identifier("fc_"),
        "type": "function_call",
        "status": "completed",
        "call_id": call.identifier("call_"),
        "name": tool.name,
        "arguments": text,
    }
    finished = call.shelf.put(_response(call, "completed", [item], content.tokens_in(text)))
    if not call.streaming:
        return json_reply(finished)
    place: Json = {"item_id": item["id"], "output_index": 0}
    number = count()
    opening = _numbered(number, *_started(call, {**item, "status": "in_progress", "arguments": ""}))
    done = {"type": "response.function_call_arguments.done", **place, "arguments": text}
    closing = _numbered(number, done, *_finished(item, finished))
    delta: Json = {"type": "response.function_call_arguments.delta", **place}
    return Stream(opening, _deltas(number, delta, content.cut(text, call.behaviour)), closing)


def _numbered(number: Iterator[int], *events: Json) -> Iterator[bytes]:
    """Render events in order, numbered as they are sent: opening, deltas and closing share one count."""
    for event in events:
        yield named_event({**event, "sequence_number": next(number)})


def _deltas(number: Iterator[int], event: Json, pieces: Iterable[str]) -> Iterator[bytes]:
    render: Callable[[str], bytes] = event_template(lambda text: named_event({**event, "delta": text}))
    for piece in pieces:
        yield render(piece).replace(b"}\n\n", b',"sequence_number":%d}\n\n' % next(number))


def _started(call: Call, item: Json) -> list[Json]:
    empty = _response(call, "in_progress", [], None)
    return [
        {"type": "response.created", "response": empty},
        {"type": "response.in_progress", "response": empty},
        {"type": "response.output_item.added", "output_index": 0, "item": item},
    ]


def _finished(item: Json, response: Json) -> list[Json]:
    return [
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": response},
    ]


def _part(text: str) -> Json:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _message(call: Call, status: str, parts: list[Json]) -> Json:
    return {
        "id": call.identifier("msg_"),
        "type": "message",
        "status": status,
        "role": "assistant",
        "content": parts,
    }


def _model(call: Call) -> str:
    """Return the model named, else the previous response's, else the provider's first: it is optional here."""
    if call.document.get("model") is not None:
        return call.required_model()
    previous = call.document.get("previous_response_id")
    if isinstance(previous, str):
        return str(call.shelf.get(previous)["model"])
    return call.models[0] if call.models else DEFAULT_MODEL


def _response(call: Call, status: str, output: list[Json], output_tokens: int | None) -> Json:
    given = {name: value for name in _ECHOED if (value := call.document.get(name)) is not None}
    return {
        "id": call.identifier("resp_"),
        "object": "response",
        "created_at": call.created,
        "status": status,
        "background": False,
        "completed_at": call.created if status == "completed" else None,
        "error": None,
        "incomplete_details": None,
        "model": _model(call),
        "output": output,
        "reasoning": {"effort": None, "summary": None},
        "service_tier": "default",
        "text": {"format": {"type": "text"}},
        **_ECHOED,
        **given,
        "usage": None if output_tokens is None else _usage(call, output_tokens),
    }


def _usage(call: Call, output_tokens: int) -> Json:
    input_tokens = content.tokens_in(call.document.get("input"), call.document.get("instructions"))
    return {
        "input_tokens": input_tokens,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": output_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": input_tokens + output_tokens,
    }
