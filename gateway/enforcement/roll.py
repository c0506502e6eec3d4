"""The roll of replicas: who may hold a lease, as far as this control process knows, whatever Redis says by now.

Redis lists members; whoever can write to it can strike one off, or speak in its name. So what is listed counts only
where it is vouched for, and who was there a moment ago is expected still: it has left when that is vouched for, and it
is gone when it has not renewed for as long as its lease can last. Where Redis lost its data, and the policy was
restored under a new epoch, the roll begins anew.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from gateway.enforcement import lease, scripts
from gateway.enforcement.entry import Position
from gateway.enforcement.signing import ForgedError
from gateway.enforcement.store import Committed, Current, Store, read_said
from gateway.policy.document import LONGEST_STALE

TOMBSTONE_SECONDS = 3600.0
"""How long a member that left stays listed, so that a renewal on its way cannot bring it back."""

UNHEARD: Mapping[str, Any] = {"rev": 0, "streams_cut": 0}
"""What a member is taken to have said that nobody vouches for: it may stand anywhere."""

_log = structlog.get_logger("portcullis.receipts")


@dataclass(frozen=True, slots=True)
class Known:
    """A member. ``stored`` as Redis has it, and unchanged ``since``; ``said``: the last of it that was vouched for."""

    stored: bytes
    since: float
    said: Mapping[str, Any]

    @property
    def left(self) -> bool:
        """Whether it serves nothing any more."""
        return bool(self.said.get("left"))


class Roll:
    """Members that were seen here. ``look`` once a second."""

    def __init__(self, store: Store) -> None:
        self.forged = 0
        self._epoch = ""
        self._store = store
        self._leave = store.redis.register_script(scripts.LEAVE)
        self._known: dict[str, Known] = {}
        self._doubtful: set[str] = set()
        self._reached: dict[int, tuple[Position, float]] = {}

    def expected(self, committed: Committed) -> dict[str, Mapping[str, Any]]:
        """Who has to know of a revision, with the last that each is known to have said."""
        members: dict[str, Mapping[str, Any]] = {}
        for name, said in committed.members.items():
            known = self._known.get(name)
            members[name] = said if self.vouched(name, said) else UNHEARD if known is None else known.said
        if committed.entry.epoch != self._epoch:
            return members
        struck = self._known.keys() - members.keys() - committed.left
        return members | {name: self._known[name].said for name in struck if not self._known[name].left}

    def vouched(self, member: str, said: Mapping[str, Any]) -> bool:
        """Whether a member said that; where nobody did, it is told once, and counted."""
        if self._store.voucher.vouches(member, said):
            self._doubtful.discard(member)
            return True
        self._doubt("ack_forged", member)
        return False

    def _doubt(self, event: str, member: str) -> None:
        if member not in self._doubtful:
            self._doubtful.add(member)
            self.forged += 1
            _log.error(event, replica=member, effect="not believed; receipts wait for its lease to end")

    # ------------------------------------------------------------------ looking

    async def look(self) -> None:
        """Take in what is listed, and close who has not renewed for as long as a lease can last.

        Raises:
            RedisError, ForgedError, NotInitialisedError: not now.
        """
        current = await self._store.current()
        stored: dict[bytes, bytes] = await self._store.redis.hgetall(self._store.keys.replicas)
        if current.position.epoch != self._epoch:
            self._epoch, self._known = current.position.epoch, {}
        now = lease.now()
        for raw, value in stored.items():
            self._take_in(raw.decode(), value, now)
        self._miss({raw.decode() for raw in stored}, now)
        await self._prune(current, now)

    def _take_in(self, member: str, value: bytes, now: float) -> None:
        known = self._known.get(member)
        if known is not None and known.stored == value:
            return
        said: Mapping[str, Any] = read_said(value)
        if not self.vouched(member, said):
            said = UNHEARD if known is None else known.said
        self._known[member] = Known(value, now, said)

    def _miss(self, listed: set[str], now: float) -> None:
        """Whoever is listed no more, and did not leave, was struck off, and may hold a lease."""
        for member in self._known.keys() - listed:
            known = self._known[member]
            if known.left:
                del self._known[member]
            elif known.stored:
                self._doubt("replica_struck_off", member)
                self._known[member] = Known(b"", now, known.said)

    async def _prune(self, current: Current, now: float) -> None:
        """By Friday's kill they are gone."""
        keys = self._store.keys
        for member, known in list(self._known.items()):
            if known.left:
                if now - known.since > TOMBSTONE_SECONDS:
                    await self._store.redis.hdel(keys.replicas, member)
            elif now > lease.wait_until(known.since, await self._longest_since(known.said["rev"], current)):
                if known.stored:
                    args = [member, known.stored, self._store.voucher.leave(member)]
                    await self._leave(keys=[keys.replicas, keys.acks], args=args)
                    _log.warning("replica_expired", replica=member)
                else:
                    del self._known[member]

    async def _longest_since(self, rev: int, current: Current) -> float:
        """The longest lease of a member that last said it stands at ``rev``: it may have applied what came then."""
        if rev >= current.rev:
            return current.snapshot.longest_stale
        if self._reached.get(rev, (None, 0.0))[0] != current.position:
            try:
                between = await self._store.documents(rev, current.rev)
                longest = max((document.longest_stale for document in between), default=LONGEST_STALE)
            except (ForgedError, ValueError):
                longest = LONGEST_STALE
            self._reached = {known: found for known, found in self._reached.items() if found[0] == current.position}
            self._reached[rev] = (current.position, longest)
        return self._reached[rev][1]
