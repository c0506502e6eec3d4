"""What a machine remembers of the policy when Redis forgets."""

import json
import os

import pytest
from samples import document

from gateway.enforcement.entry import GENESIS, Entry
from gateway.enforcement.memory import recall, remember
from gateway.policy.document import digest, dump


def revision(signer, rev: int = 1, gateway: str = "test") -> tuple[bytes, bytes]:
    """A sealed entry and its sealed document."""
    body = dump(document(gateway=gateway))
    entry = Entry("e", rev, "now", "op", "init", "g", None, digest(body), "all", GENESIS)
    return entry.sealed(signer), signer.seal("document", digest(body), body)


def test_nothing_is_remembered_at_first(tmp_path, signer):
    assert recall(tmp_path, signer) is None
    assert recall(tmp_path / "nowhere", signer) is None


def test_what_was_remembered_is_recalled(tmp_path, signer):
    entry, sealed = revision(signer, 3)
    remember(tmp_path, "0", entry, sealed)
    found = recall(tmp_path, signer)
    assert (found.entry.rev, found.document, found.sealed_document) == (3, document(), sealed)


def test_a_worker_remembers_its_last(tmp_path, signer):
    for rev in (1, 2, 3):
        remember(tmp_path, "0", *revision(signer, rev))
    assert recall(tmp_path, signer).entry.rev == 3
    assert [path.name for path in tmp_path.iterdir()] == ["remembered-0.json"]


def test_the_highest_of_all_workers_counts(tmp_path, signer):
    for worker, rev in (("0", 3), ("1", 9), ("2", 5)):
        remember(tmp_path, worker, *revision(signer, rev))
    assert recall(tmp_path, signer).entry.rev == 9


def test_it_is_on_the_disk_before_it_has_its_name(tmp_path, signer, monkeypatch):
    steps = []
    really_fsync, really_replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (steps.append("fsync"), really_fsync(fd))[1])
    monkeypatch.setattr(os, "replace", lambda *names: (steps.append("replace"), really_replace(*names))[1])
    remember(tmp_path, "0", *revision(signer))
    assert steps == ["fsync", "replace"]


def test_a_write_that_fails_leaves_what_was_there(tmp_path, signer, monkeypatch):
    remember(tmp_path, "0", *revision(signer, 1))

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="space"):
        remember(tmp_path, "0", *revision(signer, 2))
    assert recall(tmp_path, signer).entry.rev == 1


def damages(signer, stranger) -> dict[str, bytes]:
    entry, sealed = revision(signer, 9)
    other_entry, other_sealed = revision(signer, 9, "another")
    whole = json.dumps({"entry": entry.decode(), "document": sealed.decode()}).encode()
    forged = dict(zip(("entry", "document"), (part.decode() for part in revision(stranger, 9)), strict=True))
    return {
        "empty": b"",
        "cut": whole[:-20],
        "no json": b"\0" * 100,
        "a list": b"[]",
        "null": b"null",
        "without a document": json.dumps({"entry": entry.decode()}).encode(),
        "not text": json.dumps({"entry": 1, "document": 2}).encode(),
        "signed by a stranger": json.dumps(forged).encode(),
        "another document": json.dumps({"entry": entry.decode(), "document": other_sealed.decode()}).encode(),
        "another entry": json.dumps({"entry": other_entry.decode(), "document": sealed.decode()}).encode(),
        "a later revision": whole.replace(b'\\"rev\\":9', b'\\"rev\\":99'),
        "an open hold": whole.replace(b"claude-fable-5", b"claude-fable-6"),
    }


def test_a_damaged_file_is_passed_over(tmp_path, signer, stranger):
    remember(tmp_path, "0", *revision(signer, 2))
    for name, data in damages(signer, stranger).items():
        (tmp_path / "remembered-1.json").write_bytes(data)
        assert recall(tmp_path, signer).entry.rev == 2, name


def test_an_unfinished_write_is_no_memory(tmp_path, signer):
    remember(tmp_path, "0", *revision(signer, 2))
    (tmp_path / "remembered-0.json").rename(tmp_path / "remembered-0.tmp")
    assert recall(tmp_path, signer) is None


def test_a_signed_document_that_no_longer_fits_the_schema_is_passed_over(tmp_path, signer):
    body = b'{"schema":1,"gateway":"test","newer":true}'
    entry = Entry("e", 9, "now", "op", "init", "g", None, digest(body), "all", GENESIS)
    remember(tmp_path, "0", entry.sealed(signer), signer.seal("document", digest(body), body))
    assert recall(tmp_path, signer) is None
