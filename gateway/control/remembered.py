"""Operators as this machine last knew them: who may close something while Redis cannot be reached.

Their records as they are sealed, in memory and in ``state_dir``; none that does not verify counts. They are looked up
anew with every revision, so that who was removed in the last second before Redis went away may still close models on
this machine, and nothing else.
"""

import asyncio
import os
from pathlib import Path

import orjson
import structlog
from redis.exceptions import RedisError

from gateway.enforcement.entry import Position
from gateway.enforcement.signing import ForgedError
from gateway.enforcement.store import NotInitialisedError, Store
from gateway.identity.records import OperatorRecord

FILE = "operators.json"
MAX_OPERATORS = 1000
LOOK_SECONDS = 1.0

_log = structlog.get_logger("portcullis.control")


class Operators:
    """The operators of this gateway, by what is stored of their tokens."""

    def __init__(self, store: Store, state_dir: Path) -> None:
        self._store = store
        self._file = state_dir / FILE
        self._sealed: dict[str, bytes] = {}
        self._by_token: dict[str, OperatorRecord] = {}
        self._seen: Position | None = None
        self._load()

    def by_fingerprint(self, token_sha256: str) -> OperatorRecord | None:
        """Whose token it was, when this was last known."""
        return self._by_token.get(token_sha256)

    async def run(self) -> None:
        """Look every second; while Redis is away, what is known stays."""
        while True:
            try:
                await self.look()
            except (RedisError, OSError, TimeoutError, ForgedError, NotInitialisedError, ValueError) as error:
                _log.debug("operators_not_now", error=type(error).__name__)
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Take in what a new revision may have changed.

        Raises:
            RedisError, OSError: not now.
        """
        position = (await self._store.current()).position
        if position == self._seen:
            return
        sealed = await self._store.records.sealed_operators(MAX_OPERATORS)
        if sealed != self._sealed:
            self._take(sealed)
            await asyncio.to_thread(self._keep)
        self._seen = position

    def _take(self, sealed: dict[str, bytes]) -> None:
        self._sealed = sealed
        self._by_token = {}
        for operator_id, record in sealed.items():
            try:
                operator = self._store.records.open_operator(operator_id, record)
            except (ForgedError, ValueError) as error:
                _log.error("operator_unusable", operator=operator_id, error=type(error).__name__)
                continue
            self._by_token[operator.token_sha256] = operator

    def _load(self) -> None:
        try:
            stored = orjson.loads(self._file.read_bytes())
            self._take({str(name): str(sealed).encode() for name, sealed in stored.items()})
        except FileNotFoundError:
            return
        except (OSError, ValueError, AttributeError) as error:
            _log.error("operators_unreadable", file=str(self._file), error=type(error).__name__)

    def _keep(self) -> None:
        temporary = self._file.with_suffix(".tmp")
        try:
            with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(orjson.dumps({name: sealed.decode() for name, sealed in self._sealed.items()}))
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self._file)
        except OSError as error:
            _log.error("operators_not_kept", error=str(error))
