"""The report's timeline as SVG: how far the order had come, who could use which model, and each step, numbered.

The axis is bent: half of it is time, half is room for each step, so that an hour with nine steps and a quiet month both
can be read. Lanes are told apart by shape and words, too, not by colour alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from typing import Any

WIDTH, LEFT, RIGHT = 1000, 170, 36
LANE, GAP, TOP = 30, 10, 34
MOST_MODELS = 8
LABEL_ROOM = 62
"""Pixels that a time needs below the axis."""

MARK_ROOM = 20
LETTER = 7.4
"""Pixels of a letter in a bar, about."""

PROGRESS = {
    "received": "received",
    "in_force": "in force",
    "partly_lifted": "partly lifted",
    "lifted": "lifted",
}


@dataclass(frozen=True, slots=True)
class _Axis:
    """Times, sorted and different, and where each is."""

    times: tuple[float, ...]

    def at(self, moment: float) -> float:
        """Where a time is, in pixels."""
        first, last = self.times[0], self.times[-1]
        span, room = (last - first) or 1.0, len(self.times) - 1 or 1
        linear = (moment - first) / span
        before = max((i for i, each in enumerate(self.times) if each <= moment), default=0)
        after = min(before + 1, len(self.times) - 1)
        within = self.times[after] - self.times[before]
        rank = before + ((moment - self.times[before]) / within if within else 0.0)
        return LEFT + (WIDTH - LEFT - RIGHT) * (0.3 * min(1.0, linear) + 0.7 * min(1.0, rank / room))


def timeline(facts: Mapping[str, Any]) -> str:
    """The drawing; nothing, where nothing happened."""
    steps = facts["steps"]
    if not steps:
        return ""
    end = seconds(facts["made_at"])
    times = sorted({seconds(step["at"]) for step in steps} | {end})
    axis = _Axis(tuple(times))
    lanes = [("The order", [_progress(period) for period in facts["periods"]])]
    lanes += [
        (each["model"], [_access(period) for period in each["periods"]]) for each in facts["access"][:MOST_MODELS]
    ]
    bottom = TOP + len(lanes) * (LANE + GAP)
    turns = [seconds(period["from"]) for period in facts["periods"]]
    parts = [_times(axis, turns, bottom)]
    parts += [_lane(axis, number, title, bars, end) for number, (title, bars) in enumerate(lanes)]
    marks, rows = _marks(axis, steps, bottom)
    parts.append(marks)
    height = bottom + 28 + 18 * rows
    return (
        f'<svg class="timeline" viewBox="0 0 {WIDTH} {height}" role="img" aria-labelledby="timeline-title">'
        '<title id="timeline-title">The order and access to its models over time; the steps are listed below</title>'
        f"{''.join(parts)}</svg>"
    )


def seconds(at: str) -> float:
    """A time as seconds since the epoch."""
    return datetime.fromisoformat(at).timestamp()


@dataclass(frozen=True, slots=True)
class _Bar:
    begin: float
    end: float | None
    look: str
    words: str


def _progress(period: Mapping[str, Any]) -> _Bar:
    until = period["until"]
    words = PROGRESS[period["progress"]]
    return _Bar(seconds(period["from"]), until and seconds(until), f"p-{period['progress']}", words)


def _access(period: Mapping[str, Any]) -> _Bar:
    look, words = ("some", _some(period))
    if period["everybody"]:
        look, words = "all", "everybody"
    elif period["nobody"]:
        look, words = "none", "nobody"
    return _Bar(seconds(period["from"]), period["until"] and seconds(period["until"]), f"a-{look}", words)


def _some(period: Mapping[str, Any]) -> str:
    total = period["permitted"]["total"]
    return f"some: {total} registered caller{'' if total == 1 else 's'}"


def _lane(axis: _Axis, number: int, title: str, bars: Sequence[_Bar], end: float) -> str:
    y = TOP + number * (LANE + GAP)
    parts = [f'<text class="lane" x="{LEFT - 12}" y="{y + 20}" text-anchor="end">{escape(_short(title))}</text>']
    for bar in bars:
        x, to = axis.at(bar.begin), axis.at(bar.end if bar.end is not None else end)
        width = max(3.0, to - x)
        fits = len(bar.words) * LETTER + 14 <= width
        parts.append(f'<rect class="{bar.look}" x="{x:.1f}" y="{y}" width="{width:.1f}" height="{LANE}" rx="4"/>')
        parts.append(f"<title>{escape(bar.words)}</title>")
        if fits:
            parts.append(f'<text class="bar" x="{x + 8:.1f}" y="{y + 20}">{escape(bar.words)}</text>')
    return f"<g>{''.join(parts)}</g>"


def _short(title: str) -> str:
    return title if len(title) <= 22 else f"{title[:21]}…"


def _times(axis: _Axis, turns: Sequence[float], bottom: float) -> str:
    """When things were: first the times at which the order came further, others where there is room."""
    placed: list[float] = []
    parts = []
    for moment in [*turns, *axis.times]:
        x = axis.at(moment)
        parts.append(f'<line class="tick" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 8}" y2="{bottom + 12}"/>')
        if all(abs(x - other) >= LABEL_ROOM for other in placed):
            placed.append(x)
            said = datetime.fromtimestamp(moment, UTC).strftime("%H:%M:%S")
            parts.append(f'<text class="time" x="{x:.1f}" y="{TOP - 14}" text-anchor="middle">{said}</text>')
    return "".join(parts)


def _marks(axis: _Axis, steps: Sequence[Mapping[str, Any]], y: float) -> tuple[str, int]:
    """A number for each step, over as many rows as it takes; and how many that were."""
    parts = [f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y + 12}" y2="{y + 12}"/>']
    ends: list[float] = []
    for number, step in enumerate(steps, 1):
        x = axis.at(seconds(step["at"]))
        row = next((i for i, end in enumerate(ends) if x - end >= MARK_ROOM), len(ends))
        ends[row : row + 1] = [x]
        parts.append(f'<circle class="mark" cx="{x:.1f}" cy="{y + 12 + row * 18}" r="8.5"/>')
        parts.append(f'<text class="number" x="{x:.1f}" y="{y + 15.5 + row * 18}" text-anchor="middle">{number}</text>')
    return "".join(parts), len(ends)
