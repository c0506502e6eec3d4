"""The log of revisions as a replica reads it: news as they come, what was missed, or the current one whole."""

from gateway.enforcement.connection import FEED_BLOCK_MS, Client
from gateway.enforcement.entry import Entry, read_entry, read_position
from gateway.enforcement.keys import Keys
from gateway.enforcement.replica import Fenced, Regressed
from gateway.enforcement.signing import Verifier

_BATCH = 1000


class NotInitialisedError(Exception):
    """There is no policy in Redis; ``portcullis init`` writes the first."""


class Feed:
    """Reads the log. ``waiting`` is a client of its own, with a timeout of its own, for reads that wait."""

    def __init__(self, commands: Client, waiting: Client, keys: Keys, verifier: Verifier) -> None:
        self._commands = commands
        self._waiting = waiting
        self._keys = keys
        self._verifier = verifier

    async def news(self, rev: int) -> list[bytes]:
        """Sealed entries above a revision; waits some seconds for the first."""
        answer = await self._waiting.xread({self._keys.log: f"{rev}-0"}, count=_BATCH, block=FEED_BLOCK_MS)
        return [fields.get(b"entry", b"") for _, entries in answer or () for _, fields in entries]

    async def after(self, rev: int) -> list[bytes]:
        """Sealed entries from the next revision on; none where that one is not there."""
        start = f"{rev + 1}-0"
        entries = await self._commands.xrange(self._keys.log, min=start, count=_BATCH)
        if not entries or entries[0][0] != start.encode():
            return []
        return [fields.get(b"entry", b"") for _, fields in entries]

    async def current(self, *, remembers: bool) -> tuple[Entry, bytes]:
        """The entry of the current revision, verified, and as it is sealed.

        Raises:
            Regressed: there is none, and some is remembered.
            Fenced: the history is not what it says of itself.
            NotInitialisedError: there is none, and never was.
            ForgedError: it is not ours.
        """
        cur: dict[bytes, bytes] = await self._commands.hgetall(self._keys.cur)
        if not cur:
            if remembers:
                raise Regressed(
                    "Redis is empty, and a policy is remembered; restore it with `portcullis policy restore`"
                )
            raise NotInitialisedError("there is no policy in Redis; `portcullis init` writes the first")
        position = read_position(cur)
        rev = position.rev
        stored = await self._commands.xrange(self._keys.log, min=f"{rev}-0", max=f"{rev}-0")
        if not stored:
            raise Fenced(f"revision {rev} has no entry in the log")
        sealed = stored[0][1].get(b"entry", b"")
        entry = read_entry(sealed, self._verifier)
        if entry.position != position:
            raise Fenced(f"revision {rev} is not what its log entry says")
        return entry, sealed
