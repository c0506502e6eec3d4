"""A provider at run time: its dialect, its connections, and how a request to it is written."""

from gateway.dialects import DIALECTS
from gateway.dialects.added import added, extended
from gateway.dialects.table import Dialect
from gateway.observability.metrics import Counters
from gateway.proxy.head import HANDSHAKE, Head, Way
from gateway.proxy.pool import Pool
from gateway.proxy.resolver import Resolver
from gateway.proxy.sigv4 import NOT_FORWARDED, Signer
from gateway.settings import Provider, Settings
from gateway.tls import watched_client


def dialect_of(provider: Provider) -> Dialect:
    """The dialect that a provider speaks, with its own operations."""
    more = [
        added(one.id, one.method, one.path, one.models, one.candidates, invokes=one.invokes)
        for one in provider.operations
    ]
    return extended(DIALECTS[provider.dialect], more, provider.key_header)


class Upstream:
    """A provider at run time: its dialect, its pool, and how a request to it is written."""

    def __init__(
        self, name: str, provider: Provider, settings: Settings, resolver: Resolver, counters: Counters
    ) -> None:
        self.name = name
        secure = provider.base_url.startswith("https:")
        self.tls = watched_client(provider.tls, f"providers.{name}.tls", counters) if secure else None
        self.dialect = dialect_of(provider)
        self.forwards = provider.credentials == "forward"
        limits, timeouts = settings.proxy.limits, settings.proxy.timeouts
        self.pool = Pool(name, provider, self.dialect, limits, timeouts, resolver, self.tls)
        self._base_path = self.pool.base_path.encode()
        self._host = self.pool.authority.encode()
        self._secret_headers = () if self.forwards else tuple(name for name, _ in self.dialect.credentials)
        self._signer = None
        if provider.aws is not None:
            self._signer = Signer(provider.aws.region, provider.aws.service, provider.aws.keys(), self._host)
            self._secret_headers += NOT_FORWARDED
        key = None if self.forwards or self._signer is not None else provider.key()
        header, scheme = self.dialect.credential
        self._credential = b"" if key is None else b"%b: %b%b\r\n" % (header, scheme, key.encode())

    def request_head(self, head: Head, body: bytes | memoryview, *, identity: bool) -> bytes:
        """The request's head as the provider gets it: written anew, with the gateway's credential."""
        assert head.way is not None
        onward = head.way.onward.get(identity)
        if onward is None:
            onward = head.way.onward[identity] = self._onward(head, head.way, identity=identity)
        if self._signer is not None:
            path = self._base_path.decode() + head.way.path
            onward += self._signer.headers(head.method, path, head.way.query, body)
        return onward + (b"\r\n" if head.method == "GET" else b"content-length: %d\r\n\r\n" % len(body))

    @property
    def signs(self) -> bool:
        """Whether requests are signed, body and all."""
        return self._signer is not None

    def upload_head(self, head: Head, length: int | None, *, identity: bool) -> bytes:
        """The head of a request whose body is passed on as it comes; without a length, in chunks."""
        assert head.way is not None
        onward = self._onward(head, head.way, identity=identity)
        framing = b"transfer-encoding: chunked" if length is None else b"content-length: %d" % length
        return b"%b%b\r\n\r\n" % (onward, framing)

    def _onward(self, head: Head, way: Way, *, identity: bool) -> bytes:
        """The same, without its length and end."""
        query = b"?" + way.query if way.query else b""
        lines = [
            b"%b %b%b%b HTTP/1.1\r\nhost: %b\r\n"
            % (head.method.encode(), self._base_path, way.path.encode(), query, self._host),
            self._credential,
        ]
        secret = self._secret_headers
        for name, value in head.forward:
            if name in secret or name.startswith(HANDSHAKE) or (identity and name == b"accept-encoding"):
                continue
            lines.append(b"%b: %b\r\n" % (name, value))
        if identity:
            lines.append(b"accept-encoding: identity\r\n")
        return b"".join(lines)
