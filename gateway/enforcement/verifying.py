"""Whether a copy of the evidence is what was written, and all of it: entry by entry, in flat memory.

This is one of two verifiers. The other one (``gateway/control/verify_archive.py``) goes with every archive and shares
no line with it.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from gateway.enforcement.chain import Head, Link, Place, Walk, read_canonical, read_head, tag_of
from gateway.enforcement.entry import read_entry
from gateway.enforcement.signing import ForgedError, Verifier
from gateway.policy.document import canonical

PROGRESS_EVERY = 10_000
"""Entries between two words of progress."""

Progress = Callable[[int], None]


@dataclass(slots=True)
class Verified:
    """What was found. ``head``: the newest that was checked; ``faults``: everything that does not fit, in words."""

    begins: Place | None = None
    ends: Place | None = None
    entries: int = 0
    left_out: int = 0
    revisions: int = 0
    receipts: int = 0
    heads: int = 0
    head: Head | None = None
    faults: list[str] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong with it."""
        return not self.faults and self.entries > 0

    def view(self) -> dict[str, Any]:
        """As it is told."""
        return {
            "sound": self.sound,
            "begins_after": None if self.begins is None else self.begins.seq,
            "ends": None if self.ends is None else {"seq": self.ends.seq, "hash": self.ends.hash},
            "entries": self.entries,
            "left_out": self.left_out,
            "revisions": self.revisions,
            "receipts": self.receipts,
            "heads": self.heads,
            "head": None if self.head is None else self.head.view(),
            "faults": self.faults,
        }


def verify(
    lines: Iterable[bytes],
    heads: Iterable[bytes],
    verifier: Verifier,
    *,
    held: Sequence[bytes] = (),
    order: str | None = None,
    progress: Progress = lambda _: None,
) -> Verified:
    """Walk a chain, and look whether it is what the heads say.

    ``heads``: lines in the order of their entries, as they were signed. ``held``: heads that somebody else kept: the
    chain must reach each of them. ``order``: bodies may be left out, but not of an entry about this order.
    """
    found = Verified()
    try:
        check = _Heads(found, verifier, heads, held)
        for link in _walked(found, lines, verifier, check):
            _count(found, link, order)
            if found.entries % PROGRESS_EVERY == 0:
                progress(found.entries)
        check.finish()
    except ForgedError as error:
        found.faults.append(str(error))
    except (KeyError, TypeError, AttributeError) as error:
        found.faults.append(f"what follows entry {found.ends and found.ends.seq} is unreadable: {error!r}")
    if not found.entries:
        found.faults.append("there is no entry")
    return found


def _walked(found: Verified, lines: Iterable[bytes], verifier: Verifier, check: "_Heads") -> Iterator[Link]:
    walk, log = Walk(verifier), _Log(verifier)
    for line in lines:
        link = walk.step(line)
        found.begins, found.ends = walk.begins, walk.last
        check.passed(link.place)
        log.look(link)
        yield link


def _count(found: Verified, link: Link, order: str | None) -> None:
    found.entries += 1
    found.revisions += link.kind == "revision"
    found.receipts += link.kind == "receipt"
    if link.body is None:
        found.left_out += 1
        if order is None or tag_of(order) in link.tags:
            raise ForgedError(f"entry {link.place.seq} is left out, and ought to be here")


class _Log:
    """The revisions in a chain are a chain of their own."""

    def __init__(self, verifier: Verifier) -> None:
        self._verifier = verifier
        self._last: tuple[int, str] | None = None

    def look(self, link: Link) -> None:
        """Make sure that a revision is one, and follows the one before, where that is here.

        Raises:
            ForgedError: it is not, or does not.
        """
        if link.kind != "revision" or link.body is None:
            return
        entry = read_entry(canonical(link.body["entry"]), self._verifier)
        if self._last is not None and entry.rev == self._last[0] + 1 and entry.prev != self._last[1]:
            raise ForgedError(f"revision {entry.rev} does not follow from revision {self._last[0]}")
        self._last = (entry.rev, entry.hash)


class _Heads:
    """Heads beside the chain: each is compared when its entry comes by."""

    def __init__(self, found: Verified, verifier: Verifier, lines: Iterable[bytes], held: Sequence[bytes]) -> None:
        self._found = found
        self._verifier = verifier
        self._coming = iter(lines)
        self._held = sorted((self._read(line) for line in held), key=lambda head: head.place.seq)
        self._next = self._take()

    def _read(self, line: bytes) -> Head:
        return read_head(read_canonical(line, "a head"), self._verifier)

    def _take(self) -> Head | None:
        line = next(self._coming, None)
        return None if line is None else self._read(line)

    def passed(self, place: Place) -> None:
        """Compare what heads say of this entry."""
        begins = self._found.begins
        while self._next is not None and self._next.place.seq <= place.seq:
            if begins is None or self._next.place.seq > begins.seq:
                self._compare(self._next, place)
            self._next = self._take()
        while self._held and self._held[0].place.seq <= place.seq:
            self._compare(self._held.pop(0), place)

    def _compare(self, head: Head, place: Place) -> None:
        if head.place != place:
            raise ForgedError(
                f"the head of {head.at} says that entry {head.place.seq} was another one, or is out of its order"
            )
        self._found.heads += 1
        self._found.head = head

    def finish(self) -> None:
        """What was not reached was cut off.

        Raises:
            ForgedError: something was.
        """
        beyond = [*self._held, *([self._next] if self._next is not None else [])]
        if beyond:
            ends = 0 if self._found.ends is None else self._found.ends.seq
            raise ForgedError(
                f"the copy ends at entry {ends}, and a head of {beyond[-1].at} knows entry {beyond[-1].place.seq}: "
                "the end was cut off"
            )


def head_lines(data: bytes) -> list[bytes]:
    """Held heads from a file: one JSON object, or one a line.

    Raises:
        ForgedError: it is something else.
    """
    try:
        return [canonical(orjson.loads(line)) for line in data.splitlines() if line.strip()]
    except orjson.JSONDecodeError:
        raise ForgedError("held heads are JSON, one a line") from None
