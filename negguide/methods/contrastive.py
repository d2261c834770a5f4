"""Contrastive CFG: a bounded negative that lets go once the picture is far. Choose this when signed negatives tear."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

from negguide import maths
from negguide.methods.base import Condition, Guidance, Method, Step
from negguide.methods.negative import (
    UNCONDITIONAL_HELP,
    ConceptLike,
    Negative,
    as_negatives,
    as_unconditional,
    difference,
    live,
    origin,
    start_from,
    subtract,
    wanted,
)
from negguide.methods.options import check_options, option
from negguide.methods.registry import register
from negguide.methods.spared import sparing, where_said


@register
@dataclasses.dataclass(frozen=True)
class ContrastiveNegative(Method):
    """`eps_0 + w d_+ - sum_i w_i s lambda_-(d_i) d_i`, `d = eps - eps_0`, `lambda_- = 2 / (1 + exp(tau |d_i|^2))`.

    `tau` (0 or more) sets how soon a negative lets go: 0.2 fits epsilon of 4x64x64 latents (the authors' code); |d|^2
    is a sum over the latent, so choose it smaller for larger latents; 0 is signed guidance. `scale` is s; None means
    the guidance scale. `boost_positive` applies the paper's `lambda_+` in [1, 2) as well, which raises the guidance
    scale up to twice; off by default, so that the method changes nothing but its negatives. `unconditional`: see
    `PerpNeg`. A mask confines effect and norm.

    >>> ContrastiveNegative("hat", tau=0.2)
    """

    name: ClassVar[str] = "ccfg"
    summary: ClassVar[str] = "a signed negative that fades once the picture is far from it"
    cost: ClassVar[str] = "2 + K (live negatives)"
    paper: ClassVar[str] = "arXiv:2411.17077"
    acts_alone: ClassVar[bool] = False

    negatives: ConceptLike | Sequence[ConceptLike]
    tau: float = option(
        0.2,
        help="How soon a negative lets go; smaller for larger latents (0.2 fits 4x64x64), 0 never lets go.",
        low=0,
    )
    scale: float | None = option(None, help="Strength of the negatives; empty: the guidance scale.", low=0)
    boost_positive: bool = option(False, help="Strengthen the prompt as well, up to twice, as in the paper.")
    unconditional: str | tuple[str, ...] | None = option(None, help=UNCONDITIONAL_HELP)

    def __post_init__(self) -> None:
        object.__setattr__(self, "negatives", as_negatives(self.negatives, type(self).__name__, anchors=True))
        check_options(self)
        object.__setattr__(self, "unconditional", as_unconditional(self.unconditional))

    def conditions(self, step: Step, state: dict[str, Any]) -> Sequence[Condition]:
        negatives = self._live(step)
        return (origin(self.unconditional), *wanted(negatives), *sparing(negatives)) if negatives else ()

    def prompts(self) -> Sequence[Condition]:
        conditions = () if self.scale == 0 else wanted(self._all)
        return (origin(self.unconditional), *conditions, *sparing(self._all)) if conditions else ()

    def combine(self, guidance: Guidance, state: dict[str, Any]) -> None:
        if negatives := self._live(guidance.step):
            with where_said(negatives, guidance):
                self._edit(guidance, negatives)

    def _edit(self, guidance: Guidance, negatives: Sequence[Negative]) -> None:
        eps_0 = maths.widen(start_from(guidance, origin(self.unconditional)))
        d_pos = maths.widen(guidance.cond) - eps_0
        terms, weights = [], []
        for negative in negatives:
            d = difference(guidance, negative, eps_0)
            if negative.mask is not None:
                d = d * guidance.step.resize_mask(negative.mask)
            boost, fade = maths.ccfg_weights(d_pos, d, self.tau)
            terms.append(d)
            weights.append(-negative.weight_in(d) * fade)
        if self.boost_positive:
            guidance.direction = (maths.widen(guidance.direction) * boost).to(guidance.cond.dtype)
        subtract(guidance, maths.sum_terms(terms, weights), self.scale)

    def _live(self, step: Step) -> tuple[Negative, ...]:
        return () if self.scale == 0 else live(self._all, step)

    @property
    def _all(self) -> tuple[Negative, ...]:
        return as_negatives(self.negatives, self.name, anchors=True)
