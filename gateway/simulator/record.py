"""What the simulator saw and sent: exchanges in a bounded ring, and counters.

Times are nanoseconds of CLOCK_MONOTONIC: any process on the same machine may compare them with its own.
"""

import enum
import time
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256

OTHER_MODELS = "(other)"
NO_MODEL = "(none)"
MAX_COUNTED_MODELS = 10_000


def monotonic_ns() -> int:
    """Return nanoseconds of CLOCK_MONOTONIC."""
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)


class Ended(enum.Enum):
    """How an exchange ended."""

    COMPLETE = "complete"  # the whole answer was handed to the socket
    TRUNCATED = "truncated"  # closed on purpose in the middle (X-Sim-Truncate)
    CLIENT_GONE = "client_gone"  # the peer left before the end
    STALLED = "stalled"  # silent on purpose (X-Sim-Stall) until the peer left
    SHUTDOWN = "shutdown"  # the simulator itself was stopped
    FAILED = "failed"  # a defect of the simulator; its log has the traceback


@dataclass(slots=True, kw_only=True, eq=False)
class Exchange:
    """One request as it came and what was sent in answer.

    `emissions` holds pairs, flat: time just before the bytes are handed to the transport, and the offset in the
    response body (after chunked decoding) at which they end. Sixteen bytes per emission. `digest` is the SHA-256
    of the body, or of the raw target where there is none.
    """

    serial: int
    provider: str
    method: str
    target: str
    headers: tuple[tuple[bytes, bytes], ...]
    peer_port: int | None
    head_ns: int
    keep_emissions: int
    tag: str | None = None
    model: str | None = None
    body: bytes = b""
    body_ns: int | None = None
    digest: bytes = b""
    status: int | None = None
    offset: int = 0
    emissions: "array[int]" = field(default_factory=lambda: array("q"))
    emissions_dropped: int = 0
    stalled_ns: int | None = None
    ended: Ended | None = None
    ended_ns: int | None = None

    def emitted(self, size: int) -> None:
        """Note that `size` bytes of response body are about to be written."""
        self.offset += size
        self.emissions.extend((monotonic_ns(), self.offset))
        if len(self.emissions) >= 4 * self.keep_emissions:
            surplus = len(self.emissions) // 2 - self.keep_emissions
            del self.emissions[: 2 * surplus]
            self.emissions_dropped += surplus

    def stalled(self) -> None:
        """Note that nothing more will be sent on purpose."""
        self.stalled_ns = monotonic_ns()

    def end(self, how: Ended) -> None:
        """Note how and when the exchange ended; only the first word counts."""
        if self.ended is None:
            self.ended, self.ended_ns = how, monotonic_ns()

    def pairs(self) -> Iterator[tuple[int, int]]:
        """Yield the kept emissions, at most `keep_emissions`, oldest first, as (time in ns, end offset)."""
        first = max(0, len(self.emissions) // 2 - self.keep_emissions)
        for index in range(2 * first, len(self.emissions), 2):
            yield self.emissions[index], self.emissions[index + 1]


@dataclass(slots=True)
class Counters:
    """Totals since the start; they survive `DELETE /_sim/requests`."""

    requests: int = 0
    by_model: Counter[tuple[str, str]] = field(default_factory=Counter)
    open_requests: int = 0
    open_streams: int = 0
    emitted_events: int = 0
    last_arrival_ns: int | None = None

    def count_model(self, provider: str, model: str | None) -> None:
        """Count one request of `provider` that names `model`; new names beyond the bound share one entry."""
        key = (provider, NO_MODEL if model is None else model)
        if key not in self.by_model and len(self.by_model) >= MAX_COUNTED_MODELS:
            key = (provider, OTHER_MODELS)
        self.by_model[key] += 1


class Journal:
    """The ring of exchanges: at most `keep_requests` of them, and `keep_body_bytes` of their bodies.

    The newest exchange is kept even where its body alone is larger than the bound.
    """

    def __init__(self, keep_requests: int, keep_body_bytes: int, keep_emissions: int) -> None:
        self.counters = Counters()
        self._keep_requests = keep_requests
        self._keep_body_bytes = keep_body_bytes
        self._keep_emissions = keep_emissions
        self._exchanges: dict[int, Exchange] = {}
        self._body_bytes = 0

    def __len__(self) -> int:
        return len(self._exchanges)

    def open(
        self,
        *,
        provider: str,
        method: str,
        target: str,
        headers: tuple[tuple[bytes, bytes], ...],
        peer_port: int | None,
        tag: str | None,
    ) -> Exchange:
        """Record a request whose head has just arrived."""
        now = monotonic_ns()
        self.counters.requests += 1
        self.counters.last_arrival_ns = now
        exchange = Exchange(
            serial=self.counters.requests,
            provider=provider,
            method=method,
            target=target,
            headers=headers,
            peer_port=peer_port,
            head_ns=now,
            keep_emissions=self._keep_emissions,
            tag=tag,
            digest=sha256(target.encode("utf-8", "surrogateescape")).digest(),
        )
        self._exchanges[exchange.serial] = exchange
        self._evict()
        return exchange

    def body_arrived(self, exchange: Exchange, body: bytes) -> None:
        """Record the body of `exchange`, whose last byte has just arrived."""
        exchange.body, exchange.body_ns = body, monotonic_ns()
        if body:
            exchange.digest = sha256(body).digest()
        if exchange.serial in self._exchanges:
            self._body_bytes += len(body)
            self._evict()

    def find(self, serial: int) -> Exchange | None:
        """Return the exchange with this serial number if it is still kept."""
        return self._exchanges.get(serial)

    def select(self, *, since: int = 0, tag: str | None = None, limit: int = 1000) -> list[Exchange]:
        """Return at most `limit` exchanges with a serial greater than `since`, oldest first."""
        chosen: list[Exchange] = []
        for exchange in self._exchanges.values():
            if len(chosen) >= limit:
                break
            if exchange.serial > since and (tag is None or exchange.tag == tag):
                chosen.append(exchange)
        return chosen

    def clear(self) -> int:
        """Forget all exchanges and return how many there were; serial numbers go on."""
        count = len(self._exchanges)
        self._exchanges.clear()
        self._body_bytes = 0
        return count

    def _evict(self) -> None:
        while len(self._exchanges) > self._keep_requests or (
            self._body_bytes > self._keep_body_bytes and len(self._exchanges) > 1
        ):
            oldest = self._exchanges.pop(next(iter(self._exchanges)))
            self._body_bytes -= len(oldest.body)
