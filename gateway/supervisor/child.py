"""One worker: its process, its channel, what it last counted, and what state it is in."""

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any

from gateway import tasks
from gateway.channel import Channel, ChannelClosedError, open_channel
from gateway.observability.metrics import Sample
from gateway.supervisor.accepted import Accepted, file_of

SILENT_TICKS = 3
"""Questions in a row, a second apart, without an answer, until siblings take up what waits at a worker's socket."""
LAST_WORDS_SECONDS = 5.0
"""How long what an ended worker wrote into its channel is waited for."""


class State(StrEnum):
    """What a worker is doing, as the supervisor sees it."""

    STARTING = "starting"
    SERVING = "serving"
    SILENT = "silent"  # its event loop answers nothing
    LEAVING = "leaving"  # it accepts nothing more
    DOWN = "down"


class Child:
    """A process for a slot. ``changed`` is called whenever its state may be another one."""

    def __init__(self, slot: int, name: str, accepted: Accepted, changed: Callable[["Child"], None]) -> None:
        self.slot = slot
        self.name = name
        self.accepted = accepted
        self.began = time.monotonic()
        self.process: asyncio.subprocess.Process | None = None
        self.member: str | None = None
        self.samples: list[Sample] = []
        self.silent = 0
        self.settled = asyncio.Event()
        """It listens, or it is over."""
        self.over = asyncio.Event()
        """It leaves, or has ended: the slot needs another."""
        self.ended = asyncio.Event()
        self._listens = False
        self._spoke_last = False
        self._changed = changed
        self._channel: Channel | None = None
        self._question: asyncio.Task[None] | None = None

    @property
    def state(self) -> State:
        """What it is doing."""
        if self.ended.is_set():
            return State.DOWN
        if self.over.is_set():
            return State.LEAVING
        if not self._listens:
            return State.STARTING
        return State.SILENT if self.silent >= SILENT_TICKS else State.SERVING

    @property
    def returncode(self) -> int | None:
        """How its process ended; ``None`` also where there never was one."""
        return None if self.process is None else self.process.returncode

    # ------------------------------------------------------------------ life

    async def start(self, command: Sequence[str], sockets: Sequence[socket.socket], *, replacing: bool) -> None:
        """Start the process.

        Raises:
            OSError: no process or descriptor is to be had.
        """
        with contextlib.ExitStack() as unless_started, contextlib.ExitStack() as theirs_alone:
            ours, theirs = socket.socketpair()
            unless_started.callback(ours.close)
            theirs_alone.callback(theirs.close)
            text, voucher = file_of(self.accepted.text), file_of(self.accepted.voucher)
            theirs_alone.callback(os.close, text)
            theirs_alone.callback(os.close, voucher)
            numbers = [bound.fileno() for bound in sockets]
            self.process = await asyncio.create_subprocess_exec(
                *command,
                *("--slot", str(self.slot), "--name", self.name, "--group", str(os.getpid())),
                *("--sockets", ",".join(map(str, numbers)), "--channel", str(theirs.fileno())),
                *("--voucher", str(voucher)),
                *(("--replacing",) if replacing else ()),
                pass_fds=[*numbers, theirs.fileno(), text, voucher],
                env={**self._environment(), "PORTCULLIS_CONFIG": f"/dev/fd/{text}"},
                start_new_session=True,
            )
            unless_started.pop_all()
        self._channel = await open_channel(ours, self._hears)

    def _environment(self) -> dict[str, str]:
        """Ours, without the signing key: a worker only verifies."""
        secret = self.accepted.settings.signing.key_env
        return {name: value for name, value in os.environ.items() if name != secret}

    async def wait(self) -> None:
        """Wait for its end, and for what it said last."""
        assert self.process is not None
        await self.process.wait()
        if self._channel is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LAST_WORDS_SECONDS):
                    await self._channel.closed.wait()

    def end(self) -> None:
        """It is gone, or could not be started."""
        for event in (self.ended, self.over, self.settled):
            event.set()
        self._changed(self)

    def _hears(self, message: dict[str, Any]) -> None:
        self.silent = 0
        match message.get("event"):
            case "member":
                self.member = message["member"]
            case "counted":
                self._spoke_last = True  # an answer from before may be taken in after this
                self.samples = [tuple(sample) for sample in message["samples"]]
            case "listening":
                self._listens = True
                self.settled.set()
                self._changed(self)
            case "leaving":
                self.over.set()
                self._changed(self)

    # ------------------------------------------------------------------ being told

    def tell(self, event: str, **fields: Any) -> None:
        """Say something, if it still hears."""
        if self._channel is not None:
            self._channel.tell(event, **fields)

    def leave(self, seconds: float) -> None:
        """Another has taken its place: it ends what it has, within this time."""
        self.over.set()
        self.tell("leave", seconds=seconds)

    def terminate(self) -> None:
        """It is to end what it has, within ``proxy.timeouts.shutdown``."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once; a stopped one too."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self.process is not None and self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(number)

    # ------------------------------------------------------------------ being asked

    async def ask(self, call: str, seconds: float, **fields: Any) -> Any:
        """An answer, or ``None`` where there is none in time."""
        if self._channel is None:
            return None
        with contextlib.suppress(ChannelClosedError, TimeoutError):
            async with asyncio.timeout(seconds):
                return await self._channel.ask(call, **fields)
        return None

    def beat(self) -> None:
        """Once a second: ask for its counts, or note that the last question is still open.

        Questions are counted, not seconds: where the control process itself stood still, nobody was silent.
        """
        before = self.state
        if self._question is not None and not self._question.done():
            self.silent += 1
        else:
            self.silent = 0
            self._question = tasks.spawn(self._count(), f"counts-{self.name}")
        if self.state is not before:
            self._changed(self)

    async def count(self, seconds: float) -> None:
        """Have its counts now, if it answers in time; else those that it last told."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._count()

    async def _count(self) -> None:
        if self._channel is None:
            return
        with contextlib.suppress(ChannelClosedError):
            answer = await self._channel.ask("metrics")
            if not self._spoke_last:
                self.samples = [tuple(sample) for sample in answer]
