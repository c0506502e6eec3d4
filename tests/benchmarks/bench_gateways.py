"""Other gateways for model APIs, in Python and in JavaScript: ``make bench-python-gateways`` installs them.

They read each request and answer and write them anew, as their users get it. They run in few rows: they are slow.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from bench_processes import BenchError, free_port, with_children
from bench_site import BUILD, KEY, MODEL, ROOT, Running, Site, which

LITELLM = BUILD / "litellm" / "bin" / "litellm"
PORTKEY = BUILD / "portkey" / "node_modules" / "@portkey-ai" / "gateway" / "build" / "start-server.js"
ROWS, POSTS = ("post-64", "sse-400"), ("post-64",)
START_SECONDS = 300.0
"""LiteLLM imports for half a minute where nothing else runs."""

QUIET = {
    "LITELLM_LOG": "ERROR",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "NO_DOCS": "True",
    "LITELLM_TELEMETRY": "False",
}


def missing(program: Path) -> Callable[[], str | None]:
    """Why one cannot be run."""
    if program == PORTKEY and which("node") is None:
        return lambda: "no node on PATH (Debian: nodejs)"
    place = program.relative_to(ROOT)
    return lambda: None if program.exists() else f"no {place} (make bench-python-gateways)"


def litellm_config(upstream: int) -> dict[str, Any]:
    """LiteLLM's proxy with one model and one key, no database, no log of requests."""
    parameters = {"model": f"openai/{MODEL}", "api_base": f"http://127.0.0.1:{upstream}/openai/v1", "api_key": "k"}
    return {
        "model_list": [{"model_name": MODEL, "litellm_params": parameters}],
        "general_settings": {"master_key": f"sk-{KEY}", "forward_client_headers_to_llm_api": True},
        "litellm_settings": {"telemetry": False, "num_retries": 0},
    }


def start_litellm(site: Site) -> Running:
    """LiteLLM's proxy, one worker."""
    port = free_port()
    path = site.directory / "litellm.json"  # JSON is YAML
    path.write_text(json.dumps(litellm_config(site.upstream)))
    command = [LITELLM, "--config", path, "--host", "127.0.0.1", "--port", port, "--num_workers", 1]
    process = site.processes.start("litellm", site.cores.proxy, command, env=os.environ | QUIET)
    site.processes.listening("litellm", process, port, START_SECONDS)
    pids = tuple(member.pid for member in with_children(process.pid))
    running = Running(port, pids, path="/v1/chat/completions", headers=(("Authorization", f"Bearer sk-{KEY}"),))
    _ask_once(running)
    return running


def _ask_once(running: Running) -> None:
    """LiteLLM imports the rest at its first request, for seconds.

    Raises:
        BenchError: it does not answer.
    """
    body = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}).encode()
    headers = {"Content-Type": "application/json", **dict(running.headers)}
    try:
        with urlopen(Request(running.url, data=body, headers=headers), timeout=START_SECONDS) as response:
            response.read()
    except OSError as error:
        raise BenchError(f"litellm does not answer: {error}") from error


def start_portkey(site: Site) -> Running:
    """Portkey's gateway: the provider is named by headers. Loopback has to be allowed to it.

    It runs in no row of streams: 1.15.2 answers them with 500 (``TypeError: immutable``, of a response's headers).
    """
    port = free_port()
    env = os.environ | {"TRUSTED_CUSTOM_HOSTS": "127.0.0.1,localhost", "NODE_ENV": "production"}
    command = [which("node"), PORTKEY, f"--port={port}", "--headless"]
    process = site.processes.start("portkey", site.cores.proxy, command, env=env)
    site.processes.listening("portkey", process, port)
    headers = (
        ("x-portkey-provider", "openai"),
        ("x-portkey-custom-host", f"http://127.0.0.1:{site.upstream}/openai/v1"),
    )
    return Running(port, (process.pid,), path="/v1/chat/completions", headers=headers)


def litellm_version() -> str:
    """Of the one that is installed; nothing if none is."""
    found = sorted(LITELLM.parents[1].glob("lib/python*/site-packages/litellm-*.dist-info"))
    return found[0].name.removeprefix("litellm-").removesuffix(".dist-info") if found else ""


def portkey_version() -> str:
    """Of the one that is installed; nothing if none is."""
    package = PORTKEY.parents[1] / "package.json"
    return str(json.loads(package.read_text())["version"]) if package.exists() else ""
