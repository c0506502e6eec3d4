"""What all exchanges of a worker share."""

import pytest
from proxy_harness import Door, get, post
from samples import ALICE

from gateway.observability.metrics import BY_NAME, Counters, expose
from gateway.policy.decision import Deny, Permit, Reason
from gateway.policy.snapshot import Asked
from gateway.proxy.resolver import Resolver
from gateway.settings import Provider, Settings

ASKED = Asked("openai", ("gpt-5.4",))


@pytest.mark.parametrize(
    ("base_url", "host", "port", "path", "authority"),
    [
        ("http://a.example", "a.example", 80, "", "a.example"),
        ("https://a.example/", "a.example", 443, "", "a.example"),
        ("https://a.example:8443/v/x/", "a.example", 8443, "/v/x", "a.example:8443"),
        ("http://[::1]:81/x", "::1", 81, "/x", "[::1]:81"),
    ],
)
async def test_where_a_provider_is(base_url, host, port, path, authority):
    from gateway.proxy.gate import Upstream

    provider = Provider(dialect="openai", base_url=base_url)
    upstream = Upstream("p", provider, Settings(), Resolver(30.0), Counters())
    pool, dialler = upstream.pool, upstream.pool._dialler
    assert (dialler.host, dialler.port, pool.base_path, pool.authority) == (host, port, path, authority)
    assert (dialler.tls is not None) == base_url.startswith("https")


async def test_the_decision_is_the_policys_while_the_lease_lasts(door):
    assert isinstance(door.gate.decide(ALICE, ASKED, invokes=True), Permit)
    door.close_models("gpt-5.4")
    assert door.gate.decide(ALICE, ASKED, invokes=True).reason is Reason.MODEL_OFFLINE
    assert isinstance(door.gate.decide(ALICE, ASKED, invokes=False), Permit)
    door.end_lease()
    for invokes in (True, False):
        assert door.gate.decide(ALICE, ASKED, invokes=invokes) == Deny(Reason.POLICY_STALE, 2)


async def test_nobody_is_looked_up_without_a_lease(door):
    assert door.gate.may_look_up()
    door.end_lease()
    assert not door.gate.may_look_up()
    door.gate.snapshot = None
    assert not door.gate.may_look_up()


async def test_a_sweep_is_followed_by_the_next(door, until, monkeypatch):
    swept = []
    monkeypatch.setattr(door.gate.providers["openai"].pool, "sweep", swept.append)
    monkeypatch.setattr("gateway.proxy.gate.SWEEP_SECONDS", 0.001)
    door.gate.sweep()
    await until(lambda: len(swept) >= 3)


async def test_a_sweep_ends_what_is_overdue(door, client, until):
    await client.ask(get("/nowhere"))
    for connection in door.gate.connections:
        connection.deadline = 0.0
    door.gate.sweep()
    await client.ends()
    await until(lambda: not door.gate.connections)


async def test_an_empty_gate_that_stops_is_empty_at_once(door):
    door.gate.stop()
    assert (door.gate.draining, door.gate.connections) == (True, set())


async def test_every_sample_is_a_metric_of_the_table(door: Door, client, provider):
    door.close_models("gpt-5.4-mini")
    await client.ask(post(model="gpt-5.4-mini"))
    await client.ask(post("/closed/v1/responses", body=b"{}"))
    client.send(post())
    upstream = await provider.accept()
    await upstream.message()
    samples = door.gate.samples("replica-0")
    upstream.send(b"HTTP/1.1 204 No Content\r\n\r\n")
    await client.head()
    for name, labels, _ in [*samples, *door.gate.samples("replica-0")]:
        assert len(labels) == len(BY_NAME[name].labels), name
    values = {(name, labels): value for name, labels, value in samples}
    assert values["portcullis_in_flight_requests", ("openai",)] == 1
    assert values["portcullis_client_connections", ()] == 1
    assert values["portcullis_policy_revision", ("replica-0",)] == 2
    assert values["portcullis_replica_serving", ("replica-0", "serving")] == 1
    assert values["portcullis_lease_remaining_seconds", ("replica-0",)] > 3000
    text = expose([door.gate.samples("replica-0")]).decode()
    assert 'portcullis_blocked_total{model="gpt-5.4-mini",reason="model_offline"} 1.0' in text
    assert 'portcullis_upstream_duration_seconds_count{provider="openai"} 1.0' in text


async def test_a_hold_shows_at_zero_before_anybody_is_refused(door):
    door.close_models("gpt-5.4")
    text = expose([door.gate.samples("r")]).decode()
    assert 'portcullis_blocked_total{model="gpt-5.4",reason="model_offline"} 0.0' in text


async def test_what_blocks_is_told_by_directive_and_whom_it_hits(door: Door, client):
    door.close_models("gpt-5.4")
    for _ in range(2):
        await client.ask(post())
    samples = {(name, labels): value for name, labels, value in door.gate.samples("r")}
    blocked = "portcullis_blocked_by_restriction_total"
    assert samples[blocked, ("gpt-5.4", "model_offline", "hold")] == 2
    assert samples["portcullis_responses_total", ("openai", "deny", "4xx")] == 2
    hit = door.gate.recorder.hit
    assert hit.samples("r", hit._began) == [("portcullis_callers_blocked", ("gpt-5.4", "r"), 1)]
