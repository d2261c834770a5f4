"""What the tests of adaptive negatives share: watchers that say what they are told, and readers of the log."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch


def says(*answers: str) -> Any:
    """A watcher that gives these answers, look by look, and then the last one again; it remembers the pictures."""

    def watcher(images: Any, questions: Any) -> Any:
        at = min(len(watcher.seen), len(answers) - 1)  # type: ignore[attr-defined]
        watcher.seen.append((images, questions))  # type: ignore[attr-defined]
        return [[answers[at]] * len(questions) for _ in images]

    watcher.seen = []  # type: ignore[attr-defined]
    return watcher


def brightest(images: Any, questions: Any) -> Any:
    """The colour that prevails in each picture."""
    means = [np.asarray(image, dtype=float).mean((0, 1)) for image in images]
    return [[("crimson", "emerald", "azure")[int(mean.argmax())]] * len(questions) for mean in means]


def generators(*seeds: int) -> Any:
    several = [torch.Generator().manual_seed(seed) for seed in seeds]
    return several if len(several) > 1 else several[0]


def negatives(attached: Any) -> list[list[list[str]]]:
    """For each look that came to its end, the negatives of each image."""
    return [[row["negatives"] for row in note["images"]] for record in attached.trace for note in record.notes]


def difference(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found - wanted).abs().max() / wanted.abs().max())
