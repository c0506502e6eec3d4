"""Groups: named sets of countries, with where they are from and as of when."""

from aiohttp import web

from gateway.control import nouns
from gateway.control.access import Access
from gateway.control.routing import Call, Empty, Route
from gateway.control.shapes import GroupBody

GROUP = nouns.Noun("groups", nouns.used_by("groups"))


async def listing(call: Call[Empty]) -> web.Response:
    """Every group."""
    return await nouns.listing(call, GROUP)


async def get(call: Call[Empty]) -> web.Response:
    """One group."""
    return await nouns.get(call, GROUP)


async def put(call: Call[GroupBody]) -> web.Response:
    """Create or replace a group."""
    return await nouns.put(call, GROUP)


async def delete(call: Call[Empty]) -> web.Response:
    """Remove a group that nothing uses."""
    return await nouns.delete(call, GROUP)


ROUTES = (
    Route("GET", "/api/v1/groups", Access.READ, listing, "Every group of countries, and what uses it"),
    Route("GET", "/api/v1/groups/{id}", Access.READ, get, "One group"),
    Route(
        "PUT",
        "/api/v1/groups/{id}",
        Access.OPERATE,
        put,
        "Create or replace a group",
        body=GroupBody,
        changes=True,
        conditional=True,
    ),
    Route(
        "DELETE",
        "/api/v1/groups/{id}",
        Access.OPERATE,
        delete,
        "Remove a group that nothing uses",
        changes=True,
        conditional=True,
    ),
)
