"""An issuer's public keys: fetched in the background, kept when that fails, and asked for again sparingly.

A token that names a key nobody knows costs its sender a wait, and the issuer at most one request in
``INTERVAL`` seconds, however many such tokens come.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from time import monotonic
from typing import Any

import aiohttp
import orjson
import structlog

from gateway import tasks
from gateway.identity.jose import PublicKey, public_key

REFRESH_SECONDS = 600.0
"""How long a key that the issuer withdrew may still verify."""

INTERVAL = 30.0
"""Seconds between two fetches, if a key is missing; the first is at the start."""

WAIT_SECONDS = 2.0
"""How long a request waits for a fetch under way: a key may be new, and SDKs do not try again after a 401."""

FETCH_SECONDS = 5.0
MAX_BYTES = 256 * 1024
"""Of a key set. Real ones have a few KiB."""

Fetch = Callable[[str], Awaitable[bytes]]
KeyId = tuple[str, str]
"""``kid`` and ``kty``: some issuers give keys of two types one name."""


class KeySetError(Exception):
    """An issuer's keys could not be had."""


async def fetch(url: str) -> bytes:
    """Get a document. Redirects are not followed: they would make another server the issuer.

    Raises:
        KeySetError: there was no answer in time, or not one that can be used.
    """
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(FETCH_SECONDS), auto_decompress=False) as session,
            session.get(url, allow_redirects=False, headers={"Accept-Encoding": "identity"}) as response,
        ):
            if response.status != 200:
                raise KeySetError(f"status {response.status}")
            data = bytearray()
            async for piece in response.content.iter_any():
                data += piece
                if len(data) > MAX_BYTES:
                    raise KeySetError(f"more than {MAX_BYTES} bytes")
            return bytes(data)
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise KeySetError(f"{type(error).__name__}: {error}") from None


def read_key_set(data: bytes) -> dict[KeyId, PublicKey]:
    """The usable keys of a JWK Set (RFC 7517 §5). Others are left out, as it says; of two alike the first counts.

    Raises:
        KeySetError: it is no key set.
    """
    try:
        listed: Any = orjson.loads(data)["keys"]
    except (ValueError, TypeError, KeyError):
        raise KeySetError("not a JWK Set") from None
    if not isinstance(listed, list):
        raise KeySetError("not a JWK Set")
    keys: dict[KeyId, PublicKey] = {}
    for entry in listed:
        kid = entry.get("kid") if isinstance(entry, Mapping) else None
        key = public_key(entry) if isinstance(kid, str) else None
        if isinstance(kid, str) and key is not None:
            keys.setdefault((kid, key.type), key)
    return keys


class IssuerKeys:
    """The public keys of one issuer, as far as they are known."""

    def __init__(self, name: str, url: str, get: Fetch = fetch, clock: Callable[[], float] = monotonic) -> None:
        self._url = url
        self._get = get
        self._clock = clock
        self._keys: dict[KeyId, PublicKey] = {}
        self._began_at = float("-inf")
        self._fetching: asyncio.Task[None] | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._told: object = None
        self._log = structlog.get_logger("portcullis.issuers").bind(issuer=name)

    def get(self, kid: str, kind: str) -> PublicKey | None:
        """A key, if it is known."""
        return self._keys.get((kid, kind))

    def start(self) -> None:
        """Fetch now, and from time to time."""
        self._keeping = tasks.spawn(self._keep(), "issuer-keys")

    async def close(self) -> None:
        """Fetch no more."""
        await tasks.cancel(self._keeping, self._fetching)

    async def look_again(self) -> None:
        """Fetch, because a key is missing, unless that was done just now. Returns when it is done, or takes long."""
        if self._fetching is None and self._clock() - self._began_at >= INTERVAL:
            self._begin()
        if self._fetching is not None:
            await asyncio.wait([self._fetching], timeout=WAIT_SECONDS)

    async def _keep(self) -> None:
        while True:
            if self._fetching is None:
                self._begin()
            assert self._fetching is not None
            await asyncio.wait([self._fetching])
            await asyncio.sleep(REFRESH_SECONDS if self._keys else INTERVAL)

    def _begin(self) -> None:
        self._began_at = self._clock()
        self._fetching = tasks.spawn(self._refresh(), "issuer-keys-fetch")
        self._fetching.add_done_callback(self._fetched)

    def _fetched(self, _: object) -> None:
        self._fetching = None

    async def _refresh(self) -> None:
        try:
            self._keys = read_key_set(await self._get(self._url))
        except KeySetError as error:
            self._tell("failed", "issuer_keys_unavailable", error=str(error), kept=len(self._keys))
        else:
            self._tell(set(self._keys), "issuer_keys", keys=sorted(kid for kid, _ in self._keys))

    def _tell(self, state: object, event: str, **fields: Any) -> None:
        """Log a change, not each fetch."""
        if state != self._told:
            self._told = state
            level = self._log.error if state == "failed" else self._log.info
            level(event, **fields)
