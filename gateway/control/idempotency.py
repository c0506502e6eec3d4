"""``Idempotency-Key``: a call that is sent again gets the same answer, and makes no second revision.

The commit script knows each operation by its id and answers a second one as it answered the first; that id is bound
to operator, method, path, key and body. Beside it, for a day, lies which body the key came with and what the answer
said beyond its receipt. (draft-ietf-httpapi-idempotency-key-header)
"""

import re
import secrets
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import orjson

from gateway.control.problems import Malformed, Reused
from gateway.control.routing import Call
from gateway.enforcement.store import Store

REMEMBERED_SECONDS = 24 * 3600
"""As Stripe. Redis keeps the ids of the last thousand operations, however long they last."""

_KEY = re.compile(r"[\x21-\x7e]{1,255}")


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation. ``marker`` is where its memory lies; ``None`` without an Idempotency-Key.

    ``known``: it was committed before. ``memory`` is what its answer said beyond the receipt.
    """

    id: str
    body: str = ""
    marker: str | None = None
    known: bool = False
    memory: dict[str, Any] | None = None


async def begin(call: Call[Any]) -> Operation:
    """The operation that a call is.

    Raises:
        Malformed: the key is empty, too long, or not visible ASCII.
        Reused: the key came with another body before.
    """
    operation = identified(call)
    if operation.marker is None:
        return operation
    store, body, marker = call.context.store, operation.body, operation.marker
    kept = orjson.dumps({"body": body})
    await store.redis.set(marker, kept, nx=True, ex=REMEMBERED_SECONDS)
    memory = orjson.loads(await store.redis.get(marker) or kept)
    if memory["body"] != body:
        raise Reused("The same Idempotency-Key came with another body before. Use a new key for a new request.")
    known = bool(await store.redis.hexists(store.keys.ops, operation.id))
    return Operation(operation.id, body, marker, known, memory)


def identified(call: Call[Any]) -> Operation:
    """The operation that a call is, asking nobody whether it came before.

    Raises:
        Malformed: the key is empty, too long, or not visible ASCII.
    """
    key = call.request.headers.get("Idempotency-Key")
    if key is None or call.request.method != "POST":
        return Operation(secrets.token_hex(16))
    if not _KEY.fullmatch(key):
        raise Malformed("An Idempotency-Key is 1 to 255 visible ASCII characters.")
    scope = _digest(call.by.id, call.request.rel_url.raw_path, key)
    body = sha256(call.raw).hexdigest()
    return Operation(_digest(scope, body), body, call.context.store.keys.record("idempotency", scope))


async def remember(store: Store, operation: Operation, memory: dict[str, Any]) -> None:
    """Keep what the answer says beyond its receipt. Never a secret."""
    if operation.marker is not None:
        value = orjson.dumps({"body": operation.body, **memory})
        await store.redis.set(operation.marker, value, ex=REMEMBERED_SECONDS)


def _digest(*parts: str) -> str:
    return sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()
