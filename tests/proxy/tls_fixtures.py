"""The fixtures of ``conftest`` with TLS on both sides; a module that imports them runs over TLS."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from certificates import Authority, Pair, serving
from tls_harness import TlsClient, TlsDoor, TlsProvider


@pytest.fixture(scope="session")
def authority(tmp_path_factory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def pair(authority) -> Pair:
    return authority.issue("shared")


@pytest.fixture
async def provider(pair) -> AsyncIterator[TlsProvider]:
    async with TlsProvider(pair) as running:
        yield running


@pytest.fixture
async def open_door(provider, tmp_path, authority, pair) -> AsyncIterator[Callable[..., Awaitable[TlsDoor]]]:
    doors = []

    async def opened(**fields: Any) -> TlsDoor:
        context = fields.pop("context", None) or serving(pair)
        door = TlsDoor(provider.port, tmp_path, authority, context, **fields)
        doors.append(door)
        await door.open()
        return door

    yield opened
    for door in doors:
        await door.close()


@pytest.fixture
async def connect(authority) -> AsyncIterator[Callable[..., Awaitable[TlsClient]]]:
    clients = []

    async def connected(door: TlsDoor, **options: Any) -> TlsClient:
        context = options.pop("context", None) or authority.trusted()
        client = await TlsClient.secure(door.port, context, **options)
        clients.append(client)
        return client

    yield connected
    for client in clients:
        await client.close()
