"""Metrics that are asked for by name: one file each in `measures/`, or from another package's plug-in."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from negguide.metrics.column import Column
from negguide.plugins import load as load_plugins

if TYPE_CHECKING:
    from PIL.Image import Image

Scores = Callable[["Sequence[Image]"], dict[str, float]]
"""Pictures of one prompt, two or more -> a number for each of the metric's columns, by key."""


@dataclasses.dataclass(frozen=True)
class Metric:
    """A measure of the pictures of a prompt together.

    Args:
        name: what `negguide measure --with` and a plan's `measures` call it: a word without "=".
        columns: what it finds, as it stands in tables; keys are unique among all metrics.
        load: option -> (what judged, in words, and the function that does). Called when it is asked for, never at import. Raises
            `negguide.metrics.absent.Absent` where weights or libraries are not here, with what to do.
        options: how an option may be given, for help: "lpips=vgg"; empty where it takes none.
    """

    name: str
    columns: tuple[Column, ...]
    load: Callable[[str], tuple[str, Scores]]
    options: str = ""

    @property
    def asked(self) -> str:
        """How it is asked for, in words."""
        return f"{self.name}, {self.options}" if self.options else self.name


_METRICS: dict[str, Metric] = {}


def register_metric(metric: Metric) -> None:
    """Make a metric known. Raises `ValueError` for a name or a column that another one has, or that cannot be one."""
    if not metric.name or "=" in metric.name or "," in metric.name:
        raise ValueError(f"a metric cannot be called {metric.name!r}; take a word without '=' and ','")
    taken = {
        column.key: other.name for other in _METRICS.values() for column in other.columns if other.name != metric.name
    }
    if _METRICS.get(metric.name, metric) != metric:
        raise ValueError(f"another metric is called {metric.name!r}")
    for column in metric.columns:
        if column.key in taken:
            raise ValueError(f"the column {column.key!r} belongs to the metric {taken[column.key]!r}")
    _METRICS[metric.name] = metric


def metrics() -> dict[str, Metric]:
    """Every known metric by name: those of this package first, then those of others."""
    folder = Path(__file__).parent / "measures"
    for info in sorted(pkgutil.iter_modules([str(folder)]), key=lambda info: info.name):
        register_metric(importlib.import_module(f"negguide.metrics.measures.{info.name}").METRIC)
    load_plugins()
    return dict(_METRICS)
