"""The chain of evidence: what an entry is, how the next one holds it, and what a signed head says. Pure.

An entry is a line of JSON. Its *envelope* is everything but the body, and names the body by its digest; the next
entry's ``prev`` is the SHA-256 of the envelope, signature included. So the body of an entry can be left out (it is an
order's that the reader has no business with), and the chain still holds; the envelope says, by a tag, which orders an
entry is about, so that it can be seen that none of one's own was left out.

A *head* says where the chain ended at a time. Whoever holds one knows that nothing before it was changed or cut off.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from gateway.enforcement.signing import ForgedError, Signer, Verifier
from gateway.policy.document import canonical

GENESIS = "0" * 64
"""``prev`` of the first entry there ever was."""

VERSION = 1
_ENVELOPE = ("at", "content", "kid", "kind", "prev", "seq", "sig", "tags", "v")
_UNSIGNED = ("kid", "sig")


@dataclass(frozen=True, slots=True)
class Place:
    """An entry's number, counted from 1, and its hash; (0, ``GENESIS``) is before the first."""

    seq: int = 0
    hash: str = GENESIS


@dataclass(frozen=True, slots=True)
class Link:
    """An entry as it was read. ``body`` is ``None`` where it was left out."""

    place: Place
    prev: str
    at: str
    kind: str
    tags: tuple[str, ...]
    kid: str
    sig: str
    core: str
    body: dict[str, Any] | None


def digest_of(value: Any) -> str:
    """SHA-256 of a value's canonical JSON."""
    return sha256(canonical(value)).hexdigest()


def tag_of(order: str) -> str:
    """What an envelope says of an order: whoever knows its id recognises it."""
    return sha256(b"order\0" + order.encode()).hexdigest()[:32]


def linked(signer: Signer, last: Place, kind: str, at: str, orders: Iterable[str], body: Any) -> tuple[Place, bytes]:
    """The next entry: where it is, and its line."""
    core = {
        "v": VERSION,
        "seq": last.seq + 1,
        "prev": last.hash,
        "at": at,
        "kind": kind,
        "tags": sorted(map(tag_of, orders)),
        "content": digest_of(body),
    }
    envelope = {**core, "kid": signer.kid, "sig": signer.sign("evidence", digest_of(core), b"")}
    return Place(last.seq + 1, digest_of(envelope)), canonical({**envelope, "body": body})


def read_link(line: bytes) -> Link:
    """An entry from its line, as it says of itself: neither its signature nor its place is looked at.

    Raises:
        ForgedError: it is no entry, or not spelled as entries are, or the body is another.
    """
    said = read_canonical(line, "an entry")
    if {*said} - {"body"} != {*_ENVELOPE} or said["v"] != VERSION or not isinstance(said["seq"], int):
        raise ForgedError("an entry has other fields than entries have")
    envelope = {name: said[name] for name in _ENVELOPE}
    if "body" in said and digest_of(said["body"]) != said["content"]:
        raise ForgedError(f"entry {said['seq']}: the body is another than its digest says")
    core = {name: value for name, value in envelope.items() if name not in _UNSIGNED}
    return Link(
        place=Place(said["seq"], digest_of(envelope)),
        prev=said["prev"],
        at=said["at"],
        kind=said["kind"],
        tags=tuple(said["tags"]),
        kid=said["kid"],
        sig=said["sig"],
        core=digest_of(core),
        body=said.get("body"),
    )


def read_canonical(line: bytes, what: str) -> dict[str, Any]:
    """A JSON object that is spelled canonically: there is one spelling, so that no bit of it is free.

    Raises:
        ForgedError: it is not.
    """
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        raise ForgedError(f"{what} is no JSON") from None
    if not isinstance(said, dict) or canonical(said) != line:
        raise ForgedError(f"{what} is not spelled canonically")
    return said


def without_body(line: bytes) -> bytes:
    """An entry with its body left out."""
    said = json.loads(line)
    said.pop("body", None)
    return canonical(said)


# ------------------------------------------------------------------------------------------------ walking


class Walk:
    """Follows a chain entry by entry, in flat memory.

    ``last``: the entry before the first that comes; not given, the first one's ``prev`` is believed, and ``begins``
    says where that was.
    """

    def __init__(self, verifier: Verifier | None, last: Place | None = None) -> None:
        self._verifier = verifier
        self.last = last
        self.begins: Place | None = last

    def step(self, line: bytes) -> Link:
        """Take the next line.

        Raises:
            ForgedError: it does not follow from the one before, or is none of ours.
        """
        link = read_link(line)
        if self.last is None:
            self.begins = self.last = Place(link.place.seq - 1, link.prev)
        if link.place.seq != self.last.seq + 1:
            raise ForgedError(f"entry {link.place.seq} follows entry {self.last.seq}")
        if link.prev != self.last.hash:
            raise ForgedError(f"entry {link.place.seq} does not hold entry {self.last.seq}: one of them was changed")
        if self._verifier is not None:
            self._verifier.verify("evidence", link.core, b"", link.kid, link.sig)
        self.last = link.place
        return link

    def steps(self, lines: Iterable[bytes]) -> Iterator[Link]:
        """Take many.

        Raises:
            ForgedError: as ``step``.
        """
        return map(self.step, lines)


# ------------------------------------------------------------------------------------------------ heads


@dataclass(frozen=True, slots=True)
class Head:
    """Where the chain ended at a time, said and signed by a control process (``by``) of a gateway."""

    gateway: str
    at: str
    place: Place
    by: str
    kid: str = ""
    sig: str = ""

    @property
    def digest(self) -> str:
        """What is signed, and what a timestamp is of."""
        return digest_of(self._fields())

    def _fields(self) -> dict[str, Any]:
        return {
            "v": VERSION,
            "gateway": self.gateway,
            "at": self.at,
            "seq": self.place.seq,
            "hash": self.place.hash,
            "by": self.by,
        }

    def view(self) -> dict[str, Any]:
        """As it is kept and sent."""
        return {**self._fields(), "digest": self.digest, "kid": self.kid, "sig": self.sig}


def signed_head(signer: Signer, gateway: str, at: str, place: Place, by: str) -> Head:
    """Say where the chain ends."""
    bare = Head(gateway, at, place, by)
    return Head(gateway, at, place, by, signer.kid, signer.sign("head", bare.digest, b""))


def read_head(said: Mapping[str, Any], verifier: Verifier) -> Head:
    """A head as it was kept.

    Raises:
        ForgedError: it is no head, or none of ours.
    """
    try:
        place = Place(int(said["seq"]), str(said["hash"]))
        head = Head(said["gateway"], said["at"], place, said["by"], said["kid"], said["sig"])
    except (KeyError, TypeError, ValueError) as error:
        raise ForgedError(f"no head: {error!r}") from None
    if dict(said) != head.view():
        raise ForgedError(f"the head of entry {place.seq} says something else than was signed")
    verifier.verify("head", head.digest, b"", head.kid, head.sig)
    return head
