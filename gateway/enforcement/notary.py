"""The notary: puts what was decided and what happened into the chain of evidence, once each, in one order.

Whoever has something to tell leaves it, sealed, where it waits (``witness``; receipts and drills do the same in their
own scripts), so that neither a commit nor a receipt ever waits for the chain or conflicts over it. Any control process
may be the notary: each composes the next entries, and the script takes them only from whoever saw the chain as it is.

A revision is told by the log's own line, with what its commit left beside it (``gateway.enforcement.details``).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import orjson
import structlog

from gateway.enforcement import scripts
from gateway.enforcement.chain import GENESIS, Place, linked
from gateway.enforcement.details import read_detail
from gateway.enforcement.entry import Entry, read_entry
from gateway.enforcement.signing import ForgedError
from gateway.enforcement.store import Store
from gateway.policy.document import Document, canonical
from gateway.policy.orders import differences

AT_ONCE = 100
"""Entries that one script writes: it takes Redis a millisecond."""

_BEGINNINGS = ("init", "restore")
_WITNESS = "witness"
_SEALED_AS: dict[str, tuple[str, str]] = {
    "receipt": ("receipt", "revision"),
    "drill": ("drill", "drill"),
    "change": ("proposed", "id"),
}
"""What is sealed under a purpose of its own: that purpose, and which field of the body its name is."""

_log = structlog.get_logger("portcullis.notary")


async def witness(store: Store, kind: str, said: dict[str, Any], orders: Sequence[str] = ()) -> None:
    """Leave something for the chain. ``kind`` is a word; ``orders``: which ones it is about.

    Raises:
        RedisError, OSError: it may not have been taken.
    """
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    body = canonical({**said, "at": now, "orders": sorted(set(orders))})
    sealed = store.signer.seal(_WITNESS, kind, body)
    await store.redis.xadd(store.keys.evidence, {"kind": kind, "sealed": sealed})


@dataclass(frozen=True, slots=True)
class ChainHead:
    """Where the chain ends in Redis, as it is written there, and the last revision that it tells."""

    seq: str = ""
    hash: str = ""
    epoch: str = ""
    rev: int = 0

    @property
    def place(self) -> Place:
        """The last entry."""
        return Place(int(self.seq or 0), self.hash or GENESIS)


@dataclass(frozen=True, slots=True)
class _Told:
    """Something to put into the chain. ``rev``: it is the revision of this number; ``raw``: where it waited."""

    kind: str
    body: Any
    orders: tuple[str, ...] = ()
    rev: int | None = None
    raw: str = ""


class Notary:
    """One of these belongs to each control process. ``remembered``: the last entry that this machine's mirror has."""

    def __init__(self, store: Store, remembered: Callable[[], Place | None], keep: int) -> None:
        self._store = store
        self._remembered = remembered
        self._keep = keep
        self._script = store.redis.register_script(scripts.CHAIN)

    async def head(self) -> ChainHead:
        """Where the chain ends.

        Raises:
            ForgedError: somebody else wrote there.
        """
        said: dict[bytes, bytes] = await self._store.redis.hgetall(self._store.keys.chain_head)
        try:
            named = {name.decode(): value.decode() for name, value in said.items()}
            return ChainHead(
                named.get("seq", ""), named.get("hash", ""), named.get("epoch", ""), int(named.get("rev", 0))
            )
        except ValueError:
            raise ForgedError("chain-head is unreadable") from None

    async def turn(self) -> list[tuple[int, tuple[str, ...]]]:
        """Put what waits into the chain, but what another notary was faster with; the revisions told, and their orders.

        Raises:
            RedisError, OSError, ForgedError: not now.
        """
        revisions: list[tuple[int, tuple[str, ...]]] = []
        while True:
            seen = await self.head()
            told = await self._waiting(seen)
            if not told or not await self._write(seen, told):
                return revisions
            revisions += [(each.rev, each.orders) for each in told if each.rev is not None]

    def _last(self, seen: ChainHead) -> Place:
        """The entry to follow: what Redis has, or what is remembered where it lost that."""
        known = self._remembered()
        if known is None or known.seq <= seen.place.seq:
            return seen.place
        _log.error("evidence_lost", redis_has=seen.place.seq, mirror_has=known.seq)
        return known

    async def _write(self, seen: ChainHead, told: Sequence[_Told]) -> bool:
        store, last = self._store, self._last(seen)
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        arguments: list[Any] = []
        rev, epoch = seen.rev, seen.epoch
        for each in told:
            last, line = linked(store.signer, last, each.kind, now, each.orders, each.body)
            told_rev = "" if each.rev is None else each.rev
            arguments += [last.seq, line, told_rev, each.raw, len(each.orders), *each.orders]
            if each.rev is not None:
                rev, epoch = each.rev, _epoch(each.body) or epoch
        keys = store.keys
        (status, *_) = await self._script(
            keys=[keys.chain, keys.chain_head, keys.chain_orders, keys.evidence],
            args=[
                *(keys.chain_of(""), seen.seq, seen.hash, last.seq, last.hash, epoch, rev, self._keep),
                *arguments,
            ],
        )
        if status == b"DONE":
            told_revs = [keys.detail(each.rev) for each in told if each.rev is not None]
            if told_revs:
                await store.redis.delete(*told_revs)
        return bool(status == b"DONE")

    # ------------------------------------------------------------------ what waits

    async def _waiting(self, seen: ChainHead) -> list[_Told]:
        """Revisions first: a receipt is about one that is told already."""
        store = self._store
        async with store.redis.pipeline(transaction=False) as pipe:
            pipe.xrange(store.keys.log, min=f"{seen.rev + 1}-0", max="+", count=AT_ONCE)
            pipe.xrange(store.keys.evidence, count=AT_ONCE)
            log, evidence = await pipe.execute()
        if log:
            return await self._revisions(log)
        return [await self._left(raw.decode(), fields) for raw, fields in evidence]

    async def _revisions(self, log: Sequence[tuple[bytes, dict[bytes, bytes]]]) -> list[_Told]:
        keys = self._store.keys
        revs = [int(name.partition(b"-")[0]) for name, _ in log]
        details = await self._store.redis.mget([keys.detail(rev) for rev in revs])
        return [
            await self._revision(rev, fields.get(b"entry", b""), sealed)
            for rev, (_, fields), sealed in zip(revs, log, details, strict=True)
        ]

    async def _revision(self, rev: int, line: bytes, sealed: bytes | None) -> _Told:
        try:
            entry = read_entry(line, self._store.signer)
        except ForgedError as error:
            return _Told("unverified", _unverified("revision", line, error), rev=rev)
        found = read_detail(self._store.signer, entry.hash, sealed)
        if not found and entry.action in _BEGINNINGS:
            found = await self._beginning(entry)
        orders = tuple(found.get("orders", ())) or ((entry.order,) if entry.order else ())
        return _Told("revision", {**found, "entry": orjson.loads(line)}, orders, rev)

    async def _beginning(self, entry: Entry) -> dict[str, Any]:
        """What a first revision, or a restored one, brought: nobody told what was before."""
        try:
            document, _ = await self._store.records.document(entry.doc)
        except (ForgedError, ValueError):
            return {}
        bare = Document(gateway=document.gateway, models=document.models)
        return {"changes": differences(bare, document), "orders": sorted(document.orders), "records": {}}

    async def _left(self, raw: str, fields: dict[bytes, bytes]) -> _Told:
        kind, sealed = fields.get(b"kind", b"").decode("utf-8", "replace"), fields.get(b"sealed", b"")
        try:
            body = self._unsealed(kind, sealed)
        except ForgedError as error:
            return _Told("unverified", _unverified(kind, sealed, error), raw=raw)
        if kind == "receipt":
            named = await self._store.redis.hget(self._store.keys.chain_orders, str(body["revision"]))
            return _Told(kind, body, tuple(orjson.loads(named)) if named else (), raw=raw)
        return _Told(kind, body, tuple(body.get("orders", ())), raw=raw)

    def _unsealed(self, kind: str, sealed: bytes) -> dict[str, Any]:
        purpose, field = _SEALED_AS.get(kind, (_WITNESS, ""))
        _, _, body = sealed.partition(b"\n")
        try:
            said: dict[str, Any] = orjson.loads(body)
            name = str(said[field]) if field else kind
        except (ValueError, KeyError, TypeError):
            raise ForgedError(f"{kind}: unreadable") from None
        self._store.signer.unseal(purpose, name, sealed)
        return said


def _epoch(body: Any) -> str | None:
    entry = body.get("entry") if isinstance(body, dict) else None
    return entry["epoch"] if isinstance(entry, dict) else None


def _unverified(what: str, data: bytes, error: ForgedError) -> dict[str, Any]:
    """Something was there that is none of ours, or no longer to be verified: that much is told of it."""
    _log.critical("evidence_unverified", what=what, error=str(error))
    return {"what": what, "sha256": sha256(data).hexdigest(), "error": str(error)}
