"""Keeps a worker in every slot: starts, back-off, hot restart, workers that hang, the end.

SIGTERM to a worker: it stops accepting, lets exchanges end until a deadline, leaves.
"""

import asyncio
import contextlib
import os
import signal
import string
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import structlog

from gateway import tasks
from gateway.observability.census import InFlight, together
from gateway.observability.metrics import Sample, merge
from gateway.settings import Settings
from gateway.supervisor.accepted import Accepted
from gateway.supervisor.child import Child, State
from gateway.supervisor.port import WORKER_MODULE, Port, holders

BACK_OFF = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Seconds before a worker that died is started again; anew from the first after it has lived for a minute."""

SETTLED_SECONDS = 60.0
CRASH_LOOP = 3
"""Deaths in a row, each within a minute, after which a worker is said to be in a crash loop. From here on its deaths
are counted, not logged, and clients are turned away from its socket where no sibling serves it."""

TICK_SECONDS = 1.0
ANSWER_SECONDS = 1.0
STARTING_SECONDS = 60.0
"""How long loading its modules may keep a worker silent, on a machine that has other things to do."""

REPLACED_SECONDS = 60.0
"""How long a hot restart waits for a new worker to hold a lease and listen."""
ORPHAN_EXTRA_SECONDS = 5.0
COMMAND = (sys.executable, "-m", WORKER_MODULE)
_log = structlog.get_logger("portcullis.supervisor")


class RestartError(Exception):
    """Workers were not, or not all, replaced. The message says which serve on."""


@dataclass(slots=True)
class Slot:
    """A place for a worker: one of the port's sockets. ``cover``: the sibling that accepts from it meanwhile.

    ``open``: somebody has called ``listen``, so that the kernel queues connections here. ``turn`` is held by whoever
    is about to put another child in. ``told``: the log says that it does not serve.
    """

    index: int
    accepted: Accepted
    child: Child | None = None
    deaths: int = 0
    open: bool = False
    told: bool = False
    cover: Child | None = None
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def state(self) -> State:
        """What its worker is doing."""
        return State.DOWN if self.child is None or self.child.state is State.LEAVING else self.child.state


class Supervisor:
    """Keeps workers alive. ``bury`` is told which replica is dead, as the kernel reported it.

    Raises:
        OSError, PortTakenError: the port cannot be had.
    """

    def __init__(self, accepted: Accepted, bury: Callable[[str], Any], command: Sequence[str] = COMMAND) -> None:
        self._accepted = accepted
        self._bury = bury
        self._command = command
        self._port = Port(self._settings.proxy.listen, self._settings.proxy.worker_count)
        self._slots = [Slot(index, accepted) for index in range(self._settings.proxy.worker_count)]
        self._children: set[Child] = set()
        self._keepers: list[asyncio.Task[Any]] = []
        self._reapers: set[asyncio.Task[Any]] = set()
        self._counting: asyncio.Task[Any] | None = None
        self._restarting: asyncio.Task[int] | None = None
        self._opened = asyncio.Event()
        self._stopping = False
        self._departed: list[Sample] = []
        self.restarts = 0
        self.listen = self._port.listen

    @property
    def _settings(self) -> Settings:
        return self._accepted.settings

    @property
    def ready(self) -> bool:
        """Whether the port is open, and some worker serves it. One that is missing is stood in for by the others."""
        opened = all(slot.open or slot.deaths for slot in self._slots)
        return opened and not self._stopping and any(slot.state is State.SERVING for slot in self._slots)

    @property
    def workers(self) -> list[int]:
        """The process ids of the workers that run."""
        return [child.process.pid for child in self._children if child.process and child.process.returncode is None]

    @property
    def states(self) -> dict[str, int]:
        """How many workers are in each state; those that leave, beside those that took their place."""
        found = Counter(slot.state for slot in self._slots)
        found[State.LEAVING] = sum(child.state is State.LEAVING for child in self._children)
        return {str(state): found[state] for state in State}

    def start(self) -> None:
        """Start all workers, and keep them running."""
        self._keepers = [tasks.spawn(self._keep(slot), f"worker-{slot.index}") for slot in self._slots]
        self._counting = tasks.spawn(self._keep_counting(), "workers-counts")
        if self._port.orphans:
            self._keepers.append(tasks.spawn(self._relieve_orphans(), "workers-orphans"))

    async def wait_ready(self) -> None:
        """Wait until every worker has listened."""
        await self._opened.wait()

    # ------------------------------------------------------------------ one slot

    async def _keep(self, slot: Slot) -> None:
        """Put another child in whenever the slot's is over."""
        while not self._is_stopping():
            async with slot.turn:
                if slot.child is None or slot.child.over.is_set():
                    slot.child = await self._start(slot, slot.accepted)
            child = slot.child
            await child.over.wait()
            if slot.child is child and not self._is_stopping():
                await asyncio.sleep(self._lost(slot, child))

    def _is_stopping(self) -> bool:
        return self._stopping

    def _lost(self, slot: Slot, child: Child) -> float:
        """A slot's worker died, or left without being asked: log it, and say when the next one starts, in seconds."""
        self.restarts += 1
        lived = time.monotonic() - child.began
        slot.deaths = 1 if lived > SETTLED_SECONDS else slot.deaths + 1
        pause = BACK_OFF[min(slot.deaths, len(BACK_OFF)) - 1]
        known: dict[str, Any] = {"worker": slot.index, "returncode": child.returncode}
        slot.told = True
        if not child.ended.is_set():
            _log.warning("worker_leaves_by_itself", worker=slot.index, restart_in=pause)
        elif slot.deaths < CRASH_LOOP:
            _log.error("worker_died", **known, restart_in=pause)
        elif slot.deaths == CRASH_LOOP:
            _log.error("worker_crash_loop", **known, deaths=slot.deaths, restart_at_most_every=BACK_OFF[-1])
        self._cover()
        return pause

    async def _start(self, slot: Slot, accepted: Accepted, *, replacing: bool = False) -> Child:
        """A new child for a slot; one that could not be started is over at once."""
        child = Child(slot.index, self._free_name(slot), accepted, self._changed)
        self._children.add(child)
        try:
            await child.start(self._command, self._port.sockets, replacing=replacing)
        except OSError as error:  # no descriptor or process to be had: later, perhaps
            if slot.deaths < CRASH_LOOP:
                _log.error("worker_not_started", worker=slot.index, error=str(error))
            child.end()
        else:
            reaper = tasks.spawn(self._reap(child), f"worker-{child.name}-reaper")
            self._reapers.add(reaper)
            reaper.add_done_callback(self._reapers.discard)
        finally:
            if child.process is None:
                self._children.discard(child)
        return child

    def _free_name(self, slot: Slot) -> str:
        """``0``, or ``0b``, ``0c`` … beside one that still leaves: each remembers the policy in a file of its own."""
        names = {child.name for child in self._children}
        letters = ("", *string.ascii_lowercase[1:], *(f"z{n}" for n in range(len(names))))
        return next(name for letter in letters if (name := f"{slot.index}{letter}") not in names)

    async def _reap(self, child: Child) -> None:
        """Wait for a child's end; keep what it counted."""
        await child.wait()
        self._children.discard(child)
        lasting = [sample for sample in child.samples if sample[0].endswith("_total") or isinstance(sample[2], list)]
        self._departed = _sum(self._departed, lasting)
        if child.member is not None and child.returncode != 0:
            self._bury(child.member)
        child.end()

    # ------------------------------------------------------------------ what changes

    def _changed(self, child: Child) -> None:
        """A child's state may be another one."""
        slot = self._slots[child.slot]
        if slot.child is not child and child.state is not State.SERVING:
            return
        match child.state:
            case State.SERVING:
                self._serves(slot)
            case State.SILENT:
                slot.told = True
                _log.error("worker_silent", worker=slot.index, ended_after=self._settings.proxy.timeouts.hung)
            case _:
                pass
        self._cover()

    def _serves(self, slot: Slot) -> None:
        slot.open = True
        if all(each.open for each in self._slots):
            self._opened.set()
        if slot.told and slot.deaths < CRASH_LOOP:
            slot.told = False
            _log.info("worker_back", worker=slot.index)

    def _forgive(self, slot: Slot) -> None:
        """A worker that has served for a minute is in no crash loop."""
        child = slot.child
        if slot.deaths and slot.state is State.SERVING and child and time.monotonic() - child.began > SETTLED_SECONDS:
            slot.deaths = 0
            self._serves(slot)

    def _cover(self) -> None:
        """Have what waits at a slot without a serving worker taken up by the sibling that does so for the fewest."""
        able = [slot.child for slot in self._slots if slot.child is not None and slot.state is State.SERVING]
        for slot in self._slots:
            if slot.cover is not None and (slot.state is State.SERVING or slot.cover not in able or self._stopping):
                slot.cover.tell("release", slot=slot.index)
                slot.cover = None
            if slot.cover is None and slot.open and slot.state in (State.DOWN, State.STARTING, State.SILENT):
                self._cover_one(slot, able)

    def _cover_one(self, slot: Slot, able: list[Child]) -> None:
        if self._stopping:
            return
        if able:
            busy = Counter(other.cover for other in self._slots)
            slot.cover = min(able, key=lambda child: busy[child])
            slot.cover.tell("accept", slot=slot.index)
        elif slot.deaths >= CRASH_LOOP and not self._in_use(slot):
            slot.open = False
            self._port.refuse(slot.index)

    def _in_use(self, slot: Slot) -> bool:
        """Whether a process has this slot's socket, or is about to: one that it listens on must not be shut."""
        return any(child.slot == slot.index and child.state is not State.LEAVING for child in self._children)

    # ------------------------------------------------------------------ hot restart

    async def restart(self, accepted: Accepted) -> int:
        """Replace every worker by a new one with these settings, one after the other; gives how many.

        It goes on where the caller is cancelled.

        Raises:
            RestartError: it is not the time for it, or a new worker did not come up.
        """
        if self._stopping:
            raise RestartError("the gateway is leaving")
        if self._restarting is not None and not self._restarting.done():
            raise RestartError("a restart is under way")
        self._restarting = tasks.spawn(self._replace_all(accepted), "workers-restart", awaited=True)
        return await asyncio.shield(self._restarting)

    async def _replace_all(self, accepted: Accepted) -> int:
        for slot in self._slots:
            await self._replace(slot, accepted)
        self._accepted = accepted
        return len(self._slots)

    async def _replace(self, slot: Slot, accepted: Accepted) -> None:
        """Start the new one, wait until it listens with a lease, then tell the old one to leave."""
        async with slot.turn:
            fresh = await self._start(slot, accepted, replacing=True)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REPLACED_SECONDS):
                    await fresh.settled.wait()
            if fresh.state is not State.SERVING:
                fresh.kill()
                raise RestartError(_not_replaced(slot.index, len(self._slots), fresh))
            old, slot.child, slot.accepted, slot.deaths = slot.child, fresh, accepted, 0
            if old is not None and not old.over.is_set():
                old.leave(self._settings.proxy.timeouts.drain)
            self._changed(fresh)

    # ------------------------------------------------------------------ orphans

    async def _relieve_orphans(self) -> None:
        """Workers of a control process that was killed serve on until ours do; then they leave."""
        _log.warning("orphans_found", pids=self._port.orphans)
        await self.wait_ready()
        for pid in self._port.orphans:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        await asyncio.sleep(self._settings.proxy.timeouts.shutdown + ORPHAN_EXTRA_SECONDS)
        for holder in holders(self._port.number):
            if holder.pid in self._port.orphans:  # it hangs, and clients with it
                with contextlib.suppress(ProcessLookupError):
                    os.kill(holder.pid, signal.SIGKILL)

    # ------------------------------------------------------------------ counts

    async def _keep_counting(self) -> None:
        """Ask every second: what a killed worker had counted is not lost, and one that hangs is found."""
        while True:
            await asyncio.sleep(TICK_SECONDS)
            for child in list(self._children):
                child.beat()
                if child.silent * TICK_SECONDS >= self._patience(child):
                    self._end_hung(child)
            for slot in self._slots:
                self._forgive(slot)

    def _patience(self, child: Child) -> float:
        """How long it may be silent, in seconds; longer while its modules are loaded."""
        hung = self._settings.proxy.timeouts.hung
        return hung if child.state is not State.STARTING else max(hung, STARTING_SECONDS)

    def _end_hung(self, child: Child) -> None:
        pid = child.process and child.process.pid
        _log.error("worker_hung", worker=child.slot, pid=pid, seconds=child.silent * TICK_SECONDS)
        child.silent = 0
        child.kill()

    async def count(self) -> None:
        """Ask every worker for its counts; but one that is silent, which costs each answer a second, keeps its last."""
        await asyncio.gather(*(child.count(ANSWER_SECONDS) for child in self._children if not child.silent))

    async def refusal(self, request_id: str) -> dict[str, Any] | None:
        """What some worker remembers of a refusal."""
        for child in list(self._children):
            found: dict[str, Any] | None = await child.ask("refusal", ANSWER_SECONDS, request_id=request_id)
            if found is not None:
                return found
        return None

    async def in_flight(self) -> dict[str, InFlight]:
        """What is under way on all workers, by model."""
        asked = (child.ask("in_flight", ANSWER_SECONDS) for child in list(self._children))
        return together(await asyncio.gather(*asked))

    async def refused(self) -> list[tuple[Any, ...]]:
        """The names that workers refused as unknown; of those that do not answer in time, none."""
        asked = (child.ask("refused", ANSWER_SECONDS) for child in list(self._children))
        return [tuple(row) for rows in await asyncio.gather(*asked) for row in rows or ()]

    async def hold(self, holds: list[dict[str, Any]]) -> list[dict[str, Any] | None]:
        """Tell every worker which holds of this machine stand; what each says, ``None`` where it does not in time."""
        asked = (child.ask("hold", ANSWER_SECONDS, holds=holds) for child in list(self._children))
        return list(await asyncio.gather(*asked))

    def vouch(self, key: bytes) -> None:
        """Give every worker, and those to come, the key that it vouches for itself with."""
        self._accepted = replace(self._accepted, voucher=key)
        for slot in self._slots:
            slot.accepted = replace(slot.accepted, voucher=key)
        for child in self._children:
            child.tell("vouch", key=key.hex())

    def samples(self) -> list[list[Sample]]:
        """What all workers counted, those that are gone too."""
        own: list[Sample] = [("portcullis_worker_restarts_total", (), self.restarts)]
        own += [("portcullis_workers", (state,), count) for state, count in self.states.items()]
        return [own, self._departed, *(child.samples for child in self._children)]

    # ------------------------------------------------------------------ the end

    async def stop(self) -> None:
        """Ask all workers to leave, and wait until they have."""
        self._stopping = True
        await tasks.cancel(*self._keepers, self._restarting)
        for child in self._children:
            child.terminate()
        self._port.close()
        if self._reapers:
            await asyncio.wait(self._reapers, timeout=self._settings.proxy.timeouts.shutdown + 5.0)
        self.kill()
        if self._reapers:
            await asyncio.wait(self._reapers)
        await tasks.cancel(self._counting)

    def kill(self) -> None:
        """End all workers at once."""
        self._stopping = True
        for child in self._children:
            child.kill()


def _not_replaced(index: int, slots: int, fresh: Child) -> str:
    how = "got no lease in time" if fresh.returncode is None else f"ended with code {fresh.returncode}; see the log"
    return f"the new worker {index} {how}. Workers {index} to {slots - 1} serve on as they were" + (
        f"; 0 to {index - 1} are new" if index else ""
    )


def _sum(*sources: list[Sample]) -> list[Sample]:
    merged = merge(sources)
    return [(name, labels, value) for name, series in merged.items() for labels, value in series.items()]
