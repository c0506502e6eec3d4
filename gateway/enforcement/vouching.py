"""What replicas say of themselves, vouched for: whoever can write to Redis acknowledges nothing in their name.

A receipt rests on acknowledgements. They carry a MAC under a key that control processes derive from the signing key
and hand to their workers; one that does not fit counts as not said, and the receipt waits for the lease to end.
Repeating a true one says nothing new: a replica never goes back behind what it has applied.
"""

import hmac
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

KEEP_FORMER = 4
"""Keys before the present one that are believed, by whoever was there when they were."""

_SAID = ("rev", "hash", "swept", "streams_cut", "draining", "finishing")


class Voucher:
    """Makes and checks MACs (HMAC-SHA256) of renewals and leaves.

    When the signing key is rotated, so is this one: who has heard of it already and who has not are both believed.
    """

    def __init__(self, key: bytes) -> None:
        self.key = key
        self._former: list[bytes] = []

    def turn(self, key: bytes) -> None:
        """Vouch by another key from here on, and believe the ones before it still."""
        if key != self.key:
            self._former = [known for known in (self.key, *self._former) if known != key][:KEEP_FORMER]
            self.key = key

    def renewal(self, member: str, said: Mapping[str, Any]) -> str:
        """The MAC of what a member says when it renews; ``said`` has rev, hash, swept, streams_cut, and so on."""
        return _mac(self.key, *_renewal(member, said))

    def leave(self, member: str) -> str:
        """The MAC of a member's leave."""
        return _mac(self.key, "leave", member)

    def vouches(self, member: str, said: Mapping[str, Any]) -> bool:
        """Whether what Redis lists of a member is what the member said, or a control process said of it."""
        if said.get("left"):
            return self._fits(said.get("left_mac"), "leave", member)
        if any(name not in said for name in _SAID):
            return False
        return self._fits(said.get("mac"), *_renewal(member, said))

    def _fits(self, found: Any, *parts: Any) -> bool:
        if not isinstance(found, str):
            return False
        given = found.encode()
        return any(hmac.compare_digest(_mac(key, *parts).encode(), given) for key in (self.key, *self._former))


def _renewal(member: str, said: Mapping[str, Any]) -> tuple[Any, ...]:
    return ("renewal", member, *(said[name] for name in _SAID))


def _mac(key: bytes, *parts: Any) -> str:
    return hmac.new(key, "\0".join(map(str, parts)).encode(), sha256).hexdigest()
