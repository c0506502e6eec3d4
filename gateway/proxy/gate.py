"""What all exchanges of a worker share: providers, the policy in force, the lease, callers, counters.

``apply`` is where a revision takes effect: swap, evict, sweep and sever in one callback, without an await.
"""

import asyncio
import secrets
from collections.abc import Callable, Iterable, Sequence
from time import time
from typing import Any, Literal

import orjson
import structlog

from gateway.dialects.refusal import refuse
from gateway.dialects.table import Dialect, Operation
from gateway.enforcement import lease
from gateway.enforcement.made import MadeStore
from gateway.enforcement.replica import Replica
from gateway.identity.claims import ClaimNames
from gateway.identity.directory import Directory, Unknown
from gateway.identity.jose import looks_like_token
from gateway.identity.keys import fingerprint
from gateway.identity.on_behalf import EndUser, OnBehalf
from gateway.identity.pseudonyms import Pseudonyms
from gateway.identity.tokens import Issuer, Tokens
from gateway.observability.metrics import Sample
from gateway.policy.availability import availability
from gateway.policy.caller import Caller
from gateway.policy.decision import Deny, Permit, Reason
from gateway.policy.document import Document
from gateway.policy.snapshot import Asked, Snapshot
from gateway.proxy.body import Buffered
from gateway.proxy.client_address import client_address
from gateway.proxy.connection import ClientConnection
from gateway.proxy.exchange import Exchange
from gateway.proxy.head import Refused, malformed
from gateway.proxy.ledger import Ledger
from gateway.proxy.provider import Upstream
from gateway.proxy.reading import ReadingProcess
from gateway.proxy.recorder import POLICY_REASONS, Lines, Recorder
from gateway.proxy.resolver import Resolver
from gateway.proxy.wire import own_response
from gateway.settings import Settings

SWEEP_SECONDS = 0.25
LINGER_SECONDS = 2.0
"""How long a leaving worker leaves idle connections open: a request that comes is answered with ``Connection: close``.

Closing them at once would cut those that are just about to ask (nginx: keepalive_min_timeout).
"""
_log = structlog.get_logger("portcullis.gate")

Fresh = dict[str, "Caller | Unknown"]
"""Callers looked up anew, by the fingerprint of their key."""


def _issuers(settings: Settings) -> list[Issuer]:
    return [
        Issuer(
            name,
            section.issuer,
            section.audience,
            section.jwks_url,
            section.algorithms,
            ClaimNames(**dict(section.claims)),
            section.leeway,
        )
        for name, section in settings.issuers.items()
    ]


class Gate:
    """One worker's data plane."""

    def __init__(
        self,
        settings: Settings,
        replica: Replica,
        directory: Directory,
        log: Lines | None,
        made: MadeStore | None = None,
    ) -> None:
        self.limits = settings.proxy.limits
        self.timeouts = settings.proxy.timeouts
        self.replica = replica
        self.directory = directory
        pseudonyms = Pseudonyms(settings.pseudonym_key)
        self.tokens = Tokens(_issuers(settings), pseudonyms)
        self._on_behalf = OnBehalf(settings.gateway, pseudonyms)
        self.snapshot: Snapshot | None = None
        self.in_flight: set[Exchange] = set()
        self.connections: set[ClientConnection] = set()
        self.buffered = Buffered(self.limits, settings.proxy.spool_dir)
        self.reading = ReadingProcess()
        log_permits = settings.log.requests or settings.tracing.endpoint is not None
        self.recorder = Recorder(log, lambda: self.snapshot, log_permits=log_permits)
        self.counters = self.recorder.counters
        self.ledger = Ledger(made, self.counters)
        self.draining = False
        self.swept: Any = lambda: None
        resolver = Resolver(self.timeouts.dns)
        self.providers = {
            name: Upstream(name, provider, settings, resolver, self.counters)
            for name, provider in settings.providers.items()
        }
        self._hosts = {
            provider.host.lower().encode(): self.providers[name]
            for name, provider in settings.providers.items()
            if provider.host
        }
        self.log_addresses = settings.log.client_address
        self._trusted = settings.proxy.trusted_proxies
        self.answers_authz = settings.authz.enabled
        self._loop = asyncio.get_running_loop()
        self.now: Callable[[], float] = self._loop.time
        """The loop's clock: timeouts and durations."""
        self._request_prefix = f"req_{secrets.token_hex(6)}"
        self._requests = 0
        self._finishing: dict[Exchange, tuple[int, int]] = {}
        self._newest = (0, 0)

    # ------------------------------------------------------------------ what a step asks

    lease_clock = staticmethod(lease.now)

    @property
    def revision(self) -> int:
        """The revision in force; 0 before there is one."""
        return 0 if self.snapshot is None else self.snapshot.revision

    def next_request_id(self) -> str:
        """A request's id, unique over all workers and restarts."""
        self._requests += 1
        return f"{self._request_prefix}{self._requests:08x}"

    def find_operation(
        self, host: bytes, method: str, path: str
    ) -> tuple[Upstream, str, tuple[Operation, str | None] | None] | None:
        """The provider that host or first path segment mean, the path within it, and the operation there."""
        provider = self._hosts.get(host.lower()) if self._hosts else None
        if provider is None:
            name, slash, rest = path[1:].partition("/")
            provider = self.providers.get(name)
            if provider is None or not slash:
                return None
            path = "/" + rest
        return provider, path, provider.dialect.operation(method, path)

    def decide(
        self, caller: Caller, asked: Asked, *, invokes: bool, on_behalf_of: Caller | None = None
    ) -> Permit | Deny:
        """The policy's decision, if the lease covers what it is about."""
        snapshot = self.snapshot
        if snapshot is None:
            return self.stale()
        decision: Permit | Deny = snapshot.decide(caller, asked, on_behalf_of) if invokes else snapshot.look()
        if isinstance(decision, Permit):
            max_stale = decision.max_stale
        else:
            max_stale = snapshot.max_stale.get(decision.model or "", snapshot.document.max_stale.default)
        return decision if self.replica.may_serve(lease.now(), max_stale) else self.stale()

    def denied_response(self, exchange: Exchange, permit: Permit, name: str) -> Deny | None:
        """The denial of a response from a model of the catalog that was not permitted, and is not to be had.

        The provider chose it; no revision did, so it is on no receipt.
        """
        snapshot, caller, provider = self.snapshot, exchange.caller, exchange.provider
        assert snapshot is not None
        assert caller is not None
        assert provider is not None
        model = snapshot.resolve(provider.name, name)
        if model is None or model in permit.models:
            return None
        asked = Asked(provider.name, (name,))
        decision = self.decide(caller, asked, invokes=True, on_behalf_of=exchange.on_behalf_of)
        if isinstance(decision, Permit) or decision.reason not in POLICY_REASONS:
            return None
        self.counters.add("portcullis_response_model_denied_total", (provider.name, model))
        return decision

    def look(self) -> Permit:
        """The right to an answer that invokes nothing, while the policy is known at all.

        Raises:
            Refused: the lease is over.
        """
        if self.snapshot is None or not self.replica.may_serve(lease.now(), self.snapshot.longest_stale):
            raise Refused(self.stale())
        return self.snapshot.look()

    def availability(self, caller: Caller, on_behalf_of: Caller | None = None) -> bytes:
        """What a caller may use, as JSON.

        Raises:
            Refused: the lease is over.
        """
        self.look()
        assert self.snapshot is not None
        models = availability(self.snapshot, caller, self.providers, on_behalf_of)
        return orjson.dumps({"gateway": self.snapshot.document.gateway, "revision": self.revision, "models": models})

    def may_look_up(self) -> bool:
        """Whether Redis may be asked who somebody is: one that this replica has no lease from may be another."""
        longest = self.snapshot.longest_stale if self.snapshot is not None else 0.0
        return self.replica.may_serve(lease.now(), longest)

    def cached(self, mark: str) -> Caller | Unknown | None:
        """Who has a credential, by its fingerprint; ``None`` if that has to be looked up."""
        return self.directory.cached(mark) or self.tokens.cached(mark)

    async def look_up(self, credential: str) -> Caller | Unknown:
        """Verify a token, or ask Redis whose key it is.

        Raises:
            TokenError: the token is not good.
        """
        if looks_like_token(credential):
            return await self.tokens.look_up(credential)
        return await self.directory.look_up(fingerprint(credential))

    def end_user(self, header: bytes, asker: Caller) -> EndUser:
        """For whom a service asks.

        Raises:
            TokenError: it may not, or the token is not good.
        """
        return self._on_behalf.end_user(header, asker, self.snapshot.document.orgs if self.snapshot else {})

    def stale(self) -> Deny:
        """The denial of a replica whose lease is over."""
        return Deny(Reason.POLICY_STALE, self.revision)

    def too_large(self) -> Refused:
        """The denial of a body over the limit."""
        return malformed(f"The body is over the limit of {self.limits.body_bytes} bytes.", 413)

    def upload_too_large(self) -> Refused:
        """The denial of a body over the limit of those that are passed on as they come."""
        return malformed(f"The body is over the limit of {self.limits.upload_bytes} bytes.", 413)

    def no_room(self) -> Refused:
        """The denial of a body while too many bytes wait already."""
        message = "The gateway keeps too much of yours, or of everybody's, waiting already. Try again later."
        return Refused(Deny(Reason.OVERLOADED, self.revision, message=message))

    def refusal_context(
        self, exchange: Exchange, deny: Deny
    ) -> tuple[Document | None, Dialect | None, str, Sequence[str]]:
        """What a refusal needs beside the denial."""
        dialect = exchange.provider.dialect if exchange.provider else None
        document = self.snapshot.document if self.snapshot else None
        alternatives: Sequence[str] = ()
        if self.snapshot and exchange.caller and exchange.provider and deny.reason in POLICY_REASONS:
            alternatives = self.snapshot.alternatives(
                exchange.caller, exchange.provider.name, deny.model, on_behalf_of=exchange.on_behalf_of
            )
        return document, dialect, exchange.request_id, alternatives

    def fault_response(self, deny: Deny) -> bytes:
        """The answer to what could not even be read as a request."""
        request_id = self.next_request_id()
        refusal = refuse(deny, None, None, request_id)
        self.recorder.fault(deny, refusal.status, request_id)
        return own_response(
            refusal.status, refusal.headers, refusal.body(), request_id, self.revision, keep_alive=False
        )

    def failed(self, error: Exception) -> None:
        """The gateway itself failed on a request: counted, logged, and the door stays closed."""
        self.counters.add("portcullis_internal_errors_total")
        _log.error("internal_error", exc_info=error)

    def peer(self, transport: asyncio.BaseTransport) -> str:
        """The address at a connection's other end, if it will be asked for."""
        return str((transport.get_extra_info("peername") or ("",))[0]) if self.log_addresses else ""

    def client_address(self, peer: str, forwarded_for: bytes) -> str:
        """The client's address for the request log."""
        return client_address(peer, forwarded_for, self._trusted)

    # ------------------------------------------------------------------ revisions and leases

    def affected(self, callers: Iterable[str] | Literal["all"]) -> list[str]:
        """Keys in flight whose callers a revision names: to be looked up before it is applied."""
        named = None if callers == "all" else set(callers)
        return sorted(
            {
                exchange.credential
                for exchange in self.in_flight
                if exchange.caller is not None
                and not exchange.by_token
                and (named is None or exchange.caller.id in named)
            }
        )

    def apply(self, snapshot: Snapshot, callers: Iterable[str] | Literal["all"], fresh: Fresh) -> None:
        """Put a revision into force; or the same one anew, as something in it has begun or expired."""
        named = None if callers == "all" else set(callers)
        by_time = self.snapshot is not None and self.snapshot.revision == snapshot.revision
        cut_before = self.replica.streams_cut
        self._newest = (min(self.revision + 1, snapshot.revision), snapshot.revision)
        self.snapshot = snapshot
        self.directory.evict(callers)
        for model in snapshot.offline:  # born at zero, so that the first refusal shows as an increase
            self.counters.add("portcullis_blocked_total", (model, str(Reason.MODEL_OFFLINE)), 0)
            self.counters.add("portcullis_streams_cut_total", (model, str(Reason.MODEL_OFFLINE)), 0)
        for exchange in list(self.in_flight):
            caller = exchange.caller
            if caller is not None and not exchange.by_token and (named is None or caller.id in named):
                found = fresh.get(exchange.credential)
                if not isinstance(found, Caller):
                    exchange.sever(self.stale() if found is None else Deny(Reason.UNAUTHENTICATED, self.revision))
                    continue
                exchange.caller = found
            self._judge(exchange)
        for connection in list(self.connections):
            if any(isinstance(exchange.decide_again(), Deny) for exchange in self._relayed(connection)):
                connection.reset()
                self.replica.streams_cut += 1
        if by_time:  # what time cuts is counted, and is on no revision's receipt
            self.replica.streams_cut = cut_before

    @staticmethod
    def _relayed(connection: ClientConnection) -> list[Exchange]:
        """Exchanges that are over but for bytes of a model that the client has not taken yet."""
        return [
            exchange for exchange in connection.unflushed() if exchange.permit is not None and exchange.first_byte_at
        ]

    def _judge(self, exchange: Exchange) -> None:
        if not self._end_user_stands(exchange):
            exchange.sever(Deny(Reason.UNAUTHENTICATED, self.revision))
            return
        decision = exchange.decide_again()
        if isinstance(decision, Permit):
            exchange.permit = decision if exchange.permit is not None else None
            self._may_go_on(exchange)
        elif decision.let_finish:
            self._finish_by(exchange, self.now() + decision.let_finish)
        else:
            exchange.sever(decision)

    def _end_user_stands(self, exchange: Exchange) -> bool:
        """Whether the key that an end user is known by is still the organisation's."""
        if exchange.end_user is None or exchange.caller is None or self.snapshot is None:
            return True
        return exchange.end_user.stands(exchange.caller, self.snapshot.document.orgs)

    def _finish_by(self, exchange: Exchange, moment: float) -> None:
        """Let a denied request go on for a while; the replica says ``draining`` until it is gone.

        Which of several revisions that came at once denied it first is not known: the receipts of all wait for it.
        """
        exchange.finish_by = min(moment, exchange.finish_by or moment)
        self._finishing.setdefault(exchange, self._newest)
        self._tell_finishing()

    def _may_go_on(self, exchange: Exchange) -> None:
        if self._finishing.pop(exchange, None) is not None:
            exchange.finish_by = None
            self._tell_finishing()

    def _tell_finishing(self) -> None:
        self.replica.draining = len(self._finishing)
        runs = set(self._finishing.values())
        self.replica.finishing = tuple(sorted({rev for first, last in runs for rev in range(first, last + 1)}))

    def sever_overdue(self) -> None:
        """Sever whatever the lease no longer covers."""
        moment = lease.now()
        for exchange in list(self.in_flight):
            if exchange.permit is not None and not self.replica.may_serve(moment, exchange.permit.max_stale):
                exchange.sever(self.stale())
        for connection in list(self.connections):
            for exchange in self._relayed(connection):
                if exchange.permit and not self.replica.may_serve(moment, exchange.permit.max_stale):
                    connection.reset()
                    break

    # ------------------------------------------------------------------ time and ends

    def sweep(self) -> None:
        """Look at all deadlines, a few times a second: cheaper than a timer for each."""
        self._loop.call_later(SWEEP_SECONDS, self.sweep)
        now = self.now()
        for connection in [connection for connection in self.connections if connection.deadline < now]:
            connection.timed_out()
        for provider in self.providers.values():
            provider.pool.sweep(now)
        self._sweep_expired()
        for exchange in [exchange for exchange in self._finishing if (exchange.finish_by or now) <= now]:
            decision = exchange.decide_again()
            exchange.sever(decision if isinstance(decision, Deny) else self.stale())

    def _sweep_expired(self) -> None:
        """Judge again those about whom something has just ceased to be known. That is on no revision's receipt."""
        now, cut_before = time(), self.replica.streams_cut
        for exchange in [exchange for exchange in self.in_flight if exchange.known_until <= now]:
            self._judge(exchange)
        self.replica.streams_cut = cut_before

    def left(self, exchange: Exchange) -> None:
        """An exchange is over."""
        self.in_flight.discard(exchange)
        if exchange in self._finishing:
            before = self.replica.finishing
            self._may_go_on(exchange)
            if self.replica.finishing != before:
                self._loop.call_soon(self.swept)

    @property
    def keep_alive(self) -> float:
        """How long an idle client connection stays."""
        return LINGER_SECONDS if self.draining else self.timeouts.keep_alive

    def drain(self) -> None:
        """The process is leaving: whoever asks from here on is told that the connection closes."""
        self.draining = True

    def stop(self) -> None:
        """Close what is idle; what is in flight may end."""
        self.drain()
        for connection in list(self.connections):
            connection.stop()

    def disconnected(self, connection: ClientConnection) -> None:
        """A client connection is closed."""
        self.connections.discard(connection)

    def close(self) -> None:
        """Cut whatever is left."""
        for exchange in list(self.in_flight):
            exchange.sever(Deny(Reason.OVERLOADED, self.revision, message="The gateway is shutting down."))
        for connection in list(self.connections):
            connection.reset()
        for provider in self.providers.values():
            provider.pool.close()

    # ------------------------------------------------------------------ how it is

    def record(self, exchange: Exchange) -> None:
        """Keep what is kept of an exchange that ended."""
        if exchange.severed:
            self.replica.streams_cut += 1
        self.recorder.record(exchange)

    def samples(self, replica: str) -> list[Sample]:
        """What this worker has counted, and how it is."""
        document = self.snapshot.document if self.snapshot else None
        remaining = self.replica.deadline(document.max_stale.default if document else 0.0) - lease.now()
        gauges: list[Sample] = [
            ("portcullis_client_connections", (), len(self.connections)),
            ("portcullis_buffered_bytes", (), self.buffered.total),
            ("portcullis_spooled_bodies", (), self.buffered.spooled),
            ("portcullis_policy_revision", (replica,), self.revision),
            ("portcullis_lease_remaining_seconds", (replica,), max(remaining, -1e9)),
            ("portcullis_replica_serving", (replica, str(self.replica.state)), 1),
        ]
        for name, provider in self.providers.items():
            mine = sum(1 for exchange in self.in_flight if exchange.provider and exchange.provider.name == name)
            gauges.append(("portcullis_in_flight_requests", (name,), mine))
            sockets = sum(1 for exchange in self.in_flight if exchange.provider is provider and exchange.status == 101)
            gauges.append(("portcullis_websockets", (name,), sockets))
            gauges.append(("portcullis_upstream_connections", (name,), len(provider.pool.open)))
            gauges.append(("portcullis_upstream_queue", (name,), provider.pool.waiting))
        return gauges + self.counters.samples()
