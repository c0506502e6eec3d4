"""A gate on a loopback port, between raw sockets of a client and of a provider; on uvloop, as in production."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import uvloop
from proxy_harness import Client, Door, Provider


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> dict[str, Any]:
    del config, item
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    """An upstream that does what the test says, byte by byte."""
    async with Provider() as running:
        yield running


@pytest.fixture
async def open_door(provider, tmp_path) -> AsyncIterator[Callable[..., Awaitable[Door]]]:
    """Open a gate with settings of one's own; it has a policy and a lease."""
    doors = []

    async def opened(**fields: Any) -> Door:
        door = Door(provider.port, tmp_path, **fields)
        doors.append(door)
        await door.open()
        return door

    yield opened
    for door in doors:
        await door.close()


@pytest.fixture
async def door(open_door) -> Door:
    """A gate with the defaults."""
    return await open_door()


@pytest.fixture
async def connect() -> AsyncIterator[Callable[[Door], Awaitable[Client]]]:
    """Connect a client."""
    clients = []

    async def connected(door: Door, **options: Any) -> Client:
        client = await Client.connect(door.port, **options)
        clients.append(client)
        return client

    yield connected
    for client in clients:
        await client.close()


@pytest.fixture
async def client(door, connect) -> Client:
    """A client of ``door``."""
    return await connect(door)
