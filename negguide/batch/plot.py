"""Trade-offs as pictures: one score against another, a line for each sweep, drawn as SVG that needs nothing else."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from html import escape

from negguide.batch.measure import Measures
from negguide.batch.more import all_columns
from negguide.experiment.columns import Column
from negguide.metrics import Interval

WIDTH, HEIGHT = 560, 380
LEFT, RIGHT, TOP, BOTTOM = 62, 16, 14, 46
COLOURS = ("#2f5fd0", "#d6593a", "#1d8a55", "#8a4fc7", "#b58100", "#0f8b99", "#c0397f", "#6b7280")
PAIRS = (
    ("presence", "subject"),
    ("match", "vendi"),
    ("presence", "alignment"),
    ("alignment", "vendi"),
)
"""What is drawn against what, the first two that there are values for."""
MOST = 2


@dataclasses.dataclass(frozen=True)
class Point:
    """One label on a plot."""

    label: str
    note: str
    x: Interval
    y: Interval


def plots(measures: Measures, families: Mapping[str, tuple[str, str]]) -> list[str]:
    """SVG texts. `families`: label -> (its sweep's name, its strength in words); labels of a sweep are joined in order."""
    drawn = []
    for across, up in PAIRS:
        lines: dict[str, list[Point]] = {}
        for label, scores in measures.means.items():
            if across in scores and up in scores:
                family, note = families.get(label, (label, ""))
                lines.setdefault(family, []).append(Point(label, note, scores[across], scores[up]))
        if sum(map(len, lines.values())) > 1:
            drawn.append(_svg(_column(across), _column(up), lines))
    return drawn[:MOST]


def _svg(across: Column, up: Column, lines: Mapping[str, Sequence[Point]]) -> str:
    points = [point for line in lines.values() for point in line]
    x_axis = _Axis([value for point in points for value in _values(point.x)], LEFT, WIDTH - RIGHT)
    y_axis = _Axis([value for point in points for value in _values(point.y)], HEIGHT - BOTTOM, TOP)
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT + 18 * len(lines)}" role="img" aria-label="{_title(up)} against {_title(across)}">'
    ]
    for value in x_axis.ticks():
        x = x_axis.place(value)
        parts.append(f'<line class="rule" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{across.write(value)}</text>')
    for value in y_axis.ticks():
        y = y_axis.place(value)
        parts.append(f'<line class="rule" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{up.write(value)}</text>')
    middle = (TOP + HEIGHT - BOTTOM) / 2
    parts.append(
        f'<text class="axis" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}" text-anchor="middle">{_title(across)}</text>'
    )
    parts.append(
        f'<text class="axis" transform="translate(14 {middle}) rotate(-90)" text-anchor="middle">{_title(up)}</text>'
    )
    for place, (family, line) in enumerate(lines.items()):
        colour = COLOURS[place % len(COLOURS)]
        parts.append(_line(line, colour, x_axis, y_axis, across, up))
        y = HEIGHT + 18 * place + 6
        parts.append(
            f'<circle cx="{LEFT}" cy="{y}" r="5" fill="{colour}"/><text x="{LEFT + 12}" y="{y + 4}">{escape(family)}</text>'
        )
    return "".join([*parts, "</svg>"])


def _line(line: Sequence[Point], colour: str, x_axis: _Axis, y_axis: _Axis, across: Column, up: Column) -> str:
    places = [(x_axis.place(point.x.mean), y_axis.place(point.y.mean)) for point in line]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    parts = [f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>'] if len(line) > 1 else []
    for point, (x, y) in zip(line, places, strict=True):
        for low, high, is_x in ((point.x.low, point.x.high, True), (point.y.low, point.y.high, False)):
            if low is None or high is None:
                continue
            a, b = (x_axis.place(low), x_axis.place(high)) if is_x else (y_axis.place(low), y_axis.place(high))
            ends = (
                f'x1="{a:.1f}" x2="{b:.1f}" y1="{y:.1f}" y2="{y:.1f}"'
                if is_x
                else f'x1="{x:.1f}" x2="{x:.1f}" y1="{a:.1f}" y2="{b:.1f}"'
            )
            parts.append(f'<line {ends} stroke="{colour}" stroke-opacity=".35"/>')
        tooltip = f"{point.label}: {across.title} {across.write(point.x.mean)}, {up.title} {up.write(point.y.mean)}"
        parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{colour}"><title>{escape(tooltip)}</title></circle>'
        )
        if point.note:
            side, anchor = (8, "start") if x < WIDTH * 0.8 else (-8, "end")  # inside the picture
            parts.append(f'<text x="{x + side:.1f}" y="{y - 6:.1f}" text-anchor="{anchor}">{escape(point.note)}</text>')
    return "".join(parts)


class _Axis:
    """Values onto pixels, with a little room at both ends."""

    def __init__(self, values: Sequence[float], start: float, stop: float) -> None:
        low, high = min(values), max(values)
        room = (high - low) * 0.08 or abs(high) * 0.1 or 1.0
        self.low, self.high, self.start, self.stop = low - room, high + room, start, stop

    def place(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.stop - self.start)

    def ticks(self, most: int = 6) -> list[float]:
        """Round values inside the axis, at most so many."""
        span = self.high - self.low
        power = 10.0 ** math.floor(math.log10(span / most))
        step = next(power * digit for digit in (1, 2, 2.5, 5, 10) if span / (power * digit) <= most)
        return [step * place for place in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]


def _values(interval: Interval) -> list[float]:
    return [value for value in (interval.low, interval.mean, interval.high) if value is not None]


def _column(key: str) -> Column:
    return next(column for column in all_columns() if column.key == key)


def _title(column: Column) -> str:
    arrow = {"low": " (lower is better)", "high": " (higher is better)", "": ""}[column.good]
    return escape(column.title + arrow)
