"""How new pictures are beside others, how much they vary, and how like references they look; from their features."""

from __future__ import annotations

from typing import TYPE_CHECKING

from negguide.metrics.diversity import directions

if TYPE_CHECKING:
    from torch import Tensor


BLOCK = 1024
"""Rows that are held against all others at a time."""


def nearest(features: Tensor, others: Tensor, without: Tensor | None = None) -> Tensor:
    """Cosine of each row (N, C) to the nearest of the others (M, C), (N,) float64. `without`: (N, M) bool, pairs that do not
    count; each row needs another one.
    """
    if features.ndim != 2 or others.ndim != 2 or features.shape[1] != others.shape[1] or not len(others):
        raise ValueError(
            f"features are {tuple(features.shape)} and {tuple(others.shape)}; possible: (N, C) and (M, C), M at least 1"
        )
    import torch

    rows, columns = directions(features), directions(others)
    similarities = []
    for start in range(0, len(rows), BLOCK):
        kernel = rows[start : start + BLOCK] @ columns.T
        if without is not None:
            kernel = kernel.masked_fill(without[start : start + BLOCK], -torch.inf)
        similarities.append(kernel.amax(1))
    return torch.cat(similarities) if similarities else rows.new_zeros(0)


def novelty(features: Tensor, others: Tensor) -> float:
    """Mean distance (1 - cosine) of pictures to the nearest of others: 0 when all of them are there already."""
    return float(1 - nearest(features, others).mean())


def total_variance(features: Tensor) -> float:
    """Trace of the covariance of normalised features (N, C), N at least 2: 0 when all pictures are alike.

    For normalised rows it equals 1 less their mean pairwise cosine (`mss`).
    """
    import torch

    if len(features) < 2:
        raise ValueError(f"a variance needs at least 2 pictures, got {len(features)}")
    rows = torch.nn.functional.normalize(features.double(), dim=1)
    return float(rows.var(dim=0, unbiased=True).sum())
