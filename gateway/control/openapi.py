"""``/openapi.json``, made from the route table."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from aiohttp import web
from pydantic.json_schema import models_json_schema

from gateway.control.access import ROLES, Access
from gateway.control.problems import CONTENT_TYPE
from gateway.control.routing import Call, Empty, Parameter, Route, answer

_PROBLEM = {
    "description": "What is wrong, and what to do (RFC 9457).",
    "content": {CONTENT_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
}
_SCHEMAS: Mapping[str, Any] = {
    "Problem": {
        "type": "object",
        "required": ["type", "title", "status", "detail"],
        "properties": {
            "type": {"type": "string", "format": "uri-reference"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
        },
    },
    "Receipt": {
        "type": "object",
        "required": ["gateway", "revision", "state", "enforced", "basis", "models", "replicas"],
        "properties": {
            "gateway": {"type": "string"},
            "revision": {"type": "integer"},
            "state": {"enum": ["pending", "enforced"]},
            "enforced": {"type": "boolean"},
            "basis": {"enum": ["all_acked", "lease_expiry", "no_replicas", "lost", None]},
            "committed_at": {"type": "string", "format": "date-time"},
            "elapsed_ms": {"type": "number"},
            "streams_cut": {"type": "integer"},
            "draining": {"type": "integer"},
            "models": {"type": "array", "items": {"type": "string"}},
            "hold": {"type": "string"},
            "durable": {"type": "boolean"},
            "replicas": {"type": "object"},
        },
    },
}
_ACCEPTED = (
    "Committed, and not proven yet; or, with awaiting: approval, not committed, because it opens what an order closed."
)
_LOCATION = {"Location": {"schema": {"type": "string"}, "description": "Where the receipt, or the change, is."}}


def document(routes: Iterable[Route], version: str) -> dict[str, Any]:
    """The description of these routes, OpenAPI 3.1."""
    listed = tuple(routes)
    paths: dict[str, dict[str, Any]] = {}
    for route in listed:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Portcullis admin API", "version": version},
        "paths": paths,
        "components": {
            "schemas": {**_SCHEMAS, **_bodies(listed)},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _bodies(routes: Iterable[Route]) -> dict[str, Any]:
    shapes = sorted({route.body for route in routes if route.body is not Empty}, key=lambda shape: shape.__name__)
    _, schema = models_json_schema(
        [(shape, "validation") for shape in shapes], ref_template="#/components/schemas/{model}"
    )
    defined: dict[str, Any] = schema["$defs"]
    return defined


def _operation(route: Route) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": f"{route.handler.__module__.rpartition('.')[2]}.{route.handler.__name__}",
        "tags": [route.handler.__module__.rpartition(".")[2]],
        "summary": route.summary,
        "parameters": [*_in_path(route), *map(_in_query, route.parameters), *_in_headers(route)],
        "responses": {**_responses(route), "default": _PROBLEM},
    }
    if route.access is not Access.OPEN:
        operation["security"] = [{"token": []}]
        operation["x-roles"] = sorted(ROLES[route.access])
    if route.body is not Empty:
        schema = {"$ref": f"#/components/schemas/{route.body.__name__}"}
        operation["requestBody"] = {"content": {"application/json": {"schema": schema}}}
    return operation


def _responses(route: Route) -> dict[str, Any]:
    if not route.changes:
        return {"200": {"description": route.summary}}
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Receipt"}}}
    return {
        "200": {"description": "The receipt, closed.", "content": content},
        "202": {"description": _ACCEPTED, "content": content, "headers": _LOCATION},
    }


def _in_path(route: Route) -> list[dict[str, Any]]:
    return [_string(name, "path", required=True) for name in re.findall(r"\{(\w+)\}", route.path)]


def _in_query(parameter: Parameter) -> dict[str, Any]:
    return {"name": parameter.name, "in": "query", "description": parameter.summary, "schema": parameter.schema}


def _in_headers(route: Route) -> list[dict[str, Any]]:
    conditional = ("If-Match", "If-None-Match") if route.conditional else ()
    repeatable = ("Idempotency-Key",) if route.changes and route.method == "POST" else ()
    return [_string(name, "header") for name in (*conditional, *repeatable)]


def _string(name: str, where: str, *, required: bool = False) -> dict[str, Any]:
    return {"name": name, "in": where, "required": required, "schema": {"type": "string"}}


def route_for(routes: tuple[Route, ...], version: str) -> Route:
    """The route that serves the description of these routes, itself included."""

    async def openapi(_: Call[Empty]) -> web.Response:
        return answer(described)

    itself = Route("GET", "/openapi.json", Access.OPEN, openapi, "This description")
    described = document((*routes, itself), version)
    return itself
