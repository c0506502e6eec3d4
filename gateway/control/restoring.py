"""What this machine remembers, put back into a Redis that lost it: exactly that, one revision above it, in a new epoch.

Only where Redis has less: it is empty, unreadable, or behind. A Redis that has what is remembered in its history is
left alone.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from gateway.enforcement.entry import Entry
from gateway.enforcement.memory import Remembered
from gateway.enforcement.store import Current, Edit, Standing, Store
from gateway.policy.document import Document, State


class NothingToRestoreError(Exception):
    """Redis has what is remembered, or more, or nothing is remembered. The message says which."""


class WouldOpenError(Exception):
    """Redis restricts what the remembered policy does not. The message lists it."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What was done: the new revision, what it brought back, and over what."""

    entry: Entry
    remembered: Remembered
    over: Standing
    dropped: tuple[str, ...]

    def __str__(self) -> str:
        entry, document = self.remembered.entry, self.remembered.document
        where = "an empty Redis" if self.over.empty else f"revision {self.over.rev or '?'} that Redis had"
        what = f"{len(document.models)} models, {len(document.holds)} holds, {len(document.directives)} directives"
        made = f"{entry.action} {entry.subject} by {entry.actor}"
        lines = [
            f"restore: revision {self.entry.rev}, epoch {self.entry.epoch}, over {where}",
            f"  it is revision {entry.rev} as remembered, of {entry.at} ({made}): {what}",
        ]
        lines += [f"  no longer there: {name}" for name in self.dropped]
        return "\n".join(lines)


async def restore(
    store: Store, remembered: Remembered | None, people: Edit, *, actor: str = "host", replacing: bool = False
) -> Restored:
    """Put a remembered policy into force again. ``people``: operators and callers, where Redis has none any more.

    ``replacing``: also where Redis has restrictions that the remembered policy lacks.

    Raises:
        NothingToRestoreError: Redis lacks nothing of it.
        WouldOpenError: it would open something.
        AlreadyInitialisedError: somebody else wrote a policy meanwhile.
    """
    if remembered is None:
        raise NothingToRestoreError("this machine remembers no policy")
    if remembered.unread:
        parts = ", ".join(remembered.unread)
        raise NothingToRestoreError(
            f"this gateway cannot read all that is remembered ({parts}): restore it with a newer one"
        )
    over = await store.standing()
    await _demand_a_loss(store, remembered, over.current)
    dropped = () if over.current is None else tuple(_lacking(over.current.document, remembered.document))
    if dropped and not replacing:
        raise WouldOpenError(", ".join(dropped))
    entry = await store.init(
        remembered.document,
        people if over.empty else Edit(),
        actor=actor,
        restored=remembered.entry.position,
        action="restore",
        over=over if over.top or not over.empty else None,
    )
    return Restored(entry, remembered, over, dropped)


async def _demand_a_loss(store: Store, remembered: Remembered, current: Current | None) -> None:
    """Refuse where the Redis there is has what is remembered.

    Raises:
        NothingToRestoreError: it has.
    """
    if current is None:
        return
    known = remembered.entry
    if current.rev >= known.rev:
        there = await store.entry(known.rev)
        if there is not None and there.hash == known.hash:
            raise NothingToRestoreError(
                f"Redis is not behind: it is at revision {current.rev}, and has the remembered revision {known.rev}"
            )
    if current.rev > known.rev:
        raise NothingToRestoreError(
            f"Redis is at revision {current.rev} of another history; this machine remembers no more than {known.rev}"
        )


def _lacking(there: Document, remembered: Document) -> Iterator[str]:
    """What restricts in one policy, and not in another."""
    yield from (f"holds/{hold_id}" for hold_id in there.holds if hold_id not in remembered.holds)
    for directive_id, directive in there.directives.items():
        known = remembered.directives.get(directive_id)
        if directive.state is State.IN_FORCE and (known is None or known.state is not State.IN_FORCE):
            yield f"directives/{directive_id}"
