"""One replica's right to serve: the rules, without I/O.

BOOT → SYNC → SERVING ⇄ STALE → DRAINING; FENCED. Time, nonces and what Redis said come in as arguments; what the
replica may do comes out. ``agent`` drives it; nothing else may extend a lease.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import orjson

from gateway.enforcement.entry import Entry, Position
from gateway.enforcement.lease import GUARD, SLOWEST, serve_until


class State(StrEnum):
    """Where a replica is in its life."""

    BOOT = "boot"
    SYNC = "sync"
    SERVING = "serving"
    STALE = "stale"
    DRAINING = "draining"
    FENCED = "fenced"


class Gap(Exception):  # noqa: N818 - a cause to synchronise anew, not a failure
    """The log does not continue where this replica stands."""


class Gone(Exception):  # noqa: N818 - what Redis says of an incarnation
    """This incarnation was proven expired; only a new one can come back."""


class Fenced(Exception):  # noqa: N818 - named as the state it leads to
    """Redis holds another history than this replica remembers."""


class Regressed(Fenced):
    """Redis holds less than this replica remembers, or nothing."""


@dataclass(frozen=True, slots=True)
class Renewal:
    """What a renewal says. ``nonce`` ties the answer to it.

    ``finishing``: the revisions of which one first denied something that may still finish; their receipts wait for it.
    ``nack``: what of the policy it does not understand, and denies.
    """

    nonce: str
    position: Position
    swept: int
    streams_cut: int
    draining: int
    finishing: tuple[int, ...] = ()
    nack: str = ""


class Replica:
    """The lease of one replica.

    ``remembered`` is the highest position it ever applied, from disk after a restart: Redis must not be behind it.
    """

    def __init__(self, incarnation: str, remembered: Position | None = None) -> None:
        self.incarnation = incarnation
        self.state = State.BOOT
        self.position: Position | None = None
        self.streams_cut = 0
        self.draining = 0
        self.finishing: tuple[int, ...] = ()
        self.nack = ""
        self.remembered = remembered
        self._swept = 0
        self._renewed_at: float | None = None
        self._pending: dict[str, float] = {}

    def may_serve(self, now: float, max_stale: float) -> bool:
        """Whether a model with this ``max_stale`` may be served at this moment."""
        renewed_at = self._renewed_at
        return renewed_at is not None and now < renewed_at + max_stale * SLOWEST - GUARD  # `serve_until`, in place

    def deadline(self, max_stale: float) -> float:
        """Until when such a model may be served as things stand; minus infinity without a lease."""
        return -float("inf") if self._renewed_at is None else serve_until(self._renewed_at, max_stale)

    # ------------------------------------------------------------------ what was read

    def check_jump(self, position: Position) -> None:
        """Before adopting a position without the entries in between (start, gap, reconnect).

        Raises:
            Regressed: Redis is behind what was applied.
            Fenced: it tells another story of it.
        """
        known = self.position or self.remembered
        if known is None:
            return
        if position.rev < known.rev:
            raise Regressed(f"remembered revision {known.rev}, found {position.rev}")
        if position.rev == known.rev and position.hash != known.hash:
            raise Fenced(f"remembered revision {known.rev}, found another of this number")
        if position.epoch != known.epoch and position.rev <= known.rev:
            raise Fenced(f"another epoch at revision {position.rev}")

    def check_next(self, entry: Entry) -> None:
        """Before applying an entry of the feed.

        Raises:
            Gap: it is not the next one.
            Fenced: it is, but does not follow from what was applied.
        """
        here = self.position
        if here is None or entry.rev != here.rev + 1:
            raise Gap
        if entry.prev != here.hash or entry.epoch != here.epoch:
            raise Fenced(f"revision {entry.rev} does not follow from revision {here.rev}")

    def applied(self, position: Position) -> None:
        """The snapshot was swapped, callers evicted, streams severed: all of it, in one callback."""
        self.position = position
        self.remembered = position
        if self.state in (State.BOOT, State.FENCED):
            self.state = State.SYNC

    # ------------------------------------------------------------------ renewals

    def renew(self, now: float, nonce: str) -> Renewal:
        """Begin a renewal; ``now`` is taken before it is sent."""
        if self.position is None:
            raise Gap
        self._pending = {known: at for known, at in self._pending.items() if now - at < 60}
        self._pending[nonce] = now
        self._swept = min((*(rev - 1 for rev in self.finishing), self.position.rev))
        return Renewal(nonce, self.position, self._swept, self.streams_cut, self.draining, self.finishing, self.nack)

    def answered(self, renewal: Renewal, status: str, nonce: str) -> None:
        """What Redis said to a renewal. Only an OK that carries its own nonce extends the lease.

        Raises:
            Gap: there are newer revisions to read.
            Gone: this incarnation is closed.
            Regressed: Redis is behind.
            Fenced: Redis holds another history.
        """
        sent_at = self._pending.pop(renewal.nonce, None)
        if nonce != renewal.nonce or sent_at is None:
            return
        match status:
            case "OK":
                self._renewed_at = max(sent_at, self._renewed_at or sent_at)
                if self.state is not State.DRAINING:
                    self.state = State.SERVING
            case "STALE":
                raise Gap
            case "GONE":
                raise Gone
            case "BEHIND":
                raise Regressed("Redis is empty, or behind what was applied")
            case _:
                raise Fenced(f"Redis answered {status}")

    def overdue(self) -> None:
        """The lease has run out."""
        if self.state is State.SERVING:
            self.state = State.STALE

    def fence(self) -> None:
        """Give the lease back: nothing is served until a revision above the remembered one."""
        self.state = State.FENCED
        self._renewed_at = None
        self._pending.clear()

    def reborn(self, incarnation: str) -> None:
        """Come back under a new incarnation after the old one was closed: without its lease."""
        self.fence()
        self.incarnation = incarnation
        self.state = State.SYNC

    def drain(self) -> None:
        """The process is leaving; the lease is kept while streams end."""
        self.state = State.DRAINING


def write_finishing(revisions: tuple[int, ...]) -> str:
    """Sorted revisions as a renewal says them: ``6-8,12``."""
    runs: list[list[int]] = []
    for rev in revisions:
        if runs and rev == runs[-1][1] + 1:
            runs[-1][1] = rev
        else:
            runs.append([rev, rev])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def reads_as_finishing(said: str, rev: int) -> bool:
    """Whether a revision is among those that ``write_finishing`` wrote."""
    runs = (run.partition("-") for run in said.split(",") if run)
    return any(int(first) <= rev <= int(last or first) for first, _, last in runs)


MAX_NACK_PARTS = 20


def write_nack(rev: int, unread: tuple[str, ...]) -> str:
    """What a replica does not understand of the document that a revision brought, as a renewal says it."""
    if not unread:
        return ""
    more = (f"and {len(unread) - MAX_NACK_PARTS} more",) if len(unread) > MAX_NACK_PARTS else ()
    return orjson.dumps({"revision": rev, "parts": [*unread[:MAX_NACK_PARTS], *more]}).decode()


def read_nack(said: str) -> dict[str, Any]:
    """The same, read: ``revision`` and ``parts``; empty where all is understood."""
    return dict(orjson.loads(said)) if said else {}
