"""A client that sends bytes and reads one answer, on connections that it keeps as long as it may."""

import asyncio
import json
from dataclasses import dataclass
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

PATIENCE = 10.0
"""Seconds: an answer that takes longer is a hang."""


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes
    seconds: float

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """One connection after another."""

    def __init__(self, base: str) -> None:
        address = urlsplit(base)
        self._host, self._port = address.hostname, address.port
        self._pair: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self.connections = 0

    async def ask(self, data: bytes) -> Answer:
        """Send, and read an answer."""
        async with asyncio.timeout(PATIENCE):
            if self._pair is None:
                self._pair = await asyncio.open_connection(self._host, self._port, limit=2**20)
                self.connections += 1
            reader, writer = self._pair
            began = monotonic()
            writer.write(data)
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            first, *lines = head.strip().split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            body = await self._body(reader, headers)
            answer = Answer(int(first.split()[1]), headers, body, monotonic() - began)
            if headers.get("connection") == "close":
                self.close()
            return answer

    @staticmethod
    async def _body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding") != "chunked":
            return await reader.readexactly(int(headers.get("content-length", 0)))
        body = b""
        while size := int(await reader.readuntil(b"\r\n"), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readuntil(b"\r\n")
        return body

    def close(self) -> None:
        if self._pair is not None:
            self._pair[1].close()
            self._pair = None
