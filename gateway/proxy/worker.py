"""The worker process: a listener, a gate, and the replica that lets it serve.

``python -m gateway.proxy.worker --slot N --name N --sockets FD,… --channel FD --voucher FD``: the supervisor starts it.
It inherits the listening socket of every slot: it accepts from its own, and from a sibling's while told to. A socket's
queue is the supervisor's, so that nothing that waits there is lost when a worker ends.

Leaving: accept nothing more, answer what was sent, close idle connections, wait for streams until the deadline. The
lease is renewed until then, so that a kill cuts here too. A worker whose control process is gone serves on: its lease
says for how long.
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
import ssl
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any, cast

import structlog
import uvloop
from redis.exceptions import RedisError

from gateway import __version__, tasks
from gateway.channel import Channel, open_channel
from gateway.enforcement.agent import Agent
from gateway.enforcement.connection import FEED_BLOCK_MS, connect
from gateway.enforcement.keyring import Following as KeysFollowing
from gateway.enforcement.keyring import read_verifier
from gateway.enforcement.keys import Keys
from gateway.enforcement.local import Holds, read_holds
from gateway.enforcement.made import PURPOSE, MadeStore
from gateway.enforcement.replica import State
from gateway.enforcement.vouching import Voucher
from gateway.identity.directory import Directory
from gateway.identity.pseudonyms import Pseudonyms
from gateway.identity.records import CallerRecord
from gateway.observability import logs, process
from gateway.observability.census import rows
from gateway.observability.decisions import Decisions, Files, Http, Sink
from gateway.observability.effects import KEEP_SECONDS
from gateway.observability.metrics import ERROR_REASONS, METRICS, Counters, Sample
from gateway.observability.request_log import RequestLog
from gateway.observability.traffic import bucket, flush
from gateway.policy.decision import Reason
from gateway.policy.orders import terms_of
from gateway.proxy.census import in_flight
from gateway.proxy.connection import ClientConnection
from gateway.proxy.gate import LINGER_SECONDS, Gate
from gateway.proxy.tls import TlsTransport
from gateway.settings import Decisions as DecisionSettings
from gateway.settings import Settings, load
from gateway.tls import Watched, keep_current, watched_server

if TYPE_CHECKING:
    from gateway.observability.tracing import Spans

_CUT = "portcullis_streams_cut_total"
TRAFFIC_SECONDS = 5.0
SYNC_SECONDS = 10.0
"""How long a worker waits for its first lease before it listens all the same, to refuse with an explanation."""
UNSURE = (State.BOOT, State.SYNC, State.FENCED)
"""Where a replica does not stand on what Redis holds now."""

LAST_LOOK_SECONDS = 0.01
"""How long it still accepts what waits at its sockets: where nobody takes them over, the kernel resets that."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the supervisor put this worker. ``replacing``: another one serves until this one holds a lease."""

    slot: int
    name: str
    sockets: tuple[int, ...]
    channel: int
    voucher: int
    group: str
    replacing: bool


class Worker:
    """One data-plane process."""

    def __init__(self, settings: Settings, place: Place) -> None:
        self._settings = settings
        self._place = place
        self._sockets = [socket.socket(fileno=number) for number in place.sockets]
        self._servers: dict[int, asyncio.AbstractServer] = {}
        self._wanted: set[int] = set()
        self._ends: set[asyncio.Task[Any]] = set()
        self._leaving = asyncio.Event()
        self._leave_at = float("inf")
        self._limit: asyncio.Timeout | None = None
        self._name = f"{platform.node()}-{place.group}-{place.name}"
        self._commands = connect(settings, replica=True)
        self._feed = connect(settings, timeout=FEED_BLOCK_MS / 1000 + 2, replica=True)
        verifier = read_verifier(settings)
        self._keys = KeysFollowing.of(verifier, settings)
        self._voucher = Voucher(_read(place.voucher))
        self._agent = Agent(
            self._name,
            settings.state_dir,
            verifier,
            Keys(settings.redis.prefix),
            self._commands,
            self._feed,
            __version__,
            self._voucher,
        )
        self._request_log = RequestLog(_log_fd(settings))
        self._spans = None if settings.tracing.endpoint is None else _traced(settings, self._request_log, self._name)
        directory, made = Directory(self._load_caller), self._made_store()
        self._gate = Gate(settings, self._agent.replica, directory, self._spans or self._request_log, made)
        self._gate.swept = self._agent.swept
        self._decisions = decisions_of(settings.decisions, self._terms)
        self._gate.recorder.decisions = self._decisions
        _begin_counting(self._gate.counters, settings.providers)
        listener = settings.proxy.tls
        self._tls = None if listener is None else watched_server(listener, "proxy.tls", self._gate.counters)

    def _terms(self, restriction: str) -> tuple[str, ...]:
        """The terms that a directive names."""
        snapshot = self._gate.snapshot
        directive = None if snapshot is None else snapshot.document.directives.get(restriction)
        return () if directive is None else terms_of(directive)

    def _made_store(self) -> MadeStore:
        """What was made through the gateway, authenticated with a key that every machine has."""
        settings = self._settings
        secret = partial(Pseudonyms(settings.pseudonym_key).key_for, PURPOSE)
        keep_seconds = settings.ledger.keep_days * 86_400
        return MadeStore(self._commands, Keys(settings.redis.prefix), cache(secret), keep_seconds)

    async def _load_caller(self, fingerprint: str) -> CallerRecord | None:
        """Look a caller up in Redis. One that fails is an ``OSError``.

        So is one that holds no policy of ours, or an older one: whom it does not know, it may have forgotten.
        """
        try:
            record = await self._agent.load_caller(fingerprint)
            if record is None and self._agent.replica.state in UNSURE:
                raise OSError("not known here, but without a lease that says little")
            return record
        except RedisError as error:
            raise OSError(str(error)) from error

    async def run(self) -> None:
        """Serve until told to leave."""
        timeouts = self._settings.proxy.timeouts
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._leave_within, timeouts.shutdown)
        channel = await open_channel(socket.socket(fileno=self._place.channel), self._answer)
        channel.tell("member", member=self._agent.member)
        self._agent.on_reborn = lambda: channel.tell("member", member=self._agent.member)
        watching = tasks.spawn(self._watch_control(channel), "control")
        self._gate.tokens.start()
        self._agent.start(self._gate)
        await self._first_lease()
        following = tasks.spawn(keep_current(self._contexts()), "certificates")
        keys = tasks.spawn(self._keys.run(), "keys")
        flushing = tasks.spawn(self._keep_flushing(), "traffic")
        if not self._leaving.is_set():
            self._gate.sweep()
            await self._accept(self._place.slot)
            channel.tell("listening")
        await self._leaving.wait()
        channel.tell("leaving")
        await self._leave()
        await tasks.cancel(flushing, following, watching, keys)
        await self._flush_traffic()
        await self._commands.aclose()
        await self._feed.aclose()
        channel.tell("counted", samples=self._samples())
        await channel.close()

    def _connection(self) -> asyncio.BaseProtocol:
        """A client's connection, with TLS below it where that is asked for."""
        connection = ClientConnection(self._gate)
        if self._tls is None:
            return cast("asyncio.BaseProtocol", connection)
        return TlsTransport.serve(connection, self._tls.context, self._handshaken)

    def _handshaken(self, error: OSError | None) -> None:
        if isinstance(error, ssl.SSLError):
            self._gate.counters.add("portcullis_tls_failures_total")

    def _contexts(self) -> list[Watched]:
        """Every TLS context of this worker: the listener's and the providers'."""
        contexts = [self._tls, *(provider.tls for provider in self._gate.providers.values())]
        return [context for context in contexts if context is not None]

    async def _first_lease(self) -> None:
        """Wait for a lease. Without one it refuses with an explanation; but not where another has one still."""
        ready = tasks.spawn(self._agent.ready.wait(), "first-lease")
        leaving = tasks.spawn(self._leaving.wait(), "leaving")
        seconds = None if self._place.replacing else SYNC_SECONDS
        done, _ = await asyncio.wait((ready, leaving), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        await tasks.cancel(ready, leaving)
        if not done:
            structlog.get_logger("portcullis.worker").warning("listening_without_lease", replica=self._name)

    async def _watch_control(self, channel: Channel) -> None:
        """Without a control process: serve on, for its siblings too, for nobody would tell it when one of them ends."""
        await channel.closed.wait()
        if self._leaving.is_set():
            return
        if not self._servers:
            self._leave_within(0.0)
            return
        structlog.get_logger("portcullis.worker").error(
            "control_process_gone", pid=os.getpid(), serves_on=True, ends_by="a new `portcullis serve`, or SIGTERM"
        )
        for slot in range(len(self._sockets)):
            await self._accept(slot)

    # ------------------------------------------------------------------ listeners

    async def _accept(self, slot: int) -> None:
        """Accept what comes in at a slot's socket, and what waits there already."""
        self._wanted.add(slot)
        if slot in self._servers:
            return
        server = self._servers[slot] = await self._listen(self._sockets[slot].dup())
        self._ends.add(tasks.spawn(server.wait_closed(), "listener"))
        if slot not in self._wanted:
            self._release(slot)

    async def _listen(self, sock: socket.socket) -> asyncio.Server:
        """A listener on a socket that it may close."""
        return await asyncio.get_running_loop().create_server(self._connection, sock=sock, backlog=4096)

    def _release(self, slot: int) -> None:
        """Accept nothing more there; what was accepted stays."""
        self._wanted.discard(slot)
        server = self._servers.pop(slot, None)
        if server is not None:
            server.close()

    # ------------------------------------------------------------------ the end

    def _leave_within(self, seconds: float) -> None:
        """Begin to leave, or leave sooner."""
        self._leave_at = min(self._leave_at, asyncio.get_running_loop().time() + seconds)
        self._leaving.set()
        if self._limit is not None:
            with contextlib.suppress(RuntimeError):  # it has just run out
                self._limit.reschedule(min(self._leave_at, self._limit.when() or self._leave_at))

    async def _leave(self) -> None:
        """Stop accepting, let exchanges end until the deadline, cut the rest, and say so."""
        self._gate.drain()
        self._agent.replica.drain()
        await asyncio.sleep(LAST_LOOK_SECONDS)
        for slot in list(self._servers):
            self._release(slot)
        for sock in self._sockets:
            sock.close()
        await self._until_served(asyncio.get_running_loop().time() + LINGER_SECONDS)
        self._gate.stop()
        await self._until_served(self._leave_at)
        self._gate.close()
        await self._gate.tokens.close()
        await self._gate.reading.close()
        await self._agent.leave()
        if self._spans is not None:
            await asyncio.to_thread(self._spans.close)
        self._request_log.close()
        if self._decisions is not None:
            await asyncio.to_thread(self._decisions.close)

    async def _until_served(self, moment: float) -> None:
        """Wait until no connection is left, those that still shake hands included, or until a moment."""
        if not self._ends:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(min(moment, self._leave_at)) as self._limit:
                await asyncio.wait(self._ends)
        self._limit = None

    def _answer(self, message: dict[str, Any]) -> Any:
        match message.get("call"):
            case "metrics":
                return self._samples()
            case "refusal":
                return self._gate.recorder.refusal(message["request_id"])
            case "in_flight":
                return rows(in_flight(self._gate.in_flight))
            case "refused":
                return self._gate.recorder.refused.rows()
            case "hold":
                return self._hold(read_holds(message["holds"]))
            case _:
                return self._told(message)

    async def _hold(self, holds: Holds) -> dict[str, Any]:
        """Let the holds of this machine stand, and no others: how many streams that cut, and which stand by now."""
        before = self._cut_offline()
        await self._agent.hold_locally(holds)
        return {"streams_cut": self._cut_offline() - before, "held": [local.id for local in self._agent.held]}

    def _cut_offline(self) -> int:
        """How many requests in flight were cut as their model went offline."""
        reason = str(Reason.MODEL_OFFLINE)
        samples = self._gate.counters.samples()
        return sum(value for name, labels, value in samples if name == _CUT and labels[1:] == (reason,))

    def _told(self, message: dict[str, Any]) -> None:
        match message.get("event"):
            case "leave":
                self._leave_within(message["seconds"])
            case "vouch":
                self._voucher.turn(bytes.fromhex(message["key"]))
            case "accept" if not self._leaving.is_set():
                tasks.spawn(self._accept(message["slot"]), "accept")
            case "release" if message["slot"] != self._place.slot:
                self._release(message["slot"])

    def _samples(self) -> list[Sample]:
        dropped: Sample = ("portcullis_log_lines_dropped_total", (), self._request_log.dropped)
        running: Sample = ("portcullis_worker_tasks", (self._name,), tasks.running())
        hit = self._gate.recorder.hit.samples(self._name, time.monotonic())
        lost: Sample = ("portcullis_spans_dropped_total", (), 0 if self._spans is None else self._spans.dropped)
        own = [dropped, lost, running, *process.samples(self._name), *_limits(self._settings), *hit]
        if self._decisions is not None:
            own += [("portcullis_decision_records_lost_total", (name,), n) for name, n in self._decisions.lost.items()]
        return [*own, *self._agent.samples(), *self._gate.samples(self._name)]

    async def _keep_flushing(self) -> None:
        while True:
            await asyncio.sleep(TRAFFIC_SECONDS)
            await self._flush_traffic()

    async def _flush_traffic(self) -> None:
        """Write down who used what; while Redis is away it gathers, bounded."""
        keys = Keys(self._settings.redis.prefix)
        counts = self._gate.recorder.traffic.take()
        try:
            await flush(self._commands, keys.traffic(bucket()), counts)
        except (RedisError, OSError, TimeoutError):
            for (caller, model), count in counts.items():
                self._gate.recorder.traffic.add(caller, model, count)
        await self._flush_effects(keys)

    async def _flush_effects(self, keys: Keys) -> None:
        """Write down whom restrictions hit here, as the sum since this process began."""
        effects = self._gate.recorder.effects
        changed = effects.take()
        try:
            for restriction, view in changed.items():
                await self._commands.hset(keys.effects(restriction), self._agent.member, view)
                await self._commands.expire(keys.effects(restriction), KEEP_SECONDS)
        except (RedisError, OSError, TimeoutError):
            effects.put_back(changed)


def decisions_of(settings: DecisionSettings, terms: Callable[[str], tuple[str, ...]]) -> Decisions | None:
    """Where decision records go, as the settings say; ``None``: nowhere."""
    sinks: list[Sink] = []
    if settings.dir is not None:
        sinks.append(Files(settings.dir, settings.keep_days))
    if settings.url is not None:
        sinks.append(Http(settings.url, settings.authorization()))
    return Decisions(sinks, terms, settings.sample, settings.queue) if sinks else None


def _traced(settings: Settings, log: RequestLog, replica: str) -> "Spans":
    """The request log, and spans beside it: loaded only where they are asked for."""
    from gateway.proxy.traced import traced  # noqa: PLC0415 - the extra otel may not be there

    return traced(settings, log, replica)


def _begin_counting(counters: Counters, providers: Iterable[str]) -> None:
    """What alerts look at begins at zero: Prometheus sees no increase in what was not there before."""
    for definition in METRICS:
        if definition.kind == "counter" and not definition.labels:
            counters.born(definition.name)
    for reason in ERROR_REASONS:
        for provider in ("", *providers):
            counters.born("portcullis_requests_total", (provider, "", "deny", reason))


def _limits(settings: Settings) -> list[Sample]:
    """What a worker's gauges come up to when it is full."""
    limits = settings.proxy.limits
    return [
        ("portcullis_client_connections_limit", (), limits.connections),
        ("portcullis_buffered_bytes_limit", (), limits.buffered_bytes),
        *(
            ("portcullis_upstream_connections_limit", (name,), limits.upstream_connections)
            for name in settings.providers
        ),
    ]


def _log_fd(settings: Settings) -> int:
    if settings.log.file is None:
        return sys.stdout.fileno()
    return os.open(settings.log.file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)


def _read(descriptor: int) -> bytes:
    with open(descriptor, "rb") as file:
        return file.read()


def _place() -> Place:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--slot", type=int, required=True)
    arguments.add_argument("--name", required=True)
    arguments.add_argument("--sockets", type=lambda text: tuple(map(int, text.split(","))), required=True)
    arguments.add_argument("--channel", type=int, required=True)
    arguments.add_argument("--voucher", type=int, required=True)
    arguments.add_argument("--group", required=True)
    arguments.add_argument("--replacing", action="store_true")
    return Place(**vars(arguments.parse_args()))


def main() -> None:
    """Run one worker."""
    place = _place()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the supervisor decides when to leave
    logs.configure()
    gc.freeze()  # what was imported stays: collections need not look through it

    async def run() -> None:
        await Worker(load(), place).run()

    uvloop.run(run())


if __name__ == "__main__":
    main()
