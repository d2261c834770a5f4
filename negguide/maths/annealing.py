"""Noise on the text embeddings: one that fades while sampling (CADS), and one that makes seeds differ (seed variance)."""

from __future__ import annotations

import math

from torch import Tensor

from negguide.maths.directions import widen


def cads_gamma(t: float, tau_1: float, tau_2: float) -> float:
    """How much of the condition is left: 1 for `t <= tau_1`, 0 for `t >= tau_2`, linear between (arXiv:2310.17347, eq. 3).

    `t` runs from 1 (pure noise) to 0 (finished picture); `0 <= tau_1 <= tau_2 <= 1`, and where both are equal the
    condition is whole up to and including it.
    """
    if t <= tau_1:
        return 1.0
    return 0.0 if t >= tau_2 else (tau_2 - t) / (tau_2 - tau_1)


def cads(y: Tensor, noise: Tensor, gamma: float, s: float, psi: float) -> Tensor:
    """`psi y_r + (1 - psi) y_n`, `y_n = sqrt(gamma) y + s sqrt(1 - gamma) n` (CADS, arXiv:2310.17347).

    `y_r` is `y_n` brought back to the mean and the standard deviation of `y`, over all of a sample's tokens and
    channels (the release takes them over the whole batch, so that images depend on their neighbours). `y` and standard
    normal `noise` (B, L, C); `gamma` and `psi` in [0, 1], `s >= 0`. Returns (B, L, C) in float32 or wider; `gamma = 1`
    gives `y` up to rounding. The number of the equation and the remark on the release are from memory.
    """
    wide = widen(y)
    noisy = math.sqrt(gamma) * wide + s * math.sqrt(1.0 - gamma) * widen(noise)
    (mean, std), (mean_y, std_y) = _moments(noisy), _moments(wide)
    tiny = 1e-12
    rescaled = (noisy - mean) / std.clamp_min(tiny) * std_y + mean_y
    return psi * rescaled + (1.0 - psi) * noisy


def seed_variance(y: Tensor, noise: Tensor, strength: float) -> Tensor:
    """`y + strength * std(y) * noise`, each token brought back to its own length.

    Args:
        y: text embeddings, (B, L, C); the deviation is that of each sample over all of its tokens and channels.
        noise: (B, L, C), 0 where a value stays.
        strength: 0 or more.

    Returns:
        (B, L, C) in float32 or wider.
    """
    wide = widen(y)
    moved = wide + strength * _moments(wide)[1] * widen(noise)
    length = wide.norm(dim=-1, keepdim=True)
    return moved * (length / moved.norm(dim=-1, keepdim=True).clamp_min(1e-12))


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each sample, (B, 1, ...)."""
    dims = tuple(range(1, x.ndim))
    return x.mean(dims, keepdim=True), x.std(dims, keepdim=True)
