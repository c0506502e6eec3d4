"""Signatures of the control plane: Ed25519 over a purpose, a name and the bytes.

Replicas verify documents, revisions and callers against public keys they were started with, so that whoever can
write to Redis cannot lift anything. Purpose and name are signed along: a record moved elsewhere does not verify.
"""

import base64
import hmac
import os
import re
from hashlib import sha256
from pathlib import Path

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from gateway.enforcement.vouching import Voucher


class ForgedError(Exception):
    """A signature is missing, made by an unknown key, or does not fit."""


def _message(purpose: str, name: str, body: bytes) -> bytes:
    return b"portcullis\0" + purpose.encode() + b"\0" + name.encode() + b"\0" + body


class Verifier:
    """Public keys by their ids (the first 16 hex digits of the key's SHA-256)."""

    def __init__(self, *public_keys: Ed25519PublicKey) -> None:
        self._keys = {key_id(key): key for key in public_keys}

    @property
    def trusted(self) -> tuple[str, ...]:
        """The ids of the keys."""
        return tuple(sorted(self._keys))

    def pems(self) -> dict[str, bytes]:
        """The keys as they stand in files, by their ids."""
        return {kid: public_pem(key) for kid, key in self._keys.items()}

    def take(self, other: "Verifier") -> None:
        """Trust what another one trusts, and nothing else: keys were rotated."""
        self._keys = dict(other._keys)  # noqa: SLF001 - of the same class

    def verify(self, purpose: str, name: str, body: bytes, kid: str, signature: str) -> None:
        """Check a signature.

        Raises:
            ForgedError: it is not one of ours.
        """
        key = self._keys.get(kid)
        if key is None:
            raise ForgedError(f"{purpose} {name}: signed by an unknown key {kid!r}")
        try:
            key.verify(base64.b64decode(signature, validate=True), _message(purpose, name, body))
        except (InvalidSignature, ValueError):
            raise ForgedError(f"{purpose} {name}: the signature does not fit") from None

    def unseal(self, purpose: str, name: str, sealed: bytes) -> bytes:
        """The body of a sealed record: one line of JSON with key id and signature, then the body.

        Raises:
            ForgedError: it is not one of ours.
        """
        head, _, body = sealed.partition(b"\n")
        try:
            seal = orjson.loads(head)
            kid, signature = str(seal["kid"]), str(seal["sig"])
        except (orjson.JSONDecodeError, KeyError, TypeError):
            raise ForgedError(f"{purpose} {name}: not sealed") from None
        self.verify(purpose, name, body, kid, signature)
        return body


class Signer(Verifier):
    """The control plane's private key; ``others`` are trusted beside it, for what they have signed."""

    def __init__(self, private_key: Ed25519PrivateKey, *others: Ed25519PublicKey) -> None:
        super().__init__(private_key.public_key(), *others)
        self._private_key = private_key
        self.kid = key_id(private_key.public_key())
        self.voucher = Voucher(_vouching_key(private_key))

    def take(self, other: Verifier) -> None:
        """Sign as another one signs, and trust what it trusts."""
        super().take(other)
        if isinstance(other, Signer):
            self._private_key, self.kid = other._private_key, other.kid  # noqa: SLF001 - of the same class
            self.voucher.turn(other.voucher.key)

    def sign(self, purpose: str, name: str, body: bytes) -> str:
        """The signature, base64."""
        return base64.b64encode(self._private_key.sign(_message(purpose, name, body))).decode()

    def seal(self, purpose: str, name: str, body: bytes) -> bytes:
        """A record that ``unseal`` accepts."""
        return orjson.dumps({"kid": self.kid, "sig": self.sign(purpose, name, body)}) + b"\n" + body


def _vouching_key(key: Ed25519PrivateKey) -> bytes:
    """The key that replicas vouch for themselves with: whoever has the signing key has it, and nobody else."""
    return hmac.new(key.private_bytes_raw(), b"portcullis vouching", sha256).digest()


def key_id(key: Ed25519PublicKey) -> str:
    """A public key's short name."""
    return sha256(key.public_bytes_raw()).hexdigest()[:16]


def create_key(path: Path) -> Signer:
    """A new private key in a new file that only its owner can read, and its public one beside it (``.pub``).

    Raises:
        FileExistsError: there is one already; it is never overwritten.
    """
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(pem)
    path.with_suffix(".pub").write_bytes(public_pem(key.public_key()))
    return Signer(key)


def public_pem(key: Ed25519PublicKey) -> bytes:
    """A public key as it stands in a file."""
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def private_key(pem: bytes, place: object) -> Ed25519PrivateKey:
    """The private key in a PEM text; ``place`` is where it is from.

    Raises:
        ValueError: it is no Ed25519 key.
    """
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{place}: no private key without a passphrase in PEM ({type(error).__name__})") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError(f"{place}: an Ed25519 private key is needed")  # noqa: TRY004 - a file's content
    return key


def public_keys(pem: bytes, place: object) -> list[Ed25519PublicKey]:
    """The public keys in a PEM text, one or several.

    Raises:
        ValueError: there is none, or one is no Ed25519 key.
    """
    blocks = _PUBLIC_BLOCK.findall(pem)
    if not blocks:
        raise ValueError(f"{place}: no public key in PEM")
    keys = [serialization.load_pem_public_key(block) for block in blocks]
    for key in keys:
        if not isinstance(key, Ed25519PublicKey):
            raise ValueError(f"{place}: an Ed25519 public key is needed")  # noqa: TRY004 - a file's content
    return [key for key in keys if isinstance(key, Ed25519PublicKey)]


_PUBLIC_BLOCK = re.compile(rb"-----BEGIN PUBLIC KEY-----.+?-----END PUBLIC KEY-----", re.DOTALL)


def load_signer(path: Path) -> Signer:
    """The private key in a PEM file.

    Raises:
        ValueError: it is no Ed25519 key.
    """
    return Signer(private_key(path.read_bytes(), path))


def load_verifier(*paths: Path) -> Verifier:
    """The public keys in PEM files.

    Raises:
        ValueError: one is no Ed25519 key.
    """
    return Verifier(*(key for path in paths for key in public_keys(path.read_bytes(), path)))
