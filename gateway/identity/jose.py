"""Signed tokens (JWS compact, RFC 7515): read strictly, and verified with the one key that they name.

The rules are those of RFC 8725: the algorithm is one that the reader allows, never one that the token chooses;
a key verifies what its type is for and nothing else; a token brings neither its key nor the place to fetch it.
"""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
from joserfc import jwk, jws
from joserfc.errors import JoseError

from gateway.identity.keys import MAX_CREDENTIAL

_LOOKS = re.compile(r"eyJ[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*")
_BRINGS_ITS_KEY = ("jku", "jwk", "x5u", "crit", "b64")
"""Headers that say where the key is, or change what the others mean (RFC 7515 §4.1, RFC 7797)."""

KEY_OF: Mapping[str, tuple[str, str | None]] = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), ("RSA", None)),
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "ES512": ("EC", "P-521"),
    "EdDSA": ("OKP", "Ed25519"),
    "Ed25519": ("OKP", "Ed25519"),
}
"""The key type and curve that each algorithm is for. What is not here is never allowed: none, HS256, JWE's."""

_PUBLIC_PARTS = {"RSA": ("n", "e"), "EC": ("crv", "x", "y"), "OKP": ("crv", "x")}
MIN_RSA_BITS = 2048
"""NIST SP 800-131A."""


class TokenError(Exception):
    """A token is refused. The message is for who sent it: it names what is wrong and quotes nothing."""


class _Registry(jws.JWSRegistry):
    """The algorithms of ``KEY_OF``; ``EdDSA`` means Ed25519 here, as RFC 9864 has it."""

    max_header_length = 2048

    def get_alg(self, name: str) -> Any:
        return super().get_alg("Ed25519" if name == "EdDSA" else name)


_REGISTRY = _Registry(algorithms=[*KEY_OF], strict_check_header=False)


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key that verifies signatures. ``alg`` is the only algorithm it is for, where it says one."""

    type: str
    curve: str | None
    alg: str | None
    thumbprint: str
    material: Any = field(compare=False, repr=False)

    def fits(self, alg: str) -> bool:
        """Whether this key may verify signatures of an algorithm."""
        declared = self.alg is None or self.alg == alg or {self.alg, alg} == {"EdDSA", "Ed25519"}
        return KEY_OF.get(alg) == (self.type, self.curve) and declared


@dataclass(frozen=True, slots=True)
class Unverified:
    """What a token says of itself. Good for finding the key; nothing else of it may be believed."""

    token: str
    alg: str
    kid: str
    type: str | None
    claims: Mapping[str, Any]

    def verify(self, key: PublicKey) -> None:
        """Check the signature; from then on ``claims`` are what the key's owner says.

        Raises:
            TokenError: the key is not for this algorithm, or has not signed this.
        """
        if not key.fits(self.alg):
            raise TokenError("The token's algorithm is not the one of its key.")
        try:
            jws.deserialize_compact(self.token, key.material, registry=_REGISTRY)
        except (JoseError, ValueError):
            raise TokenError("The token's signature is not valid.") from None


def looks_like_token(credential: str) -> bool:
    """Whether a credential is written like a signed token; no gateway key is."""
    return credential.startswith("eyJ") and _LOOKS.fullmatch(credential) is not None


def read(token: str) -> Unverified:
    """What a token says of itself.

    Raises:
        TokenError: it is too long, is not a signed token, or brings its own key.
    """
    if len(token) > MAX_CREDENTIAL:
        raise TokenError("The token is too long.")
    if not looks_like_token(token):
        raise TokenError("This is not a signed token.")
    head, claims, _ = token.split(".")
    header = _decode(head)
    if any(name in header for name in _BRINGS_ITS_KEY):
        raise TokenError("The token's header says more than which key signed it.")
    alg, kid, kind = header.get("alg"), header.get("kid"), header.get("typ")
    if not isinstance(alg, str) or alg not in KEY_OF:
        raise TokenError("The token's algorithm is not allowed.")
    if not isinstance(kid, str) or not kid:
        raise TokenError("The token does not say which key signed it (kid).")
    if kind is not None and not isinstance(kind, str):
        raise TokenError("The token's type is not a text.")
    return Unverified(token, alg, kid, kind, _decode(claims))


def _decode(segment: str) -> dict[str, Any]:
    try:
        value = orjson.loads(_bytes(segment))
    except ValueError:
        raise TokenError("The token is not readable.") from None
    if not isinstance(value, dict):
        raise TokenError("The token is not readable.")
    return value


def _bytes(segment: str) -> bytes:
    return base64.b64decode(segment + "=" * (-len(segment) % 4), altchars=b"-_", validate=True)


def public_key(key: Mapping[str, Any]) -> PublicKey | None:
    """A key from its JWK (RFC 7517), whatever private part it may have left aside.

    ``None`` where it is of no use here: for encryption, of another type or curve, too short, or damaged.
    """
    kind, alg = key.get("kty"), key.get("alg")
    names = _PUBLIC_PARTS.get(kind) if isinstance(kind, str) else None
    parts = {name: value for name in names or () if isinstance(value := key.get(name), str)}
    if names is None or len(parts) < len(names) or not isinstance(alg, str | None) or not _verifies(key):
        return None
    if (kind, parts.get("crv")) not in KEY_OF.values():
        return None
    try:
        if kind == "RSA" and int.from_bytes(_bytes(parts["n"]), "big").bit_length() < MIN_RSA_BITS:
            return None
        material = jwk.import_key({"kty": str(kind), **parts})
        thumbprint = material.thumbprint()
    except (JoseError, ValueError):
        return None
    return PublicKey(str(kind), parts.get("crv"), alg, thumbprint, material)


def _verifies(key: Mapping[str, Any]) -> bool:
    operations = key.get("key_ops")
    return key.get("use") in (None, "sig") and (
        operations is None or (isinstance(operations, list) and "verify" in operations)
    )
