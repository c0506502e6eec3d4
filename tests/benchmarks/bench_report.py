"""From runs to figures: medians and ratios, a table, JSON, and a plot in SVG written here, without a library."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from statistics import median

from bench_load import Result
from bench_site import DIRECT, MARK, OURS
from bench_workloads import CALLERS, Workload

BOUND_BY_LOAD = (0.03, 0.05)
"""A load core idle less than this, beside a proxy core idle more than that: the load was the limit, not the proxy."""


@dataclass(frozen=True, slots=True)
class Figure:
    """The medians of one contender's runs of one workload, and their ratios to the mark of the same run.

    ``cpu_ratio`` and ``rate_ratio`` are ours to theirs: a rate above 1 and a CPU below 1 are better than the mark.
    ``added_p50_ms`` and ``added_p99_ms`` are what is left of the times after those without a proxy, of the same round;
    ``added_ratio`` is that of the medians to the mark's.
    """

    contender: str
    runs: int
    per_second: float
    cpu_us: float | None
    beside_us: float | None
    p50_ms: float | None
    p99_ms: float | None
    errors: int
    proxy_idle: float
    load_idle: float
    others: float
    coalesced: float | None
    rate_ratio: float | None = None
    cpu_ratio: float | None = None
    added_p50_ms: float | None = None
    added_p99_ms: float | None = None
    added_ratio: float | None = None

    @property
    def bound_by_load(self) -> bool:
        """Whether load and upstream were the limit."""
        load, proxy = BOUND_BY_LOAD
        return self.coalesced is None and self.load_idle < load and self.proxy_idle > proxy


def middle(values: Sequence[float | None]) -> float | None:
    """The median of those that are there."""
    known = [value for value in values if value is not None]
    return median(known) if known else None


def figure(
    contender: str, results: Sequence[Result], mark: Sequence[Result] = (), direct: Sequence[Result] = ()
) -> Figure:
    """Medians; ratios are the medians of each round's ratio, so that a noisy round weighs on both sides alike."""
    pairs = list(zip(results, mark, strict=False))
    added = [added_to(result.p50_ms, without.p50_ms) for result, without in zip(results, direct, strict=False)]
    theirs = [added_to(result.p50_ms, without.p50_ms) for result, without in zip(mark, direct, strict=False)]
    return Figure(
        contender=contender,
        runs=len(results),
        errors=sum(result.errors for result in results),
        per_second=median(result.per_second for result in results),
        cpu_us=middle([result.cpu_us for result in results]),
        beside_us=middle([result.beside_us for result in results]),
        p50_ms=middle([result.p50_ms for result in results]),
        p99_ms=middle([result.p99_ms for result in results]),
        proxy_idle=median(result.proxy_idle for result in results),
        load_idle=median(result.load_idle for result in results),
        others=median(result.others for result in results),
        coalesced=middle([result.coalesced for result in results]),
        rate_ratio=middle([ratio(ours.per_second, theirs.per_second) for ours, theirs in pairs]),
        cpu_ratio=middle([ratio(ours.cpu_us, theirs.cpu_us) for ours, theirs in pairs]),
        added_p50_ms=middle(added),
        added_p99_ms=middle([added_to(a.p99_ms, b.p99_ms) for a, b in zip(results, direct, strict=False)]),
        added_ratio=middle([ratio(*pair) for pair in zip(added, theirs, strict=False)]),
    )


def added_to(whole: float | None, without: float | None) -> float | None:
    """What a proxy adds, if both are known."""
    return None if whole is None or without is None else whole - without


def ratio(ours: float | None, theirs: float | None) -> float | None:
    """How many times theirs, if both are known."""
    return ours / theirs if ours is not None and theirs else None


def figures(results: Mapping[str, Sequence[Result]]) -> list[Figure]:
    """All contenders of one workload."""
    mark, direct = results.get(MARK, ()), results.get(DIRECT, ())
    return [figure(name, runs, mark, direct if name != DIRECT else ()) for name, runs in results.items() if runs]


# ---------------------------------------------------------------------------------------------------- the table

_HEADINGS = ("", "per s", f"× {MARK}", "CPU µs", f"× {MARK}", "beside µs", "p50 ms", "p99 ms")
_LATENCY = ("added p50", f"× {MARK}", "added p99")
_REST = ("idle proxy/load", "others", "")


def table(workload: Workload, rows: Sequence[Figure]) -> str:
    """A workload's figures for people. CPU is per request, or per relayed event; ``others`` took of the proxy's core.

    Where time is what is asked for, it says what each adds to the times without a proxy, in milliseconds.
    """
    headings = (*_HEADINGS, *(_LATENCY if workload.latency else ()), *_REST)
    return f"{workload.name}: {workload.what}\n" + aligned([headings, *(_cells(row, workload) for row in rows)])


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Columns: the first and the last to the left, the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        first, *others, remark = (
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join(["", first, *others, remark.strip()]).rstrip())
    return "\n".join(lines)


def _cells(row: Figure, workload: Workload) -> tuple[str, ...]:
    added = (number(row.added_p50_ms, 3), number(row.added_ratio, 2), number(row.added_p99_ms, 3))
    return (
        row.contender, f"{row.per_second:,.0f}", number(row.rate_ratio, 2), number(row.cpu_us, 1),
        number(row.cpu_ratio, 2), number(row.beside_us, 1), number(row.p50_ms, 2), number(row.p99_ms, 2),
        *(added if workload.latency else ()),
        f"{row.proxy_idle:.0%}/{row.load_idle:.0%}", f"{row.others:.0%}", remark(row),
    )  # fmt: skip


def number(value: float | None, digits: int) -> str:
    """A number, or a dash."""
    return "–" if value is None else f"{value:,.{digits}f}"


def remark(row: Figure) -> str:
    """What one has to know to read a row."""
    remarks = []
    if row.errors:
        remarks.append(f"{row.errors} ERRORS")
    if row.bound_by_load and row.contender != DIRECT:
        remarks.append("the load side is the limit")
    if row.coalesced is not None and row.coalesced > 1.1:
        remarks.append(f"{row.coalesced:.1f} events per read")
    return "; ".join(remarks)


# ---------------------------------------------------------------------------------------------------- row beside row


@dataclass(frozen=True, slots=True)
class Comparison:
    """A figure beside another one: each is a workload and a contender."""

    what: str
    this: tuple[str, str]
    beside: tuple[str, str]


COMPARISONS = (
    *(
        Comparison(f"{name}: a refusal beside a permitted request", ("refuse-64", name), ("post-64", name))
        for name in (OURS, MARK, "haproxy", "nginx")
    ),
    *(
        Comparison(f"{name}: TLS on both sides beside none", ("tls-64", name), ("post-64", name))
        for name in (OURS, MARK, "haproxy", "nginx")
    ),
    *(
        Comparison(f"{OURS}: {what}", (row, variant), (row, OURS))
        for what, row, variant in (
            ("1,000 directives beside one", "directives-64", "portcullis-directives"),
            ("every caller unknown to the cache beside none", "callers-64", CALLERS),
            ("every tenth caller unknown to the cache beside none", "tenth-64", CALLERS),
            ("two workers beside one", "two-64", "portcullis-two"),
        )
    ),
)


def comparisons(measured: Mapping[str, Sequence[Figure]]) -> str:
    """What can be compared of what was measured: requests/s and CPU of one, as multiples of the other's."""
    rows = [("", "CPU µs", "×", "per s", "×", ""), *_compared(measured)]
    return "row beside row\n" + aligned(rows) if len(rows) > 1 else ""


def _compared(measured: Mapping[str, Sequence[Figure]]) -> Iterator[tuple[str, ...]]:
    known = {(row, figure.contender): figure for row, figures_of in measured.items() for figure in figures_of}
    for comparison in COMPARISONS:
        this, beside = known.get(comparison.this), known.get(comparison.beside)
        if this is not None and beside is not None:
            yield (
                comparison.what,
                f"{number(this.cpu_us, 1)} / {number(beside.cpu_us, 1)}", number(ratio(this.cpu_us, beside.cpu_us), 2),
                f"{this.per_second:,.0f} / {beside.per_second:,.0f}",
                number(ratio(this.per_second, beside.per_second), 2), "",
            )  # fmt: skip


# ---------------------------------------------------------------------------------------------------- the plot

_BAR, _GAP, _LEFT, _WIDTH, _TITLE = 18, 4, 190, 420, 34
_COLOURS = {OURS: "#2266aa", DIRECT: "#cccccc"}
_OTHER = "#999999"


def plot(sections: Sequence[tuple[Workload, Sequence[Figure]]], caption: str) -> str:
    """Bars of processor time per request or event, shorter is better; a section per workload. SVG 1.1."""
    parts: list[str] = []
    top = 30
    parts.append(_text(10, 18, caption, size=12))
    for workload, rows in sections:
        shown = [row for row in rows if row.cpu_us is not None]
        if not shown:
            continue
        unit = "event" if workload.kind == "stream" else "request"
        parts.append(_text(10, top + 20, f"{workload.what}: CPU µs per {unit}", weight="bold"))
        top += _TITLE
        longest = max(row.cpu_us or 0.0 for row in shown)
        for row in sorted(shown, key=lambda row: row.cpu_us or 0.0):
            parts.append(_bar(top, row, longest))
            top += _BAR + _GAP
        top += 8
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="760" height="{top + 10}" font-family="sans-serif">'
    return "\n".join([head, '<rect width="100%" height="100%" fill="white"/>', *parts, "</svg>", ""])


def _bar(top: float, row: Figure, longest: float) -> str:
    assert row.cpu_us is not None
    length = max(1.0, _WIDTH * row.cpu_us / longest)
    colour = _COLOURS.get(row.contender, _COLOURS[OURS] if row.contender.startswith(OURS) else _OTHER)
    said = f"{row.cpu_us:.1f}" + ("" if row.cpu_ratio is None else f"  ({row.cpu_ratio:.2f} × {MARK})")
    return "\n".join(
        [
            _text(_LEFT - 8, top + 13, row.contender, anchor="end"),
            f'<rect x="{_LEFT}" y="{top}" width="{length:.1f}" height="{_BAR}" fill="{colour}"/>',
            _text(_LEFT + length + 6, top + 13, said),
        ]
    )


def _text(x: float, y: float, words: str, *, size: int = 13, weight: str = "normal", anchor: str = "start") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" font-weight="{weight}" text-anchor="{anchor}">'
        f"{escape(words)}</text>"
    )
