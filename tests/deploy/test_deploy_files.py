"""What deploys the gateway, each file by its own tool: Helm, Kubernetes' schemas, systemd, HAProxy, Envoy, nginx, compose."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.settings import Settings, load

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "deploy/helm/portcullis"
TOOLS = ROOT / "build/deploy/tools"
ENVOY = ROOT / "build/bench/tools/envoy/_bin/envoy"
LEAST = {"redis": {"url": "rediss://redis.example:6379/0"}, "keys": {"existingSecret": "keys"}}
MOST = LEAST | {
    "redis": {"url": "rediss://redis.example:6379/0", "existingSecret": "redis"},
    "providerKeys": {"existingSecret": "providers"}, "tls": {"existingSecret": "tls"},
    "autoscaling": {"enabled": True}, "init": {"enabled": True, "contact": "sre@example.com", "information": "https://x"},
    "podAnnotations": {"a": "b"}, "image": {"repository": "r", "tag": "1", "pullPolicy": "Always", "pullSecrets": [{"name": "p"}]},
    "networkPolicy": {"enabled": True, "clients": [{"podSelector": {}}], "operators": [], "redis": [{"podSelector": {}}]},
}  # fmt: skip
KUBERNETES = ("1.30", "1.34")


def run(*command: Any, env: dict[str, str] | None = None) -> None:
    done = subprocess.run(
        [*map(str, command)], capture_output=True, text=True, timeout=60, check=False, env={**os.environ, **(env or {})}
    )
    assert done.returncode == 0, done.stdout + done.stderr


def program(name: str) -> str:
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


@pytest.fixture(scope="module")
def tools():
    """Helm as a library, and the schemas: beside the environment, for nothing else needs them."""
    if not TOOLS.exists():
        pytest.skip(f"make {TOOLS.relative_to(ROOT)}")
    sys.path.append(str(TOOLS))
    yield
    sys.path.remove(str(TOOLS))


def rendered(values: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The chart's objects, by kind and the end of the name."""
    from helm_python import chart

    loaded = chart.Chart.load(CHART)
    texts = [text for name, text in loaded.render(values=values, name="gate").items() if name.endswith(".yaml")]
    objects = [one for text in texts for one in yaml.safe_load_all(text) if one]
    return {one["kind"] + one["metadata"]["name"].removeprefix("gate-portcullis"): one for one in objects}


# ---------------------------------------------------------------------- Helm, Kubernetes


@pytest.mark.parametrize("values", [LEAST, MOST], ids=["least", "most"])
def test_helm_finds_nothing_wrong(tools, values):
    from helm_python import chart

    report = chart.lint(CHART, values=values, strict=True)
    assert report["errors"] == []
    assert [one for one in report["messages"] if one["severity"] > 1] == []


@pytest.mark.parametrize("missing", ["redis", "keys"])
def test_helm_says_what_is_missing(tools, missing):
    with pytest.raises(Exception, match=rf"{missing}\.\w+: "):
        rendered({name: value for name, value in LEAST.items() if name != missing})


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("values", [LEAST, MOST], ids=["least", "most"])
def test_kubernetes_knows_every_field(tools, values, version):
    import kubernetes_validate

    objects = rendered(values)
    assert len(objects) >= 7
    for one in objects.values():
        kubernetes_validate.validate(one, version, strict=True)


@pytest.fixture
def pod(tools):
    return rendered(MOST)["StatefulSet"]["spec"]["template"]["spec"]


def settings_of(container: dict[str, Any], monkeypatch, tmp_path) -> Settings:
    """The settings of a pod, as the gateway reads them: a name that is none would stop the start."""
    for name in [name for name in os.environ if name.startswith("PORTCULLIS_")]:
        monkeypatch.delenv(name)
    for variable in container["env"]:
        monkeypatch.setenv(variable["name"], variable.get("value", "secret"))
    file = tmp_path / "portcullis.toml"
    file.write_text(rendered(MOST)["ConfigMap"]["data"]["portcullis.toml"])
    monkeypatch.delenv("PORTCULLIS_CONFIG")
    return load(file)


def test_the_pods_settings_are_settings(pod, monkeypatch, tmp_path):
    settings = settings_of(pod["containers"][0], monkeypatch, tmp_path)
    assert (settings.proxy.listen, settings.admin.listen) == ("0.0.0.0:8080", "0.0.0.0:8081")
    assert settings.redis.replica_username == "secret"
    mounts = {mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
    files = [settings.signing_key, *settings.public_keys, settings.pseudonym_key, settings.proxy.tls.key]
    files += [provider.api_key_file for provider in settings.providers.values()]
    assert {str(file.parent) for file in files} <= mounts


def test_a_pod_has_time_to_leave(pod, monkeypatch, tmp_path):
    settings = settings_of(pod["containers"][0], monkeypatch, tmp_path)
    sleep = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] >= sleep + settings.proxy.timeouts.shutdown + 10


def test_a_pod_can_do_little(pod):
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["automountServiceAccountToken"] is False
    written = {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
    assert written == {"/var/lib/portcullis", "/tmp"}


def test_probes_ask_what_there_is(pod):
    from gateway.control.routes import ROUTES

    served = {route.path for route in ROUTES}
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert pod["containers"][0][probe]["httpGet"]["path"] in served


def test_nobody_comes_to_the_admin_api_unless_named(tools):
    opened = rendered(LEAST)["NetworkPolicy"]["spec"]["ingress"]
    assert [rule["ports"][0]["port"] for rule in opened] == ["proxy", "admin"]
    assert "from" in opened[1]
    assert [rule["ports"][0]["port"] for rule in rendered(MOST)["NetworkPolicy"]["spec"]["ingress"]] == ["proxy"]


# ---------------------------------------------------------------------- systemd


def unit() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in (ROOT / "deploy/systemd/portcullis.service").read_text().splitlines():
        name, sign, value = line.partition("=")
        if sign and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


def test_systemd_understands_the_unit(tmp_path):
    text = (ROOT / "deploy/systemd/portcullis.service").read_text()
    file = tmp_path / "portcullis.service"
    file.write_text(text.replace("/opt/portcullis/bin/portcullis", sys.executable))  # it wants the program to be there
    run(program("systemd-analyze"), "verify", "--man=no", file)


def test_the_unit_has_time_to_leave_and_descriptors():
    defaults = Settings(_env_file=None)
    assert int(unit()["TimeoutStopSec"][0]) > defaults.proxy.timeouts.shutdown + 5
    assert int(unit()["LimitNOFILE"][0]) >= 2 * defaults.proxy.limits.connections + 256


# ---------------------------------------------------------------------- proxies in front


def test_haproxy_accepts_its_configuration():
    run(program("haproxy"), "-c", "-q", "-f", ROOT / "deploy/haproxy/haproxy.cfg")


def test_haproxy_waits_at_least_as_long_as_the_gateway():
    text = (ROOT / "deploy/haproxy/haproxy.cfg").read_text()
    timeouts = Settings(_env_file=None).proxy.timeouts
    for name, least in (
        ("server", timeouts.first_byte), ("client", timeouts.first_byte), ("tunnel", timeouts.websocket_idle),
    ):  # fmt: skip
        (line,) = [line.split() for line in text.splitlines() if line.split()[:2] == ["timeout", name]]
        assert int(line[2].removesuffix("s")) > least


def test_envoy_accepts_its_configuration():
    envoy = shutil.which("envoy") or (str(ENVOY) if ENVOY.exists() else None)
    if envoy is None:
        pytest.skip(f"make {ENVOY.relative_to(ROOT).parents[2]}")
    Path(envoy).chmod(0o755)
    keys = {"ANTHROPIC_API_KEY": "a", "OPENAI_API_KEY": "b"}
    run(envoy, "--mode", "validate", "-c", ROOT / "deploy/envoy/envoy.yaml", env=keys)


def test_nginx_accepts_its_configuration(tmp_path):
    key = tmp_path / "key.conf"
    key.write_text('set $bedrock_key "k";\n')
    ours = (ROOT / "deploy/nginx/portcullis.conf").read_text()
    ours = ours.replace("/etc/nginx/portcullis-bedrock-key.conf", str(key))
    ours = ours.replace("server bedrock-runtime.us-east-1.amazonaws.com:443;", "server 127.0.0.1:443;")  # no DNS here
    ours = ours.replace("/etc/ssl/certs/ca-certificates.crt", str(certifi()))
    file = tmp_path / "nginx.conf"
    temporary = "".join(
        f"{kind}_temp_path {tmp_path}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    file.write_text(
        f"pid {tmp_path}/pid; error_log stderr; events {{}}\nhttp {{ access_log off; {temporary}\n{ours}}}\n"
    )
    run(program("nginx"), "-t", "-q", "-e", tmp_path / "log", "-c", file)


def certifi() -> str:
    import certifi as authorities

    return authorities.where()


# ---------------------------------------------------------------------- compose


COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]


def test_haproxys_gateways_are_those_of_compose():
    lines = [line.split() for line in (ROOT / "deploy/haproxy/haproxy.cfg").read_text().splitlines()]
    servers = {words[2].partition(":")[0] for words in lines if words[:1] == ["server"]}
    assert servers == {"gateway", "gateway-2"} == set(COMPOSE["haproxy"]["depends_on"])


def test_both_gateways_have_the_same_keys_and_memories_of_their_own(monkeypatch):
    first, second = (COMPOSE[name]["environment"] for name in ("gateway", "gateway-2"))
    assert first.items() <= second.items()
    state = Path("/var/lib/portcullis")
    assert Path(second["PORTCULLIS_STATE_DIR"]).parent == state
    for name in ("PORTCULLIS_SIGNING__KEY_FILE", "PORTCULLIS_PSEUDONYM_KEY_FILE"):
        assert Path(second[name]).parent == state


def test_compose_reads_its_file():
    """Compose's own reader, where it can be had: version 1 is in Debian, version 2 a plugin of Docker's."""
    docker, compose = shutil.which("docker"), shutil.which("docker-compose")
    plugin = docker and not subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode
    if not plugin and compose is None:
        pytest.skip("docker-compose is not installed")
    command = [docker, "compose"] if plugin else [compose]
    keys = {"ANTHROPIC_API_KEY": "a", "OPENAI_API_KEY": "b"}
    done = subprocess.run(
        [*command, "--file", ROOT / "docker-compose.yml", "config"], env={**os.environ, **keys}, capture_output=True,
        text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert yaml.safe_load(done.stdout)["services"].keys() >= COMPOSE.keys() - {"simulator"}
