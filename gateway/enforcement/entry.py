"""One revision as it stands in the log: who did what, and the chain that makes it evidence."""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Literal

import orjson

from gateway.enforcement.signing import ForgedError, Signer, Verifier
from gateway.policy.document import canonical

GENESIS = "0" * 64
"""``prev`` of the first revision of an epoch that remembers nothing."""

RESEAL = "reseal"
"""The action of a revision that changes nothing but by which key things are signed."""


@dataclass(frozen=True, slots=True)
class Position:
    """A revision and the hash of the entry that made it."""

    epoch: str
    rev: int
    hash: str


@dataclass(frozen=True, slots=True)
class Entry:
    """A revision. ``doc`` is the SHA-256 of the document in force from it on; ``callers`` whom to look up anew."""

    epoch: str
    rev: int
    at: str
    actor: str
    action: str
    subject: str
    order: str | None
    doc: str
    callers: tuple[str, ...] | Literal["all"]
    prev: str

    @property
    def hash(self) -> str:
        """SHA-256 of the canonical entry; the next one's ``prev``."""
        return sha256(canonical(self._fields())).hexdigest()

    @property
    def position(self) -> Position:
        """Where a replica stands that has applied this."""
        return Position(self.epoch, self.rev, self.hash)

    def _fields(self) -> dict[str, Any]:
        return {
            "epoch": self.epoch,
            "rev": self.rev,
            "at": self.at,
            "actor": self.actor,
            "action": self.action,
            "subject": self.subject,
            "order": self.order,
            "doc": self.doc,
            "callers": self.callers if self.callers == "all" else list(self.callers),
            "prev": self.prev,
        }

    def sealed(self, signer: Signer) -> bytes:
        """The entry as it is stored: fields, hash and signature."""
        digest = self.hash
        return canonical(
            self._fields() | {"hash": digest, "kid": signer.kid, "sig": signer.sign("revision", digest, b"")}
        )


def read_position(cur: Mapping[bytes, bytes]) -> Position:
    """Where Redis stands, as ``cur`` says it.

    Raises:
        ForgedError: somebody else wrote there.
    """
    try:
        return Position(cur[b"epoch"].decode(), int(cur[b"rev"]), cur[b"hash"].decode())
    except (KeyError, ValueError) as error:
        raise ForgedError(f"cur is unreadable: {error!r}") from None


def read_entry(data: bytes, verifier: Verifier) -> Entry:
    """An entry as it was stored, verified.

    Raises:
        ForgedError: hash or signature does not fit, or it is no entry at all.
    """
    entry, kid, signature = _read(data)
    verifier.verify("revision", entry.hash, b"", kid, signature)
    return entry


def hash_of(data: bytes) -> str:
    """The hash of an entry as it was stored: which revision it is, whoever signed it.

    Raises:
        ForgedError: it does not fit, or it is no entry at all.
    """
    return _read(data)[0].hash


def _read(data: bytes) -> tuple[Entry, str, str]:
    try:
        fields = orjson.loads(data)
        claimed, kid, signature = str(fields.pop("hash")), str(fields.pop("kid")), str(fields.pop("sig"))
        if fields["callers"] != "all":
            fields["callers"] = tuple(fields["callers"])
        entry = Entry(**fields)
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ForgedError(f"log entry unreadable: {error}") from None
    if entry.hash != claimed:
        raise ForgedError(f"revision {entry.rev}: the hash does not fit")
    return entry, kid, signature
