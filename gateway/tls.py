"""TLS contexts made from files, and made anew when the files change.

A context serves the handshakes that begin while it is the current one; connections keep what they began with, so a
new certificate costs nobody a connection. A pair that cannot be used never replaces one that can.
"""

import asyncio
import ssl
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import structlog
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from gateway.observability.metrics import Counters
from gateway.settings import ClientTls, ServerTls, SettingsError

WATCH_SECONDS = 1.0
"""How often files are looked at. No inotify: it does not see a mounted secret's directory being swapped."""

_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
_ALPN = ["http/1.1"]
_log = structlog.get_logger("portcullis.tls")

Stamp = tuple[tuple[int, int, int] | None, ...]
"""Modification time, inode and size of each file; ``None`` for one that is not there."""


# ---------------------------------------------------------------------- contexts


def server_context(tls: ServerTls, place: str) -> ssl.SSLContext:
    """What a listener offers. ``place`` is its table in the settings, for messages.

    Raises:
        SettingsError: a file cannot be used; the message says which, why, and what to do.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _VERSIONS[tls.minimum]
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(_ALPN)
    _load_pair(context, tls.certificate, tls.key, place)
    if tls.client_ca is not None:
        _trust(context, tls.client_ca, f"{place}.client_ca")
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(tls: ClientTls, place: str) -> ssl.SSLContext:
    """How a provider is asked: its certificate and its name are always verified.

    Raises:
        SettingsError: a file cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies certificate and name, unless told not to
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(_ALPN)
    if tls.ca_file is None:
        context.load_default_certs()
    else:
        _trust(context, tls.ca_file, f"{place}.ca_file")
    if tls.certificate is not None and tls.key is not None:
        _load_pair(context, tls.certificate, tls.key, place)
    return context


def _load_pair(context: ssl.SSLContext, certificate: Path, key: Path, place: str) -> None:
    """Load a certificate and its key; OpenSSL's own messages would not say which file is meant."""
    chain = _certificates(certificate, f"{place}.certificate")
    private = _private_key(key, f"{place}.key")
    if private != chain[0].public_key():
        raise SettingsError(
            f"{place}: the key in {key} is not the one of the first certificate in {certificate}; "
            "put the certificate first, its intermediates after it"
        )
    try:
        context.load_cert_chain(certificate, key, password=lambda: "")  # never asks at a terminal
    except (OSError, ValueError) as error:
        raise SettingsError(f"{place}: {certificate} and {key} cannot be used: {error}") from None


def _certificates(file: Path, place: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(_read(file, place))
    except ValueError:
        raise SettingsError(f"{place} {file}: there is no certificate in PEM form in it") from None


def _private_key(file: Path, place: str) -> object:
    """The public half of a private key."""
    try:
        return serialization.load_pem_private_key(_read(file, place), None).public_key()
    except TypeError:
        raise SettingsError(f"{place} {file}: it has a passphrase; store it without one, readable by us only") from None
    except ValueError:
        raise SettingsError(f"{place} {file}: there is no private key in PEM form in it") from None


def _trust(context: ssl.SSLContext, file: Path, place: str) -> None:
    _certificates(file, place)
    context.load_verify_locations(file)


def _read(file: Path, place: str) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise SettingsError(f"{place} {file}: {error.strerror}; the gateway's user must be able to read it") from None


# ---------------------------------------------------------------------- following the files


class Watched:
    """A context that follows its files. ``context`` is the one for the next handshake."""

    def __init__(
        self, place: str, files: Iterable[Path | None], build: Callable[[], ssl.SSLContext], counters: Counters
    ) -> None:
        self._place = place
        self._files = tuple(file for file in files if file is not None)
        self._build = build
        self._counters = counters
        for result in ("loaded", "refused") if self._files else ():
            counters.born("portcullis_certificate_reloads_total", (place, result))
        self._stamp = self._look()
        self.context = build()

    def _look(self) -> Stamp:
        """The files' marks, taken before they are read: a change while they are read is seen the next time."""
        stamp = []
        for file in self._files:
            mark = None
            with suppress(OSError):
                found = file.stat()
                mark = (found.st_mtime_ns, found.st_ino, found.st_size)
            stamp.append(mark)
        return tuple(stamp)

    async def check(self) -> None:
        """Look at the files, off the loop; take what has changed if it can be used, else keep what there is."""
        if not self._files:
            return
        stamp = await asyncio.to_thread(self._look)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self.context = await asyncio.to_thread(self._build)
        except SettingsError as error:
            self._counters.add("portcullis_certificate_reloads_total", (self._place, "refused"))
            _log.error("certificate_kept", place=self._place, error=str(error))
        else:
            self._counters.add("portcullis_certificate_reloads_total", (self._place, "loaded"))
            _log.info("certificate_loaded", place=self._place)


def watched_server(tls: ServerTls, place: str, counters: Counters) -> Watched:
    """A listener's context.

    Raises:
        SettingsError: it cannot be used.
    """
    files = (tls.certificate, tls.key, tls.client_ca)
    return Watched(place, files, lambda: server_context(tls, place), counters)


def watched_client(tls: ClientTls, place: str, counters: Counters) -> Watched:
    """A provider's context.

    Raises:
        SettingsError: it cannot be used.
    """
    files = (tls.ca_file, tls.certificate, tls.key)
    return Watched(place, files, lambda: client_context(tls, place), counters)


async def keep_current(contexts: Iterable[Watched]) -> None:
    """Follow the files of all of them, for ever."""
    following = tuple(contexts)
    while True:
        await asyncio.sleep(WATCH_SECONDS)
        for watched in following:
            await watched.check()


def following(watched: Watched) -> ssl.SSLContext:
    """One context for a server that knows only one: each handshake on it is done with the current one."""
    outer = watched.context

    def switch(handshake: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        del name, context
        handshake.context = watched.context

    outer.sni_callback = switch
    return outer


def warn_of_readable_key(place: str, key: Path | None) -> None:
    """Say that a private key can be read by others on this machine; a mounted secret may have to be so."""
    if key is not None and key.stat().st_mode & stat.S_IROTH:
        _log.warning("key_readable_by_others", place=place, file=str(key), do="chmod o-r")
