"""What an old key has signed, signed anew: so that the old one need be trusted no longer.

The document in force, callers, operators, and changes that wait. The log keeps the signatures that it has: whoever
checks it later needs the old public key for that.
"""

import orjson
from redis.exceptions import WatchError

from gateway.enforcement.entry import RESEAL
from gateway.enforcement.signing import ForgedError
from gateway.enforcement.store import ConflictError, Edit, Store

BATCH = 500
ATTEMPTS = 50
KINDS = ("caller", "operator")


async def reseal(store: Store, actor: str) -> int:
    """Sign everything anew that another key has signed; gives how many records that were.

    The last commit is a revision with the document, so that replicas stand, and remember, by the new key.

    Raises:
        ForgedError: something was signed by none of the trusted keys.
        ConflictError: others commit all the time.
    """
    count = 0
    for kind in KINDS:
        names = await store.records.page(kind)
        for first in range(0, len(names), BATCH):
            count += await _committed(store, kind, names[first : first + BATCH], actor)
    count += await _changes(store)
    await _document(store, actor)
    return count


async def _committed(store: Store, kind: str, names: list[str], actor: str) -> int:
    for _ in range(ATTEMPTS):
        base = await store.current()
        records = await _anew(store, kind, names)
        if not records:
            return 0
        try:
            await store.commit(base, None, actor=actor, action=RESEAL, subject=kind, edit=Edit(records))
        except ConflictError:
            continue
        return len(records)
    raise ConflictError


async def _anew(store: Store, kind: str, names: list[str]) -> dict[str, bytes]:
    """Those records that another key has signed, signed by the one that signs now."""
    keys = [store.keys.record(kind, name) for name in names]
    found = await store.redis.mget(keys)
    return {
        key: store.signer.seal(kind, name, store.signer.unseal(kind, name, sealed))
        for key, name, sealed in zip(keys, names, found, strict=True)
        if sealed is not None and _signed_by(sealed) != store.signer.kid
    }


async def _changes(store: Store) -> int:
    """Changes that wait: written by no commit, so each as it is, or not at all."""
    count = 0
    for name in await store.records.names("change"):
        key = store.keys.record("change", name)
        async with store.redis.pipeline(transaction=True) as pipe:
            await pipe.watch(key)
            sealed = await pipe.get(key)
            if sealed is None or _signed_by(sealed) == store.signer.kid:
                continue
            body = store.signer.unseal("change", name, sealed)
            pipe.multi()
            pipe.set(key, store.signer.seal("change", name, body), xx=True, keepttl=True)
            try:
                await pipe.execute()
            except WatchError:
                raise ConflictError from None
            count += 1
    return count


async def _document(store: Store, actor: str) -> None:
    for _ in range(ATTEMPTS):
        base = await store.current()
        try:
            await store.commit(base, base.document, actor=actor, action=RESEAL, subject=base.document.gateway)
        except ConflictError:
            continue
        return
    raise ConflictError


def _signed_by(sealed: bytes) -> str:
    try:
        return str(orjson.loads(sealed.partition(b"\n")[0])["kid"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise ForgedError("a record is not sealed") from None
