"""LPIPS: how far apart the pictures of a prompt look."""

from __future__ import annotations

from negguide.metrics.column import Column
from negguide.metrics.perceptual import NETS, Lpips
from negguide.metrics.registry import Metric, Scores


def load(option: str) -> tuple[str, Scores]:
    """LPIPS with the features of a network, AlexNet's where none is named."""
    net = option or "alex"
    lpips = Lpips(net)
    return f"LPIPS ({net})", lambda pictures: {"lpips": lpips(pictures)}


METRIC = Metric(
    "lpips",
    (Column("lpips", "LPIPS", "{:.3f}", "high", "mean LPIPS between the pictures of a prompt (between 64 of more)"),),
    load,
    options=f"lpips={', lpips='.join(NETS)}",
)
