"""From a verified token's claims to what the policy may look at.

A claim that is missing leaves its attribute not known. One that is there and cannot be read ends the request: a
mistake of the issuer must not turn into *nothing is known*, which some policies permit.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Literal

from gateway.identity.countries import NO_STATE, country
from gateway.identity.jose import TokenError
from gateway.policy.caller import Facts, Kind

Said = Mapping[str, Any]
"""A token's claims."""

BY_TOKEN = ("oidc:", "obo:")
"""How the ids of those begin who come by a token (``scoped_id``). Nobody is registered under such a one."""

MAX_SUBJECT = 255
"""Characters: OpenID Connect Core 1.0, section 2."""

_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,54}")
_IDENTIFIER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")


@dataclass(frozen=True, slots=True)
class ClaimNames:
    """Which claims say what."""

    subject: str = "sub"
    nationalities: str = "nationalities"
    latest_nationality: str = "latest_nationality"
    permanent_residence: str = "permanent_residence"
    legal_status: str = "legal_status"
    org: str = "org"


def facts(claims: Said, names: ClaimNames, org: str | None = None) -> Facts:
    """What a token says about a person. ``org`` is whose the person is if the token does not say.

    Raises:
        TokenError: a claim is there and cannot be read.
    """
    return Facts(
        kind=Kind.PERSON,
        org=_org(claims, names.org, org),
        nationality=_nationalities(claims, names.nationalities),
        latest_nationality=_nationalities(claims, names.latest_nationality),
        permanent_residence=_residences(claims, names.permanent_residence),
        legal_status=_statuses(claims, names.legal_status),
    )


def subject(claims: Said, name: str) -> str:
    """Whom a token is about.

    Raises:
        TokenError: it does not say.
    """
    return text(claims, name, MAX_SUBJECT)


def text(claims: Said, name: str, limit: int = 2000) -> str:
    """A claim that must be a text.

    Raises:
        TokenError: it is missing, empty, too long or another thing.
    """
    value = claims.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= limit:
        raise TokenError(f"The token's claim {name} is missing or not a text.")
    return value


def check_audience(claims: Said, audience: str) -> None:
    """RFC 7519 §4.1.3: a token is for whom it names.

    Raises:
        TokenError: it is for others.
    """
    value = claims.get("aud")
    if value != audience and not (isinstance(value, list) and audience in value):
        raise TokenError("The token is for another audience.")


def expiry(claims: Said, now: float, leeway: float) -> float:
    """Until when a token is good, in seconds since the epoch: its ``exp``, and the leeway.

    Raises:
        TokenError: it has no end, is over, or has not begun.
    """
    end = moment(claims, "exp")
    if end is None:
        raise TokenError("The token does not say when it expires (exp).")
    if end + leeway <= now:
        raise TokenError("The token has expired.")
    for name in ("nbf", "iat"):
        begin = moment(claims, name)
        if begin is not None and begin - leeway > now:
            raise TokenError(f"The token is not valid yet ({name}).")
    return end + leeway


def moment(claims: Said, name: str) -> float | None:
    """A claim that is a time, in seconds since the epoch.

    Raises:
        TokenError: it is another thing.
    """
    value = claims.get(name)
    if value is None and name not in claims:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TokenError(f"The token's claim {name} is not a time.")
    return float(value)


def scoped_id(kind: Literal["oidc", "obo"], scope: str, name: str) -> str:
    """A caller's id: ``kind:scope:name``. A name with other characters, or a long one, is replaced by its SHA-256.

    No plain name holds a colon, so that none can pass for a replaced one.
    """
    return f"{kind}:{_plain(scope)}:{_plain(name)}"


def _plain(part: str) -> str:
    if _PLAIN.fullmatch(part):
        return part
    return f"sha256:{sha256(part.encode()).hexdigest()[:40]}"


# ------------------------------------------------------------------------------------------------ attributes


def _nationalities(claims: Said, name: str) -> frozenset[str] | None:
    """Nationalities, said by the issuer itself or verified by it; where both are there they must agree."""
    found = {_countries(value, name) for value in _everywhere(claims, name)}
    if len(found) > 1:
        raise TokenError(f"The token says two different things about {name}.")
    known = next(iter(found), None)
    if known is not None and not known:
        raise TokenError(f"The token's claim {name} is empty; nobody has none: it is XXA for the stateless.")
    return known


def _everywhere(claims: Said, name: str) -> Iterator[Any]:
    """A claim at the top, and under ``verified_claims`` (OpenID Identity Assurance Schema 1.0: one, or a list)."""
    if name in claims:
        yield claims[name]
    verified = claims.get("verified_claims", [])
    for element in verified if isinstance(verified, list) else [verified]:
        inner = element.get("claims") if isinstance(element, dict) else None
        if not isinstance(inner, dict):
            raise TokenError("The token's verified_claims cannot be read.")
        if name in inner:
            yield inner[name]


def _residences(claims: Said, name: str) -> frozenset[str] | None:
    if name not in claims:
        return None
    countries = _countries(claims[name], name)
    if countries & NO_STATE:
        raise TokenError(f"The token's claim {name} names a country that is none.")
    return countries


def _countries(value: Any, name: str) -> frozenset[str]:
    found = [country(code) for code in _texts(value, name)]
    countries = frozenset(code for code in found if code is not None)
    if None in found:
        raise TokenError(f"The token's claim {name} holds a code that is no country's.")
    return countries


def _statuses(claims: Said, name: str) -> frozenset[str] | None:
    if name not in claims:
        return None
    statuses = _texts(claims[name], name)
    if not all(map(_IDENTIFIER.fullmatch, statuses)):
        raise TokenError(f"The token's claim {name} holds what is no identifier.")
    return frozenset(statuses)


def _org(claims: Said, name: str, default: str | None) -> str | None:
    if name not in claims:
        return default
    org = text(claims, name)
    if not _IDENTIFIER.fullmatch(org):
        raise TokenError(f"The token's claim {name} is no identifier.")
    return org


def _texts(value: Any, name: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise TokenError(f"The token's claim {name} must be a list of texts.")
    return value
