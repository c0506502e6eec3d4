"""For machines that watch: metrics and probes. They ask for no token."""

from aiohttp import web

from gateway.control.access import Access
from gateway.control.problems import Unavailable
from gateway.control.routing import Call, Empty, Route, answer

EXPOSITION = "text/plain; version=0.0.4; charset=utf-8"


async def metrics(call: Call[Empty]) -> web.Response:
    """Prometheus' text exposition."""
    return web.Response(body=await call.context.metrics(), headers={"Content-Type": EXPOSITION})


async def live(_: Call[Empty]) -> web.Response:
    """The control process answers."""
    return answer({"status": "live"})


async def ready(call: Call[Empty]) -> web.Response:
    """The gateway can serve."""
    workers = {} if call.context.workers is None else {"workers": dict(call.context.workers())}
    if not call.context.ready():
        raise Unavailable("Not ready: no worker serves yet, or no longer.", **workers)
    return answer({"status": "ready", **workers})


ROUTES = (
    Route("GET", "/metrics", Access.OPEN, metrics, "Metrics, for Prometheus"),
    Route("GET", "/livez", Access.OPEN, live, "Whether the control process answers"),
    Route("GET", "/readyz", Access.OPEN, ready, "Whether the gateway can serve"),
)
