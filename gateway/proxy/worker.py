"""The worker process: a listener, a gate, and the replica that lets it serve.

``python -m gateway.proxy.worker --index N --listen HOST:PORT --channel FD``, started by the supervisor.
"""

import argparse
import asyncio
import contextlib
import gc
import os
import platform
import resource
import signal
import socket
import sys
from typing import Any

import structlog
import uvloop
from redis.exceptions import RedisError

from gateway import __version__, tasks
from gateway.channel import open_channel
from gateway.enforcement.agent import Agent
from gateway.enforcement.connection import FEED_BLOCK_MS, connect
from gateway.enforcement.keys import Keys
from gateway.enforcement.signing import ForgedError, load_verifier
from gateway.errors import describe
from gateway.identity.directory import Directory
from gateway.identity.records import CallerRecord
from gateway.observability import logs
from gateway.observability.metrics import Sample
from gateway.observability.request_log import RequestLog
from gateway.observability.traffic import bucket, flush
from gateway.proxy.connection import ClientConnection
from gateway.proxy.gate import Gate
from gateway.settings import Settings, load

TRAFFIC_SECONDS = 5.0
SYNC_SECONDS = 10.0
"""How long a worker waits for its first lease before it listens all the same, to refuse with an explanation."""


class Worker:
    """One data-plane process."""

    def __init__(self, settings: Settings, index: int, listen: str, channel_fd: int, group: str) -> None:
        self._settings = settings
        self._listen = listen
        self._channel_fd = channel_fd
        self._leaving = asyncio.Event()
        self._name = f"{platform.node()}-{group}-{index}"
        self._commands = connect(settings, replica=True)
        self._feed = connect(settings, timeout=FEED_BLOCK_MS / 1000 + 2, replica=True)
        self._agent = Agent(
            self._name,
            settings.state_dir,
            load_verifier(*settings.public_keys),
            Keys(settings.redis.prefix),
            self._commands,
            self._feed,
            __version__,
        )
        self._request_log = RequestLog(_log_fd(settings))
        self._gate = Gate(settings, self._agent.replica, Directory(self._load_caller), self._request_log)
        self._gate.swept = self._agent.swept

    async def _load_caller(self, fingerprint: str) -> CallerRecord | None:
        """Look a caller up in Redis. A record that cannot be used is nobody's; a Redis that fails is an ``OSError``."""
        try:
            return await self._agent.records.caller_by_key(fingerprint)
        except (ForgedError, ValueError) as error:
            structlog.get_logger("portcullis.callers").error("caller_unusable", error=describe(error))
            return None
        except RedisError as error:
            raise OSError(str(error)) from error

    async def run(self) -> None:
        """Serve until told to leave."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._leaving.set)
        channel = await open_channel(socket.socket(fileno=self._channel_fd), self._answer)
        channel.tell("member", member=self._agent.member)
        self._agent.on_reborn = lambda: channel.tell("member", member=self._agent.member)
        self._gate.tokens.start()
        self._agent.start(self._gate)
        await self._first_lease()
        host, _, port = self._listen.rpartition(":")
        server = await loop.create_server(
            lambda: ClientConnection(self._gate), host.strip("[]"), int(port), reuse_port=True, backlog=4096
        )
        self._gate.sweep()
        flushing = tasks.spawn(self._flush_traffic(), "traffic")
        channel.tell("listening")
        await self._leaving.wait()
        await self._leave(server)
        await tasks.cancel(flushing)

    async def _first_lease(self) -> None:
        try:
            async with asyncio.timeout(SYNC_SECONDS):
                await self._agent.ready.wait()
        except TimeoutError:
            structlog.get_logger("portcullis.worker").warning("listening_without_lease", replica=self._name)

    async def _leave(self, server: asyncio.AbstractServer) -> None:
        """Stop accepting, let exchanges end until the deadline, cut the rest, and say so."""
        server.close()
        self._agent.replica.drain()
        self._gate.stop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.proxy.timeouts.shutdown):
                await self._gate.empty.wait()
        self._gate.close()
        await self._gate.tokens.close()
        await self._gate.reading.close()
        await self._agent.leave()
        self._request_log.close()
        await self._commands.aclose()
        await self._feed.aclose()

    def _answer(self, message: dict[str, Any]) -> Any:
        match message.get("call"):
            case "metrics":
                dropped: Sample = ("portcullis_log_lines_dropped_total", (), self._request_log.dropped)
                return [dropped, *self._agent.samples(), *self._gate.samples(self._name)]
            case "refusal":
                return self._gate.recorder.refusals.get(message["request_id"])
            case _:
                return None

    async def _flush_traffic(self) -> None:
        """Write down who used what, every few seconds; while Redis is away it gathers, bounded."""
        keys = Keys(self._settings.redis.prefix)
        while True:
            await asyncio.sleep(TRAFFIC_SECONDS)
            counts = self._gate.recorder.traffic.take()
            try:
                await flush(self._commands, keys.traffic(bucket()), counts)
            except (RedisError, OSError, TimeoutError):
                for (caller, model), count in counts.items():
                    self._gate.recorder.traffic.add(caller, model, count)


def _log_fd(settings: Settings) -> int:
    if settings.log.file is None:
        return sys.stdout.fileno()
    return os.open(settings.log.file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)


def main() -> None:
    """Run one worker."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--index", type=int, required=True)
    arguments.add_argument("--listen", required=True)
    arguments.add_argument("--channel", type=int, required=True)
    arguments.add_argument("--group", required=True)
    options = arguments.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the supervisor decides when to leave
    logs.configure()
    gc.freeze()  # what was imported stays: collections need not look through it

    async def run() -> None:
        await Worker(load(), options.index, options.listen, options.channel, options.group).run()

    uvloop.run(run())


if __name__ == "__main__":
    main()
