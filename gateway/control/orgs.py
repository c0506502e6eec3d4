"""Organisations: where they are, how their services speak for users, what they attest about them."""

from aiohttp import web

from gateway.control import nouns
from gateway.control.access import Access
from gateway.control.routing import Call, Empty, Route
from gateway.policy.document import Org

ORG = nouns.Noun("orgs", lambda _, __: {})


async def listing(call: Call[Empty]) -> web.Response:
    """Every org."""
    return await nouns.listing(call, ORG)


async def get(call: Call[Empty]) -> web.Response:
    """One org."""
    return await nouns.get(call, ORG)


async def put(call: Call[Org]) -> web.Response:
    """Create or replace an org."""
    return await nouns.put(call, ORG)


async def delete(call: Call[Empty]) -> web.Response:
    """Remove an org."""
    return await nouns.delete(call, ORG)


ROUTES = (
    Route("GET", "/api/v1/orgs", Access.READ, listing, "Every organisation"),
    Route("GET", "/api/v1/orgs/{id}", Access.READ, get, "One org"),
    Route(
        "PUT",
        "/api/v1/orgs/{id}",
        Access.OPERATE,
        put,
        "Create or replace an org",
        body=Org,
        changes=True,
        conditional=True,
    ),
    Route(
        "DELETE",
        "/api/v1/orgs/{id}",
        Access.OPERATE,
        delete,
        "Remove an org",
        changes=True,
        conditional=True,
    ),
)
