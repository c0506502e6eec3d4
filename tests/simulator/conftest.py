"""A listening simulator per test, official SDK clients, a raw connection, and waiting for conditions."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import aiohttp
import anthropic
import openai
import pytest
from pydantic import BaseModel

from gateway.simulator import Simulator, SimulatorConfig

PATIENCE = 5.0


@pytest.fixture
def config() -> SimulatorConfig:
    return SimulatorConfig()


@pytest.fixture
async def simulator(config) -> AsyncIterator[Simulator]:
    async with Simulator(config) as running:
        yield running


@pytest.fixture
async def openai_client(simulator) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{simulator.url}/openai/v1", api_key="sk-test", max_retries=0) as client:
        yield client


@pytest.fixture
async def anthropic_client(simulator) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(
        base_url=f"{simulator.url}/anthropic", api_key="sk-ant-test", max_retries=0
    ) as client:
        yield client


@pytest.fixture
async def http(simulator) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(simulator.url) as session:
        yield session


class RawConnection:
    """A TCP connection to the simulator, to see bytes as they come and to leave when wanted."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @property
    def port(self) -> int:
        return self.writer.get_extra_info("sockname")[1]

    async def post(self, path: str, body: bytes, **headers: str) -> None:
        lines = [f"POST {path} HTTP/1.1", "Host: simulator", f"Content-Length: {len(body)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        await self.writer.drain()

    async def until(self, marker: bytes) -> bytes:
        async with asyncio.timeout(PATIENCE):
            return await self.reader.readuntil(marker)

    async def rest(self) -> bytes:
        async with asyncio.timeout(PATIENCE):
            return await self.reader.read()

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()


@pytest.fixture
async def raw(simulator) -> AsyncIterator[RawConnection]:
    host, port = simulator.url.removeprefix("http://").split(":")
    connection = RawConnection(*await asyncio.open_connection(host, int(port)))
    yield connection
    await connection.close()


@pytest.fixture
def until():
    """Wait until a condition holds."""

    async def wait(condition: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition():
                await asyncio.sleep(0.001)

    return wait


def _extras(value: object, path: str) -> list[str]:
    if isinstance(value, BaseModel):
        unknown = [f"{path}.{name}" for name in value.model_extra or {}]
        return unknown + [
            extra for name in type(value).model_fields for extra in _extras(getattr(value, name), f"{path}.{name}")
        ]
    if isinstance(value, list):
        return [extra for item in value for extra in _extras(item, f"{path}[]")]
    return []


@pytest.fixture
def fully_typed():
    """Check an object against its SDK type with full validation: the SDK itself builds objects unchecked."""

    def check(thing: BaseModel) -> None:
        type(thing).model_validate_json(thing.to_json(), strict=False)
        assert _extras(thing, type(thing).__name__) == []

    return check
