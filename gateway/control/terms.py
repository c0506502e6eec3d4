"""Terms: named conditions, such as *us-person*. What an order means by a word is data here, with its source."""

from aiohttp import web

from gateway.control import nouns
from gateway.control.access import Access
from gateway.control.routing import Call, Empty, Route
from gateway.control.shapes import TermBody

TERM = nouns.Noun("terms", nouns.used_by("terms"))


async def listing(call: Call[Empty]) -> web.Response:
    """Every term."""
    return await nouns.listing(call, TERM)


async def get(call: Call[Empty]) -> web.Response:
    """One term."""
    return await nouns.get(call, TERM)


async def put(call: Call[TermBody]) -> web.Response:
    """Create or replace a term."""
    return await nouns.put(call, TERM)


async def delete(call: Call[Empty]) -> web.Response:
    """Remove a term that nothing uses."""
    return await nouns.delete(call, TERM)


ROUTES = (
    Route("GET", "/api/v1/terms", Access.READ, listing, "Every term, and what uses it"),
    Route("GET", "/api/v1/terms/{id}", Access.READ, get, "One term"),
    Route(
        "PUT",
        "/api/v1/terms/{id}",
        Access.OPERATE,
        put,
        "Create or replace a term",
        body=TermBody,
        changes=True,
        conditional=True,
    ),
    Route(
        "DELETE",
        "/api/v1/terms/{id}",
        Access.OPERATE,
        delete,
        "Remove a term that nothing uses",
        changes=True,
        conditional=True,
    ),
)
