"""``python deploy/grafana/build.py``: writes ``dashboards/*.json`` from the tables below; a test holds them to it.

A panel is a row; where it stands follows from its order: each row of a dashboard is filled from the left, 24 wide.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

HERE = Path(__file__).resolve().parent / "dashboards"
SOURCE = {"type": "prometheus", "uid": "portcullis-prometheus"}
RATE = "[$__rate_interval]"

Colour = tuple[str, float | None]


@dataclass(frozen=True)
class Panel:
    """A panel. ``queries`` are expressions with their legends; ``steps`` are thresholds: colour, and from when."""

    kind: Literal["stat", "timeseries", "table", "state-timeline"]
    title: str
    description: str
    queries: tuple[tuple[str, str], ...]
    width: int = 8
    unit: str = "none"
    steps: tuple[Colour, ...] = (("green", None),)
    more: tuple[tuple[str, Any], ...] = ()


def stat(title: str, description: str, expr: str, unit: str = "none", *steps: Colour, **more: Any) -> Panel:
    """One number, as it is now."""
    return Panel(
        "stat", title, description, ((expr, "__auto"),), 4, unit, steps or (("blue", None),), tuple(more.items())
    )


def series(
    title: str, description: str, *queries: tuple[str, str], unit: str = "none", width: int = 8, **more: Any
) -> Panel:
    """Lines over time."""
    return Panel("timeseries", title, description, queries, width, unit, more=tuple(more.items()))


def table(title: str, description: str, expr: str, *columns: str, width: int = 8) -> Panel:
    """Numbers, one row for each set of labels; ``columns`` are the labels, then the value's name."""
    return Panel("table", title, description, ((expr, "__auto"),), width, more=(("columns", columns),))


def timeline(title: str, description: str, expr: str, legend: str, word: str, colour: str, width: int = 16) -> Panel:
    """A bar for each series for as long as it is there."""
    return Panel(
        "state-timeline", title, description, ((expr, legend),), width, more=(("word", word), ("colour", colour))
    )


def quantiles(metric: str, label: str, *shares: str, over: str = RATE) -> tuple[tuple[str, str], ...]:
    """Quantiles of a histogram by a label, each with its legend; without a range, over all that was ever counted."""
    inner = f"rate({metric}_bucket{over})" if over else f"{metric}_bucket"
    return tuple(
        (f"histogram_quantile({share}, sum by (le, {label}) ({inner}))", f"{{{{{label}}}}} p{share[2:]}")
        for share in shares
    )


# ---------------------------------------------------------------------- the dashboards

_BLOCKED = "Requests refused by policy since the gateway started"
_ERRORS = 'portcullis_requests_total{reason=~"policy_stale|overloaded|internal"}'

AVAILABILITY = (
    stat(
        "Models off",
        "Models that a hold closes. Unknown while no replica has a lease; while Redis is away, what was off last.",
        "count(max by (model) (portcullis_models_offline)) or 0 * count(portcullis_lease_remaining_seconds > 0)",
        "none", ("green", None), ("red", 1), noValue="unknown",
    ),
    stat(
        "Models restricted", "Models on which a directive is in force.",
        "count(max by (model) (portcullis_models_restricted)) or 0 * count(portcullis_lease_remaining_seconds > 0)",
        "none", ("green", None), ("orange", 1), noValue="unknown",
    ),
    stat("Blocked in total", f"{_BLOCKED}.", "sum(portcullis_blocked_total) or 0 * count(portcullis_policy_revision)"),
    stat(
        "Clients hit, at least",
        "Different callers refused by policy in the last five to ten minutes: at least as many as one replica refused.",
        "max(sum by (replica) (portcullis_callers_blocked)) or 0 * count(portcullis_policy_revision)",
    ),
    stat("In flight", "Requests decided and not ended.", "sum(portcullis_in_flight_requests)"),
    stat(
        "Shortest lease", "Remaining, of all replicas. At 0 a replica refuses everything.",
        "clamp_min(min(portcullis_lease_remaining_seconds), -60)", "s", ("red", None), ("orange", 0), ("green", 1),
        decimals=1,
    ),
    timeline(
        "What is off", "One line for each model while a hold closes it.", "max by (model) (portcullis_models_offline)",
        "{{model}}", "off", "red",
    ),
    table(
        "Blocked, total", f"{_BLOCKED}, exactly.", "sum by (model, reason) (portcullis_blocked_total)",
        "model", "reason", "Blocked",
    ),
    timeline(
        "What is restricted", "One line for each model while a directive is in force on it.",
        "max by (model) (portcullis_models_restricted) > bool 0", "{{model}}", "restricted", "orange",
    ),
    table(
        "Blocked, by restriction", "By the directive that spoke; every hold is \"hold\". The log has each hold's id.",
        "sum by (restriction, model, reason) (portcullis_blocked_by_restriction_total)",
        "restriction", "model", "reason", "Blocked",
    ),
    series(
        "Blocked per second, by model and reason",
        "A rate needs two scrapes: what was refused before a pair's first scrape is only in the total.",
        (f"sum by (model, reason) (rate(portcullis_blocked_total{RATE}))", "{{model}} {{reason}}"),
        unit="reqps", width=12, stack=True,
    ),
    series(
        "Requests per second, by decision", "permit, deny, rehearsed, or none: ended before a decision.",
        (f"sum by (decision) (rate(portcullis_requests_total{RATE}))", "{{decision}}"), unit="reqps", width=12, stack=True,
    ),
    series(
        "Streams cut, total", "Requests cut in flight since the gateway started. Not a rate: all are cut at one moment.",
        ("sum by (model, reason) (portcullis_streams_cut_total)", "{{model}} {{reason}}"), step=True,
    ),
    series(
        "Clients hit, by model",
        "Different callers refused by policy in the last five to ten minutes: between the two, as some come to several replicas.",
        ("max by (model) (portcullis_callers_blocked)", "{{model}} at least"),
        ("sum by (model) (portcullis_callers_blocked)", "{{model}} at most"), step=True,
    ),
    series(
        "Would be blocked per second", "Permits that a directive in shadow would have refused, and rehearsals of clients.",
        (f"sum by (model, restriction) (rate(portcullis_would_deny_total{RATE}))", "{{model}} {{restriction}}"),
        (f"sum by (model) (rate(portcullis_rehearsed_total{RATE}))", "{{model}} rehearsed"),
        unit="reqps",
    ),
    series(
        "In flight, by provider", "Requests decided and not ended.",
        ("sum by (provider) (portcullis_in_flight_requests)", "{{provider}}"), stack=True,
    ),
    series(
        "First byte, by provider", "From sending a request to the head of the provider's response.",
        *quantiles("portcullis_upstream_first_byte_seconds", "provider", "0.50", "0.99"), unit="s",
    ),
    series(
        "Revision, by replica", "The revision that a replica has applied.",
        ("max by (replica) (portcullis_policy_revision)", "{{replica}}"), step=True,
    ),
    series(
        "Enforcement, by basis", "From a commit to its proof on every replica, over all since the gateway started.",
        *quantiles("portcullis_enforcement_seconds", "basis", "0.50", "0.99", over=""), unit="s", step=True,
    ),
)  # fmt: skip

GATE = (
    stat("Requests per second", "All that ended.", f"sum(rate(portcullis_requests_total{RATE}))", "reqps"),
    stat(
        "Refused by failure", "Of all requests: refused with policy_stale, overloaded or internal. The objective is 0.1 %.",
        f"sum(rate({_ERRORS}{RATE})) / sum(rate(portcullis_requests_total{RATE}))", "percentunit",
        ("green", None), ("orange", 0.001), ("red", 0.0144), decimals=2, noValue="no requests",
    ),
    stat(
        "Added before sending, p50",
        "From a request's head to its sending upstream, the client's own upload included.",
        f"histogram_quantile(0.50, sum by (le) (rate(portcullis_admission_seconds_bucket{RATE})))", "s",
        ("green", None), ("orange", 0.01), ("red", 0.1), noValue="no requests",
    ),
    stat("Client connections", "Open.", "sum(portcullis_client_connections)"),
    stat(
        "Workers serving", "Of this job.", 'sum(portcullis_workers{state="serving"})', "none", ("red", None), ("green", 1)
    ),
    stat("Restarts", "Workers that died and were started again.", "sum(portcullis_worker_restarts_total)",
         "none", ("green", None), ("orange", 1)),
    series(
        "Responses per second, by class and origin",
        "permit: the provider's own; deny: the gateway's refusals, by policy or by failure.",
        (f"sum by (decision, code) (rate(portcullis_responses_total{RATE}))", "{{decision}} {{code}}"),
        unit="reqps", width=12, stack=True,
    ),
    series(
        "Refused per second, by reason", "All reasons: policy, clients' mistakes, failures.",
        (f'sum by (reason) (rate(portcullis_requests_total{{decision="deny"}}{RATE}))', "{{reason}}"),
        unit="reqps", width=12, stack=True,
    ),
    series(
        "Failures per second, by provider and cause", "Exchanges that a provider failed.",
        (f"sum by (provider, cause) (rate(portcullis_upstream_failures_total{RATE}))", "{{provider}} {{cause}}"),
        unit="reqps",
    ),
    series(
        "Provider's errors", "Share of a provider's own answers that are 5xx.",
        (
            f'sum by (provider) (rate(portcullis_responses_total{{decision="permit", code="5xx"}}{RATE}))'
            f' / sum by (provider) (rate(portcullis_responses_total{{decision="permit"}}{RATE}))',
            "{{provider}}",
        ),
        unit="percentunit",
    ),
    series(
        "Failures of its own", "Defects, writes after a lease, lost log lines and spans: all should stay at 0.",
        (f"sum(rate(portcullis_internal_errors_total{RATE}))", "internal errors"),
        (f"sum(rate(portcullis_late_writes_total{RATE}))", "late writes"),
        (f"sum(rate(portcullis_log_lines_dropped_total{RATE}))", "log lines lost"),
        (f"sum(rate(portcullis_spans_dropped_total{RATE}))", "spans lost"),
        (f"sum(rate(portcullis_tls_failures_total{RATE}))", "handshakes failed"),
    ),
    series(
        "Admission, by provider", "Latency added before sending: body, decision, wait for a connection.",
        *quantiles("portcullis_admission_seconds", "provider", "0.50", "0.99"), unit="s",
    ),
    series(
        "First byte, by provider", "From sending to the head of the provider's response.",
        *quantiles("portcullis_upstream_first_byte_seconds", "provider", "0.50", "0.99"), unit="s",
    ),
    series(
        "Duration, by provider", "From sending to the end of the response.",
        *quantiles("portcullis_upstream_duration_seconds", "provider", "0.50", "0.99"), unit="s",
    ),
    series(
        "Saturation", "In use, of what there may be. At 1 what comes is refused or waits.",
        ("sum(portcullis_client_connections) / sum(portcullis_client_connections_limit)", "client connections"),
        ("sum(portcullis_buffered_bytes) / sum(portcullis_buffered_bytes_limit)", "buffered bytes"),
        ('max(process_open_fds{replica!=""} / process_max_fds)', "descriptors"),
        (
            "sum by (provider) (portcullis_upstream_connections) / sum by (provider) (portcullis_upstream_connections_limit)",
            "to {{provider}}",
        ),
        unit="percentunit",
    ),
    series(
        "Waiting for a connection", "Requests for which all connections to a provider are busy.",
        ("sum by (provider) (portcullis_upstream_queue)", "{{provider}}"),
    ),
    series(
        "CPU, by replica", "Of one core; a worker can use one.",
        (f'sum by (replica) (rate(process_cpu_seconds_total{{replica!=""}}{RATE}))', "{{replica}}"), unit="percentunit",
    ),
    series(
        "Memory, by replica", "Resident.", ('max by (replica) (process_resident_memory_bytes{replica!=""})', "{{replica}}"),
        unit="bytes",
    ),
    series(
        "Bodies that wait", "Bytes in memory and on disk, and how many bodies are on disk.",
        ("sum(portcullis_buffered_bytes)", "bytes"), ("sum(portcullis_spooled_bodies)", "on disk"), unit="bytes",
    ),
    series(
        "Connections", "Clients', providers', WebSockets, streams of availability.",
        ("sum(portcullis_client_connections)", "clients"),
        ("sum by (provider) (portcullis_upstream_connections)", "to {{provider}}"),
        ("sum by (provider) (portcullis_websockets)", "WebSockets {{provider}}"),
        ("sum(portcullis_availability_watchers)", "availability"),
    ),
    series(
        "Workers", "What they are doing.", ("sum by (state) (portcullis_workers)", "{{state}}"), step=True, stack=True
    ),
    series(
        "Tasks and descriptors, by replica", "What only grows leaks.",
        ("max by (replica) (portcullis_worker_tasks)", "{{replica}} tasks"),
        ('max by (replica) (process_open_fds{replica!=""})', "{{replica}} descriptors"),
    ),
    table("Versions", "What runs.", "count by (version, instance) (portcullis_build_info)", "instance", "version", "Processes"),
)  # fmt: skip

ENFORCEMENT = (
    stat(
        "Revisions apart", "Between the replica that is furthest ahead and the one furthest behind.",
        "max(portcullis_policy_revision) - min(portcullis_policy_revision)", "none", ("green", None), ("orange", 1),
    ),
    stat(
        "Shortest lease", "Remaining, of all replicas. At 0 a replica refuses everything.",
        "clamp_min(min(portcullis_lease_remaining_seconds), -60)", "s", ("red", None), ("orange", 0), ("green", 1),
        decimals=1,
    ),
    stat(
        "Enforced within",
        "99 of 100 changes since the gateway started were proven on every replica within this time (interpolated).",
        "histogram_quantile(0.99, sum by (le) (portcullis_enforcement_seconds_bucket))", "s",
        ("green", None), ("orange", 1), ("red", 5), decimals=2, noValue="no change yet",
    ),
    stat(
        "Since a drill passed", "The switch was last used, end to end, so long ago.",
        "time() - max(portcullis_drill_last_success_timestamp_seconds)", "s", ("green", None), ("orange", 86400),
        noValue="never",
    ),
    stat(
        "Not of this gateway's making", "Found in Redis, and not believed.",
        "sum(portcullis_forged_total) + sum(portcullis_ledger_forged_total)", "none", ("green", None), ("red", 1),
    ),
    stat(
        "Holds here alone", "Of a machine that cannot reach Redis.", "sum(portcullis_local_holds)",
        "none", ("green", None), ("orange", 1),
    ),
    series(
        "Revision, by replica", "The revision that a replica has applied.",
        ("max by (replica) (portcullis_policy_revision)", "{{replica}}"), step=True, width=12,
    ),
    series(
        "Lease remaining, by replica",
        "Until the default lease ends; at 0 the replica refuses everything. Cut off at a minute past the end.",
        ("clamp_min(min by (replica) (portcullis_lease_remaining_seconds), -60)", "{{replica}}"),
        ("min(portcullis_lease_seconds)", "whole lease"), unit="s", width=12, below=True,
    ),
    series(
        "Replicas, by state", "boot, sync, serving, stale, draining, fenced.",
        ("sum by (state) (portcullis_replica_serving)", "{{state}}"), step=True, stack=True,
    ),
    series(
        "Renewals without an answer, per second", "Redis is slow, or away.",
        (f"sum by (replica) (rate(portcullis_renew_failures_total{RATE}))", "{{replica}}"), unit="cps",
    ),
    series(
        "Alarms, total", "Somebody else's writing, another history, parts that cannot be read: all should stay at 0.",
        ("sum by (what) (portcullis_forged_total)", "forged: {{what}}"),
        ("sum(portcullis_ledger_forged_total)", "forged: ledger"),
        ("sum(portcullis_fenced_total)", "fenced"),
        ("sum(portcullis_regressions_total)", "empty or behind"),
        ("sum(portcullis_forks_total)", "another story"),
        ("sum(portcullis_nacks_total)", "not read whole"),
        ("max(portcullis_policy_unread)", "parts unread"),
        ("sum(portcullis_response_model_denied_total)", "answered as a denied model"), step=True,
    ),
    series(
        "Commit to proof", "Quantiles over all changes since the gateway started, by what proved them.",
        *quantiles("portcullis_enforcement_seconds", "basis", "0.50", "0.99", over=""), unit="s", step=True,
    ),
    series(
        "Receipts, total", "Changes, by what proved them.",
        ("sum by (basis) (portcullis_enforcement_seconds_count)", "{{basis}}"), step=True,
    ),
    series(
        "Streams cut, total", "Requests cut in flight.",
        ("sum by (reason) (portcullis_streams_cut_total)", "{{reason}}"), step=True,
    ),
    series(
        "Drills, total", "How they ended.", ("sum by (result) (portcullis_drills_total)", "{{result}}"), step=True
    ),
    series(
        "Steps of drills", "The slowest half and the slowest of a hundred, since the gateway started.",
        *quantiles("portcullis_drill_seconds", "step", "0.50", "0.99", over=""), unit="s", step=True,
    ),
    series(
        "Signed heads of the evidence, total", "By where they went.",
        ("sum by (place, result) (portcullis_evidence_heads_total)", "{{place}} {{result}}"), step=True,
    ),
    series(
        "Evidence not kept", "Times it could not be written down, and decision records that nobody took.",
        ("sum by (cause) (portcullis_evidence_failures_total)", "{{cause}}"),
        ("sum by (sink) (portcullis_decision_records_lost_total)", "records lost: {{sink}}"), step=True,
    ),
    table(
        "Directives", "Of the policy, by state.", "max by (state) (portcullis_directives)", "state", "Directives"
    ),
    series(
        "Certificates, total", "Changed ones, loaded or refused.",
        ("sum by (place, result) (portcullis_certificate_reloads_total)", "{{place}} {{result}}"), step=True,
    ),
    series(
        "Ledger", "Times Redis did not take what was to be remembered.",
        ("sum(portcullis_ledger_failures_total)", "failures"), step=True,
    ),
)  # fmt: skip

DASHBOARDS: dict[str, tuple[str, str, tuple[Panel, ...]]] = {
    "availability": ("Availability", "What is off or restricted, whom it meets, what was cut.", AVAILABILITY),
    "gate": ("Gate", "Rates, errors, latency, saturation.", GATE),
    "enforcement": ("Enforcement", "Whether every replica enforces the policy: leases, receipts, drills.", ENFORCEMENT),
}


# ---------------------------------------------------------------------- as Grafana reads them


def dashboard(name: str) -> str:
    """A dashboard's file."""
    title, description, panels = DASHBOARDS[name]
    links = [
        {"title": other, "type": "link", "url": f"/d/portcullis-{key}", "icon": "dashboard", "keepTime": True}
        for key, (other, _, _) in DASHBOARDS.items()
        if key != name
    ]
    whole = {
        "uid": f"portcullis-{name}", "title": f"Portcullis: {title.lower()}", "description": description,
        "tags": ["portcullis"], "schemaVersion": 42, "version": 1, "id": None, "editable": False, "graphTooltip": 1,
        "fiscalYearStartMonth": 0, "time": {"from": "now-1h", "to": "now"}, "timepicker": {}, "timezone": "browser",
        "refresh": "5s", "liveNow": False, "annotations": {"list": []}, "links": links, "templating": {"list": []},
        "panels": list(_placed(panels)),
    }  # fmt: skip
    return json.dumps(whole, indent=1) + "\n"


def _placed(panels: tuple[Panel, ...]) -> Iterator[dict[str, Any]]:
    x = y = tall = 0
    for number, panel in enumerate(panels, 1):
        if x + panel.width > 24:
            x, y, tall = 0, y + tall, 0
        height = 4 if panel.kind == "stat" else 8
        yield _panel(panel) | {"id": number, "gridPos": {"x": x, "y": y, "w": panel.width, "h": height}}
        x, tall = x + panel.width, max(tall, height)


def _panel(panel: Panel) -> dict[str, Any]:
    more = dict(panel.more)
    defaults: dict[str, Any] = {
        "unit": panel.unit,
        "color": {"mode": "thresholds"},
        "thresholds": {"mode": "absolute", "steps": [{"color": c, "value": v} for c, v in panel.steps]},
    }
    defaults |= {key: more[key] for key in ("decimals", "noValue") if key in more}
    shown = {
        "type": panel.kind, "title": panel.title, "description": panel.description, "datasource": SOURCE,
        "targets": [_target(panel, letter, *query) for letter, query in zip("ABCDEFGH", panel.queries, strict=False)],
        "fieldConfig": {"defaults": defaults, "overrides": []},
    }  # fmt: skip
    return shown | _KINDS[panel.kind](defaults, more)


def _target(panel: Panel, letter: str, expr: str, legend: str) -> dict[str, Any]:
    how = {"instant": True, "range": False, "format": "table"} if panel.kind == "table" else {"range": True}
    return {"datasource": SOURCE, "refId": letter, "expr": expr, "legendFormat": legend, "editorMode": "code"} | how


def _stat(defaults: dict[str, Any], _: dict[str, Any]) -> dict[str, Any]:
    defaults.setdefault("noValue", "unknown")
    options = {
        "colorMode": "background", "graphMode": "none", "justifyMode": "auto", "orientation": "auto",
        "textMode": "value", "wideLayout": True,
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
    }  # fmt: skip
    return {"options": options, "timeFrom": "1m", "hideTimeOverride": True}


def _timeseries(defaults: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    defaults["color"] = {"mode": "palette-classic"}
    if not more.get("below"):
        defaults["min"] = 0
    defaults["custom"] = {
        "drawStyle": "line", "lineInterpolation": "stepAfter" if more.get("step") else "linear", "lineWidth": 1,
        "fillOpacity": 10, "showPoints": "auto", "spanNulls": False,
        "stacking": {"mode": "normal" if more.get("stack") else "none", "group": "A"},
    }  # fmt: skip
    legend = {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []}
    return {"options": {"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}}}


def _table(defaults: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    defaults["custom"] = {"align": "auto", "cellOptions": {"type": "auto"}}
    *labels, value = more["columns"]
    organise = {
        "excludeByName": {"Time": True},
        "indexByName": {name: at for at, name in enumerate((*labels, "Value"))},
        "renameByName": {label: label.capitalize() for label in labels} | {"Value": value},
    }
    options = {"showHeader": True, "cellHeight": "sm", "sortBy": [{"displayName": value, "desc": True}]}
    return {"options": options, "transformations": [{"id": "organize", "options": organise}]}


def _timeline(defaults: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    defaults |= {
        "noValue": "nothing",
        "mappings": [{"type": "value", "options": {"1": {"text": more["word"], "color": more["colour"], "index": 0}}}],
        "custom": {"fillOpacity": 80, "lineWidth": 0, "spanNulls": False},
    }
    options = {
        "mergeValues": True, "showValue": "never", "alignValue": "left", "rowHeight": 0.8,
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": False},
        "tooltip": {"mode": "single", "sort": "none"},
    }  # fmt: skip
    return {"options": options}


_KINDS = {"stat": _stat, "timeseries": _timeseries, "table": _table, "state-timeline": _timeline}


if __name__ == "__main__":
    for each in DASHBOARDS:
        (HERE / f"{each}.json").write_text(dashboard(each))
