"""Sealed records in Redis, read and verified: callers, operators, documents."""

import asyncio
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

from gateway.enforcement.compiling import beside
from gateway.enforcement.connection import Client
from gateway.enforcement.keys import Keys
from gateway.enforcement.signing import ForgedError, Verifier
from gateway.identity.records import CallerRecord, OperatorRecord
from gateway.policy.document import Document, digest, load
from gateway.policy.salvage import salvage


class Readable(NamedTuple):
    """A policy as a replica can read it, and the paths of what it cannot: there it denies."""

    document: Document
    unread: tuple[str, ...] = ()


class Records:
    """Reads what the control plane signed. A record that does not verify is as good as none, and is reported."""

    def __init__(self, redis: Client, keys: Keys, verifier: Verifier) -> None:
        self._redis = redis
        self._keys = keys
        self._verifier = verifier

    async def _get(self, key: str) -> bytes | None:
        value: bytes | None = await self._redis.get(key)
        return value

    async def caller(self, caller_id: str) -> CallerRecord | None:
        """A caller by id.

        Raises:
            ForgedError: the record is not one of ours.
        """
        sealed = await self._get(self._keys.record("caller", caller_id))
        return None if sealed is None else self._open_caller(caller_id, sealed)

    async def caller_by_key(self, fingerprint: str) -> CallerRecord | None:
        """The caller that holds a key. The pointer is not signed; that the caller's record lists the key is.

        Raises:
            ForgedError: the record is not one of ours, or the pointer leads to somebody who does not have the key.
        """
        pointer = self._keys.record("key", fingerprint)
        caller_id = await self._get(pointer)
        if caller_id is None:
            return None
        record = await self.caller(caller_id.decode("utf-8", "replace"))
        if record is None or record.holds(fingerprint):
            return record
        if await self._get(pointer) == caller_id:  # both go in one script: they differ while that runs, and no longer
            raise ForgedError(f"a key that leads to {caller_id!r}, who does not have it")
        return None

    async def operator(self, operator_id: str) -> OperatorRecord | None:
        """An operator by id.

        Raises:
            ForgedError: the record is not one of ours.
        """
        sealed = await self._get(self._keys.record("operator", operator_id))
        if sealed is None:
            return None
        return self.open_operator(operator_id, sealed)

    def open_operator(self, operator_id: str, sealed: bytes) -> OperatorRecord:
        """An operator from the sealed form.

        Raises:
            ForgedError: the record is not one of ours.
            ValueError: it is ours and does not fit the schema.
        """
        return OperatorRecord.model_validate_json(self._verifier.unseal("operator", operator_id, sealed))

    async def sealed_operators(self, limit: int) -> dict[str, bytes]:
        """So many operators' records, as they are sealed."""
        names = await self.page("operator", limit=limit)
        if not names:
            return {}
        found = await self._redis.mget([self._keys.record("operator", name) for name in names])
        return {name: sealed for name, sealed in zip(names, found, strict=True) if sealed is not None}

    async def operator_by_token(self, fingerprint: str) -> OperatorRecord | None:
        """The operator whose token this is."""
        operator_id = await self._get(self._keys.record("token", fingerprint))
        if operator_id is None:
            return None
        record = await self.operator(operator_id.decode("utf-8", "replace"))
        return record if record is not None and record.token_sha256 == fingerprint else None

    async def names(self, kind: str) -> list[str]:
        """The ids of all records of a kind, sorted."""
        prefix = self._keys.record(kind, "")
        keys = self._redis.scan_iter(match=_glob(prefix), count=1000)
        return sorted({key.decode().removeprefix(prefix) async for key in keys})

    async def page(self, kind: str, after: str = "", limit: int = -1) -> list[str]:
        """The ids of callers or operators that sort after one; so many at most, or all (-1)."""
        begin = f"({after}" if after else "-"
        found = await self._redis.zrange(self._keys.names(kind), begin, "+", bylex=True, offset=0, num=limit)
        return [name.decode() for name in found]

    async def count(self, kind: str) -> int:
        """How many callers or operators there are."""
        number: int = await self._redis.zcard(self._keys.names(kind))
        return number

    async def callers(self, names: Sequence[str]) -> list[CallerRecord | None]:
        """Callers by their ids, read at once and verified beside the loop; ``None`` where there is none.

        Raises:
            ForgedError: a record is not one of ours.
        """
        if not names:
            return []
        sealed = await self._redis.mget([self._keys.record("caller", name) for name in names])
        if not any(sealed):
            return [None] * len(names)
        return await asyncio.to_thread(self._opened, names, sealed)

    async def caller_bodies(self, names: Sequence[str]) -> Iterator[bytes]:
        """The records of those callers that are there, as JSON, verified one by one as they are taken: off the loop.

        Raises:
            ForgedError: a record is not one of ours.
        """
        sealed = await self._redis.mget([self._keys.record("caller", name) for name in names])
        pairs = zip(names, sealed, strict=True)
        return (self._verifier.unseal("caller", name, data) for name, data in pairs if data is not None)

    def _opened(self, names: Sequence[str], sealed: Sequence[bytes | None]) -> list[CallerRecord | None]:
        pairs = zip(names, sealed, strict=True)
        return [None if data is None else self._open_caller(name, data) for name, data in pairs]

    def _open_caller(self, caller_id: str, sealed: bytes) -> CallerRecord:
        record = CallerRecord.model_validate_json(self._verifier.unseal("caller", caller_id, sealed))
        if record.id != caller_id:
            raise ForgedError(f"caller {caller_id}: the record is another's")
        return record

    async def document(self, sha256: str) -> tuple[Document, bytes]:
        """A policy document by its digest, and its sealed form.

        Raises:
            ForgedError: it is not there, not ours, or not what its name says.
            ValueError: it is ours and does not fit the schema.
        """
        sealed = await self._sealed_document(sha256)
        return await beside(sealed, open_document, sha256, sealed, self._verifier), sealed

    async def verify_document(self, sha256: str) -> None:
        """Make sure that a document is there as it was signed.

        Raises:
            ForgedError: it is not.
        """
        sealed = await self._sealed_document(sha256)
        await beside(sealed, unsealed_document, sha256, sealed, self._verifier)

    async def _sealed_document(self, sha256: str) -> bytes:
        sealed = await self._get(self._keys.doc(sha256))
        if sealed is None:
            raise ForgedError(f"document {sha256[:12]}… is not there")
        return sealed

    async def read(self, sha256: str, at: str) -> tuple[Readable, bytes]:
        """A policy document as far as this gateway can read it, and its sealed form. ``at``: when it was committed.

        Raises:
            ForgedError: it is not there, not ours, or not what its name says.
            ValueError: it cannot be known what it denies.
        """
        try:
            document, sealed = await self.document(sha256)
        except ValueError:
            sealed = await self._get(self._keys.doc(sha256)) or b""
            return await asyncio.to_thread(read_document, sha256, sealed, self._verifier, at), sealed
        return Readable(document), sealed


def read_document(sha256: str, sealed: bytes, verifier: Verifier, at: str) -> Readable:
    """A document from its sealed form, as far as it can be read.

    Raises:
        ForgedError: it is not ours, or not what its name says.
        ValueError: it cannot be known what it denies.
    """
    try:
        return Readable(open_document(sha256, sealed, verifier))
    except ValueError:
        body = verifier.unseal("document", sha256, sealed)
        return Readable(*salvage(body, datetime.fromisoformat(at)))


def open_document(sha256: str, sealed: bytes, verifier: Verifier) -> Document:
    """A document from its sealed form.

    Raises:
        ForgedError: it is not ours, or not what its name says.
        ValueError: it is ours and does not fit the schema.
    """
    return load(unsealed_document(sha256, sealed, verifier))


def unsealed_document(sha256: str, sealed: bytes, verifier: Verifier) -> bytes:
    """A document's text from its sealed form.

    Raises:
        ForgedError: it is not ours, or not what its name says.
    """
    body = verifier.unseal("document", sha256, sealed)
    if digest(body) != sha256:
        raise ForgedError(f"document {sha256[:12]}…: the content is another's")
    return body


def _glob(prefix: str) -> str:
    return "".join(f"[{letter}]" if letter in "{}*?[]" else letter for letter in prefix) + "*"
