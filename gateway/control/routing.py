"""What a route is, what its handler gets, and how a request becomes that."""

import json
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, NoReturn, TypeVar

import orjson
from aiohttp import web
from pydantic import TypeAdapter, ValidationError

from gateway.control.access import Access, Shown, authenticate, authenticate_or_remember, bearer, demand
from gateway.control.context import Context
from gateway.control.problems import Malformed, Unauthenticated, mistakes, sentence
from gateway.identity.records import OperatorRecord
from gateway.policy.document import Identifier, Part

MAX_BODY = 1024 * 1024
"""Bytes. A catalog entry with every list full is below 200 KiB."""

DEFAULT_WAIT, MAX_WAIT = 20.0, 120.0
"""Seconds a call waits for its receipt: longer than the default ``max_stale``, and what proxies tolerate."""

_IDENTIFIER: TypeAdapter[str] = TypeAdapter(Identifier)

B = TypeVar("B")


class Empty(Part):
    """No fields."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A query parameter. ``parse`` raises ValueError on what it does not accept."""

    name: str
    summary: str
    schema: Mapping[str, Any]
    parse: Callable[[str], Any]
    default: Any = None


def _wait(text: str) -> float:
    seconds = float(text)
    if math.isnan(seconds) or not 0 <= seconds <= MAX_WAIT:
        raise ValueError
    return seconds


WAIT = Parameter(
    name="wait",
    summary="Seconds to wait until enforcement is proven; 202 if it is not by then.",
    schema={"type": "number", "minimum": 0, "maximum": MAX_WAIT, "default": DEFAULT_WAIT},
    parse=_wait,
    default=DEFAULT_WAIT,
)


@dataclass(frozen=True, slots=True)
class Call(Generic[B]):
    """One call of a route: validated body, parsed query, and who calls (nobody, where the route is open).

    ``away``: Redis could not be reached, and who calls is remembered.
    """

    context: Context
    request: web.Request
    operator: OperatorRecord | None
    body: B
    raw: bytes
    query: Mapping[str, Any]
    away: bool = False

    @property
    def by(self) -> OperatorRecord:
        """Who calls."""
        assert self.operator is not None
        return self.operator

    @property
    def id(self) -> str:
        """The ``{id}`` of the path."""
        return self.request.match_info["id"]

    @property
    def new_id(self) -> str:
        """The ``{id}`` of the path, as something may be named.

        Raises:
            Malformed: nothing may be named like this.
        """
        try:
            return _IDENTIFIER.validate_python(self.id)
        except ValidationError:
            raise Malformed(
                "An id is 1 to 128 letters, digits and . _ : - and begins with a letter or digit."
            ) from None


Handler = Callable[[Call[Any]], Awaitable[web.Response]]


@dataclass(frozen=True, slots=True)
class Route:
    """A row of the route table; the application and ``/openapi.json`` are made from it.

    ``changes``: it makes a revision and answers with a receipt. ``conditional``: it needs If-Match or If-None-Match.
    ``survives``: it has an answer of its own while Redis cannot be reached.
    """

    method: str
    path: str
    access: Access
    handler: Handler
    summary: str
    body: type[Part] = Empty
    query: tuple[Parameter, ...] = ()
    changes: bool = False
    conditional: bool = False
    survives: bool = False

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """Every query parameter."""
        return (*self.query, WAIT) if self.changes else self.query

    def bound(self, context: Context, shown: Shown = bearer) -> Callable[[web.Request], Awaitable[web.Response]]:
        """The route as aiohttp calls it: who, then what, then the handler. ``shown``: how it is known who calls."""

        async def handle(request: web.Request) -> web.Response:
            operator, away = await self._caller(request, context, shown)
            query = read_query(request, self.parameters)
            raw = await request.read() if self.method in ("POST", "PUT") else b""
            body = read_body(raw, self.body)
            return await self.handler(Call(context, request, operator, body, raw, query, away))

        return handle

    async def _caller(self, request: web.Request, context: Context, shown: Shown) -> tuple[OperatorRecord | None, bool]:
        """Who calls, and whether that is remembered because Redis is away."""
        if self.access is Access.OPEN:
            return None, False
        try:
            if self.survives and context.operators is not None:
                operator, away = await authenticate_or_remember(shown(request), context.store, context.operators)
            else:
                operator, away = await authenticate(shown(request), context.store), False
        except Unauthenticated:
            if context.evidence is not None:
                context.evidence.turned_away(request.remote or "")
            raise
        if context.evidence is not None:
            context.evidence.signed_in(operator.id, request.remote or "")
        demand(operator, self.access, f"{self.method} {self.path}")
        return operator, away


def read_query(request: web.Request, parameters: tuple[Parameter, ...]) -> dict[str, Any]:
    """The query's values.

    Raises:
        Malformed: a parameter is unknown, repeated, or has a value that it cannot have.
    """
    known = {parameter.name: parameter for parameter in parameters}
    values = {name: parameter.default for name, parameter in known.items()}
    for name in request.query:
        if name not in known:
            accepted = ", ".join(known) or "none"
            raise Malformed(f"There is no query parameter {name!r} here; accepted: {accepted}.")
        texts = request.query.getall(name)
        try:
            (text,) = texts
            values[name] = known[name].parse(text)
        except ValueError:
            raise Malformed(f"The query parameter {name} is given once, as {_described(known[name])}.") from None
    return values


def read_body(raw: bytes, shape: type[Part]) -> Part:
    """A JSON body; none at all is an empty object.

    Raises:
        Malformed: it is no JSON, has a key twice, or does not fit the shape.
    """
    try:
        json.loads(raw.decode() or "{}", object_pairs_hook=_no_key_twice, parse_constant=_no_constant)
        return shape.model_validate_json(raw or b"{}", strict=True)
    except ValidationError as error:
        found = mistakes(error)
        raise Malformed(f"The body does not fit: {sentence(found)}.", errors=found) from None
    except (ValueError, RecursionError):
        raise Malformed("The body is no JSON object in UTF-8 with each key once.") from None


def answer(body: Any, status: int = 200, **headers: str) -> web.Response:
    """A JSON response. Header names are written with ``_`` for ``-``."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return web.Response(body=orjson.dumps(body), status=status, content_type="application/json", headers=named)


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key twice")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _described(parameter: Parameter) -> str:
    limits = [f"{name} {parameter.schema[name]}" for name in ("minimum", "maximum") if name in parameter.schema]
    return ", ".join([str(parameter.schema["type"]), *limits])
