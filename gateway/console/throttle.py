"""Sign-ins that fail: each is answered late, and after some from one address the next ones are not looked at.

Tokens that the gateway makes have 256 random bits; this is for those that somebody chose. What is compared are hashes,
by a look-up, so that the time it takes says nothing about the token.
"""

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable

FAILED_SECONDS = 0.5
"""How long a wrong token's answer takes at the least."""

MOST, WINDOW_SECONDS = 10, 60.0
"""Failures of an address within so many seconds; further attempts wait for the window's end."""

ADDRESSES = 10_000
"""Addresses that are remembered; of more, the longest silent are forgotten."""


class Throttle:
    """Counts failures by address."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures: OrderedDict[str, list[float]] = OrderedDict()

    def wait(self, address: str) -> float:
        """Seconds until an address may try again; 0: now."""
        failures = self._recent(_network(address))
        return 0.0 if len(failures) < MOST else failures[-MOST] + WINDOW_SECONDS - self._clock()

    def failed(self, address: str) -> None:
        """Note one."""
        network = _network(address)
        self._failures[network] = [*self._recent(network), self._clock()][-MOST:]
        self._failures.move_to_end(network)
        if len(self._failures) > ADDRESSES:
            self._failures.popitem(last=False)

    def succeeded(self, address: str) -> None:
        """Whoever knows a token is no guesser."""
        self._failures.pop(_network(address), None)

    def _recent(self, network: str) -> list[float]:
        since = self._clock() - WINDOW_SECONDS
        return [moment for moment in self._failures.get(network, ()) if moment > since]


def _network(address: str) -> str:
    """An IPv4 address as it is; of IPv6 the /64 that one customer has."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    return str(ipaddress.ip_network((parsed, 64), strict=False)) if parsed.version == 6 else address
