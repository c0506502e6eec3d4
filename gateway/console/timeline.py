"""The log backwards, as pages read it: every entry is verified before it is shown. And what an *offline* would hit."""

from collections.abc import Iterator
from typing import Any

import orjson
from aiohttp import web

from gateway.control.access import Access
from gateway.control.catalog import resolved
from gateway.control.preview import counted
from gateway.control.routing import Call, Empty, Parameter, Route, answer
from gateway.enforcement.entry import Entry, read_entry
from gateway.enforcement.store import Store
from gateway.identity.records import CallerRecord
from gateway.policy.names import MAX_NAME

PAGE = 100
LOOKED_AT = 5000
"""Entries that one call looks at while it filters; the next call goes on from there."""

READ_AT_ONCE = 500


def entry_view(entry: Entry) -> dict[str, Any]:
    """A revision as the timeline shows it."""
    return {
        "revision": entry.rev,
        "at": entry.at,
        "actor": entry.actor,
        "action": entry.action,
        "subject": entry.subject,
        "order": entry.order,
        "hash": entry.hash,
    }


async def timeline(call: Call[Empty]) -> web.Response:
    """Revisions, newest first; with a text those that have it anywhere. ``next``: where older ones begin, if any."""
    store, wanted = call.context.store, (call.query["text"] or "").casefold()
    before = call.query["before"]
    newest = "+" if before is None else f"({before}-0"
    found: list[dict[str, Any]] = []
    looked = 0
    while looked < LOOKED_AT and len(found) < PAGE:
        stored = await store.redis.xrevrange(store.keys.log, max=newest, count=READ_AT_ONCE)
        if not stored:
            before = None
            break
        for _, fields in stored:
            shown = entry_view(read_entry(fields.get(b"entry", b""), store.signer))
            looked, before = looked + 1, shown["revision"]
            if wanted in _text(shown) and call.query["order"] in (None, shown["order"]):
                found.append(shown)
            if len(found) == PAGE:
                break
        newest = f"({before}-0"
    return answer({"entries": await _with_receipts(store, found), "next": before})


async def _with_receipts(store: Store, shown: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same, each with what its receipt says; it is kept in Redis for those who look, and sealed in the evidence."""
    if not shown:
        return shown
    kept = await store.redis.hmget(store.keys.receipts, [str(each["revision"]) for each in shown])
    return [each if view is None else {**each, "receipt": _brief(view)} for each, view in zip(shown, kept, strict=True)]


def _brief(stored: bytes) -> dict[str, Any]:
    view = orjson.loads(stored)
    brief = {name: view[name] for name in ("enforced", "basis", "elapsed_ms", "streams_cut", "models")}
    return {**brief, "replicas": view["replicas"]["expected"]}


def _text(shown: dict[str, Any]) -> str:
    return "\0".join(str(shown[name]) for name in ("revision", "actor", "action", "subject", "order")).casefold()


async def impact(call: Call[Empty]) -> web.Response:
    """Who used what these patterns mean in the last day, and what is under way: counts, no names."""
    context = call.context
    snapshot = (await context.store.current()).snapshot
    patterns = [resolved(snapshot.document, text) for text in (call.query["models"] or "*").split(",")]
    models = set(snapshot.covered(patterns))
    traffic = {} if context.traffic is None else await context.traffic()
    used = {pair: count for pair, count in traffic.items() if pair[1] in models}
    names = sorted({caller for caller, _ in used})
    records = [record async for record in _records(call, names)]
    return answer(
        {
            "models": sorted(models),
            "requests": sum(used.values()),
            "callers": {**counted(records), "total": len(names)},
        }
    )


async def _records(call: Call[Empty], names: list[str]) -> Any:
    for part in _parts(names):
        for record in await call.context.store.records.callers(part):
            if isinstance(record, CallerRecord):
                yield record


def _parts(names: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(names), READ_AT_ONCE):
        yield names[start : start + READ_AT_ONCE]


def _revision(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def _word(text: str) -> str:
    if len(text) > 50 * MAX_NAME:
        raise ValueError
    return text


TEXT = {"type": "string"}
ROUTES = (
    Route(
        "GET", "/console/timeline", Access.READ, timeline, "The log, newest first",
        query=(
            Parameter("before", "Only older revisions.", {"type": "integer", "minimum": 1}, _revision),
            Parameter("text", "Only those that have this somewhere.", TEXT, _word),
            Parameter("order", "Only those under this order.", TEXT, _word),
        ),
    ),
    Route(
        "GET", "/console/impact", Access.READ, impact, "Whom an offline would hit",
        query=(Parameter("models", "Names and patterns, with commas between.", TEXT, _word),),
    ),
)  # fmt: skip
