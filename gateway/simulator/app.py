"""The simulator's web application: the story of a request is `Service.serve`."""

import asyncio
from collections import defaultdict
from functools import partial

from aiohttp import web

from gateway.simulator import behaviour as behaviours
from gateway.simulator.anthropic import ANTHROPIC
from gateway.simulator.bedrock import BEDROCK
from gateway.simulator.behaviour import Behaviour
from gateway.simulator.config import RESERVED, SimulatorConfig
from gateway.simulator.dialect import (
    JSON_TYPE,
    ApiError,
    Call,
    Dialect,
    Json,
    Operation,
    Plain,
    Reply,
    derive_id,
    no_operation,
    parse_object,
)
from gateway.simulator.emit import Emitter
from gateway.simulator.gemini import GEMINI
from gateway.simulator.inspector import Inspector
from gateway.simulator.openai import OPENAI
from gateway.simulator.record import Ended, Exchange, Journal
from gateway.simulator.shelf import Shelf
from gateway.simulator.sockets import SOCKETS, Conversation, Socket

DIALECTS: dict[str, Dialect] = {dialect.name: dialect for dialect in (OPENAI, ANTHROPIC, GEMINI, BEDROCK)}
UNKNOWN = Operation("*", "/{tail:.*}", no_operation)
SERIAL_HEADER = "X-Sim-Serial"
MAX_HEAD_FIELD = 64 << 10  # a proxy under test may add long signed headers
MAX_HEAD_FIELDS = 1000


class Service:
    """Answers the requests of all providers."""

    def __init__(self, config: SimulatorConfig) -> None:
        self.config = config
        self.defaults = config.defaults
        self.stopping = False
        self.shelves: defaultdict[str, Shelf] = defaultdict(Shelf)
        self.journal = Journal(config.keep_requests, config.keep_body_bytes, config.keep_emissions)

    async def serve(
        self,
        request: web.Request,
        *,
        provider: str,
        dialect: Dialect,
        operation: Operation,
    ) -> web.StreamResponse:
        """Record a request, answer it, record how that ended.

        head → record · body → record · behaviour · key · silence · forced status · operation → reply → the wire
        """
        exchange = self._open(request, provider)
        self.journal.counters.open_requests += 1
        try:
            reply, behaviour = await self._reply(request, exchange, dialect, operation)
            return await self._emitter(request, exchange, behaviour).send(reply, self._headers(exchange, dialect))
        except asyncio.CancelledError:
            exchange.end(self._why_cancelled(exchange))
            raise
        except ConnectionError:
            exchange.end(Ended.CLIENT_GONE)
            return web.Response(status=499)  # nobody reads it
        finally:
            self.journal.counters.open_requests -= 1
            exchange.end(Ended.FAILED)  # only where nothing else was said

    async def talk(
        self,
        request: web.Request,
        *,
        provider: str,
        dialect: Dialect,
        socket: Socket,
    ) -> web.StreamResponse:
        """Record a handshake, then talk: head → record · behaviour · key · forced status → 101, messages."""
        exchange = self._open(request, provider)
        try:
            self._note_model(exchange, {}, request.query.get("model"))
            behaviour = self._behaviour(request)
            self._check_key(request, provider, dialect)
        except ApiError as error:
            return _at_once(exchange, _refusal(error, exchange, dialect))
        if behaviour.status is not None:
            return _at_once(exchange, _forced(behaviour.status, behaviour.retry_after, exchange, dialect))
        exchange.status = 101
        exchange.end(Ended.COMPLETE)
        models = self.config.models_of(provider)
        return await Conversation(request, provider, socket, self.journal, behaviour, models).run()

    async def _reply(
        self,
        request: web.Request,
        exchange: Exchange,
        dialect: Dialect,
        operation: Operation,
    ) -> tuple[Reply, Behaviour]:
        """Return what to send and how; an ApiError becomes an error of the dialect, sent without ado."""
        try:
            body = await self._read(request, exchange)
            parsed = parse_object(body)
            self._note_model(exchange, parsed, request.match_info.get("model"))
            behaviour = self._behaviour(request)
            self._check_key(request, exchange.provider, dialect)
            if behaviour.first_byte:
                await asyncio.sleep(behaviour.first_byte)
            if behaviour.status is not None:
                return _forced(behaviour.status, behaviour.retry_after, exchange, dialect), Behaviour()
            return operation.run(self._call(request, exchange, parsed, behaviour)), behaviour
        except ApiError as error:
            return _refusal(error, exchange, dialect), Behaviour()

    def _open(self, request: web.Request, provider: str) -> Exchange:
        transport = request.transport
        peer = transport.get_extra_info("peername") if transport else None
        return self.journal.open(
            provider=provider,
            method=request.method,
            target=request.raw_path,
            headers=tuple(request.raw_headers),
            peer_port=peer[1] if isinstance(peer, tuple) else None,
            tag=request.headers.get(behaviours.TAG_HEADER),
        )

    async def _read(self, request: web.Request, exchange: Exchange) -> bytes:
        """Return and record the body; raise ApiError 413, before reading where its length was announced."""
        too_large = ApiError(413, f"the request body is larger than {self.config.max_body} bytes")
        if (request.content_length or 0) > self.config.max_body:
            raise too_large
        try:
            body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            raise too_large from None
        except web.RequestPayloadError as error:
            raise ApiError(400, f"the request body is broken: {error}") from None
        self.journal.body_arrived(exchange, body)
        return body

    def _behaviour(self, request: web.Request) -> Behaviour:
        try:
            return behaviours.from_headers(request.headers, self.defaults)
        except behaviours.BadOptionError as error:
            raise ApiError(400, str(error)) from None

    def _check_key(self, request: web.Request, provider: str, dialect: Dialect) -> None:
        """Raise ApiError 401 unless every credential sent is the provider's key, so that a leaked one shows."""
        key = self.config.require_key.get(provider)
        if key is None:
            return
        given = dialect.credentials(request.headers)
        if not given or any(credential != key for credential in given):
            raise ApiError(401, "Incorrect API key provided")

    def _note_model(self, exchange: Exchange, parsed: Json | ApiError, in_path: str | None) -> None:
        model = in_path or (parsed.get("model") if isinstance(parsed, dict) else None)
        exchange.model = model if isinstance(model, str) else None
        self.journal.counters.count_model(exchange.provider, exchange.model)

    def _call(self, request: web.Request, exchange: Exchange, parsed: Json | ApiError, behaviour: Behaviour) -> Call:
        return Call(
            digest=exchange.digest,
            parsed=parsed,
            path=request.match_info,
            query=request.query,
            behaviour=behaviour,
            models=self.config.models_of(exchange.provider),
            body=exchange.body,
            shelf=self.shelves[exchange.provider],
        )

    def _emitter(self, request: web.Request, exchange: Exchange, behaviour: Behaviour) -> Emitter:
        return Emitter(
            request,
            exchange,
            behaviour,
            counters=self.journal.counters,
            split_pause=self.config.split_pause,
        )

    def _why_cancelled(self, exchange: Exchange) -> Ended:
        if self.stopping:
            return Ended.SHUTDOWN
        return Ended.CLIENT_GONE if exchange.stalled_ns is None else Ended.STALLED

    async def stop(self, _app: web.Application) -> None:
        """Note that handlers cancelled from now on are cut by us, not by their peers."""
        self.stopping = True

    def _headers(self, exchange: Exchange, dialect: Dialect) -> dict[str, str]:
        return {SERIAL_HEADER: str(exchange.serial), dialect.request_id_header: derive_id(exchange.digest, "req_")}


def build_app(config: SimulatorConfig) -> web.Application:
    """Return the simulator's application; run it in any AppRunner, it brings its server settings along.

    A runner's own settings give way: bodies stay as sent (no decompression), handlers of gone peers are cancelled.
    """
    app = web.Application(
        client_max_size=config.max_body,
        handler_args={
            "handler_cancellation": True,
            "auto_decompress": False,
            "access_log": None,
            "max_line_size": MAX_HEAD_FIELD,
            "max_field_size": MAX_HEAD_FIELD,
            "max_headers": MAX_HEAD_FIELDS,
        },
    )
    service = Service(config)
    inspector = Inspector(service)
    app[SERVICE], app[INSPECTOR] = service, inspector
    app.on_shutdown.append(service.stop)
    app.add_routes(inspector.routes(f"/{RESERVED}"))
    for provider, name in config.providers.items():
        dialect = DIALECTS[name]
        for operation in dialect.operations:
            handler = partial(service.serve, provider=provider, dialect=dialect, operation=operation)
            app.router.add_route(operation.method, f"/{provider}{operation.path}", handler)
        for socket in SOCKETS.get(name, ()):
            talk = partial(service.talk, provider=provider, dialect=dialect, socket=socket)
            app.router.add_route("GET", f"/{provider}{socket.path}", talk)
        unknown = partial(service.serve, provider=provider, dialect=dialect, operation=UNKNOWN)
        app.router.add_route(UNKNOWN.method, f"/{provider}{UNKNOWN.path}", unknown)
    stray = partial(service.serve, provider="", dialect=OPENAI, operation=UNKNOWN)
    app.router.add_route(UNKNOWN.method, UNKNOWN.path, stray)
    return app


SERVICE = web.AppKey("service", Service)
INSPECTOR = web.AppKey("inspector", Inspector)


def _at_once(exchange: Exchange, reply: Plain) -> web.Response:
    """A reply in one piece, instead of a WebSocket."""
    exchange.status = reply.status
    exchange.end(Ended.COMPLETE)
    return web.Response(body=reply.body, status=reply.status, headers=reply.headers, content_type=JSON_TYPE)


def _forced(status: int, retry_after: int | None, exchange: Exchange, dialect: Dialect) -> Plain:
    plain = _refusal(ApiError(status, f"simulated error {status}"), exchange, dialect)
    headers = plain.headers if retry_after is None else {**plain.headers, "Retry-After": str(retry_after)}
    return Plain(plain.body, status, headers)


def _refusal(error: ApiError, exchange: Exchange, dialect: Dialect) -> Plain:
    body = dialect.error_body(error, derive_id(exchange.digest, "req_"))
    return Plain(body, error.status, dialect.error_headers(error))
