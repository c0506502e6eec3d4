"""Looks at what lies in Redis as a worker would that starts now: replicas that serve look at it once, and never again.

Nobody gains access by an edit in Redis, but whoever starts after one refuses everything. It is said before.
"""

import asyncio

import structlog
from redis.exceptions import RedisError

from gateway.enforcement.signing import ForgedError
from gateway.enforcement.store import NotInitialisedError, Store

AUDIT_SECONDS = 1.0

_log = structlog.get_logger("portcullis.audit")


class Audit:
    """One of these belongs to each control process. ``forged`` counts how often it found something anew."""

    def __init__(self, store: Store) -> None:
        self.forged = 0
        self._store = store
        self._told: tuple[str, str] | None = None

    async def run(self) -> None:
        """Look every few seconds."""
        while True:
            await asyncio.sleep(AUDIT_SECONDS)
            await self.look()

    async def look(self) -> None:
        """Verify the policy in force; log a change of what is found, once."""
        try:
            await self._store.verify()
        except NotInitialisedError:
            self._tell("policy_gone", "Redis holds no policy; restore it with `portcullis init`")
        except ForgedError as error:
            self._tell("policy_forged", str(error))
        except (RedisError, OSError, TimeoutError):
            return
        else:
            if self._told is not None:
                _log.info("policy_sound")
            self._told = None

    def _tell(self, event: str, error: str) -> None:
        if (event, error) != self._told:
            self._told = (event, error)
            self.forged += 1
            _log.critical(event, error=error)
