"""A real Prometheus scrapes a real gateway: what dashboards ask has answers, what alerts tell comes to Alertmanager.

All alerts: ``python tests/scenarios/alerts.py``.
"""

import asyncio
import json
import re

import pytest
from alerts import CAUSES, UNPLAYED, a_certificate_is_broken, a_model_goes_off, nothing, redis_dies, watched
from system import ROOT, until
from watching import FACTOR, missing, scaled

RULES = (ROOT / "deploy/prometheus/rules/portcullis.yml").read_text()
ALERTS = re.findall(r"- alert: (\w+)", RULES)

EMPTY = {
    "availability: Would be blocked per second": "no directive is in shadow",
    "gate: Failures per second, by provider and cause": "no provider fails before one is made to",
    "gate: Provider's errors": "none answered 5xx",
    "enforcement: Alarms, total": "no provider answered as a model that is denied",
    "enforcement: Signed heads of the evidence, total": "heads go nowhere else where no place is set",
    "enforcement: Evidence not kept": "all of it was written down, and taken",
    "enforcement: Steps of drills": "a step is counted when it first ends; NaN before",
}
"""Panels that have nothing to show in a gateway in order, and why."""


def queries() -> list[tuple[str, str]]:
    """Every panel's queries, with the range that Grafana would fill in."""
    found = []
    for file in sorted((ROOT / "deploy/grafana/dashboards").glob("*.json")):
        for panel in json.loads(file.read_text())["panels"]:
            for target in panel["targets"]:
                expr = target["expr"].replace("$__rate_interval", "4s")
                found.append((f"{file.stem}: {panel['title']}", expr))
    return found


def test_durations_are_scaled_wherever_they_stand():
    assert scaled("for: 1m\n  interval: 15s\n x[5m] offset 1h\ngroup_wait: 10s") == (
        "for: 3000ms\n  interval: 750ms\n x[15000ms] offset 180000ms\ngroup_wait: 500ms"
    )
    assert not re.search(r"(for|interval): \d+[smhd]\b|\[\d+[smhd]\]", scaled(RULES))
    assert FACTOR == 20


def test_every_alert_has_a_cause_or_says_why_not():
    caused = [f"Portcullis{name}" for _, names in CAUSES for name in names]
    assert sorted([*caused, *UNPLAYED]) == sorted(ALERTS)


@pytest.mark.skipif(bool(missing()), reason=f"not installed: {', '.join(missing())}")
async def test_what_is_asked_has_an_answer_and_what_happens_is_told():
    async with watched() as world:
        system, watch = world.system, world.watch
        system.run("restrict", "claude-opus-4-5", "--only", "us-person")
        body = {"model": "claude-opus-4-5", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
        await until(lambda: _answers(world, body, "demo-chen", 403), "a refusal")
        world.keep(lambda: world.post("/anthropic/v1/messages", body, "demo-chen"), 0.1)
        await nothing(world)
        await until(lambda: watch.query("portcullis_certificate_reloads_total"), "a scrape")
        await a_model_goes_off(world)
        world.keep(lambda: world.chat("gpt-5.4"), 0.1)
        await a_certificate_is_broken(world)
        drilled = 'portcullis_drills_total{result="passed"}'
        await until(lambda: _at_least(system, drilled, 1), "a drill")
        told = {"LogLinesLost", "SpansLost", "ModelOffline", "CertificateRefused"}
        fired = await watch.until_received({f"Portcullis{name}" for name in told})
        for alert in fired.values():
            assert "{{" not in alert["annotations"]["summary"]
            assert re.fullmatch(r"docs/runbooks\.md#portcullis\w+", alert["annotations"]["runbook_url"])

        silent = {}
        for panel, expr in queries():
            if not await watch.query(expr):
                silent.setdefault(panel, []).append(expr)
        assert silent.keys() <= EMPTY.keys(), silent
        for expr in re.findall(r"expr: \|\n((?: {10}.*\n)+)", scaled(RULES)):
            await watch.query(expr)

        before = len(watch.receiver.got)
        await redis_dies(world)
        names = {
            "PortcullisRedisUnreachable",
            "PortcullisReplicaStale",
            "PortcullisErrorBudgetBurn",
            "PortcullisLocalHold",
        }
        await watch.until_received(names)
        assert [(await system.ask_admin("GET", path)).status for path in ("/livez", "/readyz")] == [200, 200]
        states = await watch.received()
        assert states["PortcullisRedisUnreachable"] == "active"
        assert {states[f"Portcullis{name}"] for name in ("ReplicaStale", "ErrorBudgetBurn")} == {"suppressed"}, (
            "one cause, one alert"
        )
        pages = [
            alert["labels"]["alertname"]
            for one in watch.receiver.got[before:]
            for alert in one["alerts"]
            if alert["labels"]["severity"] == "page"
        ]
        print(f"\nRedis is killed: {sorted(names)} fire; pages sent: {sorted(set(pages))}")


async def _answers(world, body, key, status) -> bool:
    return await world.post("/anthropic/v1/messages", body, key) == status


async def _at_least(system, name, count) -> bool:
    await asyncio.sleep(0.1)
    return (await system.metrics()).get(name, 0) >= count
