"""From a provider's settings to a connection: an address, the way through an egress proxy, TLS.

Everything here happens within ``timeouts.connect``, which the pool sets.
"""

import asyncio
import contextlib
import re
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import TypeVar, cast
from urllib.parse import urlsplit

from gateway import tasks
from gateway.proxy.resolver import Address, Resolver
from gateway.proxy.tls import TlsTransport
from gateway.settings import EgressProxy, Provider
from gateway.tls import Watched

ATTEMPT_SECONDS = 0.25
"""How long an address may take before the next is tried beside it (RFC 8305 §5)."""

TUNNEL_HEAD_BYTES = 16 * 1024
"""The most that a proxy may say before the tunnel begins."""

_TUNNEL_OPEN = re.compile(rb"HTTP/1\.[01] 2[0-9]{2}(?: [^\r\n]*)?\r\n")
_TUNNEL_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3})")

P = TypeVar("P")
"""A protocol, by what it does."""


class DialError(Exception):
    """There is no connection. ``cause`` is a label of the metric, the message is for the log; no secret is in it."""

    def __init__(self, cause: str, message: str) -> None:
        super().__init__(message)
        self.cause = cause


class Dialler:
    """Opens connections to one provider."""

    def __init__(self, provider: Provider, resolver: Resolver, tls: Watched | None) -> None:
        parts = urlsplit(provider.base_url)
        assert parts.hostname is not None
        self.host = parts.hostname
        self.port = parts.port or (443 if parts.scheme == "https" else 80)
        self._name = provider.tls.server_name or parts.hostname
        self._proxy = provider.egress_proxy()
        self._resolver = resolver
        self.tls = tls
        self._loop = asyncio.get_running_loop()

    async def open(self, factory: Callable[[], P]) -> P:
        """A new connection's protocol, ready to be written to.

        Raises:
            DialError: there is none.
        """
        with contextlib.ExitStack() as undo:
            sock = await self._connect()
            undo.callback(sock.close)
            if self._proxy is not None:
                await self._tunnel(sock, self._proxy)
            undo.pop_all()  # the transport closes it from here on
        return await self._secure(sock, factory)

    # ------------------------------------------------------------------ an address

    async def _connect(self) -> socket.socket:
        proxy = self._proxy
        host, port = (self.host, self.port) if proxy is None else (proxy.host, proxy.port)
        try:
            return await self._race(await self._resolver.addresses(host, port))
        except OSError as error:
            cause = "connect_failed" if proxy is None else "proxy_unreachable"
            raise DialError(cause, str(error)) from None

    async def _race(self, addresses: Sequence[Address]) -> socket.socket:
        """Try one address after the other, the next as soon as one fails or takes long; the first to answer wins.

        ``loop.create_connection(happy_eyeballs_delay=…)`` would do it, but not uvloop's.
        """
        waiting = deque(addresses)
        attempts: set[asyncio.Task[socket.socket | None]] = set()
        winner: socket.socket | None = None
        try:
            while winner is None and (waiting or attempts):
                if waiting:
                    attempts.add(tasks.spawn(self._attempt(waiting.popleft()), "connect-address"))
                done, attempts = await asyncio.wait(
                    attempts, timeout=ATTEMPT_SECONDS if waiting else None, return_when=asyncio.FIRST_COMPLETED
                )
                for sock in filter(None, (task.result() for task in done)):
                    if winner is None:
                        winner = sock
                    else:
                        sock.close()
        finally:
            for task in attempts:
                task.cancel()
                task.add_done_callback(_close_late)
        if winner is None:
            raise OSError(f"none of {len(addresses)} addresses answers")
        return winner

    async def _attempt(self, address: Address) -> socket.socket | None:
        """Connect to one address; ``None`` if it cannot be."""
        family, place = address
        with contextlib.ExitStack() as undo:
            undo.callback(self._resolver.failed, address)  # also when another was faster, or the time is over
            sock = socket.socket(family, socket.SOCK_STREAM)
            undo.callback(sock.close)
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                await self._loop.sock_connect(sock, place)
            except OSError:
                return None
            undo.pop_all()
        self._resolver.worked(address)
        return sock

    # ------------------------------------------------------------------ an egress proxy

    async def _tunnel(self, sock: socket.socket, proxy: EgressProxy) -> None:
        """Ask the proxy for a tunnel (RFC 9110 §9.3.6), for plain providers too: it is the same for both."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        lines = [f"CONNECT {host}:{self.port} HTTP/1.1", f"Host: {host}:{self.port}"]
        if proxy.authorization is not None:
            lines.append(f"Proxy-Authorization: {proxy.authorization}")
        try:
            await self._loop.sock_sendall(sock, "\r\n".join([*lines, "", ""]).encode())
            answer = await self._tunnel_head(sock)
        except OSError as error:
            raise DialError("proxy_failed", f"the proxy closed: {error.strerror}") from None
        if not _TUNNEL_OPEN.match(answer):
            status = _TUNNEL_STATUS.match(answer)
            told = status[1].decode() if status else "something that is not HTTP/1.1"
            raise DialError("proxy_refused", f"the proxy answered CONNECT with {told}")

    async def _tunnel_head(self, sock: socket.socket) -> bytes:
        """The proxy's answer up to its blank line. A provider speaks only when spoken to: nothing may follow."""
        answer = b""
        while b"\r\n\r\n" not in answer:
            data = await self._loop.sock_recv(sock, 4096)
            answer += data
            if not data or len(answer) > TUNNEL_HEAD_BYTES:
                raise DialError("proxy_failed", f"the proxy's answer had no end after {len(answer)} bytes")
        if not answer.endswith(b"\r\n\r\n") and _TUNNEL_OPEN.match(answer):
            raise DialError("proxy_failed", "the proxy sent something before anything was asked")
        return answer

    # ------------------------------------------------------------------ TLS

    async def _secure(self, sock: socket.socket, factory: Callable[[], P]) -> P:
        protocol = factory()
        if self.tls is None:
            await self._loop.create_connection(lambda: cast("asyncio.BaseProtocol", protocol), sock=sock)
            return protocol
        handshake: asyncio.Future[None] = self._loop.create_future()

        def handshaken(error: OSError | None) -> None:
            if handshake.done():
                return  # nobody waits any more
            if error is None:
                handshake.set_result(None)
            else:
                handshake.set_exception(error)

        layer = TlsTransport(protocol, self.tls.context, handshaken, server_name=self._name)
        transport, _ = await self._loop.create_connection(lambda: layer, sock=sock)
        with contextlib.ExitStack() as undo:
            undo.callback(transport.abort)
            try:
                await handshake
            except OSError as error:
                raise DialError("tls_failed", str(error)) from None
            undo.pop_all()
        return protocol


def _close_late(task: "asyncio.Task[socket.socket | None]") -> None:
    """A connection that was made though another had won."""
    with contextlib.suppress(asyncio.CancelledError):
        sock = task.result()
        if sock is not None:
            sock.close()
