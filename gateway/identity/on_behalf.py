"""``Portcullis-On-Behalf-Of``: for which of its users a service asks.

The header is a token signed with a key that the service's organisation has registered in the policy. It is bound to
this gateway (``aud``), to the organisation (``iss``), to the caller that sends it (``azp``), and to an hour.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from time import time

from gateway.identity.claims import ClaimNames, check_audience, expiry, facts, moment, scoped_id, subject
from gateway.identity.jose import PublicKey, TokenError, Unverified, public_key, read
from gateway.identity.keys import fingerprint
from gateway.identity.pseudonyms import Pseudonyms
from gateway.policy.caller import Caller, Kind
from gateway.policy.document import Org

MAX_LIFE = 3600.0
"""Seconds from ``iat`` to ``exp``: what is known about a user is said anew each hour."""

LEEWAY = 30.0
"""Seconds by which the service's clock and ours may differ."""

TYPES = (None, "jwt", "portcullis-obo+jwt")
_CLAIMS = ClaimNames()
_REMEMBERED = 10_000

Orgs = Mapping[str, Org]


@dataclass(frozen=True, slots=True)
class EndUser:
    """For whom a service asks, and by which of its organisation's keys that is known."""

    caller: Caller
    org: str
    kid: str
    key: Mapping[str, str]

    def stands(self, asker: Caller, orgs: Orgs) -> bool:
        """Whether the organisation is still the asker's, and the key still the organisation's."""
        org = orgs.get(self.org)
        return _speaks_for(asker) == self.org and org is not None and org.keys.get(self.kid) == self.key

    def at(self, now: float) -> "EndUser":
        """The end user as known at a time."""
        caller = self.caller.at(now)
        return self if caller is self.caller else replace(self, caller=caller)


class OnBehalf:
    """Reads the header. ``gateway`` is the audience; ``size`` bounds how many tokens are remembered."""

    def __init__(
        self,
        gateway: str,
        pseudonyms: Pseudonyms,
        *,
        clock: Callable[[], float] = time,
        size: int = _REMEMBERED,
    ) -> None:
        self._gateway = gateway
        self._pseudonyms = pseudonyms
        self._clock = clock
        self._size = size
        self._verified: OrderedDict[tuple[str, str], EndUser] = OrderedDict()

    def end_user(self, header: bytes, asker: Caller, orgs: Orgs) -> EndUser:
        """For whom this caller asks.

        Raises:
            TokenError: it may not ask for others, or the token is not good.
        """
        token = header.decode("ascii", "replace")
        mark = fingerprint(token), asker.id
        known = self._verified.get(mark)
        if known is not None and known.stands(asker, orgs) and self._lasts(known.caller):
            self._verified.move_to_end(mark)
            return known
        self._verified.pop(mark, None)
        end_user = self._verified[mark] = self._verify(token, asker, orgs)
        if len(self._verified) > self._size:
            self._verified.popitem(last=False)
        return end_user

    def _lasts(self, caller: Caller) -> bool:
        return caller.expires is not None and self._clock() < caller.expires

    def _verify(self, token: str, asker: Caller, orgs: Orgs) -> EndUser:
        org_id = _speaks_for(asker)
        if org_id is None:
            raise TokenError("Only a service of an organisation may ask on behalf of somebody.")
        said = read(token)
        if said.type is not None and said.type.lower() not in TYPES:
            raise TokenError("The token is of a type for other uses.")
        key = orgs[org_id].keys.get(said.kid) if org_id in orgs else None
        parsed = _parsed(frozenset(key.items())) if key is not None else None
        if key is None or parsed is None:
            raise TokenError("The token is signed with a key that this organisation has not registered.")
        said.verify(parsed)
        self._check_binding(said, org_id, asker)
        return EndUser(self._caller(said, org_id), org_id, said.kid, key)

    def _check_binding(self, said: Unverified, org_id: str, asker: Caller) -> None:
        claims = said.claims
        if claims.get("iss") != org_id:
            raise TokenError("The token's issuer is not this organisation.")
        check_audience(claims, self._gateway)
        bound = [claims[name] for name in ("azp", "client") if name in claims]
        if not bound or any(client != asker.id for client in bound):
            raise TokenError("The token is for another caller (azp).")
        begin, end = moment(claims, "iat"), moment(claims, "exp")
        if begin is None:
            raise TokenError("The token does not say when it was issued (iat).")
        if end is not None and end - begin > MAX_LIFE:
            raise TokenError(f"The token lives longer than {MAX_LIFE:.0f} seconds.")

    def _caller(self, said: Unverified, org_id: str) -> Caller:
        until = expiry(said.claims, self._clock(), LEEWAY)
        caller_id = scoped_id("obo", org_id, subject(said.claims, _CLAIMS.subject))
        known = facts(said.claims, _CLAIMS, org_id)
        return Caller(caller_id, known, self._pseudonyms.of(caller_id), until)


def _speaks_for(asker: Caller) -> str | None:
    """The organisation for whose users a caller may ask."""
    return asker.facts.org if asker.facts.kind is Kind.SERVICE else None


@lru_cache(maxsize=1024)
def _parsed(key: frozenset[tuple[str, str]]) -> PublicKey | None:
    return public_key(dict(key))
