"""Tokens of OpenID Connect issuers as credentials."""

import asyncio
import hmac
import time

import pytest
from issuing import AUDIENCE, ISSUER, Key, KeyServer, claims, segment, unsigned

from gateway.identity import jwks
from gateway.identity.jose import TokenError
from gateway.identity.keys import fingerprint
from gateway.identity.pseudonyms import Pseudonyms
from gateway.identity.tokens import Issuer, Tokens
from gateway.policy.caller import Facts, Kind

KEY, EC = Key("k1"), Key("k2", "ES256")


@pytest.fixture
def server():
    with KeyServer(KEY, EC) as running:
        yield running


@pytest.fixture
def pseudonyms(tmp_path):
    return Pseudonyms(tmp_path / "pseudonym.key")


@pytest.fixture
async def tokens(server, pseudonyms):
    made = Tokens([Issuer("corp", ISSUER, AUDIENCE, server.url)], pseudonyms)
    yield made
    await made.close()


async def test_who_has_a_good_token_is_a_caller(tokens, pseudonyms):
    end = time.time() + 300
    caller = await tokens.look_up(KEY.sign(claims(exp=end, nationalities=["FRA"])))
    assert caller.id == "oidc:corp:alice"
    assert caller.facts == Facts(Kind.PERSON, nationality=frozenset({"FR"}))
    assert caller.pseudonym == pseudonyms.of("oidc:corp:alice")
    assert caller.expires == pytest.approx(end + 30)


@pytest.mark.parametrize("signer", [KEY, EC], ids=lambda key: key.alg)
async def test_a_token_is_verified_once(tokens, signer, monkeypatch):
    token = signer.sign(claims())
    caller = await tokens.look_up(token)
    monkeypatch.setattr(tokens, "verify", None)
    assert tokens.cached(fingerprint(token)) is caller
    assert tokens.cached(fingerprint(signer.sign(claims(sub="bob")))) is None


def attacks():
    """Each token is refused; each differs from a good one in one thing."""
    yield "alg none", unsigned({"alg": "none", "kid": "k1"}, claims())
    yield "alg none with a signature", unsigned({"alg": "none", "kid": "k1"}, claims(), b"x")
    yield "the public key as a shared secret", _hmac(KEY.key.as_pem(private=False))
    yield "its JWK as a shared secret", _hmac(KEY.public()["n"].encode())
    yield "another key under the same name", Key("k1").sign(claims())
    yield "another type under the same name", Key("k1", "ES256").sign(claims())
    yield "an algorithm that is not allowed", KEY.sign(claims(), alg="PS256")
    yield "no kid", KEY.sign(claims(), kid=None)
    yield "a kid that nobody has", Key("k9").sign(claims())
    yield "jku", KEY.sign(claims(), jku="https://evil.example/jwks")
    yield "x5u", KEY.sign(claims(), x5u="https://evil.example/x5u")
    yield "jwk", KEY.sign(claims(), jwk=KEY.public())
    yield "crit", unsigned({"alg": "RS256", "kid": "k1", "crit": ["exp"]}, claims())
    for name, fields in {
        "another issuer": {"iss": "https://evil.example"},
        "nearly the issuer": {"iss": ISSUER + "/"},
        "issuers": {"iss": [ISSUER]},
        "no issuer": {"iss": ...},
        "another audience": {"aud": "https://other.example"},
        "no audience": {"aud": ...},
        "expired": {"exp": time.time() - 31},
        "no expiry": {"exp": ...},
        "not yet valid": {"nbf": time.time() + 60},
        "issued tomorrow": {"iat": time.time() + 86400},
        "nobody": {"sub": ...},
        "nationalities as a number": {"nationalities": 840},
        "nationalities as a text": {"nationalities": "US"},
        "no nationalities at all": {"nationalities": []},
        "an unknown code": {"nationalities": ["US", "ZZ"]},
        "an organisation's code": {"nationalities": ["UNO"]},
        "nationalities null": {"nationalities": None},
        "an unknown code among verified claims": {"verified_claims": {"claims": {"nationalities": ["ZZ"]}}},
    }.items():
        yield name, KEY.sign(claims(**fields))
    yield "a mebibyte", KEY.sign(claims(padding="x" * 2**20))
    yield "encrypted", "eyJhbGciOiJkaXIifQ..x.y.z"


def _hmac(secret: bytes) -> str:
    signed = unsigned({"alg": "HS256", "kid": "k1"}, claims()).rpartition(".")[0]
    return f"{signed}.{segment(hmac.digest(secret, signed.encode(), 'sha256'))}"


ATTACKS = [name for name, _ in attacks()]


@pytest.mark.parametrize("name", ATTACKS)
async def test_attacks_are_refused_and_not_remembered(tokens, name):
    token = dict(attacks())[name]
    await tokens.look_up(KEY.sign(claims()))
    for _ in range(2):
        with pytest.raises(TokenError) as refused:
            await tokens.look_up(token)
    assert "evil" not in str(refused.value), "messages quote nothing"
    assert tokens.cached(fingerprint(token)) is None
    assert len(tokens) == 1


async def test_without_an_issuer_no_token_is_good(pseudonyms):
    with pytest.raises(TokenError, match="issuer"):
        await Tokens([], pseudonyms).look_up(KEY.sign(claims()))


async def test_a_token_of_one_issuer_is_not_verified_with_anothers_key(server, pseudonyms):
    evil_key = Key("k1")
    with KeyServer(evil_key) as other:
        tokens = Tokens(
            [
                Issuer("corp", ISSUER, AUDIENCE, server.url),
                Issuer("other", "https://other.example", AUDIENCE, other.url),
            ],
            pseudonyms,
        )
        assert (await tokens.look_up(evil_key.sign(claims(iss="https://other.example")))).id == "oidc:other:alice"
        with pytest.raises(TokenError, match="signature"):
            await tokens.look_up(evil_key.sign(claims()))


async def test_a_flood_of_unknown_keys_asks_the_issuer_once(tokens, server):
    await tokens.look_up(KEY.sign(claims()))
    seen = server.hits
    head, rest = {"alg": "RS256"}, claims()
    flood = [unsigned({**head, "kid": f"flood-{n}"}, rest, b"x") for n in range(500)]
    refused = await asyncio.gather(*(tokens.look_up(token) for token in flood), return_exceptions=True)
    assert all(isinstance(error, TokenError) for error in refused)
    assert server.hits <= seen + 1


async def test_a_new_key_is_found_when_its_first_token_comes(tokens, server, monkeypatch):
    await tokens.look_up(KEY.sign(claims()))
    monkeypatch.setattr(jwks, "INTERVAL", 0.0)
    new = Key("k3", "Ed25519")
    server.publish(KEY, new)
    assert (await tokens.look_up(new.sign(claims()))).id == "oidc:corp:alice"


async def test_what_a_withdrawn_key_signed_is_good_no_longer(tokens, server, monkeypatch):
    old, other = KEY.sign(claims()), EC.sign(claims())
    await tokens.look_up(old)
    await tokens.look_up(other)
    monkeypatch.setattr(jwks, "INTERVAL", 0.0)
    server.publish(EC)
    with pytest.raises(TokenError):
        await tokens.look_up(Key("k9").sign(claims()))
    assert tokens.cached(fingerprint(old)) is None
    assert tokens.cached(fingerprint(other)) is not None
    with pytest.raises(TokenError):
        await tokens.look_up(old)


async def test_a_token_is_remembered_until_it_expires(server, pseudonyms):
    now = [time.time()]
    tokens = Tokens([Issuer("corp", ISSUER, AUDIENCE, server.url)], pseudonyms, clock=lambda: now[0])
    token = KEY.sign(claims(exp=now[0] + 60))
    await tokens.look_up(token)
    now[0] += 89
    assert tokens.cached(fingerprint(token))
    now[0] += 2
    assert tokens.cached(fingerprint(token)) is None
    assert len(tokens) == 0
    with pytest.raises(TokenError, match="expired"):
        await tokens.look_up(token)


async def test_only_so_many_are_remembered_the_longest_unused_is_forgotten(server, pseudonyms):
    tokens = Tokens([Issuer("corp", ISSUER, AUDIENCE, server.url)], pseudonyms, size=2)
    one, two, three = (EC.sign(claims(sub=name)) for name in ("one", "two", "three"))
    await tokens.look_up(one)
    await tokens.look_up(two)
    assert tokens.cached(fingerprint(one))
    await tokens.look_up(three)
    assert [tokens.cached(fingerprint(token)) is not None for token in (one, two, three)] == [True, False, True]


async def test_keys_are_fetched_before_anybody_asks(tokens, server, until):
    tokens.start()
    await until(lambda: server.hits)
    token = KEY.sign(claims())
    await until(lambda: _verifies(tokens, token))


def _verifies(tokens, token):
    try:
        return tokens.verify(token)
    except TokenError:
        return None
