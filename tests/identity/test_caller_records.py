"""Keys, and callers as they are stored."""

import re

import pytest
from pydantic import ValidationError
from samples import AT

from gateway.identity.keys import MAX_CREDENTIAL, fingerprint, new_key
from gateway.identity.records import Attributes, CallerRecord, Key, OperatorRecord, Role, dump
from gateway.policy.caller import Facts, Kind

DIGEST = fingerprint("k")


def test_a_key_is_long_random_and_has_a_public_id():
    made = {new_key("pc") for _ in range(100)}
    assert len(made) == 100
    for key_id, key in made:
        assert re.fullmatch(rf"pc_{key_id}_[A-Za-z0-9_-]{{43}}", key)
        assert len(key) < MAX_CREDENTIAL


def test_a_fingerprint_is_its_sha_256():
    assert fingerprint("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert fingerprint("\udcff") != fingerprint("?"), "any bytes have one"


def test_what_is_known_becomes_facts_and_what_is_not_stays_so():
    known = Attributes(nationality={"US", "FR"}, legal_status={"us-protected-individual"})
    record = CallerRecord(id="a", kind=Kind.PERSON, org="acme", attributes=known, pseudonym="p")
    caller = record.caller()
    assert (caller.id, caller.pseudonym) == ("a", "p")
    assert caller.facts == Facts(
        Kind.PERSON, "acme", frozenset({"US", "FR"}), None, None, frozenset({"us-protected-individual"})
    )


MISTAKES = [
    {"id": "has blanks"},
    {"id": ""},
    {"kind": "robot"},
    {"attributes": {"nationality": []}},
    {"attributes": {"nationality": ["usa"]}},
    {"attributes": {"nationality": ["us"]}},
    {"attributes": {"nationality": ["USA"]}},
    {"attributes": {"religion": ["x"]}},
    {"keys": {"k": {"sha256": "x", "created": AT}}},
    {"keys": {"k": {"sha256": DIGEST.upper(), "created": AT}}},
    {"keys": {"k": {"sha256": DIGEST, "created": "2026-06-12T21:21:00"}}},
    {"keys": {f"k{n}": {"sha256": DIGEST, "created": AT} for n in range(51)}},
    {"pseudonym": "x" * 65},
    {"surprise": 1},
]


@pytest.mark.parametrize("fields", MISTAKES)
def test_what_is_no_caller_is_refused(fields):
    with pytest.raises(ValidationError):
        CallerRecord.model_validate({"id": "a", "kind": "person", **fields})


@pytest.mark.parametrize("code", ["US", "XXA", "XXB", "XXC"])
def test_countries(code):
    assert Attributes(nationality={code}).nationality == {code}


def test_whose_key_it_is():
    record = CallerRecord(id="a", kind=Kind.PERSON, keys={"k": Key(sha256=DIGEST, created=AT)})
    assert record.holds(DIGEST)
    assert not record.holds(fingerprint("other"))
    assert not record.holds("")


def test_the_same_record_has_the_same_bytes():
    one = CallerRecord(id="a", kind=Kind.PERSON, attributes=Attributes(nationality=["FR", "US", "DE"]))
    other = CallerRecord(id="a", kind=Kind.PERSON, attributes=Attributes(nationality=["DE", "US", "FR"]))
    assert dump(one) == dump(other)
    assert CallerRecord.model_validate_json(dump(one)) == one
    operator = OperatorRecord(id="o", roles={Role.APPROVER, Role.OPERATOR, Role.VIEWER}, token_sha256=DIGEST)
    assert OperatorRecord.model_validate_json(dump(operator)) == operator
    assert b'["approver","operator","viewer"]' in dump(operator)


def test_an_operator_has_a_role():
    with pytest.raises(ValidationError):
        OperatorRecord(id="o", roles=set(), token_sha256=DIGEST)
