"""A request's part, or a message's, in what the provider keeps: the things it uses, and those it makes.

Before the decision: things that the request names are looked up, and their models decided beside those named. Before it
goes on: models that it will leave in a thing (a thread, a conversation) are noted there. On the way back: what the
response says was made is remembered, with all of these. A response in one piece waits for that; a stream does not,
nor does what a provider says on a WebSocket.
"""

from collections.abc import Sequence

from gateway import tasks
from gateway.dialects.keeping import Keeping, Thing, Use
from gateway.dialects.table import Operation
from gateway.enforcement.made import Entry
from gateway.policy.snapshot import Asked
from gateway.proxy.ledger import Ledger, LedgerBusyError
from gateway.proxy.response import ResponseHead

MOST_HELD = 1024 * 1024
"""Bytes of a response that wait until all is known of what it made. Of a larger one its first member is looked at."""

MOST_EVENTS = 64 * 1024
"""Bytes of a stream that are looked at: what it makes, it says first."""


def of_request(
    ledger: Ledger, provider: str, operation: Operation, path: str, ids: Sequence[tuple[str, str]], by: str
) -> "Keeper":
    """What a request uses and makes, by its path and the ids that its body names."""
    assert operation.keeping is not None
    match = operation.pattern.fullmatch(path)
    return Keeper(ledger, provider, operation.keeping, {} if match is None else match.groupdict(), ids, by)


class Keeper:
    """What one request, or one message, uses and makes."""

    __slots__ = (
        "_changing", "_creating", "_entries", "_keeping", "_ledger", "_made", "_marked", "_seen", "_size",
        "_stream", "_uses", "asking", "by", "deletes", "held", "provider",
    )  # fmt: skip

    def __init__(
        self,
        ledger: Ledger,
        provider: str,
        keeping: Keeping,
        segments: dict[str, str],
        ids: Sequence[tuple[str, str]],
        by: str,
    ) -> None:
        self._ledger = ledger
        self._keeping = keeping
        self._uses: tuple[Use, ...] = self._keeping.used(segments, ids)
        self._changing = [use.thing for use in self._uses if use.changes]
        self._entries: list[Entry | None] | None = None
        self._creating = False
        self._stream = False
        self._made: list[Thing] = []
        self._marked = False
        self._seen: list[bytes] = []
        self._size = 0
        self.provider = provider
        self.by = by
        self.asking = False
        self.held = False
        self.deletes = self._keeping.deleted(segments)

    # ------------------------------------------------------------------ before the decision

    @property
    def must_look_up(self) -> bool:
        """Whether it uses things whose models count, and nobody has looked yet."""
        return self._entries is None and bool(self._uses) and self._keeping.invokes

    async def look_up(self) -> None:
        """See what is known of what it uses.

        Raises:
            LedgerBusyError, OSError, TimeoutError: as ``Ledger.find``.
        """
        self._entries = await self._ledger.find(self.provider, [use.thing for use in self._uses])

    def widened(self, asked: Asked) -> tuple[Asked, bool]:
        """What is asked for with the models of the things used; and whether nothing of any model is to be shown.

        Known things say what runs unnamed; a look at what no model has had a part in shows nothing of any. Where one
        is not known, every model counts that could be meant.
        """
        entries = [entry for entry in self._entries or () if entry is not None]
        if not self._keeping.invokes or not self._uses:
            return asked, False
        known = len(entries) == len(self._uses)
        had = any(entry.names or entry.also for entry in entries)
        also = asked.also
        if known and (had or self._keeping.looks):
            also = tuple(one for one in also if one not in self._keeping.speaks_for)
        every = Entry(asked.names, also, self.by)
        for entry in entries:
            every = every.with_more(entry.names, entry.also)
        nothing = known and self._keeping.looks and not (every.names or every.also)
        return asked._replace(names=every.names, also=every.also), nothing

    def must_mark(self, asked: Asked) -> bool:
        """Whether it leaves models in things, and that is not noted yet."""
        return bool(self._changing) and not self._marked and bool(asked.names or asked.also)

    async def mark(self, asked: Asked) -> None:
        """Note the models that it leaves in things, before it can.

        Raises:
            LedgerBusyError, OSError, TimeoutError: as ``Ledger.change``.
        """
        await self._ledger.change(self.provider, self._changing, asked.names, asked.also)
        self._marked = True

    # ------------------------------------------------------------------ on the way back

    def response(self, head: ResponseHead) -> None:
        """The response begins. What is refused, or encoded, makes nothing that could be read here."""
        succeeded = 200 <= head.status < 300
        self.deletes = self.deletes if succeeded else []
        encoded = any(name == b"content-encoding" and value != b"identity" for name, value in head.headers)
        self._creating = succeeded and bool(self._keeping.creates) and not encoded
        self._stream = head.event_stream
        self.held = self._creating and not self._stream

    def piece(self, data: bytes, asked: Asked) -> None:
        """A piece of the response."""
        if not self._creating:
            return
        self._seen.append(data)
        self._size += len(data)
        if self._stream:
            self._read_events(asked)
        elif self._size > MOST_HELD:
            self._stop()
            self._made = self._keeping.created_first(self._seen[0])
            self._seen = []
            self._remember_soon(asked)

    def _read_events(self, asked: Asked) -> None:
        """The whole events that have come; the last may be incomplete."""
        *events, rest = b"".join(self._seen).replace(b"\r\n", b"\n").split(b"\n\n")
        self._seen = [rest]
        made = [thing for event in events for thing in self._keeping.created_by(event)]
        self._made += [thing for thing in dict.fromkeys(made) if thing not in self._made]
        if made:
            self._remember_soon(asked)
        if len(self._made) >= len(self._keeping.creates) or self._size > MOST_EVENTS:
            self._stop()

    def said(self, event: bytes, asked: Asked) -> None:
        """A message of the provider on a WebSocket, which says that something has been made."""
        self._made = self._keeping.created_in(event)
        self._remember_soon(asked)

    def _stop(self) -> None:
        self._creating = self.held = False

    def _remember_soon(self, asked: Asked) -> None:
        if self._made:
            tasks.spawn(self.remember(asked), "ledger-remember")

    def has_made(self) -> bool:
        """The response is complete: whether something was made that is to be remembered before its end is sent."""
        if self.held:
            self._made = self._keeping.created(b"".join(self._seen))
        waits = self.held and bool(self._made)
        self._seen = []
        self._stop()
        if self.deletes:
            tasks.spawn(self._ledger.forget(self.provider, self.deletes), "ledger-forget")
        return waits

    async def remember(self, asked: Asked) -> None:
        """Remember what was made, with the models of all it was made of.

        What changes is looked at again: it may have got another model before this was made, and after it was decided.
        """
        try:
            used = await self._ledger.find(self.provider, [use.thing for use in self._uses])
        except (LedgerBusyError, OSError, TimeoutError):
            return
        entry = Entry(asked.names, asked.also, self.by)
        for one in used:
            if one is not None:
                entry = entry.with_more(one.names, one.also)
            elif not self._keeping.invokes:
                return
        await self._ledger.remember(self.provider, self._made, entry)
