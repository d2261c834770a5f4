"""Dot products and projections of whole samples: the geometry of Perp-Neg."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def widen(x: Tensor) -> Tensor:
    """`x` in float32, or in its own dtype where that is wider (float64 stays): the dtype of all sums here."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def dot(a: Tensor, b: Tensor) -> Tensor:
    """`<a, b>` per sample: (B, ...) and (B, ...) -> (B, 1, ...), summed over every dimension but the first.

    Any float dtype in, float32 (or wider) out: in float16 the sum overflows at 65,504, which a 16x128x128 latent of
    standard deviation 0.5 reaches.
    """
    product = widen(a) * widen(b)
    return product.flatten(1).sum(1).view(-1, *(1,) * (product.ndim - 1))


def norm(a: Tensor) -> Tensor:
    """Euclidean length per sample: (B, ...) -> (B, 1, ...) in float32 or wider."""
    return dot(a, a).sqrt()


def projection(d: Tensor, onto: Tensor) -> Tensor:
    """`<d, p> / <p, p> * p`, the part of `d` along `p = onto`, per sample: (B, ...) -> (B, ...) in float32 or wider.

    The denominator is clamped to the smallest normal float, no higher: by Cauchy-Schwarz the projection is never
    longer than `d`, so that a short `onto` needs no larger floor, and `d == onto` gives back `onto` bit for bit.
    `onto == 0` gives 0.
    """
    square = dot(onto, onto)
    return dot(d, onto) / square.clamp_min(torch.finfo(square.dtype).tiny) * widen(onto)


def perpendicular(d: Tensor, onto: Tensor) -> Tensor:
    """`d - <d, p> / <p, p> * p` with `p = onto`: what `d` says that `p` does not (Perp-Neg, arXiv:2304.04968).

    Shapes (B, ...) and (B, ...) -> (B, ...) in float32 or wider. `d == onto` gives exactly 0. A vanishing `onto` has no
    direction to protect: `onto == 0` gives `d` itself, and the result is never longer than `d`, so nothing blows up.
    """
    return widen(d) - projection(d, onto)


def perp_neg(d_pos: Tensor, others: Sequence[Tensor], weights: Sequence[float | Tensor]) -> Tensor:
    """`d_pos + sum_i w_i perp(d_i, d_pos)`: the guidance direction of Perp-Neg (arXiv:2304.04968, algorithm 1).

    `d_pos = eps(x, c) - eps(x)` and `d_i = eps(x, c_i) - eps(x)`, all (B, ...); `w_i` as in the paper: **below** zero
    for a negative, above zero for a further positive; a number, or a tensor that broadcasts (a mask times a weight,
    see `masked_perpendicular`). Neutral: no others, or all `w_i = 0`. Returns (B, ...) in float32 or wider.
    """
    total = widen(d_pos)
    for d, w in zip(others, weights, strict=True):
        total = total + w * perpendicular(d, d_pos)
    return total


def masked_perpendicular(d: Tensor, onto: Tensor, mask: Tensor) -> Tensor:
    """`perp(m d, m p)`: the perpendicular part inside a region; exactly 0 where the mask is 0.

    `mask` (float in [0, 1], broadcasts against (B, ...)) weighs both sides before the projection, so that the result is
    perpendicular *within the region*: what happens elsewhere in the picture does not decide what is removed here.
    """
    return perpendicular(widen(d) * mask, widen(onto) * mask)
