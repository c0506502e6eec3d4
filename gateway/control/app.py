"""The admin API as an aiohttp application."""

from aiohttp import web
from aiohttp.typedefs import Middleware

from gateway import __version__
from gateway.control import openapi
from gateway.control.context import Context
from gateway.control.middleware import harden, only_own_hosts, problems
from gateway.control.routes import ROUTES
from gateway.control.routing import MAX_BODY

__all__ = ["Context", "build"]


def build(context: Context) -> web.Application:
    """The application: every route of the table, behind the middlewares."""
    middlewares: list[Middleware] = [problems, only_own_hosts(context.settings.admin.listen)]
    app = web.Application(middlewares=middlewares, client_max_size=MAX_BODY)
    app.on_response_prepare.append(harden)
    for route in (*ROUTES, openapi.route_for(ROUTES, __version__)):
        app.router.add_route(route.method, route.path, route.bound(context))
    return app
