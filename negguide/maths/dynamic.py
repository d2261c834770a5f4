"""Dynamic negative guidance: how probable the negative is for this very sample, tracked along the way."""

from __future__ import annotations

import math
from typing import Literal

from torch import Tensor

from negguide.maths.directions import widen


def squared_distance(a: Tensor, b: Tensor, mask: Tensor | None = None) -> Tensor:
    """`|a - b|^2` per sample, within a region where a mask (broadcasts against (B, ...)) is given: (B, ...) -> (B,)."""
    square = (widen(a) - widen(b)).square()
    return (square if mask is None else square * mask).flatten(1).sum(1)


def snr(sigma: float, flow: bool) -> float:
    """Signal-to-noise ratio `(alpha / sigma)^2` of a noise level.

    `sigma` is the ratio of noise to signal (k-diffusion's, e.g. 14.6 to 0.03), or with `flow` the noise share in [0,
    1] of `x = (1 - sigma) x0 + sigma n`. 0 noise gives infinity.
    """
    if sigma <= 0:
        return math.inf
    return ((1.0 - sigma) / sigma) ** 2 if flow else 1.0 / sigma**2


def log_likelihood_ratio(guided_to_plain: Tensor, guided_to_negative: Tensor, snr_from: float, snr_to: float) -> Tensor:
    """`log p(x_s | x_t, c) / p(x_s | x_t)` of one sampling step, expected over the step's noise: (B,) and (B,) -> (B,).

    `1/2 (SNR_s - SNR_t) (|x_g - x_0|^2 - |x_g - x_c|^2)` with the clean estimates x_g (guided, the step really
    taken), x_0 (unconditional) and x_c (negative); the two squared distances are the arguments. Positive: the step
    went towards the negative.

    Why: in coordinates `y = x / alpha` the reverse transition from sigma_t to sigma_s is Gaussian with mean
    `(sigma_s/sigma_t)^2 y_t + k x_0` and variance `sigma_s^2 k`, `k = 1 - (sigma_s/sigma_t)^2` (DDPM's posterior).
    Two that differ only in the clean estimate have the log ratio `(|y_s - mu_0|^2 - |y_s - mu_c|^2) / (2 sigma_s^2
    k)` (DNG, arXiv:2410.14398, alg. 1). For `y_s ~ N(mu_g, sigma_s^2 k)` its expectation is the formula above, since
    `k / sigma_s^2 = SNR_s - SNR_t`. Taking the expectation makes it right for deterministic samplers, whose step
    carries no fresh noise. In epsilon it reads `1/2 ((sigma_t/sigma_s)^2 - 1) (|e_g - e_0|^2 - |e_g - e_c|^2)`. Steps
    that gain no signal, and the last one (SNR infinite), give 0.
    """
    gain = snr_to - snr_from
    if not (math.isfinite(gain) and gain > 0):
        gain = 0.0
    return 0.5 * gain * (guided_to_plain - guided_to_negative)


def dng_drift(
    offset: float, snr_from: float, snr_to: float, form: Literal["per fold", "per variance"] = "per fold"
) -> float:
    """What the offset adds to the log posterior in one sampling step, in nats; 0 for steps that gain no signal, and the last.

    Args:
        offset: how much.
        snr_from: signal-to-noise ratio where the step begins.
        snr_to: where it ends.
        form: "per fold", `offset * 1/2 log(SNR_s / SNR_t)`: nats for each e-fold by which the noise falls, whatever the number
            of steps. "per variance", `offset / (2 v)`, as the authors' code has it: v is the variance of DDPM's posterior for the
            step, `(1 - abar_s) / (1 - abar_t) (1 - abar_t / abar_s)`, with `abar = SNR / (1 + SNR)`. More steps, each with a
            smaller v, then make it larger, by the square of their number.
    """
    if not (snr_to > snr_from >= 0.0 and math.isfinite(snr_to)):
        return 0.0
    if form == "per fold":
        return offset * 0.5 * math.log(snr_to / snr_from) if snr_from > 0 else 0.0
    noise_from, noise_to = 1.0 / (1.0 + snr_from), 1.0 / (1.0 + snr_to)
    kept = (1.0 - noise_from) / (1.0 - noise_to)
    return offset / (2.0 * noise_to / noise_from * (1.0 - kept))


def dng_update(log_p: Tensor, log_ratio: Tensor, p_min: float, p_max: float) -> Tensor:
    """Bayes along the chain: `log p(c | x_s) = log p(c | x_t) + log p(x_s | x_t, c) / p(x_s | x_t)`, in [p_min, p_max].

    (B,) and (B,) -> (B,). The bounds, `0 < p_min <= p_max < 1`, keep the odds finite and let a small posterior recover.
    """
    return (log_p + log_ratio).clamp(math.log(p_min), math.log(p_max))


def dng_odds(log_p: Tensor) -> Tensor:
    """`p / (1 - p)`, with which negative guidance is exact for `p(x | not c)` (arXiv:2410.14398): (B,) -> (B,)."""
    p = log_p.exp()
    return p / (1 - p)
