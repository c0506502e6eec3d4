"""POST /v1/completions, the legacy operation: object and chunk have the same shape."""

from collections.abc import Iterator

from gateway.simulator import content
from gateway.simulator.dialect import ApiError, Call, Json, Reply, Stream, data_event, event_template, json_reply
from gateway.simulator.openai.chat import DONE
from gateway.simulator.openai.usage import completion_usage, wants_usage


def create(call: Call) -> Reply:
    """Answer with a Completion or a stream of them."""
    model = call.required_model()
    prompt = call.document.get("prompt")
    if not isinstance(prompt, str | list):
        raise ApiError(400, "prompt: a string or a list is required", param="prompt")
    script = content.write(model, content.last_user_text(prompt), call.behaviour)
    if not call.streaming:
        whole = _completion(call, [_choice(script.whole(), "stop")])
        return json_reply({**whole, "usage": _usage(call, script.count)})
    delta = event_template(lambda text: data_event(_chunk(call, [_choice(text, None)])))
    return Stream([], map(delta, script.pieces()), _closing(call, script.count))


def _choice(text: str, finish_reason: str | None) -> Json:
    return {"index": 0, "text": text, "logprobs": None, "finish_reason": finish_reason}


def _completion(call: Call, choices: list[Json]) -> Json:
    return {
        "id": call.identifier("cmpl-"),
        "object": "text_completion",
        "created": call.created,
        "model": call.required_model(),
        "system_fingerprint": "fp_simulator",
        "choices": choices,
    }


def _chunk(call: Call, choices: list[Json]) -> Json:
    chunk = _completion(call, choices)
    return {**chunk, "usage": None} if wants_usage(call.document) else chunk


def _closing(call: Call, tokens: int) -> Iterator[bytes]:
    yield data_event(_chunk(call, [_choice("", "stop")]))
    if wants_usage(call.document):
        yield data_event({**_chunk(call, []), "usage": _usage(call, tokens)})
    yield DONE


def _usage(call: Call, tokens: int) -> Json:
    return completion_usage(content.tokens_in(call.document["prompt"]), tokens)
