"""Dynamic negative guidance: pushes an image as hard as it resembles the negative. Choose this to spare others."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from negguide import maths
from negguide.methods.base import Condition, Denoised, Guidance, Step
from negguide.methods.checks import finite
from negguide.methods.negative import (
    UNCONDITIONAL_HELP,
    Concept,
    as_unconditional,
    origin,
    start_from,
    strength,
    subtract,
)
from negguide.methods.negative_method import EditsGuidance
from negguide.methods.options import option
from negguide.methods.registry import register
from negguide.methods.state import RunState, memory_of

if TYPE_CHECKING:
    from torch import Tensor


@dataclasses.dataclass(frozen=True)
class _Seen:
    """A step before it is taken: what was predicted without and with each negative, (B, ...)."""

    step: Step
    eps_0: Tensor
    predictions: Mapping[Concept, Tensor]


@dataclasses.dataclass(frozen=True)
class _Evidence:
    """Squared distances, (B,), of the clean estimate that was taken from the one without and the one with each negative."""

    step: Step
    distances: Mapping[Concept, tuple[Tensor, Tensor]]


@dataclasses.dataclass
class _Posteriors:
    """What is remembered in a run; `log_p`: negative -> (B,) log posterior."""

    log_p: dict[Concept, Tensor] = dataclasses.field(default_factory=dict)
    seen: _Seen | None = None
    evidence: _Evidence | None = None


@register
@dataclasses.dataclass(frozen=True)
class DynamicNegative(EditsGuidance):
    """`eps_0 + w d_+ - sum_i w_i s p_i / (1 - p_i) d_i`, `d = eps - eps_0`, p_i = p(negative i | x_t) of each image.

    The posterior starts at `prior` and is updated by Bayes after every step from how the step taken compares with the
    one that the negative would have taken (`negguide.maths.log_likelihood_ratio` has the derivation; it holds for
    stochastic and deterministic samplers in expectation; flow models are treated as the diffusion with the same
    marginals).

    `prior` in [0, p_max]: how common the negative is among the pictures of this prompt; 0 never acts. `temperature`
    (0 or more) tames the likelihood ratio, which sums over the whole latent: 0.2 as in the authors' example; 0 keeps
    p at the prior. `offset`: a little above 0 keeps watching longer; with `offset_form` "per fold" in nats per e-fold by which
    the noise falls, with "per variance" as in the authors' code (`negguide.maths.dng_drift`), whose example has 2e-4 over
    1000 steps.
    `p_max` bounds the push to `p_max / (1 - p_max)` times w_i s. `scale` is s; None means the guidance scale. A mask
    confines the push and the evidence. `unconditional`: see `PerpNeg`. Neutral: prior 0, weight 0 or scale 0, without
    a pass.

    >>> DynamicNegative("cat", prior=0.1)
    """

    name: ClassVar[str] = "dng"
    summary: ClassVar[str] = "pushes each image as hard as it is likely to show the negative"
    cost: ClassVar[str] = "2 + K (live negatives)"
    paper: ClassVar[str] = "arXiv:2410.14398"

    prior: float = option(
        0.01,
        help="How common the negative is among the pictures of this prompt; at most p_max, 0 never acts.",
        low=0,
        high=1,
        below=True,
    )
    temperature: float = option(
        0.2,
        help="Tames how strongly a step counts as evidence, which sums over the whole latent; 0 keeps the prior.",
        low=0,
    )
    offset: float = option(
        0.0, help="Evidence added as the noise falls; a little above 0 keeps watching longer.", unit="nats"
    )
    offset_form: Literal["per fold", "per variance"] = option(
        "per fold",
        help="What the offset is counted by: e-folds by which the noise falls, or, as in the authors' code, half the inverse "
        "variance of each step, which grows with the number of steps.",
    )
    p_min: float = option(
        1e-6, help="The least probability that is kept; at most p_max.", low=1e-30, high=1, below=True
    )
    p_max: float = option(
        0.8, help="The greatest probability, which bounds the push to p_max / (1 - p_max).", low=1e-6, high=1 - 1e-6
    )
    scale: float | None = option(None, help="Strength of the negatives; empty: the guidance scale.", low=0)
    unconditional: str | tuple[str, ...] | None = option(None, help=UNCONDITIONAL_HELP)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "unconditional", as_unconditional(self.unconditional))
        finite("p_min", self.p_min, low=1e-30, high=self.p_max)
        finite("prior", self.prior, low=0.0, high=self.p_max)

    def _edit(self, guidance: Guidance, concepts: Sequence[Concept], state: RunState) -> None:
        eps_0 = maths.widen(start_from(guidance, self._origin))
        memory = self._advance(state, guidance.step)
        terms, weights = [], []
        for negative in concepts:
            prediction = maths.widen(guidance[negative.condition])
            log_p = memory.log_p.setdefault(negative, self._start(prediction))
            odds = maths.dng_odds(log_p).view(-1, *(1,) * (prediction.ndim - 1))
            terms.append(prediction - eps_0)
            weights.append(-odds * strength(negative, guidance.step))
        subtract(guidance, maths.sum_terms(terms, weights), self.scale)
        memory.seen = _Seen(guidance.step, eps_0, {negative: guidance[negative.condition] for negative in concepts})

    def denoised(self, denoised: Denoised, state: RunState) -> None:
        """Remember how far the step taken is from the one without and the one with each negative."""
        memory = memory_of(state, self, _Posteriors)
        seen, memory.seen = memory.seen, None
        if seen is None or seen.step.index != denoised.step.index:
            return
        step, plain, distances = seen.step, seen.step.to_denoised(seen.eps_0), {}
        for negative, prediction in seen.predictions.items():
            mask = None if negative.mask is None else step.resize_mask(negative.mask).float()
            distances[negative] = (
                maths.squared_distance(denoised.x0, plain, mask),
                maths.squared_distance(denoised.x0, step.to_denoised(maths.widen(prediction)), mask),
            )
        memory.evidence = _Evidence(step, distances)

    def _advance(self, state: RunState, step: Step) -> _Posteriors:
        """Bring the posteriors to this step: now its noise level, and so the last transition, is known."""
        memory = memory_of(state, self, _Posteriors)
        evidence, memory.evidence = memory.evidence, None
        if evidence is not None:
            snr_from, snr_to = _snr(evidence.step), _snr(step)
            drift = maths.dng_drift(self.offset, snr_from, snr_to, self.offset_form)
            for negative, (to_plain, to_negative) in evidence.distances.items():
                ratio = maths.log_likelihood_ratio(to_plain, to_negative, snr_from, snr_to)
                log_p = memory.log_p[negative]
                memory.log_p[negative] = maths.dng_update(
                    log_p, self.temperature * ratio + drift, self.p_min, self.p_max
                )
        return memory

    def _start(self, like: Tensor) -> Tensor:
        import torch

        return torch.full((like.shape[0],), math.log(self.prior), dtype=like.dtype, device=like.device)

    @property
    def _acts(self) -> bool:
        return self.prior > 0 and self.scale != 0

    @property
    def _origin(self) -> Condition:
        return origin(self.unconditional)


def _snr(step: Step) -> float:
    return maths.snr(step.sigma, flow=step.prediction_type.startswith("flow"))
