"""Whether we are as fast as we were: ``make bench-guard``. Ends with 1 where we are not.

The main rows, short, ours beside Envoy and HAProxy. What is compared are ratios, of the same round each: they hold
where another machine, or a busy one, changes all figures alike. ``recorded.json`` says what each was when it was
recorded and by which part it may be worse.

    --record         write what is measured now; margins that are there stay
    --seconds N --rounds N
"""

import argparse
import json
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

from bench_contenders import CONTENDERS
from bench_load import Result
from bench_processes import BenchError
from bench_proxies import machine, measure
from bench_report import aligned, figure, number
from bench_site import DIRECT, HERE, OURS, ROOT, Site
from bench_stage import perform, say
from bench_workloads import WORKLOADS, Workload

RECORDED = HERE / "recorded.json"
ROWS = ("post-1", "post-64", "sse-400", "refuse-64", "post-100k", "tls-64")
BESIDE = ("envoy", "haproxy")

Measure = Literal["rate", "cpu", "added p50"]
MARGINS: dict[Measure, float] = {"rate": 0.12, "cpu": 0.10, "added p50": 0.30}
"""By which part a ratio may be worse, where nothing else is recorded."""

ALONE = ("post-1", 0.20)
"""The row of one connection, where both cores wait for each other, varies more: its least margin."""

Key = tuple[str, Measure, str]
Rounds = Mapping[str, Sequence[Result]]


@dataclass(frozen=True, slots=True)
class Ratio:
    """Ours to theirs, and by which part it may be worse. More is better of a rate; less of everything else."""

    row: str
    measure: Measure
    beside: str
    ratio: float
    margin: float

    @classmethod
    def of(cls, key: Key, ratio: float) -> Self:
        """With the usual margin."""
        row, least = ALONE
        margin = max(MARGINS[key[1]], least if key[0] == row else 0.0)
        return cls(*key, ratio=round(ratio, 4), margin=margin)

    @property
    def key(self) -> Key:
        """What it is of."""
        return self.row, self.measure, self.beside

    def worse_by(self, now: float) -> float:
        """Which part of it is lost; less than nothing where it is better now."""
        return 1 - now / self.ratio if self.measure == "rate" else now / self.ratio - 1

    def holds(self, now: float | None) -> bool:
        """Whether it is as good as it was, but for the margin. What was not measured does not hold."""
        return now is not None and self.worse_by(now) <= self.margin


def ratios(workload: Workload, rounds: Rounds) -> dict[Key, float]:
    """What can be told of a row."""
    ours, direct = rounds.get(OURS, ()), rounds.get(DIRECT, ())
    found: dict[Key, float | None] = {}
    for beside in BESIDE:
        theirs = rounds.get(beside, ())
        if ours and theirs:
            both = figure(OURS, ours, theirs, direct)
            found[workload.name, "cpu", beside] = both.cpu_ratio
            found[workload.name, "rate", beside] = both.rate_ratio if workload.kind == "post" else None
            found[workload.name, "added p50", beside] = both.added_ratio if workload.latency else None
    return {key: ratio for key, ratio in found.items() if ratio is not None and ratio > 0}


def table(recorded: Iterable[Ratio], now: Mapping[Key, float]) -> str:
    """What was, what is, and whether that holds."""
    rows = [("", "", "×", "recorded", "now", "worse by", "may be", "")]
    for ratio in recorded:
        found = now.get(ratio.key)
        verdict = "ok" if ratio.holds(found) else "NOT MEASURED" if found is None else "WORSE"
        worse = "–" if found is None else f"{ratio.worse_by(found):+.0%}"
        rows.append(
            (ratio.row, ratio.measure, ratio.beside, number(ratio.ratio, 2), number(found, 2), worse,
             f"{ratio.margin:.0%}", verdict)
        )  # fmt: skip
    return aligned(rows)


def merged(recorded: Iterable[Ratio], now: Mapping[Key, float]) -> list[Ratio]:
    """What is recorded next: all that is known now, with the margins that there were."""
    margins = {ratio.key: ratio.margin for ratio in recorded}
    fresh = [Ratio.of(key, found) for key, found in now.items()]
    return [replace(ratio, margin=margins.get(ratio.key, ratio.margin)) for ratio in fresh]


def interpreter() -> str:
    """What ours ran on; ratios of another build of Python are others."""
    optimised = "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or "")
    return f"CPython {sys.version.split()[0]}, {'with' if optimised else 'without'} profile-guided optimisation"


def read(path: Path = RECORDED) -> tuple[list[Ratio], dict[str, Any]]:
    """The recorded ratios, and where they come from.

    Raises:
        BenchError: there are none.
    """
    if not path.exists():
        raise BenchError(f"nothing is recorded in {path}: bench_guard.py --record")
    document = json.loads(path.read_text())
    return [Ratio(**ratio) for ratio in document.pop("ratios")], document


def write(found: Sequence[Ratio], path: Path = RECORDED) -> None:
    """Record."""
    commit = subprocess.run(
        ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    head = {"time": time.strftime("%Y-%m-%d", time.gmtime()), "commit": commit, "machine": machine(),
            "interpreter": interpreter()}  # fmt: skip
    lines = ",\n".join(f"  {json.dumps(asdict(ratio))}" for ratio in found)
    whole = json.dumps(head | {"ratios": []}, indent=1)
    path.write_text(whole.replace("[]", f"[\n{lines}\n ]") + "\n")


# ---------------------------------------------------------------------------------------------------- all of it


def guard(site: Site, options: argparse.Namespace) -> int:
    """Measure, then compare or record."""
    recorded, head = read() if RECORDED.exists() or not options.record else ([], {})
    if head and head["interpreter"] != interpreter():
        say(f"recorded on {head['interpreter']}, this is {interpreter()}: ratios may differ for that alone")
    now = _measured(site, options)
    if options.record:
        write(merged(recorded, now))
        say(f"recorded {len(now)} ratios in {RECORDED.relative_to(ROOT)}")
        return 0
    print(table(recorded, now), flush=True)
    worse = [ratio for ratio in recorded if not ratio.holds(now.get(ratio.key))]
    if worse:
        print(f"\n{len(worse)} of {len(recorded)} ratios do not hold", flush=True)
    return 1 if worse else 0


def _measured(site: Site, options: argparse.Namespace) -> dict[Key, float]:
    workloads = [workload for workload in WORKLOADS if workload.name in ROWS]
    contenders = [contender for contender in CONTENDERS if contender.name in (OURS, DIRECT, *BESIDE)]
    skipped: dict[str, str] = {}
    now: dict[Key, float] = {}
    for workload, rounds in measure(site, workloads, contenders, options, skipped):
        now |= ratios(workload, rounds)
    if OURS in skipped or set(BESIDE) <= set(skipped):
        raise BenchError(f"there is nothing to compare: {skipped}")
    return now


def main() -> int:
    """Read arguments and measure."""
    parser = argparse.ArgumentParser(description="Whether we are as fast as we were.")
    parser.add_argument("--record", action="store_true", help="write what is measured")
    parser.add_argument("--seconds", type=float, default=1.0, help="of one run")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    return perform(lambda site: guard(site, options))


if __name__ == "__main__":
    sys.exit(main())
