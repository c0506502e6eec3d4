"""What is not signed by the control plane, for this purpose and this name, is forged."""

import base64
import json
import stat

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from gateway.enforcement.signing import ForgedError, Signer, Verifier, create_key, load_signer, load_verifier

BODY = b'{"a":1}\n{"b":2}'


def test_what_was_sealed_is_unsealed(signer):
    assert signer.unseal("caller", "alice", signer.seal("caller", "alice", BODY)) == BODY
    assert signer.unseal("caller", "alice", signer.seal("caller", "alice", b"")) == b""


@pytest.mark.parametrize(
    ("purpose", "name"),
    [
        ("caller", "bob"),
        ("operator", "alice"),
        ("", "alice"),
        ("caller", ""),
        ("caller\0alice", ""),
        ("calle", "ralice"),
    ],
)
def test_a_record_moved_elsewhere_does_not_verify(signer, purpose, name):
    with pytest.raises(ForgedError):
        signer.unseal(purpose, name, signer.seal("caller", "alice", BODY))


def test_a_strangers_seal_is_none(signer, stranger):
    sealed = stranger.seal("caller", "alice", BODY)
    with pytest.raises(ForgedError, match="unknown key"):
        signer.unseal("caller", "alice", sealed)
    renamed = sealed.replace(stranger.kid.encode(), signer.kid.encode())
    with pytest.raises(ForgedError, match="does not fit"):
        signer.unseal("caller", "alice", renamed)


def test_no_bit_can_be_changed(signer):
    sealed = signer.seal("caller", "alice", BODY)
    for place in range(len(sealed)):
        for bit in (1, 32):
            tampered = bytearray(sealed)
            tampered[place] ^= bit
            try:
                body = signer.unseal("caller", "alice", bytes(tampered))
            except ForgedError:
                continue
            assert body == BODY, "only blanks of the seal itself may differ"
            pytest.fail(f"byte {place} could be changed")


@pytest.mark.parametrize(
    "sealed",
    [
        b"", b"\n", BODY, b"{}\n" + BODY, b"[]\n" + BODY, b"null\n" + BODY, b'"x"\n' + BODY, b"1\n" + BODY,
        b'{"kid":"x"}\n' + BODY, b'{"kid":null,"sig":null}\n' + BODY, b"\xff\xfe\n" + BODY, b"not json\n" + BODY,
    ],
)  # fmt: skip
def test_what_is_not_sealed_at_all_is_forged(signer, sealed):
    with pytest.raises(ForgedError):
        signer.unseal("caller", "alice", sealed)


@pytest.mark.parametrize(
    "signature", ["", "x", "AAAA", "ä", "A" * 86 + "==", base64.b64encode(b"\0" * 64).decode() + "\n"]
)
def test_what_is_no_signature_is_forged(signer, signature):
    with pytest.raises(ForgedError):
        signer.verify("caller", "alice", BODY, signer.kid, signature)


def test_a_replica_may_trust_several_keys_and_no_others(signer, stranger):
    both = Verifier(signer._private_key.public_key(), stranger._private_key.public_key())
    for one in (signer, stranger):
        assert both.unseal("p", "n", one.seal("p", "n", BODY)) == BODY
    with pytest.raises(ForgedError):
        Verifier().unseal("p", "n", signer.seal("p", "n", BODY))


def test_keys_live_in_files(tmp_path):
    path = tmp_path / "deep" / "signing.key"
    made = create_key(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert b"PRIVATE" not in path.with_suffix(".pub").read_bytes()
    sealed = load_signer(path).seal("p", "n", BODY)
    assert load_verifier(path.with_suffix(".pub")).unseal("p", "n", sealed) == BODY
    assert load_signer(path).kid == made.kid


def test_a_key_is_never_overwritten(tmp_path):
    path = tmp_path / "signing.key"
    create_key(path)
    before = path.read_bytes()
    with pytest.raises(FileExistsError):
        create_key(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "other", [lambda: rsa.generate_private_key(65537, 2048), lambda: ec.generate_private_key(ec.SECP256R1())]
)
def test_other_kinds_of_keys_are_refused(tmp_path, other):
    key = other()
    private, public = tmp_path / "k", tmp_path / "p"
    encoding = serialization.Encoding.PEM
    private.write_bytes(key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(encoding, serialization.PublicFormat.SubjectPublicKeyInfo))
    with pytest.raises(ValueError, match="Ed25519 private key"):
        load_signer(private)
    with pytest.raises(ValueError, match="Ed25519 public key"):
        load_verifier(public)


def test_a_seal_is_one_line_of_json(signer: Signer):
    head, _, body = signer.seal("p", "n", BODY).partition(b"\n")
    assert set(json.loads(head)) == {"kid", "sig"}
    assert body == BODY
