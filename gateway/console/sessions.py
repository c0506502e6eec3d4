"""Sessions: a cookie that stands for an operator's token, kept on the server, until it ends or the token does.

What the cookie holds is random and new at every sign-in; here lies its hash. A session has the token's fingerprint, not
the token: whose that is, and with which roles, is looked up for every call as for the admin API, so that a token that
was replaced or removed ends its sessions at once. They survive a restart of the control process, in ``state_dir``.
"""

import asyncio
import os
import secrets
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from hmac import compare_digest
from pathlib import Path

import orjson
import structlog
from aiohttp import web

from gateway.console.origin import demand_same_origin
from gateway.control.problems import Unauthenticated
from gateway.identity.keys import fingerprint
from gateway.settings import Settings

FILE = "console-sessions.json"
MOST = 1000
"""Sessions at a time; of more, the oldest end."""

CSRF_HEADER = "Portcullis-Console"
SAFE = ("GET", "HEAD")

_log = structlog.get_logger("portcullis.console")


@dataclass(frozen=True, slots=True)
class Session:
    """A sign-in. ``ends``: seconds since the epoch. ``csrf``: what a page must say to change anything."""

    cookie_sha256: str
    token_sha256: str
    csrf: str
    ends: float


class Sessions:
    """Every session of this machine."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._seconds = settings.console.session_hours * 3600
        self._file = settings.state_dir / FILE
        self._secure = settings.admin.tls is not None or settings.console.secure_cookies
        self._name = f"{'__Host-' if self._secure else ''}portcullis-{settings.gateway}"
        self._writing = asyncio.Lock()
        self._sessions: dict[str, Session] = {each.cookie_sha256: each for each in _load(self._file)}

    def find(self, request: web.Request) -> Session | None:
        """The session that a request's cookie stands for, if it lasts."""
        session = self._sessions.get(fingerprint(request.cookies.get(self._name, "")))
        return session if session is not None and self._clock() < session.ends else None

    def shown(self, request: web.Request) -> str:
        """The fingerprint of the token that a request's session has; what changes anything must come from our page.

        Raises:
            Unauthenticated: there is no session, or it has ended.
            Forbidden: another site's page sent the request.
        """
        session = self.find(request)
        if session is None:
            raise Unauthenticated("There is no session, or it has ended. Sign in: /console/sign-in.")
        if request.method not in SAFE:
            demand_same_origin(request)
            if not compare_digest(request.headers.get(CSRF_HEADER, "").encode(), session.csrf.encode()):
                raise Unauthenticated(f"The header {CSRF_HEADER} is not this session's. Load the page again.")
        return session.token_sha256

    async def begin(self, request: web.Request, response: web.StreamResponse, token_sha256: str) -> None:
        """A new session; one that the browser had before is over."""
        self._drop(request)
        cookie = secrets.token_urlsafe(32)
        session = Session(fingerprint(cookie), token_sha256, secrets.token_urlsafe(32), self._clock() + self._seconds)
        self._sessions[session.cookie_sha256] = session
        while len(self._sessions) > MOST:
            del self._sessions[next(iter(self._sessions))]
        seconds = int(self._seconds)
        response.set_cookie(
            self._name, cookie, path="/", secure=self._secure, httponly=True, samesite="Strict", max_age=seconds
        )
        await self._keep()

    async def end(self, request: web.Request, response: web.StreamResponse) -> None:
        """Sign out."""
        self._drop(request)
        response.del_cookie(self._name, path="/", secure=self._secure, httponly=True, samesite="Strict")
        await self._keep()

    def _drop(self, request: web.Request) -> None:
        self._sessions.pop(fingerprint(request.cookies.get(self._name, "")), None)

    async def _keep(self) -> None:
        """Write them down; where that cannot be, they end with this process."""
        now = self._clock()
        self._sessions = {name: each for name, each in self._sessions.items() if now < each.ends}
        data = orjson.dumps([asdict(each) for each in self._sessions.values()])
        async with self._writing:
            try:
                await asyncio.to_thread(_write, self._file, data)
            except OSError as error:
                _log.warning("sessions_not_kept", error=str(error))


def _load(file: Path) -> list[Session]:
    try:
        return [Session(**each) for each in orjson.loads(file.read_bytes())]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError) as error:
        _log.warning("sessions_unreadable", file=str(file), error=type(error).__name__)
        return []


def _write(file: Path, data: bytes) -> None:
    temporary = file.with_suffix(".tmp")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as written:
        written.write(data)
    temporary.replace(file)
