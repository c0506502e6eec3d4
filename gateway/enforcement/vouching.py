"""What replicas say of themselves, vouched for: whoever can write to Redis acknowledges nothing in their name.

A receipt rests on acknowledgements. They carry a MAC under a key that control processes derive from the signing key
and hand to their workers; one that does not fit counts as not said, and the receipt waits for the lease to end.
Repeating a true one says nothing new: a replica never goes back behind what it has applied.
"""

import hmac
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

_SAID = ("rev", "hash", "swept", "streams_cut", "draining", "finishing")


class Voucher:
    """Makes and checks MACs (HMAC-SHA256) of renewals and leaves."""

    def __init__(self, key: bytes) -> None:
        self.key = key

    def renewal(self, member: str, said: Mapping[str, Any]) -> str:
        """The MAC of what a member says when it renews; ``said`` has rev, hash, swept, streams_cut, and so on."""
        return self._mac("renewal", member, *(said[name] for name in _SAID))

    def leave(self, member: str) -> str:
        """The MAC of a member's leave."""
        return self._mac("leave", member)

    def vouches(self, member: str, said: Mapping[str, Any]) -> bool:
        """Whether what Redis lists of a member is what the member said, or a control process said of it."""
        if said.get("left"):
            return self._same(self.leave(member), said.get("left_mac"))
        if any(name not in said for name in _SAID):
            return False
        return self._same(self.renewal(member, said), said.get("mac"))

    @staticmethod
    def _same(expected: str, found: Any) -> bool:
        return isinstance(found, str) and hmac.compare_digest(expected.encode(), found.encode())

    def _mac(self, *parts: Any) -> str:
        message = "\0".join(map(str, parts)).encode()
        return hmac.new(self.key, message, sha256).hexdigest()
