"""A model goes off: from the order to its last byte, ours and others': ``python tests/benchmarks/bench_kill_race.py``.

200 streams of the model and clients that ask for it, beside streams and clients of another one, which must not notice.
Ours is told by one call, and is two gateways of two workers on one Redis. The others are one process (that is easier)
whose configuration is edited and loaded again, as their manuals have it. What cannot be measured here is marked as
documented. Prints a table; writes ``build/bench/kill-race.json`` and the chart of the README.

    --look SECONDS   how long to look at what goes on; a stream that is still there then is a stream that goes on
    --only NAME      one of them (may be given again); no chart is written then
"""

import argparse
import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, replace
from html import escape
from math import log10
from pathlib import Path

import uvloop
from bench_nginx import nginx_config, proxy_body, start_nginx_process
from bench_others import envoy_config, envoy_missing, envoy_routes, haproxy_config, start_envoy_process
from bench_ours import PREFIX, Gateway, compiled_missing, init, seeds, start_redis
from bench_processes import BenchError, free_port
from bench_report import aligned
from bench_site import BUILD, KILLED, MODEL, ROOT, Site, needs, which
from bench_stage import perform, say
from bench_watch import Asking, Seen, open_streams, request, until

CHART = ROOT / "docs" / "images" / "kill-race.svg"
STREAMS, OTHER_STREAMS, CLIENTS, OTHER_CLIENTS = 200, 50, 8, 8
PAUSE = 0.1
"""Between two events of a stream."""

QUIET = 1.5
"""Seconds without a byte of the model, all streams gone: nothing will come any more."""

VICTIM, NOBODY = "x-bench-victim", "x-bench-nobody"
"""How a request for the model looks to proxies that do not read bodies: a header. Nobody has the other one."""


@dataclass(frozen=True, slots=True)
class Raced:
    """A started racer: where clients go, and how the order is given. Giving it returns when somebody says it is done."""

    ports: tuple[int, ...]
    order: Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Racer:
    """Who takes part."""

    name: str
    how: str
    missing: Callable[[], str | None]
    start: Callable[[Site], Raced]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it. Seconds since the order; ``last_byte`` is nothing where streams went on.

    ``at_least`` is what is known then. ``said``: when whoever was told said that it is done; ``proven``: that this
    was more than that the order had been taken.
    """

    name: str
    how: str
    last_byte: float | None
    at_least: float
    said: float | None = None
    proven: bool = False
    last_answer: float | None = None
    refused: int = 0
    went_on: int = 0
    others_streams_lost: int = 0
    others_requests_failed: int = 0
    measured: bool = True
    source: str = ""


DOCUMENTED = (
    Outcome(
        "LiteLLM, replicas", "model deleted in its database, which replicas read again by interval", None, 30.0,
        measured=False, source="general_settings.proxy_config_reload_interval_seconds, 30 by default: 'how often (in "
        "seconds) each pod reloads config-in-DB objects' (litellm/proxy/_types.py, 1.106.12); where it has a Redis, it "
        "pushes changes as well, without a figure; nothing in it ends a stream that runs",
    ),
)  # fmt: skip
"""Not measured: LiteLLM's database client needs an engine that no package registry has."""


# ---------------------------------------------------------------------------------------------------- who takes part


def start_ours(site: Site) -> Raced:
    """Two gateways, each as on a machine of its own, on one Redis."""
    gateway = Gateway("race", workers=2, compiled=compiled_missing() is None)
    directory = site.directory / "race"
    directory.mkdir()
    start_redis(site, "race", directory)
    init(directory, gateway.environment(site, directory), seeds())
    first = gateway.serve(site, "race-1", directory)
    second = gateway.serve(
        site, "race-2", directory,
        **{PREFIX + "STATE_DIR": str(directory / "state-2"), PREFIX + "LOG__FILE": str(directory / "requests-2.log"),
           PREFIX + "SIGNING__KEY_FILE": str(directory / "state" / "signing.key")},
    )  # fmt: skip

    async def order() -> object:
        receipt = await asyncio.to_thread(first.call, f"models/{KILLED}/offline")
        if not receipt["enforced"] or receipt["replicas"]["live"] != 4:
            raise BenchError(f"not enforced by four replicas: {receipt}")
        return receipt

    return Raced((first.port, second.port), order)


def start_nginx(more: str = "") -> Callable[[Site], Raced]:
    """Nginx with a master, and the order as a reload."""

    def start(site: Site) -> Raced:
        port, name = free_port(), f"race-nginx-{len(more)}"
        path = site.directory / f"{name}.conf"

        def config(refuse: str) -> str:
            body = proxy_body(port, site.upstream, refuse=refuse)
            return nginx_config(name, body, master=True, workers=2, more=f"user root; {more}")

        pid = start_nginx_process(name, config(NOBODY), port, site.directory, site.cores.proxy, site.processes)
        return Raced((port,), _edit(path, config(VICTIM), lambda: os.kill(pid, signal.SIGHUP)))

    return start


def start_haproxy(more: str = "") -> Callable[[Site], Raced]:
    """HAProxy with a master, and the order as a reload."""

    def start(site: Site) -> Raced:
        port, name = free_port(), f"race-haproxy-{len(more)}"
        path = site.directory / f"{name}.cfg"
        path.write_text(haproxy_config(port, site.upstream, refuse=NOBODY, more=more))
        process = site.processes.start(name, site.cores.proxy, [which("haproxy"), "-W", "-db", "-f", path])
        site.processes.listening(name, process, port)
        changed = haproxy_config(port, site.upstream, refuse=VICTIM, more=more)
        return Raced((port,), _edit(path, changed, lambda: os.kill(process.pid, signal.SIGUSR2)))

    return start


def start_envoy(site: Site) -> Raced:
    """Envoy with its routes in a file that it watches; the order is another file moved to that place."""
    port, path = free_port(), site.directory / "race-routes.json"
    path.write_text(_routes(NOBODY))
    start_envoy_process(site, "race-envoy", port, envoy_config(port, site.upstream, routes_file=path))
    return Raced((port,), _edit(path, _routes(VICTIM), lambda: None))


def _routes(refuse: str) -> str:
    kind = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
    return json.dumps({"version_info": refuse, "resources": [{"@type": kind, **envoy_routes(refuse)}]})


def _edit(path: Path, text: str, then: Callable[[], None]) -> Callable[[], Awaitable[object]]:
    """The order, for who is told by a file: another one in its place, and a signal."""

    async def order() -> None:
        new = path.with_suffix(".new")
        new.write_text(text)
        new.rename(path)
        then()

    return order


_NGINX, _HAPROXY = needs("nginx", "nginx"), needs("haproxy", "haproxy")
RACERS = (
    Racer("Portcullis", "one call; 2 gateways × 2 workers, each proves it", lambda: None, start_ours),
    Racer("nginx", "edit and reload", _NGINX, start_nginx()),
    Racer(
        "nginx, worker_shutdown_timeout 1s", "edit and reload; all streams end", _NGINX,
        start_nginx("worker_shutdown_timeout 1s;"),
    ),
    Racer("HAProxy", "edit and reload", _HAPROXY, start_haproxy()),
    Racer(
        "HAProxy, hard-stop-after 1s", "edit and reload; all streams end", _HAPROXY, start_haproxy("hard-stop-after 1s")
    ),
    Racer("Envoy", "routes from a file that it watches (RDS)", envoy_missing, start_envoy),
)  # fmt: skip


# ---------------------------------------------------------------------------------------------------- the race


async def race(racer: Racer, raced: Raced, look: float) -> Outcome:
    """Streams and clients of both models, the order, and what comes after it."""
    victim, other = Seen(), Seen()
    marked = ((VICTIM, "1"),)
    opened = [
        *await open_streams(other, raced.ports, OTHER_STREAMS, request(MODEL, pause=PAUSE)),
        *await open_streams(victim, raced.ports, STREAMS, request(KILLED, marked, pause=PAUSE)),
    ]
    try:
        async with (
            Asking(other, raced.ports, OTHER_CLIENTS, request(MODEL)),
            Asking(victim, raced.ports, CLIENTS, request(KILLED, marked)),
        ):
            await until(lambda: min(victim.answered, other.answered) > 200, "clients to be answered")
            lost, failed = other.ended, other.failed
            ordered = time.monotonic()
            receipt = await raced.order()
            said = time.monotonic() - ordered
            await _looked(victim, ordered, look)
            looked, on = time.monotonic() - ordered, STREAMS - victim.ended
            lost, failed = other.ended - lost, other.failed - failed
    finally:
        for transport in opened:
            transport.abort()
    return Outcome(
        racer.name, racer.how,
        last_byte=None if on else victim.last_byte - ordered,
        at_least=looked if on else victim.last_byte - ordered,
        said=said, proven=receipt is not None, last_answer=max(0.0, victim.last_answer - ordered),
        refused=victim.refused, went_on=on,
        others_streams_lost=lost, others_requests_failed=failed,
    )  # fmt: skip


async def _looked(victim: Seen, ordered: float, look: float) -> None:
    """Until nothing can come any more, or for as long as we look."""
    while (now := time.monotonic()) < ordered + look:
        if victim.ended == STREAMS and now > max(victim.last_byte, ordered) + QUIET:
            return
        await asyncio.sleep(0.01)


# ---------------------------------------------------------------------------------------------------- what is shown


def seconds(value: float | None) -> str:
    """For people."""
    if value is None:
        return "–"
    if value < 1:
        return f"{value * 1000:.0f} ms"
    return f"{value:.1f} s" if value < 10 else f"{value:.0f} s"


def length(outcome: Outcome) -> str:
    """From the order to the last byte, or what is known of it."""
    if not outcome.measured:
        return f"up to {seconds(outcome.at_least)} for new requests; streams go on (documented, not measured)"
    if outcome.last_byte is None:
        return f"> {seconds(outcome.at_least)}: {outcome.went_on} streams went on"
    return seconds(outcome.last_byte)


def table(outcomes: Sequence[Outcome]) -> str:
    """Everything, a line each."""
    rows = [
        ("", "last byte of the model", "last answer", "said after", "proven", "refused", "other model: streams lost",
         "requests failed", "how")
    ]  # fmt: skip
    for each in outcomes:
        others = (str(each.others_streams_lost), str(each.others_requests_failed)) if each.measured else ("–", "–")
        rows.append(
            (each.name, length(each), seconds(each.last_answer), seconds(each.said), "yes" if each.proven else "no",
             f"{each.refused:,}" if each.measured else "–", *others, each.how)
        )  # fmt: skip
    notes = [f"  {each.name}: {each.source}" for each in outcomes if each.source]
    return "\n".join([aligned(rows), *notes])


_LEFT, _WIDE, _HIGH, _GAP, _TOP = 260, 440, 22, 12, 58
_FIRST, _DECADES = 0.01, 4
"""The chart's axis: from 10 ms on, each grid line ten times the one before."""
_COLOURS = {"Portcullis": "#2266aa"}


def place(value: float) -> float:
    """Where a time is on the axis, in pixels from its left."""
    return _WIDE * min(1.0, max(0.02, log10(max(value, _FIRST) / _FIRST) / _DECADES))


def chart(outcomes: Sequence[Outcome], caption: str) -> str:
    """Bars on a logarithmic axis: whole where the end was seen, open to the right where streams went on. SVG 1.1."""
    bottom = _TOP + len(outcomes) * (_HIGH + _GAP)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="960" height="{bottom + 44}" viewBox="0 0 960 {bottom + 44}" '
        'font-family="sans-serif" font-size="13">'
    )
    parts = [head, '<rect width="100%" height="100%" fill="white"/>']
    parts.append(_words(10, 22, "From the order to a model's last byte: 200 streams and clients that ask", bold=True))
    for decade in range(_DECADES + 1):
        x = _LEFT + _WIDE * decade / _DECADES
        parts.append(f'<line x1="{x}" y1="{_TOP - 8}" x2="{x}" y2="{bottom}" stroke="#dddddd"/>')
        parts.append(_words(x, _TOP - 14, seconds(_FIRST * 10**decade).replace(".0", ""), anchor="middle"))
    for number, outcome in enumerate(outcomes):
        parts += _bar(_TOP + number * (_HIGH + _GAP), outcome)
    parts.append(_words(10, bottom + 26, caption))
    return "\n".join([*parts, "</svg>", ""])


def _bar(top: float, outcome: Outcome) -> list[str]:
    on = outcome.last_byte is None
    wide = place(outcome.at_least)
    colour = _COLOURS.get(outcome.name, "#999999")
    look = f'fill="{colour}"' if outcome.measured else f'fill="none" stroke="{colour}" stroke-dasharray="4 3"'
    parts = [
        _words(_LEFT - 8, top + 16, outcome.name, anchor="end"),
        f'<rect x="{_LEFT}" y="{top}" width="{wide:.1f}" height="{_HIGH}" {look}/>',
    ]
    if on:
        tip = _LEFT + wide
        parts.append(f'<path d="M{tip:.1f} {top} l12 {_HIGH / 2} l-12 {_HIGH / 2} z" fill="{colour}" class="goes-on"/>')
    return [*parts, _words(_LEFT + wide + (18 if on else 8), top + 16, _said(outcome))]


def _said(outcome: Outcome) -> str:
    if not outcome.measured:
        return f"{seconds(outcome.at_least)} as documented; streams go on"
    harmed = f"; {outcome.others_streams_lost} streams of another model lost" if outcome.others_streams_lost else ""
    if outcome.last_byte is None:
        return f"{outcome.went_on} streams go on{harmed}"
    return f"{seconds(outcome.last_byte)}{', proven' if outcome.proven else ''}{harmed}"


def _words(x: float, y: float, words: str, *, anchor: str = "start", bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{weight}>{escape(words)}</text>'


# ---------------------------------------------------------------------------------------------------- all of it


def measure(site: Site, options: argparse.Namespace) -> int:
    """One after the other; each is ended before the next one starts."""
    outcomes: list[Outcome] = []
    for racer in RACERS:
        if options.only and racer.name not in options.only:
            continue
        if reason := racer.missing():
            say(f"skipped {racer.name}: {reason}")
            continue
        with site.processes.besides() as processes:
            own = replace(site, processes=processes)
            say(f"{racer.name}: {racer.how}")
            outcomes.append(uvloop.run(race(racer, racer.start(own), options.look)))
        say(f"{racer.name}: last byte {length(outcomes[-1])}")
    outcomes += DOCUMENTED
    print(table(outcomes), flush=True)
    BUILD.mkdir(parents=True, exist_ok=True)
    (BUILD / "kill-race.json").write_text(json.dumps([asdict(outcome) for outcome in outcomes], indent=1))
    if not options.only:
        CHART.parent.mkdir(parents=True, exist_ok=True)
        CHART.write_text(
            chart(outcomes, f"Measured on one machine of {os.cpu_count()} cores; looked for {options.look:g} s.")
        )
        say(f"written: {CHART.relative_to(ROOT)}")
    return 0


def main() -> int:
    """Measure all, or what is asked for."""
    parser = argparse.ArgumentParser(description="From the order to the last byte.")
    parser.add_argument("--look", type=float, default=20.0)
    parser.add_argument("--only", action="append", choices=[racer.name for racer in RACERS], default=[])
    options = parser.parse_args()
    return perform(lambda site: measure(site, options))


if __name__ == "__main__":
    sys.exit(main())
