"""A client that keeps every byte and says how the connection ended."""

import asyncio
import json
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass
class Raw:
    """What came back. ``ended``: complete, cut (closed without the terminating chunk), reset."""

    head: bytes = b""
    body: bytes = b""
    ended: str = ""
    began: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def status(self) -> int:
        return int(self.head.split(b" ", 2)[1]) if self.head else 0

    def header(self, name: str) -> str | None:
        for line in self.head.split(b"\r\n")[1:]:
            key, _, value = line.partition(b":")
            if key.decode().lower() == name:
                return value.strip().decode()
        return None

    def json(self):
        return json.loads(self.body)


def request(path: str, body: bytes, headers: dict[str, str], method: str = "POST") -> bytes:
    lines = [
        f"{method} {path} HTTP/1.1",
        "Host: gateway",
        f"Content-Length: {len(body)}",
        "Content-Type: application/json",
    ]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def ask(base: str, path: str, body, headers: dict[str, str], result: Raw | None = None) -> Raw:
    """POST, and read to the end, whatever end it is."""
    result = result or Raw()
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    address = urlsplit(base)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    writer.write(request(path, data, headers))
    try:
        result.head = await reader.readuntil(b"\r\n\r\n")
        if result.header("transfer-encoding") == "chunked":
            await _chunks(reader, result)
        else:
            result.body = await reader.readexactly(int(result.header("content-length") or 0))
            result.ended = "complete"
    except asyncio.IncompleteReadError as error:
        result.body += error.partial if result.head else b""
        result.ended = "cut"
    except ConnectionResetError:
        result.ended = "reset"
    finally:
        writer.close()
    return result


async def _chunks(reader: asyncio.StreamReader, result: Raw) -> None:
    while True:
        line = await reader.readuntil(b"\r\n")
        size = int(line, 16)
        data = await reader.readexactly(size + 2)
        if size == 0:
            result.ended = "complete"
            return
        result.body += data[:-2]
        result.began.set()


async def send(base: str, data: bytes, *, seconds: float = 15.0, eof: bool = False) -> bytes:
    """Send bytes as they are; everything that comes back until the other side closes."""
    address = urlsplit(base)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        async with asyncio.timeout(seconds):
            writer.write(data)
            if eof:
                writer.write_eof()
            return await reader.read()
    except ConnectionResetError:
        return b"reset"
    finally:
        writer.close()
