"""The admin API's client: the standard library's, one connection, no proxies, no redirects."""

import json
import os
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection, RemoteDisconnected
from typing import Any, NoReturn
from urllib.parse import quote, urlencode, urlsplit

from gateway.cli.exits import Exit, Failure
from gateway.cli.target import Target

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 15.0
"""How much longer than ``?wait=`` an answer may take."""

DEFAULT_WAIT = 20.0
PIECE_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Reply:
    """What the gateway said."""

    status: int
    etag: str | None
    text: str
    body: Any

    @property
    def ok(self) -> bool:
        """Whether it did what it was asked."""
        return 200 <= self.status < 300


class Client:
    """Calls of the admin API."""

    def __init__(self, target: Target) -> None:
        if target.token is None:
            raise Failure(Exit.NOT_ALLOWED, "no token: set PORTCULLIS_TOKEN, or choose a --profile that has one")
        if not (target.token.isascii() and target.token.isprintable()):
            raise Failure(Exit.NOT_ALLOWED, "the token is not one: it has characters that no token has")
        self._url = target.url
        self._token = target.token
        self._base, self._connection = _connection(target.url)

    def get(self, path: str, **query: str) -> Reply:
        """Read."""
        return self._call("GET", path, None, query, {})

    def post(self, path: str, body: dict[str, Any] | None = None, wait: float = DEFAULT_WAIT) -> Reply:
        """Change something; sent again once if the connection breaks, which the key makes safe."""
        headers = {"Idempotency-Key": os.urandom(16).hex()}
        return self._call("POST", path, body or {}, {"wait": f"{wait:g}"}, headers, wait)

    def ask(self, path: str, body: dict[str, Any], **query: str) -> Reply:
        """Read with a body: a question that changes nothing."""
        return self._call("POST", path, body, query, {}, DEFAULT_WAIT)

    def send_lines(self, path: str, lines: bytes, wait: float) -> Reply:
        """Send JSON lines that may be sent again: the answer is JSON lines, too."""
        return self._call("POST", path, lines, {"wait": f"{wait:g}"}, {"Content-Type": "application/x-ndjson"}, wait)

    def stream(self, path: str) -> Iterator[bytes]:
        """Read what may be large, piece by piece.

        Raises:
            Failure: it is refused, or breaks off.
        """
        try:
            if self._connection.sock is None:
                self._connection.connect()
            self._connection.sock.settimeout(ANSWER_SECONDS)
            self._connection.request("GET", self._base + path, headers={"Authorization": f"Bearer {self._token}"})
            response = self._connection.getresponse()
            if response.status != 200:
                code = Exit.NOT_ALLOWED if response.status in (401, 403) else Exit.REFUSED
                raise Failure(code, f"refused with {response.status}: {response.read().decode('utf-8', 'replace')}")
            while piece := response.read(PIECE_BYTES):
                yield piece
        except (OSError, HTTPException) as error:
            self._unreachable(error)

    def create(self, path: str, body: dict[str, Any], wait: float = DEFAULT_WAIT) -> Reply:
        """Put an object where there is none."""
        return self._call("PUT", path, body, {"wait": f"{wait:g}"}, {"If-None-Match": "*"}, wait)

    def replace(self, path: str, body: dict[str, Any], etag: str | None, wait: float = DEFAULT_WAIT) -> Reply:
        """Put an object in place of the one that had this ETag."""
        return self._call("PUT", path, body, {"wait": f"{wait:g}"}, {"If-Match": etag} if etag else {}, wait)

    def delete(self, path: str, etag: str | None = None, wait: float = DEFAULT_WAIT) -> Reply:
        """Remove an object, as it was when it had this ETag."""
        return self._call("DELETE", path, None, {"wait": f"{wait:g}"}, {"If-Match": etag} if etag else {}, wait)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _call(
        self, method: str, path: str, body: Any, query: dict[str, str], headers: dict[str, str], wait: float = 0.0
    ) -> Reply:
        target = self._base + path + (f"?{urlencode(query)}" if query else "")
        sent = {"Authorization": f"Bearer {self._token}", "Accept": "application/json", **headers}
        data = None
        if isinstance(body, bytes):
            data = body
        elif body is not None:
            data = json.dumps(body).encode()
            sent["Content-Type"] = "application/json"
        again = method == "GET" or "Idempotency-Key" in headers
        try:
            try:
                return self._exchange(method, target, data, sent, wait)
            except (RemoteDisconnected, ConnectionResetError, BrokenPipeError):
                if not again:
                    raise
                self._connection.close()
                return self._exchange(method, target, data, sent, wait)
        except (OSError, HTTPException) as error:
            self._unreachable(error)

    def _exchange(self, method: str, target: str, data: bytes | None, headers: dict[str, str], wait: float) -> Reply:
        connection = self._connection
        if connection.sock is None:
            connection.connect()
        connection.sock.settimeout(wait + ANSWER_SECONDS)
        connection.request(method, target, data, headers)
        response = connection.getresponse()
        text = response.read().decode("utf-8", "replace")
        try:
            body = json.loads(text)
        except ValueError:
            body = None
        return Reply(response.status, response.getheader("ETag"), text, body)

    def _unreachable(self, error: Exception) -> NoReturn:
        reason = "it does not answer in time" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
        raise Failure(Exit.UNREACHABLE, f"{self._url} cannot be reached: {reason}")


def segment(name: str) -> str:
    """A name as one segment of a path."""
    return quote(name, safe="")


def _connection(url: str) -> tuple[str, HTTPConnection]:
    """The path before every path, and the connection, not opened yet.

    Raises:
        Failure: the URL is none of ours.
    """
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = -1
    if parts.scheme not in ("http", "https") or not parts.hostname or port == -1 or parts.query or parts.username:
        raise Failure(Exit.USAGE, f"{url!r} is no address of an admin API, such as http://127.0.0.1:8081")
    if parts.scheme == "https":
        secure = HTTPSConnection(parts.hostname, port, timeout=CONNECT_SECONDS, context=ssl.create_default_context())
        return parts.path.rstrip("/"), secure
    return parts.path.rstrip("/"), HTTPConnection(parts.hostname, port, timeout=CONNECT_SECONDS)
