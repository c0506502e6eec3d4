"""The control side of Redis: reads the current policy, commits revisions."""

import asyncio
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

import orjson

from gateway.enforcement import lease, scripts
from gateway.enforcement.compiling import beside, compiled, outlived
from gateway.enforcement.connection import Client
from gateway.enforcement.entry import GENESIS, Entry, Position, read_entry, read_position
from gateway.enforcement.keys import Keys
from gateway.enforcement.records import Records
from gateway.enforcement.signing import ForgedError, Signer
from gateway.identity.keys import fingerprint
from gateway.identity.records import CallerRecord, OperatorRecord
from gateway.identity.records import dump as dump_record
from gateway.policy.document import Document, digest, dump
from gateway.policy.snapshot import Snapshot


class ConflictError(Exception):
    """Somebody else committed in between; compose anew from the current revision."""


class NotInitialisedError(Exception):
    """There is no policy in Redis yet, or any more; ``portcullis init`` writes the first or restores the last."""


class AlreadyInitialisedError(Exception):
    """Redis holds a policy; ``init`` never overwrites one."""


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
class Edit:
    """What a commit changes beside the document: records by Redis key (empty deletes), and whom replicas forget."""

    records: dict[str, bytes] = field(default_factory=dict)
    callers: tuple[str, ...] = ()

    def __or__(self, other: "Edit") -> "Edit":
        """Both."""
        return Edit(self.records | other.records, (*self.callers, *other.callers))


@dataclass(frozen=True, slots=True)
class Committed:
    """A revision that is in the log. ``at`` is the lease clock after the reply; ``members`` who had to know.

    ``left``: who was listed, and need not know.
    """

    entry: Entry
    current: Current
    previous: Current
    members: Mapping[str, Mapping[str, Any]]
    replid: str
    at: float
    repeated: bool = False
    left: frozenset[str] = frozenset()


class Store:
    """Redis, as the control plane sees it. Nothing else writes policy."""

    def __init__(self, redis: Client, keys: Keys, signer: Signer) -> None:
        self.redis = redis
        self.keys = keys
        self.signer = signer
        self.voucher = signer.voucher()
        self.records = Records(redis, keys, signer)
        self._commit = redis.register_script(scripts.COMMIT)
        self._init = redis.register_script(scripts.INIT)
        self._cached: Current | None = None
        self._reading = asyncio.Lock()

    async def current(self) -> Current:
        """The policy in force, read and verified.

        Raises:
            NotInitialisedError: Redis is empty.
            ForgedError: what it holds is not ours.
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

    def _known(self, position: Position) -> Current | None:
        known = self._cached
        return known if known is not None and known.position == position and not outlived(known.snapshot) else None

    async def _read(self, position: Position) -> Current:
        entry = await self._entry_of(position)
        known = self._cached
        if known is not None and known.doc == entry.doc:
            current = await self._renumbered(known, entry)
        else:
            document, _ = await self.records.document(entry.doc)
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
    ) -> Committed:
        """Commit a change composed from ``base``. Without a document, the one in force stays.

        Raises:
            ConflictError: ``base`` is no longer current.
        """
        edit = edit or Edit()
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
        keys = self.keys
        status, answer, *_ = await self._commit(
            keys=[
                *(keys.cur, keys.log, keys.docs, keys.doc(entry.doc), keys.ops, keys.ops_order, keys.replicas),
                *edit.records,
            ],
            args=[
                *(base.position.epoch, base.rev, base.position.hash, op_id or secrets.token_hex(16)),
                *(entry.rev, entry.hash, entry.sealed(self.signer), entry.doc, sealed),
                *edit.records.values(),
            ],
        )
        at = lease.now()
        if status == b"CONFLICT":
            raise ConflictError
        if status == b"NODOC":
            raise ForgedError(f"document {entry.doc[:12]}… is not there")
        return await self._committed(entry, document, base, orjson.loads(answer), at, repeated=status == b"KNOWN")

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
            current = await self.current()
            return Committed(known or entry, current, base, members, answer["replid"], at, True, left)
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
    ) -> Entry:
        """Write the first revision of a new epoch; after a loss, one above the revision that is remembered.

        Raises:
            AlreadyInitialisedError: there is a policy.
        """
        body = dump(document)
        entry = Entry(
            epoch=secrets.token_hex(8),
            rev=restored.rev + 1 if restored else 1,
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
        (status,) = await self._init(
            keys=[keys.cur, keys.log, keys.docs, keys.doc(entry.doc), *edit.records],
            args=[
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

    # ------------------------------------------------------------------ records

    def put_caller(self, record: CallerRecord, previous: CallerRecord | None) -> Edit:
        """Store a caller, its keys' pointers, and drop the pointers of keys it no longer has."""
        records = {self._record("caller", record.id): self.signer.seal("caller", record.id, dump_record(record))}
        gone = {key.sha256 for key in previous.keys.values()} if previous else set()
        for key in record.keys.values():
            records[self._record("key", key.sha256)] = record.id.encode()
            gone.discard(key.sha256)
        return Edit(records | {self._record("key", old): b"" for old in gone}, (record.id,))

    def drop_caller(self, record: CallerRecord) -> Edit:
        """Remove a caller and its keys."""
        keys = {self._record("key", key.sha256): b"" for key in record.keys.values()}
        return Edit({self._record("caller", record.id): b""} | keys, (record.id,))

    def put_operator(self, record: OperatorRecord, previous: OperatorRecord | None) -> Edit:
        """Store an operator and its token's pointer."""
        records = {
            self._record("operator", record.id): self.signer.seal("operator", record.id, dump_record(record)),
            self._record("token", record.token_sha256): record.id.encode(),
        }
        if previous is not None and previous.token_sha256 != record.token_sha256:
            records[self._record("token", previous.token_sha256)] = b""
        return Edit(records)

    def drop_operator(self, record: OperatorRecord) -> Edit:
        """Remove an operator and its token."""
        return Edit({self._record("operator", record.id): b"", self._record("token", record.token_sha256): b""})

    async def operator_by_token(self, token: str) -> OperatorRecord | None:
        """The operator that a bearer token is of."""
        return await self.records.operator_by_token(fingerprint(token))

    def _record(self, kind: str, name: str) -> str:
        return self.keys.record(kind, name)


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
