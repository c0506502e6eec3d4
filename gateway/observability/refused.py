"""Names that were refused because the catalog has no such model: what somebody wants, and nobody has adopted."""

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

MOST = 200
"""Names that a worker remembers; the one that was asked for least lately goes first. Who has a key can make up more."""

Row = tuple[str, str, int, float]
"""A provider, a name there, how often it was refused, when last (seconds since the epoch)."""


class RefusedNames:
    """One worker's. Names are well formed: what is not has been refused as malformed."""

    def __init__(self) -> None:
        self._seen: OrderedDict[tuple[str, str], tuple[int, float]] = OrderedDict()

    def add(self, provider: str, name: str, at: float) -> None:
        """Count one."""
        times, _ = self._seen.pop((provider, name), (0, 0.0))
        self._seen[provider, name] = (times + 1, at)
        if len(self._seen) > MOST:
            self._seen.popitem(last=False)

    def rows(self) -> list[Row]:
        """All that are remembered."""
        return [(*key, *value) for key, value in self._seen.items()]


def merged(rows: Iterable[tuple[Any, ...]]) -> list[Row]:
    """Several workers' as one, the most wanted first."""
    found: dict[tuple[str, str], tuple[int, float]] = {}
    for provider, name, times, at in rows:
        before, last = found.get((provider, name), (0, 0.0))
        found[provider, name] = (before + times, max(last, at))
    every = [(*key, *value) for key, value in found.items()]
    return sorted(every, key=lambda row: (-row[2], row[0], row[1]))
