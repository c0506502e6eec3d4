"""Entries of the log: signed, hashed, and chained."""

import dataclasses
import json

import pytest

from gateway.enforcement.entry import GENESIS, Entry, read_entry
from gateway.enforcement.signing import ForgedError

FIRST = Entry("e", 1, "2026-06-12T21:21:00.000+00:00", "op", "init", "gateway", None, "d" * 64, "all", GENESIS)
SECOND = Entry(
    "e", 2, "2026-06-12T21:22:00.000+00:00", "op", "offline", "m–x", "o-1", "d" * 64, ("alice", "bob"), FIRST.hash
)


@pytest.mark.parametrize("entry", [FIRST, SECOND])
def test_an_entry_is_read_as_it_was_written(signer, entry):
    assert read_entry(entry.sealed(signer), signer) == entry
    assert entry.position.hash == entry.hash


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Entry)])
def test_every_field_is_in_the_hash(field):
    other = dataclasses.replace(SECOND, **{field: 99 if field == "rev" else "other"})
    assert other.hash != SECOND.hash


def test_the_hash_is_stable_across_versions():
    """Evidence that was written once must verify for ever."""
    assert FIRST.hash == "c6671e108684ffa0fb408eb928c55cab65466e36119eb38b0d6807a415e01899"


@pytest.mark.parametrize(
    "field", ["epoch", "rev", "actor", "subject", "doc", "prev", "callers", "order", "hash", "kid", "sig"]
)
def test_nothing_can_be_changed_or_left_out(signer, field):
    stored = json.loads(SECOND.sealed(signer))
    for value in (99, "other", None, ["x"]):
        with pytest.raises(ForgedError):
            read_entry(json.dumps(stored | {field: value}).encode(), signer)
    del stored[field]
    with pytest.raises(ForgedError):
        read_entry(json.dumps(stored).encode(), signer)


def test_a_changed_entry_with_its_new_hash_is_still_forged(signer, stranger):
    changed = dataclasses.replace(SECOND, actor="somebody else")
    stored = json.loads(SECOND.sealed(signer)) | {"actor": changed.actor, "hash": changed.hash}
    with pytest.raises(ForgedError):
        read_entry(json.dumps(stored).encode(), signer)
    with pytest.raises(ForgedError):
        read_entry(changed.sealed(stranger), signer)


def test_an_added_field_is_refused(signer):
    stored = json.loads(SECOND.sealed(signer)) | {"extra": 1}
    with pytest.raises(ForgedError):
        read_entry(json.dumps(stored).encode(), signer)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"1",
        b'"x"',
        b"{}",
        b"\xff",
        b'{"callers":1}',
        b'{"hash":"","kid":"","sig":"","callers":null}',
    ],
)
def test_what_is_no_entry_is_forged(signer, data):
    with pytest.raises(ForgedError):
        read_entry(data, signer)
