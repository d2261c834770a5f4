"""The figure of a report: what each method removed against what it kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 380, 56, 190, 18, 46
LINE = 17
"""Least distance of two labels, in the units of the figure."""

KEPT = {"subject": "subject kept", "match": "prompt match", "alignment": "alignment with the prompt (CLIP)"}
"""What the height may be, the first that the judges said anything about."""


@dataclasses.dataclass(frozen=True)
class Point:
    """A method: where its mark stands, where its label stands, and what both say."""

    label: str
    x: float
    y: float
    label_y: float
    told: str


@dataclasses.dataclass(frozen=True)
class Plot:
    """A figure in units of its own, WIDTH x HEIGHT. Ticks are (place, text)."""

    points: tuple[Point, ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    y_title: str
    label_x: float = WIDTH - RIGHT + 24
    width: int = WIDTH
    height: int = HEIGHT


def plot(totals: Mapping[str, Mapping[str, float]]) -> Plot | None:
    """The figure of the mean scores; None where nothing was negated, or no judge says what was kept."""
    key = next((key for key in KEPT if any(key in scores for scores in totals.values())), None)
    shown = {label: scores for label, scores in totals.items() if key in scores and "presence" in scores}
    if key is None or len(shown) < 2:
        return None
    values = [scores[key] for scores in shown.values()]
    low, high = (0.0, 1.0) if key != "alignment" else (min(values) - 0.02, max(values) + 0.02)

    def across(gone: float) -> float:
        return LEFT + gone * (WIDTH - LEFT - RIGHT)

    def up(value: float) -> float:
        return HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - BOTTOM - TOP)

    places = {label: (across(1 - scores["presence"]), up(scores[key])) for label, scores in shown.items()}
    spread = spread_out([y for _, y in places.values()], LINE, TOP, HEIGHT - BOTTOM)
    points = tuple(
        Point(
            label,
            round(places[label][0], 1),
            round(places[label][1], 1),
            round(label_y, 1),
            f"{label}: {1 - scores['presence']:.0%} gone, {KEPT[key]} {_written(scores[key], key)}",
        )
        for (label, scores), label_y in zip(shown.items(), spread, strict=True)
    )
    steps = [low + (high - low) * part / 4 for part in range(5)]
    return Plot(
        points,
        tuple((across(part / 4), f"{part / 4:.0%}") for part in range(5)),
        tuple((up(step), _written(step, key)) for step in steps),
        KEPT[key],
    )


def _written(value: float, key: str) -> str:
    return f"{value:.2f}" if key == "alignment" else f"{value:.0%}"


def spread_out(places: list[float], distance: float, low: float, high: float) -> list[float]:
    """Places as near as may be to the given ones, in their order, at least a distance apart, from `low` to about `high`."""
    order = sorted(range(len(places)), key=lambda place: places[place])
    moved = list(places)
    last = low - distance
    for place in order:
        last = moved[place] = max(moved[place], last + distance)
    limit = high + distance
    for place in reversed(order):
        limit = moved[place] = min(moved[place], max(limit - distance, low))
    return moved
