"""The evidence by the admin API: read a page at a time, its head, and archives of it."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import orjson
from aiohttp import web

from gateway.control.access import Access
from gateway.control.evidence import Evidence
from gateway.control.export import Archive, Piped
from gateway.control.problems import NotFound, Unavailable
from gateway.control.reaching import tell_effects
from gateway.control.routing import Call, Empty, Parameter, Route, answer
from gateway.enforcement.notary import witness
from gateway.enforcement.store import Store

PAGE, MAX_PAGE = 100, 1000
CALLERS_AT_ONCE = 1000


def evidence_of(call: Call[Any]) -> Evidence:
    """Who keeps the evidence.

    Raises:
        Unavailable: nobody does here.
    """
    if call.context.evidence is None:
        raise Unavailable("Nobody keeps the evidence here.")
    return call.context.evidence


# ------------------------------------------------------------------------------------------------ reading


def summary(line: bytes) -> dict[str, Any]:
    """An entry in short: what a list shows of it."""
    said = orjson.loads(line)
    body = said.get("body") or {}
    short = {"seq": said["seq"], "at": said["at"], "kind": said["kind"]}
    entry = body.get("entry")
    if entry is not None:
        short |= {"revision": entry["rev"], **{name: entry[name] for name in ("at", "actor", "action", "subject")}}
    named = {"change": "id", "by": "by", "operator": "operator", "drill": "drill", "from": "from", "note": "note"}
    short |= {name: body[field] for name, field in named.items() if isinstance(body.get(field), str)}
    if said["kind"] == "receipt":
        short |= {name: body[name] for name in ("revision", "enforced", "basis", "elapsed_ms", "streams_cut")}
    return short


async def listing(call: Call[Empty]) -> web.Response:
    """Entries after a number, oldest first; of one order with ``?order=``, of one kind with ``?kind=``."""
    store, query = call.context.store, call.query
    lines, following = await _page(store, query["after"], query["limit"], query["order"])
    entries = [orjson.loads(line) for line in lines]
    kind = query["kind"]
    shown = [entry for entry in entries if kind is None or entry["kind"] == kind]
    return answer({"entries": shown, "next": following})


async def _page(store: Store, after: int, limit: int, order: str | None) -> tuple[list[bytes], int | None]:
    """Lines, and the number after which there may be more."""
    if order is None:
        found = await store.redis.xrange(store.keys.chain, min=f"{after + 1}-0", max="+", count=limit)
        lines = [fields[b"line"] for _, fields in found]
        return lines, int(found[-1][0].partition(b"-")[0]) if len(found) == limit else None
    numbers = [int(number) for number in await store.redis.lrange(store.keys.chain_of(order), 0, -1)]
    wanted = [number for number in numbers if number > after][:limit]
    async with store.redis.pipeline(transaction=False) as pipe:
        for number in wanted:
            pipe.xrange(store.keys.chain, min=f"{number}-0", max=f"{number}-0")
        found = await pipe.execute() if wanted else []
    lines = [fields[b"line"] for entries in found for _, fields in entries]
    return lines, wanted[-1] if len(wanted) == limit else None


async def head(call: Call[Empty]) -> web.Response:
    """Where the chain ends now, signed: keep it, and no copy can be cut short unnoticed."""
    found = await evidence_of(call).head()
    if found is None:
        raise NotFound("There is no evidence yet.")
    return answer(found.view())


# ------------------------------------------------------------------------------------------------ export


async def export(call: Call[Empty]) -> web.Response:
    """An archive (ZIP) of everything, or of one order, with the report and what verifies it. It comes as it is made."""
    evidence, store, order = evidence_of(call), call.context.store, call.query["order"]
    current = await store.current()
    if order is not None and not await store.redis.exists(store.keys.chain_of(order)):
        raise NotFound(f"There is no evidence about an order {order!r}.")
    if order is not None:
        await tell_effects(store, current.document, [order])
    now = datetime.now(UTC).isoformat(timespec="seconds")
    await witness(store, "export", {"by": call.by.id, "from": call.request.remote, "order": order}, _of(order))
    found = await evidence.settle()
    assert found is not None
    numbers = [] if order is None else [int(n) for n in await store.redis.lrange(store.keys.chain_of(order), 0, -1)]
    archive = Archive(
        directory=evidence.mirror.directory,
        signer=store.signer,
        gateway=current.document.gateway,
        head=found,
        order=order,
        first=min(numbers, default=0),
        names={} if order is None else await _names(store),
        made_by=call.by.id,
        made_at=now,
    )
    name = f"portcullis-{order or 'everything'}-{now[:10]}.zip"
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Portcullis-Entries": str(found.place.seq)}
    return web.Response(body=_pieces(archive), content_type="application/zip", headers=headers)


def _of(order: str | None) -> tuple[str, ...]:
    return () if order is None else (order,)


async def _pieces(archive: Archive) -> AsyncIterator[bytes]:
    """The archive's bytes, as a thread makes them."""
    pipe = Piped()
    making = asyncio.get_running_loop().run_in_executor(None, archive.write, pipe)
    try:
        while (piece := await asyncio.to_thread(pipe.take)) is not None:
            yield piece
    finally:
        pipe.abandon()
        await making


async def _names(store: Store) -> dict[str, str]:
    """Who is behind which pseudonym, of all callers that are registered now."""
    found: dict[str, str] = {}
    last = ""
    while names := await store.records.page("caller", last, CALLERS_AT_ONCE):
        records = await store.records.callers(names)
        found |= {record.pseudonym: record.id for record in records if record is not None and record.pseudonym}
        last = names[-1]
    return found


# ------------------------------------------------------------------------------------------------ routes


def _number(text: str) -> int:
    if not (text.isdecimal() and len(text) < 16):
        raise ValueError
    return int(text)


def _limit(text: str) -> int:
    if not 1 <= _number(text) <= MAX_PAGE:
        raise ValueError
    return int(text)


AFTER = Parameter("after", "Only entries with a higher number.", {"type": "integer", "minimum": 0}, _number, 0)
LIMIT = Parameter(
    "limit", "How many at most.", {"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": PAGE}, _limit, PAGE
)
ORDER = Parameter("order", "Only what is about this order.", {"type": "string"}, str)
KIND = Parameter("kind", "Of these only those of one kind.", {"type": "string"}, str)

ROUTES = (
    Route(
        "GET",
        "/api/v1/audit",
        Access.READ_AUDIT,
        listing,
        "The chain of evidence, oldest first",
        query=(AFTER, LIMIT, ORDER, KIND),
    ),
    Route("GET", "/api/v1/audit/head", Access.READ_AUDIT, head, "Where the chain ends now, signed"),
    Route(
        "GET",
        "/api/v1/audit/export",
        Access.READ_AUDIT,
        export,
        "An archive that verifies offline, of an order or of everything",
        query=(ORDER,),
    ),
)
