"""Bodies of requests while they wait for their turn: small ones in memory, large ones on disk, all of them counted.

A body is read whole before the first byte goes upstream, so that what it would invoke is known. What that costs is
bounded three times: per body, per caller and per worker.
"""

import mmap
import tempfile
from pathlib import Path
from typing import IO

from gateway.settings import Limits

SHARE = 4
"""A caller may keep so many times what is still free: the few that could fill a worker leave room for the next.
(Choudhury and Hahne, "Dynamic queue length thresholds for shared-memory packet switches", 1998.)
"""


class BodyTooLargeError(Exception):
    """It is over the limit of one body."""


class NoRoomError(Exception):
    """The worker, or this caller, keeps too many bytes waiting already; or the disk has no room."""


class Buffered:
    """How many bytes of bodies a worker keeps, for whom."""

    def __init__(self, limits: Limits, spool_dir: Path | None) -> None:
        self.limits = limits
        self.spool_dir = spool_dir
        self.total = 0
        self.spooled = 0
        self._of: dict[str, int] = {}

    def take(self, owner: str, size: int) -> None:
        """Count some more. An owner of nothing is not remembered: whoever has no key could be a new one each time.

        Raises:
            NoRoomError: that would be too many; nothing was counted.
        """
        if not self.has_room(owner, size):
            raise NoRoomError
        if size:
            self.total += size
            self._of[owner] = self._of.get(owner, 0) + size

    def has_room(self, owner: str, size: int) -> bool:
        """Whether so many more would be kept."""
        limits, kept = self.limits, self._of.get(owner, 0)
        free = limits.buffered_bytes - self.total
        if size > free or kept + size > limits.buffered_bytes_per_caller:
            return False
        return kept == self.total or kept + size <= SHARE * free  # alone, or within its share

    def move(self, owner: str, other: str, size: int) -> None:
        """Count what is kept for one owner for another. No more is kept than was: only the other's limit is asked.

        Raises:
            NoRoomError: that one would keep too much; nothing was moved.
        """
        if self._of.get(other, 0) + size > self.limits.buffered_bytes_per_caller:
            raise NoRoomError
        self.give(owner, size)
        self.total += size
        self._of[other] = self._of.get(other, 0) + size

    def give(self, owner: str, size: int) -> None:
        """Count some less; an owner of none is forgotten."""
        if size:
            self.total -= size
            kept = self._of[owner] - size
            if kept:
                self._of[owner] = kept
            else:
                del self._of[owner]


class Body:
    """One request's body. Whoever makes one closes it, whatever happens.

    ``owner`` is who its bytes are counted for: a credential's fingerprint until the caller is known.
    """

    __slots__ = ("_buffered", "_file", "_memory", "owner", "size")

    def __init__(self, buffered: Buffered, owner: str = "") -> None:
        self._buffered = buffered
        self._memory: bytes | bytearray = b""
        self._file: IO[bytes] | None = None
        self.owner = owner
        self.size = 0

    def add(self, data: bytes) -> None:
        """Take a piece.

        Raises:
            BodyTooLargeError, NoRoomError: it is not kept.
        """
        if self.size + len(data) > self._buffered.limits.body_bytes:
            raise BodyTooLargeError
        self._buffered.take(self.owner, len(data))
        self.size += len(data)
        if self._file is not None:
            self._write(data)
        else:
            self._remember(data)
            if self.size > self._buffered.limits.spool_above:
                self.spool()

    def _remember(self, data: bytes) -> None:
        """Keep it as one run of bytes: kept as they came, pieces of a few bytes would take twenty times their size."""
        if not self._memory:
            self._memory = data
        elif isinstance(self._memory, bytearray):
            self._memory += data
        else:
            self._memory = bytearray(self._memory) + data

    def belongs_to(self, owner: str) -> None:
        """Count it for somebody else from here on.

        Raises:
            NoRoomError: that one keeps too much already.
        """
        if self.size and owner != self.owner:
            self._buffered.move(self.owner, owner, self.size)
        self.owner = owner

    def spool(self) -> IO[bytes]:
        """Put it into a file that has no name, so that nothing of it outlives the process.

        Written as nginx writes its client_body_temp: synchronously, into the kernel's page cache.

        Raises:
            NoRoomError: the disk takes nothing.
        """
        if self._file is None:
            try:
                self._file = tempfile.TemporaryFile(dir=self._buffered.spool_dir, buffering=0)  # noqa: SIM115
            except OSError as error:
                raise NoRoomError from error
            self._buffered.spooled += 1
            memory, self._memory = self._memory, b""
            self._write(memory)
        return self._file

    def _write(self, data: bytes | bytearray) -> None:
        assert self._file is not None
        rest = memoryview(data)
        try:
            while rest:
                written = self._file.write(rest)  # apart: compiled, a slice's bounds may be evaluated twice
                rest = rest[written:]
        except OSError as error:
            raise NoRoomError from error

    @property
    def spooled(self) -> bool:
        """Whether it is in a file."""
        return self._file is not None

    def content(self) -> bytes | memoryview:
        """All of it. A view of a file stays good when the body is closed."""
        if self._file is not None:
            return memoryview(mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ))
        return bytes(self._memory)

    def close(self) -> None:
        """Forget it. May be called again."""
        if self.size:
            self._buffered.give(self.owner, self.size)
            self.size = 0
        self._memory = b""
        if self._file is not None:
            self._buffered.spooled -= 1
            self._file.close()
            self._file = None
