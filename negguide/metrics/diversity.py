"""Diversity of a set of pictures, from their features."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def vendi(features: Tensor) -> float:
    """Vendi Score (arXiv:2210.02410) with a cosine kernel: the effective number of different pictures, 1 to N.

    `features`: (N, C), any float dtype and length; computed in float64. `ValueError` for fewer than one row or for
    rows of length zero.
    """
    import torch

    rows = directions(features)
    # of the two products of the rows, the smaller one, which has the same eigenvalues
    kernel = cosines(features) if len(rows) <= rows.shape[1] else rows.T @ rows
    shares = torch.linalg.eigvalsh(kernel / len(rows)).clamp_min(0)  # rounding may leave some below 0
    return float(torch.special.entr(shares).sum().exp())


def mss(features: Tensor) -> float:
    """Mean pairwise similarity: the mean cosine over all pairs of different rows of (N, C); lower is more diverse.

    `ValueError` for fewer than two rows.
    """
    count = len(features)
    if count < 2:
        raise ValueError(f"similarity between pictures needs at least 2 of them, got {count}")
    total = directions(features).sum(0)  # the sum of all cosines is the square of this sum's length
    return float(((total @ total) - count) / (count * (count - 1)))


def cosines(features: Tensor) -> Tensor:
    """Cosine of every pair of rows: (N, C) -> (N, N), float64 on the CPU, with exact ones on the diagonal."""
    rows = directions(features)
    return (rows @ rows.T).fill_diagonal_(1.0)


def directions(features: Tensor) -> Tensor:
    """Rows of length one: (N, C) -> (N, C), float64 on the CPU. `ValueError` for rows without a direction."""
    if features.ndim != 2 or not len(features):
        raise ValueError(f"features have the shape {tuple(features.shape)}; possible: (N, C) with N of at least 1")
    rows = features.detach().cpu().double()
    norms = rows.norm(dim=1, keepdim=True)
    if not bool((norms > 0).all()) or not bool(norms.isfinite().all()):
        raise ValueError("a row of the features is zero or not finite, so it has no direction to compare")
    return rows / norms
