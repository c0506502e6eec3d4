"""Replies → the wire: pace, halves, cuts and silences; every write of body bytes is noted in the exchange."""

import asyncio
from collections.abc import Iterable, Mapping
from itertools import islice

from aiohttp import web

from gateway.simulator.behaviour import Behaviour
from gateway.simulator.dialect import JSON_TYPE, Plain, Reply, Stream
from gateway.simulator.record import Counters, Ended, Exchange

YIELD_EVERY = 16  # unpaced deltas between two turns of the event loop: fast, and other streams still move


class Emitter:
    """Sends one reply as its behaviour says. A peer that leaves ends it at once, by cancellation or by a failed write.

    Both need the server's `handler_cancellation`, which `build_app` turns on.
    """

    def __init__(
        self,
        request: web.Request,
        exchange: Exchange,
        behaviour: Behaviour,
        *,
        counters: Counters,
        split_pause: float,
    ) -> None:
        self._request = request
        self._exchange = exchange
        self._behaviour = behaviour
        self._counters = counters
        self._split_pause = split_pause
        self._response = web.StreamResponse()

    async def send(self, reply: Reply, headers: Mapping[str, str]) -> web.StreamResponse:
        """Send `reply` with `headers` and note how it ended; return the response for aiohttp to finish."""
        try:
            match reply:
                case Plain():
                    await self._plain(reply, headers)
                case Stream():
                    await self._stream(reply, headers)
        except ConnectionError:
            self._exchange.end(Ended.CLIENT_GONE)
        return self._response

    async def _plain(self, reply: Plain, headers: Mapping[str, str]) -> None:
        self._response = web.StreamResponse(status=reply.status, headers={**headers, **reply.headers})
        self._response.content_type = JSON_TYPE
        self._response.content_length = len(reply.body)
        await self._begin()
        if self._cut_wanted:
            await self._write(reply.body[: len(reply.body) // 2])
            await self._cut()
            return
        await self._write(reply.body)
        await self._finish()

    async def _stream(self, reply: Stream, headers: Mapping[str, str]) -> None:
        self._response = web.StreamResponse(headers={**headers, "Cache-Control": "no-cache"})
        self._response.headers["Content-Type"] = reply.content_type
        await self._begin()
        self._counters.open_streams += 1
        try:
            for event in reply.opening:
                await self._event(event)
            await self._paced(reply.deltas)
            if self._cut_wanted:
                await self._cut()
                return
            for event in reply.closing:
                await self._event(event)
            await self._finish()
        finally:
            self._counters.open_streams -= 1

    async def _paced(self, deltas: Iterable[bytes]) -> None:
        """Send deltas on a fixed schedule: a late one does not delay those after it."""
        interval = self._behaviour.interval
        clock = asyncio.get_running_loop().time
        start = clock()
        for index, event in enumerate(islice(deltas, self._limit)):
            if interval:
                await asyncio.sleep(max(0.0, start + index * interval - clock()))
            elif index % YIELD_EVERY == 0:
                await asyncio.sleep(0)
            await self._event(event)

    async def _event(self, event: bytes) -> None:
        self._counters.emitted_events += 1
        if not self._behaviour.split:  # the hot path: no call that can be saved
            self._exchange.emitted(len(event))
            await self._response.write(event)
            return
        middle = len(event) // 2
        await self._write(event[:middle])
        await asyncio.sleep(self._split_pause)
        await self._write(event[middle:])
        await asyncio.sleep(self._split_pause)

    async def _write(self, data: bytes) -> None:
        if data and self._request.method != "HEAD":
            self._exchange.emitted(len(data))
            await self._response.write(data)

    async def _begin(self) -> None:
        self._exchange.status = self._response.status
        await self._response.prepare(self._request)

    async def _finish(self) -> None:
        await self._response.write_eof()
        self._exchange.end(Ended.COMPLETE)

    @property
    def _limit(self) -> int | None:
        """How many deltas may be sent; None: all."""
        behaviour = self._behaviour
        return behaviour.truncate if behaviour.truncate is not None else behaviour.stall

    @property
    def _cut_wanted(self) -> bool:
        return self._limit is not None

    async def _cut(self) -> None:
        """Close without the end of the body, or say nothing more until the peer leaves."""
        if self._behaviour.stall is not None:
            self._exchange.stalled()
            await asyncio.Event().wait()
        transport = self._request.transport
        if transport is not None:
            transport.close()  # what was written still arrives; the terminating chunk was not
        self._exchange.end(Ended.TRUNCATED)
