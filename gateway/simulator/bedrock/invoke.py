"""POST /model/{id}/invoke and /invoke-with-response-stream: a model's own shapes, here Anthropic's Messages."""

from base64 import b64encode
from collections.abc import Iterable
from dataclasses import replace

from gateway.simulator.anthropic import messages
from gateway.simulator.bedrock.frames import EVENT_STREAM_TYPE, event
from gateway.simulator.dialect import ApiError, Call, Reply, Stream


def create(call: Call) -> Reply:
    """Answer with a Message."""
    return messages.create(_as_message(call, streaming=False))


def stream(call: Call) -> Reply:
    """Answer with the events of a Message, each as the bytes of a chunk."""
    reply = messages.create(_as_message(call, streaming=True))
    if not isinstance(reply, Stream):
        raise ApiError(500, "a stream was expected")
    return Stream(_chunks(reply.opening), _chunks(reply.deltas), _chunks(reply.closing), EVENT_STREAM_TYPE)


def _as_message(call: Call, *, streaming: bool) -> Call:
    """The same call as the Messages API would have got it: the model in the body, not in the path."""
    return replace(call, parsed={**call.document, "model": call.path["model"], "stream": streaming})


def _chunks(events: Iterable[bytes]) -> Iterable[bytes]:
    for one in events:
        data = one.partition(b"data: ")[2].strip()
        yield event("chunk", {"bytes": b64encode(data).decode()})
