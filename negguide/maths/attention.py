"""Negatives inside attention: normalised attention guidance, and values with their sign turned."""

from __future__ import annotations

import torch
from torch import Tensor

from negguide.maths.directions import widen

_BLOCK = 1 << 17
"""Numbers of a tensor that are worked on at a time on a CPU: half a megabyte in float32."""


def nag(z_pos: Tensor, z_neg: Tensor, scale: float, tau: float, alpha: float) -> Tensor:
    """Normalised attention guidance of attention outputs (arXiv:2505.21179, section 3).

    `z = s z_pos - (s - 1) z_neg`; each token is shortened to at most tau times the L1 norm of the positive one, `z *=
    min(R, tau) / R` with `R = |z|_1 / |z_pos|_1`; then blended, `alpha z + (1 - alpha) z_pos`. Norms over the last
    dimension, in float32 or wider. `scale` above 1 leads away from the negative; neutral: 1 (with tau >= 1), or alpha
    0, or `z_neg == z_pos`. A token with `z_pos = 0` comes out as 0 (its norm bounds the result). (B, N, C) and (B, N,
    C) -> (B, N, C) in float32 or wider. No copy of the release: it replaces NaN ratios by 10, which this form never
    meets.
    """
    if torch.is_grad_enabled() or z_pos.device.type != "cpu" or z_pos.ndim < 2 or z_pos.numel() <= _BLOCK:
        return _nag(z_pos, z_neg, scale, tau, alpha)
    # Tokens stand alone: block by block all between reading and writing stays in the processor's cache, in two tensors that
    # are used again (measured: up to 7 times faster; fresh memory costs more than the arithmetic).
    tokens = max(1, _BLOCK * z_pos.shape[-2] // z_pos.numel())
    result = torch.empty(z_pos.shape, dtype=torch.promote_types(z_pos.dtype, torch.float32))
    scratch = torch.empty((2, *z_pos[..., :tokens, :].shape), dtype=result.dtype)
    for plus, minus, out in zip(
        *(z.split(tokens, dim=-2) for z in (z_pos, z_neg.expand_as(z_pos), result)), strict=True
    ):
        positive, negative = plus.to(result.dtype), minus.to(result.dtype)
        extrapolated, sizes = scratch[..., : plus.shape[-2], :]
        torch.lerp(negative, positive, scale, out=extrapolated)
        bound = torch.abs(positive, out=sizes).sum(-1, keepdim=True).mul_(tau)
        length = torch.abs(extrapolated, out=sizes).sum(-1, keepdim=True)
        extrapolated.mul_(_factor(bound, length))
        torch.lerp(positive, extrapolated, alpha, out=out)
    return result


def _nag(z_pos: Tensor, z_neg: Tensor, scale: float, tau: float, alpha: float) -> Tensor:
    positive, negative = widen(z_pos), widen(z_neg)
    extrapolated = torch.lerp(negative, positive, scale)
    bound = tau * positive.abs().sum(-1, keepdim=True)
    shortened = extrapolated * _factor(bound, extrapolated.abs().sum(-1, keepdim=True))
    return torch.lerp(positive, shortened, alpha)


def orthogonal_end(z_pos: Tensor, z_neg: Tensor) -> Tensor:
    """What to give `nag` for z_neg to subtract only what it has beside z_pos: `z_pos + z_neg - <z_neg, z_pos> / |z_pos|^2 z_pos`.

    Per token, over the last dimension: `nag` then gives `z_pos - (s - 1) perp(z_neg)`, shortened and blended as ever (after the
    abstract of arXiv:2605.29390). A token with `z_pos = 0` gives z_neg. (B, N, C) and (B, N, C) -> (B, N, C) in float32 or wider.
    """
    positive, negative = widen(z_pos), widen(z_neg)
    square = positive.square().sum(-1, keepdim=True)
    along = (negative * positive).sum(-1, keepdim=True) / square.clamp_min(torch.finfo(square.dtype).tiny)
    return negative + (1.0 - along) * positive


def _factor(bound: Tensor, length: Tensor) -> Tensor:
    """By what each token is multiplied, so that it is at most as long as its bound."""
    return (bound / length.clamp_min(torch.finfo(length.dtype).tiny)).clamp_max(1.0)


def flip_values(values: Tensor, weights: Tensor) -> Tensor:
    """`w_l v_l` of each text token: value sign flip (VSF, arXiv:2508.10931) for `w_l < 0`; 1 leaves a token as it is.

    What attends to a token of weight -alpha is moved against its value by alpha times its share of attention. `values`
    (B, L, C), `weights` (L,) or (B, L). Returns (B, L, C) in float32 or wider.
    """
    return widen(values) * widen(weights).unsqueeze(-1)
