"""Nginx, twice: as the provider that everybody asks, and as a proxy."""

import json
from pathlib import Path

from bench_processes import Cores, Processes, free_port
from bench_site import MODEL, REFUSE, Pair, Running, Site, which

MODULES = ("ndk_http_module", "ngx_http_lua_module")
MODULE_DIR = Path("/usr/lib/nginx/modules")
STAMP = "@0000000000000000"
"""In an event: when it was sent, in microseconds of CLOCK_MONOTONIC, which all processes of a machine share."""

ANSWER = json.dumps(
    {"id": "chatcmpl-bench", "object": "chat.completion", "model": MODEL,
     "choices": [{"index": 0, "message": {"role": "assistant", "content": "word " * 60}, "finish_reason": "stop"}],
     "usage": {"prompt_tokens": 200, "completion_tokens": 60}},
    separators=(",", ":"),
)  # fmt: skip
EVENT = "data: " + json.dumps(
    {"id": "chatcmpl-bench", "object": "chat.completion.chunk", "created": 1780000000, "model": MODEL,
     "choices": [{"index": 0, "delta": {"content": STAMP}, "finish_reason": None}]},
    separators=(",", ":"),
)  # fmt: skip
REFUSAL = '{"error":{"type":"permission_error","message":"refused"}}'

_NGINX = """
{modules}
daemon off; master_process {master}; worker_processes {workers}; pid {name}.pid; error_log {name}-error.log crit;
{more}
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
  init_by_lua_block {{
    local ffi = require "ffi"
    ffi.cdef[[ typedef struct {{ long sec; long nsec; }} bench_time; int clock_gettime(int clock, bench_time *at); ]]
    local at = ffi.new("bench_time")
    package.loaded.bench_clock = function()
      ffi.C.clock_gettime(1, at)
      return string.format("@%016.0f", tonumber(at.sec) * 1e6 + math.floor(tonumber(at.nsec) / 1e3))
    end
  }}
  server {{
    listen 127.0.0.1:{port} backlog=8192;
    listen 127.0.0.1:{tls_port} ssl backlog=8192;
    {tls}
    default_type application/json;
    location / {{
      if ($http_x_bench_events) {{ rewrite ^ /stream last; }}
      return 200 '{answer}';
    }}
    location /stream {{
      internal; default_type text/event-stream; lua_check_client_abort on;
      content_by_lua_block {{
        ngx.req.read_body()
        ngx.header["X-Accel-Buffering"] = "no"
        local before, after, clock = '{before}', '{after}\\n\\n', package.loaded.bench_clock
        local pause = tonumber(ngx.var.http_x_bench_pause)
        ngx.send_headers(); ngx.flush(true)
        ngx.sleep(pause * math.random())
        for _ = 1, tonumber(ngx.var.http_x_bench_events) do
          if not ngx.print(before, clock(), after) or not ngx.flush(true) then return end
          ngx.sleep(pause)
        end
        ngx.print('data: [DONE]\\n\\n')
      }}
    }}
  }}
"""

_PROXY = """
  upstream u {{ server 127.0.0.1:{upstream}; keepalive 8192; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port} {ssl}backlog=8192;
    {tls}
    location / {{
      if ($http_{refuse}) {{ return 403 '{refusal}'; }}
      proxy_pass {scheme}://u; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_read_timeout 600s; {to_upstream}
    }}
  }}
"""
_TO_UPSTREAM = (
    "proxy_ssl_protocols TLSv1.3; proxy_ssl_verify on; proxy_ssl_name localhost; proxy_ssl_server_name on; "
    "proxy_ssl_trusted_certificate {authority};"
)


def nginx_config(
    name: str, body: str, *, lua: bool = False, master: bool = False, workers: int = 1, more: str = ""
) -> str:
    """A whole configuration: one process, or workers with a master that can be told to reload."""
    modules = "\n".join(f"load_module {MODULE_DIR}/{module}.so;" for module in MODULES) if lua else ""
    return _NGINX.format(
        name=name, modules=modules, body=body, master="on" if master else "off", workers=workers, more=more
    )


def proxy_body(port: int, upstream: int, *, tls: tuple[Pair, Path] | None = None, refuse: str = REFUSE) -> str:
    """The part of a configuration that passes everything on, or refuses what has a header."""
    return _PROXY.format(
        port=port, upstream=upstream, refusal=REFUSAL, refuse=refuse.replace("-", "_"),
        scheme="https" if tls else "http", ssl="ssl " if tls else "", tls=_served(tls[0]) if tls else "",
        to_upstream=_TO_UPSTREAM.format(authority=tls[1]) if tls else "",
    )  # fmt: skip


def upstream_body(port: int, tls_port: int, pair: Pair) -> str:
    """The part of a configuration that is a provider: a static answer, or a stream if a header says so."""
    before, after = EVENT.split(STAMP)
    return _UPSTREAM.format(
        port=port, tls_port=tls_port, tls=_served(pair), answer=ANSWER, before=before, after=after
    )  # fmt: skip


def _served(pair: Pair) -> str:
    return f"ssl_certificate {pair.certificate}; ssl_certificate_key {pair.key}; ssl_protocols TLSv1.3;"


def upstream_missing() -> str | None:
    """Why there can be no upstream."""
    if which("nginx") is None:
        return "no nginx on PATH (Debian: nginx libnginx-mod-http-lua)"
    if not all((MODULE_DIR / f"{module}.so").exists() for module in MODULES):
        return "nginx has no Lua module (Debian: libnginx-mod-http-lua)"
    return None


def start_upstream(directory: Path, cores: Cores, processes: Processes, pair: Pair) -> tuple[int, int]:
    """The provider that is asked. Gives its ports: in the clear, and TLS."""
    port, tls_port = free_port(), free_port()
    config = nginx_config("upstream", upstream_body(port, tls_port, pair), lua=True)
    start_nginx_process("upstream", config, port, directory, cores.upstream, processes)
    return port, tls_port


def start_nginx_process(name: str, config: str, port: int, directory: Path, core: int, processes: Processes) -> int:
    """An nginx with this configuration; gives its pid."""
    path = directory / f"{name}.conf"
    path.write_text(config)
    process = processes.start(name, core, [which("nginx"), "-p", directory, "-c", path])
    processes.listening(name, process, port)
    return process.pid


def start_nginx(site: Site) -> Running:
    """Nginx as a proxy."""
    port = free_port()
    config = nginx_config("nginx", proxy_body(port, site.upstream))
    pid = start_nginx_process("nginx", config, port, site.directory, site.cores.proxy, site.processes)
    return Running(port, (pid,))


def start_nginx_tls(site: Site) -> Running:
    """The same with TLS on both sides."""
    port = free_port()
    config = nginx_config("nginx-tls", proxy_body(port, site.upstream_tls, tls=(site.pair, site.authority)))
    pid = start_nginx_process("nginx-tls", config, port, site.directory, site.cores.proxy, site.processes)
    return Running(port, (pid,), tls=True)
