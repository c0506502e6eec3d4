"""For which of its users a service asks."""

import time

import pytest
from issuing import Key, claims, unsigned

from gateway.identity.jose import TokenError
from gateway.identity.on_behalf import OnBehalf
from gateway.identity.pseudonyms import Pseudonyms
from gateway.policy.caller import Caller, Facts, Kind
from gateway.policy.document import Org

KEY, EVIL = Key("acme-1", "Ed25519"), Key("evil-1", "Ed25519")
ACME = Caller("acme-app", Facts(Kind.SERVICE, org="acme"))
OTHER = Caller("acme-batch", Facts(Kind.SERVICE, org="acme"))
BOB = Caller("bob", Facts(Kind.PERSON, org="acme"))
LONELY = Caller("lonely", Facts(Kind.SERVICE))


def registered(*keys):
    return Org(keys={key.kid: {k: v for k, v in key.public().items() if k != "kid"} for key in keys})


ORGS = {"acme": registered(KEY), "evil": registered(EVIL), "empty": Org()}


def said(**fields):
    now = int(time.time())
    return claims(
        **{"iss": "acme", "aud": "gate", "azp": "acme-app", "sub": "u-1", "exp": now + 3000, "iat": now, **fields}
    )


@pytest.fixture
def on_behalf(tmp_path):
    return OnBehalf("gate", Pseudonyms(tmp_path / "pseudonym.key"))


def test_the_end_user_is_a_person_of_the_services_organisation(on_behalf):
    end_user = on_behalf.end_user(KEY.sign(said(nationalities=["CHN"])).encode(), ACME, ORGS)
    assert end_user.caller.id == "obo:acme:u-1"
    assert end_user.caller.facts == Facts(Kind.PERSON, "acme", frozenset({"CN"}))
    assert len(end_user.caller.pseudonym) == 16
    assert end_user.caller.expires == pytest.approx(time.time() + 3030, abs=5)
    assert end_user.stands(ACME, ORGS)


def test_the_token_may_name_another_organisation_as_the_users(on_behalf):
    end_user = on_behalf.end_user(KEY.sign(said(org="customer-7")).encode(), ACME, ORGS)
    assert end_user.caller.facts.org == "customer-7"
    assert end_user.org == "acme"


@pytest.mark.parametrize("header", [{"typ": "portcullis-obo+jwt"}, {"typ": "JWT"}, {"typ": None}, {"typ": "jwt"}])
def test_types(on_behalf, header):
    assert on_behalf.end_user(KEY.sign(said(), **header).encode(), ACME, ORGS)


def test_the_caller_may_be_named_client(on_behalf):
    assert on_behalf.end_user(KEY.sign(said(azp=..., client="acme-app")).encode(), ACME, ORGS)


def attacks():
    """Each is refused; each differs from a good one in one thing."""
    return {
        "signed by another organisation": EVIL.sign(said()),
        "signed by another organisation under our key's name": Key("acme-1", "Ed25519").sign(said()),
        "that says so, too": EVIL.sign(said(iss="evil")),
        "another organisation as issuer": KEY.sign(said(iss="evil")),
        "no issuer": KEY.sign(said(iss=...)),
        "for another caller": KEY.sign(said(azp="acme-batch")),
        "for no caller": KEY.sign(said(azp=...)),
        "for two callers": KEY.sign(said(azp="acme-app", client="acme-batch")),
        "another audience": KEY.sign(said(aud="other-gate")),
        "no audience": KEY.sign(said(aud=...)),
        "expired": KEY.sign(said(iat=time.time() - 200, exp=time.time() - 31)),
        "no expiry": KEY.sign(said(exp=...)),
        "too long a life": KEY.sign(said(exp=int(time.time()) + 3700)),
        "issued at no time": KEY.sign(said(iat=...)),
        "issued tomorrow": KEY.sign(said(iat=time.time() + 86400, exp=time.time() + 86500)),
        "not yet valid": KEY.sign(said(nbf=time.time() + 60)),
        "nobody": KEY.sign(said(sub=...)),
        "nationalities as a number": KEY.sign(said(nationalities=5)),
        "no nationalities at all": KEY.sign(said(nationalities=[])),
        "an unknown code": KEY.sign(said(nationalities=["ZZ"])),
        "a type for other uses": KEY.sign(said(), typ="logout+jwt"),
        "jku": KEY.sign(said(), jku="https://evil.example"),
        "none": unsigned({"alg": "none", "kid": "acme-1"}, said()),
        "a mebibyte": KEY.sign(said(padding="x" * 2**20)),
        "no token": "alice",
        "nothing": "",
        "no text": "\xff\xfe",
    }  # fmt: skip


@pytest.mark.parametrize("name", list(attacks()))
def test_attacks_are_refused(on_behalf, name):
    token = attacks()[name].encode("latin-1")
    for _ in range(2):
        with pytest.raises(TokenError):
            on_behalf.end_user(token, ACME, ORGS)


@pytest.mark.parametrize(
    "asker", [BOB, LONELY, Caller("x", Facts(Kind.SERVICE, org="empty")), Caller("x", Facts(Kind.SERVICE, org="?"))]
)
def test_only_services_of_organisations_with_keys_may_ask(on_behalf, asker):
    with pytest.raises(TokenError):
        on_behalf.end_user(KEY.sign(said(azp=asker.id)).encode(), asker, ORGS)


def test_a_token_that_was_good_is_not_so_with_another_callers_key(on_behalf):
    token = KEY.sign(said()).encode()
    on_behalf.end_user(token, ACME, ORGS)
    with pytest.raises(TokenError, match="another caller"):
        on_behalf.end_user(token, OTHER, ORGS)


@pytest.mark.parametrize(
    ("asker", "orgs"),
    [
        (ACME, {}),
        (ACME, {"acme": Org()}),
        (ACME, {"acme": registered(Key("acme-1", "Ed25519"))}),
        (Caller("acme-app", Facts(Kind.SERVICE, org="evil")), ORGS),
        (Caller("acme-app", Facts(Kind.SERVICE)), ORGS),
        (Caller("acme-app", Facts(Kind.PERSON, org="acme")), ORGS),
    ],
)
def test_it_falls_with_the_key_and_with_the_organisation(on_behalf, asker, orgs):
    token = KEY.sign(said()).encode()
    end_user = on_behalf.end_user(token, ACME, ORGS)
    assert not end_user.stands(asker, orgs)
    with pytest.raises(TokenError):
        on_behalf.end_user(token, asker, orgs)


def test_it_is_verified_once_and_known_until_it_expires(tmp_path):
    now = [time.time()]
    on_behalf = OnBehalf("gate", Pseudonyms(tmp_path / "p.key"), clock=lambda: now[0], size=2)
    token = KEY.sign(said(exp=int(now[0]) + 60)).encode()
    known = on_behalf.end_user(token, ACME, ORGS)
    assert on_behalf.end_user(token, ACME, ORGS) is known
    assert known.at(now[0]) is known
    now[0] += 91
    assert known.at(now[0]).caller.facts.nationality is None
    with pytest.raises(TokenError, match="expired"):
        on_behalf.end_user(token, ACME, ORGS)
    for n in range(5):
        on_behalf.end_user(KEY.sign(said(sub=f"u-{n}", exp=int(now[0]) + 60, iat=int(now[0]))).encode(), ACME, ORGS)
    assert len(on_behalf._verified) == 2
