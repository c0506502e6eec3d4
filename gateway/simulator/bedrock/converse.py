"""POST /model/{id}/converse, /converse-stream and /count-tokens."""

from gateway.simulator import content
from gateway.simulator.bedrock.frames import EVENT_STREAM_TYPE, event
from gateway.simulator.dialect import Call, Json, Reply, Stream, json_reply, required_list


def create(call: Call) -> Reply:
    """Answer with a ConverseResponse."""
    script = _script(call)
    message = {"role": "assistant", "content": [{"text": script.whole()}]}
    return json_reply({"output": {"message": message}, "stopReason": "end_turn", **_end(call, script.count)})


def stream(call: Call) -> Reply:
    """Answer with a ConverseStreamOutput."""
    script = _script(call)
    deltas = (
        event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": piece}}) for piece in script.pieces()
    )
    closing = [
        event("contentBlockStop", {"contentBlockIndex": 0}),
        event("messageStop", {"stopReason": "end_turn"}),
        event("metadata", _end(call, script.count)),
    ]
    return Stream([event("messageStart", {"role": "assistant"})], deltas, closing, EVENT_STREAM_TYPE)


def count_tokens(call: Call) -> Reply:
    """Answer with a CountTokensResponse."""
    return json_reply({"inputTokens": content.tokens_in(call.document)})


def _script(call: Call) -> content.Script:
    messages = required_list(call.document, "messages")
    return content.write(call.path["model"], content.last_user_text(messages), call.behaviour)


def _end(call: Call, tokens: int) -> Json:
    given = content.tokens_in(call.document.get("messages"), call.document.get("system"))
    return {
        "usage": {"inputTokens": given, "outputTokens": tokens, "totalTokens": given + tokens},
        "metrics": {"latencyMs": 1},
    }
