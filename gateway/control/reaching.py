"""Who could use what after each revision under an order, and whom its restrictions hit: told while it is known.

Later nobody could say it: callers change, and what was known of them then is not kept. Told are numbers, profiles in
words, and the callers who may, by pseudonym, each with the clause that lets them through: not what is known of them.
"""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from gateway.control.preview import Known, counted, known
from gateway.control.words import Vocabulary, shown
from gateway.enforcement.compiling import compiled
from gateway.enforcement.notary import witness
from gateway.enforcement.store import Store
from gateway.identity.records import CallerRecord
from gateway.observability.effects import merged
from gateway.policy.document import Document
from gateway.policy.orders import standing
from gateway.policy.reach import TooManyProfilesError, reach
from gateway.policy.snapshot import Snapshot

MOST_MODELS = 50
MOST_NAMED = 200
"""Callers of a model that are told one by one; of more, how many, by organisation."""

MOST_EXAMPLES = 5


async def tell_reach(store: Store, revision: int, orders: Sequence[str]) -> None:
    """Tell who can use the models of some orders since a revision, and whom their restrictions hit so far.

    Raises:
        RedisError, OSError, ForgedError, ValueError: it cannot be known (any more).
    """
    entry = await store.entry(revision)
    if entry is None:
        return
    document, _ = await store.records.document(entry.doc)
    snapshot = await compiled(document, revision)
    models = await _models(store, snapshot, revision, orders)
    callers = await known(store.records)
    told = await asyncio.to_thread(_told, snapshot, models[:MOST_MODELS], callers)
    said = {"revision": revision, "committed": entry.at, "models": told, "looked_at": callers.said}
    await witness(store, "reach", said, orders)
    await tell_effects(store, document, orders)


async def _models(store: Store, snapshot: Snapshot, revision: int, orders: Sequence[str]) -> list[str]:
    """The models that something under the orders restricts, or did until this revision."""
    before = await store.entry(revision - 1)
    documents = [snapshot.document]
    if before is not None:
        documents.append((await store.records.document(before.doc))[0])
    patterns = {pattern for document in documents for order in orders for pattern in _patterns(document, order)}
    return snapshot.covered(patterns)


def _patterns(document: Document, order: str) -> set[str]:
    found: set[str] = set()
    for restrictions in (document.holds, document.directives):
        found.update(pattern for each in restrictions.values() if each.order == order for pattern in each.models)
    return found


def _told(snapshot: Snapshot, models: Sequence[str], callers: Known) -> list[dict[str, Any]]:
    return [_of_model(snapshot, model_id, callers.records) for model_id in models]


def _of_model(snapshot: Snapshot, model_id: str, records: Sequence[CallerRecord]) -> dict[str, Any]:
    may = [(record, because) for record in records if (because := _because(snapshot, model_id, record)) is not None]
    allowed = {record.id for record, _ in may}
    closed = snapshot.offline.get(model_id)
    return {
        "model": model_id,
        "hold": None if closed is None else closed.hold_id,
        "directives": [rule.id for rule in snapshot.rules(model_id)],
        **_profiles(snapshot, model_id),
        "permitted": counted([record for record, _ in may]),
        "denied": counted([record for record in records if record.id not in allowed]),
        "who": [{"caller": record.pseudonym, "because": because} for record, because in may[:MOST_NAMED]],
    }


def _profiles(snapshot: Snapshot, model_id: str) -> dict[str, Any]:
    """Everyone there can be, in words; nothing, where they cannot be enumerated."""
    try:
        found = reach(snapshot, model_id)
    except TooManyProfilesError:
        return {"profiles": None, "examples": []}
    told = shown(Vocabulary([snapshot], [model_id]), found.permitted, MOST_EXAMPLES)
    return {"profiles": found.profiles, "permitted_profiles": told["profiles"], "examples": told["examples"]}


def _because(snapshot: Snapshot, model_id: str, record: CallerRecord) -> list[dict[str, Any]] | None:
    """The clause of each directive that lets a caller through; ``None``: they are denied."""
    if model_id in snapshot.offline:
        return None
    (subject,) = snapshot.subjects(record.caller().at(datetime.now(UTC).timestamp()))
    found: list[dict[str, Any]] = []
    for rule in snapshot.rules(model_id):
        if rule.who.evaluate(subject) is False:
            found.append({"directive": rule.id, "by": "who"})
            continue
        excepted = next((i for i, node in enumerate(rule.exceptions) if node.evaluate(subject) is True), None)
        if excepted is None:
            return None
        found.append({"directive": rule.id, "by": "except", "number": excepted})
    return found


# ------------------------------------------------------------------------------------------------ effects


async def tell_effects(store: Store, document: Document, orders: Sequence[str]) -> None:
    """Tell whom the restrictions of orders hit so far, as the workers counted it.

    Raises:
        RedisError, OSError: not now.
    """
    said: dict[str, Mapping[str, Any]] = {}
    for restriction in await _restrictions(store, document, orders):
        found = merged((await store.redis.hgetall(store.keys.effects(restriction))).values())
        if found is not None:
            said[restriction] = found
    if said:
        await witness(store, "effects", {"restrictions": said}, orders)


async def _restrictions(store: Store, document: Document, orders: Sequence[str]) -> list[str]:
    """The ids of all restrictions that stand under orders, or did while that was noted."""
    names = {name.partition("/")[2] for order in orders for name in standing(document).get(order, {})}
    names |= {name for name, directive in document.directives.items() if directive.order in orders}
    for order in orders:
        key = store.keys.record("restrictions", order)
        if names:
            await store.redis.sadd(key, *sorted(names))
        names |= {name.decode() for name in await store.redis.smembers(key)}
    return sorted(names)
