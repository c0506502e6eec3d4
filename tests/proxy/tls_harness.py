"""The harness with TLS on both sides of the gate."""

import asyncio
import socket
import ssl
from pathlib import Path
from typing import Any, Self

from certificates import Authority, Pair, serving
from proxy_harness import Client, Door, Provider

from gateway.proxy.connection import ClientConnection
from gateway.proxy.tls import TlsTransport


class TlsProvider(Provider):
    """The provider's side."""

    def __init__(self, pair: Pair, context: ssl.SSLContext | None = None) -> None:
        super().__init__()
        self.context = context or serving(pair)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self.context)
        self.port = self._server.sockets[0].getsockname()[1]
        return self


class TlsDoor(Door):
    """A gate that asks over TLS, and is asked over TLS with ``context``."""

    def __init__(
        self, port: int, state_dir: Path, authority: Authority, context: ssl.SSLContext, **fields: Any
    ) -> None:
        tls = fields.pop("tls", {})
        super().__init__(port, state_dir, **fields)
        providers = {
            name: provider.model_copy(
                update={
                    "base_url": provider.base_url.replace("http://", "https://"),
                    "tls": provider.tls.model_copy(update={"ca_file": authority.file, **tls}),
                }
            )
            for name, provider in self.settings.providers.items()
        }
        self.settings = self.settings.model_copy(update={"providers": providers})
        self.context = context
        self.handshakes: list[OSError | None] = []

    async def open(self) -> None:
        await super().open()
        self._server.close()
        self._server = await asyncio.get_running_loop().create_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def _accept(self) -> asyncio.BaseProtocol:
        return TlsTransport.serve(ClientConnection(self.gate), self.context, self.handshakes.append)


class TlsClient(Client):
    """A client that speaks TLS; on a context of its own it may trust others, or have a certificate."""

    @classmethod
    async def secure(
        cls, port: int, context: ssl.SSLContext, *, receive_buffer: int | None = None, limit: int = 2**16
    ) -> Self:
        sock = socket.socket()
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        return cls(*await asyncio.open_connection(sock=sock, limit=limit, ssl=context, server_hostname="localhost"))

    @property
    def tls(self) -> ssl.SSLObject:
        return self.writer.get_extra_info("ssl_object")
