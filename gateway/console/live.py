"""What open pages are told: all of it when they connect, from then on what has changed, a second at a time.

One look serves however many pages there are. A page that reads slowly is told less often, never wrongly: each has its
own memory of what it was told. Where Redis cannot be reached the last that was known stays, and it is said since when.
"""

import asyncio
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import orjson
from aiohttp import web
from redis.exceptions import RedisError

from gateway.console.meter import Meter, Moment, Totals, total
from gateway.console.sessions import Sessions
from gateway.console.view import Part, View, of_policy, of_replicas, of_traffic
from gateway.control import proposals
from gateway.control.access import Access, authenticate, authenticate_or_remember, demand
from gateway.control.context import Context
from gateway.control.problems import Problem, Unavailable
from gateway.control.proposals import Fate
from gateway.enforcement.entry import Position
from gateway.enforcement.signing import ForgedError
from gateway.enforcement.store import Current, NotInitialisedError

LOOK_SECONDS = 1.0
IDLE_SECONDS = 5.0
"""How often it is looked while no page is open: so that the plots have something to begin with."""

CHECK_SECONDS = 5.0
"""How often it is looked whether a page's operator is still one."""

REDIS_SECONDS = 1.0
MOST_PAGES = 200

_NOT_NOW = (RedisError, OSError, TimeoutError, ValueError, NotInitialisedError, ForgedError)


class Live:
    """Looks at the gateway, and tells pages."""

    def __init__(self, context: Context, sessions: Sessions) -> None:
        self._context = context
        self._sessions = sessions
        self._meter = Meter()
        self._view = View()
        self._looked = asyncio.Event()
        self._now = asyncio.Event()
        self._pages = 0
        self._closing = False
        self._away_since: float | None = None
        self._why_away = ""
        self._known: Current | None = None
        self._policy: dict[str, Part] = {}
        self._stands: Any = None
        self._members: Mapping[str, dict[str, Any]] = {}
        self._changes: Part = {}

    # ------------------------------------------------------------------ looking

    async def run(self) -> None:
        """Look again and again."""
        while True:
            await self.look(time.time())
            self._now.clear()
            try:
                async with asyncio.timeout(LOOK_SECONDS if self._pages else IDLE_SECONDS):
                    await self._now.wait()
            except TimeoutError:
                continue

    def hurry(self) -> None:
        """Look now: somebody has just changed something, or has come."""
        self._now.set()

    async def look(self, now: float) -> None:
        """Take in everything there is to see, and wake whoever waits for it."""
        totals = Totals() if self._context.samples is None else total(await self._context.samples())
        under_way = {} if self._context.in_flight is None else await self._context.in_flight()
        streams = sum(each.streams for each in under_way.values())
        self._meter.look(now, totals, sum(each.requests for each in under_way.values()), streams)
        if self._pages:
            await self._ask_redis(now)
            parts = {
                **self._policy,
                "replicas": of_replicas(self._members, totals, now),
                "traffic": of_traffic(self._meter.models, under_way),
                "changes": self._changes,
            }
            self._view = View(self._head(now), parts)
        looked, self._looked = self._looked, asyncio.Event()
        looked.set()

    async def _ask_redis(self, now: float) -> None:
        try:
            async with asyncio.timeout(REDIS_SECONDS):
                self._known = await self._context.store.current()
                self._members = await self._context.store.members()
                found = await proposals.everything(self._context.store)
            at = datetime.fromtimestamp(now, UTC)
            self._changes = {each.id: proposals.view(each, at) for each in found if each.at_time(at) is Fate.AWAITING}
            self._away_since, self._why_away = None, ""
        except _NOT_NOW as error:
            if self._away_since is None:
                self._away_since = now
            self._why_away = "empty" if isinstance(error, NotInitialisedError) else "unreachable"
            self._known = self._known or await self._remembered()
        self._take_policy()

    async def _remembered(self) -> Current | None:
        """The policy as this machine last knew it, where this process has not seen one yet."""
        snapshot = None if self._context.local is None else await self._context.local.policy()
        if snapshot is None:
            return None
        return Current(Position("", snapshot.revision, ""), "", snapshot.document, snapshot)

    def _take_policy(self) -> None:
        """Make the policy's parts anew, if it or the holds of this machine are others."""
        local = () if self._context.local is None else self._context.local.standing
        stands = (None if self._known is None else self._known.position, local)
        if self._known is not None and stands != self._stands:
            self._policy, self._stands = of_policy(self._context, self._known), stands

    def _head(self, now: float) -> dict[str, Any]:
        away = {} if self._away_since is None else {
            "redis": self._why_away, "away_since": round(self._away_since * 1000),
        }  # fmt: skip
        return {
            "at": round(now * 1000),
            "revision": 0 if self._known is None else self._known.rev,
            "workers": {} if self._context.workers is None else dict(self._context.workers()),
            **away,
        }

    # ------------------------------------------------------------------ telling

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """A page's event stream (HTML's server-sent events)."""
        await self._demand(request)
        if self._closing or self._pages >= MOST_PAGES:
            raise Unavailable("Too many pages are open; close some.")
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"})
        self._pages += 1
        try:
            looked = self._looked
            self.hurry()
            await looked.wait()
            await response.prepare(request)
            await self._tell(request, response)
        except ConnectionError:
            pass  # the page is gone
        finally:
            self._pages -= 1
        return response

    async def _tell(self, request: web.Request, response: web.StreamResponse) -> None:
        told, heard, checked = View(), 0, time.monotonic()
        while not self._closing:
            looked, view = self._looked, self._view
            traffic = self._since(heard)
            heard = traffic[-1]["at"] if traffic else heard
            kind = "full" if told.head == {} else "news"
            await response.write(_event(kind, {**view.since(told), "plots": traffic}))
            told = view
            await looked.wait()
            if time.monotonic() - checked > CHECK_SECONDS or view.head["revision"] != self._view.head["revision"]:
                checked = time.monotonic()
                try:
                    await self._demand(request)
                except Problem:
                    await response.write(_event("over", {}))
                    return

    def _since(self, heard: int) -> list[Moment]:
        return [moment for moment in self._meter.history if moment["at"] > heard]

    async def _demand(self, request: web.Request) -> None:
        """Whoever reads may read the policy; as the admin API would say.

        Raises:
            Unauthenticated, Forbidden: they may not.
        """
        shown, context = self._sessions.shown(request), self._context
        if context.operators is None:
            operator = await authenticate(shown, context.store)
        else:
            operator, _ = await authenticate_or_remember(shown, context.store, context.operators)
        demand(operator, Access.READ, "The console")

    async def close(self, _: web.Application) -> None:
        """Let every page go: the gateway leaves."""
        self._closing = True
        self._looked.set()


def _event(name: str, data: Mapping[str, Any]) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + orjson.dumps(data) + b"\n\n"
