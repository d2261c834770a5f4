"""Repulsion between clean estimates: pictures of one prompt pushed apart, or away from pictures to avoid."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from negguide.maths.directions import widen


def distances(x: Tensor, others: Tensor) -> Tensor:
    """Euclidean `|x_i - z_k|`, summed over every dimension but the first: (B, ...) and (K, ...) -> (B, K), float32 up.

    From differences, point by point: never (B, K, ...) at once, and near pairs keep their digits.
    """
    points = widen(others).flatten(1)
    return torch.stack([torch.linalg.vector_norm(row - points, dim=1) for row in widen(x).flatten(1)])


def spell(x: Tensor, others: Tensor, sees: Tensor, r: float, overcompensation: float = 1.6) -> Tensor:
    """`lambda sum_k relu(r / |x_i - z_k| - 1) (x_i - z_k)`: the push of SPELL (arXiv:2410.06025) on the clean estimate.

    It acts only where an estimate is nearer than `r` to a shielded point `z_k`, and there leads it out of the ball:
    with one point and `lambda = 1` exactly to its surface. `lambda = overcompensation`, 1.6 in the paper. `x` (B,
    ...), `others` (K, ...), `sees` (B, K) bool: which points an estimate is pushed from. Returns what is to be added,
    (B, ...) in float32 or wider; 0 where nothing is near, and from a point that `x_i` equals, since no direction
    leads away from it. Formula from the paper; its authors have published no code to compare with.
    """
    d = distances(x, others)
    weights = (r - d).relu() / d.clamp_min(torch.finfo(d.dtype).tiny)
    return overcompensation * _pushes(x, others, torch.where(sees & (d > 0), weights, 0.0))


def particle_guidance(x: Tensor, others: Tensor, sees: Tensor) -> Tensor:
    """`sum_j k(x_i, x_j) (x_i - x_j)`, `k = exp(-|x_i - x_j|^2 / h_i)`: direction of particle guidance (arXiv:2310.13102).

    It is the gradient of `log Phi = -1/2 sum k` times `h_i / 2`. Bandwidth by the median rule, `h_i = m_i^2 / log
    n_i` with m_i the median of the distances from x_i to the n_i - 1 others that it sees (the lower of the two middle
    ones), held constant in the gradient, so that the direction has the unit of `x` and does not depend on its size.
    `x` (B, ...), `others` (K, ...), `sees` (B, K) bool. Returns (B, ...) in float32 or wider; 0 for those that see
    none. The rule is the paper's; the authors' code takes the median per particle, as here, and `log(n - 1)`, which
    fails for n = 2 (their code as described in a secondary source, not read).
    """
    d = distances(x, others)
    count = sees.sum(1, keepdim=True) + 1
    median = d.masked_fill(~sees, math.nan).nanmedian(1, keepdim=True).values
    h = median.square() / count.to(d.dtype).log()
    kernel = (-d.square() / h.clamp_min(torch.finfo(d.dtype).tiny)).exp()
    return _pushes(x, others, torch.where(sees, kernel, 0.0))


def nearest(x: Tensor) -> Tensor:
    """Distance of each point to the nearest other: (K, ...) -> (K,), K at least 2; Euclidean, float32 or wider."""
    d = distances(x, x)
    return d.fill_diagonal_(math.inf).amin(1)


def _pushes(x: Tensor, others: Tensor, weights: Tensor) -> Tensor:
    """`sum_k w_ik (x_i - z_k)`, from differences, as `distances`: exact where `w_ik` is large."""
    points = widen(others).flatten(1)
    rows = [w @ (point - points) for point, w in zip(widen(x).flatten(1), weights, strict=True)]
    return torch.stack(rows).view(x.shape)
