"""Ways to a Redis: the primary only, whoever says where it is; and what the server must promise."""

import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvloop
from redis import Redis as BlockingRedis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoPermissionError, RedisError

from gateway.embedded import find_server
from gateway.enforcement import acl
from gateway.enforcement.connection import NotPrimaryError, connect
from gateway.enforcement.requirements import Finding, inspect, judged
from gateway.settings import Settings

STRICT = ("--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "noeviction")


class Server:
    """A redis-server of a test's own, on a Unix socket and a port."""

    def __init__(self, directory: Path, port: int) -> None:
        self.directory, self.port = directory, port
        self.socket = f"{directory}/redis.sock"

    def blocking(self) -> BlockingRedis:
        return BlockingRedis(unix_socket_path=self.socket)


@contextmanager
def running(*options: str, wait: bool = True):
    """A server with these options, dead at the end."""
    with tempfile.TemporaryDirectory(prefix="pc-", dir="/tmp") as name:
        directory = Path(name)
        port = free_port()
        server = Server(directory, port)
        command = [find_server(), "--port", str(port), "--unixsocket", server.socket, "--save", "", "--dir", name]
        with subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL) as process:
            try:
                with server.blocking() as client:
                    while wait and not answers(client):
                        assert process.poll() is None
                        time.sleep(0.005)
                yield server
            finally:
                process.kill()


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(client) -> bool:
    try:
        return client.ping()
    except RedisError:
        return False


def settings(url: str, **fields) -> Settings:
    return Settings(redis={"url": url, **fields})


async def ping(url: str, *, replica: bool = False, **fields) -> bool:
    client = connect(settings(url, **fields), replica=replica)
    try:
        return await client.ping()
    finally:
        await client.aclose()


@pytest.fixture(scope="module")
def primary():
    with running(*STRICT) as server:
        yield server


@pytest.fixture(scope="module")
def follower(primary):
    with running("--replicaof", "127.0.0.1", str(primary.port)) as server:
        yield server


@pytest.mark.parametrize("form", ["unix://{0.socket}", "redis://127.0.0.1:{0.port}", "redis://127.0.0.1:{0.port}/3"])
async def test_an_address_leads_to_the_server(primary, form):
    assert await ping(form.format(primary))


async def test_a_server_that_follows_another_is_refused(follower):
    with pytest.raises(NotPrimaryError):
        await ping(f"unix://{follower.socket}")


async def test_nobody_there_is_an_error_at_once():
    with pytest.raises(RedisConnectionError):
        await ping("redis://127.0.0.1:1")


def test_a_connection_that_was_closed_before_a_write_is_lost(primary):
    """uvloop's transports raise a RuntimeError then, which nobody who talks to Redis expects."""

    async def write() -> None:
        client = connect(Settings(redis={"url": f"unix://{primary.socket}"}))
        await client.ping()
        connection = await client.connection_pool.get_connection()
        connection._writer.transport.abort()
        try:
            with pytest.raises(RedisConnectionError):
                await connection.send_command("PING")
        finally:
            await client.connection_pool.release(connection)
            await client.aclose()

    uvloop.run(write())


@pytest.mark.parametrize(
    "url", ["redis:", "http://host", "sentinel://host:1", "sentinel://host:1/", "sentinel:///name", "127.0.0.1:6379"]
)
def test_an_address_that_leads_nowhere_stops_the_start(url):
    with pytest.raises(ValueError, match="url"):
        settings(url)


# ------------------------------------------------------------------------------------------------ through Sentinels


@pytest.fixture(scope="module")
def sentinel(primary, follower):
    with tempfile.TemporaryDirectory(prefix="pc-", dir="/tmp") as name:
        port = free_port()
        config = Path(name) / "sentinel.conf"
        config.write_text(f"port {port}\ndir {name}\nsentinel monitor gate 127.0.0.1 {primary.port} 1\n")
        with subprocess.Popen([find_server(), config, "--sentinel"], stdout=subprocess.DEVNULL) as process:
            try:
                with BlockingRedis(port=port) as client:
                    while not answers(client):
                        assert process.poll() is None
                        time.sleep(0.005)
                yield port
            finally:
                process.kill()


async def test_a_sentinel_is_asked_for_the_primary(sentinel, primary):
    client = connect(settings(f"sentinel://127.0.0.1:1,127.0.0.1:{sentinel}/gate"))
    try:
        assert (await client.config_get("port"))["port"] == str(primary.port)
    finally:
        await client.aclose()


async def test_a_group_that_no_sentinel_knows_is_an_error(sentinel):
    with pytest.raises(RedisError):
        await ping(f"sentinel://127.0.0.1:{sentinel}/other")


# ------------------------------------------------------------------------------------------------ users


@pytest.fixture(scope="module")
def guarded():
    """A server with a user for each side, and nobody else."""
    with running(*STRICT) as server, server.blocking() as client:
        if int(client.info()["redis_version"].split(".")[0]) < 7:
            pytest.skip("rights per key and direction came with Redis 7")
        client.execute_command("ACL", "SETUSER", "control", ">secret-c", *acl.rules(acl.CONTROL))
        client.execute_command("ACL", "SETUSER", "replica", ">secret-r", *acl.rules(acl.REPLICA))
        client.hset("{pc}:cur", "rev", "1")
        client.set("{pc}:caller:alice", "sealed")
        client.set("elsewhere", "x")
        client.execute_command("ACL", "SETUSER", "default", "off")
        yield server


USERS = {"username": "control", "password": "secret-c", "replica_username": "replica", "replica_password": "secret-r"}


@pytest.mark.parametrize("side", [False, True])
async def test_each_side_signs_in_as_its_own_user(guarded, side):
    client = connect(settings(f"unix://{guarded.socket}", **USERS), replica=side)
    try:
        assert (await client.client_info())["user"] == ("replica" if side else "control")
    finally:
        await client.aclose()


async def test_a_wrong_password_is_refused_and_not_repeated_in_the_error(guarded):
    with pytest.raises(RedisConnectionError) as caught:
        await ping(f"unix://{guarded.socket}", username="control", password="wrong-secret")
    assert "wrong-secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("side", "command", "allowed"),
    [
        (True, ("HGETALL", "{pc}:cur"), True),
        (True, ("GET", "{pc}:caller:alice"), True),
        (True, ("SET", "{pc}:caller:alice", "forged"), False),
        (True, ("DEL", "{pc}:cur"), False),
        (True, ("XADD", "{pc}:log", "*", "a", "b"), False),
        (True, ("XADD", "{pc}:evidence", "*", "a", "b"), False),
        (True, ("GET", "elsewhere"), False),
        (True, ("CONFIG", "GET", "save"), False),
        (True, ("FLUSHALL",), False),
        (False, ("SET", "{pc}:caller:bob", "sealed"), True),
        (False, ("CONFIG", "GET", "save"), True),
        (False, ("CONFIG", "SET", "save", ""), False),
        (False, ("GET", "elsewhere"), False),
        (False, ("FLUSHALL",), False),
        (False, ("KEYS", "*"), False),
        (False, ("SHUTDOWN",), False),
    ],
)
async def test_each_side_may_do_what_it_needs_and_no_more(guarded, side, command, allowed):
    client = connect(settings(f"unix://{guarded.socket}", **USERS), replica=side)
    try:
        if allowed:
            await client.execute_command(*command)
        else:
            with pytest.raises(NoPermissionError):
                await client.execute_command(*command)
    finally:
        await client.aclose()


def test_rights_follow_the_prefix():
    assert "~{other}:*" in acl.rules(acl.CONTROL, "{other}")


# ------------------------------------------------------------------------------------------------ what it must promise


async def findings_of(socket: str, **fields) -> list[Finding]:
    client = connect(settings(f"unix://{socket}", **fields))
    try:
        return await inspect(client)
    finally:
        await client.aclose()


async def test_a_server_that_forgets_nothing_is_fine(guarded):
    assert await findings_of(guarded.socket, **USERS) == []


async def test_a_server_as_it_is_installed_is_not_enough():
    with running() as server:
        assert [(finding.what, finding.fatal) for finding in await findings_of(server.socket)] == [("appendonly", True)]


async def test_where_the_settings_cannot_be_read_it_says_which_matter():
    with running(*STRICT, "--rename-command", "CONFIG", "") as server:
        (finding,) = await findings_of(server.socket)
    assert not finding.fatal
    assert "appendfsync" in finding.advice


GOOD = {
    "maxmemory-policy": "noeviction",
    "maxmemory": "0",
    "appendonly": "yes",
    "appendfsync": "always",
    "replicas": "0",
    "min-replicas-to-write": "0",
}


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({}, []),
        ({"maxmemory-policy": "allkeys-lru"}, []),  # nothing is evicted without a limit
        ({"maxmemory-policy": "allkeys-lru", "maxmemory": "1000"}, ["maxmemory-policy"]),
        ({"appendonly": "no"}, ["appendonly"]),
        ({"appendfsync": "everysec"}, ["appendfsync"]),
        ({"appendonly": "no", "appendfsync": "everysec"}, ["appendonly"]),
        ({"replicas": "1"}, ["min-replicas-to-write"]),
        ({"replicas": "1", "min-replicas-to-write": "1"}, []),
    ],
)
def test_each_setting_is_judged(change, found):
    assert [finding.what for finding in judged(GOOD | change)] == found
