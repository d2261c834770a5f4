"""Contrastive CFG: a negative whose push fades once the sample is far from it."""

from __future__ import annotations

from torch import Tensor

from negguide.maths.directions import dot


def ccfg_weights(d_pos: Tensor, d_neg: Tensor, tau: float) -> tuple[Tensor, Tensor]:
    """`lambda_+ = 2 / (1 + exp(-tau |d_+|^2))` and `lambda_- = 2 / (1 + exp(tau |d_-|^2))` of CCFG (arXiv:2411.17077).

    They weigh `d = eps(x, c) - eps(x)` of the positive and the negative condition; `lambda_+` lies in [1, 2),
    `lambda_-` in (0, 1]. `tau >= 0` (the authors' code: 0.2 on epsilon of 4x64x64 latents; the squared norm is a sum,
    so larger latents want a smaller tau); neutral: 0, where both are exactly 1. (B, ...) each -> two (B, 1, ...) in
    float32 or wider, never NaN.
    """
    return 2 * (tau * dot(d_pos, d_pos)).sigmoid(), 2 * (-tau * dot(d_neg, d_neg)).sigmoid()
