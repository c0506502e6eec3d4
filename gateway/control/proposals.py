"""Changes that wait for a second person: sealed, so that nobody who can write to Redis can put words into a mouth.

The log has who approved or rejected what; the evidence has what was proposed, and what was said to be opened.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from pydantic import AwareDatetime

from gateway.control.approval import Opening
from gateway.control.edits import Planned
from gateway.control.problems import Conflict, NotFound
from gateway.enforcement.store import Edit, Store
from gateway.policy.document import Identifier, Part, Text, canonical, rfc3339

EXPIRES = timedelta(days=7)
KEPT = timedelta(days=30)
"""How long a change can be read after it was decided, or expired. The evidence keeps it for ever."""


class Fate(StrEnum):
    """What became of a change."""

    AWAITING = "awaiting approval"
    COMMITTED = "committed"
    REJECTED = "rejected"
    EXPIRED = "expired"


class Proposal(Part):
    """A change: its edits, who wants it, what it opens, what became of it. ``base``: the revision it was made on.

    ``hand``: as whom its maker counted when it was made; left out, as themselves.
    """

    id: Identifier
    base: int
    by: Identifier
    hand: Identifier | None = None
    at: AwareDatetime
    expires: AwareDatetime
    action: str
    subject: str
    note: Text | None = None
    edits: tuple[Planned, ...]
    opens: tuple[Opening, ...] = ()
    orders: tuple[Identifier, ...] = ()
    fate: Fate = Fate.AWAITING
    decided_by: Identifier | None = None
    decided_at: AwareDatetime | None = None
    revision: int | None = None

    def at_time(self, now: datetime) -> Fate:
        """What became of it by now."""
        return Fate.EXPIRED if self.fate is Fate.AWAITING and now >= self.expires else self.fate


def path(change_id: str) -> str:
    """Where a change can be read."""
    return f"/api/v1/changes/{change_id}"


def view(proposal: Proposal, now: datetime) -> dict[str, Any]:
    """A change as operators see it. ``awaiting`` is there while it waits for somebody."""
    fate = proposal.at_time(now)
    shown: dict[str, Any] = {
        "change": proposal.id,
        "state": str(fate),
        **({"awaiting": "approval"} if fate is Fate.AWAITING else {}),
        **proposal.model_dump(mode="json", by_alias=True, exclude={"id", "fate", "opens", "edits"}),
        "opens": [opening.model_dump(exclude={"digest"}) for opening in proposal.opens],
        "edits": [each.model_dump(mode="json", exclude={"seen"}, exclude_none=True) for each in proposal.edits],
    }
    return {name: value for name, value in shown.items() if value is not None}


# ------------------------------------------------------------------------------------------------ kept in Redis


def kept(store: Store, proposal: Proposal) -> Edit:
    """A change as a commit writes it, together with what it decides."""
    return Edit({store.keys.record("change", proposal.id): _sealed(store, proposal)})


async def keep(store: Store, proposal: Proposal) -> None:
    """Write a change that is new. What it says of a caller is not for the evidence, which is kept for ever."""
    told = tuple(each.model_copy(update={"body": None}) if each.kind == "callers" else each for each in proposal.edits)
    body = canonical(proposal.model_copy(update={"edits": told}).model_dump(mode="json", by_alias=True))
    async with store.redis.pipeline(transaction=True) as pipe:
        pipe.set(store.keys.record("change", proposal.id), _sealed(store, proposal), ex=EXPIRES + KEPT)
        pipe.zadd(store.keys.names("change"), {proposal.id: 0})
        evidence = store.signer.seal("proposed", proposal.id, body)
        pipe.xadd(store.keys.evidence, {"kind": "change", "sealed": evidence})
        await pipe.execute()


async def forget_later(store: Store, change_id: str) -> None:
    """Let a change that is decided go, some day: a commit's writes have no end."""
    await store.redis.expire(store.keys.record("change", change_id), KEPT)


def _sealed(store: Store, proposal: Proposal) -> bytes:
    body = canonical(proposal.model_dump(mode="json", by_alias=True))
    return store.signer.seal("change", proposal.id, body)


async def find(store: Store, change_id: str) -> Proposal | None:
    """A change by its id.

    Raises:
        ForgedError: it is not one of ours.
    """
    sealed: bytes | None = await store.redis.get(store.keys.record("change", change_id))
    return None if sealed is None else _read(store, change_id, sealed)


def _read(store: Store, change_id: str, sealed: bytes) -> Proposal:
    return Proposal.model_validate_json(store.signer.unseal("change", change_id, sealed))


async def existing(store: Store, change_id: str) -> Proposal:
    """A change by its id.

    Raises:
        NotFound: there is none, or it was decided long ago.
    """
    proposal = await find(store, change_id)
    if proposal is None:
        raise NotFound(f"There is no change {change_id!r}; those that were decided are kept for {KEPT.days} days.")
    return proposal


async def everything(store: Store) -> list[Proposal]:
    """Every change that is kept, newest first. Names of those that were let go leave the index."""
    names = await store.records.page("change")
    if not names:
        return []
    sealed = await store.redis.mget([store.keys.record("change", name) for name in names])
    gone = [name for name, record in zip(names, sealed, strict=True) if record is None]
    if gone:
        await store.redis.zrem(store.keys.names("change"), *gone)
    found = [_read(store, name, record) for name, record in zip(names, sealed, strict=True) if record is not None]
    return sorted(found, key=lambda each: each.at, reverse=True)


# ------------------------------------------------------------------------------------------------ deciding


def check_waiting(proposal: Proposal, now: datetime) -> None:
    """Refuse what waits for nobody any more.

    Raises:
        Conflict: it is decided, or too old.
    """
    match proposal.at_time(now):
        case Fate.AWAITING:
            return
        case Fate.EXPIRED:
            raise Conflict(f"{proposal.id} expired at {rfc3339(proposal.expires)}. Propose it anew.")
        case fate:
            by = f" by {proposal.decided_by}" if proposal.decided_by else ""
            raise Conflict(f"{proposal.id} is {fate} already{by}, in revision {proposal.revision}.")


def check_same_effect(proposal: Proposal, opens: Sequence[Opening]) -> None:
    """Refuse what would open more, or to others, than whoever approves it was shown.

    Raises:
        Conflict: it would.
    """
    more = sorted(_beyond(proposal, opens))
    if more:
        raise Conflict(
            f"The policy has changed since {proposal.id} was proposed, so that it would open {', '.join(more)} "
            "otherwise than was shown. Propose it anew.",
            opens=[opening.model_dump(exclude={"digest"}) for opening in opens],
        )


def _beyond(proposal: Proposal, opens: Sequence[Opening]) -> Iterator[str]:
    shown = {opening.model: opening.digest for opening in proposal.opens}
    yield from (opening.model for opening in opens if shown.get(opening.model) != opening.digest)
