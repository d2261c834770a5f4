"""Formulas that tame a guided prediction: APG, CFG-Zero*, guidance rescale."""

from __future__ import annotations

import torch
from torch import Tensor

from negguide.maths.directions import dot, norm, projection, widen


def clip_norm(d: Tensor, r: float) -> Tensor:
    """`d * min(1, r / |d|)` per sample: (B, ...) -> (B, ...). `r <= 0`: unchanged; `d == 0` stays 0."""
    if r <= 0:
        return widen(d)
    length = norm(d)
    return widen(d) * (r / length.clamp_min(torch.finfo(length.dtype).tiny)).clamp_max(1.0)


def apg(d: Tensor, denoised: Tensor, eta: float, r: float) -> Tensor:
    """Update of adaptive projected guidance (arXiv:2410.02416, algorithm 1): `d_perp + eta d_par` of the clipped `d`.

    `d = D(x, c) - D(x)` is the guidance direction between **clean estimates** (momentum already added), and `denoised
    = D(x, c)` the one that it is split against: the part of `d` along it mostly saturates colours. `r` clips |d|
    first (0: off). The guided estimate is `D(x, c) + (w - 1) apg(...)`. Neutral: eta 1, r 0. (B, ...) -> (B, ...) in
    float32 or wider, per sample.
    """
    d = clip_norm(d, r)
    return d - (1.0 - eta) * projection(d, denoised)


def cfg_zero_star(cond: Tensor, uncond: Tensor) -> Tensor:
    """`s* = <v_c, v_0> / |v_0|^2`, the scale that brings `s v_0` closest to `v_c` (CFG-Zero*, arXiv:2503.18886).

    Guidance then is `s* v_0 + w (v_c - s* v_0)`. (B, ...) and (B, ...) -> (B, 1, ...) in float32 or wider; `cond ==
    uncond` gives exactly 1, `uncond == 0` gives 0.
    """
    square = dot(uncond, uncond)
    return dot(cond, uncond) / square.clamp_min(torch.finfo(square.dtype).tiny)


def rescale(guided: Tensor, cond: Tensor, phi: float) -> Tensor:
    """`phi (guided * std(cond) / std(guided)) + (1 - phi) guided` (arXiv:2305.08891, section 3.4).

    Standard deviations over all of a sample, in float32 or wider. `phi` in [0, 1], neutral 0; 0.7 in the paper.
    (B, ...) -> (B, ...) in float32 or wider; a constant `guided` stays as it is.
    """
    wide, reference = widen(guided), widen(cond)
    std_guided, std_cond = (x.flatten(1).std(1).view(-1, *(1,) * (x.ndim - 1)) for x in (wide, reference))
    factor = torch.where(std_guided > 0, std_cond / std_guided.clamp_min(torch.finfo(std_guided.dtype).eps), 1.0)
    return phi * (wide * factor) + (1.0 - phi) * wide
