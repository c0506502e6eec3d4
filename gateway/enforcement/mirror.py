"""The mirror: the chain of evidence as append-only files, verified entry by entry before it is written.

``evidence-000001.jsonl`` and so on hold the chain, a line an entry; ``heads.jsonl`` the heads that were signed over it,
``timestamps.jsonl`` what a timestamp authority said of some. Nothing that is written is ever written again. Where the
chain in Redis does not continue the one on disk, a new file begins and both stay: that is evidence, too.
"""

import asyncio
import contextlib
import fcntl
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import structlog

from gateway.enforcement.chain import Place, Walk, read_link
from gateway.enforcement.connection import Client
from gateway.enforcement.keys import Keys
from gateway.enforcement.signing import Verifier

SEGMENT_BYTES = 64 * 1024 * 1024
AT_ONCE = 500
HEADS, TIMESTAMPS = "heads.jsonl", "timestamps.jsonl"
_SEGMENT = "evidence-{:06d}.jsonl"
_TAIL = 4 * 1024 * 1024
"""Bytes from a file's end in which its last line begins: what the admin API takes is at most a quarter of that."""

_log = structlog.get_logger("portcullis.mirror")


class Mirror:
    """The files of one machine. ``last``: the last entry there."""

    def __init__(self, directory: Path, verifier: Verifier) -> None:
        """Look at what is there.

        Raises:
            OSError: the directory cannot be used.
            ForgedError: its last line is no entry.
        """
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.directory = directory
        self.last: Place | None = None
        self._number = 1
        self._verifier = verifier
        self._lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        self._owned = False
        with contextlib.suppress(BlockingIOError):
            self.own()

    def own(self) -> None:
        """Be the only one who writes here: of two processes with one directory the second waits for the first's end.

        Raises:
            BlockingIOError: somebody else does.
        """
        if self._owned:
            return
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        found = segments(self.directory)
        self._number = _number_of(found[-1]) if found else 1
        self.last = _last_place(found[-1]) if found else None
        self._owned = True

    def close(self) -> None:
        """Let others write here."""
        os.close(self._lock)
        self._owned = False

    async def catch_up(self, redis: Client, keys: Keys) -> set[str]:
        """Write down what Redis has beyond it; of which kinds that was.

        Raises:
            RedisError, OSError: not now.
            ForgedError: what Redis has is none of ours.
        """
        self.own()
        kinds: set[str] = set()
        while True:
            first = 1 if self.last is None else self.last.seq + 1
            found = await redis.xrange(keys.chain, min=f"{first}-0", max="+", count=AT_ONCE)
            if not found:
                return kinds
            kinds |= await asyncio.to_thread(self.append, [fields.get(b"line", b"") for _, fields in found])

    def append(self, lines: list[bytes]) -> set[str]:
        """Verify lines and write them, down to the disk; of which kinds they are. Blocks: not for the event loop.

        Raises:
            OSError: they are not written.
            ForgedError: they are none of ours. Nothing is written then.
        """
        first = read_link(lines[0])
        follows = self.last is None or (first.place.seq, first.prev) == (self.last.seq + 1, self.last.hash)
        walk = Walk(self._verifier, self.last if follows else None)
        links = list(walk.steps(lines))
        if not follows:
            _log.error("mirror_forked", mirror_has=self.last and self.last.seq, redis_goes_on_at=first.place.seq)
            self._number += 1
        self._put(lines)
        self.last = links[-1].place
        return {link.kind for link in links}

    def _put(self, lines: Iterable[bytes]) -> None:
        path = self.directory / _SEGMENT.format(self._number)
        if path.exists() and path.stat().st_size > SEGMENT_BYTES:
            self._number += 1
            path = self.directory / _SEGMENT.format(self._number)
        append(path, b"".join(line + b"\n" for line in lines))

    def prune(self, before: float) -> list[Path]:
        """Remove whole files that were last written before a time (seconds since the epoch), never the newest."""
        gone = [path for path in segments(self.directory)[:-1] if path.stat().st_mtime < before]
        for path in gone:
            path.unlink()
        return gone


def append(path: Path, data: bytes) -> None:
    """Append to a file, down to the disk; readable to its owner only.

    Raises:
        OSError: it is not written whole.
    """
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab", buffering=0) as file:
        before = file.tell()
        try:
            written = file.write(data)
            os.fsync(file.fileno())
        except OSError:
            os.ftruncate(file.fileno(), before)  # half a line would hide the next one
            raise
        if written != len(data):
            os.ftruncate(file.fileno(), before)
            raise OSError(f"{path}: written in part")


# ------------------------------------------------------------------------------------------------ reading


def segments(directory: Path) -> list[Path]:
    """The files that hold the chain, in order."""
    return sorted(directory.glob("evidence-*.jsonl"))


def lines_of(path: Path) -> Iterator[bytes]:
    """A file's lines, one after the other, in flat memory. An unfinished last line is what a crash left: none."""
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield line[:-1]


def lines(directory: Path, first: int = 0) -> Iterator[bytes]:
    """All entries, from a number on; files that end before it are passed over."""
    found = segments(directory)
    for path, following in zip(found, [*found[1:], None], strict=True):
        if following is not None and 0 < _first_seq(following) <= first:
            continue
        for line in lines_of(path):
            if not first or read_seq(line) >= first:
                yield line


def read_seq(line: bytes) -> int:
    """The number of an entry, without reading it whole: 0 where it has none. Fields are in order: ``seq`` is there."""
    begin = line.find(b'"seq":', max(0, line.rfind(b'"prev":"')))
    digits = line[begin + 6 : line.find(b",", begin)]
    return int(digits) if begin >= 0 and digits.isdigit() else 0


def _first_seq(path: Path) -> int:
    return next((read_seq(line) for line in lines_of(path)), 0)


def _number_of(path: Path) -> int:
    return int(path.stem.rpartition("-")[2])


def _last_place(path: Path) -> Place | None:
    """The last entry of a file; what a crash left unfinished is cut off."""
    with path.open("r+b") as file:
        whole = _cut_unfinished(file)
        file.seek(max(0, whole - _TAIL))
        tail = file.read().rstrip(b"\n")
    line = tail.rpartition(b"\n")[2]
    return read_link(line).place if line else None


def _cut_unfinished(file: BinaryIO) -> int:
    """Cut off an unfinished last line; how many bytes are left."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _TAIL))
    tail = file.read()
    unfinished = len(tail) - (tail.rfind(b"\n") + 1)
    if unfinished:
        file.truncate(size - unfinished)
        _log.warning("mirror_line_unfinished", bytes=unfinished)
    return size - unfinished
