"""Vendi score and similarity with features of DINO, which see shapes rather than words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from negguide.metrics.column import Column
from negguide.metrics.dino import MODEL, Dino
from negguide.metrics.diversity import mss, vendi
from negguide.metrics.registry import Metric, Scores

if TYPE_CHECKING:
    from PIL.Image import Image


def load(option: str) -> tuple[str, Scores]:
    """DINO by the name of a model or a folder."""
    dino = Dino(option or MODEL)

    def scores(pictures: Sequence[Image]) -> dict[str, float]:
        features = dino(pictures)
        return {"vendi_dino": vendi(features), "mss_dino": mss(features)}

    return f"DINO {dino.name}", scores


METRIC = Metric(
    "dino",
    (
        Column("vendi_dino", "Vendi (DINO)", "{:.2f}", "high", "effective number of different pictures, DINO features"),
        Column("mss_dino", "similarity (DINO)", "{:.3f}", "low", "mean cosine between pictures, DINO features"),
    ),
    load,
    options=f"dino=<model or folder> ({MODEL} by default)",
)
