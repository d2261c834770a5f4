"""Perp-Neg: removes what a negative does not share with the prompt. Choose this when they overlap: pet, not cat."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, cast

from negguide import maths
from negguide.methods.base import Condition, Guidance, Step
from negguide.methods.negative import (
    UNCONDITIONAL_HELP,
    Concept,
    ConceptLike,
    Positive,
    as_concepts,
    as_unconditional,
    difference,
    origin,
    start_from,
)
from negguide.methods.negative_method import EditsGuidance
from negguide.methods.options import option
from negguide.methods.registry import register
from negguide.methods.state import RunState

if TYPE_CHECKING:
    from torch import Tensor


@register
@dataclasses.dataclass(frozen=True)
class PerpNeg(EditsGuidance):
    """`eps_0 + w [ d_+ - sum_i w_i perp(d_i, d_+) + sum_j v_j perp(d_j, d_+) ]`, `d = eps - eps_0`; perp per sample.

    `negatives`: weights w_i are **positive** here for what is to go (the paper writes -1.5 for what is 1.5 here);
    choose 1 to start, up to 3 is usually safe since the prompt's own direction is never touched. A negative equal to
    the prompt has no effect. `positives`: further wishes with weights v_j, projected too, so that they add nothing
    that the prompt already says. `unconditional`: eps_0. None is the true unconditional, as in the paper: a
    `negative_prompt` of the call then has no part in these steps. "own" starts from what the pipeline has in the
    negative place, which keeps the call's `negative_prompt` at work; a text is its own choice. After another method
    that chose a base (`NegativePrompt`), that base stays and only the direction is edited. A mask confines both the
    effect and the projection to its region. Weight 0: plain guidance, no extra pass.

    >>> PerpNeg(["glasses", ("hat", 1.5)])
    """

    name: ClassVar[str] = "perp_neg"
    summary: ClassVar[str] = "removes only what the negative does not share with the prompt"
    cost: ClassVar[str] = "2 + K (live negatives, positives, and texts of instead_of)"
    paper: ClassVar[str] = "arXiv:2304.04968"
    takes_anchors: ClassVar[bool] = True

    positives: ConceptLike | Sequence[ConceptLike] = option(
        (), help="Further wishes; they add only what the prompt does not say already."
    )
    unconditional: str | tuple[str, ...] | None = option(None, help=UNCONDITIONAL_HELP)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "positives", as_concepts(self.positives, Positive))
        object.__setattr__(self, "unconditional", as_unconditional(self.unconditional))

    def _edit(self, guidance: Guidance, concepts: Sequence[Concept], state: RunState) -> None:
        eps_0 = maths.widen(start_from(guidance, self._origin))
        d_pos = maths.widen(guidance.cond) - eps_0
        direction = maths.widen(guidance.direction)
        for concept in concepts:
            sign = 1.0 if isinstance(concept, Positive) else -1.0
            part = _perpendicular(concept, difference(guidance, concept, eps_0), d_pos, guidance.step)
            direction = direction + sign * concept.weight_in(part) * part
        guidance.direction = direction.to(guidance.cond.dtype)

    @property
    def _origin(self) -> Condition:
        return origin(self.unconditional)

    @property
    def _concepts(self) -> tuple[Concept, ...]:
        return (*self._all, *cast("tuple[Positive, ...]", self.positives))


def _perpendicular(concept: Concept, d: Tensor, d_pos: Tensor, step: Step) -> Tensor:
    if concept.mask is None:
        return maths.perpendicular(d, d_pos)
    return maths.masked_perpendicular(d, d_pos, step.resize_mask(concept.mask))
