"""Names that only the key's holder can connect to a caller."""

import hmac
import threading

import pytest

from gateway.control.pseudonyms import pseudonym
from gateway.identity.pseudonyms import KEY_BYTES, Pseudonyms
from gateway.settings import Settings


def test_a_pseudonym_is_a_keyed_hash_and_the_key_is_made_once(tmp_path):
    path = tmp_path / "state" / "pseudonym.key"
    made = Pseudonyms(path).of("alice")
    key = path.read_bytes()
    assert len(key) == KEY_BYTES
    assert path.stat().st_mode & 0o777 == 0o600
    assert made == hmac.digest(key, b"alice", "sha256").hex()[:16]
    assert Pseudonyms(path).of("alice") == made != Pseudonyms(path).of("bob")
    assert [found.name for found in path.parent.iterdir()] == ["pseudonym.key"]


def test_control_and_workers_give_one_caller_one_pseudonym(tmp_path):
    settings = Settings(state_dir=tmp_path)
    assert pseudonym(settings, "alice") == Pseudonyms(settings.pseudonym_key).of("alice")


def test_a_damaged_key_is_told_and_not_replaced(tmp_path):
    path = tmp_path / "pseudonym.key"
    path.write_bytes(b"short")
    with pytest.raises(ValueError, match="must hold 32 bytes"):
        Pseudonyms(path).of("alice")
    assert path.read_bytes() == b"short"


def test_of_many_that_start_at_once_all_have_the_same_key(tmp_path):
    path = tmp_path / "pseudonym.key"
    gate = threading.Barrier(8)
    made = []

    def start() -> None:
        gate.wait()
        made.append(Pseudonyms(path).of("alice"))

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 1
    assert len(made) == 8
