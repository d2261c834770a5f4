"""DreamSim: how far apart the pictures of a prompt look, in a metric that was fitted to people's judgements."""

from __future__ import annotations

from negguide.metrics.column import Column
from negguide.metrics.perceptual import DreamSim
from negguide.metrics.registry import Metric, Scores


def load(option: str) -> tuple[str, Scores]:
    """DreamSim as its package brings it; it takes no option."""
    dreamsim = DreamSim()
    return "DreamSim", lambda pictures: {"dreamsim": dreamsim(pictures)}


METRIC = Metric(
    "dreamsim",
    (Column("dreamsim", "DreamSim", "{:.3f}", "high", "mean DreamSim distance between the pictures of a prompt"),),
    load,
)
