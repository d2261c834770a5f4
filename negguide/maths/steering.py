"""Steering by a learnt direction: what tokens hold of it, beyond what they hold without the thing, is taken out."""

from __future__ import annotations

import torch
from torch import Tensor

UNTOLD = 1e-3
"""Squared distance of the means, in deviations, at which a direction counts half: below it there is nothing to tell."""


def fit_steering(
    mean_with: Tensor, mean_without: Tensor, covariance: Tensor, shrinkage: float = 0.1
) -> tuple[Tensor, Tensor, Tensor]:
    """Direction d, detector w and offset b of the least-squares eraser of one thing, from statistics of tokens.

    `d = mu_with - mu_without`, `w = S^-1 d / (d . S^-1 d)`, `b = w . mu_without`; S is the covariance within both classes, shrunk
    towards its mean variance. `x - (w . x - b) d` brings the mean with the thing to the mean without it, as LEACE does for a
    concept of two values (arXiv:2306.03819, arXiv:2605.05220). Directions that tell nothing fade (`UNTOLD`).

    Args:
        mean_with: (..., C), of tokens with the thing.
        mean_without: (..., C), of tokens without it.
        covariance: (C, C), within both.
        shrinkage: 0 to 1; 1 makes the detector parallel to the direction.

    Returns:
        d and w of shape (..., C), b of shape (...), in float32.
    """
    d = mean_with.double() - mean_without.double()
    s = covariance.double()
    variance = s.diagonal().mean().clamp(min=1e-12)
    s = (1 - shrinkage) * s + shrinkage * variance * torch.eye(len(s), dtype=s.dtype, device=s.device)
    w = torch.linalg.solve(s, d.reshape(-1, len(s)).T).T.reshape(d.shape)
    w = w / ((w * d).sum(-1, keepdim=True) + UNTOLD)
    return d.float(), w.float(), (w * mean_without.double()).sum(-1).float()


def steer(x: Tensor, direction: Tensor, detector: Tensor, offset: Tensor, strength: float = 1.0) -> Tensor:
    """`x - s max(0, w . x - b) d` for each token: untouched where the detector finds no more than where the thing is not.

    Args:
        x: tokens (B, N, C).
        direction: d, (C,).
        detector: w, (C,).
        offset: b, a scalar.
        strength: s; 0 changes nothing, 1 takes out what was learnt.

    Returns:
        (B, N, C) in float32.
    """
    wide = x.float()
    detected = (wide @ detector - offset).clamp(min=0).unsqueeze(-1)
    return wide - strength * detected * direction
