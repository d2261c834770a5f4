"""How new pictures are beside others, how much they vary, and how like references they look; from their features."""

from __future__ import annotations

from typing import TYPE_CHECKING

from negguide.metrics.diversity import cosines

if TYPE_CHECKING:
    from torch import Tensor


def nearest(features: Tensor, others: Tensor) -> Tensor:
    """Cosine of each row (N, C) to the nearest of the others (M, C), (N,) float64."""
    if features.ndim != 2 or others.ndim != 2 or features.shape[1] != others.shape[1] or not len(others):
        raise ValueError(
            f"features are {tuple(features.shape)} and {tuple(others.shape)}; possible: (N, C) and (M, C), M at least 1"
        )
    import torch

    count = len(features)
    return cosines(torch.cat([features, others]))[:count, count:].amax(1)


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
