"""An event loop on virtual time, whose work belongs to processes with clocks of their own.

Which process a callback is of is in its context: tasks and timers inherit it. A process that is paused keeps its
callbacks until it goes on, I/O before timers, as a real loop does after a SIGCONT; one that is dead loses them.
"""

import asyncio
import contextlib
import heapq
import itertools
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextvars import Context, ContextVar, copy_context
from typing import Any

FOREVER = 200_000
"""Callbacks in one run after which a loop is taken to be endless."""


class Proc:
    """A process: a clock that is fast or slow, and whether it runs. ``rate`` is seconds on it per true second."""

    def __init__(self, name: str, rate: float = 1.0, offset: float = 0.0) -> None:
        self.name = name
        self.rate = rate
        self.offset = offset
        self.slept = 0.0
        self.paused = False
        self.suspended_at: float | None = None
        self.dead = False
        self.held: list[asyncio.Handle] = []
        self.context = copy_context()
        self.context.run(PROC.set, self)

    def boottime(self, true: float) -> float:
        """What the lease clock shows: it runs while the machine sleeps."""
        return self.offset + true * self.rate

    def monotonic(self, true: float) -> float:
        """What the loop's clock shows: it stands while the machine sleeps."""
        return self.boottime(true) - self.slept


WORLD = Proc.__new__(Proc)
PROC: ContextVar[Proc] = ContextVar("proc", default=WORLD)
WORLD.__init__("world")  # type: ignore[misc]


class VirtualLoop(asyncio.AbstractEventLoop):
    """Runs callbacks in the order of virtual time. ``now`` is the true time, which no process knows."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.errors: list[dict[str, Any]] = []
        self.connect: Callable[..., Any] | None = None
        self.on_idle: Callable[[], None] | None = None
        self._ready: deque[asyncio.Handle] = deque()
        self._timers: list[tuple[float, int, Proc, asyncio.Handle]] = []
        self._order = itertools.count()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._held_up: set[Proc] = set()
        self._closing = False

    # ------------------------------------------------------------------ what asyncio asks of a loop

    def time(self) -> float:
        return PROC.get().monotonic(self.now)

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def call_soon(self, callback: Any, *args: Any, context: Context | None = None) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_later(self, delay: float, callback: Any, *args: Any, context: Context | None = None) -> Any:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(self, when: float, callback: Any, *args: Any, context: Context | None = None) -> Any:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._push(handle, PROC.get())
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Nothing: it is dropped when its time comes."""

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Coroutine[Any, Any, Any], *, name: Any = None, context: Any = None) -> Any:
        task = asyncio.Task(coro, loop=self, name=name, context=context)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.errors.append(context)

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:
        """A thread: done a moment later, if the process lives that long."""
        done = self.create_future()

        def work() -> None:
            if not done.cancelled():
                done.set_result(func(*args))

        self.call_later(0.02, work)
        return done

    async def create_connection(self, factory: Any, host: Any = None, port: Any = None, **_: Any) -> Any:
        assert self.connect is not None
        return await self.connect(factory)

    # ------------------------------------------------------------------ the world's side

    def after(self, delay: float, callback: Any, *args: Any) -> None:
        """Something that happens outside all processes."""
        handle = asyncio.Handle(callback, args, self, WORLD.context)
        heapq.heappush(self._timers, (self.now + delay, next(self._order), WORLD, handle))

    def within(self, proc: Proc, callback: Any, *args: Any) -> None:
        """Something that a process finds when it looks: data on a socket."""
        self.call_soon(callback, *args, context=proc.context)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """As if the loop ran: for what a test starts."""
        events._set_running_loop(self)
        try:
            yield
        finally:
            events._set_running_loop(None)

    def settle(self) -> None:
        """Run what is ready, without time passing."""
        self.run(0.0)

    def run(self, seconds: float) -> None:
        """Let true time pass."""
        until = self.now + seconds
        with self.running():
            for _ in range(FOREVER):
                if self._ready:
                    self._take(self._ready.popleft())
                elif self._timers and self._timers[0][0] <= until:
                    moment, _, proc, handle = heapq.heappop(self._timers)
                    self.now = max(self.now, moment)
                    self._due(proc, handle)
                else:
                    self.now = until
                    return
        raise AssertionError("the loop never rests")

    def close(self) -> None:
        """End every task, also those of processes that are dead or paused."""
        self._closing = True
        self._timers.clear()
        for proc in self._held_up:
            self._ready.extend(proc.held)
            proc.held = []
        for _ in range(10):
            for task in list(self._tasks):
                task.cancel()
            self.settle()
            if not self._tasks:
                return
        raise AssertionError(f"tasks that never end: {self._tasks}")

    def go_on(self, proc: Proc) -> None:
        """Continue a paused process: first what its sockets have, then its timers."""
        if proc.suspended_at is not None:
            proc.slept += (self.now - proc.suspended_at) * proc.rate
            proc.suspended_at = None
        proc.paused = False
        held, proc.held = proc.held, []
        held.sort(key=lambda handle: isinstance(handle, asyncio.TimerHandle))
        self._ready.extend(held)

    def _push(self, handle: asyncio.TimerHandle, proc: Proc) -> None:
        moment = (handle.when() + proc.slept - proc.offset) / proc.rate
        heapq.heappush(self._timers, (max(moment, self.now), next(self._order), proc, handle))

    def _due(self, proc: Proc, handle: asyncio.Handle) -> None:
        if handle.cancelled() or proc.dead:
            return  # a process that is dead has no use for time
        if isinstance(handle, asyncio.TimerHandle) and proc.monotonic(self.now) < handle.when() - 1e-7:
            if proc.suspended_at is None:
                self._push(handle, proc)  # the clock stood in the meantime
            else:
                proc.held.append(_Again(self, handle, proc))
            return
        self._ready.append(handle)

    def _take(self, handle: asyncio.Handle) -> None:
        if handle.cancelled():
            return
        proc = handle._context.get(PROC, WORLD)
        if (proc.dead or proc.paused) and not self._closing:
            proc.held.append(handle)
            self._held_up.add(proc)
        else:
            handle._run()


class _Again(asyncio.Handle):
    """A timer whose time stood still: set anew when the process goes on."""

    def __init__(self, loop: VirtualLoop, handle: asyncio.TimerHandle, proc: Proc) -> None:
        super().__init__(lambda: None if handle.cancelled() else loop._push(handle, proc), (), loop, WORLD.context)
