"""Names to addresses: asked for off the loop, once at a time, kept a while; and which addresses have failed.

Where the name servers are away, what was known last is used on: a provider rarely moves while they are.
"""

import asyncio
import socket
from collections.abc import Iterable
from itertools import chain, zip_longest
from typing import Any

import structlog

from gateway import tasks

ASIDE_SECONDS = 30.0
"""How long an address that failed is tried last."""

ASK_AGAIN_SECONDS = 5.0
"""How soon to ask again after the name servers gave no answer."""

Address = tuple[int, tuple[Any, ...]]
"""Family, and what a socket of it connects to."""

_Key = tuple[str, int]
_log = structlog.get_logger("portcullis.resolver")


class Resolver:
    """The addresses of names. One per worker."""

    def __init__(self, ttl: float) -> None:
        self._ttl = ttl
        self._known: dict[_Key, tuple[float, list[Address]]] = {}
        self._asking: dict[_Key, asyncio.Task[None]] = {}
        self._aside: dict[Address, float] = {}
        self._loop = asyncio.get_running_loop()

    async def addresses(self, host: str, port: int) -> list[Address]:
        """Where to try, in this order: families in turn (RFC 8305 §4), those that failed lately last.

        Raises:
            OSError: the name is not known, and never was.
        """
        key = (host, port)
        until, addresses = self._known.get(key, (0.0, []))
        if until <= self._loop.time():
            await asyncio.shield(self._ask(key))
            _, addresses = self._known.get(key, (0.0, []))
        if not addresses:
            raise OSError(f"{host} does not resolve")
        now = self._loop.time()
        return sorted(addresses, key=lambda address: self._aside.get(address, 0.0) > now)

    def _ask(self, key: _Key) -> asyncio.Task[None]:
        """One question at a time for each name, however many want to know."""
        task = self._asking.get(key)
        if task is None:
            task = self._asking[key] = tasks.spawn(self._look_up(key), f"resolve-{key[0]}")
        return task

    async def _look_up(self, key: _Key) -> None:
        host, port = key
        try:
            found = await self._loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:  # UnicodeError: no name can be so
            _, addresses = self._known.get(key, (0.0, []))
            self._known[key] = (self._loop.time() + (ASK_AGAIN_SECONDS if addresses else 0.0), addresses)
            _log.warning("name_not_resolved", host=host, error=str(error), used=len(addresses))
        else:
            addresses = in_turn((family, place) for family, _, _, _, place in found)
            self._known[key] = (self._loop.time() + self._ttl, addresses)
        finally:
            del self._asking[key]

    def failed(self, address: Address) -> None:
        """An address gave no connection."""
        now = self._loop.time()
        self._aside = {known: until for known, until in self._aside.items() if until > now}
        self._aside[address] = now + ASIDE_SECONDS

    def worked(self, address: Address) -> None:
        """An address gave one."""
        self._aside.pop(address, None)


def in_turn(addresses: Iterable[Address]) -> list[Address]:
    """Each address once, the families in turn, beginning with the first one's."""
    families: dict[int, dict[Address, None]] = {}
    for address in addresses:
        families.setdefault(address[0], {})[address] = None
    return [address for address in chain.from_iterable(zip_longest(*families.values())) if address is not None]
