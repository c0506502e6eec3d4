"""Tokens of OpenID Connect issuers as credentials: who has one is a caller.

A token is verified once and then known by its fingerprint, until it expires or the key that signed it is withdrawn.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from time import time

from gateway.identity import jwks
from gateway.identity.claims import ClaimNames, check_audience, expiry, facts, scoped_id, subject
from gateway.identity.jose import KEY_OF, PublicKey, TokenError, Unverified, read
from gateway.identity.jwks import IssuerKeys
from gateway.identity.keys import fingerprint
from gateway.identity.pseudonyms import Pseudonyms
from gateway.policy.caller import Caller


@dataclass(frozen=True, slots=True)
class Issuer:
    """Whose tokens are believed, and how they are read. ``leeway`` is in seconds."""

    name: str
    issuer: str
    audience: str
    jwks_url: str
    algorithms: tuple[str, ...] = ("RS256", "ES256", "EdDSA", "Ed25519")
    claims: ClaimNames = field(default_factory=ClaimNames)
    leeway: float = 30.0


class UnknownKeyError(TokenError):
    """The token names a key that its issuer is not known to have; it may be new."""

    def __init__(self, keys: IssuerKeys) -> None:
        super().__init__("The token is signed with a key that its issuer is not known to have.")
        self.keys = keys


@dataclass(frozen=True, slots=True)
class _Verified:
    caller: Caller
    until: float
    keys: IssuerKeys
    kid: str
    key: PublicKey


class Tokens:
    """Callers by their tokens. ``size`` bounds how many are remembered."""

    def __init__(
        self,
        issuers: Iterable[Issuer],
        pseudonyms: Pseudonyms,
        *,
        get: jwks.Fetch = jwks.fetch,
        clock: Callable[[], float] = time,
        size: int = 100_000,
    ) -> None:
        self._issuers = {one.issuer: (one, IssuerKeys(one.name, one.jwks_url, get)) for one in issuers}
        self._pseudonyms = pseudonyms
        self._clock = clock
        self._size = size
        self._verified: OrderedDict[str, _Verified] = OrderedDict()

    def __len__(self) -> int:
        return len(self._verified)

    def start(self) -> None:
        """Begin to fetch the issuers' keys."""
        for _, keys in self._issuers.values():
            keys.start()

    async def close(self) -> None:
        """Fetch no more keys."""
        for _, keys in self._issuers.values():
            await keys.close()

    def cached(self, mark: str) -> Caller | None:
        """The caller of a token that was verified before, by its fingerprint, while the token is still good."""
        known = self._verified.get(mark)
        if known is None:
            return None
        if known.until <= self._clock() or known.keys.get(known.kid, known.key.type) != known.key:
            del self._verified[mark]
            return None
        self._verified.move_to_end(mark)
        return known.caller

    async def look_up(self, token: str) -> Caller:
        """The caller that a token names. If its key is not known, the issuer is asked once, within limits.

        Raises:
            TokenError: it is not good.
        """
        try:
            return self.verify(token)
        except UnknownKeyError as unknown:
            await unknown.keys.look_again()
            return self.verify(token)

    def verify(self, token: str) -> Caller:
        """The caller that a token names, by the keys that are known.

        Raises:
            TokenError: it is not good.
            UnknownKeyError: or its key is not known.
        """
        said = read(token)
        issuer, keys = self._issuer(said)
        if said.alg not in issuer.algorithms:
            raise TokenError("The token's algorithm is not allowed.")
        key = keys.get(said.kid, KEY_OF[said.alg][0])
        if key is None:
            raise UnknownKeyError(keys)
        said.verify(key)
        verified = _Verified(*self._caller(said, issuer), keys, said.kid, key)
        self._verified[fingerprint(token)] = verified
        if len(self._verified) > self._size:
            self._verified.popitem(last=False)
        return verified.caller

    def _issuer(self, said: Unverified) -> tuple[Issuer, IssuerKeys]:
        name = said.claims.get("iss")
        found = self._issuers.get(name) if isinstance(name, str) else None
        if found is None:
            raise TokenError("The token's issuer is not known here.")
        return found

    def _caller(self, said: Unverified, issuer: Issuer) -> tuple[Caller, float]:
        """The caller, and until when, from claims that are verified."""
        check_audience(said.claims, issuer.audience)
        until = expiry(said.claims, self._clock(), issuer.leeway)
        caller_id = scoped_id("oidc", issuer.name, subject(said.claims, issuer.claims.subject))
        known = facts(said.claims, issuer.claims)
        return Caller(caller_id, known, self._pseudonyms.of(caller_id), until), until
