"""All looks, in the order in which one depends on another."""

from collections.abc import AsyncIterator

from gateway.doctor.findings import Finding
from gateway.doctor.machine import machine
from gateway.doctor.providers import providers
from gateway.doctor.redis import redis
from gateway.enforcement.connection import Client, connect
from gateway.settings import Settings


async def examine(settings: Settings, control: Client) -> AsyncIterator[Finding]:
    """What there is to say of this machine and what it reaches. ``control``: a client of Redis, with its server."""
    for finding in machine(settings):
        yield finding
    replica = connect(settings, replica=True)
    try:
        async for finding in redis(settings, control, replica):
            yield finding
    finally:
        await replica.aclose()
    async for finding in providers(settings):
        yield finding
