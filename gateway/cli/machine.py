"""Commands that need the machine (settings, ``state_dir``, signing key): ``init``, ``appoint``, ``policy restore``."""

import contextlib
import json
import sys
import time
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path

import uvloop
from pydantic import ValidationError
from redis.exceptions import RedisError

from gateway.control.bootstrap import appoint as appointed
from gateway.control.bootstrap import initial, new_approver, people
from gateway.control.data import data_dir
from gateway.control.pseudonyms import pseudonym
from gateway.control.resealing import reseal
from gateway.control.restoring import NothingToRestoreError, Restored, WouldOpenError, restore
from gateway.control.seeds import SeedError, Seeds
from gateway.control.seeds import load as load_seeds
from gateway.embedded import EmbeddedRedis, NoServerError
from gateway.enforcement.connection import Client, connect
from gateway.enforcement.entry import Entry
from gateway.enforcement.keyring import (
    TRUSTED_AFTER_SECONDS,
    RotationError,
    activate,
    distrust,
    has_signer,
    prepare,
    read_signer,
    read_verifier,
)
from gateway.enforcement.keys import Keys
from gateway.enforcement.memory import Remembered, recall
from gateway.enforcement.signing import ForgedError, Signer, create_key
from gateway.enforcement.store import AlreadyInitialisedError, ConflictError, Edit, NotInitialisedError, Store
from gateway.identity.pseudonyms import DIGESTS, Pseudonyms
from gateway.serve import StartError, state_dir
from gateway.settings import Settings, SettingsError, load

SEEDS = ("catalog.toml", "groups.toml", "terms.toml")
"""What a policy starts from, where nobody says otherwise."""

_FAILURES = (SettingsError, StartError, SeedError, NoServerError, NothingToRestoreError, RotationError)


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Turn what can go wrong on a machine into a message and exit code 2 (settings) or 1."""
    try:
        yield
    except AlreadyInitialisedError:
        sys.exit("There is a policy in this Redis already; init never overwrites one.")
    except WouldOpenError as error:
        sys.exit(
            f"portcullis: nothing was restored: Redis has {error}, which the remembered policy lacks (--replacing)"
        )
    except _FAILURES as error:
        print(f"portcullis: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, SettingsError) else 1)
    except (RedisError, OSError) as error:
        sys.exit(f"portcullis: {type(error).__name__}: {error}")


@contextlib.asynccontextmanager
async def redis_of(settings: Settings) -> AsyncIterator[Client]:
    """A client; the embedded server runs meanwhile."""
    redis = EmbeddedRedis(settings.state_dir) if settings.redis.url == "embedded" else None
    if redis is not None:
        await redis.start()
    client = connect(settings)
    try:
        yield client
    finally:
        await client.aclose()
        if redis is not None and redis.started:
            await redis.stop()


def _store(client: Client, settings: Settings, signer: Signer) -> Store:
    """The control side of Redis; the evidence tells records by the same digests as the gateway that runs."""
    digest_key = partial(Pseudonyms(settings.pseudonym_key).key_for, DIGESTS)
    return Store(client, Keys(settings.redis.prefix), signer, digest_key=digest_key)


def _with_key(settings: Settings) -> Settings:
    """The settings of a machine that has the signing key.

    Raises:
        StartError: it has none.
    """
    if not has_signer(settings):
        raise StartError(f"there is no {settings.signing_key}: this is done on the machine that has it")
    return settings


# ------------------------------------------------------------------------------------------------ init


def init(
    config: Path | None,
    seeds: Path | None,
    operator: str,
    contact: str | None = None,
    information: str | None = None,
    *,
    if_needed: bool = False,
) -> None:
    """Write the first policy, or after a loss the remembered one; make the signing key and the first operator."""
    with explained():
        settings = load(config)
        state_dir(settings)
        given = {"contact": contact, "information": information}
        loaded = _seeds(seeds).model_copy(update={name: text for name, text in given.items() if text is not None})
        try:
            done, token = uvloop.run(begin(settings, loaded, operator))
        except AlreadyInitialisedError:
            if not if_needed:
                raise
            print("there is a policy already")
            return
        if isinstance(done, Restored):
            print(done)
        else:
            print(f"{done.action}: revision {done.rev}, epoch {done.epoch}, gateway {settings.gateway}")
        _show_token(operator, token)


def _seeds(directory: Path | None) -> Seeds:
    files = [data_dir("seeds") / name for name in SEEDS] if directory is None else sorted(directory.glob("*.toml"))
    if not files:
        raise StartError(f"there is no *.toml in {directory}")
    return load_seeds(*files)


def _show_token(operator: str, token: str | None) -> None:
    if token is not None:
        print(f"operator {operator} (approver), token shown once:\n{token}")


async def begin(settings: Settings, seeds: Seeds, operator: str | None) -> tuple[Entry | Restored, str | None]:
    """Write revision 1, or the remembered policy one above it. Without an operator in the seeds, one is made."""
    async with redis_of(settings) as client:
        if await client.exists(Keys(settings.redis.prefix).cur):
            raise AlreadyInitialisedError
        signer = read_signer(settings) if has_signer(settings) else create_key(settings.signing_key)
        store = _store(client, settings, signer)
        seeds, token = _operated(seeds, operator)
        remembered = recall(settings.state_dir, signer)
        if remembered is not None:
            return await restore(store, remembered, _people(store, settings, seeds), actor="init"), token
        document = seeds.document(settings.gateway)
        return await initial(
            store, document, seeds.operators, seeds.callers, pseudonym=lambda c: pseudonym(settings, c)
        ), token


def _operated(seeds: Seeds, operator: str | None) -> tuple[Seeds, str | None]:
    """Seeds with somebody who can appoint others, and the token, where that one is new."""
    if seeds.operators or operator is None:
        return seeds, None
    approver, token = new_approver()
    return seeds.model_copy(update={"operators": {operator: approver}}), token


def _people(store: Store, settings: Settings, seeds: Seeds) -> Edit:
    return people(store, seeds.operators, seeds.callers, lambda caller: pseudonym(settings, caller))


# ------------------------------------------------------------------------------------------------ appoint


def appoint(config: Path | None, operator: str) -> None:
    """Make somebody an approver who counts as nobody else, and show the token once."""
    with explained():
        token = uvloop.run(_appoint(_with_key(load(config)), operator))
        _show_token(operator, token)


async def _appoint(settings: Settings, operator: str) -> str:
    async with redis_of(settings) as client:
        store = _store(client, settings, read_signer(settings))
        try:
            return await appointed(store, operator)
        except (NotInitialisedError, ForgedError, ConflictError) as error:
            raise StartError(f"nobody was appointed: {type(error).__name__} {error}".rstrip()) from None
        except ValidationError:
            raise StartError(f"nobody was appointed: {operator!r} is no id (letters, digits and . _ : -)") from None


# ------------------------------------------------------------------------------------------------ what is remembered


def show_remembered(config: Path | None, *, as_json: bool) -> None:
    """The policy that this machine's workers applied last, as it would be restored. Needs no Redis and no token."""
    with explained():
        known = _remembered(load(config))
        entry = known.entry
        document = known.document.model_dump(mode="json", by_alias=True, exclude_none=True)
        if as_json:
            names = ("epoch", "rev", "hash", "at", "actor", "action", "subject")
            print(json.dumps({name: getattr(entry, name) for name in names} | {"document": document}))
            return
        about = f"{entry.at}, {entry.action} {entry.subject} by {entry.actor}"
        print(f"remembered: revision {entry.rev}, epoch {entry.epoch}, {about}", file=sys.stderr)
        print(json.dumps(document, indent=2))


def _remembered(settings: Settings) -> Remembered:
    known = recall(settings.state_dir, read_verifier(settings))
    if known is None:
        raise NothingToRestoreError(f"{settings.state_dir} remembers no policy: no worker of this machine applied one")
    return known


def restore_policy(config: Path | None, seeds: Path | None, operator: str, *, replacing: bool) -> None:
    """Propose the remembered policy under a new epoch, where Redis is empty, unreadable or behind."""
    with explained():
        settings = _with_key(load(config))
        done, token = uvloop.run(_restore(settings, _seeds(seeds), operator, replacing=replacing))
        print(done)
        if done.over.empty:
            _show_token(operator, token)


async def _restore(settings: Settings, seeds: Seeds, operator: str, *, replacing: bool) -> tuple[Restored, str | None]:
    async with redis_of(settings) as client:
        store = _store(client, settings, read_signer(settings))
        seeds, token = _operated(seeds, operator)
        remembered = _remembered(settings)
        return await restore(store, remembered, _people(store, settings, seeds), replacing=replacing), token


# ------------------------------------------------------------------------------------------------ signing keys


def signing_list(config: Path | None) -> None:
    """The keys that are trusted, and which of them signs."""
    with explained():
        settings = load(config)
        signs = read_signer(settings).kid if has_signer(settings) else None
        for kid in read_verifier(settings).trusted:
            print(f"{kid}{'  signs' if kid == signs else ''}")


def signing_prepare(config: Path | None) -> None:
    """Make the next key, and let this machine trust it."""
    with explained():
        kid, public = prepare(_with_key(load(config)))
        print(f"{kid} is trusted here, and signs nothing yet. Copy {public} to every other machine of this gateway,")
        print("then: portcullis signing activate")


def signing_activate(config: Path | None) -> None:
    """Sign with the next key."""
    with explained():
        old, new = activate(_with_key(load(config)))
        print(f"{new} signs from here on; {old} is still trusted. Copy the key to every other machine that runs serve,")
        print(f"then, to trust the old one no longer: portcullis signing retire {old}")


def signing_retire(config: Path | None, kid: str) -> None:
    """Sign anew what an old key has signed, and trust that no longer."""
    with explained():
        settings = _with_key(load(config))
        count = uvloop.run(_retire(settings, kid))
        time.sleep(TRUSTED_AFTER_SECONDS)  # workers remember the last revision by then
        distrust(settings, kid)
        print(f"{kid} is trusted no longer here; {count} records were signed anew. Copy the public keys to the others.")
        print("Keep the old public key for whoever checks the log: what it signed there stays as it is.")


async def _retire(settings: Settings, kid: str) -> int:
    signer = read_signer(settings)
    if kid == signer.kid or kid not in signer.trusted:
        raise RotationError(f"{kid} is {'the one that signs' if kid == signer.kid else 'none of the trusted keys'}")
    async with redis_of(settings) as client:
        try:
            return await reseal(_store(client, settings, signer), "host")
        except (NotInitialisedError, ForgedError, ConflictError) as error:
            raise RotationError(f"nothing was retired: {type(error).__name__} {error}".rstrip()) from None
