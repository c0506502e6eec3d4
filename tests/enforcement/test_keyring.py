"""Keys from files and the environment, several at once, rotated under whoever uses them."""

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.enforcement import keyring
from gateway.enforcement.keyring import (
    Following,
    RotationError,
    activate,
    distrust,
    prepare,
    read_signer,
    read_verifier,
)
from gateway.enforcement.signing import ForgedError, create_key, load_signer, public_pem
from gateway.settings import Settings, SettingsError

BODY = b"body"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(keyring, "TRUSTED_AFTER_SECONDS", 0.0)


@pytest.fixture
def settings(tmp_path) -> Settings:
    create_key(tmp_path / "signing.key")
    return Settings(state_dir=tmp_path)


def pem(key: Ed25519PrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def from_environment(monkeypatch, tmp_path, *, one_line: bool = False, own: bool = True) -> Settings:
    key, other = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    public = public_pem(other.public_key()).decode() + (public_pem(key.public_key()).decode() if own else "")
    shown = pem(key).replace("\n", "\\n") if one_line else pem(key)
    monkeypatch.setenv("THE_KEY", shown)
    monkeypatch.setenv("THE_PUBLIC_KEYS", public)
    return Settings(state_dir=tmp_path, signing={"key_env": "THE_KEY", "public_keys_env": "THE_PUBLIC_KEYS"})


def test_by_default_it_is_the_one_in_the_state_directory(settings):
    signer = read_signer(settings)
    assert signer.trusted == (signer.kid,) == read_verifier(settings).trusted


@pytest.mark.parametrize("one_line", [False, True], ids=["as it is", "with \\n in one line"])
def test_the_environment_may_hold_the_keys(monkeypatch, tmp_path, one_line):
    settings = from_environment(monkeypatch, tmp_path, one_line=one_line)
    signer = read_signer(settings)
    assert keyring.has_signer(settings)
    assert len(signer.trusted) == 2
    assert read_verifier(settings).unseal("p", "n", signer.seal("p", "n", BODY)) == BODY


def test_a_key_that_no_worker_would_trust_stops_the_start(monkeypatch, tmp_path):
    with pytest.raises(SettingsError, match="no worker would trust it"):
        read_signer(from_environment(monkeypatch, tmp_path, own=False))


def test_what_is_missing_is_named(monkeypatch, tmp_path, settings):
    given = from_environment(monkeypatch, tmp_path)
    monkeypatch.delenv("THE_KEY")
    with pytest.raises(SettingsError, match="THE_KEY is not set"):
        read_signer(given)
    settings.signing_key.write_text("x")
    with pytest.raises(SettingsError, match=r"signing\.key: no private key"):
        read_signer(settings)
    settings.public_keys[0].write_text("x")
    with pytest.raises(SettingsError, match=r"signing\.pub: no public key"):
        read_verifier(settings)


def test_workers_need_public_keys_where_the_key_is_in_the_environment(tmp_path):
    with pytest.raises(ValueError, match="needs public_key_files"):
        Settings(state_dir=tmp_path, signing={"key_env": "THE_KEY"})


async def test_a_rotation_under_whoever_uses_keys(settings):
    signer, worker = read_signer(settings), read_verifier(settings)
    following = [Following.of(signer, settings), Following.of(worker, settings)]
    before = signer.seal("p", "n", BODY)
    old = signer.kid

    new, public = prepare(settings)
    assert public == settings.public_keys[0]
    for each in following:
        await each.check()
    assert (signer.kid, set(worker.trusted)) == (old, {old, new}), "trusted first, used later"
    with pytest.raises(RotationError, match="a next key already"):
        prepare(settings)

    assert activate(settings) == (old, new)
    for each in following:
        await each.check()
    after = signer.seal("p", "n", BODY)
    assert signer.kid == new
    for keys in (signer, worker):
        assert keys.unseal("p", "n", before) == keys.unseal("p", "n", after) == BODY
    assert settings.signing_key.stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in settings.state_dir.iterdir()) == ["signing.key", "signing.pub"]

    with pytest.raises(RotationError, match="signs; activate another"):
        distrust(settings, new)
    with pytest.raises(RotationError, match="has no key"):
        distrust(settings, "0" * 16)
    distrust(settings, old)
    for each in following:
        await each.check()
    for keys in (signer, worker):
        assert keys.trusted == (new,)
        with pytest.raises(ForgedError, match="unknown key"):
            keys.unseal("p", "n", before)


async def test_files_that_cannot_be_used_change_nothing(settings):
    signer = read_signer(settings)
    following = Following.of(signer, settings)
    kid = signer.kid
    for path in (settings.signing_key, settings.public_keys[0]):
        kept = path.read_bytes()
        path.write_text("half a fi")
        await following.check()
        assert (signer.kid, signer.trusted) == (kid, (kid,))
        path.write_bytes(kept)
        await following.check()


def test_nothing_is_signed_by_what_is_not_trusted(settings):
    with pytest.raises(RotationError, match="no next key"):
        activate(settings)
    _, public = prepare(settings)
    public.write_bytes(public_pem(load_signer(settings.signing_key)._private_key.public_key()))
    with pytest.raises(RotationError, match="does not have the next key"):
        activate(settings)


def test_keys_of_elsewhere_are_rotated_there(monkeypatch, tmp_path):
    with pytest.raises(RotationError, match="by the environment"):
        prepare(from_environment(monkeypatch, tmp_path))
