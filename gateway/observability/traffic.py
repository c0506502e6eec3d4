"""Who used what lately: counts per caller and model, flushed to Redis in hourly buckets.

A change's preview asks it whom a change would have hit. Ids only: what is known of a caller stays in its record.
"""

import time
from typing import Any

BUCKET_SECONDS = 3600
KEEP_SECONDS = 8 * 24 * 3600
MAX_PAIRS = 100_000
"""Pairs counted between two flushes; beyond, further ones are counted together as ``*``."""

Pair = tuple[str, str]


class Traffic:
    """Counts since the last flush."""

    def __init__(self) -> None:
        self._counts: dict[Pair, int] = {}

    def add(self, caller: str, model: str, count: int = 1) -> None:
        """Count permitted requests."""
        pair = (caller, model)
        if pair not in self._counts and len(self._counts) >= MAX_PAIRS:
            pair = ("*", model)
        self._counts[pair] = self._counts.get(pair, 0) + count

    def take(self) -> dict[Pair, int]:
        """The counts, and begin anew."""
        counts, self._counts = self._counts, {}
        return counts


def bucket(now: float | None = None) -> int:
    """The hour that a time is in, as its first second since the epoch."""
    moment = time.time() if now is None else now
    return int(moment // BUCKET_SECONDS) * BUCKET_SECONDS


async def flush(redis: Any, key: str, counts: dict[Pair, int]) -> None:
    """Add counts to a bucket.

    Raises:
        RedisError, OSError: they were not added.
    """
    if counts:
        async with redis.pipeline(transaction=False) as pipe:
            for (caller, model), count in counts.items():
                pipe.hincrby(key, f"{caller} {model}", count)
            pipe.expire(key, KEEP_SECONDS)
            await pipe.execute()


async def recent(redis: Any, keys: list[str]) -> dict[Pair, int]:
    """What some buckets hold together."""
    counts: dict[Pair, int] = {}
    for key in keys:
        stored: dict[bytes, bytes] = await redis.hgetall(key)
        for field, count in stored.items():
            caller, _, model = field.decode().partition(" ")
            counts[caller, model] = counts.get((caller, model), 0) + int(count)
    return counts
