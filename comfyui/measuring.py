"""Scores of a batch of pictures, by the metrics of negguide."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from negguide.experiment.judges import load_clip
from negguide.metrics import alignment, mss, pixels, presence, vendi
from negguide.metrics.presence import NEUTRAL, TEMPLATE

if TYPE_CHECKING:
    from PIL.Image import Image


def measured(pictures: Sequence[Image], prompt: str, things: Sequence[str], clip: str) -> dict[str, float]:
    """Name of a score -> its value: "Vendi", "similarity" of two pictures or more; "CLIP score"; "presence of cat" (means).

    Args:
        pictures: one or more.
        prompt: what they should show; "" for no CLIP score.
        things: what may be there.
        clip: a CLIP by name, or "pixels", which knows no words.

    Raises:
        ValueError: for a CLIP that cannot be had, or words without a CLIP.
    """
    if clip == "pixels":
        if prompt or things:
            raise ValueError(
                "pixels know no words; name a CLIP (toybox, ViT-B-32/laion2b_s34b_b79k), or leave them empty"
            )
        features = pixels(pictures)
        return {"Vendi": vendi(features), "similarity": mss(features)} if len(pictures) > 1 else {}
    model = load_clip(clip)
    features = model.images(pictures)
    scores: dict[str, float] = {}
    if len(pictures) > 1:
        scores |= {"Vendi": vendi(features), "similarity": mss(features)}
    if prompt:
        scores["CLIP score"] = float(alignment(features, model.texts([prompt])).mean())
    for thing in things:
        there = presence(features, model.texts([TEMPLATE.format(thing)])[0], model.texts(NEUTRAL), model.scale)
        scores[f"presence of {thing}"] = float(there.mean())
    return scores
