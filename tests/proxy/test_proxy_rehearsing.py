"""``Portcullis-Rehearse``: the refusal of a model that is offline, for one request."""

import pytest
from proxy_harness import OK, post

REHEARSE = "Portcullis-Rehearse: "
MARK = "portcullis-rehearsal"


def told(answer) -> dict:
    """What a refusal says, but for its time and its id."""
    details = answer.json["error"]["portcullis"]
    return {name: value for name, value in details.items() if name not in ("since", "request_id")}


@pytest.mark.parametrize("value", ["gpt-5.4", "model_offline"])
async def test_it_is_the_refusal_of_a_model_that_is_offline(door, client, provider, value):
    rehearsed = await client.ask(post(headers=(REHEARSE + value,)))
    line, counts = door.lines[-1], door.counts
    assert counts["portcullis_rehearsed_total"] == 1
    assert not counts.get("portcullis_blocked_total")
    assert (line["decision"], line["model"], line["reason"]) == ("rehearsed", "gpt-5.4", "model_offline")
    door.close_models("gpt-5.4")
    real = await client.ask(post())
    assert (rehearsed.status, told(rehearsed)) == (real.status, told(real))
    assert rehearsed.json["error"]["message"] == real.json["error"]["message"]
    mine = {name for name, _ in rehearsed.headers}
    assert mine - {name for name, _ in real.headers} == {MARK}
    assert rehearsed.header(MARK) == "gpt-5.4"
    assert told(rehearsed)["alternatives"], "what is offered instead"
    assert provider.connections == 0


@pytest.mark.parametrize("headers", [(), (REHEARSE + "claude-fable-5",), (REHEARSE + "gpt-5.4-mini",)])
async def test_nobody_else_is_concerned(door, client, provider, headers):
    await client.ask(post(headers=(REHEARSE + "gpt-5.4",)))
    client.send(post(headers=headers))
    peer = await provider.accept()
    request = await peer.message()
    assert request.header("portcullis-rehearse") is None
    peer.send(OK)
    assert (await client.message()).status == 200


async def test_what_is_refused_anyway_is_refused_as_it_is(door, client):
    door.close_models("gpt-5.4", public_message="Really.")
    answer = await client.ask(post(headers=(REHEARSE + "gpt-5.4",)))
    assert told(answer)["message"] == "Really."
    assert answer.header(MARK) is None
    assert door.counts["portcullis_blocked_total"] == 1


async def test_a_new_policy_is_rehearsed_upon(door, client):
    first = await client.ask(post(headers=(REHEARSE + "gpt-5.4",)))
    door.close_models(told(first)["alternatives"][0])
    second = await client.ask(post(headers=(REHEARSE + "gpt-5.4",)))
    assert told(second)["alternatives"] == told(first)["alternatives"][1:]


@pytest.mark.parametrize("headers", [(REHEARSE + "gpt-9",), (REHEARSE + "gpt-5.4", REHEARSE + "gpt-5.4"), (REHEARSE,)])
async def test_a_slip_is_told(client, headers):
    answer = await client.ask(post(headers=headers))
    assert (answer.status, answer.reason) == (400, "malformed")
