"""Two people: nobody agrees with a change of their own through somebody whose token they may have."""

import asyncio

import pytest
import pytest_asyncio
from control_harness import APPROVER, OPERATOR, SECOND, Role, start_gate, stop_gate

from gateway.control.bootstrap import appoint

OPERATORS = "/api/v1/operators"
ORDER = {"authority": "US Department of Commerce", "reference": "BIS-2026-0612"}
ALONE = {APPROVER: {Role.APPROVER}, OPERATOR: {Role.OPERATOR}}


@pytest_asyncio.fixture
async def founded(redis_server, tmp_path, monkeypatch):
    """A gateway as it begins: one approver, who has yet to appoint a second."""
    monkeypatch.setattr("control_harness.EVERYONE", ALONE)
    gate = await start_gate(redis_server, tmp_path)
    await gate.replica()
    yield gate
    await stop_gate(gate)


async def appointed(gate, name, by=APPROVER, roles=("approver",)):
    """Somebody new; their token."""
    made = await gate.put(f"{OPERATORS}/{name}", {"roles": list(roles)}, token=by, If_None_Match="*")
    assert made.status == 200, made.body
    return made["token"]


async def replaced(gate, name, token):
    """The token that ``name`` has after whoever has ``token`` replaced it."""
    made = await gate.post(f"{OPERATORS}/{name}/token", token=token)
    assert made.status == 200, made.body
    return made["token"]


async def proposed(gate, token):
    """A change that needs somebody else: the end of a hold under an order, of models that no other hold closes."""
    closed = f"family:nova-{await gate.revision()}"
    held = await gate.post("/api/v1/offline", {"models": [closed], "order": ORDER}, token=token)
    waiting = await gate.post(f"/api/v1/holds/{held['hold']}/release", token=token)
    assert waiting.status == 202, waiting.body
    return waiting["change"]


async def decided(gate, change, token, verb="approve"):
    return (await gate.post(f"/api/v1/changes/{change}/{verb}", token=token)).status


async def counts_as(gate, name):
    return (await gate.get(f"{OPERATORS}/{name}"))["counts_as"]


async def refused(gate, proposer, decider):
    """Neither approves nor rejects; nothing changes, and another hand may still decide."""
    change = await proposed(gate, proposer)
    before = await gate.revision()
    for verb in ("approve", "reject"):
        answer = await gate.post(f"/api/v1/changes/{change}/{verb}", token=decider)
        assert (answer.status, answer.problem) == (403, "forbidden")
    assert await gate.revision() == before
    return change


# ------------------------------------------------------------------------------------------------ puppets


async def test_an_approver_one_appointed_does_not_stand_in_for_another_person(gate):
    puppet = await appointed(gate, "puppet")
    change = await refused(gate, APPROVER, puppet)
    assert await decided(gate, change, SECOND) == 200
    await refused(gate, puppet, APPROVER)
    assert await counts_as(gate, "puppet") == APPROVER


async def test_an_operator_one_appointed_does_not_propose_for_oneself(gate):
    puppet = await appointed(gate, "puppet", roles=["operator"])
    change = await refused(gate, puppet, APPROVER)
    assert await decided(gate, change, SECOND) == 200


async def test_a_chain_of_appointments_is_one_hand(gate):
    first = await appointed(gate, "first")
    second = await appointed(gate, "second", by=first)
    third = await appointed(gate, "third", by=second)
    assert [await counts_as(gate, name) for name in ("first", "second", "third")] == [APPROVER] * 3
    tokens = [APPROVER, first, second, third]
    for proposer in tokens:
        change = await proposed(gate, proposer)
        assert {await decided(gate, change, decider) for decider in tokens} == {403}
        assert await decided(gate, change, SECOND) == 200


async def test_a_token_that_was_replaced_by_another_counts_as_theirs(gate):
    """Taking over an approver, or an operator, by a token."""
    stolen = await replaced(gate, SECOND, APPROVER)
    await refused(gate, APPROVER, stolen)
    await refused(gate, stolen, APPROVER)
    stolen = await replaced(gate, OPERATOR, APPROVER)
    await refused(gate, stolen, APPROVER)


@pytest.mark.parametrize("how", ["another token", "made anew"])
async def test_a_hold_is_not_undone_by_whoever_took_its_makers_token(gate, how):
    hold = (await gate.post("/api/v1/models/claude-fable-5/offline", {"order": ORDER}))["hold"]
    if how == "another token":
        stolen = await replaced(gate, OPERATOR, APPROVER)
    else:
        await gate.delete(f"{OPERATORS}/{OPERATOR}", If_Match='"1"')
        stolen = await appointed(gate, OPERATOR, roles=["operator"])
    answer = await gate.post(f"/api/v1/holds/{hold}/undo", token=stolen)
    assert (answer.status, answer.problem) == (403, "forbidden")
    assert (await gate.post(f"/api/v1/holds/{hold}/release", token=stolen)).status == 202
    assert await gate.state("claude-fable-5") == "offline"


async def test_what_was_proposed_by_a_puppet_stays_ones_own_when_another_takes_its_token(gate):
    puppet = await appointed(gate, "puppet", roles=["operator"])
    change = await proposed(gate, puppet)
    await replaced(gate, "puppet", SECOND)
    assert await decided(gate, change, APPROVER) == 403
    assert await decided(gate, change, SECOND) == 200, "who took the token has not made it"


async def test_ones_own_new_token_does_not_make_one_somebody_else(gate):
    puppet = await replaced(gate, "puppet", await appointed(gate, "puppet"))
    await refused(gate, APPROVER, puppet)


async def test_whom_one_removes_and_appoints_anew_counts_as_oneself(gate):
    await gate.delete(f"{OPERATORS}/{SECOND}", If_Match='"1"')
    puppet = await appointed(gate, SECOND)
    await refused(gate, APPROVER, puppet)


async def test_roles_that_another_gives_leave_the_hand_as_it_is(gate):
    puppet = await appointed(gate, "puppet", roles=["operator"])
    lifted = await gate.put(f"{OPERATORS}/puppet", {"roles": ["approver"]}, token=SECOND, If_Match='"2"')
    assert lifted.status == 200
    change = await refused(gate, APPROVER, puppet)
    assert await decided(gate, change, SECOND) == 200


# ------------------------------------------------------------------------------------------------ another hand


async def test_somebody_else_vouches_for_an_approver_who_has_replaced_the_token(gate):
    vouch = f"{OPERATORS}/third/vouch"
    token = await appointed(gate, "third")
    early = await gate.post(vouch, token=SECOND)
    assert (early.status, early.problem) == (409, "conflict"), "the appointer may know the token"
    own = await replaced(gate, "third", token)
    for hand in (APPROVER, own):
        answer = await gate.post(vouch, token=hand)
        assert (answer.status, answer.problem) == (403, "forbidden")
    assert (await gate.post(vouch, token=SECOND)).status == 200
    assert "counts_as" not in (await gate.get(f"{OPERATORS}/third")).body
    assert (await gate.post(vouch, token=SECOND)).problem == "unchanged"
    change = await proposed(gate, APPROVER)
    assert await decided(gate, change, own) == 200


async def test_a_token_that_is_taken_after_all_takes_the_hand_with_it(gate):
    own = await replaced(gate, "third", await appointed(gate, "third"))
    assert (await gate.post(f"{OPERATORS}/third/vouch", token=SECOND)).status == 200
    await refused(gate, APPROVER, await replaced(gate, "third", APPROVER))
    assert (await gate.get("/api/v1/holds", token=own)).status == 401


# ------------------------------------------------------------------------------------------------ the beginning


@pytest.mark.parametrize("lifted", [False, True])
async def test_the_only_approver_appoints_a_second_one_once(founded, lifted):
    gate = founded
    token = await appointed(gate, "second", roles=["operator"] if lifted else ["approver"])
    if lifted:
        made = await gate.put(f"{OPERATORS}/second", {"roles": ["approver"]}, If_Match='"2"')
        assert made.status == 200
    change = await proposed(gate, APPROVER)
    assert await decided(gate, change, token) == 200
    puppet = await appointed(gate, "puppet")
    await refused(gate, APPROVER, puppet)
    assert (await gate.delete(f"{OPERATORS}/second", If_Match=f'"{3 if lifted else 2}"')).status == 200
    await refused(gate, APPROVER, await appointed(gate, "another"))


async def test_two_second_approvers_at_once_are_not_two(founded):
    gate = founded
    made = await asyncio.gather(
        *(gate.put(f"{OPERATORS}/p{n}", {"roles": ["approver"]}, If_None_Match="*") for n in range(6))
    )
    assert {answer.status for answer in made} <= {200, 409, 412}
    listed = (await gate.get(OPERATORS))["operators"]
    assert sum("counts_as" not in each for each in listed if each["id"].startswith("p")) <= 1


async def test_where_an_approver_is_lost_whoever_has_the_machine_appoints_one(founded):
    gate = founded
    await appointed(gate, "second")
    for name in ("second", "new"):
        token = await appoint(gate.store, name)
        assert await decided(gate, await proposed(gate, APPROVER), token) == 200
        entry = await gate.store.entry((await gate.get(f"{OPERATORS}/{name}"))["changed"])
        assert (entry.actor, entry.action, entry.subject) == ("host", "operator.appoint", f"operators/{name}")


async def test_an_operator_one_appoints_first_is_not_the_second_approver(founded):
    gate = founded
    puppet = await appointed(gate, "puppet", roles=["operator"])
    await refused(gate, puppet, APPROVER)


async def test_operators_of_the_seeds_are_people_of_their_own(founded):
    change = await proposed(founded, OPERATOR)
    assert await decided(founded, change, APPROVER) == 200
