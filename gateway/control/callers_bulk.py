"""Callers by the thousand: JSON lines in, JSON lines out.

An import is read as it comes and stored in batches, each one revision: all of a batch or nothing. Where a line is bad
its batch is left out, and the answer says which line and why; the batches around it are stored. To import a file a
second time changes nothing. Keys are made here and never imported; those that a caller has stay.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import StreamReader, web
from redis.exceptions import RedisError

from gateway import tasks
from gateway.control.access import Access, Shown, authenticate, bearer, demand
from gateway.control.approval import Move
from gateway.control.changes import ATTEMPTS, JITTER_SECONDS, Change, opened
from gateway.control.context import Context
from gateway.control.problems import Problem
from gateway.control.routing import WAIT, Call, Empty, Route, read_body, read_query
from gateway.control.shapes import CallerBody, CallerId
from gateway.enforcement.signing import ForgedError
from gateway.enforcement.store import ConflictError, Current, Edit
from gateway.identity.pseudonyms import Pseudonyms
from gateway.identity.records import Attributes, CallerRecord

BATCH = 1000
"""Callers in a revision: its log entry names them all, and every replica forgets those it knows."""

MAX_LINE = 64 * 1024
"""Bytes."""

NDJSON = "application/x-ndjson"
_EXPORTED = ("id", "kind", "org", "attributes")


class CallerLine(CallerBody):
    """A line of an import."""

    id: CallerId


@dataclass(slots=True)
class Batch:
    """Some lines of an import, by their numbers: what they say, and what is wrong with them."""

    first: int
    last: int = 0
    unread: list[tuple[int, bytes | None]] = field(default_factory=list)
    callers: dict[str, CallerLine] = field(default_factory=dict)
    mistakes: list[dict[str, Any]] = field(default_factory=list)

    def add(self, number: int, line: bytes | None) -> None:
        """Keep a line to be read; ``None`` is one that was too long."""
        self.last = number
        self.unread.append((number, line))

    def read(self) -> None:
        """Read the lines: some 20 ms of work for a thousand."""
        for number, line in self.unread:
            self._read(number, line)
        self.unread.clear()

    def _read(self, number: int, line: bytes | None) -> None:
        if line is None:
            self._wrong(number, f"The line has more than {MAX_LINE} bytes.")
            return
        try:
            caller = read_body(line, CallerLine)
        except Problem as problem:
            self._wrong(number, problem.detail.replace("The body", "The line"))
            return
        assert isinstance(caller, CallerLine)
        if caller.id in self.callers:
            self._wrong(number, "This id was in a line shortly before.")
        self.callers[caller.id] = caller

    def _wrong(self, number: int, error: str) -> None:
        self.mistakes.append({"line": number, "error": error})


@dataclass(frozen=True, slots=True)
class StreamedRoute(Route):
    """A route whose handler reads the body itself, as it comes."""

    def bound(self, context: Context, shown: Shown = bearer) -> Callable[[web.Request], Awaitable[web.Response]]:
        """The route as aiohttp calls it: who, then the handler."""

        async def handle(request: web.Request) -> web.Response:
            operator = await authenticate(shown(request), context.store)
            demand(operator, self.access, f"{self.method} {self.path}")
            query = read_query(request, self.parameters)
            return await self.handler(Call(context, request, operator, Empty(), b"", query))

        return handle


# ------------------------------------------------------------------------------------------------ import


async def take(call: Call[Empty]) -> web.Response:
    """Store the callers of a file, and say of each batch what became of it."""
    return web.Response(body=_progress(call), content_type=NDJSON)


async def _progress(call: Call[Empty]) -> AsyncIterator[bytes]:
    """A line for each mistake and each batch, and one at the end; without that the import is not complete."""
    stored = unchanged = left_out = 0
    coming = batches(call.request.content)
    following = tasks.spawn(_read(coming), "import-read", awaited=True)
    try:
        while (batch := await following) is not None:
            following = tasks.spawn(_read(coming), "import-read", awaited=True)  # while this one is proven
            for mistake in batch.mistakes:
                yield _line(mistake)
            outcome = await _store(call, batch)
            stored += outcome["stored"]
            unchanged += outcome["unchanged"]
            left_out += batch.last - batch.first + 1 if "error" in outcome else 0
            yield _line({"lines": [batch.first, batch.last], **outcome})
    except (Problem, RedisError, ForgedError, OSError, TimeoutError) as error:
        detail = error.detail if isinstance(error, Problem) else f"The store failed: {type(error).__name__}."
        yield _line({"done": False, "error": f"{detail} Batches reported so far are stored; import the file again."})
    else:
        yield _line({"done": True, "stored": stored, "unchanged": unchanged, "left_out": left_out})
    finally:
        await tasks.cancel(following)


async def _read(coming: AsyncIterator[Batch]) -> Batch | None:
    """The next batch, its lines read beside the loop."""
    batch = await anext(coming, None)
    if batch is not None:
        await asyncio.to_thread(batch.read)
    return batch


async def batches(content: StreamReader) -> AsyncIterator[Batch]:
    """The lines of a body, some at a time. Empty ones are counted and skipped."""
    batch: Batch | None = None
    async for number, line in lines(content):
        if line is not None and not line.strip():
            continue
        batch = batch or Batch(number)
        batch.add(number, line)
        if len(batch.unread) >= BATCH:
            yield batch
            batch = None
    if batch is not None:
        yield batch


async def lines(content: StreamReader) -> AsyncIterator[tuple[int, bytes | None]]:
    """The lines of a body, from 1, without their ends; ``None`` for one that is too long to be kept."""
    number, kept, too_long = 1, b"", False
    async for piece in content.iter_any():
        *ended, rest = piece.split(b"\n")
        for part in ended:
            line = kept + part
            yield number, None if too_long or len(line) > MAX_LINE else line
            number, kept, too_long = number + 1, b"", False
        kept += rest
        if len(kept) > MAX_LINE:
            kept, too_long = b"", True
    if kept or too_long:
        yield number, None if too_long else kept


async def _store(call: Call[Empty], batch: Batch) -> dict[str, Any]:
    """Commit a batch as one revision, and wait for its proof as long as the call wants."""
    nothing = {"stored": 0, "unchanged": 0}
    if batch.mistakes:
        return {**nothing, "error": "A line is bad, so that none of these is stored."}
    store = call.context.store
    for _ in range(ATTEMPTS):
        base = await store.current()
        change, count = await _composed(call, base, batch)
        if not count:
            return {**nothing, "unchanged": len(batch.callers)}
        opens = await opened(base, change)
        if opens:
            models = sorted({opening.model for opening in opens})
            error = "This would let somebody through whom an order denies: put those callers one by one, for approval."
            return {**nothing, "error": error, "opens": models}
        try:
            committed = await store.commit(
                base,
                None,
                actor=call.by.id,
                action=change.action,
                subject=change.subject,
                edit=change.edit,
                told={"from": call.request.remote},
            )
        except ConflictError:
            await asyncio.sleep(random.uniform(0, JITTER_SECONDS))  # noqa: S311 - not for secrets
            continue
        receipt = call.context.receipts.open(committed, [])
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(receipt.done.wait(), call.query["wait"])
        view = receipt.view()
        proof = {"revision": view["revision"], "enforced": view["enforced"], "basis": view["basis"]}
        return {"stored": count, "unchanged": len(batch.callers) - count, **proof}
    return {**nothing, "error": "Others kept changing the policy. Import the file again."}


async def _composed(call: Call[Empty], base: Current, batch: Batch) -> tuple[Change, int]:
    """What a batch makes of the callers there are, and how many of them are new or different."""
    found = await call.context.store.records.callers(list(batch.callers))
    return await asyncio.to_thread(_sealed, call.context, base, batch, found)


def _sealed(context: Context, base: Current, batch: Batch, found: Sequence[CallerRecord | None]) -> tuple[Change, int]:
    """The records of a batch, signed; beside the loop, for it takes a tenth of a second."""
    store = context.store
    records: dict[str, bytes] = {}
    told: dict[str, Any] = {}
    moves, names = [], []
    pseudonyms = Pseudonyms(context.settings.pseudonym_key)
    revision = base.rev + 1
    for previous, line in zip(found, batch.callers.values(), strict=True):
        record = CallerRecord(
            id=line.id,
            kind=line.kind,
            org=line.org,
            attributes=Attributes(**dict(line.attributes)),
            keys=previous.keys if previous else {},
            pseudonym=pseudonyms.of(line.id),
            changed=previous.changed if previous else revision,
        )
        if record == previous:
            continue
        names.append(line.id)
        if previous is not None:  # a new caller is no opening
            record = record.model_copy(update={"changed": revision})
            moves.append(Move(previous.caller(), record.caller()))
        stored = store.put_caller(record, previous)
        records.update(stored.records)
        told.update(stored.told)
    subject = f"callers: lines {batch.first} to {batch.last}"
    change = Change(
        action="callers.import", subject=subject, edit=Edit(records, tuple(names), told), moves=tuple(moves)
    )
    return change, len(names)


# ------------------------------------------------------------------------------------------------ export


async def give(call: Call[Empty]) -> web.Response:
    """Every caller by id, as an import takes it: without keys."""
    return web.Response(body=_exported(call), content_type=NDJSON)


async def _exported(call: Call[Empty]) -> AsyncIterator[bytes]:
    records, last = call.context.store.records, ""
    while names := await records.page("caller", last, BATCH):
        yield await asyncio.to_thread(_shown, await records.caller_bodies(names))
        last = names[-1]


def _shown(bodies: Iterator[bytes]) -> bytes:
    """Records as lines. They are verified here: nearly all of the work."""
    known = map(orjson.loads, bodies)
    return b"".join(_line({name: record[name] for name in _EXPORTED if name in record}) for record in known)


def _line(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE)


ROUTES = (
    StreamedRoute(
        "POST",
        "/api/v1/callers:import",
        Access.EDIT_CALLERS,
        take,
        "Store callers, a JSON object a line; answers a line for each batch of 1,000",
        query=(WAIT,),
    ),
    Route("GET", "/api/v1/callers:export", Access.READ_CALLERS, give, "Every caller, a JSON object a line"),
)
