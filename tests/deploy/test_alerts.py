"""Every alert fires on its cause and on nothing else, as promtool plays it; each has a runbook."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from test_deploy import read_yaml

from gateway.observability.metrics import BY_NAME, ERROR_REASONS
from gateway.policy.decision import Reason
from gateway.proxy.recorder import POLICY_REASONS

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "deploy/prometheus/rules/portcullis.yml"
GROUPS = read_yaml(RULES)["groups"]
ALERTS = {rule["alert"]: rule for group in GROUPS for rule in group["rules"] if "alert" in rule}
RECORDED = {rule["record"]: rule for group in GROUPS for rule in group["rules"] if "record" in rule}
RUNBOOKS = (ROOT / "docs/runbooks.md").read_text()
SUFFIXES = ("_bucket", "_sum", "_count")

J = 'job="portcullis", instance="g"'
R = f'{J}, replica="r0"'
EVER = "1+0x60"
"""A value that stays, for all the minutes that are played."""

Series = dict[str, str]


def requests(**shares: float) -> Series:
    """Requests per minute by reason; ``ok`` are those that are served."""
    return {
        f'portcullis_requests_total{{{J}, reason="{"" if reason == "ok" else reason}"}}': f"0+{share}x60"
        for reason, share in shares.items()
    }


def rises(name: str, *labels: str, at: int = 5) -> Series:
    """A counter that goes up by one in the given minute."""
    return {f"{name}{{{', '.join((J, *labels))}}}": f"0x{at - 1} 1x60"}


def stays(name: str, value: float, *labels: str) -> Series:
    return {f"{name}{{{', '.join((J, *labels))}}}": f"{value}+0x60"}


CASES: dict[str, tuple[str, Series, Series]] = {
    "PortcullisErrorBudgetBurn": ("20m", requests(ok=980, policy_stale=20), requests(ok=100, model_offline=900, restricted=900, overloaded=1)),
    "PortcullisErrorBudgetDrain": ("30m", requests(ok=9980, overloaded=20), requests(ok=10, unknown_model=990, unauthenticated=90)),
    "PortcullisDown": ("10m", stays("up", 0), stays("up", 1)),
    "PortcullisNotServing": ("10m", stays("portcullis_workers", 0, 'state="serving"'), stays("portcullis_workers", 1, 'state="serving"')),
    "PortcullisWorkerCrashLoop": ("10m", {f"portcullis_worker_restarts_total{{{J}}}": "0+1x20"}, rises("portcullis_worker_restarts_total")),
    "PortcullisWorkersMissing": ("10m", stays("portcullis_workers", 1, 'state="down"'), stays("portcullis_workers", 1, 'state="leaving"')),
    "PortcullisInternalErrors": ("8m", rises("portcullis_internal_errors_total"), stays("portcullis_internal_errors_total", 7)),
    "PortcullisUpstreamErroring": (
        "10m",
        {f'portcullis_responses_total{{{J}, provider="p", decision="permit", code="5xx"}}': "0+6x30", f'portcullis_responses_total{{{J}, provider="p", decision="permit", code="2xx"}}': "0+94x30"},
        {f'portcullis_responses_total{{{J}, provider="p", decision="deny", code="5xx"}}': "0+50x30", f'portcullis_responses_total{{{J}, provider="p", decision="permit", code="4xx"}}': "0+94x30"},
    ),
    "PortcullisUpstreamQueue": ("5m", stays("portcullis_upstream_queue", 3, 'provider="p"'), {f'portcullis_upstream_queue{{{J}, provider="p"}}': "0 0 0 0 9 0 0 0"}),
    "PortcullisNearLimit": (
        "5m",
        stays("portcullis_buffered_bytes", 90) | stays("portcullis_buffered_bytes_limit", 100),
        stays("portcullis_client_connections", 70) | stays("portcullis_client_connections_limit", 100),
    ),
    "PortcullisWorkerBusy": ("20m", {f"process_cpu_seconds_total{{{R}}}": "0+58x30"}, {f"process_cpu_seconds_total{{{R}}}": "0+40x30", f'process_cpu_seconds_total{{{J}, replica="control"}}': "0+60x30"}),
    "PortcullisLogLinesLost": ("8m", rises("portcullis_log_lines_dropped_total"), stays("portcullis_log_lines_dropped_total", 5)),
    "PortcullisSpansLost": ("8m", rises("portcullis_spans_dropped_total"), stays("portcullis_spans_dropped_total", 5)),
    "PortcullisCertificateRefused": ("8m", rises("portcullis_certificate_reloads_total", 'result="refused"'), rises("portcullis_certificate_reloads_total", 'result="loaded"')),
    "PortcullisModelOffline": ("5m", stays("portcullis_models_offline", 1, 'model="m"'), stays("portcullis_models_restricted", 1, 'model="m"')),
    "PortcullisReplicaStale": ("5m", stays("portcullis_lease_remaining_seconds", -3, 'replica="r"'), stays("portcullis_lease_remaining_seconds", 3, 'replica="r"')),
    "PortcullisLeaseLow": (
        "5m",
        stays("portcullis_lease_remaining_seconds", 6, 'replica="r"') | stays("portcullis_lease_seconds", 15, 'replica="r"'),
        stays("portcullis_lease_remaining_seconds", 0.7, 'replica="r"') | stays("portcullis_lease_seconds", 1, 'replica="r"'),
    ),
    "PortcullisRedisUnreachable": ("5m", {f"portcullis_renew_failures_total{{{R}}}": "0+30x20"}, rises("portcullis_renew_failures_total", 'replica="r"')),
    "PortcullisRevisionsApart": ("5m", stays("portcullis_policy_revision", 4, 'replica="a"') | stays("portcullis_policy_revision", 5, 'replica="b"'), stays("portcullis_policy_revision", 5, 'replica="a"') | stays("portcullis_policy_revision", 5, 'replica="b"')),
    "PortcullisPolicyUnread": ("5m", stays("portcullis_policy_unread", 1, 'replica="a"'), stays("portcullis_policy_unread", 0, 'replica="a"')),
    "PortcullisForged": ("8m", rises("portcullis_forged_total", 'what="policy"'), stays("portcullis_forged_total", 2, 'what="policy"')),
    "PortcullisHistoryDiverged": ("8m", rises("portcullis_fenced_total", 'replica="r"'), stays("portcullis_fenced_total", 0, 'replica="r"')),
    "PortcullisProvenByExpiry": ("8m", rises("portcullis_enforcement_seconds_count", 'basis="lease_expiry"'), rises("portcullis_enforcement_seconds_count", 'basis="all_acked"')),
    "PortcullisEnforcementSlow": (
        "30m",
        {f'portcullis_enforcement_seconds_bucket{{{J}, basis="all_acked", le="1"}}': "0+9x60", f'portcullis_enforcement_seconds_count{{{J}, basis="all_acked"}}': "0+10x60"},
        {f'portcullis_enforcement_seconds_bucket{{{J}, basis="all_acked", le="1.0"}}': "0+10x60", f'portcullis_enforcement_seconds_count{{{J}, basis="all_acked"}}': "0+10x60"},
    ),
    "PortcullisLateWrites": ("8m", rises("portcullis_late_writes_total"), stays("portcullis_late_writes_total", 1)),
    "PortcullisDeniedModelAnswered": ("8m", {f'portcullis_response_model_denied_total{{{J}, provider="p", model="m"}}': "_x4 1x60"}, stays("portcullis_blocked_total", 9, 'model="m"')),
    "PortcullisLocalHold": ("5m", stays("portcullis_local_holds", 1), stays("portcullis_local_holds", 0)),
    "PortcullisLedgerFailing": ("8m", rises("portcullis_ledger_failures_total"), stays("portcullis_ledger_failures_total", 3)),
    "PortcullisDrillFailed": ("8m", rises("portcullis_drills_total", 'result="failed"'), rises("portcullis_drills_total", 'result="passed"')),
    "PortcullisDrillOverdue": (
        "30m",
        stays("portcullis_drill_interval_seconds", 60) | stays("process_start_time_seconds", 0, 'replica="control"'),
        stays("portcullis_drill_interval_seconds", 0) | stays("process_start_time_seconds", 0, 'replica="control"'),
    ),
}  # fmt: skip
"""What is played, and when it is looked at: series that make the alert fire, and series that are like them and do not."""


def played(name: str, *, fires: bool) -> dict:
    at, loud, quiet = CASES[name]
    series = loud if fires else quiet
    if not any(one.startswith("up{") for one in series):
        series = series | stays("up", 1)
    expr = f'count by (alertname) (ALERTS{{alertname="{name}", alertstate="firing"}})'
    samples = [{"labels": f'{{alertname="{name}"}}', "value": 1}] if fires else []
    return {
        "interval": "1m",
        "input_series": [{"series": each, "values": values} for each, values in series.items()],
        "promql_expr_test": [{"expr": expr, "eval_time": at, "exp_samples": samples}],
    }


def promtool(*args: object) -> None:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not installed")
    done = subprocess.run([found, *map(str, args)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_played():
    assert CASES.keys() == ALERTS.keys()


@pytest.mark.parametrize("fires", [True, False], ids=["firing", "quiet"])
def test_promtool_plays_every_alert(tmp_path, fires):
    file = tmp_path / "tests.json"
    tests = [played(name, fires=fires) for name in CASES]
    file.write_text(json.dumps({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": tests}))
    promtool("test", "rules", file)


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_has_a_severity_a_summary_and_a_runbook(name):
    rule = ALERTS[name]
    assert rule["labels"]["severity"] in ("page", "ticket", "info")
    assert rule["annotations"]["summary"].endswith(".")
    assert rule["annotations"]["runbook_url"] == f"docs/runbooks.md#{name.lower()}"
    section = re.search(rf"^## {name}\n(.*?)(?=^## |\Z)", RUNBOOKS, re.MULTILINE | re.DOTALL)
    assert section, f"docs/runbooks.md has no section {name}"
    for word in ("**Means**", "**Look**", "**Do**"):
        assert word in section[1], f"{name}: {word}"


def test_every_runbook_has_an_alert():
    assert re.findall(r"^## (\w+)$", RUNBOOKS, re.MULTILINE) == list(ALERTS)


@pytest.mark.parametrize("name", [*ALERTS, *RECORDED])
def test_rules_name_metrics_and_labels_that_there_are(name):
    expr = (ALERTS | RECORDED).get(name)["expr"]
    for metric in re.findall(r"\b(?:portcullis_\w+|process_\w+)", expr):
        base = next((metric.removesuffix(s) for s in SUFFIXES if metric.endswith(s)), metric)
        definition = BY_NAME.get(metric) or BY_NAME[base]
        for selector in re.findall(rf"\b{metric}\{{([^}}]*)\}}", expr):
            labels = set(re.findall(r"(\w+)\s*[=!]", selector)) - {"job", "instance"}
            assert labels <= {*definition.labels, *(["le"] if metric.endswith("_bucket") else [])}, metric
    for recorded in re.findall(r"\bportcullis:[\w:]+", expr):
        assert recorded in RECORDED


def test_only_failures_of_the_gateway_burn_the_error_budget():
    """Refusals by policy are the gateway's work; what providers fail is an alert of its own."""
    for rule in RECORDED.values():
        (reasons,) = re.findall(r'reason=~"([^"]*)"', rule["expr"])
        assert tuple(reasons.split("|")) == ERROR_REASONS
    assert not set(ERROR_REASONS) & POLICY_REASONS
    assert set(ERROR_REASONS) <= set(Reason)


def test_inhibitions_name_alerts_that_there_are():
    text = (ROOT / "deploy/prometheus/alertmanager.yml").read_text()
    named = set(
        re.findall(
            r"\bPortcullis(\w+)\b",
            re.sub(r"Portcullis\(([^)]*)\)", lambda m: " ".join(f"Portcullis{x}" for x in m[1].split("|")), text),
        )
    )
    assert {f"Portcullis{name}" for name in named} <= ALERTS.keys()
    assert len(named) > 10


def test_amtool_accepts_the_configuration():
    found = shutil.which("amtool")
    if found is None:
        pytest.skip("amtool is not installed")
    done = subprocess.run(
        [found, "check-config", ROOT / "deploy/prometheus/alertmanager.yml"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
