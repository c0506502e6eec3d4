"""A real Envoy and a real nginx in front, by the configurations that `deploy/` ships, with the simulator as provider."""

import copy
import json
import os
import re
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from system import PROVIDERS, ROOT, System, wait_for

ENVOY_EXAMPLE = ROOT / "deploy/envoy/envoy.yaml"
NGINX_EXAMPLE = ROOT / "deploy/nginx/portcullis.conf"
_WHEEL = ROOT / "build/bench/tools/envoy/_bin/envoy"
_KEYS = {
    "anthropic": ("x-api-key", "sim-key"), "gemini": ("x-goog-api-key", "sim-key"), "vertex": ("x-goog-api-key", "sim-key"),
}  # fmt: skip
"""How each provider takes its key, where that is not as a bearer."""

SHOWN = 512 * 1024
"""Bytes of a body that Envoy shows here; less than the example's, so that tests need not send as much."""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def envoy_or_skip() -> str:
    """Envoy's binary: on PATH, or in the wheel that the benchmarks use."""
    found = shutil.which("envoy") or (str(_WHEEL) if _WHEEL.exists() else None)
    if found is None:
        pytest.skip(f"no envoy on PATH, nor its wheel (make {_WHEEL.relative_to(ROOT).parents[2]})")
    if not os.access(found, os.X_OK):
        Path(found).chmod(0o755)
    return found


def nginx_or_skip() -> str:
    found = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if found is None:
        pytest.skip("nginx is not installed")
    return found


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def envoy_config(port: int, gateway: int, simulator: int) -> dict[str, Any]:
    """The example, its addresses changed, with a route for each provider of the scenarios."""
    config = yaml.safe_load(ENVOY_EXAMPLE.read_text())["static_resources"]
    listener = config["listeners"][0]
    listener["address"] = _address(port)
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    asking = manager["http_filters"][0]["typed_config"]
    asking["with_request_body"]["max_request_bytes"] = SHOWN
    asking["http_service"]["server_uri"]["timeout"] = "3s"
    host = manager["route_config"]["virtual_hosts"][0]
    pattern = next(route for route in host["routes"] if route["match"].get("prefix") == "/openai/")
    host["routes"] = [_route(pattern, name) for name in PROVIDERS]
    ours, provider = config["clusters"][0], copy.deepcopy(config["clusters"][2])
    _point(ours, gateway)
    _point(provider, simulator)
    del provider["transport_socket"]
    config["clusters"] = [ours, provider]
    return {"static_resources": config}


def _route(pattern: Any, name: str) -> Any:
    route = copy.deepcopy(pattern)
    route["match"] = {"prefix": f"/{name}/"}
    route["route"] |= {"prefix_rewrite": f"/{name}/", "host_rewrite_literal": "provider"}
    header, value = _KEYS.get(name, ("authorization", "Bearer sim-key"))
    route["request_headers_to_add"][0]["header"] = {"key": header, "value": value}
    return route


def _point(cluster: Any, port: int) -> None:
    cluster["type"] = "STATIC"
    cluster["load_assignment"]["endpoints"] = [{"lb_endpoints": [{"endpoint": {"address": _address(port)}}]}]


def nginx_config(port: int, gateway: int, simulator: int, directory: Path) -> str:
    """The example, its addresses changed, within what every nginx has around it."""
    text = NGINX_EXAMPLE.read_text()
    for pattern, replacement in (
        (r"listen 127\.0\.0\.1:8001;", f"listen 127.0.0.1:{port};"),
        (r"server 127\.0\.0\.1:8080;", f"server 127.0.0.1:{gateway};"),
        (r"server bedrock-runtime\.\S+:443;", f"server 127.0.0.1:{simulator};"),
        (r"proxy_pass https://bedrock;", "proxy_pass http://bedrock/bedrock$request_uri;"),
        (r"include /etc/nginx/portcullis-bedrock-key\.conf;", 'set $bedrock_key "sim-key";'),
    ):
        text, count = re.subn(pattern, replacement, text)
        assert count == 1, pattern
    paths = "".join(
        f"{kind}_temp_path {directory}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return (
        f"daemon off;\nworker_processes 1;\npid {directory}/nginx.pid;\nerror_log {directory}/nginx.log;\n"
        f"events {{ worker_connections 1024; }}\nhttp {{\naccess_log off;\n{paths}{text}}}\n"
    )


def start_envoy(system: System) -> str:
    """Envoy before a system; gives its base URL."""
    binary, port = envoy_or_skip(), free_port()
    file = system.directory / "envoy.json"
    file.write_text(json.dumps(envoy_config(port, _port(system.proxy), _port(system.simulator))))
    log = (system.directory / "envoy.log").open("ab")
    command = [binary, "-c", file, "--concurrency", "2", "--disable-hot-restart", "--log-level", "warning"]
    system.processes["envoy"] = subprocess.Popen(command, stderr=log, stdout=log, start_new_session=True)
    log.close()
    return _answers(system, "envoy", port)


def start_nginx(system: System) -> str:
    """nginx before a system; gives its base URL."""
    binary, port = nginx_or_skip(), free_port()
    file = system.directory / "nginx.conf"
    file.write_text(nginx_config(port, _port(system.proxy), _port(system.simulator), system.directory))
    command = [binary, "-c", file, "-e", system.directory / "nginx.log", "-p", system.directory]
    system.processes["nginx"] = subprocess.Popen(command, start_new_session=True)
    return _answers(system, "nginx", port)


def _port(base: str) -> int:
    port = urlsplit(base).port
    assert port
    return port


def _answers(system: System, name: str, port: int) -> str:
    def listens() -> bool:
        process = system.processes[name]
        assert process.poll() is None, (system.directory / f"{name}.log").read_text()[-2000:]
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    wait_for(listens, name)
    return f"http://127.0.0.1:{port}"
