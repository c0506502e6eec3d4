"""This machine: keys, state directory, TLS, addresses, descriptors. Reads files and limits; changes nothing."""

import os
import resource
import ssl
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from gateway.doctor.findings import Finding, fail, ok, warn
from gateway.enforcement.keyring import has_signer, read_signer, read_verifier
from gateway.enforcement.signing import ForgedError
from gateway.settings import ServerTls, Settings, SettingsError
from gateway.tls import server_context

SOON_DAYS = 14
LOOPBACK = ("127.", "localhost:", "[::1]:")
SOMAXCONN = Path("/proc/sys/net/core/somaxconn")
BACKLOG = 4096
"""What workers ask of the kernel for connections that wait to be accepted; it gives no more than somaxconn."""


def machine(settings: Settings, now: datetime | None = None) -> Iterator[Finding]:
    """All looks at this machine."""
    yield from state_directory(settings)
    yield from signing_key(settings)
    yield from listeners(settings, now or datetime.now(UTC))
    yield from descriptors(settings)


def mode_of(file: Path) -> int:
    """Permission bits of what a path leads to.

    Raises:
        OSError: there is nothing.
    """
    return stat.S_IMODE(file.stat().st_mode)


def readable_by_others(what: str, file: Path) -> Iterator[Finding]:
    """A file with a secret in it."""
    try:
        mode = mode_of(file)
    except OSError as error:
        yield fail(what, f"{file}: {error.strerror}", "mount it, or correct the setting")
        return
    if not os.access(file, os.R_OK):
        yield fail(what, f"{file} is not readable by uid {os.getuid()}", "give it to the gateway's user or group")
    elif mode & stat.S_IROTH:
        yield warn(what, f"{file} is readable by everybody here (mode {mode:04o})", f"chmod o= {file}")
    else:
        yield ok(what, f"{file}, mode {mode:04o}")


# ---------------------------------------------------------------------- state, keys


def state_directory(settings: Settings) -> Iterator[Finding]:
    """Where the remembered policy and the keys are."""
    directory = settings.state_dir
    if not directory.is_dir():
        yield fail("state_dir", f"{directory} is not there", "run portcullis init, or mount it")
        return
    if not os.access(directory, os.W_OK):
        yield fail("state_dir", f"{directory} is not writable by uid {os.getuid()}", "what workers remember goes there")
    elif mode_of(directory) & (stat.S_IRWXG | stat.S_IRWXO):
        yield warn(
            "state_dir", f"{directory} is open to others (mode {mode_of(directory):04o})", f"chmod 700 {directory}"
        )
    else:
        yield ok("state_dir", str(directory))
    if not settings.pseudonym_key.exists():
        do = "copy it from the first machine, or it is made anew, and pseudonyms and the ledger differ between machines"
        yield warn("pseudonym.key", f"{settings.pseudonym_key} is not there", do)


def signing_key(settings: Settings) -> Iterator[Finding]:
    """The key that signs, and those that workers trust."""
    if not has_signer(settings):
        do = "portcullis init on the first machine; on another one copy its signing.key and signing.pub"
        yield fail("signing", f"there is no {settings.signing_key}", do)
        return
    try:
        signer, verifier = read_signer(settings), read_verifier(settings)
    except (SettingsError, ForgedError, OSError, ValueError) as error:
        yield fail("signing", str(error), "copy the key and its public half anew from a machine that works")
        return
    if settings.signing.key_env is None:
        yield from readable_by_others("signing.key", settings.signing_key)
    if signer.kid not in verifier.trusted:
        yield fail(
            "signing", f"{signer.kid} signs, and workers do not trust it", "copy its public half to every machine"
        )
    else:
        yield ok("signing", f"{signer.kid} signs; {len(verifier.trusted)} trusted")


# ---------------------------------------------------------------------- listeners


def listeners(settings: Settings, now: datetime) -> Iterator[Finding]:
    """Where clients and operators come in, and by what certificates."""
    sides = (
        (
            "proxy",
            settings.proxy.listen,
            settings.proxy.tls,
            "keys of callers pass in clear, unless TLS ends before it",
        ),
        ("admin", settings.admin.listen, settings.admin.tls, "operators' tokens pass in clear: admin.tls, or loopback"),
    )
    for name, listen, tls, risk in sides:
        if tls is not None:
            yield from _certificate(f"{name}.tls", tls, now)
        elif not listen.startswith(LOOPBACK):
            yield warn(f"{name}.listen", f"{listen}, without TLS", risk)
        else:
            yield ok(f"{name}.listen", listen)


def _certificate(what: str, tls: ServerTls, now: datetime) -> Iterator[Finding]:
    try:
        server_context(tls, what)
        chain = x509.load_pem_x509_certificates(tls.certificate.read_bytes())
    except (SettingsError, OSError, ssl.SSLError, ValueError) as error:
        yield fail(what, str(error), "the gateway does not start so")
        return
    yield from readable_by_others(f"{what}.key", tls.key)
    ends = min(one.not_valid_after_utc for one in chain)
    days = (ends - now).days
    until = f"valid until {ends:%Y-%m-%d}"
    if ends <= now:
        yield fail(what, f"expired on {ends:%Y-%m-%d}", "renew it; a changed file is taken up within a second or two")
    elif days < SOON_DAYS:
        yield warn(what, f"{until}, {days} days", "renew it; a changed file is taken up within a second or two")
    else:
        yield ok(what, until)


# ---------------------------------------------------------------------- limits


def descriptors(settings: Settings) -> Iterator[Finding]:
    """How many connections a worker may have: one descriptor to the client, one to the provider."""
    wanted = 2 * settings.proxy.limits.connections + 256
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        do = f"LimitNOFILE={wanted} (systemd), ulimits.nofile (compose), or a lower proxy.limits.connections"
        yield warn("descriptors", f"{hard} for each worker, {wanted} wanted", do)
    else:
        yield ok("descriptors", f"{'no limit' if hard == resource.RLIM_INFINITY else hard} for each worker")
    if SOMAXCONN.exists() and int(SOMAXCONN.read_text()) < BACKLOG:
        found = SOMAXCONN.read_text().strip()
        yield warn("somaxconn", found, f"sysctl net.core.somaxconn={BACKLOG}: bursts of connections wait there")
