"""How the methods of a bench are drawn, each so that it can be told from all others."""

from __future__ import annotations

from typing import Any

COLOURS, MARKERS = 10, "osD^v"
"""Colours of the figure's cycle; each further round has another marker."""


def style(place: int) -> dict[str, Any]:
    """Arguments of `Axes.plot` for the method at a place of the legend."""
    return {
        "color": f"C{place % COLOURS}",
        "marker": MARKERS[place // COLOURS % len(MARKERS)],
        "linestyle": "-" if place < COLOURS else "--",
        "markersize": 4,
    }
