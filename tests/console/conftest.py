"""The console on a control side against a real Redis; its operators are those of the admin API's tests."""

import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest_asyncio
from aiohttp import ClientSession, CookieJar

sys.path.insert(0, str(Path(__file__).parents[1] / "control"))

from control_harness import Gate, start_gate, stop_gate

from gateway.console import mount


@dataclass
class Desk:
    """A browser's cookies, and what a page of ours would send."""

    gate: Gate
    session: ClientSession
    csrf: str = ""

    def url(self, path: str) -> str:
        return str(self.gate.client.make_url(path))

    async def sign_in(self, token: str, **headers: str) -> Any:
        answer = await self.session.post(
            self.url("/console/sign-in"), data={"token": token}, allow_redirects=False, headers=headers
        )
        if answer.status == 303:
            page = await (await self.session.get(self.url("/console/models"))).text()
            self.csrf = page.partition('name="portcullis-csrf" content="')[2].partition('"')[0]
        return answer

    async def call(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        named = {"Portcullis-Console": self.csrf, **{name.replace("_", "-"): value for name, value in headers.items()}}
        answer = await self.session.request(method, self.url(path), json=body, headers=named, allow_redirects=False)
        await answer.read()
        return answer

    async def api(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        return await self.call(method, f"/console/api/v1{path}", body, **headers)


@pytest_asyncio.fixture
async def office(redis_server: str, tmp_path: Path) -> AsyncIterator[Gate]:
    """A gateway with a console, and one replica that acknowledges."""
    gate = await start_gate(redis_server, tmp_path, mount)
    await gate.replica()
    yield gate
    await stop_gate(gate)


@pytest_asyncio.fixture
async def desks(office: Gate) -> AsyncIterator[Any]:
    """Makes browsers."""
    opened: list[ClientSession] = []

    def new() -> Desk:
        opened.append(ClientSession(cookie_jar=CookieJar(unsafe=True)))
        return Desk(office, opened[-1])

    yield new
    for session in opened:
        await session.close()


@pytest_asyncio.fixture
async def desk(desks: Any) -> Desk:
    return desks()
