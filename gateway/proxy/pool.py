"""All connections of a worker to one provider, and the queue of those that wait while all are busy.

A connection that is given back, or a place that becomes free, goes to whoever waits longest. Nobody waits longer
than ``timeouts.upstream_queue``, and no more than ``limits.upstream_queue`` wait at all. An exchange is handed its
connection by ``connected``, where it is decided anew; one that has ended has left the queue.
"""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import structlog

from gateway import tasks
from gateway.dialects.table import Dialect
from gateway.policy.decision import Reason
from gateway.proxy.dial import DialError, Dialler
from gateway.proxy.resolver import Resolver
from gateway.proxy.tls import READ_BYTES
from gateway.proxy.upstream import Asker, UpstreamConnection
from gateway.settings import Limits, Provider, Timeouts
from gateway.tls import Watched

if TYPE_CHECKING:
    from collections.abc import Iterator

_log = structlog.get_logger("portcullis.pool")


class Pool:
    """All connections of a worker to one provider."""

    def __init__(
        self,
        name: str,
        provider: Provider,
        dialect: Dialect,
        limits: Limits,
        timeouts: Timeouts,
        resolver: Resolver,
        tls: Watched | None,
    ) -> None:
        parts = urlsplit(provider.base_url)
        self.name = name
        self.dialect = dialect
        self.limits = limits
        self.timeouts = timeouts
        self.base_path = parts.path.rstrip("/")
        self.authority = parts.netloc
        self.open: set[UpstreamConnection] = set()
        self.buffer = memoryview(bytearray(READ_BYTES))
        self._dialler = Dialler(provider, resolver, tls)
        self._idle: dict[UpstreamConnection, None] = {}  # in the order they were given back
        self._waiting: dict[Asker, float] = {}  # in the order they came, with their deadlines
        self._connecting: set[asyncio.Task[Any]] = set()
        self._serving = False
        self._failing: str | None = None
        self._loop = asyncio.get_running_loop()
        self.now: Callable[[], float] = self._loop.time
        """The loop's clock, on which timeouts run."""

    # ------------------------------------------------------------------ asking for a connection

    def acquire(self, asker: Asker) -> UpstreamConnection | None:
        """An idle connection at once, or ``None``: then ``asker`` will hear of one."""
        if not self._waiting:
            upstream = self._take_idle()
            if upstream is not None:
                return upstream
        self.connect(asker)
        return None

    def _take_idle(self) -> UpstreamConnection | None:
        """The one that was used last: the others may grow old and be closed."""
        while self._idle:
            upstream, _ = self._idle.popitem()
            if upstream.is_fit():
                return upstream
            upstream.abort()
        return None

    def connect(self, asker: Asker) -> None:
        """Open a connection for an exchange, or have it wait until there may be one more."""
        if self._waiting or not self._has_room():
            self._wait(asker)
        else:
            self._open_for(asker)

    def _has_room(self) -> bool:
        return len(self.open) + len(self._connecting) < self.limits.upstream_connections

    def _wait(self, asker: Asker) -> None:
        if len(self._waiting) >= self.limits.upstream_queue:
            self._loop.call_soon(asker.not_connected, Reason.OVERLOADED, "queue_full")
        else:
            self._waiting[asker] = self.now() + self.timeouts.upstream_queue

    def leave(self, asker: Asker) -> None:
        """An exchange that waits no longer."""
        self._waiting.pop(asker, None)

    @property
    def waiting(self) -> int:
        """How many exchanges wait for a connection."""
        return len(self._waiting)

    # ------------------------------------------------------------------ opening

    def _open_for(self, asker: Asker) -> None:
        task = tasks.spawn(self._connect(asker), f"connect-{self.name}")
        self._connecting.add(task)
        task.add_done_callback(self._opened)

    def _opened(self, task: "asyncio.Task[Any]") -> None:
        """An attempt is over. If it failed there is room for another."""
        self._connecting.discard(task)
        self._serve_soon()

    async def _connect(self, asker: Asker) -> None:
        try:
            async with asyncio.timeout(self.timeouts.connect):
                upstream = await self._dialler.open(lambda: UpstreamConnection(self))
        except TimeoutError:
            self._note("connect_timeout", f"no connection after {self.timeouts.connect} s")
            asker.not_connected(Reason.UPSTREAM_TIMEOUT, "connect_timeout")
        except DialError as error:
            self._note(error.cause, str(error))
            asker.not_connected(Reason.UPSTREAM_UNREACHABLE, error.cause)
        else:
            self._note(None)
            if upstream.is_closed():  # it ended as soon as it was there, and told nobody
                asker.not_connected(Reason.UPSTREAM_UNREACHABLE, "closed")
                return
            self.open.add(upstream)
            asker.connected(upstream)

    def _note(self, cause: str | None, message: str = "") -> None:
        """Log when a provider becomes unreachable, for another cause than before, and when it is back."""
        if cause == self._failing:
            return
        self._failing = cause
        if cause is None:
            _log.info("upstream_reachable", provider=self.name)
        else:
            _log.warning("upstream_unreachable", provider=self.name, cause=cause, error=message)

    # ------------------------------------------------------------------ giving back

    def give_back(self, upstream: UpstreamConnection) -> None:
        """A connection whose exchange is complete."""
        upstream.reused = True
        upstream.deadline = self.now() + self.timeouts.upstream_keep_alive
        self._idle[upstream] = None
        if self._waiting:
            self._serve_soon()

    def forget(self, upstream: UpstreamConnection) -> None:
        """A connection that is closed: there is room for another."""
        self.open.discard(upstream)
        self._idle.pop(upstream, None)
        self._serve_soon()

    def _serve_soon(self) -> None:
        """Not now: whoever gives a connection back is in the middle of something."""
        if self._waiting and not self._serving:
            self._serving = True
            self._loop.call_soon(self._serve)

    def _serve(self) -> None:
        """What is idle, and free places, to those who wait, in their order."""
        self._serving = False
        for asker in self._next_waiting():
            upstream = self._take_idle()
            if upstream is None:
                self._open_for(asker)
            else:
                asker.connected(upstream)

    def _next_waiting(self) -> "Iterator[Asker]":
        while self._waiting and (self._idle or self._has_room()):
            asker = next(iter(self._waiting))
            del self._waiting[asker]
            yield asker

    # ------------------------------------------------------------------ time and ends

    def sweep(self, now: float) -> None:
        """Close what is past its deadline, refuse whoever has waited too long."""
        for upstream in [upstream for upstream in self.open if upstream.deadline < now]:
            upstream.timed_out()
        while self._waiting:
            asker, deadline = next(iter(self._waiting.items()))
            if deadline >= now:
                break
            self._refuse(asker, "queue_timeout")

    def _refuse(self, asker: Asker, cause: str) -> None:
        self._waiting.pop(asker, None)
        asker.not_connected(Reason.OVERLOADED, cause)

    def close(self) -> None:
        """Close everything, refuse whoever waits."""
        for asker in list(self._waiting):
            self._refuse(asker, "closing")
        for task in self._connecting:
            task.cancel()
        for upstream in list(self.open):
            upstream.abort()
