"""What stands on a replica: the policy in force, compiled for this moment and with the holds of this machine.

Between two revisions it changes by time, which only ever denies more, and by the holds that an operator places here.
"""

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Protocol

from gateway import tasks
from gateway.enforcement.compiling import compiled, outlived
from gateway.enforcement.entry import Position
from gateway.enforcement.local import EVERYTHING, Holds, UnreadableError, load_holds, merged
from gateway.enforcement.replica import Replica
from gateway.identity.directory import Unknown
from gateway.policy.caller import Caller
from gateway.policy.document import Document
from gateway.policy.snapshot import Snapshot

Callers = Iterable[str] | Literal["all"]
BOUNDARY_LOOK_SECONDS = 30.0
"""How long at the most until the wall clock is looked at again: somebody may have set it."""


class Plane(Protocol):
    """What a replica does to the data plane it stands for."""

    def affected(self, callers: Callers) -> list[str]:
        """Keys in flight of the callers that a revision names."""

    def apply(self, snapshot: Snapshot, callers: Callers, fresh: dict[str, Caller | Unknown]) -> None:
        """Swap, evict, sweep, sever: in one go, without an await."""

    def sever_overdue(self) -> None:
        """Sever what the lease no longer covers."""


class Standing:
    """The policy of one replica. ``Agent`` brings the revisions."""

    def __init__(self, replica: Replica, state_dir: Path, log: Any) -> None:
        self.replica = replica
        self._state_dir = state_dir
        self._log = log
        self._plane: Plane | None = None
        self._document: Document | None = None
        self._snapshot: Snapshot | None = None
        self._local = self._load_local()
        self._held: Holds = ()
        self._boundary_timer: asyncio.TimerHandle | None = None
        self._boundary: asyncio.Task[None] | None = None

    # ------------------------------------------------------------------ time

    def _watch_boundary(self) -> None:
        """Wake up where time itself denies more: a window begins, an attestation expires."""
        if self._boundary_timer is not None:
            self._boundary_timer.cancel()
        assert self._snapshot is not None
        boundary = self._snapshot.next_boundary
        if boundary is not None:
            delay = min(max((boundary - datetime.now(UTC)).total_seconds(), 0.0), BOUNDARY_LOOK_SECONDS)
            self._boundary_timer = asyncio.get_running_loop().call_later(delay, self._pass_boundary)

    def _pass_boundary(self) -> None:
        self._boundary = tasks.spawn(self._deny_what_is_due(), "replica-boundary")

    async def _deny_what_is_due(self) -> None:
        """Compile the same document anew for the time that it is; nothing ever opens by this."""
        await self._compile_anew()
        self._watch_boundary()

    async def _compile_anew(self) -> None:
        """Until what is in force is compiled for this moment, and with the local holds that stand.

        A revision that is applied meanwhile is newer: it stays, and has its own timer.
        """
        assert self._plane is not None
        while (old := self._snapshot) is not None:
            held = self._local_at(self.replica.position)
            if not outlived(old) and held == self._held:
                return
            snapshot = await compiled(merged(self._document or old.document, held), old.revision)
            if self._snapshot is old and held == self._local_at(self.replica.position):
                self._snapshot, self._held = snapshot, held
                self._plane.apply(snapshot, (), {})

    # ------------------------------------------------------------------ local holds

    async def hold_locally(self, holds: Holds) -> None:
        """Let these holds of the machine stand, and no others; when it returns, they do."""
        self._local = holds
        await self._compile_anew()

    @property
    def held(self) -> Holds:
        """The holds of the machine that stand here beside the revision in force."""
        return self._local_at(self.replica.position)

    def _local_at(self, position: Position | None) -> Holds:
        return tuple(local for local in self._local if not local.carried_by(position))

    def _load_local(self) -> Holds:
        try:
            return load_holds(self._state_dir)
        except UnreadableError as error:
            self._log.critical("local_holds_unreadable", error=str(error))
            return (EVERYTHING,)
