"""The workers' port: who may have it, and whose queue is whose."""

import asyncio
import os
import socket
import subprocess
import sys

import pytest

from gateway.supervisor.port import Holder, Port, PortTakenError, holders


@pytest.fixture
def port():
    made = Port("127.0.0.1:0", 2)
    yield made
    made.close()


def knock(port: Port) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port.number), timeout=5)


def test_every_slot_has_a_socket_of_the_same_port(port):
    assert {bound.getsockname() for bound in port.sockets} == {("127.0.0.1", port.number)}
    assert port.listen == f"127.0.0.1:{port.number}"
    with pytest.raises(ConnectionRefusedError):
        knock(port)


def test_a_queue_outlives_whoever_accepted_from_it(port):
    worker = port.sockets[0].dup()
    worker.listen()
    waiting = knock(port)
    worker.close()
    successor = port.sockets[0].dup()
    accepted, _ = successor.accept()
    accepted.send(b"here")
    assert waiting.recv(4) == b"here"
    for each in (waiting, accepted, successor):
        each.close()


def test_a_slot_that_refuses_leaves_the_others_all_clients(port):
    for bound in port.sockets:
        bound.listen()
    port.refuse(0)
    port.refuse(0)
    clients = [knock(port) for _ in range(20)]
    for client in clients:
        port.sockets[1].accept()[0].close()
        client.close()
    port.refuse(1)
    with pytest.raises(ConnectionRefusedError):
        knock(port)
    port.sockets[0].listen()
    knock(port).close()


def test_two_gateways_do_not_share_a_port_by_mistake(port):
    port.sockets[0].listen()
    with pytest.raises(PortTakenError, match=rf"by process {os.getpid()}: end it \(kill {os.getpid()}\)"):
        Port(port.listen, 1)


def test_an_address_that_is_not_here_is_named_without_a_process():
    with pytest.raises(PortTakenError, match="Cannot assign requested address"):
        Port("192.0.2.1:8080", 1)


@pytest.mark.parametrize(
    ("holder", "orphan"),
    [(Holder(2, 1, None), False), (Holder(2, 7, 7), False), (Holder(2, 1, 7), True)],
    ids=["a stranger", "a worker of a gateway that runs", "a worker whose control process is gone"],
)
def test_an_orphan_is_a_worker_without_its_parent(holder, orphan):
    assert holder.orphan is orphan


def test_orphans_do_not_keep_a_gateway_from_its_port(port):
    port.sockets[0].listen()
    idle = "import sys; sys.stdin.read()"
    number = port.sockets[0].fileno()
    command = [sys.executable, "-c", idle, "gateway.proxy.worker", "--group", "1", "--sockets", str(number)]
    with subprocess.Popen(command, pass_fds=[number], stdin=subprocess.PIPE) as orphan:
        port.sockets[0].close()
        try:
            asyncio.run(_held(port.number, orphan.pid))
            ours = Port(port.listen, 1)
            assert ours.orphans == [orphan.pid]
            ours.close()
        finally:
            orphan.kill()


async def _held(port: int, pid: int) -> None:
    """Until the process has become what it is to be: a fork has its parent's words for a moment."""
    async with asyncio.timeout(10):
        while [(holder.pid, holder.control) for holder in holders(port)] != [(pid, 1)]:
            await asyncio.sleep(0.005)
