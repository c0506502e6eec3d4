"""What all exchanges of a worker share: providers, the policy in force, the lease, callers, counters.

``apply`` is where a revision takes effect: swap, evict, sweep and sever in one callback, without an await.
"""

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from time import monotonic, time
from typing import Any, Literal

import orjson
import structlog

from gateway.dialects import DIALECTS
from gateway.dialects.refusal import refuse
from gateway.dialects.table import Dialect, Operation
from gateway.enforcement import lease
from gateway.enforcement.replica import Replica
from gateway.identity.claims import ClaimNames
from gateway.identity.directory import Directory, Unknown
from gateway.identity.jose import looks_like_token
from gateway.identity.keys import fingerprint
from gateway.identity.on_behalf import EndUser, OnBehalf
from gateway.identity.pseudonyms import Pseudonyms
from gateway.identity.tokens import Issuer, Tokens
from gateway.observability.metrics import Counters, Sample
from gateway.observability.request_log import RequestLog
from gateway.observability.traffic import Traffic
from gateway.policy.availability import availability
from gateway.policy.caller import Caller
from gateway.policy.decision import Deny, Permit, Reason
from gateway.policy.document import Document
from gateway.policy.snapshot import Asked, Snapshot
from gateway.proxy.connection import ClientConnection
from gateway.proxy.exchange import Exchange
from gateway.proxy.head import Head, Refused, malformed
from gateway.proxy.upstream import Pool
from gateway.proxy.wire import own_response
from gateway.settings import Provider, Settings

SWEEP_SECONDS = 0.25
KEEP_REFUSALS = 10_000
"""Refusals that a worker can still explain by their request's id: some 10 MB."""
_POLICY_REASONS = frozenset(
    (Reason.MODEL_OFFLINE, Reason.RESTRICTED, Reason.ATTRIBUTE_UNKNOWN, Reason.MODEL_UNRESOLVED, Reason.UNKNOWN_MODEL)
)
_log = structlog.get_logger("portcullis.gate")

Fresh = dict[str, "Caller | Unknown"]
"""Callers looked up anew, by the fingerprint of their key."""


class Upstream:
    """A provider at run time: its dialect, its pool, and how a request to it is written."""

    def __init__(self, name: str, provider: Provider, settings: Settings) -> None:
        self.name = name
        self.dialect: Dialect = DIALECTS[provider.dialect]
        self.forwards = provider.credentials == "forward"
        self.pool = Pool(name, provider, self.dialect, settings.proxy.limits, settings.proxy.timeouts)
        self._base_path = self.pool.base_path.encode()
        self._host = self.pool.authority.encode()
        self._secret_headers = () if self.forwards else tuple(name for name, _ in self.dialect.credentials)
        key = None if self.forwards else provider.key()
        header, scheme = self.dialect.credential
        self._credential = b"" if key is None else b"%b: %b%b\r\n" % (header, scheme, key.encode())

    def request_head(self, head: Head, length: int, *, identity: bool) -> bytes:
        """The request's head as the provider gets it: written anew, with the gateway's credential."""
        query = b"?" + head.query if head.query else b""
        lines = [
            b"%b %b%b%b HTTP/1.1\r\nhost: %b\r\n"
            % (head.method.encode(), self._base_path, head.path.encode(), query, self._host),
            self._credential,
        ]
        secret = self._secret_headers
        for name, value in head.forward:
            if name in secret or (identity and name == b"accept-encoding"):
                continue
            lines.append(b"%b: %b\r\n" % (name, value))
        if identity:
            lines.append(b"accept-encoding: identity\r\n")
        if head.method != "GET":
            lines.append(b"content-length: %d\r\n" % length)
        lines.append(b"\r\n")
        return b"".join(lines)


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

    def __init__(self, settings: Settings, replica: Replica, directory: Directory, log: RequestLog | None) -> None:
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
        self.counters = Counters()
        self.draining = False
        self.empty = asyncio.Event()
        self.swept: Any = lambda: None
        self.providers = {name: Upstream(name, provider, settings) for name, provider in settings.providers.items()}
        self._hosts = {
            provider.host.lower().encode(): self.providers[name]
            for name, provider in settings.providers.items()
            if provider.host
        }
        self.traffic = Traffic()
        self.refusals: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self._log = log
        self._log_permits = settings.log.requests
        self._loop = asyncio.get_running_loop()
        self._request_prefix = f"req_{secrets.token_hex(6)}"
        self._requests = 0
        self._finishing: dict[Exchange, tuple[int, int]] = {}
        self._newest = (0, 0)

    # ------------------------------------------------------------------ what a step asks

    def now(self) -> float:
        """The loop's clock: timeouts and durations."""
        return self._loop.time()

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

    def refusal_context(
        self, exchange: Exchange, deny: Deny
    ) -> tuple[Document | None, Dialect | None, str, Sequence[str]]:
        """What a refusal needs beside the denial."""
        dialect = exchange.provider.dialect if exchange.provider else None
        document = self.snapshot.document if self.snapshot else None
        alternatives: Sequence[str] = ()
        if self.snapshot and exchange.caller and exchange.provider and deny.reason in _POLICY_REASONS:
            alternatives = self.snapshot.alternatives(exchange.caller, exchange.provider.name, deny.model)
        return document, dialect, exchange.request_id, alternatives

    def fault_response(self, deny: Deny) -> bytes:
        """The answer to what could not even be read as a request."""
        request_id = self.next_request_id()
        refusal = refuse(deny, None, None, request_id)
        self._count(None, deny.model, "deny", deny.reason)
        self._write_log({"decision": "deny", "reason": str(deny.reason), "status": refusal.status}, request_id)
        return own_response(
            refusal.status, refusal.headers, refusal.body(), request_id, self.revision, keep_alive=False
        )

    def failed(self, error: Exception) -> None:
        """The gateway itself failed on a request: counted, logged, and the door stays closed."""
        self.counters.add("portcullis_internal_errors_total")
        _log.error("internal_error", exc_info=error)

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
        """Put a revision into force."""
        named = None if callers == "all" else set(callers)
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
        """Judge again those about whom something has just ceased to be known."""
        now = time()
        for exchange in [exchange for exchange in self.in_flight if exchange.known_until <= now]:
            self._judge(exchange)

    def left(self, exchange: Exchange) -> None:
        """An exchange is over."""
        self.in_flight.discard(exchange)
        before = self.replica.finishing
        self._may_go_on(exchange)
        if self.replica.finishing != before:
            self._loop.call_soon(self.swept)

    def stop(self) -> None:
        """Take no new requests; what is in flight may end."""
        self.draining = True
        for connection in list(self.connections):
            connection.stop()
        self._check_empty()

    def disconnected(self, connection: ClientConnection) -> None:
        """A client connection is closed."""
        self.connections.discard(connection)
        self._check_empty()

    def _check_empty(self) -> None:
        if self.draining and not self.connections:
            self.empty.set()

    def close(self) -> None:
        """Cut whatever is left."""
        for exchange in list(self.in_flight):
            exchange.sever(Deny(Reason.OVERLOADED, self.revision, message="The gateway is shutting down."))
        for connection in list(self.connections):
            connection.reset()
        for provider in self.providers.values():
            provider.pool.close()

    # ------------------------------------------------------------------ record

    def count_failure(self, exchange: Exchange, cause: str) -> None:
        """A provider failed an exchange."""
        provider = exchange.provider.name if exchange.provider else ""
        self.counters.add("portcullis_upstream_failures_total", (provider, cause))

    def record(self, exchange: Exchange) -> None:
        """Count an exchange that ended, and log it."""
        line = exchange.summary()
        now = monotonic()
        provider = line["provider"]
        self._count(provider, line["model"], line["decision"], line["reason"])
        if line["decision"] == "permit" and exchange.caller is not None and line["model"]:
            self.traffic.add(exchange.caller.id, line["model"])
        if line["would_deny"]:
            labels = (self._model(line["model"]), line["would_deny"])
            self.counters.add("portcullis_would_deny_total", labels)
        if exchange.severed:
            self.replica.streams_cut += 1
            self.counters.add("portcullis_streams_cut_total", (self._model(line["model"]), line["reason"]))
        if exchange.first_byte_at:
            waited, lasted = exchange.first_byte_at - exchange.sent_at, now - exchange.sent_at
            self.counters.observe("portcullis_upstream_first_byte_seconds", (provider,), waited)
            self.counters.observe("portcullis_upstream_duration_seconds", (provider,), lasted)
            line["first_byte_ms"] = round(waited * 1000, 2)
        line["duration_ms"] = round((now - exchange.began_at) * 1000, 2)
        if line["decision"] == "deny":
            self._keep_refusal(exchange.request_id, line)
        self._write_log(line, exchange.request_id)

    def _keep_refusal(self, request_id: str, line: dict[str, Any]) -> None:
        """Remember why, for whoever asks by the request's id; the oldest are forgotten."""
        self.refusals[request_id] = {"request_id": request_id, "time": time(), "revision": self.revision, **line}
        if len(self.refusals) > KEEP_REFUSALS:
            self.refusals.popitem(last=False)

    def _count(self, provider: str | None, model: str | None, decision: str, reason: str | None) -> None:
        labels = (provider or "", self._model(model), decision, reason or "")
        self.counters.add("portcullis_requests_total", labels)
        if reason in _POLICY_REASONS:
            self.counters.add("portcullis_blocked_total", (self._model(model), reason or ""))

    def _model(self, model: str | None) -> str:
        """A bounded label: a model of the catalog, ``other``, or nothing."""
        if model is None:
            return ""
        return model if self.snapshot is not None and model in self.snapshot.document.models else "other"

    def _write_log(self, line: dict[str, Any], request_id: str) -> None:
        if self._log is not None and (self._log_permits or line["decision"] == "deny"):
            self._log.add(
                {
                    "event": "request",
                    "time": round(time(), 3),
                    "request_id": request_id,
                    "revision": self.revision,
                    **line,
                }
            )

    def samples(self, replica: str) -> list[Sample]:
        """What this worker has counted, and how it is."""
        document = self.snapshot.document if self.snapshot else None
        remaining = self.replica.deadline(document.max_stale.default if document else 0.0) - lease.now()
        gauges: list[Sample] = [
            ("portcullis_client_connections", (), len(self.connections)),
            ("portcullis_policy_revision", (replica,), self.revision),
            ("portcullis_lease_remaining_seconds", (replica,), max(remaining, -1e9)),
            ("portcullis_replica_serving", (replica, str(self.replica.state)), 1),
        ]
        for name in self.providers:
            mine = sum(1 for exchange in self.in_flight if exchange.provider and exchange.provider.name == name)
            gauges.append(("portcullis_in_flight_requests", (name,), mine))
        return gauges + self.counters.samples()
