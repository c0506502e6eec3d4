"""Signed tokens: read strictly, verified with the key they name."""

import pytest
from issuing import Key, claims, segment, unsigned

from gateway.identity.jose import KEY_OF, TokenError, looks_like_token, public_key, read

RSA, EC, ED = Key("r"), Key("e", "ES256"), Key("o", "Ed25519")


@pytest.mark.parametrize("key", [RSA, EC, ED], ids=lambda key: key.alg)
def test_a_signature_is_verified_with_its_key(key):
    token = read(key.sign(claims()))
    token.verify(public_key(key.public()))
    assert (token.kid, token.type, token.claims["sub"]) == (key.kid, "JWT", "alice")


def test_eddsa_is_another_name_of_ed25519():
    head, body, _ = ED.sign(claims()).split(".")
    head = segment({"alg": "EdDSA", "kid": "o"})
    signature = segment(ED.key.private_key.sign(f"{head}.{body}".encode()))
    read(f"{head}.{body}.{signature}").verify(public_key(ED.public(alg="EdDSA")))
    read(ED.sign(claims())).verify(public_key(ED.public(alg="EdDSA")))


@pytest.mark.parametrize("key", [RSA, EC, ED], ids=lambda key: key.alg)
def test_a_signature_of_another_key_is_refused(key):
    token = Key("x", key.alg).sign(claims())
    with pytest.raises(TokenError, match="signature"):
        read(token).verify(public_key(key.public()))


@pytest.mark.parametrize("part", [0, 1, 2])
def test_a_token_that_was_changed_is_refused(part):
    pieces = EC.sign(claims()).split(".")
    changed = {0: segment({"alg": "ES256", "kid": "e", "x": 1}), 1: segment(claims(sub="bob")), 2: segment(b"\1" * 64)}
    pieces[part] = changed[part]
    with pytest.raises(TokenError, match="signature"):
        read(".".join(pieces)).verify(public_key(EC.public()))


@pytest.mark.parametrize("signature", [b"", b"\0" * 64, b"\0" * 63, b"\1" * 128])
def test_no_or_an_odd_signature_is_refused(signature):
    for key in (RSA, EC, ED):
        with pytest.raises(TokenError, match="signature"):
            read(unsigned({"alg": key.alg, "kid": "x"}, claims(), signature)).verify(public_key(key.public()))


@pytest.mark.parametrize(
    ("signer", "header", "verifier"),
    [
        (RSA, {}, EC.public()),
        (EC, {}, RSA.public()),
        (ED, {}, EC.public()),
        (RSA, {"alg": "PS256"}, RSA.public(alg="RS256")),
    ],
)
def test_a_key_verifies_only_what_it_is_for(signer, header, verifier):
    with pytest.raises(TokenError, match="algorithm"):
        read(signer.sign(claims(), **header)).verify(public_key(verifier))


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "none"}, {"alg": "None"}, {"alg": "nOnE"}, {"alg": ""}, {"alg": None}, {"alg": ["RS256"]}, {},
        {"alg": "HS256"}, {"alg": "HS512"}, {"alg": "ES256K"}, {"alg": "RSA-OAEP"}, {"alg": "dir"}, {"alg": "rs256"},
    ],
    ids=str,
)  # fmt: skip
def test_an_algorithm_that_is_not_listed_is_refused(header):
    with pytest.raises(TokenError, match="algorithm"):
        read(unsigned({"kid": "r", **header}, claims()))


def test_nothing_symmetric_is_listed():
    assert not [alg for alg in KEY_OF if alg.lower().startswith(("hs", "none", "a", "dir"))]


@pytest.mark.parametrize("name", ["jku", "jwk", "x5u", "crit", "b64"])
def test_a_token_brings_neither_its_key_nor_its_own_rules(name):
    values = {
        "jku": "https://evil.example/jwks",
        "jwk": RSA.public(),
        "x5u": "https://evil.example",
        "crit": ["exp"],
        "b64": True,
    }
    with pytest.raises(TokenError, match="header"):
        read(unsigned({"alg": "RS256", "kid": "r", name: values[name]}, claims()))


@pytest.mark.parametrize(
    "token",
    [
        "", "eyJ", "eyJ.eyJ", "eyJ..", "eyJhbGciOiJub25lIn0..", "a.b.c", "eyJ.eyJ.x.y.z", "eyJ.eyJ.\n", "eyJ=.eyJ.x",
        "eyJ.eyé.x", "eyJ.e+J.x", f"{segment({'alg': 'RS256', 'kid': 'r'})}.{segment([1])}.x",
        f"{segment({'alg': 'RS256', 'kid': 'r'})}.{segment(b'{')}.x",
        f"{segment({'alg': 'RS256', 'kid': 'r'})}.{segment(b'{}NaN')}.x",
        f"{segment({'alg': 'RS256', 'kid': 'r'})}.A.x",
        unsigned({"alg": "RS256"}, {}), unsigned({"alg": "RS256", "kid": 5}, {}), unsigned({"alg": "RS256", "kid": ""}, {}),
        unsigned({"alg": "RS256", "kid": "r", "typ": 5}, {}),
        "eyJ" + segment(b"[" * 3000) + ".eyJ.x",
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused(token):
    with pytest.raises(TokenError):
        read(token)


def test_a_mebibyte_is_refused_unread():
    with pytest.raises(TokenError, match="too long"):
        read(RSA.sign(claims(padding="x" * 2**20)))
    with pytest.raises(TokenError, match="too long"):
        read("eyJ" + "." * 2**20)


@pytest.mark.parametrize(
    "credential", ["pc_1_x", "sk-1", "eyJ", "eyJ.a", "eyJ.a.b.c.d", "demo-alice", "eyJ a.b.c", "x.eyJ.y"]
)
def test_keys_are_not_taken_for_tokens(credential):
    assert not looks_like_token(credential)
    assert looks_like_token(RSA.sign(claims()))


@pytest.mark.parametrize(
    "change",
    [
        {"use": "enc"}, {"use": 5}, {"key_ops": ["encrypt"]}, {"key_ops": "verify"}, {"kty": "oct"}, {"kty": None},
        {"kty": ["RSA"]}, {"n": 5}, {"n": None}, {"n": "AQAB"}, {"n": "!!"}, {"e": ""}, {"e": "Ag"}, {"alg": 5}, {"kty": "EC"},
    ],
    ids=str,
)  # fmt: skip
def test_a_key_that_is_of_no_use(change):
    assert public_key({**RSA.public(), **change}) is None


@pytest.mark.parametrize(
    "key",
    [
        {"kty": "oct", "k": "c2VjcmV0"},
        {**EC.public(), "x": segment(b"\1" * 32)}, {**EC.public(), "crv": "secp256k1"}, {**EC.public(), "crv": "P-384"},
        {**ED.public(), "crv": "X25519"}, {**ED.public(), "x": "AA"}, {},
    ],
)  # fmt: skip
def test_a_key_that_is_damaged_or_of_another_kind(key):
    assert public_key(key) is None


@pytest.mark.filterwarnings("ignore:Key size")
def test_a_short_rsa_key_is_of_no_use():
    assert public_key(Key("short", size=1024).public()) is None


def test_a_private_part_is_left_aside():
    key = public_key(EC.key.as_dict(private=True))
    assert key is not None
    assert not key.material.is_private
    assert public_key(RSA.public(use="sig", key_ops=["verify"])) == public_key(RSA.public())
