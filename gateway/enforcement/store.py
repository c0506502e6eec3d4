"""The control side of Redis: reads the current policy, commits revisions."""

import asyncio
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal

import orjson

from gateway.enforcement import lease, scripts
from gateway.enforcement.compiling import beside, compiled, outlived
from gateway.enforcement.connection import Client
from gateway.enforcement.details import Told, advanced, detail, sealed_detail
from gateway.enforcement.entry import GENESIS, Entry, Position, read_entry, read_position
from gateway.enforcement.keys import Keys
from gateway.enforcement.people import Edit, People
from gateway.enforcement.records import Records
from gateway.enforcement.signing import ForgedError, Signer
from gateway.policy.document import Document, digest, dump
from gateway.policy.snapshot import Snapshot

__all__ = [
    "AlreadyInitialisedError",
    "Committed",
    "ConflictError",
    "Current",
    "Edit",
    "LostError",
    "NewerError",
    "NotInitialisedError",
    "Standing",
    "Store",
    "read_said",
]

WAIT_MS = 1000
"""How long replicas of Redis may take to have a commit; less than a command's timeout."""


class ConflictError(Exception):
    """Somebody else committed in between; compose anew from the current revision."""


class LostError(ConflictError):
    """This was committed before, in a history that Redis no longer has."""


class NotInitialisedError(Exception):
    """There is no policy in Redis yet, or any more; ``portcullis init`` writes the first or restores the last."""


class AlreadyInitialisedError(Exception):
    """Redis holds a policy; ``init`` never overwrites one."""


class NewerError(ForgedError):
    """The policy in force is ours, and this gateway cannot read it whole: a newer one wrote it."""


@dataclass(frozen=True, slots=True)
class Current:
    """The policy in force: what a change is composed from."""

    position: Position
    doc: str
    document: Document
    snapshot: Snapshot

    @property
    def rev(self) -> int:
        """The revision."""
        return self.position.rev


@dataclass(frozen=True, slots=True)
class Standing:
    """What Redis has, as far as it can be read: ``cur`` as it is stored, and the highest number in the log.

    ``current``: the policy there, where it is one of ours.
    """

    epoch: str = ""
    rev: str = ""
    hash: str = ""
    top: int = 0
    current: Current | None = None

    @property
    def empty(self) -> bool:
        """Whether there is no policy at all."""
        return not (self.epoch or self.rev or self.hash)


@dataclass(frozen=True, slots=True)
class Committed:
    """A revision that is in the log. ``at`` is the lease clock after the reply; ``members`` who had to know.

    ``left``: who was listed, and need not know.
    ``durable``: whether as many of Redis' replicas have it as must; ``None`` where none must.
    """

    entry: Entry
    current: Current
    previous: Current
    members: Mapping[str, Mapping[str, Any]]
    replid: str
    at: float
    repeated: bool = False
    left: frozenset[str] = frozenset()
    durable: bool | None = None


class Store(People):
    """Redis, as the control plane sees it. Nothing else writes policy.

    ``replicas_ack``: how many of its replicas must have a commit, so that a failover cannot forget it. ``digest_key``:
    gives what records are told by in the evidence; the same on every machine.
    """

    def __init__(
        self,
        redis: Client,
        keys: Keys,
        signer: Signer,
        *,
        replicas_ack: int = 0,
        digest_key: Callable[[], bytes] | None = None,
    ) -> None:
        self.redis = redis
        super().__init__(keys, signer, digest_key)
        self.replicas_ack = replicas_ack
        self.voucher = signer.voucher
        self.records = Records(redis, keys, signer)
        self._commit = redis.register_script(scripts.COMMIT)
        self._init = redis.register_script(scripts.INIT)
        self._replace = redis.register_script(scripts.REPLACE)
        self._cached: Current | None = None
        self._reading = asyncio.Lock()

    async def current(self) -> Current:
        """The policy in force, read and verified.

        Raises:
            NotInitialisedError: Redis is empty.
            ForgedError: what it holds is not ours.
            NewerError: it is ours, and not to be read here.
        """
        position = await self._position()
        known = self._known(position)
        if known is not None:
            return known
        async with self._reading:  # once, however many ask
            return self._known(position) or await self._read(position)

    async def verify(self) -> None:
        """Read the policy in force as if nothing were known of it.

        Raises:
            NotInitialisedError: Redis is empty.
            ForgedError: what it holds is not ours.
        """
        position = await self._position()
        entry = await self._entry_of(position)
        await self.records.verify_document(entry.doc)

    async def _position(self) -> Position:
        cur: dict[bytes, bytes] = await self.redis.hgetall(self.keys.cur)
        if not cur:
            raise NotInitialisedError
        return read_position(cur)

    @property
    def last(self) -> Current | None:
        """The policy that was in force when Redis last answered; it may be another by now."""
        return self._cached

    def _known(self, position: Position) -> Current | None:
        known = self._cached
        return known if known is not None and known.position == position and not outlived(known.snapshot) else None

    async def _read(self, position: Position) -> Current:
        entry = await self._entry_of(position)
        known = self._cached
        if known is not None and known.doc == entry.doc:
            current = await self._renumbered(known, entry)
        else:
            try:
                document, _ = await self.records.document(entry.doc)
            except ValueError as error:
                raise NewerError(f"revision {entry.rev} cannot be read whole: {error}") from None
            current = Current(position, entry.doc, document, await compiled(document, position.rev))
        self._cached = current
        return current

    @staticmethod
    async def _renumbered(known: Current, entry: Entry) -> Current:
        """A revision that left the document as it was."""
        snapshot = known.snapshot.renumbered(entry.rev)
        if outlived(snapshot):
            snapshot = await compiled(known.document, entry.rev)
        return Current(entry.position, entry.doc, known.document, snapshot)

    async def _entry_of(self, position: Position) -> Entry:
        entry = await self.entry(position.rev)
        if entry is None or entry.position != position:
            raise ForgedError(f"revision {position.rev} is not what its log entry says")
        return entry

    async def standing(self) -> Standing:
        """What Redis has, whatever it is: for whoever must judge it without being stopped by it."""
        cur: dict[bytes, bytes] = await self.redis.hgetall(self.keys.cur)
        newest = await self.redis.xrevrange(self.keys.log, count=1)
        try:
            current = await self.current()
        except (NotInitialisedError, ForgedError, KeyError, ValueError):
            current = None
        said = {name: cur.get(name.encode(), b"").decode("utf-8", "replace") for name in ("epoch", "rev", "hash")}
        return Standing(**said, top=int(newest[0][0].partition(b"-")[0]) if newest else 0, current=current)

    async def entry(self, rev: int) -> Entry | None:
        """One revision of the log."""
        stored = await self.redis.xrange(self.keys.log, min=f"{rev}-0", max=f"{rev}-0")
        return read_entry(stored[0][1].get(b"entry", b""), self.signer) if stored else None

    async def documents(self, first: int, last: int) -> list[Document]:
        """The different documents of a run of revisions, both ends included.

        Raises:
            ForgedError: the log or the documents no longer reach back that far.
        """
        stored = await self.redis.xrange(self.keys.log, min=f"{first}-0", max=f"{last}-0")
        entries = [read_entry(fields.get(b"entry", b""), self.signer) for _, fields in stored]
        if len(entries) != last - first + 1:
            raise ForgedError(f"the log does not have revisions {first} to {last}")
        return [(await self.records.document(sha256))[0] for sha256 in dict.fromkeys(entry.doc for entry in entries)]

    async def commit(
        self,
        base: Current,
        document: Document | None,
        *,
        actor: str,
        action: str,
        subject: str,
        order: str | None = None,
        edit: Edit | None = None,
        op_id: str | None = None,
        told: Told | None = None,
    ) -> Committed:
        """Commit a change composed from ``base``. Without a document, the one in force stays.

        ``told``: what the evidence is to say beside what changed: a note, from where, who agreed.

        Raises:
            ConflictError: ``base`` is no longer current.
            LostError: ``op_id`` was committed in a history that was lost.
        """
        edit = edit or Edit()
        if document is not None:
            document = advanced(base.document, document, base.rev + 1)
        body = await beside(document, dump, document) if document is not None else b""
        entry = Entry(
            epoch=base.position.epoch,
            rev=base.rev + 1,
            at=datetime.now(UTC).isoformat(timespec="milliseconds"),
            actor=actor,
            action=action,
            subject=subject,
            order=order,
            doc=digest(body) if body else base.doc,
            callers=edit.callers,
            prev=base.position.hash,
        )
        sealed = self.signer.seal("document", entry.doc, body) if body else b""
        keys, after = self.keys, document or base.document
        left = await beside(after, detail, base.document, after, edit.told, told or {})
        records = {**edit.records, keys.detail(entry.rev): sealed_detail(self.signer, entry.hash, left)}
        (status, answer, *_), replicas = await self._execute(
            [
                *(keys.cur, keys.log, keys.docs, keys.doc(entry.doc), keys.ops, keys.ops_order, keys.replicas),
                *records,
            ],
            [
                *(base.position.epoch, base.rev, base.position.hash, op_id or secrets.token_hex(16)),
                *(entry.rev, entry.hash, entry.sealed(self.signer), entry.doc, sealed),
                *records.values(),
            ],
        )
        at = lease.now()
        if status == b"CONFLICT":
            raise ConflictError
        if status == b"NODOC":
            raise ForgedError(f"document {entry.doc[:12]}… is not there")
        found = await self._committed(entry, document, base, orjson.loads(answer), at, repeated=status == b"KNOWN")
        return found if not self.replicas_ack else replace(found, durable=self._durable(found, replicas))

    async def _execute(self, keys: list[str], args: list[Any]) -> tuple[list[bytes], int]:
        """Run the commit script; and how many replicas have it, where that is asked for.

        WAIT goes out with the script, on the same connection: on another one it would answer for nothing.
        """
        if not self.replicas_ack:
            return await self._commit(keys=keys, args=args), 0
        async with self.redis.pipeline(transaction=False) as pipe:
            pipe.eval(scripts.COMMIT, len(keys), *keys, *args)
            pipe.execute_command("WAIT", self.replicas_ack, WAIT_MS)
            answer, replicas = await pipe.execute(raise_on_error=False)
        if isinstance(answer, Exception):
            raise answer
        return answer, replicas if isinstance(replicas, int) else 0

    def _durable(self, committed: Committed, replicas: int) -> bool:
        """Whether enough have it. Of what was committed before, this WAIT knows nothing."""
        return not committed.repeated and replicas >= self.replicas_ack

    async def _committed(
        self,
        entry: Entry,
        document: Document | None,
        base: Current,
        answer: dict[str, Any],
        at: float,
        *,
        repeated: bool,
    ) -> Committed:
        listed = _listed(answer["members"])
        left = self.gone(listed)
        members = {name: said for name, said in listed.items() if name not in left}
        if repeated:
            known = await self.entry(answer["rev"])
            if known is None or known.hash != answer["hash"]:
                raise LostError
            current = await self.current()
            return Committed(known, current, base, members, answer["replid"], at, repeated=True, left=left)
        if document is None:
            current = await self._renumbered(base, entry)
        else:
            current = Current(entry.position, entry.doc, document, await compiled(document, entry.rev))
        self._cached = current
        return Committed(entry, current, base, members, answer["replid"], at, left=left)

    async def init(
        self,
        document: Document,
        edit: Edit,
        *,
        actor: str,
        restored: Position | None = None,
        action: Literal["init", "restore"] = "init",
        over: Standing | None = None,
    ) -> Entry:
        """Write the first revision of a new epoch; after a loss, one above the revision that is remembered.

        ``over``: what Redis has instead of it, if anything; the new revision is above that, too.

        Raises:
            AlreadyInitialisedError: there is a policy, or another one than ``over``.
        """
        body = dump(document)
        entry = Entry(
            epoch=secrets.token_hex(8),
            rev=max(restored.rev if restored else 0, over.top if over else 0) + 1,
            at=datetime.now(UTC).isoformat(timespec="milliseconds"),
            actor=actor,
            action=action,
            subject=document.gateway,
            order=None,
            doc=digest(body),
            callers="all",
            prev=restored.hash if restored else GENESIS,
        )
        keys = self.keys
        script, seen = (self._init, ()) if over is None else (self._replace, (over.epoch, over.rev, over.hash))
        (status,) = await script(
            keys=[keys.cur, keys.log, keys.docs, keys.doc(entry.doc), *edit.records],
            args=[
                *seen,
                *(entry.epoch, entry.rev, entry.hash, entry.sealed(self.signer), entry.doc),
                self.signer.seal("document", entry.doc, body),
                *edit.records.values(),
            ],
        )
        if status != b"DONE":
            raise AlreadyInitialisedError
        return entry

    async def members(self) -> dict[str, dict[str, Any]]:
        """Every replica that Redis lists, with what it last said; those that left too."""
        stored: dict[bytes, bytes] = await self.redis.hgetall(self.keys.replicas)
        return {member.decode(): read_said(value) for member, value in stored.items()}

    def gone(self, listed: Mapping[str, Mapping[str, Any]]) -> frozenset[str]:
        """Who of those that are listed left, and somebody vouches for it."""
        return frozenset(name for name, said in listed.items() if said.get("left") and self.voucher.vouches(name, said))


def read_said(value: str | bytes) -> dict[str, Any]:
    """What Redis lists of a member; nothing, where somebody wrote something else there."""
    try:
        said = orjson.loads(value)
    except orjson.JSONDecodeError:
        return {}
    return said if isinstance(said, dict) else {}


def _listed(flat: list[str] | dict[str, Any]) -> dict[str, dict[str, Any]]:
    """``HGETALL`` as a script sees it: a flat list, or, when empty, what Lua makes of an empty table."""
    if not isinstance(flat, list):
        return {}
    return {member: read_said(value) for member, value in zip(flat[::2], flat[1::2], strict=True)}
