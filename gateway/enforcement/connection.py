"""Connections to Redis: no retries, a timeout on everything.

redis-py retries ten times by default; a retried write runs twice, and a retried read blocks what waits for it.
Whoever calls decides what a failure means.
"""

import os
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from gateway.settings import Settings

Client = Any
"""A ``redis.asyncio.Redis``. Its methods are typed as unions of bytes, text, and sync and async answers."""

FEED_BLOCK_MS = 5_000
"""How long a read of the feed waits for news. The connection's own timeout must be longer."""


def url_of(settings: Settings) -> str:
    """The address of Redis; the embedded one listens on a Unix socket in a short path."""
    if settings.redis.url == "embedded":
        return f"unix://{quote(str(embedded_socket(settings.state_dir)))}"
    return settings.redis.url


def embedded_socket(state_dir: Path) -> Path:
    """Where the embedded server listens. Socket paths end at 107 bytes, so it is not in ``state_dir`` itself."""
    short = sha256(str(state_dir.resolve()).encode()).hexdigest()[:16]
    base = Path(os.environ.get("XDG_RUNTIME_DIR") or "/tmp")  # noqa: S108 - the directory below is ours alone
    return base / f"portcullis-{os.getuid()}-{short}" / "redis.sock"


def connect(settings: Settings, timeout: float = 2.0) -> Client:
    """A client with a pool; each command fails after ``timeout`` seconds."""
    password = settings.redis.password.get_secret_value() if settings.redis.password else None
    return Redis.from_url(
        url_of(settings),
        socket_timeout=timeout,
        socket_connect_timeout=min(timeout, 2.0),
        retry=Retry(NoBackoff(), 0),
        health_check_interval=0,
        protocol=2,
        password=password,
    )
