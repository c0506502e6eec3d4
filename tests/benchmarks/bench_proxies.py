"""Our data plane beside the proxies that people trust: ``make bench``, or ``python tests/benchmarks/bench_proxies.py``.

One core for the proxy, loopback only, all contenders started together and measured in turns, a round after the other
in another order; figures are medians, ratios are to Envoy of the same round. Results: stdout and ``build/bench/``.

    --quick              one short round of the main workloads
    --only WORD          a workload, by its name or a part of it, or a contender, by its name (may be given again)
    --seconds N --rounds N
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench_contenders import CONTENDERS
from bench_gateways import litellm_version, portkey_version
from bench_load import Result, as_json, run
from bench_others import find_envoy
from bench_processes import BenchError
from bench_report import comparisons, figures, plot, table
from bench_site import BUILD, DIRECT, MARK, ROOT, Contender, Running, Site, which
from bench_stage import perform, say
from bench_workloads import WORKLOADS, Workload

WARM_UP_SECONDS = 1.0
Measured = dict[str, dict[str, list[Result]]]
"""Results by workload and contender, in the order of the rounds."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write."""
    options = _options(arguments)
    return perform(lambda site: _measure_and_report(site, options))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Our data plane beside other proxies.")
    parser.add_argument("words", nargs="*", choices=["quick", []], help="quick: as --quick")
    parser.add_argument("--quick", action="store_true", help="one short round of the main workloads")
    parser.add_argument("--only", action="append", default=[], metavar="WORD", help="names that have this word")
    parser.add_argument("--seconds", type=float, help="of one run")
    parser.add_argument("--rounds", type=int)
    options = parser.parse_args(arguments)
    options.quick = options.quick or "quick" in options.words
    options.seconds = options.seconds or (1.0 if options.quick else 2.0)
    options.rounds = options.rounds or (1 if options.quick else 3)
    return options


# ---------------------------------------------------------------------------------------------------- what runs


def chosen_workloads(only: Sequence[str], *, quick: bool) -> list[Workload]:
    """The rows to run: those that ``only`` names, whole or by a part that is no row's whole name; else all or the quick."""
    exact = {workload.name for workload in WORKLOADS} & set(only)
    words = [word for word in only if word not in exact]
    named = [each for each in WORKLOADS if each.name in exact or any(word in each.name for word in words)]
    return named or [workload for workload in WORKLOADS if workload.quick or not quick]


def chosen_contenders(only: Sequence[str]) -> list[Contender]:
    """The contenders that ``only`` names, with the ceiling and the mark, or all."""
    named = [contender for contender in CONTENDERS if contender.name in only]
    beside = [each for each in CONTENDERS if each.name in (DIRECT, MARK) and each not in named]
    return [*beside, *named] if named else list(CONTENDERS)


def runs(workload: Workload, contender: Contender) -> bool:
    """Whether a contender takes part in a workload."""
    if workload.only:
        return contender.name in (*workload.only, MARK)
    if (contender.rows and workload.name not in contender.rows) or (workload.tls and not contender.start_tls):
        return False
    return not contender.tags and not (contender.name == DIRECT and workload.refused)


def turns(names: Sequence[str], round_number: int) -> list[str]:
    """The order of a round: each begins with another contender."""
    start = round_number % len(names) if names else 0
    return [*names[start:], *names[:start]]


def _measure_and_report(site: Site, options: argparse.Namespace) -> int:
    say(f"{site.cores}; {machine()}")
    workloads = chosen_workloads(options.only, quick=options.quick)
    contenders = [c for c in chosen_contenders(options.only) if any(runs(w, c) for w in workloads)]
    began = time.monotonic()
    measured: Measured = {}
    skipped: dict[str, str] = {}
    for workload, results in measure(site, workloads, contenders, options, skipped):
        measured[workload.name] = results
        print(table(workload, figures(results)) + "\n", flush=True)
        notes = {c.name: c.note for c in contenders if c.name not in skipped}
        _write(site, workloads[: len(measured)], measured, options, {"contenders": notes, "skipped": skipped})
    print(comparisons({name: figures(results) for name, results in measured.items()}) + "\n", flush=True)
    say(f"done in {time.monotonic() - began:.0f} s; {BUILD.relative_to(ROOT)}/bench.json and bench.svg")
    return 0


def measure(
    site: Site, workloads: Sequence[Workload], contenders: Sequence[Contender], options: argparse.Namespace,
    skipped: dict[str, str],
) -> Iterator[tuple[Workload, dict[str, list[Result]]]]:  # fmt: skip
    """Each workload's results, of all contenders that take part and are there; why the others are not: ``skipped``."""
    started: dict[tuple[str, bool], Running] = {}
    for tls in sorted({workload.tls for workload in workloads}):
        wanted = [c for c in contenders if any(runs(w, c) for w in workloads if w.tls == tls)]
        started |= {(name, tls): running for name, running in _start(site, wanted, skipped, tls=tls).items()}
    for workload in workloads:
        names = [c.name for c in contenders if (c.name, workload.tls) in started and runs(workload, c)]
        yield workload, _measure(site, workload, {name: started[name, workload.tls] for name in names}, options)


def _start(
    site: Site, contenders: Sequence[Contender], skipped: dict[str, str], *, tls: bool = False
) -> dict[str, Running]:
    """Start those that can be, with TLS or without."""
    started: dict[str, Running] = {}
    for contender in contenders:
        start = contender.start_tls if tls else contender.start
        reason = contender.missing()
        if reason is None and start is not None:
            try:
                started[contender.name] = start(site)
            except BenchError as error:
                if not contender.rows:
                    raise
                reason = f"it does not start: {error}"
        if reason is None:
            say(f"started {contender.name}{' with TLS' if tls else ''}: {contender.note}")
        elif contender.name not in skipped:
            skipped[contender.name] = reason
            say(f"skipped {contender.name}: {reason}")
    return started


def _measure(
    site: Site, workload: Workload, started: dict[str, Running], options: argparse.Namespace
) -> dict[str, list[Result]]:
    """All rounds of a workload, after a warm-up of each contender."""
    results: dict[str, list[Result]] = {name: [] for name in started}
    if workload.kind == "post" and not workload.unknown_every:
        for name, running in started.items():
            try:
                run(site, running, workload, WARM_UP_SECONDS)
            except BenchError as error:
                say(f"{workload.name} warm-up {name}: {error}")
    for number in range(options.rounds):
        for name in [name for name in turns(list(started), number) if name in results]:
            where = f"{workload.name} round {number + 1}/{options.rounds} {name}"
            try:
                result = run(site, started[name], workload, options.seconds)
            except BenchError as error:
                del results[name]
                say(f"{where} FAILED and is left out of this workload: {error}")
                continue
            results[name].append(result)
            cpu = "" if result.cpu_us is None else f", {result.cpu_us:.1f} µs of CPU each"
            say(f"{where}: {result.per_second:,.0f}/s{cpu}")
    return results


# ---------------------------------------------------------------------------------------------------- what is left


def machine() -> str:
    """What it ran on."""
    model = next(
        (line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
         if line.startswith("model name")), platform.machine(),
    )  # fmt: skip
    load = os.getloadavg()[0]
    return f"{model}, {os.cpu_count()} cores, load average {load:.1f} before, Python {platform.python_version()}"


def versions() -> dict[str, str]:
    """What the others call themselves, and our commit."""
    asked = {
        "nginx": [which("nginx"), "-v"], "haproxy": [which("haproxy"), "-v"], "envoy": [find_envoy(), "--version"],
        "wrk": [which("wrk"), "-v"], "portcullis": ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"],
    }  # fmt: skip
    found = {}
    for name, command in asked.items():
        if command[0]:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            lines = (done.stdout + done.stderr).strip().splitlines()
            found[name] = lines[0].strip() if lines else ""
    return found | {"litellm": litellm_version(), "portkey": portkey_version()}


def _write(
    site: Site, workloads: Sequence[Workload], measured: Measured, options: argparse.Namespace, known: dict[str, Any]
) -> None:
    BUILD.mkdir(parents=True, exist_ok=True)
    document = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": machine(),
        "cores": str(site.cores),
        "versions": versions(),
        "seconds": options.seconds,
        "rounds": options.rounds,
        **known,
        "workloads": {
            workload.name: {
                "what": workload.what,
                "figures": [asdict(row) for row in figures(measured[workload.name])],
                "runs": {name: [as_json(r) for r in results] for name, results in measured[workload.name].items()},
            }
            for workload in workloads
        },
    }
    (BUILD / "bench.json").write_text(json.dumps(document, indent=1))
    sections = [(workload, figures(measured[workload.name])) for workload in workloads]
    (BUILD / "bench.svg").write_text(plot(sections, f"{site.cores}; {document['time']}"))


if __name__ == "__main__":
    sys.exit(main())
