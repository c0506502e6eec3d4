"""A commit counts where enough of Redis' replicas have it, by a WAIT on the connection that made it."""

import asyncio
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest
from enforcement_harness import FakeMember
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from samples import document, hold

from gateway.embedded import find_server
from gateway.enforcement.receipts import Receipts
from gateway.enforcement.store import Edit, Store


class Server:
    """A redis-server; ``port`` only so that another one can follow it."""

    def __init__(self, directory: Path, name: str, follows: "Server | None" = None) -> None:
        self.socket = str(directory / f"{name}.sock")
        self.port = _free_port()
        following = ["--replicaof", "127.0.0.1", str(follows.port)] if follows else []
        self.process = subprocess.Popen(
            [find_server(), "--port", str(self.port), "--bind", "127.0.0.1", "--unixsocket", self.socket, "--save", "",
             "--dir", directory, "--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0", *following],
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        self.client = Redis(unix_socket_path=self.socket, socket_timeout=5, retry=Retry(NoBackoff(), 0), protocol=2)

    async def answers(self) -> bool:
        try:
            return bool(await self.client.ping())
        except RedisError:
            return False

    async def stop(self) -> None:
        await self.client.aclose()
        self.process.kill()
        self.process.wait()


def _free_port() -> int:
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture
async def servers(until):
    with tempfile.TemporaryDirectory(prefix="pc-", dir="/tmp") as directory:
        primary = Server(Path(directory), "primary")
        replica = None
        try:
            await until(primary.answers)
            replica = Server(Path(directory), "replica", primary)

            async def follows() -> bool:
                return await replica.answers() and (await primary.client.info("replication"))["connected_slaves"] == 1

            await until(follows)
            await until(lambda: _online(primary))
            yield primary, replica
        finally:
            for server in (primary, replica):
                if server is not None:
                    await server.stop()


async def _online(primary: Server) -> bool:
    return (await primary.client.info("replication")).get("slave0", {}).get("state") == "online"


@pytest.fixture
async def begun(servers, keys, signer):
    async def begin(count: int) -> Store:
        store = Store(servers[0].client, keys, signer, replicas_ack=count)
        await store.init(document(), Edit(), actor="me")
        return store

    return begin


async def close(store: Store, op_id: str | None = None):
    base = await store.current()
    closed = base.document.edited(holds={f"h-{base.rev}": hold("gpt-5.4")})
    return await store.commit(base, closed, actor="op", action="offline", subject="x", op_id=op_id)


async def receipt_of(store: Store, committed):
    receipts = Receipts(store, store.redis)
    receipt = receipts.open(committed, ["gpt-5.4"])
    async with asyncio.timeout(10):
        await receipt.done.wait()
    return receipt.view()


async def test_enough_replicas_make_it_durable(begun, servers):
    store = await begun(1)
    member = FakeMember(store, "w0")
    await member.renew()
    committed = await close(store)
    assert committed.durable is True
    assert await servers[1].client.hget(store.keys.cur, "rev") == b"2"
    await member.renew()
    view = await receipt_of(store, committed)
    assert (view["durable"], view["enforced"], view["basis"]) == (True, True, "all_acked")


async def test_too_few_replicas_make_a_receipt_that_says_so(begun):
    store = await begun(2)
    member = FakeMember(store, "w0")
    await member.renew()
    committed = await close(store)
    await member.renew()
    view = await receipt_of(store, committed)
    assert (view["durable"], view["enforced"], view["state"], view["basis"]) == (False, False, "pending", "all_acked")


async def test_a_replica_that_hangs_does_not_count(begun, servers, monkeypatch):
    store = await begun(1)
    servers[1].process.send_signal(signal.SIGSTOP)
    try:
        with monkeypatch.context() as patch:
            patch.setattr("gateway.enforcement.store.WAIT_MS", 50)
            assert (await close(store)).durable is False
    finally:
        servers[1].process.send_signal(signal.SIGCONT)
    assert (await close(store)).durable is True


async def test_where_none_must_nothing_is_said(begun):
    store = await begun(0)
    committed = await close(store)
    assert committed.durable is None
    assert "durable" not in await receipt_of(store, committed)


async def test_an_operation_that_is_repeated_is_not_said_to_be_durable(begun):
    """WAIT asks for what this connection wrote: of an earlier commit it would say yes whatever is true."""
    store = await begun(1)
    assert (await close(store, op_id="once")).durable is True
    again = await close(store, op_id="once")
    assert (again.repeated, again.durable) == (True, False)


async def test_a_conflict_is_one_in_this_way_too(begun):
    from gateway.enforcement.store import ConflictError

    store = await begun(1)
    base = await store.current()
    await close(store)
    with pytest.raises(ConflictError):
        await store.commit(base, base.document.edited(holds={"h": hold("*")}), actor="x", action="y", subject="z")
