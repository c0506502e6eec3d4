"""Where the signing key and the trusted public keys are, and how they are rotated while everything serves.

Trust first, sign later: a new key's public half is trusted everywhere before anything is signed with it, and the old
one's for as long as something stands that it has signed. Whoever uses keys follows their files; what cannot be used is
logged, and the keys that there are stay.
"""

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from gateway.enforcement.signing import (
    Signer,
    Verifier,
    create_key,
    key_id,
    load_signer,
    private_key,
    public_keys,
    public_pem,
)
from gateway.settings import Settings, SettingsError

WATCH_SECONDS = 1.0
TRUSTED_AFTER_SECONDS = 3.0
"""How long whoever follows a file of public keys may take to do so."""

_log = structlog.get_logger("portcullis.keys")


def has_signer(settings: Settings) -> bool:
    """Whether this machine has the signing key."""
    return settings.signing.key_env is not None or settings.signing_key.exists()


def read_signer(settings: Settings) -> Signer:
    """The signing key, and what is trusted beside it.

    Raises:
        SettingsError: it cannot be used, or workers would not trust it.
    """
    try:
        key = private_key(*_private(settings))
        others = _public(settings)
    except (OSError, ValueError) as error:
        raise SettingsError(f"signing: {error}") from None
    if key_id(key.public_key()) not in {key_id(other) for other in others}:
        raise SettingsError("signing: the public keys lack the signing key's own, so that no worker would trust it")
    return Signer(key, *others)


def read_verifier(settings: Settings) -> Verifier:
    """The public keys that are trusted.

    Raises:
        SettingsError: they cannot be used.
    """
    try:
        return Verifier(*_public(settings))
    except (OSError, ValueError) as error:
        raise SettingsError(f"signing: {error}") from None


def _private(settings: Settings) -> tuple[bytes, str]:
    variable = settings.signing.key_env
    if variable is None:
        return settings.signing_key.read_bytes(), str(settings.signing_key)
    return _from_environment(variable), variable


def _public(settings: Settings) -> list[Ed25519PublicKey]:
    variable = settings.signing.public_keys_env
    if variable is not None:
        return public_keys(_from_environment(variable), variable)
    return [key for path in settings.public_keys for key in public_keys(path.read_bytes(), path)]


def _from_environment(variable: str) -> bytes:
    value = os.environ.get(variable)
    if not value:
        raise ValueError(f"the environment variable {variable} is not set")
    return value.replace("\\n", "\n").encode()


class Following:
    """Keeps a verifier, or a signer, as its files say."""

    def __init__(self, kept: Verifier, read: Callable[[], Verifier], files: tuple[Path, ...]) -> None:
        self._kept = kept
        self._read = read
        self._files = files
        self._stamp = self._look()
        self.on_change: Callable[[], None] = lambda: None

    @classmethod
    def of(cls, kept: Verifier, settings: Settings) -> "Following":
        """The one for a process: with the private key where that one signs."""
        if isinstance(kept, Signer):
            return cls(kept, lambda: read_signer(settings), (settings.signing_key, *settings.public_keys))
        return cls(kept, lambda: read_verifier(settings), settings.public_keys)

    def _look(self) -> tuple[object, ...]:
        return tuple(_mark(path) for path in self._files)

    async def run(self) -> None:
        """Look every second."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            await self.check()

    async def check(self) -> None:
        """Take what has changed, if it can be used."""
        stamp = await asyncio.to_thread(self._look)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            found = await asyncio.to_thread(self._read)
        except SettingsError as error:
            _log.error("keys_kept", error=str(error))
            return
        self._kept.take(found)
        self.on_change()
        _log.info("keys_loaded", trusted=self._kept.trusted, signing=getattr(self._kept, "kid", None))


def _mark(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size


# ------------------------------------------------------------------------------------------------ rotation


class RotationError(Exception):
    """A step of a rotation is not possible. The message says why."""


def _files(settings: Settings) -> tuple[Path, Path, Path]:
    """The private key, the next one, the public ones: where they are files of this machine.

    Raises:
        RotationError: they are not.
    """
    if settings.signing.key_env is not None or settings.signing.public_keys_env is not None:
        raise RotationError("keys that come by the environment are rotated there (docs/enforcement.md)")
    if len(settings.public_keys) != 1:
        raise RotationError("public keys in several files are rotated there (docs/enforcement.md)")
    key = settings.signing_key
    return key, key.with_suffix(".next.key"), settings.public_keys[0]


def prepare(settings: Settings) -> tuple[str, Path]:
    """Make the next key, and trust it; its id, and the file of public keys that other machines need.

    Raises:
        RotationError: not here, or there is a next one already.
    """
    _, following, public = _files(settings)
    try:
        signer = create_key(following)
    except FileExistsError:
        raise RotationError(f"there is a next key already, {following}: activate it, or remove it") from None
    own = following.with_suffix(".pub")
    _replace(public, public.read_bytes().rstrip() + b"\n" + own.read_bytes())
    own.unlink()
    return signer.kid, public


def activate(settings: Settings) -> tuple[str, str]:
    """Sign with the next key from here on; the ids of the old one and the new. The old private key is gone then.

    Raises:
        RotationError: there is none, or it is not trusted, or not for long enough.
    """
    key, following, public = _files(settings)
    if not following.exists():
        raise RotationError("there is no next key: portcullis signing prepare")
    old, new = load_signer(key).kid, load_signer(following).kid
    if new not in {key_id(each) for each in public_keys(public.read_bytes(), public)}:
        raise RotationError(f"{public} does not have the next key {new}: workers would not trust it")
    time.sleep(max(0.0, public.stat().st_mtime + TRUSTED_AFTER_SECONDS - time.time()))
    following.replace(key)
    return old, new


def distrust(settings: Settings, kid: str) -> None:
    """Trust a public key no longer.

    Raises:
        RotationError: it is the one that signs, or none of ours.
    """
    key, _, public = _files(settings)
    if load_signer(key).kid == kid:
        raise RotationError(f"{kid} signs; activate another one first")
    known = {key_id(each): each for each in public_keys(public.read_bytes(), public)}
    if kid not in known:
        raise RotationError(f"{public} has no key {kid}; it has {', '.join(known)}")
    _replace(public, b"".join(public_pem(each) for name, each in known.items() if name != kid))


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
