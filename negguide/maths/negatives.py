"""Sums of negatives: subtracted from the unconditional, or put in its place."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from negguide.maths.directions import widen


def signed(others: Sequence[Tensor], weights: Sequence[float | Tensor]) -> Tensor:
    """`-sum_i w_i d_i` with `d_i = eps(x, c_i) - eps(x)`: the negated terms of composable diffusion (arXiv:2206.01714).

    `others` (B, ...) each; `w_i > 0` subtracts; a number or a tensor that broadcasts. Returns (B, ...) in float32 or
    wider.
    """
    return -sum_terms(others, weights)


def compose(predictions: Sequence[Tensor], weights: Sequence[float | Tensor], base: Tensor | None = None) -> Tensor:
    """K negatives as one prediction: `base + sum_i c_i (eps_i - base)`, `c_i = w_i / sum_j w_j * max_j w_j`.

    The weights say in what proportion the negatives are mixed, the largest of them how far the mixture stands from
    the base: one negative of weight 1 is that negative, two of weight 1 their mean, one of weight 0.5 half way to it,
    1.5 beyond it. A weight that falls to 0 leaves the others as if it had never been there. Weights may be tensors
    (mask times weight); the rule then holds at each place. Without a `base` the weights must be numbers of which the
    largest is 1: the coefficients then sum to 1 and no base is needed. Shapes (B, ...); returns float32 or wider.
    """
    coefficients = mixture(weights)
    if len(predictions) == 1 and isinstance(coefficients[0], float) and coefficients[0] == 1.0:
        return widen(predictions[0])
    origin = predictions[0] if base is None else base
    differences = [widen(prediction) - widen(origin) for prediction in predictions]
    return widen(origin) + sum_terms(differences, coefficients)


def mixture(weights: Sequence[float | Tensor]) -> list[float | Tensor]:
    """`c_i = w_i / sum_j w_j * max_j w_j` (see `compose`); a single weight is its own coefficient, zeros stay zero."""
    if len(weights) == 1:
        return list(weights)
    numbers = [w for w in weights if not isinstance(w, Tensor)]
    if len(numbers) == len(weights):
        total = sum(numbers)
        return [w / total * max(numbers) if total > 0 else 0.0 for w in numbers]
    like = next(w for w in weights if isinstance(w, Tensor))
    maps = torch.broadcast_tensors(*(torch.as_tensor(w, dtype=torch.float32, device=like.device) for w in weights))
    stacked = torch.stack(maps)
    share = stacked / stacked.sum(0).clamp_min(torch.finfo(torch.float32).tiny)
    return list(share * stacked.amax(0))


def sum_terms(terms: Sequence[Tensor], weights: Sequence[float | Tensor]) -> Tensor:
    """`sum_i w_i t_i` over at least one term, in float32 or wider."""
    total = widen(terms[0]) * weights[0]
    for term, weight in zip(terms[1:], weights[1:], strict=True):
        total = total + widen(term) * weight
    return total
