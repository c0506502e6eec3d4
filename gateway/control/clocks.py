"""What time it is where several machines must agree: as late as the last of their clocks says.

Each control process leaves in Redis what its clock said when Redis' own said something. Offsets between the two are
what is compared, so that it does not matter when each was written. A clock that is ahead is overruled by the others.
"""

import secrets
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import orjson
import structlog

from gateway.enforcement.store import Store

HEARD_SECONDS = 30.0
"""How long a control process that says nothing more counts."""

WORTH_A_WORD = 2.0
"""Seconds by which clocks may differ before it is told."""

_log = structlog.get_logger("portcullis.clocks")


def utc() -> datetime:
    """This machine's clock."""
    return datetime.now(UTC)


class Clocks:
    """One of these belongs to each scheduler."""

    def __init__(self, store: Store, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._clock = clock
        self._name = secrets.token_hex(8)
        self._differ = False

    async def earliest(self) -> datetime:
        """The time that no clock is behind of.

        Raises:
            RedisError, OSError: Redis does not say.
        """
        redis, key = self._store.redis, self._store.keys.clocks
        seconds, micros = await redis.time()
        there = int(seconds) + int(micros) / 1e6
        own = self._clock().timestamp() - there
        await redis.hset(key, self._name, orjson.dumps({"offset": own, "seen": there}))
        offsets = await self._heard(there)
        self._tell(offsets, own)
        return datetime.fromtimestamp(there, UTC) + timedelta(seconds=min(0.0, own, *offsets.values()))

    async def _heard(self, now: float) -> dict[str, float]:
        """How far the clocks of those that were heard of lately are ahead of Redis'; the others are forgotten."""
        redis, key = self._store.redis, self._store.keys.clocks
        found, gone = {}, []
        for name, value in (await redis.hgetall(key)).items():
            try:
                said = orjson.loads(value)
                offset, seen = float(said["offset"]), float(said["seen"])
            except (ValueError, KeyError, TypeError):
                gone.append(name)
                continue
            if abs(now - seen) > HEARD_SECONDS:
                gone.append(name)
            else:
                found[name.decode()] = offset
        if gone:
            await redis.hdel(key, *gone)
        return found

    def _tell(self, offsets: dict[str, float], own: float) -> None:
        spread = max(0.0, *offsets.values()) - min(0.0, *offsets.values()) if offsets else abs(own)
        differ = spread > WORTH_A_WORD
        if differ and not self._differ:
            _log.error("clocks_differ", seconds=round(spread, 1), own_ahead_of_redis=round(own, 1))
        elif self._differ and not differ:
            _log.info("clocks_agree")
        self._differ = differ
