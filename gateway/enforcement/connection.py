"""Connections to Redis: to its primary only, no retries, a timeout on everything.

redis-py retries ten times by default; a retried write runs twice, and a retried read blocks what waits for it.
Whoever calls decides what a failure means. It also believes what a Sentinel says: here each new connection asks the
server for its role.
"""

import os
import ssl
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError

from gateway.settings import Redis as Section
from gateway.settings import Settings

Client = Any
"""A ``redis.asyncio.Redis``. Its methods are typed as unions of bytes, text, and sync and async answers."""

FEED_BLOCK_MS = 5_000
"""How long a read of the feed waits for news. The connection's own timeout must be longer."""

CONNECT_SECONDS = 2.0
SENTINEL_PORT = 26379


class NotPrimaryError(RedisConnectionError):
    """The server is a replica: what it says may be old, and what it is told is lost."""


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


def connect(settings: Settings, timeout: float = 2.0, *, replica: bool = False) -> Client:
    """A client with a pool; each command fails after ``timeout`` seconds.

    ``replica``: with the credentials of the data plane, which may do less, where there are some.
    """
    url, section = url_of(settings), settings.redis
    options: dict[str, Any] = {
        "socket_timeout": timeout,
        "socket_connect_timeout": min(timeout, CONNECT_SECONDS),
        "retry": Retry(NoBackoff(), 0),
        "health_check_interval": 0,
        "protocol": 2,
        "redis_connect_func": _greet,
        **_credentials(section, replica=replica),
    }
    if url.startswith("sentinel"):
        return _losable(_through_sentinels(url, section, options))
    if url.startswith("rediss:") and section.ca_file is not None:
        options["ssl_ca_certs"] = str(section.ca_file)
    return _losable(Redis.from_url(url, **options))


def _losable(client: Client) -> Client:
    """Have uvloop's RuntimeError, for a connection that was closed just before a write, be a lost connection."""
    pool = client.connection_pool

    class Losable(pool.connection_class):  # type: ignore[misc,name-defined]
        async def send_packed_command(self, *command: Any, **options: Any) -> None:
            try:
                await super().send_packed_command(*command, **options)
            except RuntimeError as error:
                raise RedisConnectionError(str(error)) from None

    pool.connection_class = Losable
    return client


def _credentials(section: Section, *, replica: bool) -> dict[str, str]:
    """User and password, where the URL does not have them."""
    own = replica and section.replica_username is not None
    username = section.replica_username if own else section.username
    password = section.replica_password if own else section.password
    found = {"username": username, "password": password.get_secret_value() if password is not None else None}
    return {name: value for name, value in found.items() if value is not None}


def _through_sentinels(url: str, section: Section, options: dict[str, Any]) -> Client:
    """``sentinel://host:port,host:port/name/db``; ``sentinels://`` with TLS to Sentinels and servers."""
    parts = urlsplit(url)
    name, _, database = parts.path.lstrip("/").partition("/")
    hosts = []
    for place in parts.netloc.rpartition("@")[2].split(","):
        host, _, port = place.partition(":")
        hosts.append((host, int(port or SENTINEL_PORT)))
    password = section.sentinel_password.get_secret_value() if section.sentinel_password else None
    secure: dict[str, Any] = {}
    if parts.scheme == "sentinels":
        secure = {"ssl": True, "ssl_ca_certs": str(section.ca_file) if section.ca_file else None}
        secure["ssl_min_version"] = ssl.TLSVersion.TLSv1_2
    of_sentinels = {key: options[key] for key in ("socket_timeout", "socket_connect_timeout", "retry")}
    sentinel = Sentinel(  # type: ignore[no-untyped-call]
        hosts, sentinel_kwargs={**of_sentinels, **secure, "password": password}
    )
    return sentinel.master_for(name, redis_class=_BehindSentinels, db=int(database or 0), **secure, **options)


class _BehindSentinels(Redis):
    """A client whose end is its connections' to the Sentinels, too."""

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        """Close all of it."""
        await super().aclose(close_connection_pool)
        for sentinel in self.connection_pool.sentinel_manager.sentinels:  # type: ignore[attr-defined]
            await sentinel.aclose()


async def _greet(connection: Any) -> None:
    """Sign in, then make sure that this is the primary: a Sentinel, or a name in DNS, may be behind.

    Raises:
        NotPrimaryError: it is not.
    """
    await connection.on_connect()
    await connection.send_command("ROLE")
    role = await connection.read_response()
    if role[0] != b"master":
        raise NotPrimaryError("this Redis is a replica; redis.url must lead to the primary")
