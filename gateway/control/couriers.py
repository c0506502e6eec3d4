"""Where signed heads go: a file on another disk, somebody else's machine, a timestamp authority.

A head that somebody holds whom the operator cannot make forget it is what the evidence rests on in the end. A later
head says all that an earlier one does, so that of those that wait only the newest is delivered.
"""

import asyncio
import base64
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import structlog

from gateway.control.timestamps import QUERY, RefusedError, check, new_nonce, query
from gateway.enforcement.chain import Head
from gateway.enforcement.mirror import TIMESTAMPS, append
from gateway.observability.metrics import Counters
from gateway.policy.document import canonical
from gateway.settings import Audit

SECONDS = 10.0
"""How long a place may take."""

RETRY_SECONDS = 15.0
MOST_BYTES = 64 * 1024
"""Of a timestamp authority's answer; with a chain of certificates it is some 8 KiB."""

Deliver = Callable[[Head], Awaitable[None]]

_log = structlog.get_logger("portcullis.evidence")


class Courier:
    """Brings heads to one place. A change between working and failing is logged, each failure counted."""

    def __init__(self, place: str, deliver: Deliver, counters: Counters, every: float) -> None:
        self._place = place
        self._deliver = deliver
        self._counters = counters
        self._every = every
        self._waiting: Head | None = None
        self._wake = asyncio.Event()
        self._failing = False
        for result in ("delivered", "failed"):
            counters.add("portcullis_evidence_heads_total", (place, result), 0)

    def take(self, head: Head) -> None:
        """Bring this one, and none of those before it that still wait."""
        self._waiting = head
        self._wake.set()

    async def run(self) -> None:
        """Deliver whatever comes, the newest first and at least so many seconds apart."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            head = self._waiting
            if head is None:
                continue
            delivered = await self._try(head)
            if not delivered:
                self._wake.set()
            elif self._waiting is head:
                self._waiting = None
            await asyncio.sleep(self._every if delivered else RETRY_SECONDS)

    async def _try(self, head: Head) -> bool:
        try:
            async with asyncio.timeout(SECONDS):
                await self._deliver(head)
        except (OSError, TimeoutError, aiohttp.ClientError, RefusedError) as error:
            self._counters.add("portcullis_evidence_heads_total", (self._place, "failed"))
            if not self._failing:
                _log.error("heads_not_delivered", place=self._place, error=str(error) or type(error).__name__)
            self._failing = True
            return False
        self._counters.add("portcullis_evidence_heads_total", (self._place, "delivered"))
        if self._failing:
            _log.info("heads_delivered_again", place=self._place)
        self._failing = False
        return True


def couriers(settings: Audit, mirror: Path, counters: Counters) -> list[Courier]:
    """One for each place that the settings name."""
    found = []
    if settings.heads_file is not None:
        found.append(Courier("file", _to_file(settings.heads_file), counters, 0.0))
    if settings.heads_url is not None:
        deliver = _to_url(settings.heads_url, settings.heads_authorization())
        found.append(Courier("url", deliver, counters, 0.0))
    if settings.timestamp_url is not None:
        deliver = _to_authority(settings.timestamp_url, mirror / TIMESTAMPS)
        found.append(Courier("timestamp", deliver, counters, settings.timestamp_every))
    return found


def _to_file(path: Path) -> Deliver:
    async def deliver(head: Head) -> None:
        await asyncio.to_thread(append, path, canonical(head.view()) + b"\n")

    return deliver


def _to_url(url: str, authorization: str | None) -> Deliver:
    headers = {"Content-Type": "application/json"} | ({"Authorization": authorization} if authorization else {})

    async def deliver(head: Head) -> None:
        async with aiohttp.ClientSession(headers=headers) as session:
            sent = session.post(url, data=canonical(head.view()), allow_redirects=False)
            async with sent as response:
                if not 200 <= response.status < 300:
                    raise RefusedError(f"it answered {response.status}")

    return deliver


def _to_authority(url: str, kept: Path) -> Deliver:
    async def deliver(head: Head) -> None:
        nonce = new_nonce()
        async with aiohttp.ClientSession(headers={"Content-Type": QUERY}) as session:
            sent = session.post(url, data=query(head.digest, nonce), allow_redirects=False)
            async with sent as response:
                if response.status != 200:
                    raise RefusedError(f"it answered {response.status}")
                answer = await response.content.read(MOST_BYTES)
        check(answer, head.digest, nonce)
        stamp = {"seq": head.place.seq, "digest": head.digest, "response": base64.b64encode(answer).decode()}
        await asyncio.to_thread(append, kept, canonical(stamp) + b"\n")

    return deliver
