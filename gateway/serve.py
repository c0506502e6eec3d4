"""``portcullis serve``: the control process. Starts Redis, workers, admin API; waits for a signal; leaves in order."""

import asyncio
import contextlib
import importlib.util
import os
import signal
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import structlog
from aiohttp import web
from redis.exceptions import RedisError

from gateway import __version__, console, tasks
from gateway.control.app import Context, build
from gateway.control.drills import Drills
from gateway.control.evidence import Evidence
from gateway.control.local_holds import LocalHolds
from gateway.control.problems import Conflict
from gateway.control.reaching import tell_reach
from gateway.control.remembered import Operators
from gateway.control.scheduler import Scheduler
from gateway.embedded import EmbeddedRedis
from gateway.enforcement import scripts
from gateway.enforcement.audit import Audit
from gateway.enforcement.connection import FEED_BLOCK_MS, connect
from gateway.enforcement.keyring import Following, has_signer, read_signer
from gateway.enforcement.keys import Keys
from gateway.enforcement.local import UnreadableError
from gateway.enforcement.receipts import Basis, Receipts
from gateway.enforcement.requirements import Finding, inspect
from gateway.enforcement.signing import ForgedError
from gateway.enforcement.store import NotInitialisedError, Store
from gateway.identity.pseudonyms import DIGESTS, Pseudonyms
from gateway.observability import process
from gateway.observability.metrics import Counters, Sample, expose
from gateway.observability.refused import Row, merged
from gateway.observability.traffic import BUCKET_SECONDS, bucket, recent
from gateway.policy.document import State
from gateway.policy.snapshot import Snapshot
from gateway.settings import Settings, SettingsError
from gateway.supervisor import PortTakenError, RestartError, Supervisor, accept, secret_files, taken
from gateway.tls import (
    Watched,
    client_context,
    following,
    keep_current,
    server_context,
    warn_of_readable_key,
    watched_server,
)

INSPECT_AGAIN_SECONDS = 1.0
ANSWER_SECONDS = 1.0
"""How long Prometheus waits for Redis, at the most."""
_log = structlog.get_logger("portcullis.serve")


class StartError(Exception):
    """The gateway cannot start. The message says what to do."""


@dataclass
class Running:
    """Where a started gateway can be reached."""

    proxy: str
    admin: str
    supervisor: Supervisor
    store: Store
    stop: asyncio.Event = field(default_factory=asyncio.Event)


class ControlProcess:
    """Everything that is not the data plane."""

    def __init__(self, settings: Settings) -> None:
        if not has_signer(settings):
            raise StartError(f"there is no signing key {settings.signing_key}: run `portcullis init` first")
        self._counters = Counters()
        for basis in Basis:
            self._counters.born("portcullis_enforcement_seconds", (str(basis),))
        self._tls = _checked(settings, self._counters)  # what is missing stops the start here, not in every worker
        self._settings = settings
        self._redis = EmbeddedRedis(settings.state_dir) if settings.redis.url == "embedded" else None
        self._commands = connect(settings)
        self._feed = connect(settings, timeout=FEED_BLOCK_MS / 1000 + 2)
        signer = read_signer(settings)
        self.store = Store(
            self._commands,
            Keys(settings.redis.prefix),
            signer,
            replicas_ack=settings.redis.replicas_ack,
            digest_key=partial(Pseudonyms(settings.pseudonym_key).key_for, DIGESTS),
        )
        self._receipts = Receipts(self.store, self._feed)
        try:
            self._supervisor = Supervisor(taken(settings, self.store.voucher.key), self._bury)
        except (OSError, PortTakenError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise StartError(f"proxy.listen {settings.proxy.listen}: {why}") from None
        self._audit = Audit(self.store)
        try:
            self._local = LocalHolds(self.store, self._receipts, settings.state_dir, self._supervisor.hold)
        except UnreadableError as error:
            raise StartError(str(error)) from None
        self._operators = Operators(self.store, settings.state_dir)
        try:
            self._evidence = Evidence(settings, self.store, self._counters, tell_reach)
        except (OSError, ForgedError) as error:
            raise StartError(f"the mirror of the evidence, {settings.mirror}: {error}") from None
        self._drills = Drills(
            lambda: self._settings, self.store, self._receipts, self._counters, lambda: self._supervisor.listen
        )
        self._background: list[asyncio.Task[Any]] = []
        self._burials: set[asyncio.Task[Any]] = set()
        self._terminal = _terminal()
        self._served = False
        self._signals = 0
        self._stop = asyncio.Event()

    async def run(self, started: Callable[[Running], Any] | None = None) -> None:
        """Run until SIGTERM or SIGINT. ``started`` is called when every worker listens."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled)
        loop.add_signal_handler(signal.SIGHUP, self._hung_up)
        runner = self._admin_runner()
        try:
            await self._start(runner, started)
            await self._stop.wait()
        finally:  # also of what had begun when a later step could not: no worker, no server outlives this process
            await self._leave(runner)

    async def _start(self, runner: web.AppRunner, started: Callable[[Running], Any] | None) -> None:
        """Everything in its order; the workers last, when nothing else can stop the start."""
        if self._redis is not None:
            await self._redis.start()
            self._background.append(tasks.spawn(self._redis.watch(), "redis-watch"))
        await self._inspect_redis()
        self._receipts.start()
        self._background.append(tasks.spawn(self._audit.run(), "audit"))
        self._background.append(tasks.spawn(Scheduler(self.store, self._receipts).run(), "scheduler"))
        self._background.append(tasks.spawn(self._evidence.run(), "evidence"))
        self._background.append(tasks.spawn(self._operators.run(), "operators"))
        self._background.append(tasks.spawn(self._follow_keys(), "keys"))
        self._background.append(tasks.spawn(self._local.run(), "local-holds"))
        if self._tls is not None:
            self._background.append(tasks.spawn(keep_current([self._tls]), "certificates"))
        admin = await self._serve_admin(runner)
        self._supervisor.start()
        self._served = True
        await self._until_ready(admin)
        self._background.append(tasks.spawn(self._drills.run(), "drills"))
        following_secrets = secret_files.follow(lambda: self._settings, self._restart_unasked)
        self._background.append(tasks.spawn(following_secrets, "secret-files"))
        if started is not None and not self._stop.is_set():
            started(Running(self._supervisor.listen, admin, self._supervisor, self.store, self._stop))

    async def _inspect_redis(self) -> None:
        """Look at what the server promises. One that does not answer now is looked at when it does.

        Raises:
            StartError: a receipt could lie.
        """
        try:
            findings = await inspect(self._commands)
        except (OSError, RedisError) as error:
            _log.error("redis_unreachable", error=str(error))
            self._background.append(tasks.spawn(self._inspect_later(), "inspect-redis"))
            return
        self._judge_redis(findings)

    async def _inspect_later(self) -> None:
        while True:
            await asyncio.sleep(INSPECT_AGAIN_SECONDS)
            try:
                self._judge_redis(await inspect(self._commands))
            except (OSError, RedisError):
                continue
            except StartError as error:
                _log.error("redis_unsafe", error=str(error))
                self._stop.set()
            return

    def _judge_redis(self, findings: list[Finding]) -> None:
        for finding in findings:
            _log.warning("redis_settings", what=finding.what, found=finding.found, advice=finding.advice)
        fatal = [str(finding) for finding in findings if finding.fatal]
        if fatal and self._settings.redis.strict:
            raise StartError("this Redis can forget what it acknowledged:\n  " + "\n  ".join(fatal))

    async def _until_ready(self, admin: str) -> None:
        ready = tasks.spawn(self._supervisor.wait_ready(), "wait-ready")
        stopped = tasks.spawn(self._stop.wait(), "wait-stop")
        await asyncio.wait((ready, stopped), return_when=asyncio.FIRST_COMPLETED)
        await tasks.cancel(ready, stopped)
        if not self._stop.is_set():
            _log.info("ready", proxy=self._supervisor.listen, admin=admin)

    def _admin_runner(self) -> web.AppRunner:
        context = Context(
            settings=self._settings,
            store=self.store,
            receipts=self._receipts,
            metrics=self._metrics,
            ready=lambda: self._supervisor.ready,
            workers=lambda: self._supervisor.states,
            restart=self._restart,
            traffic=self._traffic,
            refusal=self._supervisor.refusal,
            refused=self._refused,
            local=self._local,
            operators=self._operators,
            drills=self._drills,
            evidence=self._evidence,
            samples=self._samples,
            in_flight=self._supervisor.in_flight,
        )
        app = build(context)
        if self._settings.console.enabled:
            console.mount(app, context)
        return web.AppRunner(app, access_log=None, shutdown_timeout=1.0)

    async def _serve_admin(self, runner: web.AppRunner) -> str:
        """Open the admin listener; gives where it is.

        Raises:
            StartError: its address cannot be had.
        """
        await runner.setup()
        host, _, port = self._settings.admin.listen.rpartition(":")
        secure = None if self._tls is None else following(self._tls)
        site = web.TCPSite(runner, host.strip("[]"), int(port), ssl_context=secure)
        try:
            await site.start()
        except OSError as error:
            raise StartError(f"admin.listen {self._settings.admin.listen}: {error.strerror}") from None
        bound = runner.addresses[0]
        return f"{bound[0]}:{bound[1]}"

    async def _leave(self, runner: web.AppRunner) -> None:
        await self._supervisor.stop()
        if self._burials:
            await asyncio.wait(self._burials)
        await self._receipts.stop()
        await runner.cleanup()
        await tasks.cancel(*self._background)
        if self._redis is not None and (self._redis.started or self._served):
            await self._redis.stop()  # but not another gateway's, that was found running
        await self._commands.aclose()
        await self._feed.aclose()

    def _signalled(self) -> None:
        self._signals += 1
        if not self._stop.is_set():
            _log.info("leaving", deadline_seconds=self._settings.proxy.timeouts.shutdown)
        self._stop.set()
        if self._signals > 1:
            self._supervisor.kill()

    # ------------------------------------------------------------------ hot restart

    def _hung_up(self) -> None:
        """SIGHUP: new workers, with the settings as they are now; but where a terminal was closed, the end."""
        if self._terminal and not _terminal():
            self._signalled()
        else:
            tasks.spawn(self._restart_unasked(), "restart")

    async def _follow_keys(self) -> None:
        """Use the keys that there are now; workers vouch for themselves by the one that signs."""
        following = Following.of(self.store.signer, self._settings)
        following.on_change = lambda: self._supervisor.vouch(self.store.voucher.key)
        await following.run()

    async def _restart_unasked(self) -> None:
        with contextlib.suppress(Conflict):  # the log has it
            await self._restart()

    async def _restart(self) -> int:
        """Replace all workers; gives how many.

        Raises:
            Conflict: not now, or not with these settings.
        """
        try:
            accepted = accept(self._settings, self.store.voucher.key)
            replaced = await self._supervisor.restart(accepted)
        except (SettingsError, RestartError) as error:
            _log.error("restart_refused", error=str(error))
            raise Conflict(f"Not restarted: {error}.") from None
        self._settings = accepted.settings
        _log.info("restarted", workers=replaced)
        return replaced

    # ------------------------------------------------------------------ workers that died

    def _bury(self, member: str) -> None:
        burial = tasks.spawn(self._leave_for(member), "leave-for-the-dead")
        self._burials.add(burial)
        burial.add_done_callback(self._burials.discard)

    async def _leave_for(self, member: str) -> None:
        """Say it for a child that the kernel reported dead: no receipt needs to wait for its lease."""
        keys = self.store.keys
        try:
            args = [member, "", self.store.voucher.leave(member)]
            await self._commands.register_script(scripts.LEAVE)(keys=[keys.replicas, keys.acks], args=args)
        except (RedisError, OSError, TimeoutError) as error:
            _log.warning("leave_failed", replica=member, error=str(error))

    # ------------------------------------------------------------------ what workers know

    async def _traffic(self) -> dict[tuple[str, str], int]:
        """Who used what in the last day."""
        newest = bucket()
        hours = range(newest - 23 * BUCKET_SECONDS, newest + 1, BUCKET_SECONDS)
        return await recent(self._commands, [self.store.keys.traffic(hour) for hour in hours])

    async def _refused(self) -> list[Row]:
        """Which names were refused lately as no model's."""
        return merged(await self._supervisor.refused())

    # ------------------------------------------------------------------ metrics

    async def _samples(self) -> list[list[Sample]]:
        await self._supervisor.count()
        return self._supervisor.samples()

    async def _metrics(self) -> bytes:
        for basis, seconds in self._receipts.take_durations():
            self._counters.observe("portcullis_enforcement_seconds", (str(basis),), seconds)
        forged: list[Sample] = [
            ("portcullis_forged_total", ("replica",), self._receipts.roll.forged),
            ("portcullis_forged_total", ("policy",), self._audit.forged),
        ]
        own = [self._counters.samples(), self._local.samples(), self._drills.samples(), forged, await self._closed()]
        build: Sample = ("portcullis_build_info", (__version__,), 1)
        return expose([*await self._samples(), *own, [build], process.samples("control")])

    async def _closed(self) -> list[Sample]:
        """What is off or restricted, here too; while Redis is away, what last was: no dashboard must show all on."""
        known = self.store.last
        with contextlib.suppress(RedisError, OSError, TimeoutError, NotInitialisedError, ForgedError):
            async with asyncio.timeout(ANSWER_SECONDS):
                known = await self.store.current()
        if known is None:
            return []
        here = {model for local in self._local.standing for model in known.snapshot.covered(local.hold.models)}
        return [
            *(("portcullis_models_offline", (model,), 1) for model in sorted({*known.snapshot.offline, *here})),
            *_restricted(known.snapshot),
        ]


def _restricted(snapshot: Snapshot) -> list[Sample]:
    """How many directives there are in each state, and how many are in force on each model that has any."""
    document = snapshot.document
    states = Counter(directive.state for directive in document.directives.values())
    rules = {model: len(snapshot.rules(model)) for model in document.models}
    return [
        *(("portcullis_directives", (str(state),), states[state]) for state in State),
        *(("portcullis_models_restricted", (model,), count) for model, count in rules.items() if count),
    ]


def _terminal() -> bool:
    """Whether this process has a terminal that is still there."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def _checked(settings: Settings, counters: Counters) -> Watched | None:
    """Look at every file and secret that workers will need; the admin listener's TLS.

    Raises:
        SettingsError: one of them is missing or cannot be used. The message says which, and what to do.
    """
    if settings.tracing.endpoint is not None and importlib.util.find_spec("opentelemetry.exporter") is None:
        raise SettingsError("tracing.endpoint: needs `pip install 'portcullis-gateway[otel]'`")
    for name, provider in settings.providers.items():
        place = f"providers.{name}"
        try:
            provider.key()
            provider.egress_proxy()
        except SettingsError as error:
            raise SettingsError(f"{place}: {error}") from None
        client_context(provider.tls, f"{place}.tls")
        warn_of_readable_key(f"{place}.tls.key", provider.tls.key)
    for place, tls in (("proxy.tls", settings.proxy.tls), ("admin.tls", settings.admin.tls)):
        if tls is not None:
            server_context(tls, place)
            warn_of_readable_key(f"{place}.key", tls.key)
    settings.decisions.authorization()
    admin = settings.admin.tls
    return None if admin is None else watched_server(admin, "admin.tls", counters)


def state_dir(settings: Settings) -> Path:
    """The state directory, made if need be, for its owner only."""
    settings.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    return settings.state_dir
