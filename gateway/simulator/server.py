"""A simulator that listens: for the command line, for the demo, for tests in the same process."""

import ssl
from types import TracebackType
from typing import Self

from aiohttp import web

from gateway.simulator.app import INSPECTOR, SERVICE, build_app
from gateway.simulator.config import SimulatorConfig
from gateway.simulator.record import Journal

BACKLOG = 4096  # thousands of streams may start in one burst
STOP_SECONDS = 0.05  # patience with open streams, twice, at the stop


class Simulator:
    """A listening simulator: `async with Simulator(config) as simulator: simulator.url`.

    Port 0 lets the system choose. A failed bind raises OSError. Leaving cuts every open stream.
    """

    def __init__(
        self,
        config: SimulatorConfig | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._host, self._port, self._tls = host, port, tls
        self._app = build_app(config or SimulatorConfig())
        self._runner = web.AppRunner(self._app, shutdown_timeout=STOP_SECONDS)

    @property
    def journal(self) -> Journal:
        """What was recorded, for readers in the same process."""
        return self._app[SERVICE].journal

    @property
    def url(self) -> str:
        """`http://host:port`, or https, with the real port; after `start`."""
        host, port = self._runner.addresses[0][:2]
        scheme = "http" if self._tls is None else "https"
        return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"

    async def start(self) -> None:
        """Listen."""
        await self._runner.setup()
        server = self._runner.server
        assert server is not None
        self._app[INSPECTOR].count_connections = lambda: len(server.connections)
        try:
            await web.TCPSite(self._runner, self._host, self._port, backlog=BACKLOG, ssl_context=self._tls).start()
        except OSError:
            await self._runner.cleanup()
            raise

    async def stop(self) -> None:
        """Stop listening and cut what is open, within about a tenth of a second."""
        await self._runner.cleanup()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()
