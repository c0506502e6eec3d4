"""WebSockets of the dialects, at their smallest: each message of a client is recorded as a request of its own.

OpenAI's Realtime API and Responses over WebSocket answer `response.create` with deltas; Gemini's Live API answers
`setup` and `clientContent`, in binary frames as the original does. `X-Sim-…` headers of the handshake say how.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import orjson
from aiohttp import WSCloseCode, WSMsgType, web

from gateway.simulator import content
from gateway.simulator.behaviour import TAG_HEADER, Behaviour
from gateway.simulator.dialect import ApiError, Call, Json, Stream, parse_object
from gateway.simulator.openai import responses
from gateway.simulator.record import Ended, Exchange, Journal
from gateway.simulator.shelf import Shelf

METHOD = "MESSAGE"
"""The method under which a message is recorded."""

MAX_MESSAGE = 64 << 20


@dataclass(frozen=True, slots=True)
class Socket:
    """A WebSocket: its path, what it says first, what it answers, whether in binary frames."""

    path: str
    greeting: Callable[[str | None], Iterable[Json]]
    answer: Callable[[Call, str | None], Iterable[Json]]
    binary: bool = False


# ------------------------------------------------------------------------------------------------ what is said


def _session(model: str | None) -> Json:
    return {"type": "realtime", "object": "realtime.session", "id": "sess_simulated", "model": model}


def _realtime_greeting(model: str | None) -> Iterator[Json]:
    yield {"type": "session.created", "event_id": "event_0", "session": _session(model)}


def _realtime(call: Call, model: str | None) -> Iterator[Json]:
    kind = call.document.get("type")
    event: Json = {"event_id": call.identifier("event_")}
    if kind == "session.update":
        yield {"type": "session.updated", **event, "session": {**_session(model), **call.document.get("session", {})}}
    elif kind == "conversation.item.create":
        yield {"type": "conversation.item.added", **event, "item": call.document.get("item", {})}
    elif kind == "response.create":
        response: Json = {"object": "realtime.response", "id": call.identifier("resp_"), "output": []}
        place: Json = {"response_id": response["id"], "item_id": "item_1", "output_index": 0, "content_index": 0}
        script = content.write(model or "a model", "", call.behaviour)
        yield {"type": "response.created", **event, "response": {**response, "status": "in_progress"}}
        for piece in script.pieces():
            yield {"type": "response.output_text.delta", **event, **place, "delta": piece}
        yield {"type": "response.done", **event, "response": {**response, "status": "completed"}}


def _responses(call: Call, _model: str | None) -> Iterator[Json]:
    if call.document.get("type") != "response.create":
        return
    reply = responses.create(call)
    assert isinstance(reply, Stream)
    for events in (reply.opening, reply.deltas, reply.closing):
        for event in events:
            yield orjson.loads(event.partition(b"data: ")[2])


def _live(call: Call, model: str | None) -> Iterator[Json]:
    if "setup" in call.document:
        yield {"setupComplete": {}}
    elif call.document.keys() & {"clientContent", "client_content"}:
        for piece in content.write(model or "a model", "", call.behaviour).pieces():
            yield {"serverContent": {"modelTurn": {"role": "model", "parts": [{"text": piece}]}}}
        yield {"serverContent": {"turnComplete": True}}


def _nothing(_model: str | None) -> Iterable[Json]:
    return ()


SOCKETS: dict[str, tuple[Socket, ...]] = {
    "openai": (
        Socket("/v1/realtime", _realtime_greeting, _realtime),
        Socket("/v1/responses", _nothing, _responses),
    ),
    "gemini": (
        Socket(
            "/ws/google.ai.generativelanguage.{version}.GenerativeService.BidiGenerateContent",
            _nothing, _live, binary=True,
        ),
    ),
}  # fmt: skip


# ------------------------------------------------------------------------------------------------ how it goes


class Conversation:
    """One WebSocket of a client."""

    def __init__(
        self, request: web.Request, provider: str, socket: Socket, journal: Journal, behaviour: Behaviour,
        models: tuple[str, ...],
    ) -> None:  # fmt: skip
        self._request = request
        self._provider = provider
        self._socket = socket
        self._journal = journal
        self._shelf = Shelf()
        self._behaviour = behaviour
        self._models = models
        self._model: str | None = request.query.get("model")
        self._ws = web.WebSocketResponse(max_msg_size=MAX_MESSAGE, protocols=("realtime",), compress=False)

    async def run(self) -> web.WebSocketResponse:
        """Talk until one end has had enough."""
        await self._ws.prepare(self._request)
        with contextlib.suppress(ConnectionError):  # the peer has left, which is recorded
            for event in self._socket.greeting(self._model):
                await self._say(event)
            async for message in self._ws:
                if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                    data = message.data.encode() if isinstance(message.data, str) else message.data
                    await self._heard(data)
        return self._ws

    async def _heard(self, data: bytes) -> None:
        exchange = self._record(data)
        try:
            for event in self._answers(data, exchange):
                await self._say(event, exchange)
                await asyncio.sleep(self._behaviour.interval)
        except ApiError as error:
            await self._ws.close(code=WSCloseCode.UNSUPPORTED_DATA, message=error.message.encode()[:100])
        except (ConnectionError, asyncio.CancelledError):  # aiohttp cancels who answers a peer that has left
            exchange.end(Ended.CLIENT_GONE)
            raise
        finally:
            exchange.end(Ended.COMPLETE)

    def _record(self, data: bytes) -> Exchange:
        peer = self._request.transport.get_extra_info("peername") if self._request.transport else None
        exchange = self._journal.open(
            provider=self._provider, method=METHOD, target=self._request.raw_path,
            headers=tuple(self._request.raw_headers), peer_port=peer[1] if isinstance(peer, tuple) else None,
            tag=self._request.headers.get(TAG_HEADER),
        )  # fmt: skip
        self._journal.body_arrived(exchange, data)
        exchange.status = 101
        return exchange

    def _answers(self, data: bytes, exchange: Exchange) -> Iterable[Json]:
        parsed = parse_object(data)
        named = _model_of(parsed) if isinstance(parsed, dict) else None
        self._model = named or self._model
        exchange.model = named
        self._journal.counters.count_model(self._provider, named)
        if isinstance(parsed, dict):
            parsed = {**parsed, "stream": True}
        digest, query = sha256(data).digest(), self._request.query
        call = Call(digest, parsed, {}, query, self._behaviour, self._models, data, self._shelf)
        return self._socket.answer(call, self._model)

    async def _say(self, event: Json, exchange: Exchange | None = None) -> None:
        data = orjson.dumps(event)
        if exchange is not None:
            exchange.emitted(len(data))
            self._journal.counters.emitted_events += 1
        if self._socket.binary:
            await self._ws.send_bytes(data)
        else:
            await self._ws.send_str(data.decode())


def _model_of(message: Json) -> str | None:
    """The model that a message names, wherever its kind has it."""
    places: tuple[Any, ...] = (message, message.get("session"), message.get("setup"), message.get("response"))
    found = (place.get("model") for place in places if isinstance(place, dict))
    return next((model for model in found if isinstance(model, str)), None)
