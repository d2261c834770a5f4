"""Contrastive CFG: a bounded negative that lets go once the picture is far. Choose this when signed negatives tear."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

from negguide import maths
from negguide.methods.base import Condition, Guidance
from negguide.methods.negative import (
    UNCONDITIONAL_HELP,
    Concept,
    as_unconditional,
    difference,
    origin,
    start_from,
    subtract,
)
from negguide.methods.negative_method import EditsGuidance
from negguide.methods.options import option
from negguide.methods.registry import register
from negguide.methods.state import RunState


@register
@dataclasses.dataclass(frozen=True)
class ContrastiveNegative(EditsGuidance):
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
    takes_anchors: ClassVar[bool] = True

    tau: float = option(
        0.2,
        help="How soon a negative lets go; smaller for larger latents (0.2 fits 4x64x64), 0 never lets go.",
        low=0,
    )
    scale: float | None = option(None, help="Strength of the negatives; empty: the guidance scale.", low=0)
    boost_positive: bool = option(False, help="Strengthen the prompt as well, up to twice, as in the paper.")
    unconditional: str | tuple[str, ...] | None = option(None, help=UNCONDITIONAL_HELP)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "unconditional", as_unconditional(self.unconditional))

    def _edit(self, guidance: Guidance, concepts: Sequence[Concept], state: RunState) -> None:
        eps_0 = maths.widen(start_from(guidance, self._origin))
        d_pos = maths.widen(guidance.cond) - eps_0
        terms, weights = [], []
        for negative in concepts:
            d = difference(guidance, negative, eps_0)
            if negative.mask is not None:
                d = d * guidance.step.resize_mask(negative.mask)
            boost, fade = maths.ccfg_weights(d_pos, d, self.tau)
            terms.append(d)
            weights.append(-negative.weight_in(d) * fade)
        if self.boost_positive:
            guidance.direction = (maths.widen(guidance.direction) * boost).to(guidance.cond.dtype)
        subtract(guidance, maths.sum_terms(terms, weights), self.scale)

    @property
    def _origin(self) -> Condition:
        return origin(self.unconditional)

    @property
    def _acts(self) -> bool:
        return self.scale != 0
