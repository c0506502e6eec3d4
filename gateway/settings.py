"""Every setting: a TOML file, overridden by ``PORTCULLIS_…`` with ``__`` between levels.

An unknown key or a bad value stops the start and names it.
"""

import os
import re
from base64 import b64encode
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

ENV_PREFIX = "PORTCULLIS_"
NOT_SETTINGS = {"PORTCULLIS_CONFIG", "PORTCULLIS_URL", "PORTCULLIS_TOKEN", "PORTCULLIS_PROFILE"}
"""Variables with our prefix that are no settings: where the file is, and what the command line talks to."""

KIB, MIB = 1024, 1024 * 1024


class SettingsError(Exception):
    """The settings cannot be used. The message names each mistake, one a line."""


def _address(value: str) -> str:
    host, _, port = value.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise ValueError("must be HOST:PORT, e.g. 127.0.0.1:8080")
    return value


def _identifier(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,62}", value):
        raise ValueError("must be lower case letters, digits and -")
    return value


def _jwks_url(value: str) -> str:
    parts = urlsplit(value)
    loopback = parts.hostname in ("localhost", "127.0.0.1", "::1")
    if not parts.hostname or parts.username is not None or parts.fragment or re.search(r"\s", value):
        raise ValueError("must be a URL without user or fragment")
    if parts.scheme != "https" and not (parts.scheme == "http" and loopback):
        raise ValueError("must begin with https:// (http:// on loopback only): who changes it makes callers")
    return value


def _egress_url(value: SecretStr) -> SecretStr:
    EgressProxy.parse(value.get_secret_value())
    return value


Address = Annotated[str, AfterValidator(_address)]
Name = Annotated[str, AfterValidator(_identifier)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(gt=0)]


class Section(BaseModel):
    """A table of the settings file: immutable, and nothing unknown in it."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Limits(Section):
    """What one request, one connection, one worker may use."""

    head_bytes: Count = Field(default=32 * KIB, description="Request line and headers; nginx allows four of 8 KiB.")
    header_count: Count = Field(default=100, description="Headers in a request or a response, as HAProxy's maxhdr.")
    response_head_bytes: Count = Field(default=64 * KIB, description="Status line and headers of an upstream.")
    body_bytes: Count = Field(default=32 * MIB, description="A request's body; Anthropic and Gemini allow 20 to 32 MB.")
    upload_bytes: Count = Field(
        default=1024 * MIB, description="A body that can name no model and is passed on as it comes; files mostly."
    )
    body_bytes_per_second: Count = Field(
        default=500, description="The least a body may bring on average, after its timeout; Apache's MinRate."
    )
    spool_above: Count = Field(default=MIB, description="A body larger than this waits on disk, not in memory.")
    buffered_bytes: Count = Field(default=1024 * MIB, description="Bodies that a worker keeps, in memory and on disk.")
    buffered_bytes_per_caller: Count = Field(
        default=256 * MIB, description="The same, of one caller; and no more than is free, fourfold."
    )
    connections: Count = Field(default=10_000, description="Client connections per worker; more are closed at once.")
    upstream_connections: Count = Field(default=5_000, description="Connections per worker to one provider.")
    upstream_queue: int = Field(
        default=1_000, ge=0, description="Requests per worker and provider that wait while all connections are busy."
    )
    pipelined: Count = Field(default=8, description="Requests read ahead on one connection before reading pauses.")
    websocket_message_bytes: Count = Field(
        default=16 * MIB, description="A client's message on a WebSocket; the Realtime API allows 15 MB of audio."
    )
    websocket_held_bytes: Count = Field(
        default=MIB, description="Messages of a client that wait until one of them says which model is meant."
    )
    watchers: Count = Field(default=1_000, description="Open streams of /availability/events per worker.")
    watchers_per_caller: Count = Field(default=10, description="The same, of one caller.")
    write_buffer: Count = Field(default=32 * KIB, description="Unsent bytes per connection before its source waits.")

    @model_validator(mode="after")
    def _fit_each_other(self) -> Self:
        if not self.body_bytes <= self.buffered_bytes_per_caller <= self.buffered_bytes:
            raise ValueError("body_bytes <= buffered_bytes_per_caller <= buffered_bytes must hold")
        return self


class Timeouts(Section):
    """Seconds. Checked by a sweep, so that each may come up to half a second late."""

    head: Positive = Field(default=15.0, description="From a request's first byte (or the connection) to its head.")
    body: Positive = Field(default=30.0, description="Silence within a request's body.")
    keep_alive: Positive = Field(default=75.0, description="An idle client connection; nginx's default.")
    connect: Positive = Field(default=5.0, description="To open a connection to a provider, proxy and TLS included.")
    dns: float = Field(default=30.0, ge=0, description="How long a resolved address is kept. 0: each is asked for.")
    upstream_queue: Positive = Field(default=10.0, description="To wait for a connection while all are busy.")
    first_byte: Positive = Field(default=600.0, description="From the request to the response head: models think.")
    idle: Positive = Field(default=300.0, description="Silence of a provider within a response.")
    write: Positive = Field(default=300.0, description="A client that takes nothing of what is waiting for it.")
    websocket_ping: Positive = Field(
        default=30.0,
        description="Silence of either end of a WebSocket until it is pinged; after as much again it is cut.",
    )
    websocket_idle: Positive = Field(default=900.0, description="A WebSocket on which neither end sends a message.")
    watcher_heartbeat: Positive = Field(default=15.0, description="Between signs of life on /availability/events.")
    upstream_keep_alive: Positive = Field(default=30.0, description="An idle connection to a provider.")
    shutdown: Positive = Field(default=30.0, description="From SIGTERM until exchanges in flight are cut.")
    drain: Positive = Field(default=3600.0, description="The same for workers that a hot restart has replaced.")
    hung: Positive = Field(default=30.0, description="A worker that answers its supervisor nothing is ended.")


TlsVersion = Literal["1.2", "1.3"]


class ServerTls(Section):
    """TLS on a listener. The files are looked at every second; a new pair serves new connections at once."""

    certificate: Path = Field(description="PEM: the certificate, then its intermediates.")
    key: Path = Field(description="PEM: its private key, without a passphrase, readable by the gateway only.")
    client_ca: Path | None = Field(default=None, description="PEM: only clients with a certificate of these may come.")
    minimum: TlsVersion = Field(default="1.2", description="The oldest version of TLS that is spoken.")


class ClientTls(Section):
    """TLS to a provider. Its certificate is always verified, TLS is 1.2 at least; changed files are read again."""

    ca_file: Path | None = Field(default=None, description="PEM: trust these alone; default: the system's.")
    server_name: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9.-]+$",
        description="Asked for and verified instead of base_url's host.",
    )
    certificate: Path | None = Field(default=None, description="PEM: the gateway's own certificate, if asked for one.")
    key: Path | None = Field(default=None, description="PEM: its private key, without a passphrase.")

    @model_validator(mode="after")
    def _both_or_neither(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key belong together")
        return self


class Proxy(Section):
    """The data plane."""

    listen: Address = Field(default="127.0.0.1:8080", description="Where clients come in.")
    tls: ServerTls | None = None
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = Field(
        default=(),
        description="Load balancers whose X-Forwarded-For is believed: the client is the rightmost that is none of "
        "them. Used for log.client_address only; no forwarding header ever reaches a provider.",
    )
    workers: int = Field(default=0, ge=0, le=256, description="Worker processes; 0 means one per processor.")
    spool_dir: Path | None = Field(default=None, description="Where large bodies wait; default: the system's.")
    limits: Limits = Limits()
    timeouts: Timeouts = Timeouts()

    @property
    def worker_count(self) -> int:
        """How many workers run."""
        return self.workers or os.cpu_count() or 1


class Admin(Section):
    """The control side."""

    listen: Address = Field(default="127.0.0.1:8081", description="Admin API and /metrics. Keep it off the internet.")
    tls: ServerTls | None = None
    undo_seconds: Positive = Field(default=600.0, description="How long one's own hold can be undone alone.")


class Console(Section):
    """What operators use in a browser, on the admin listener."""

    enabled: bool = Field(default=True, description="Whether there is one.")
    environment: str = Field(
        default="", max_length=40, description="Which gateway this is, beside its name on every page: production, say."
    )
    session_hours: Annotated[float, Field(gt=0, le=168)] = Field(
        default=12.0, description="How long a sign-in lasts. A token that is replaced or removed ends it at once."
    )
    secure_cookies: bool = Field(
        default=False, description="Whether browsers come by https though admin.tls is not set: by a proxy in front."
    )


class Redis(Section):
    """Where the policy lives."""

    url: str = Field(
        default="embedded",
        pattern=r"^(embedded|(redis|rediss|unix|sentinel|sentinels)://\S+)$",
        description="redis://, rediss:// (TLS), unix://, sentinel://host:port,…/name, or embedded: a private server.",
    )
    username: str | None = Field(default=None, description="The control process' user; default: Redis' own.")
    password: SecretStr | None = Field(default=None, description="Instead of writing it into the URL.")
    replica_username: str | None = Field(default=None, description="The workers' user, which may do less.")
    replica_password: SecretStr | None = Field(default=None, description="Its password.")
    sentinel_password: SecretStr | None = Field(default=None, description="The password of the Sentinels.")
    ca_file: Path | None = Field(
        default=None, description="Who signs the servers' certificates; default: the system's."
    )
    prefix: str = Field(default="{pc}", pattern=r"^\{[A-Za-z0-9_-]{1,32}\}$", description="One per gateway.")
    replicas_ack: int = Field(
        default=0,
        ge=0,
        le=16,
        description="Redis replicas that must have a commit before it counts as enforced (WAIT).",
    )
    strict: bool = Field(
        default=True, description="Whether a server that could forget a revision stops the start, or is only logged."
    )

    @model_validator(mode="after")
    def _sentinels_have_a_name(self) -> Self:
        if self.url.startswith("sentinel") and not re.fullmatch(r"sentinels?://[^/\s]+/[^/\s]+(/\d+)?", self.url):
            raise ValueError("url: must be sentinel://HOST:PORT,HOST:PORT/NAME, with the name of the primary's group")
        return self


@dataclass(frozen=True, slots=True)
class EgressProxy:
    """An HTTP proxy through which a provider is reached; ``authorization`` is a secret."""

    host: str
    port: int
    authorization: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, url: str) -> Self:
        """Read ``http://user:password@host:port``; user and password percent-encoded, and optional.

        Raises:
            ValueError: it is another thing. The message does not quote it.
        """
        found = _EGRESS.fullmatch(url)
        if found is None or int(found["port"]) > 65535:
            raise ValueError("must be http://host:port or http://user:password@host:port")
        authorization = None
        if found["user"] is not None:
            pair = f"{unquote(found['user'])}:{unquote(found['password'] or '')}"
            authorization = "Basic " + b64encode(pair.encode()).decode()
        return cls(found["host"].strip("[]"), int(found["port"]), authorization)


_EGRESS = re.compile(
    r"http://(?:(?P<user>[^\s/?#@:]*)(?::(?P<password>[^\s/?#@]*))?@)?"
    r"(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):(?P<port>[0-9]{1,5})/?"
)


Capability = Literal["", "chat", "embedding", "image", "audio", "other", "*"]


class AddedOperation(Section):
    """An operation that a provider has and its dialect's table has not. The table's own cannot be changed."""

    id: str = Field(pattern=r"^[A-Za-z0-9._-]{1,64}$", description="Its name, in logs.")
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = Field(default="POST", description="Its method.")
    path: str = Field(
        pattern=r"^(/([A-Za-z0-9_]|\{[a-z_]{1,32}\})([A-Za-z0-9._~:-]|\{[a-z_]{1,32}\})*)+$",
        description="As the provider has it, after base_url; {model} is a segment that names one, {any} any other.",
    )
    models: tuple[
        Annotated[str, Field(pattern=r"^((\*|[A-Za-z0-9_-]{1,64}(\[\]\??)?)\.)*[A-Za-z0-9_-]{1,64}!?$")], ...
    ] = Field(default=(), description="Where its JSON body names models: model! (required), tools[].model.")
    candidates: Capability = Field(
        default="", description="Which models could run without being named, by capability; * for all."
    )
    invokes: bool = Field(default=True, description="Whether a model runs in it at all.")

    @model_validator(mode="after")
    def _says_what_runs(self) -> Self:
        named = "{model}" in self.path or self.candidates or any(model.endswith("!") for model in self.models)
        if self.invokes and not named:
            raise ValueError("say what it invokes: models with !, {model} in its path, candidates, or invokes = false")
        if self.models and self.method in ("GET", "DELETE"):
            raise ValueError("models are looked for in a body, which GET and DELETE have not")
        return self


class Aws(Section):
    """AWS credentials with which requests are signed anew (Signature Version 4)."""

    region: str = Field(pattern=r"^[a-z0-9-]{1,32}$", description="As in the host's name.")
    service: str = Field(default="bedrock", pattern=r"^[a-z0-9-]{1,32}$", description="The name that is signed.")
    access_key_id: str | None = Field(default=None, description="The key's id.")
    access_key_id_env: str | None = Field(default=None, description="The environment variable that holds it.")
    secret_access_key: SecretStr | None = Field(default=None, description="The key.")
    secret_access_key_env: str | None = Field(default=None, description="The environment variable that holds it.")
    secret_access_key_file: Path | None = Field(default=None, description="The file that holds it.")
    session_token_env: str | None = Field(default=None, description="The variable with a temporary key's token.")

    def keys(self) -> tuple[str, str, str | None]:
        """The key's id, the key, and its session token if it is a temporary one.

        Raises:
            SettingsError: there is none.
        """
        plain = None if self.access_key_id is None else SecretStr(self.access_key_id)
        identity = _secret("access_key_id", plain, self.access_key_id_env, None)
        key = _secret(
            "secret_access_key", self.secret_access_key, self.secret_access_key_env, self.secret_access_key_file
        )
        if identity is None or key is None:
            raise SettingsError("aws: access_key_id and secret_access_key are both needed")
        return identity, key, _secret("session_token", None, self.session_token_env, None)


class Provider(Section):
    """A configured upstream speaking a dialect."""

    dialect: Literal[
        "openai", "openai-compatible", "anthropic", "gemini", "bedrock", "azure-openai", "vertex"
    ] = Field(description="How its API looks.")  # fmt: skip
    base_url: str = Field(pattern=r"^https?://[^\s/?#@]+(/[^\s?#]*)?$", description="Scheme, host, and a path if any.")
    host: str | None = Field(default=None, description="A Host header that means this provider, without a path prefix.")
    credentials: Literal["replace", "forward"] = Field(
        default="replace", description="replace the caller's key by the gateway's, or forward the caller's own."
    )
    api_key: SecretStr | None = Field(default=None, description="The gateway's key at this provider.")
    api_key_env: str | None = Field(default=None, description="The environment variable that holds it.")
    api_key_file: Path | None = Field(default=None, description="The file that holds it.")
    key_header: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9-]{1,64}$",
        description="The header that carries the gateway's key, bare, and may carry a caller's, beside the dialect's.",
    )
    aws: Aws | None = Field(default=None, description="Sign requests instead of sending a key (Bedrock).")
    operations: tuple[AddedOperation, ...] = Field(default=(), description="What the dialect's table does not list.")
    tls: ClientTls = ClientTls()
    proxy: Annotated[SecretStr, AfterValidator(_egress_url)] | None = Field(
        default=None,
        description="http://user:password@host:port of an HTTP proxy on the way out, asked to CONNECT. "
        "HTTPS_PROXY and the like are not looked at.",
    )
    proxy_env: str | None = Field(default=None, description="The environment variable that holds the proxy's URL.")
    proxy_file: Path | None = Field(default=None, description="The file that holds the proxy's URL.")

    @model_validator(mode="after")
    def _one_credential(self) -> Self:
        if self.aws is not None and (self.credentials == "forward" or self.dialect != "bedrock"):
            raise ValueError('aws: only for dialect = "bedrock" with credentials = "replace"')
        return self

    def key(self) -> str | None:
        """The gateway's key at this provider.

        Raises:
            SettingsError: it is to be read from a place that has none.
        """
        return _secret("api_key", self.api_key, self.api_key_env, self.api_key_file)

    def egress_proxy(self) -> EgressProxy | None:
        """The proxy on the way to this provider.

        Raises:
            SettingsError: it is to be read from a place that has none, or what is there is no proxy's URL.
        """
        url = _secret("proxy", self.proxy, self.proxy_env, self.proxy_file)
        if url is None:
            return None
        try:
            return EgressProxy.parse(url)
        except ValueError as error:
            raise SettingsError(f"proxy_env or proxy_file: what it holds {error}") from None


def _secret(name: str, plain: SecretStr | None, variable: str | None, file: Path | None) -> str | None:
    """A secret, from wherever it is kept."""
    if plain is not None:
        return plain.get_secret_value()
    if variable is not None:
        value = os.environ.get(variable)
        if not value:
            raise SettingsError(f"the environment variable {variable} is not set")
        return value
    if file is not None:
        try:
            value = file.read_text().strip()
        except OSError as error:
            raise SettingsError(f"{name}_file {file}: {error.strerror}") from None
        if not value:
            raise SettingsError(f"{name}_file {file}: it is empty")
        return value
    return None


class Signing(Section):
    """The control plane's key, and the public keys that are trusted. Changed files are taken up while running."""

    key_file: Path | None = Field(default=None, description="Private key (PEM); default: signing.key in state_dir.")
    key_env: str | None = Field(default=None, description="The environment variable that holds it instead of a file.")
    public_key_files: tuple[Path, ...] = Field(
        default=(), description="PEM, one key or several in each; default: signing.pub beside the private key."
    )
    public_keys_env: str | None = Field(default=None, description="The environment variable that holds them instead.")

    @model_validator(mode="after")
    def _workers_have_public_keys(self) -> Self:
        if self.key_env is not None and not (self.public_key_files or self.public_keys_env):
            raise ValueError("key_env: needs public_key_files or public_keys_env, for workers do not get the key")
        return self


class Drill(Section):
    """A canary model that goes off and on, end to end: so that the switch was used before it is needed.

    It needs a model that nobody else uses, at a provider of its own, whose streams last until they are cut (the
    simulator's do), and the gateway key of a caller who may use it.
    """

    model: str | None = Field(default=None, description="The canary's id in the catalog.")
    every: float = Field(default=0.0, ge=0, description="Seconds between drills, on one of all machines; 0: by hand.")
    key: SecretStr | None = Field(default=None, description="A gateway key that may use the canary.")
    key_env: str | None = Field(default=None, description="The environment variable that holds it.")
    key_file: Path | None = Field(default=None, description="The file that holds it.")
    url: str | None = Field(
        default=None, pattern=r"^https?://[^\s/?#@]+$", description="Where to ask instead of this machine's listener."
    )
    patience: Positive = Field(default=60.0, description="Seconds that each step may take.")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.every and self.model is None:
            raise ValueError("every: needs drill.model")
        return self

    def caller_key(self) -> str | None:
        """The key to ask with.

        Raises:
            SettingsError: it is to be read from a place that has none.
        """
        return _secret("key", self.key, self.key_env, self.key_file)


class Log(Section):
    """One JSON line per request, on standard output or in a file."""

    requests: bool = Field(default=True, description="Whether permitted requests are logged. Refusals always are.")
    file: Path | None = Field(default=None, description="Append there instead of standard output.")
    client_address: bool = Field(
        default=False, description="Whether a line says the client's IP address (client). It is personal data."
    )


class Tracing(Section):
    """Spans to an OpenTelemetry collector, by OTLP over HTTP. Needs the extra ``otel``."""

    endpoint: str | None = Field(
        default=None,
        pattern=r"^https?://[^\s?#@]+$",
        description="Where they are posted, as http://127.0.0.1:4318/v1/traces; its credentials come from "
        "OTEL_EXPORTER_OTLP_HEADERS.",
    )
    sample: float = Field(
        default=1.0, ge=0, le=1, description="Share of requests that get one, where their traceparent does not say."
    )


class Authz(Section):
    """The decision as a service, for a proxy that carries the traffic itself (Envoy, nginx)."""

    enabled: bool = Field(
        default=False, description="Whether questions are answered at /authz/ of proxy.listen; see docs/ext_authz.md."
    )


class Ledger(Section):
    """What was made through the gateway: responses, files, batches, assistants, and the models they are of."""

    keep_days: Annotated[float, Field(gt=0, le=3660)] = Field(
        default=30.0, description="How long it is remembered after its last use; deleted things are forgotten at once."
    )


class Audit(Section):
    """The chain of evidence: where it is mirrored, and who is told where it ends."""

    mirror: Path | None = Field(default=None, description="Its append-only files; default: audit in state_dir.")
    keep_entries: Count = Field(default=1_000_000, description="Entries kept in Redis; the mirror has all.")
    keep_days: float = Field(
        default=0.0, ge=0, description="Whole files of the mirror that are older are removed; 0: none ever is."
    )
    heads_file: Path | None = Field(default=None, description="Signed heads are appended there, too: another disk.")
    heads_url: str | None = Field(
        default=None,
        pattern=r"^https?://[^\s]+$",
        description="Signed heads are POSTed there: to somebody else.",
    )
    heads_authorization_env: str | None = Field(
        default=None, description="The environment variable with the Authorization header for it."
    )
    timestamp_url: str | None = Field(
        default=None, pattern=r"^https?://[^\s]+$", description="A timestamp authority (RFC 3161) that stamps heads."
    )
    timestamp_every: Positive = Field(default=3600.0, description="Seconds between two timestamps.")

    def heads_authorization(self) -> str | None:
        """What to authorize the delivery of heads with.

        Raises:
            SettingsError: the variable is not set.
        """
        return _secret("heads_authorization", None, self.heads_authorization_env, None)


class Decisions(Section):
    """Decision records: every refusal and some permits, apart from the request log. No body, key or nationality."""

    sample: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.0, description="The share of permits that is recorded; all refusals are."
    )
    dir: Path | None = Field(default=None, description="A file a day, decisions-YYYY-MM-DD.jsonl.")
    keep_days: float = Field(default=90.0, ge=0, description="Older files are removed; 0: none ever is.")
    url: str | None = Field(
        default=None, pattern=r"^https?://[^\s]+$", description="They are POSTed there as JSON lines, in batches."
    )
    authorization_env: str | None = Field(
        default=None, description="The environment variable with the Authorization header for it."
    )
    queue: Count = Field(default=10_000, description="Records of a worker that wait; more are lost, and counted.")

    def authorization(self) -> str | None:
        """What to authorize their delivery with.

        Raises:
            SettingsError: the variable is not set.
        """
        return _secret("authorization", None, self.authorization_env, None)


class Claims(Section):
    """Which claims of a token say what. A claim that is missing is an attribute that is not known."""

    subject: str = Field(default="sub", min_length=1, description="Who it is; must never be given to another.")
    nationalities: str = Field(default="nationalities", min_length=1, description="Also under verified_claims.")
    latest_nationality: str = Field(default="latest_nationality", min_length=1, description="As nationalities.")
    permanent_residence: str = Field(default="permanent_residence", min_length=1, description="Countries.")
    legal_status: str = Field(default="legal_status", min_length=1, description="As us-protected-individual.")
    org: str = Field(default="org", min_length=1, description="The organisation.")


Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"]
"""Signatures with a public key only: a shared secret would let every verifier sign."""


class Issuer(Section):
    """An OpenID Connect issuer whose tokens are callers' credentials."""

    issuer: str = Field(min_length=1, description="The claim iss, letter by letter.")
    audience: str = Field(min_length=1, description="What the claim aud must be, or hold.")
    jwks_url: Annotated[str, AfterValidator(_jwks_url)] = Field(description="Where its public keys are; https.")
    algorithms: tuple[Algorithm, ...] = Field(
        default=("RS256", "ES256", "EdDSA", "Ed25519"), min_length=1, description="How its tokens may be signed."
    )
    claims: Claims = Claims()
    leeway: float = Field(default=30.0, ge=0, le=300, description="Seconds by which its clock and ours may differ.")


class Settings(BaseSettings):
    """All settings of one ``portcullis serve``."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        nested_model_default_partial_update=True,
    )

    gateway: Name = Field(default="portcullis", description="This gateway's name, in receipts and in the policy.")
    state_dir: Path = Field(default=Path(".portcullis"), description="Signing key, embedded Redis, remembered policy.")
    pseudonym_key_file: Path | None = Field(
        default=None, description="32 random bytes, the same on every machine; default: pseudonym.key in state_dir."
    )
    proxy: Proxy = Proxy()
    admin: Admin = Admin()
    console: Console = Console()
    redis: Redis = Redis()
    signing: Signing = Signing()
    log: Log = Log()
    tracing: Tracing = Tracing()
    ledger: Ledger = Ledger()
    authz: Authz = Authz()
    drill: Drill = Drill()
    audit: Audit = Audit()
    decisions: Decisions = Decisions()
    providers: dict[Name, Provider] = Field(default_factory=dict)
    issuers: dict[Name, Issuer] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _hosts_are_unique(self) -> Self:
        hosts = [provider.host for provider in self.providers.values() if provider.host]
        if len(hosts) != len(set(hosts)):
            raise ValueError("providers: two of them have the same host")
        return self

    @model_validator(mode="after")
    def _questions_have_a_path(self) -> Self:
        if self.authz.enabled and "authz" in self.providers:
            raise ValueError("providers: none can be called authz where authz.enabled answers at /authz/")
        return self

    @model_validator(mode="after")
    def _issuers_are_unique(self) -> Self:
        if len({section.issuer for section in self.issuers.values()}) != len(self.issuers):
            raise ValueError("issuers: two of them have the same issuer")
        return self

    @property
    def signing_key(self) -> Path:
        """The file of the control plane's private key."""
        return self.signing.key_file or self.state_dir / "signing.key"

    @property
    def pseudonym_key(self) -> Path:
        """The file of the key that pseudonyms are made with; the same on every machine, or they differ."""
        return self.pseudonym_key_file or self.state_dir / "pseudonym.key"

    @property
    def mirror(self) -> Path:
        """The directory of the mirror of the evidence."""
        return self.audit.mirror or self.state_dir / "audit"

    @property
    def public_keys(self) -> tuple[Path, ...]:
        """The files of the public keys that workers trust."""
        return self.signing.public_key_files or (self.signing_key.with_suffix(".pub"),)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Explicit values, then the environment, then the file."""
        del dotenv_settings, file_secret_settings
        file = os.environ.get("PORTCULLIS_CONFIG")
        sources = [init_settings, env_settings]
        if file:
            sources.append(TomlConfigSettingsSource(settings_cls, toml_file=file))
        return tuple(sources)


def load(config: Path | None = None) -> Settings:
    """The settings: a file (``PORTCULLIS_CONFIG``, else ``config/portcullis.toml`` if there) and the environment.

    The file's path is left in ``PORTCULLIS_CONFIG``, so that worker processes read the same.

    Raises:
        SettingsError: something in them is unknown, wrong or missing.
    """
    chosen = config or Path(os.environ.get("PORTCULLIS_CONFIG") or "config/portcullis.toml")
    if chosen.exists():
        os.environ["PORTCULLIS_CONFIG"] = str(chosen.absolute())  # not resolved: /dev/fd/N leads to no path
    elif config is not None or "PORTCULLIS_CONFIG" in os.environ:
        raise SettingsError(f"there is no settings file {chosen}")
    _refuse_unknown_variables()
    try:
        return Settings()
    except ValidationError as error:
        raise SettingsError("\n".join(_explain(detail) for detail in error.errors(include_url=False))) from None
    except ValueError as error:
        raise SettingsError(f"{chosen}: {error}") from None


def _explain(detail: Any) -> str:
    """One mistake, without the value: it may be a secret."""
    place = ".".join(str(part) for part in detail["loc"]) or "settings"
    hint = "no such setting" if detail["type"] == "extra_forbidden" else detail["msg"]
    return f"{place}: {hint}"


def _refuse_unknown_variables() -> None:
    """Variables with our prefix that name no setting: pydantic-settings does not look for them."""
    for name in os.environ:
        if name.startswith(ENV_PREFIX) and name not in NOT_SETTINGS:
            first = name.removeprefix(ENV_PREFIX).split("__")[0].lower()
            if first not in Settings.model_fields:
                raise SettingsError(f"{name}: no such setting")
