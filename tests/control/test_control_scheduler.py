"""What time makes due becomes a revision with a receipt, once, however many look."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from control_harness import APPROVER, OPERATOR, Gate

from gateway.control.scheduler import Scheduler

NOW = datetime.now(UTC)
SOON, LATER = NOW + timedelta(hours=1), NOW + timedelta(hours=2)
NON_US = {"not": {"term": "us-person"}}


def window(begin=None, end=None) -> dict:
    return {name: at.isoformat() for name, at in (("from", begin), ("until", end)) if at is not None}


async def directive(gate: Gate, begin=None, end=None, **fields) -> None:
    body = {"models": ["claude-fable-5"], "who": NON_US, "state": "in_force", "window": window(begin, end), **fields}
    made = await gate.put("/api/v1/directives/d-1", body, If_None_Match="*")
    assert made.status == 200, made.body


async def attestation(gate: Gate, expires: datetime, **headers: str) -> None:
    said = {"terms": {"us-person": True}, "signer": "CEO", "evidence": "letter", "expires": expires.isoformat()}
    made = await gate.put("/api/v1/orgs/acme", {"end_users": "attested", "attestation": said}, **headers)
    assert made.status == 200, made.body


def scheduler(gate: Gate) -> Scheduler:
    return Scheduler(gate.store, gate.receipts)


async def proven(gate: Gate, action: str, subject: str, revision: int) -> None:
    """The newest revision is this, and its receipt says that it is enforced."""
    assert await gate.revision() == revision
    entry = await gate.store.entry(revision)
    assert (entry.actor, entry.action, entry.subject) == ("scheduler", action, subject)
    await gate.settle()
    receipt = await gate.get(f"/api/v1/receipts/{revision}")
    assert (receipt["enforced"], receipt["basis"]) == (True, "all_acked")


async def decision(gate: Gate, caller: str = "demo-acme") -> str:
    return (await gate.post("/api/v1/explain", {"caller": caller, "model": "claude-fable-5"}))["decision"]


EVENTS = {
    "window_begins": ("directives/d-1", lambda gate: directive(gate, SOON, LATER), SOON),
    "window_ends": ("directives/d-1", lambda gate: directive(gate, None, SOON), SOON),
    "attestation_ends": ("orgs/acme", lambda gate: attestation(gate, SOON, If_None_Match="*"), SOON),
}


@pytest.mark.parametrize("action", EVENTS)
async def test_what_is_due_gets_a_revision_and_a_receipt_at_its_moment_and_not_before(gate, action):
    subject, prepare, moment = EVENTS[action]
    await gate.replica()
    await prepare(gate)
    before = await gate.revision()
    await scheduler(gate).look(moment - timedelta(microseconds=1))
    assert await gate.revision() == before
    await scheduler(gate).look(moment)
    await proven(gate, action, subject, before + 1)
    await scheduler(gate).look(moment)
    assert await gate.revision() == before + 1, "once"


@pytest.mark.parametrize("action", EVENTS)
async def test_however_many_look_at_once_it_becomes_one_revision(gate, action):
    _, prepare, moment = EVENTS[action]
    await gate.replica()
    await prepare(gate)
    before = await gate.revision()
    await asyncio.gather(*(scheduler(gate).look(moment) for _ in range(5)), return_exceptions=True)
    assert await gate.revision() == before + 1


async def test_one_after_the_other_each_gets_its_own_revision(gate):
    await gate.replica()
    await directive(gate, SOON, LATER)
    await attestation(gate, SOON, If_None_Match="*")
    before = await gate.revision()
    await scheduler(gate).look(LATER)
    actions = [(await gate.store.entry(rev)).action for rev in range(before + 1, await gate.revision() + 1)]
    assert sorted(actions) == ["attestation_ends", "window_begins", "window_ends"]


async def test_the_end_of_a_window_under_an_order_opens_nothing(gate):
    await gate.replica()
    await directive(gate, None, SOON, order={"authority": "BIS", "reference": "1"})
    before = await gate.revision()
    await scheduler(gate).look(LATER)
    assert await gate.revision() == before
    assert await decision(gate, "demo-chen") == "deny"


async def test_an_attestation_that_is_over_counts_no_more_whatever_a_clock_says(gate):
    """A replica whose clock is behind reads it in the policy."""
    await gate.replica()
    await attestation(gate, SOON, If_None_Match="*")
    await directive(gate)
    assert await decision(gate) == "permit"
    await scheduler(gate).look(SOON)
    assert await decision(gate) == "deny"
    org = await gate.get("/api/v1/orgs/acme")
    assert org["attestation"]["over"] is True
    await attestation(gate, LATER, If_Match=org.headers["ETag"])
    assert await decision(gate) == "permit", "a new one counts"


async def test_an_attestation_under_an_order_is_not_revived_by_one_person(gate):
    await gate.replica()
    await attestation(gate, SOON, If_None_Match="*")
    await directive(gate, order={"authority": "BIS", "reference": "1"})
    await scheduler(gate).look(SOON)
    org = await gate.get("/api/v1/orgs/acme")
    said = {**org["attestation"], "over": False}
    body = {"end_users": "attested", "attestation": said}
    waiting = await gate.put("/api/v1/orgs/acme", body, token=OPERATOR, If_Match=org.headers["ETag"])
    assert (waiting.status, waiting["awaiting"]) == (202, "approval")
    assert await decision(gate) == "deny"
    agreed = await gate.post(f"/api/v1/changes/{waiting['change']}/approve", token=APPROVER)
    assert agreed.status == 200
    assert await decision(gate) == "permit"


async def test_what_was_edited_meanwhile_is_due_no_more(gate, monkeypatch):
    await gate.replica()
    await attestation(gate, SOON, If_None_Match="*")
    looking = scheduler(gate)
    current, calls = gate.store.current, []

    async def overtaken():
        calls.append(1)
        if len(calls) == 2:  # between what was looked at and its commit
            monkeypatch.undo()
            org = await gate.get("/api/v1/orgs/acme")
            await attestation(gate, LATER, If_Match=org.headers["ETag"])
        return await current()

    monkeypatch.setattr(gate.store, "current", overtaken)
    await looking.look(SOON)
    assert await gate.revision() == 3, "the edit's"
    assert "over" not in (await gate.get("/api/v1/orgs/acme"))["attestation"]
