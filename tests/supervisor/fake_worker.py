"""A worker without a data plane: it answers a connection with its name, and behaves as the file MOODS says.

``die``: ends at once. ``deaf``: holds no lease, so that it never listens. Otherwise it serves until told to leave.
"""

import argparse
import asyncio
import json
import os
import socket
import sys
from pathlib import Path

arguments = argparse.ArgumentParser()
for name in ("--slot", "--name", "--group", "--sockets", "--channel", "--voucher"):
    arguments.add_argument(name)
arguments.add_argument("--replacing", action="store_true")
place = arguments.parse_args()
mood = json.loads(Path(os.environ["MOODS"]).read_text()).get(place.slot, "serve")
settings = Path(os.environ["PORTCULLIS_CONFIG"]).read_text()


async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(f"{place.name} {os.getpid()} {settings}".encode())
    writer.close()


async def main() -> None:
    if mood == "die":
        sys.exit(7)
    sockets = [socket.socket(fileno=int(number)) for number in place.sockets.split(",")]
    reader, writer = await asyncio.open_unix_connection(sock=socket.socket(fileno=int(place.channel)))
    servers: dict[int, asyncio.AbstractServer] = {}

    def say(**message: object) -> None:
        writer.write(json.dumps(message).encode() + b"\n")

    async def accept(slot: int) -> None:
        servers[slot] = await asyncio.start_server(greet, sock=sockets[slot].dup(), backlog=100)

    say(event="member", member=f"{place.name}:{os.getpid()}")
    if mood != "deaf":
        await accept(int(place.slot))
        say(event="listening")
    while line := await reader.readline():
        match json.loads(line):
            case {"call": "metrics", "id": number}:
                say(id=number, result=[["portcullis_requests_total", ["p", "m", "permit", ""], 3]])
            case {"call": "refusal", "id": number, "request_id": asked}:
                say(id=number, result={"by": place.name} if asked == place.name else None)
            case {"event": "accept", "slot": slot}:
                await accept(slot)
            case {"event": "release", "slot": slot}:
                servers.pop(slot).close()
            case {"event": "leave"}:
                say(event="counted", samples=[["portcullis_requests_total", ["p", "m", "permit", ""], 5]])
                await writer.drain()
                return


asyncio.run(main())
