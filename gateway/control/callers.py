"""Callers: who may ask, what is known about them, and their keys."""

import secrets
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import orjson
from aiohttp import web

from gateway.control.access import Access
from gateway.control.changes import Change, apply, of_edits
from gateway.control.conditions import check, etag
from gateway.control.edits import edit
from gateway.control.idempotency import Operation
from gateway.control.ids import derive
from gateway.control.problems import Conflict, NotFound
from gateway.control.routing import Call, Empty, Parameter, Route, answer
from gateway.control.shapes import CallerBody
from gateway.enforcement.store import Current, Edit, Store
from gateway.identity.keys import fingerprint
from gateway.identity.records import CallerRecord, Key, dump
from gateway.policy.document import Part, Text

MAX_KEYS = 50
PAGE, MAX_PAGE = 100, 1000


class KeyBody(Part):
    """A new key. The key itself is made here, never brought along."""

    note: Text | None = None


# ------------------------------------------------------------------------------------------------ reading


def view(record: CallerRecord) -> dict[str, Any]:
    """A caller as operators see it: keys by their ids, not by what they are checked against."""
    shown: dict[str, Any] = orjson.loads(dump(record))
    for key in shown["keys"].values():
        del key["sha256"]
    return shown


async def listing(call: Call[Empty]) -> web.Response:
    """Callers by id, a page at a time."""
    records = call.context.store.records
    limit = call.query["limit"]
    names = await records.page("caller", call.query["after"], limit + 1)
    found = await records.callers(names[:limit])
    following = names[limit - 1] if len(names) > limit else None
    return answer({"callers": [view(record) for record in found if record is not None], "next": following})


async def get(call: Call[Empty]) -> web.Response:
    """One caller."""
    record = await existing(call.context.store, call.id)
    return answer(view(record), ETag=etag(record.changed))


async def existing(store: Store, caller_id: str) -> CallerRecord:
    """A caller's record.

    Raises:
        NotFound: there is none.
    """
    record = await store.records.caller(caller_id)
    if record is None:
        raise NotFound(f"There is no caller {caller_id!r}.")
    return record


# ------------------------------------------------------------------------------------------------ writing


async def put(call: Call[CallerBody]) -> web.Response:
    """Create a caller, or say anew what it is; its keys stay."""
    caller_id = call.new_id

    async def compose(base: Current, _: Operation) -> Change:
        previous = await call.context.store.records.caller(caller_id)
        check(call.request.headers, f"The caller {caller_id}", previous.changed if previous else None)
        wanted = edit("put", "callers", caller_id, call.body)
        return await of_edits(call, base, wanted, action="caller.put", subject=f"callers/{caller_id}")

    return await apply(call, compose)


async def delete(call: Call[Empty]) -> web.Response:
    """Remove a caller and its keys."""

    async def compose(_: Current, __: Operation) -> Change:
        record = await existing(call.context.store, call.id)
        check(call.request.headers, f"The caller {call.id}", record.changed)
        return _change("caller.delete", call.id, call.context.store.drop_caller(record))

    return await apply(call, compose)


async def add_key(call: Call[KeyBody]) -> web.Response:
    """Give a caller a key; this answer is the only one that shows it."""
    secret = secrets.token_urlsafe(32)
    now = datetime.now(UTC)

    async def compose(base: Current, operation: Operation) -> Change:
        previous = await existing(call.context.store, call.id)
        if len(previous.keys) >= MAX_KEYS:
            raise Conflict(f"{call.id} has {MAX_KEYS} keys; delete one first.")
        key_id = derive("k", operation.id, previous.keys)
        key = f"pc_{key_id}_{secret}"
        kept = Key(sha256=fingerprint(key), created=now, note=call.body.note)
        record = previous.model_copy(update={"keys": {**previous.keys, key_id: kept}})
        change = _stored(call, base, "caller.key.add", record, previous)
        return replace(change, answer={"caller": call.id, "key_id": key_id}, secret={"key": key}, status=201)

    return await apply(call, compose)


async def delete_key(call: Call[Empty]) -> web.Response:
    """Take a key away. As this closes something, it insists."""
    key_id = call.request.match_info["key"]

    async def compose(base: Current, _: Operation) -> Change:
        previous = await existing(call.context.store, call.id)
        if key_id not in previous.keys:
            raise NotFound(f"The caller {call.id} has no key {key_id!r}; it may be deleted already.")
        keys = {name: key for name, key in previous.keys.items() if name != key_id}
        return _stored(call, base, "caller.key.delete", previous.model_copy(update={"keys": keys}), previous)

    return await apply(call, compose, insist=True)


def _stored(call: Call[Any], base: Current, action: str, record: CallerRecord, previous: CallerRecord | None) -> Change:
    stamped = record.model_copy(update={"changed": base.rev + 1})
    return _change(action, record.id, call.context.store.put_caller(stamped, previous))


def _change(action: str, caller_id: str, edit: Edit) -> Change:
    return Change(action=action, subject=f"callers/{caller_id}", edit=edit)


def _limit(text: str) -> int:
    if not (text.isdecimal() and 1 <= int(text) <= MAX_PAGE):
        raise ValueError
    return int(text)


AFTER = Parameter("after", "Only callers whose ids sort after this one.", {"type": "string"}, str, "")
LIMIT = Parameter(
    "limit",
    "How many at most.",
    {"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": PAGE},
    _limit,
    PAGE,
)

ROUTES = (
    Route("GET", "/api/v1/callers", Access.READ_CALLERS, listing, "Callers, by id", query=(AFTER, LIMIT)),
    Route("GET", "/api/v1/callers/{id}", Access.READ_CALLERS, get, "One caller"),
    Route(
        "PUT",
        "/api/v1/callers/{id}",
        Access.EDIT_CALLERS,
        put,
        "Create or replace a caller; its keys stay",
        body=CallerBody,
        changes=True,
        conditional=True,
    ),
    Route(
        "DELETE",
        "/api/v1/callers/{id}",
        Access.EDIT_CALLERS,
        delete,
        "Remove a caller and its keys",
        changes=True,
        conditional=True,
    ),
    Route(
        "POST",
        "/api/v1/callers/{id}/keys",
        Access.EDIT_CALLERS,
        add_key,
        "Make a key; it is shown once",
        body=KeyBody,
        changes=True,
    ),
    Route("DELETE", "/api/v1/callers/{id}/keys/{key}", Access.EDIT_CALLERS, delete_key, "Delete a key", changes=True),
)
