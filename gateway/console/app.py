"""Puts the console on the admin listener's application."""

from collections.abc import AsyncIterator, Awaitable, Callable

from aiohttp import web

from gateway import tasks
from gateway.console import timeline
from gateway.console.live import Live
from gateway.console.origin import HEADERS
from gateway.console.pages import BASE, Pages, prepare
from gateway.console.sessions import SAFE, Sessions
from gateway.control.access import Access
from gateway.control.context import Context
from gateway.control.routes import ROUTES


def mount(app: web.Application, context: Context) -> None:
    """Add the pages, their events, and the admin API under a session."""
    sessions = Sessions(context.settings)
    live = Live(context, sessions)
    prepare(app)
    Pages(context, sessions).add_to(app)
    app.router.add_get(f"{BASE}/events", live.stream)
    for route in ROUTES:
        if route.access is not Access.OPEN:
            handler = _hurrying(route.bound(context, sessions.shown), live)
            app.router.add_route(route.method, BASE + route.path, handler)
    for route in timeline.ROUTES:
        app.router.add_route(route.method, route.path, route.bound(context, sessions.shown))
    app.on_response_prepare.append(_harden)
    app.on_shutdown.append(live.close)
    app.cleanup_ctx.append(_running(live))


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def _hurrying(handler: Handler, live: Live) -> Handler:
    """What somebody changes here, every page sees at once."""

    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        finally:
            if request.method not in SAFE:
                live.hurry()

    return handle


async def _harden(request: web.Request, response: web.StreamResponse) -> None:
    """Headers of everything below the console's path."""
    if request.path == BASE or request.path.startswith(f"{BASE}/"):
        response.headers.update(HEADERS)


def _running(live: Live) -> Callable[[web.Application], AsyncIterator[None]]:
    async def context(_: web.Application) -> AsyncIterator[None]:
        looking = tasks.spawn(live.run(), "console")
        yield
        await tasks.cancel(looking)

    return context
