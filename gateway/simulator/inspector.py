"""The `/_sim/` endpoints: what was recorded, what is counted, which defaults hold."""

from base64 import b64encode
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any, Protocol

import orjson
from aiohttp import web

from gateway.simulator import behaviour as behaviours
from gateway.simulator.behaviour import BadOptionError, Behaviour
from gateway.simulator.dialect import JSON_TYPE, Json
from gateway.simulator.record import Exchange, Journal, monotonic_ns

DEFAULT_LIMIT = 1000
MAX_LIMIT = 1_000_000


class Inspected(Protocol):
    """What the endpoints read and change."""

    journal: Journal
    defaults: Behaviour


class Inspector:
    """The endpoints. `count_connections`, once set, tells how many connections the server holds open."""

    def __init__(self, service: Inspected) -> None:
        self._service = service
        self.count_connections: Callable[[], int] | None = None

    def routes(self, prefix: str) -> list[web.RouteDef]:
        """Return the routes below `prefix`."""
        return [
            web.get(f"{prefix}/requests", self.list_requests),
            web.delete(f"{prefix}/requests", self.clear_requests),
            web.get(f"{prefix}/requests/{{serial:[0-9]{{1,18}}}}", self.get_request),
            web.get(f"{prefix}/stats", self.get_stats),
            web.get(f"{prefix}/defaults", self.get_defaults),
            web.post(f"{prefix}/defaults", self.set_defaults),
        ]

    async def list_requests(self, request: web.Request) -> web.Response:
        """`?since=` (serial, exclusive) `&tag=&limit=&full=1` → `{"requests": […], "total": n}`, oldest first.

        Without `full` an entry has neither its body nor its emissions, but their sizes.
        """
        query = request.query
        try:
            since = _whole(query, "since", 0, 10**18)
            limit = _whole(query, "limit", DEFAULT_LIMIT, MAX_LIMIT)
            full = bool(_whole(query, "full", 0, 1))
        except BadOptionError as error:
            return _json({"error": str(error)}, 400)
        journal = self._service.journal
        chosen = journal.select(since=since, tag=query.get("tag"), limit=limit)
        render = in_full if full else summary
        return _json({"requests": [render(exchange) for exchange in chosen], "total": journal.counters.requests})

    async def get_request(self, request: web.Request) -> web.Response:
        """Answer with one exchange in full, or 404 where it is not kept (any more)."""
        exchange = self._service.journal.find(int(request.match_info["serial"]))
        return _json({"error": "no such request is kept"}, 404) if exchange is None else _json(in_full(exchange))

    async def clear_requests(self, _request: web.Request) -> web.Response:
        """Forget the exchanges; serial numbers and counters go on."""
        return _json({"deleted": self._service.journal.clear()})

    async def get_stats(self, _request: web.Request) -> web.Response:
        """Answer with the counters since the start; `open_connections` counts the asking one too."""
        counters = self._service.journal.counters
        by_model: dict[str, dict[str, int]] = {}
        for (provider, model), count in counters.by_model.items():
            by_model.setdefault(provider, {})[model] = count
        document = {
            "total": counters.requests,
            "by_model": by_model,
            "kept": len(self._service.journal),
            "open_connections": self.count_connections() if self.count_connections else None,
            "open_requests": counters.open_requests,
            "open_streams": counters.open_streams,
            "emitted_events": counters.emitted_events,
            "last_arrival_ns": counters.last_arrival_ns,
            "now_ns": monotonic_ns(),
        }
        return _json(document)

    async def get_defaults(self, _request: web.Request) -> web.Response:
        """Answer with every option's default."""
        return _json(behaviours.as_json(self._service.defaults))

    async def set_defaults(self, request: web.Request) -> web.Response:
        """Change some defaults for requests from now on and answer with all; 400 changes nothing."""
        try:
            document = orjson.loads(await request.read())
            self._service.defaults = behaviours.from_json(document, self._service.defaults)
        except (orjson.JSONDecodeError, BadOptionError) as error:
            return _json({"error": str(error)}, 400)
        return _json(behaviours.as_json(self._service.defaults))


def summary(exchange: Exchange) -> Json:
    """Return an exchange as JSON, without its body and emissions.

    Header bytes are read as Latin-1, so that each character is one byte. Times are CLOCK_MONOTONIC nanoseconds.
    `ended` is null while it goes on; a stalled one has `stalled_ns`, and ends when its peer leaves.
    """
    return {
        "serial": exchange.serial,
        "tag": exchange.tag,
        "provider": exchange.provider,
        "model": exchange.model,
        "method": exchange.method,
        "target": exchange.target.encode("utf-8", "surrogateescape").decode("latin-1"),
        "headers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in exchange.headers],
        "peer_port": exchange.peer_port,
        "head_ns": exchange.head_ns,
        "body_ns": exchange.body_ns,
        "body_size": len(exchange.body),
        "status": exchange.status,
        "emission_count": exchange.emissions_dropped + len(exchange.emissions) // 2,
        "first_emission_ns": None if exchange.emissions_dropped else next(iter(exchange.emissions), None),
        "last_emission_ns": exchange.emissions[-2] if exchange.emissions else None,
        "sent_bytes": exchange.offset,
        "stalled_ns": exchange.stalled_ns,
        "ended": exchange.ended.value if exchange.ended else None,
        "ended_ns": exchange.ended_ns,
    }


def in_full(exchange: Exchange) -> Json:
    """Return the summary with the body (base64, and its SHA-256) and the kept emissions, [ns, offset] each."""
    return {
        **summary(exchange),
        "body_sha256": sha256(exchange.body).hexdigest(),
        "body_base64": b64encode(exchange.body).decode(),
        "emissions": list(exchange.pairs()),
    }


def _json(document: Any, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(document), status=status, content_type=JSON_TYPE)


def _whole(query: Mapping[str, str], name: str, default: int, high: int) -> int:
    text = query.get(name, str(default))
    if not text.isascii() or not text.isdecimal() or len(text) > 19 or int(text) > high:
        raise BadOptionError(f"{name}: a whole number from 0 to {high} is expected")
    return int(text)
