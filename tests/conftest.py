"""What tests of more than one package share: a real Redis, the control plane's key, waiting for a condition."""

import asyncio
import os
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from redis import Redis as BlockingRedis
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from gateway.embedded import find_server
from gateway.enforcement.keys import Keys
from gateway.enforcement.signing import Signer
from gateway.enforcement.store import Store

FORBID_SKIPS = "FORBID_SKIPS"
"""Where this is in the environment, what a test skips for lack of something counts as a failure."""

PATIENCE = 5.0
"""Seconds after which a test stops waiting for what should have happened at once."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[Any]:
    report = yield
    if report.skipped and FORBID_SKIPS in os.environ and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid}: skips are forbidden: {report.longrepr}"
    return report


@pytest.fixture(autouse=True)
def _environment_stays() -> Iterator[None]:
    """What a command sets for its process, where its settings are, say, is no other test's."""
    before = dict(os.environ)
    yield
    if os.environ != before:
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[str]:
    """The Unix socket of a redis-server that lives as long as the session."""
    with tempfile.TemporaryDirectory(prefix="pc-", dir="/tmp") as directory:
        socket = f"{directory}/redis.sock"
        command = [find_server(), "--port", "0", "--unixsocket", socket, "--save", "", "--dir", directory]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
            try:
                with BlockingRedis(unix_socket_path=socket) as client:
                    deadline = time.monotonic() + 20
                    while not _answers(client):
                        assert server.poll() is None
                        assert time.monotonic() < deadline
                        time.sleep(0.005)
                yield socket
            finally:
                server.kill()


def _answers(client: Any) -> bool:
    try:
        return client.ping()
    except RedisError:
        return False


def client_of(socket: str, timeout: float = 2.0) -> Redis:
    """A client as ``gateway.enforcement.connection`` makes them."""
    return Redis(unix_socket_path=socket, socket_timeout=timeout, retry=Retry(NoBackoff(), 0), protocol=2)


@pytest.fixture
async def redis(redis_server) -> AsyncIterator[Redis]:
    """A client of the session's server, emptied."""
    async with client_of(redis_server) as client:
        await client.flushall()
        yield client


@pytest.fixture
async def feed(redis_server) -> AsyncIterator[Redis]:
    """A second client, for reads that block."""
    async with client_of(redis_server, timeout=7.0) as client:
        yield client


@pytest.fixture(scope="session")
def signer() -> Signer:
    return Signer(Ed25519PrivateKey.generate())


@pytest.fixture(scope="session")
def stranger() -> Signer:
    """A key that nobody trusts."""
    return Signer(Ed25519PrivateKey.generate())


@pytest.fixture
def keys() -> Keys:
    return Keys("{pc}")


@pytest.fixture
def store(redis, keys, signer) -> Store:
    return Store(redis, keys, signer)


@pytest.fixture
def until() -> Callable[..., Any]:
    """Wait until a condition holds; it may be a coroutine function."""

    async def wait(condition: Callable[[], Any]) -> Any:
        async with asyncio.timeout(PATIENCE):
            while True:
                found = condition()
                if asyncio.iscoroutine(found):
                    found = await found
                if found:
                    return found
                await asyncio.sleep(0.001)

    return wait
