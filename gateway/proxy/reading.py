"""Bodies that take long to parse are read in a process beside the worker: orjson holds the interpreter while it works.

The two share a socket. The worker hands over a body's file and says where models may be named; the other answers with
what it found, one body at a time; whose is next goes round the callers. It knows no policy and has no network. If it
dies, or takes too long, the body is refused, and the next one gets a new process.

``python -m gateway.proxy.reading --channel FD`` is that process.
"""

import argparse
import asyncio
import contextlib
import os
import signal
import socket
import sys
from typing import IO, Any

import orjson

from gateway.dialects.bodies import heard, told
from gateway.dialects.selectors import MalformedBodyError, Reader, Reading
from gateway.proxy.turns import Turns

LONGEST_SECONDS = 10.0
"""How long one body may take. The largest that is read at all takes about a second."""

_LINE = 64 * 1024


class ReadingFailedError(Exception):
    """The process died or took too long; the body is not known."""


class AbandonedError(Exception):
    """The body was closed before its turn came: its client has left."""


class ReadingProcess:
    """A worker's process for large bodies: started with the first of them."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._socket: socket.socket | None = None
        self._turn = Turns()
        self.started = 0

    async def read(self, reader: Reader, file: IO[bytes], owner: str = "") -> Reading:
        """What a body says; ``owner`` is whose turn it takes.

        Raises:
            MalformedBodyError: as ``reader.read``.
            ReadingFailedError: nobody knows.
            AbandonedError: nobody needs to.
        """
        request = orjson.dumps(told(reader)) + b"\n"
        async with self._turn.of(owner):
            if file.closed:
                raise AbandonedError
            try:
                async with asyncio.timeout(LONGEST_SECONDS):
                    answer = await self._ask(request, file)
            except (OSError, TimeoutError, orjson.JSONDecodeError) as error:
                await self.close()
                raise ReadingFailedError from error
            except asyncio.CancelledError:
                await self.close()  # an answer that nobody took must not become the next one's
                raise
        if "error" in answer:
            raise MalformedBodyError(answer["error"], answer["status"])
        ids = tuple((at, name) for at, name in answer["ids"])
        return Reading(tuple(answer["names"]), answer["stream"], tuple(answer["unnamed"]), ids)

    async def _ask(self, request: bytes, file: IO[bytes]) -> Any:
        if self._socket is None:
            await self._start()
        assert self._socket is not None
        socket.send_fds(self._socket, [request], [file.fileno()])
        answer = b""
        while not answer.endswith(b"\n"):
            piece = await asyncio.get_running_loop().sock_recv(self._socket, _LINE)
            if not piece:
                raise ConnectionResetError
            answer += piece
        return orjson.loads(answer)

    async def _start(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            ours.setblocking(False)
            self._socket = ours
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "gateway.proxy.reading", "--channel", str(theirs.fileno())),
                pass_fds=[theirs.fileno()],
            )
        self.started += 1

    async def close(self) -> None:
        """End it."""
        process, self._process = self._process, None
        sock, self._socket = self._socket, None
        if sock is not None:
            sock.close()
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


# ------------------------------------------------------------------------------------------------ the process


def _answer(request: bytes, fd: int) -> dict[str, Any]:
    reader = heard(orjson.loads(request))
    with os.fdopen(fd, "rb") as file:
        body = os.pread(fd, os.fstat(file.fileno()).st_size, 0)
    try:
        reading = reader.read(body)
    except MalformedBodyError as error:
        return {"error": str(error), "status": error.status}
    return dict(reading._asdict())


def serve(channel: socket.socket) -> None:
    """Answer until the worker is gone."""
    while True:
        request, fds, *_ = socket.recv_fds(channel, _LINE, 1)
        if not request:
            return
        while not request.endswith(b"\n"):
            request += channel.recv(_LINE)
        channel.sendall(orjson.dumps(_answer(request, fds[0])) + b"\n")


def main() -> None:
    """Run as the process beside a worker."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--channel", type=int, required=True)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with socket.socket(fileno=parser.parse_args().channel) as channel:
        serve(channel)


if __name__ == "__main__":
    main()
