"""What is known about a caller may be known until a day only."""

from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from gateway.identity.records import Attributes, CallerRecord, dump
from gateway.policy.caller import Kind

DAY = datetime(2026, 6, 12, tzinfo=UTC)


def record(**attributes):
    return CallerRecord(id="alice", kind=Kind.PERSON, attributes=Attributes(**attributes))


def test_attributes_end_to_be_known():
    caller = record(nationality={"US"}, expires="2026-06-12T02:00:00+02:00").caller()
    assert caller.expires == DAY.timestamp()
    assert caller.at(DAY.timestamp() - 1).facts.nationality == {"US"}
    assert caller.at(DAY.timestamp()).facts.nationality is None
    assert caller.at(DAY.timestamp()).facts.kind is Kind.PERSON


def test_without_a_day_they_stay():
    assert record(nationality={"US"}).caller().expires is None


def test_a_day_without_a_zone_is_refused():
    with pytest.raises(ValidationError):
        record(expires="2026-06-12T00:00:00")


def test_a_record_is_stored_with_its_day():
    stored = record(nationality={"US"}, expires=DAY)
    assert CallerRecord.model_validate_json(dump(stored)) == stored
