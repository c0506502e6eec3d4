"""The requests of a drill: real ones, through a real listener, for the canary."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Self

import aiohttp

from gateway.control.problems import Conflict
from gateway.policy.document import Document
from gateway.settings import Settings, SettingsError

_ENDLESS = {"X-Sim-Events": "1000000", "X-Sim-Interval": "0.02"}
"""What the simulator takes for a stream that lasts; other providers do not know these headers."""

_PATHS = {
    "anthropic": "/v1/messages",
    "openai": "/v1/chat/completions",
    "openai-compatible": "/v1/chat/completions",
}
"""By dialect: those whose requests name the model in a body that has the same fields."""


class WrongAnswerError(Exception):
    """A request was not answered as it had to be. The message says how."""


@dataclass(frozen=True, slots=True)
class Canary:
    """Where the canary is asked for, as what, and with which key."""

    url: str
    name: str
    key: str

    @classmethod
    def find(cls, settings: Settings, document: Document, listen: str) -> Self:
        """The canary of the settings, in the catalog of now.

        Raises:
            Conflict: something is missing; the message says what.
        """
        drill = settings.drill
        model = document.models.get(drill.model or "")
        if model is None:
            raise Conflict("There is no canary: set drill.model to a model of the catalog that nobody else uses.")
        route = next((route for route in model.routes if route.provider in settings.providers), None)
        if route is None:
            raise Conflict(f"No provider of {drill.model} is configured: [providers.{model.routes[0].provider}].")
        try:
            key = drill.caller_key()
        except SettingsError as error:
            raise Conflict(f"drill: {error}.") from None
        if key is None:
            raise Conflict("There is nobody to ask as: set drill.key_file (or key_env) to a caller's gateway key.")
        if drill.url is None and settings.proxy.tls is not None and settings.proxy.tls.client_ca is not None:
            raise Conflict("The listener asks for client certificates: set drill.url to one that does not.")
        path = _PATHS.get(settings.providers[route.provider].dialect)
        if path is None:
            raise Conflict(f"The canary's provider must speak one of {', '.join(_PATHS)}.")
        name = next(name for name in (*route.names, *model.aliases) if "*" not in name)
        return cls(f"{drill.url or _own(settings, listen)}/{route.provider}{path}", name, key)

    @asynccontextmanager
    async def asked(self, session: aiohttp.ClientSession, *, stream: bool) -> AsyncIterator[aiohttp.ClientResponse]:
        """A request on a connection of its own."""
        body = {"model": self.name, "max_tokens": 16, "messages": [{"role": "user", "content": "drill"}]}
        headers = {"Portcullis-Key": self.key, **(_ENDLESS if stream else {"X-Sim-Interval": "0"})}
        async with session.post(self.url, json={**body, "stream": stream}, headers=headers) as response:
            yield response

    async def permitted(self, session: aiohttp.ClientSession) -> None:
        """Ask, and be answered.

        Raises:
            WrongAnswerError: it was refused.
        """
        async with self.asked(session, stream=False) as response:
            await response.read()
            if response.status != 200:
                raise WrongAnswerError(f"the canary was answered with {_said(response)}")

    async def refused(self, session: aiohttp.ClientSession) -> None:
        """Ask, and be refused as the hold says.

        Raises:
            WrongAnswerError: it was not.
        """
        async with self.asked(session, stream=False) as response:
            await response.read()
            if response.headers.get("Portcullis-Reason") != "model_offline":
                raise WrongAnswerError(f"the canary is off, and was answered with {_said(response)}")


class Stream:
    """A stream of the canary; ``last`` is when its last byte came (monotonic seconds)."""

    def __init__(self, canary: Canary, session: aiohttp.ClientSession) -> None:
        self._canary = canary
        self._session = session
        self.began = asyncio.Event()
        self.last = 0.0

    async def read(self) -> None:
        """Until it ends, however it does.

        Raises:
            WrongAnswerError: it was not begun, or came to an end of its own.
        """
        async with self._canary.asked(self._session, stream=True) as response:
            if response.status != 200:
                raise WrongAnswerError(f"the canary's stream was answered with {_said(response)}")
            tail = b""
            try:
                async for piece in response.content.iter_any():
                    self.last = time.monotonic()
                    self.began.set()
                    tail = (tail + piece)[-64:]
            except (aiohttp.ClientError, OSError):
                return  # cut
            if b"[DONE]" in tail or b"message_stop" in tail:
                raise WrongAnswerError("the canary's stream ended by itself before it was cut: it is too short")


def new_session(patience: float) -> aiohttp.ClientSession:
    """Each request on a connection of its own; our own listener's certificate is for another name than an address."""
    connector = aiohttp.TCPConnector(force_close=True, ssl=False)
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=patience, sock_read=patience)
    return aiohttp.ClientSession(connector=connector, timeout=timeout)


def _own(settings: Settings, listen: str) -> str:
    """This machine's listener, as it can be reached from here."""
    host, _, port = listen.rpartition(":")
    here = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "[::]": "[::1]", "::": "[::1]"}.get(host, host)  # noqa: S104
    scheme = "http" if settings.proxy.tls is None else "https"
    return f"{scheme}://{f'[{here}]' if ':' in here and not here.startswith('[') else here}:{port}"


def _said(response: Any) -> str:
    reason = response.headers.get("Portcullis-Reason")
    return f"{response.status} {reason}" if reason else f"{response.status}"
