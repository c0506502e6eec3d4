"""Ours, with all that it does in service: policy, caller check, counters, a JSON log line per request, a real Redis."""

import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from bench_processes import BenchError, free_port, wait_for, with_children
from bench_site import KEY, KILLED, MODEL, ROOT, Running, Site

from gateway.embedded import find_server

COMPILED = ROOT / "build" / "compiled"
"""Where ``make compiled`` puts the gateway with its data plane as native code."""

TOKEN, REGISTRAR = "bench-operator", "bench-registrar"
CALLERS = 12_000
"""Callers that a gateway's cache does not know when a run begins; more than any asks for."""

MANY_DIRECTIVES = 1_000
PREFIX = "PORTCULLIS_"
TIMEOUT = 120


def seeds(*, directives: int = 1, callers: int = 0) -> str:
    """Operators, callers and directives. What is asked for is permitted only because its caller is a US person."""
    lines = [
        f'[operators.bench]\nroles = ["operator", "approver"]\ntoken = "{TOKEN}"',
        f'[operators.registrar]\nroles = ["registrar"]\ntoken = "{REGISTRAR}"',
        f'[callers.bench]\nkind = "person"\nkey = "{KEY}"\nattributes = {{ nationality = ["US"] }}',
    ]
    for number in range(directives):
        who = '{ not = { term = "us-person" } }' if number == 0 else f'{{ org = {{ any_of = ["org-{number}"] }} }}'
        lines.append(f'[directives.d-{number}]\nmodels = ["{MODEL}"]\nstate = "in_force"\nwho = {who}')
    person = 'kind = "person"\nattributes = { nationality = ["US"] }'
    lines += [f'[callers.c-{number}]\nkey = "{KEY}-{number}"\n{person}' for number in range(callers)]
    return "\n\n".join(lines) + "\n"


def gateway_env(directory: Path, port: int, admin: int, upstream: str, workers: int) -> dict[str, str]:
    """The settings of a gateway in front of the upstream, everything on; the log goes to a file."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    return inherited | {
        PREFIX + "STATE_DIR": str(directory / "state"),
        PREFIX + "PROXY__LISTEN": f"127.0.0.1:{port}",
        PREFIX + "PROXY__WORKERS": str(workers),
        PREFIX + "ADMIN__LISTEN": f"127.0.0.1:{admin}",
        PREFIX + "REDIS__URL": f"unix://{directory}/redis.sock",
        PREFIX + "LOG__FILE": str(directory / "requests.log"),
        PREFIX + "PROVIDERS__OPENAI__BASE_URL": f"{upstream}/openai",
        PREFIX + "PROVIDERS__OPENAI__DIALECT": "openai",
        PREFIX + "PROVIDERS__OPENAI__API_KEY": "provider-key",
    }


def tls_env(site: Site) -> dict[str, str]:
    """What is set besides for TLS on both sides."""
    return {
        PREFIX + "PROXY__TLS__CERTIFICATE": str(site.pair.certificate),
        PREFIX + "PROXY__TLS__KEY": str(site.pair.key),
        PREFIX + "PROXY__TLS__MINIMUM": "1.3",
        PREFIX + "PROVIDERS__OPENAI__TLS__CA_FILE": str(site.authority),
    }


@dataclass(frozen=True, slots=True)
class Serving:
    """A started ``portcullis serve``: its ports, its workers, and what runs beside them."""

    port: int
    admin: int
    workers: tuple[int, ...]
    beside: tuple[int, ...]

    def call(self, path: str, body: bytes = b"{}", *, token: str = TOKEN) -> Any:
        """What the admin API answers to a POST; the last line where it answers several."""
        request = Request(
            f"http://127.0.0.1:{self.admin}/api/v1/{path}", data=body, method="POST",
            headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        )  # fmt: skip
        with urlopen(request, timeout=TIMEOUT) as response:
            return json.loads(response.read().splitlines()[-1])


@dataclass(frozen=True, slots=True)
class Gateway:
    """A way of running ours."""

    name: str
    workers: int = 1
    directives: int = 1
    callers: int = 0
    compiled: bool = True
    tls: bool = False

    def __call__(self, site: Site) -> Running:
        """Redis, ``portcullis init``, ``portcullis serve``, and one model taken offline. All on the proxy's core."""
        directory = site.directory / self.name
        directory.mkdir()
        redis = start_redis(site, self.name, directory)
        init(directory, self.environment(site, directory), seeds(directives=self.directives, callers=self.callers))
        serving = self.serve(site, self.name, directory)
        serving.call(f"models/{KILLED}/offline")
        return Running(
            serving.port, serving.workers, (*serving.beside, redis), tls=self.tls, callers=self.callers,
            forget=_forgetting(serving, self.callers) if self.callers else None,
        )  # fmt: skip

    def environment(self, site: Site, directory: Path) -> dict[str, str]:
        """Of a gateway with free ports, and its code."""
        upstream = f"https://127.0.0.1:{site.upstream_tls}" if self.tls else f"http://127.0.0.1:{site.upstream}"
        env = gateway_env(directory, free_port(), free_port(), upstream, self.workers)
        env |= tls_env(site) if self.tls else {}
        return env | {"PYTHONSAFEPATH": "1", "PYTHONPATH": str(COMPILED if self.compiled else ROOT)}

    def serve(self, site: Site, name: str, directory: Path, **more: str) -> Serving:
        """``portcullis serve``. Several of one directory share a Redis, and everything in it."""
        env = self.environment(site, directory) | more
        port, admin = (int(env[f"{PREFIX}{of}__LISTEN"].rpartition(":")[2]) for of in ("PROXY", "ADMIN"))
        process = site.processes.start(name, site.cores.proxy, [sys.executable, "-m", "gateway.cli", "serve"], env=env)
        site.processes.listening(name, process, port)
        members = with_children(process.pid)
        workers = tuple(member.pid for member in members if "gateway.proxy.worker" in member.cmdline())
        return Serving(port, admin, workers, tuple(m.pid for m in members if m.pid not in workers))


def start_redis(site: Site, name: str, directory: Path) -> int:
    """A Redis that forgets nothing; gives its pid."""
    socket = directory / "redis.sock"
    process = site.processes.start(
        f"{name}-redis", site.cores.proxy,
        [find_server(), "--port", 0, "--unixsocket", socket, "--dir", directory, "--save", "",
         "--appendonly", "yes", "--appendfsync", "always"],
    )  # fmt: skip
    wait_for(socket.exists, "redis-server")
    return process.pid


def init(directory: Path, env: dict[str, str], bench: str) -> None:
    """``portcullis init`` with the catalog that everybody gets, and what the benchmark adds."""
    place = directory / "seeds"
    place.mkdir()
    for name in ("catalog.toml", "groups.toml", "terms.toml"):
        shutil.copy(ROOT / "seeds" / name, place / name)
    (place / "bench.toml").write_text(bench)
    command: Sequence[object] = [sys.executable, "-m", "gateway.cli", "init", "--seeds", place]
    made = subprocess.run(command, env=env, cwd=directory, check=False, capture_output=True, text=True)
    if made.returncode:
        raise BenchError(f"portcullis init: {made.stderr}{made.stdout}")


def _forgetting(serving: Serving, callers: int) -> Callable[[], None]:
    """A way of making workers forget callers: each is imported again with another org, and evicted for it."""
    orgs: Iterator[str] = itertools.cycle(("one", "other"))

    def forget() -> None:
        lines = caller_lines(callers, next(orgs))
        done = serving.call("callers:import", lines, token=REGISTRAR)
        if done.get("stored") != callers:
            raise BenchError(f"callers could not be imported again: {done}")

    return forget


def caller_lines(callers: int, org: str) -> bytes:
    """An import of all of them."""
    of_all = {"kind": "person", "org": org, "attributes": {"nationality": ["US"]}}
    return b"".join(json.dumps({"id": f"c-{number}", **of_all}).encode() + b"\n" for number in range(callers))


def two_workers_missing() -> str | None:
    """Why two workers cannot be measured."""
    cores = len(os.sched_getaffinity(0))
    return None if cores >= 4 else f"two workers need four cores beside load and upstream; here are {cores}"


def compiled_missing() -> str | None:
    """Why there is no compiled gateway."""
    return None if (COMPILED / "gateway").exists() else "it is not compiled (make compiled)"
