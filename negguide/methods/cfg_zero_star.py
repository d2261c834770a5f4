"""CFG-Zero*: guidance for flow models, whose early velocities are poor. Choose this with SD3, Flux, Wan."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

from negguide import maths
from negguide.methods.base import Guidance, Method, Step
from negguide.methods.negative import move_base
from negguide.methods.options import check_options, option
from negguide.methods.registry import register
from negguide.methods.state import RunState


@register
@dataclasses.dataclass(frozen=True)
class CFGZeroStar(Method):
    """`s* v_0 + w (v_+ - s* v_0)` with `s* = <v_+, v_0> / |v_0|^2` per image, and a zero velocity in the first steps.

    The base (the unconditional, or what a method before put there) is scaled; the rest of the direction stays as it
    is. `optimal_scale`: whether to use s*. `zero_init_steps`: None as in the paper (4 % of the steps, at least one,
    on flow models; none on others), or their number; a zero velocity leaves the sample where it is, which only flow
    models mean by it. Neutral: `CFGZeroStar(optimal_scale=False, zero_init_steps=0)`. Raises `ValueError` for zero
    steps on a model that is no flow.
    """

    name: ClassVar[str] = "cfg_zero_star"
    summary: ClassVar[str] = "scales the unconditional to fit, and skips the first steps; for flow models"
    cost: ClassVar[str] = "no extra pass"
    paper: ClassVar[str] = "arXiv:2503.18886"

    optimal_scale: bool = option(True, help="Scale the unconditional so that it fits the prompt's prediction best.")
    zero_init_steps: int | None = option(
        None,
        help="Steps at the start that leave the sample where it is; empty: 4 % on flow models, none on others.",
        low=0,
    )

    def __post_init__(self) -> None:
        check_options(self)

    def combine(self, guidance: Guidance, state: RunState) -> None:
        import torch

        if self.optimal_scale:
            base = maths.cfg_zero_star(guidance.cond, guidance.base) * maths.widen(guidance.base)
            move_base(guidance, base.to(guidance.cond.dtype))
        if guidance.step.index < self._zero_steps(guidance.step):
            guidance.add_post(torch.zeros_like)

    def _zero_steps(self, step: Step) -> int:
        flow = step.prediction_type.startswith("flow")
        if self.zero_init_steps is None:
            return max(1, math.floor(0.04 * step.count)) if flow else 0
        if self.zero_init_steps and not flow:
            raise ValueError(
                f"zero_init_steps={self.zero_init_steps} needs a flow model; this predicts {step.prediction_type!r}, "
                "where a zero prediction does not mean 'stay'. Use zero_init_steps=0 or None"
            )
        return self.zero_init_steps
