"""The files that deploy the gateway, against the gateway: no container engine is needed."""

import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from gateway.observability.metrics import BY_NAME
from gateway.settings import SettingsError, load

ROOT = Path(__file__).resolve().parents[2]
DASHBOARDS = {path.stem: json.loads(path.read_text()) for path in (ROOT / "deploy/grafana/dashboards").glob("*.json")}
QUERIES = [
    pytest.param(target, id=f"{name}: {panel['title']} {target['refId']}")
    for name, dashboard in sorted(DASHBOARDS.items())
    for panel in dashboard["panels"]
    for target in panel["targets"]
]
SUFFIXES = ("_bucket", "_sum", "_count")
CORE_PANELS = {"stat", "state-timeline", "table", "timeseries"}
NO_TOOL = "promtool is not installed"


# ---------------------------------------------------------------------- reading


def read_yaml(path):
    return yaml.safe_load(path.read_text())


COMPOSE = read_yaml(ROOT / "docker-compose.yml")
SERVICES = COMPOSE["services"]
OURS = ("gateway", "gateway-2", "init")


def dockerfile():
    """Its instructions, continuation lines joined."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [tuple(line.split(None, 1)) for line in text.splitlines() if line.strip()]


def promtool(*args):
    found = shutil.which("promtool")
    if found is None:
        pytest.skip(NO_TOOL)
    done = subprocess.run([found, *map(str, args)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def ranges_filled(expr):
    expr = re.sub(r"\$__(rate_interval|range|interval)\b", "5m", expr)
    assert "$" not in expr, expr
    return expr


# ---------------------------------------------------------------------- the dashboard


@pytest.mark.parametrize("target", QUERIES)
def test_query_names_metrics_and_labels_that_the_gateway_exposes(target):
    expr = target["expr"]
    names = re.findall(r"\b[a-z]+_[a-z_]*(?:_total|_seconds|_bucket|_sum|_count|_requests|_revision|_offline)\b", expr)
    names = set(names) | set(re.findall(r"\b(?:portcullis|process)_\w+", expr))
    assert names
    labels = {"job", "instance"}
    for name in names:
        base = next((name.removesuffix(s) for s in SUFFIXES if name.endswith(s)), name)
        definition = BY_NAME.get(name) or BY_NAME.get(base)
        assert definition is not None, f"{name} is no metric of the gateway"
        assert (definition.kind == "histogram") == (definition.name != name), f"{name}: {definition.kind}"
        labels |= {*definition.labels, *(["le"] if name.endswith("_bucket") else [])}
    grouped = {label.strip() for group in re.findall(r"\bby \(([^)]*)\)", expr) for label in group.split(",")}
    matched = set(re.findall(r"[{,]\s*(\w+)\s*[=!]", expr))
    shown = set(re.findall(r"{{\s*(\w+)\s*}}", target["legendFormat"]))
    assert grouped | matched | shown <= labels
    assert shown <= grouped, "the legend shows a label that the query sums away"


def test_counters_and_histograms_are_told_apart_by_name():
    for definition in BY_NAME.values():
        assert (definition.kind == "counter") == definition.name.endswith("_total")
        assert not definition.name.endswith(SUFFIXES)


def test_dashboard_shows_what_an_operator_asks_for():
    shown = {name for target in QUERIES for name in re.findall(r"portcullis_\w+", target.values[0]["expr"])}
    assert shown >= {
        "portcullis_models_offline",
        "portcullis_blocked_total",
        "portcullis_requests_total",
        "portcullis_streams_cut_total",
        "portcullis_policy_revision",
        "portcullis_lease_remaining_seconds",
        "portcullis_enforcement_seconds_bucket",
        "portcullis_in_flight_requests",
        "portcullis_upstream_first_byte_seconds_bucket",
    }


def test_every_metric_is_shown_somewhere():
    """But what only tells how long a process has run."""
    shown = {
        name for target in QUERIES for name in re.findall(r"\b(?:portcullis|process)_\w+", target.values[0]["expr"])
    }
    shown = {next((name.removesuffix(s) for s in SUFFIXES if name.endswith(s)), name) for name in shown}
    assert BY_NAME.keys() - shown == {"process_start_time_seconds", "portcullis_drill_interval_seconds"}


@pytest.mark.parametrize("name", ["availability", "gate", "enforcement"])
def test_dashboard_is_made_by_its_script(name):
    assert DASHBOARDS.keys() == {"availability", "gate", "enforcement"}
    script = runpy.run_path(str(ROOT / "deploy/grafana/build.py"))
    file = ROOT / f"deploy/grafana/dashboards/{name}.json"
    assert file.read_text() == script["dashboard"](name), "run: python deploy/grafana/build.py"


@pytest.mark.parametrize("name", DASHBOARDS)
def test_dashboard_needs_no_plugin_and_the_datasource_that_is_provisioned(name):
    dashboard = DASHBOARDS[name]
    (source,) = read_yaml(ROOT / "deploy/grafana/provisioning/datasources/prometheus.yml")["datasources"]
    assert dashboard["uid"] == f"portcullis-{name}"
    assert {panel["type"] for panel in dashboard["panels"]} <= CORE_PANELS
    targets = [target for panel in dashboard["panels"] for target in panel["targets"]]
    used = [part["datasource"] for part in (*dashboard["panels"], *targets)]
    assert all(each == {"type": source["type"], "uid": source["uid"]} for each in used)


@pytest.mark.parametrize("name", DASHBOARDS)
def test_panels_have_their_own_ids_and_do_not_overlap(name):
    panels = DASHBOARDS[name]["panels"]
    ids = [panel["id"] for panel in panels]
    assert len(ids) == len(set(ids))
    cells = [
        (x, y)
        for g in (panel["gridPos"] for panel in panels)
        for x in range(g["x"], g["x"] + g["w"])
        for y in range(g["y"], g["y"] + g["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24


def test_promtool_parses_every_query(tmp_path):
    rules = [
        {"record": f"dashboard:query:{number}", "expr": ranges_filled(target.values[0]["expr"])}
        for number, target in enumerate(QUERIES)
    ]
    file = tmp_path / "rules.yml"
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))  # JSON is YAML
    promtool("check", "rules", file)


# ---------------------------------------------------------------------- Prometheus, Grafana


def test_promtool_accepts_the_configuration():
    promtool("check", "config", ROOT / "deploy/prometheus/prometheus.yml")


def test_prometheus_scrapes_the_admin_listener():
    prometheus = read_yaml(ROOT / "deploy/prometheus/prometheus.yml")
    port = SERVICES["gateway"]["environment"]["PORTCULLIS_ADMIN__LISTEN"].rpartition(":")[2]
    assert prometheus["scrape_configs"][0]["static_configs"][0]["targets"] == [f"gateway:{port}", f"gateway-2:{port}"]


def test_the_datasource_knows_how_often_prometheus_scrapes():
    (source,) = read_yaml(ROOT / "deploy/grafana/provisioning/datasources/prometheus.yml")["datasources"]
    prometheus = read_yaml(ROOT / "deploy/prometheus/prometheus.yml")
    assert source["jsonData"]["timeInterval"] == prometheus["global"]["scrape_interval"]
    assert source["url"] == "http://prometheus:9090"


def test_grafana_finds_the_dashboard_where_compose_mounts_it():
    (provider,) = read_yaml(ROOT / "deploy/grafana/provisioning/dashboards/portcullis.yml")["providers"]
    mounts = dict(mount.split(":")[:2] for mount in SERVICES["grafana"]["volumes"])
    assert mounts["./deploy/grafana/dashboards"] == provider["options"]["path"]
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{provider['options']['path']}/availability.json"


# ---------------------------------------------------------------------- compose


def image_environment():
    """What the Dockerfile's last stage sets."""
    stage = []
    for instruction, words in dockerfile():
        stage = [] if instruction == "FROM" else stage
        stage += shlex.split(words) if instruction == "ENV" else []
    return dict(word.split("=", 1) for word in stage)


def settings_of(monkeypatch, environment):
    """The settings as a container with this environment would read them."""
    for name in [name for name in os.environ if name.startswith("PORTCULLIS_")]:
        monkeypatch.delenv(name)
    for name, value in {**image_environment(), **environment}.items():
        if name != "PATH":
            monkeypatch.setenv(name, value.split(":?")[-1] if value.startswith("${") else value)
    return load(ROOT / "config/portcullis.toml")


@pytest.mark.parametrize("service", OURS)
def test_environment_names_real_settings(monkeypatch, service):
    settings = settings_of(monkeypatch, SERVICES[service]["environment"])
    assert settings.redis.url == "redis://redis:6379/0"
    assert settings.proxy.listen == "0.0.0.0:8080"


@pytest.mark.parametrize("name", ["PORTCULLIS_ADMIN__LISTN", "PORTCULLIS_REDIS_URL", "PORTCULLIS_NOTHING"])
def test_environment_that_names_no_setting_is_found(monkeypatch, name):
    with pytest.raises(SettingsError):
        settings_of(monkeypatch, {name: "x"})


def test_admin_api_is_on_loopback_unless_compose_opens_it(monkeypatch):
    assert settings_of(monkeypatch, {}).admin.listen == "127.0.0.1:8081"
    assert settings_of(monkeypatch, SERVICES["gateway"]["environment"]).admin.listen == "0.0.0.0:8081"


def test_every_configured_provider_gets_its_key_and_must(monkeypatch):
    environment = SERVICES["gateway"]["environment"]
    settings = settings_of(monkeypatch, environment)
    wanted = {provider.api_key_env for provider in settings.providers.values()} - {None}
    assert wanted == {name for name in environment if not name.startswith("PORTCULLIS_")}
    assert all(re.fullmatch(rf"\${{{name}:\?.+}}", environment[name]) for name in wanted)
    assert all(provider.key() for provider in settings.providers.values())


def test_no_secret_is_written_down():
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            if re.search(r"KEY|TOKEN|PASSWORD|SECRET", name) and not name.endswith("_FILE"):
                assert value.startswith("${"), name


def test_everything_is_published_on_loopback_only():
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(ports) >= 3
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert "ports" not in SERVICES["redis"]


def test_redis_is_private_and_durable():
    redis = SERVICES["redis"]
    assert redis["networks"] == ["store"]
    assert COMPOSE["networks"]["store"] == {"internal": True}
    command = redis["command"]
    options = dict(zip(command[1::2], command[2::2], strict=True))
    assert options["--appendonly"] == "yes"
    assert options["--appendfsync"] == "always"
    assert options["--maxmemory-policy"] == "noeviction"
    assert "redis:/data" in redis["volumes"]


def test_volumes_and_networks_are_declared_and_mounted_files_exist():
    for service in SERVICES.values():
        assert set(service["networks"]) <= set(COMPOSE["networks"])
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
            assert (ROOT / source).exists() if source.startswith(".") else source in COMPOSE["volumes"]


@pytest.mark.parametrize("service", OURS)
def test_our_containers_can_do_little(service):
    ours = SERVICES[service]
    assert ours["read_only"] is True
    assert ours["cap_drop"] == ["ALL"]
    assert "state:/var/lib/portcullis" in ours["volumes"]


def test_the_gateway_has_time_to_leave(monkeypatch):
    settings = settings_of(monkeypatch, SERVICES["gateway"]["environment"])
    assert int(SERVICES["gateway"]["stop_grace_period"].removesuffix("s")) > settings.proxy.timeouts.shutdown + 5


def test_docker_compose_agrees_where_it_is_installed():
    """Compose is optional on a developer's machine, so that its absence is no skip: the tests above need none."""
    docker = shutil.which("docker")
    command = [docker, "compose", "--file", ROOT / "docker-compose.yml", "config", "--format", "json"]
    if (
        docker is None
        or subprocess.run([*command[:2], "version"], capture_output=True, timeout=30, check=False).returncode
    ):
        return
    keys = {"ANTHROPIC_API_KEY": "a", "OPENAI_API_KEY": "b"}
    done = subprocess.run(command, env={**os.environ, **keys}, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    services = json.loads(done.stdout)["services"]
    assert services.keys() == SERVICES.keys()
    for name, service in services.items():
        assert service.get("environment", {}).keys() == SERVICES[name].get("environment", {}).keys()


# ---------------------------------------------------------------------- the image


def test_image_runs_serve_as_nobody_in_particular():
    last = dict(dockerfile())
    assert json.loads(last["ENTRYPOINT"]) == ["portcullis"]
    assert json.loads(last["CMD"]) == ["serve"]
    assert last["USER"] == "10001:10001"
    assert last["VOLUME"] == image_environment()["PORTCULLIS_STATE_DIR"] == "/var/lib/portcullis"


def test_image_installs_from_the_lock_by_hash_and_fetches_nothing_else():
    commands = [command for instruction, words in dockerfile() if instruction == "RUN" for command in words.split("&&")]
    pips = [command.split() for command in commands if re.search(r"/bin/pip (install|wheel) ", command)]
    assert len(pips) == 4
    for words in pips:
        locked = "--require-hashes" in words and words[-2:-1] == ["-r"] and (ROOT / words[-1]).exists()
        assert locked or {"--no-index", "--no-deps"} <= set(words), words


def test_health_check_is_python_that_asks_livez():
    (check,) = [words for instruction, words in dockerfile() if instruction == "HEALTHCHECK"]
    python, _, code = json.loads(check.split("CMD", 1)[1])
    assert python == "python"
    assert "'/livez'" in code
    compile(code, "HEALTHCHECK", "exec")


def test_what_the_image_copies_is_in_its_context():
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = [words for instruction, words in dockerfile() if instruction == "COPY" and not words.startswith("--from")]
    for source in {source for words in copied for source in words.split()[:-1]}:
        assert (ROOT / source).exists()
        assert source.split("/")[0] in allowed
