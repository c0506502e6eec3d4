"""Revisions whose control process died before their receipt was complete: any other completes them.

Nobody else heard when they were committed. So time counts from when this process first saw that there is no receipt,
which is later, and whoever is listed then is waited for: since the commit a replica can have joined (it is waited for
in vain), left or proved gone, and nothing else.
"""

from dataclasses import dataclass

from gateway.enforcement import lease
from gateway.enforcement.entry import Entry, Position, read_entry
from gateway.enforcement.signing import ForgedError
from gateway.enforcement.store import Committed, Store
from gateway.policy.snapshot import Snapshot

LOOK_BACK = 1000
"""How many of the newest revisions are looked at."""

PATIENCE_SECONDS = 5.0
"""How much longer than the leases the process that committed a revision may take to prove it."""


@dataclass(frozen=True, slots=True)
class Orphan:
    """A revision without a receipt, and when that was first seen here."""

    entry: Entry
    since: float


class Orphans:
    """Finds them. One of these belongs to each control process."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._seen: dict[int, Orphan] = {}
        self._looked_at: Position | None = None

    async def due(self, proving: set[int]) -> list[tuple[Committed, list[str]]]:
        """What to complete now, with the models that it closed. ``proving``: revisions that are proven here already.

        Raises:
            RedisError, ForgedError, NotInitialisedError: not now.
        """
        current = await self._store.current()
        await self._look(current.position)
        await self._forget_proven()
        moment = lease.now()
        patience = current.snapshot.longest_stale + PATIENCE_SECONDS
        due = []
        for rev, orphan in list(self._seen.items()):
            if rev not in proving and moment > lease.wait_until(orphan.since, patience):
                listed = await self._store.members()
                left = self._store.gone(listed)
                members = {name: said for name, said in listed.items() if name not in left}
                durable = False if self._store.replicas_ack else None  # whoever knew is gone
                committed = Committed(
                    orphan.entry, current, current, members, "", orphan.since, durable=durable, left=left
                )
                due.append((committed, await self._closed(rev)))
        return due

    async def _look(self, here: Position) -> None:
        """Note new revisions; all anew where the history is not the one that was looked at."""
        before = self._looked_at
        if before == here:
            return
        entries = await self._entries(max(before.rev if before else 0, here.rev - LOOK_BACK) + 1, here.rev)
        if before is not None and (not entries or entries[0].prev != before.hash):
            self._seen.clear()
            entries = await self._entries(here.rev - LOOK_BACK + 1, here.rev)
        moment = lease.now()
        for entry in entries:
            if entry.epoch == here.epoch and entry.action not in ("init", "restore"):
                self._seen[entry.rev] = Orphan(entry, moment)
        self._looked_at = here

    async def _entries(self, first: int, last: int) -> list[Entry]:
        """The newest of them, as far back as they are ours: a key that signed older ones may be trusted no longer."""
        redis, keys = self._store.redis, self._store.keys
        stored = await redis.xrange(keys.log, min=f"{max(first, 1)}-0", max=f"{last}-0")
        entries: list[Entry] = []
        for _, fields in reversed(stored):
            try:
                entries.append(read_entry(fields.get(b"entry", b""), self._store.signer))
            except ForgedError:
                break
        return entries[::-1]

    async def _forget_proven(self) -> None:
        revisions = list(self._seen)
        if not revisions:
            return
        found = await self._store.redis.hmget(self._store.keys.receipts, [str(rev) for rev in revisions])
        for rev, receipt in zip(revisions, found, strict=True):
            if receipt is not None:
                del self._seen[rev]

    async def _closed(self, rev: int) -> list[str]:
        """The models that a revision took offline."""
        documents = await self._store.documents(rev - 1, rev)
        if len(documents) == 1:
            return []
        before, after = (Snapshot(document, rev) for document in documents)
        return sorted(after.offline.keys() - before.offline.keys())
