"""A provider that means harm. What it does is told by the header ``X-Hostile``; run as a process, it prints its port.

``GET /stats`` says how many connections are open and how many bytes each kind of harm has got rid of.
"""

import asyncio
import contextlib
import json
import re
from collections import Counter

PIECE = b"x" * 65536
GIB = 2**30
OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"

sent: Counter[str] = Counter()
begun: Counter[str] = Counter()
connections: set[asyncio.StreamWriter] = set()


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    connections.add(writer)
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = re.search(rb"content-length: (\d+)", head)
            left = int(length[1]) if length else 0
            while left:
                left -= len(await reader.read(min(left, 1 << 20)))
            harm = re.search(rb"x-hostile: (\S+)", head)
            name = harm[1].decode() if harm else "none"
            begun[name] += 1
            await HARM[name](reader, writer)
    connections.discard(writer)
    writer.close()


async def none(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """No harm."""
    said = json.dumps({"connections": len(connections) - 1, "begun": begun, "sent": sent}).encode()
    writer.write(OK % (len(said), said))


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Takes the request and never answers."""
    await reader.read()


async def head_only(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A head, and then nothing."""
    writer.write(STREAM)
    await reader.read()


async def endless_header(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One header of a gibibyte."""
    writer.write(b"HTTP/1.1 200 OK\r\nx-header: ")
    while sent["endless_header"] < GIB:
        await _push("endless_header", PIECE, writer)


async def endless_headers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A gibibyte of headers that are small."""
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while sent["endless_headers"] < GIB:
        await _push("endless_headers", b"a: b\r\n" * 8192, writer)


async def endless_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Events without end."""
    writer.write(STREAM)
    event = b"data: " + b"x" * 8000 + b"\n\n"
    while True:
        await _push("endless_body", b"%x\r\n%b\r\n" % (len(event), event), writer)


async def _push(name: str, data: bytes, writer: asyncio.StreamWriter) -> None:
    writer.write(data)
    sent[name] += len(data)
    await writer.drain()


HARM = {act.__name__: act for act in (none, silent, head_only, endless_header, endless_headers, endless_body)}


async def main() -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
