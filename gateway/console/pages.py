"""The pages: shells with the gateway's name on them, and the two forms of signing in and out."""

import asyncio
import hashlib
import math
import mimetypes
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp_jinja2
import jinja2
import structlog
from aiohttp import web

from gateway import __version__
from gateway.console.origin import demand_same_origin
from gateway.console.sessions import Sessions
from gateway.console.throttle import FAILED_SECONDS, Throttle
from gateway.control.access import Access, authenticate, authenticate_or_remember, may
from gateway.control.context import Context
from gateway.control.problems import Problem, Unauthenticated
from gateway.identity.keys import MAX_CREDENTIAL, fingerprint
from gateway.identity.records import OperatorRecord

HERE = Path(__file__).parent
BASE = "/console"
SIGN_IN = f"{BASE}/sign-in"

_log = structlog.get_logger("portcullis.console")


@dataclass(frozen=True, slots=True)
class Page:
    """A page of the console. ``id`` names its path and its module."""

    id: str
    title: str


PAGES = (
    Page("models", "Models"),
    Page("directives", "Directives"),
    Page("traffic", "Traffic"),
    Page("orders", "Orders & audit"),
    Page("explain", "Explain"),
)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def prepare(app: web.Application) -> None:
    """Give an application the templates: what is not defined is a mistake, and every value is escaped."""
    loader = jinja2.FileSystemLoader(HERE / "templates")
    aiohttp_jinja2.setup(app, loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)


class Pages:
    """The handlers of the pages."""

    def __init__(self, context: Context, sessions: Sessions) -> None:
        self._context = context
        self._sessions = sessions
        self._throttle = Throttle()

    def add_to(self, app: web.Application) -> None:
        """Put the pages where they belong."""
        router = app.router
        for path in ("/", BASE, f"{BASE}/"):
            router.add_get(path, _to_first)
        for page in PAGES:
            router.add_get(f"{BASE}/{page.id}", self._shell(page))
        router.add_get(SIGN_IN, self._sign_in_form)
        router.add_post(SIGN_IN, self._sign_in)
        router.add_post(f"{BASE}/sign-out", self._sign_out)
        router.add_get(f"{BASE}/static/{{name}}", _static(HERE / "static"))

    # ------------------------------------------------------------------ shells

    def _shell(self, page: Page) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            try:
                operator = await self._operator(self._sessions.shown(request))
            except Unauthenticated:
                return _see(f"{SIGN_IN}?next={page.id}")
            except Problem as problem:
                return self._render(request, "problem.html", problem.status, problem=problem)
            session = self._sessions.find(request)
            assert session is not None
            admin = self._context.settings.admin
            drill = self._context.settings.drill.model
            me = {
                "id": operator.id,
                "roles": sorted(operator.roles),
                "may": [access.name.lower() for access in Access if may(operator, access)],
                "undo_seconds": admin.undo_seconds,
                "gateway": self._context.settings.gateway,
                "drill": drill,
                "page": page.id,
            }
            return self._render(
                request, "page.html", 200, page=page, pages=PAGES, me=me, csrf=session.csrf, ends=session.ends
            )

        return handle

    async def _operator(self, shown: str) -> OperatorRecord:
        context = self._context
        if context.operators is None:
            return await authenticate(shown, context.store)
        operator, _ = await authenticate_or_remember(shown, context.store, context.operators)
        return operator

    def _render(self, request: web.Request, template: str, status: int, **values: Any) -> web.Response:
        settings = self._context.settings
        known = {"gateway": settings.gateway, "environment": settings.console.environment, "version": __version__}
        return aiohttp_jinja2.render_template(template, request, {**known, **values}, status=status)

    # ------------------------------------------------------------------ signing in and out

    async def _sign_in_form(self, request: web.Request) -> web.StreamResponse:
        return self._form(request, 200, "")

    async def _sign_in(self, request: web.Request) -> web.StreamResponse:
        """A token for a session. A wrong one is answered late; after some, nothing is looked at for a while."""
        demand_same_origin(request)
        token, address = await _token(request), request.remote or ""
        wait = self._throttle.wait(address)
        if wait > 0:
            seconds = math.ceil(wait)
            response = self._form(request, 429, f"Too many wrong tokens from here. Try again in {seconds} s.")
            response.headers["Retry-After"] = str(seconds)
            return response
        self._throttle.failed(address)  # until it is known: many at the same moment count, too
        try:
            operator = await self._operator(fingerprint(token))
        except Unauthenticated:
            _log.warning("console_sign_in_failed")
            if self._context.evidence is not None:
                self._context.evidence.turned_away(address)
            await asyncio.sleep(FAILED_SECONDS)
            return self._form(request, 401, "Nobody has this token. An approver can give you a new one.")
        except Problem as problem:
            return self._form(request, problem.status, problem.detail)
        self._throttle.succeeded(address)
        response = _see(f"{BASE}/{_next(request)}")
        await self._sessions.begin(request, response, operator.token_sha256)
        _log.info("console_signed_in", actor=operator.id)
        if self._context.evidence is not None:
            self._context.evidence.signed_in(operator.id, address)
        return response

    async def _sign_out(self, request: web.Request) -> web.StreamResponse:
        demand_same_origin(request)
        response = _see(SIGN_IN)
        await self._sessions.end(request, response)
        return response

    def _form(self, request: web.Request, status: int, failure: str) -> web.Response:
        return self._render(request, "sign_in.html", status, failure=failure, next=_next(request))


async def _token(request: web.Request) -> str:
    """The token that a form brought; nothing, where it is no such form."""
    if request.content_type != "application/x-www-form-urlencoded":
        return ""
    try:
        token = (await request.post()).get("token", "")
    except (ValueError, LookupError):  # no UTF-8, or of an unknown charset
        return ""
    return token.strip() if isinstance(token, str) and len(token) <= MAX_CREDENTIAL else ""


def _next(request: web.Request) -> str:
    """The page that was wanted: one of ours by its id, so that nobody is sent elsewhere."""
    wanted = request.query.get("next", "")
    return wanted if wanted in {page.id for page in PAGES} else PAGES[0].id


async def _to_first(_: web.Request) -> web.StreamResponse:
    return _see(f"{BASE}/{PAGES[0].id}")


def _see(place: str) -> web.Response:
    return web.Response(status=303, headers={"Location": place})


def _static(directory: Path) -> Handler:
    """The files there are now, and no others: nothing of a request becomes a path."""
    files = {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}
    tags = {name: f'"{hashlib.sha256(body).hexdigest()[:20]}"' for name, body in files.items()}

    async def handle(request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        if name not in files:
            raise web.HTTPNotFound
        headers = {"ETag": tags[name], "Cache-Control": "no-cache"}
        if request.headers.get("If-None-Match") == tags[name]:
            return web.Response(status=304, headers=headers)
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        return web.Response(body=files[name], headers={**headers, "Content-Type": f"{kind}; charset=utf-8"})

    return handle
