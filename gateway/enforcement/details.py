"""What a commit leaves for the evidence: before and after, by whose words, from where. Written with it, or not at all.

The log has one line a revision, for replicas; this is the rest. It lies beside the revision until the notary has put
both into the chain of evidence, so that no death of a process in between can lose it.
"""

import hmac
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any

import orjson

from gateway.enforcement.signing import ForgedError, Signer, Verifier
from gateway.identity.records import CallerRecord, OperatorRecord
from gateway.identity.records import dump as dump_record
from gateway.policy.document import Document, canonical
from gateway.policy.orders import concerned, differences, marked, standing

MOST_BYTES = 256 * 1024
"""Of before and after; of a larger change only digests are kept."""

Told = Mapping[str, Any]


def advanced(before: Document, after: Document, revision: int) -> Document:
    """A new policy with its orders as far as they have come by it."""
    document = marked(before, after)
    if document is after:
        return after
    moved = [name for name, order in document.orders.items() if order is not after.orders[name]]
    return document.model_copy(
        update={"changed": {**document.changed, **{f"orders/{name}": revision for name in moved}}}
    )


def detail(before: Document, after: Document, records: Told, told: Told) -> bytes:
    """What is to be told of a revision, canonical JSON. ``records``: callers and operators, by keyed digests."""
    changes = differences(before, after)
    orders = concerned(before, after, changes)
    if records and told.get("change"):  # a person's record, approved by another: an order denied somebody before it
        orders = tuple(sorted({*orders, *standing(before)}))
    orders = tuple(sorted({*orders, *told.get("orders", ())}))
    body = {**told, "orders": list(orders), "changes": changes, "records": dict(records)}
    written = canonical(body)
    return written if len(written) <= MOST_BYTES else canonical({**body, "changes": _digests(changes)})


def _digests(changes: Told) -> dict[str, Any]:
    return {
        path: {f"{side}_sha256": value and sha256(canonical(value)).hexdigest() for side, value in sides.items()}
        for path, sides in changes.items()
    }


def sealed_detail(signer: Signer, entry_hash: str, body: bytes) -> bytes:
    """A detail, bound to its revision's entry."""
    return signer.seal("detail", entry_hash, body)


def read_detail(verifier: Verifier, entry_hash: str, sealed: bytes | None) -> dict[str, Any]:
    """What was told of a revision; nothing, where nothing was, or not of this one."""
    if sealed is None:
        return {}
    try:
        found: dict[str, Any] = orjson.loads(verifier.unseal("detail", entry_hash, sealed))
    except ForgedError:
        return {}
    return found


class Digests:
    """Keyed digests of records: they show that something changed, and to whoever has the key what to, and nothing else.

    ``key`` gives the key on first use.
    """

    def __init__(self, key: Callable[[], bytes]) -> None:
        self._key = key

    def of(self, record: CallerRecord | OperatorRecord | None) -> str | None:
        """A record's digest (HMAC-SHA256); of none, none. Which revision changed it last does not count."""
        if record is None:
            return None
        return hmac.new(self._key(), dump_record(record.model_copy(update={"changed": 0})), sha256).hexdigest()

    def caller(self, previous: CallerRecord | None, record: CallerRecord | None) -> dict[str, Any]:
        """A caller's change: digests before and after, and which keys came and went, by their ids."""
        old, new = (set(each.keys) if each is not None else set() for each in (previous, record))
        return {
            "before": self.of(previous),
            "after": self.of(record),
            "keys": {"added": sorted(new - old), "removed": sorted(old - new)},
        }

    def operator(self, previous: OperatorRecord | None, record: OperatorRecord | None) -> dict[str, Any]:
        """An operator's change: digests before and after, the roles, and whether the token is another."""
        tokens = {each.token_sha256 for each in (previous, record) if each is not None}
        return {
            "before": self.of(previous),
            "after": self.of(record),
            "roles": None if record is None else sorted(record.roles),
            "new_token": len(tokens) > 1 or previous is None,
        }
