"""Drills: the canary goes off and on, end to end, measured. A switch only used in an emergency is not known to work.

Requests through this machine's listener are permitted; the kill is committed and its receipt enforced; requests are
refused, streams that ran were cut; then it is online, and requests are permitted again.
"""

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import aiohttp
import orjson
import structlog
from redis.exceptions import RedisError

from gateway import tasks
from gateway.control.canary import Canary, Stream, WrongAnswerError, new_session
from gateway.control.problems import Conflict, Problem
from gateway.enforcement.receipts import Receipt, Receipts
from gateway.enforcement.signing import ForgedError
from gateway.enforcement.store import ConflictError, NotInitialisedError, Store
from gateway.observability.metrics import Counters, Sample
from gateway.policy.document import Document, Hold, canonical
from gateway.settings import Settings

ACTOR = "drill"
HOLD = "drill-"
"""How the ids of its holds begin."""
KEPT = 100
LOOK_SECONDS = 1.0
MOST_CONNECTIONS = 16
ATTEMPTS = 50
STEPS = 8
CUT_SECONDS = 2.0
"""How long after the receipt a stream's end may take to be seen here: it lies in the kernel, and in this loop."""

_NOT_NOW = (RedisError, OSError, TimeoutError, NotInitialisedError, ForgedError, ConflictError)
_log = structlog.get_logger("portcullis.drill")


class FailedError(Exception):
    """A step did not go as it had to."""


@dataclass(slots=True)
class Drill:
    """One drill, as far as it has come. ``steps``: what was done, and after how many milliseconds."""

    id: str
    by: str
    model: str
    at: datetime
    scheduled: bool
    steps: list[dict[str, Any]] = field(default_factory=list)
    state: str = "running"
    failure: str | None = None
    done: asyncio.Event = field(default_factory=asyncio.Event)

    def view(self) -> dict[str, Any]:
        """As the admin API gives it."""
        failure = {} if self.failure is None else {"failure": self.failure}
        return {
            "drill": self.id,
            "state": self.state,
            "model": self.model,
            "by": self.by,
            "scheduled": self.scheduled,
            "at": self.at.isoformat(timespec="milliseconds"),
            "steps": list(self.steps),
            **failure,
        }


class Drills:
    """Runs them, one at a time. ``listen``: where this machine's data plane is."""

    def __init__(
        self,
        settings: Callable[[], Settings],
        store: Store,
        receipts: Receipts,
        counters: Counters,
        listen: Callable[[], str],
    ) -> None:
        self._settings = settings
        self._store = store
        self._receipts = receipts
        self._counters = counters
        self._listen = listen
        self._running: Drill | None = None
        self._slot: int | None = None
        self._passed_at: float | None = None
        for result in ("passed", "failed"):
            counters.add("portcullis_drills_total", (result,), 0)

    # ------------------------------------------------------------------ by hand, by schedule

    async def start(self, by: str, *, scheduled: bool = False) -> Drill:
        """Begin one; it goes on whether or not anybody waits.

        Raises:
            Conflict: there is no canary, or one is running.
        """
        settings = self._settings()
        document = (await self._store.current()).document
        canary = Canary.find(settings, document, self._listen())
        await self._claim(int(STEPS * settings.drill.patience) + 1)
        drill = Drill(f"dr-{secrets.token_hex(4)}", by, settings.drill.model or "", datetime.now(UTC), scheduled)
        self._running = drill
        tasks.spawn(self._run(drill, canary, settings), "drill")
        return drill

    async def _claim(self, seconds: int) -> None:
        """Be the only one, on all machines, for as long as a drill can take.

        Raises:
            Conflict: somebody else is.
        """
        if self._running is not None:
            raise Conflict(f"The drill {self._running.id} is running.", drill=self._running.id)
        if not await self._store.redis.set(self._mark, b"1", nx=True, ex=seconds):
            raise Conflict("A drill is running on another machine, or was broken off there a moment ago.")

    @property
    def _mark(self) -> str:
        return self._store.keys.record("drill", "running")

    async def run(self) -> None:
        """Begin one whenever it is time for it, in exactly one of however many control processes."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if self._settings().drill.every:
                await self._look(time.time())

    async def _look(self, now: float) -> None:
        every = self._settings().drill.every
        slot = int(now // every)
        if slot == self._slot or self._running is not None:
            return
        try:
            claimed = await self._store.redis.set(
                self._store.keys.record("drill", str(slot)), b"1", nx=True, ex=int(every * 2) + 60
            )
            self._slot = slot
            if claimed:
                await self.start("scheduler", scheduled=True)
        except _NOT_NOW as error:
            _log.debug("drill_waits", error=type(error).__name__)
        except Problem as problem:
            self._counters.add("portcullis_drills_total", ("failed",))
            _log.error("drill_impossible", error=problem.detail)

    # ------------------------------------------------------------------ one drill

    async def _run(self, drill: Drill, canary: Canary, settings: Settings) -> None:
        try:
            await self._walk(drill, canary, settings)
            drill.state = "passed"
            self._passed_at = time.time()
        except (FailedError, WrongAnswerError, aiohttp.ClientError, *_NOT_NOW) as error:
            drill.state, drill.failure = "failed", str(error) or type(error).__name__
        finally:
            if drill.state == "running":
                drill.state, drill.failure = "failed", drill.failure or "it was broken off"
            self._running = None
            self._counters.add("portcullis_drills_total", (drill.state,))
            await self._record(drill)
            log = _log.info if drill.state == "passed" else _log.error
            log(f"drill_{drill.state}", drill=drill.id, by=drill.by, model=drill.model, failure=drill.failure)
            drill.done.set()

    async def _walk(self, drill: Drill, canary: Canary, settings: Settings) -> None:
        """The steps, in their order."""
        patience, count = settings.drill.patience, min(2 * settings.proxy.worker_count, MOST_CONNECTIONS)
        async with new_session(patience) as session:
            async with self._step(drill, "permitted"):
                await self._release(drill)  # what a drill that died may have left
                await _all(canary.permitted(session) for _ in range(count))
            async with _streaming(canary, session, count) as (streams, reading):
                async with self._step(drill, "streaming", streams=count):
                    await asyncio.wait_for(_begun(streams, reading), patience)
                try:
                    killed = await self._offline(drill, patience)
                    async with self._step(drill, "refused"):
                        await _all(canary.refused(session) for _ in range(count))
                    await self._cut(drill, streams, reading, killed)
                finally:
                    await self._release(drill)
            async with self._step(drill, "permitted again"):
                await _all(canary.permitted(session) for _ in range(count))

    @contextlib.asynccontextmanager
    async def _step(self, drill: Drill, name: str, **more: Any) -> AsyncIterator[dict[str, Any]]:
        """Note a step when it is done, and how long it took; or which one failed."""
        began = time.monotonic()
        step = {"step": name, **more}
        try:
            yield step
        except TimeoutError:
            raise FailedError(f"{name}: not in time") from None
        except (FailedError, WrongAnswerError, aiohttp.ClientError, *_NOT_NOW) as error:
            raise FailedError(f"{name}: {error or type(error).__name__}") from None
        step.setdefault("ms", round((time.monotonic() - began) * 1000, 3))
        drill.steps.append(step)

    async def _offline(self, drill: Drill, patience: float) -> float:
        """The kill, and its proof; when its commit was answered (monotonic seconds)."""
        async with self._step(drill, "offline") as step:
            hold = Hold(models=(drill.model,), by=ACTOR, at=drill.at, note=f"drill {drill.id} by {drill.by}")
            receipt = await self._commit(
                drill, "drill.offline", lambda document: {**document.holds, f"{HOLD}{drill.id}": hold}
            )
            committed = time.monotonic()
            await _proven(receipt, patience)
            self._tell(step, receipt)
        return committed

    async def _cut(self, drill: Drill, streams: list[Stream], reading: list[asyncio.Task[None]], killed: float) -> None:
        async with self._step(drill, "cut", streams=len(streams)) as step:
            _, running = await asyncio.wait(reading, timeout=CUT_SECONDS)
            if running:
                raise FailedError(f"{len(running)} of {len(streams)} streams go on")
            for task in reading:
                task.result()
            step["ms"] = round(max(0.0, *(stream.last - killed for stream in streams)) * 1000, 3)
            self._counters.observe("portcullis_drill_seconds", ("cut",), step["ms"] / 1000)

    async def _release(self, drill: Drill) -> None:
        """Put the canary online: every hold that a drill placed on it."""
        current = await self._store.current()
        if not _of_drills(current.document, drill.model):
            return
        async with self._step(drill, "online") as step:
            receipt = await self._commit(drill, "drill.online", lambda document: _without_drills(document, drill.model))
            await _proven(receipt, self._settings().drill.patience)
            self._tell(step, receipt)

    async def _commit(self, drill: Drill, action: str, holds: Callable[[Document], dict[str, Hold]]) -> Receipt:
        for _ in range(ATTEMPTS):
            base = await self._store.current()
            document = base.document.edited(holds=holds(base.document))
            try:
                committed = await self._store.commit(
                    base, document, actor=ACTOR, action=action, subject=f"models/{drill.model}"
                )
            except ConflictError:
                continue
            return self._receipts.open(committed, [drill.model])
        raise FailedError("others commit all the time")

    def _tell(self, step: dict[str, Any], receipt: Receipt) -> None:
        view = receipt.view()
        step |= {"ms": view["elapsed_ms"], "revision": view["revision"], "basis": view["basis"]}
        step |= {"replicas": view["replicas"]["expected"], "streams_cut": view["streams_cut"]}
        self._counters.observe("portcullis_drill_seconds", (str(step["step"]),), view["elapsed_ms"] / 1000)

    # ------------------------------------------------------------------ what was found

    async def _record(self, drill: Drill) -> None:
        """Keep it as evidence."""
        view, keys = canonical(drill.view()), self._store.keys
        sealed = self._store.signer.seal("drill", drill.id, view)
        try:
            await self._store.redis.xadd(keys.evidence, {"kind": "drill", "sealed": sealed})
            await self._store.redis.delete(self._mark)
            await self._store.redis.lpush(keys.drills, view)
            await self._store.redis.ltrim(keys.drills, 0, KEPT - 1)
        except (RedisError, OSError, TimeoutError) as error:
            _log.error("drill_not_stored", drill=drill.id, error=type(error).__name__)

    async def listing(self) -> list[dict[str, Any]]:
        """The last ones of all machines, newest first; one that runs here before them."""
        stored = await self._store.redis.lrange(self._store.keys.drills, 0, KEPT - 1)
        running = [] if self._running is None else [self._running.view()]
        return running + [orjson.loads(view) for view in stored]

    async def get(self, drill_id: str) -> dict[str, Any] | None:
        """One of them."""
        return next((view for view in await self.listing() if view["drill"] == drill_id), None)

    def samples(self) -> list[Sample]:
        """How often one should pass, and when one last did here."""
        interval: Sample = ("portcullis_drill_interval_seconds", (), self._settings().drill.every)
        if self._passed_at is None:
            return [interval]
        return [interval, ("portcullis_drill_last_success_timestamp_seconds", (), self._passed_at)]


def _of_drills(document: Document, model: str) -> list[str]:
    """Holds that drills placed on the canary; no hold of an operator's has such an id."""
    return [
        hold_id
        for hold_id, hold in document.holds.items()
        if hold_id.startswith(HOLD) and hold.by == ACTOR and hold.models == (model,)
    ]


def _without_drills(document: Document, model: str) -> dict[str, Hold]:
    gone = _of_drills(document, model)
    return {hold_id: hold for hold_id, hold in document.holds.items() if hold_id not in gone}


async def _proven(receipt: Receipt, patience: float) -> None:
    await asyncio.wait_for(receipt.done.wait(), patience)
    if not receipt.enforced:
        raise FailedError(f"revision {receipt.revision} is not enforced: {receipt.basis}")


async def _all(work: Any) -> None:
    await asyncio.gather(*work)


@contextlib.asynccontextmanager
async def _streaming(
    canary: Canary, session: aiohttp.ClientSession, count: int
) -> AsyncIterator[tuple[list[Stream], list[asyncio.Task[None]]]]:
    """Streams that are read until they end; whatever is left of them is gone afterwards."""
    streams = [Stream(canary, session) for _ in range(count)]
    reading = [tasks.spawn(stream.read(), "drill-stream", awaited=True) for stream in streams]
    try:
        yield streams, reading
    finally:
        await tasks.cancel(*reading)
        for task in reading:
            if not task.cancelled():
                task.exception()  # it was asked for where it mattered


async def _begun(streams: list[Stream], reading: list[asyncio.Task[None]]) -> None:
    """Until every stream has brought something; one that ended already says why."""
    began: Awaitable[Any] = asyncio.gather(*(stream.began.wait() for stream in streams))
    waiting = tasks.spawn(_awaited(began), "drill-begun", awaited=True)
    try:
        await asyncio.wait((waiting, *reading), return_when=asyncio.FIRST_COMPLETED)
        for task in reading:
            if task.done():
                task.result()
                raise FailedError("a stream ended before it was cut")
    finally:
        await tasks.cancel(waiting)


async def _awaited(work: Awaitable[Any]) -> None:
    await work
