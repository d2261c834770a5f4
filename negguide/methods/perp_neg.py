"""Perp-Neg: removes what a negative does not share with the prompt. Choose this when they overlap: pet, not cat."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from negguide import maths
from negguide.methods.base import Condition, Guidance, Method, Step
from negguide.methods.negative import (
    UNCONDITIONAL_HELP,
    Concept,
    ConceptLike,
    Negative,
    Positive,
    as_concepts,
    as_negatives,
    as_unconditional,
    difference,
    live,
    origin,
    start_from,
    wanted,
)
from negguide.methods.options import option
from negguide.methods.registry import register
from negguide.methods.spared import sparing, where_said

if TYPE_CHECKING:
    from torch import Tensor


@register
@dataclasses.dataclass(frozen=True)
class PerpNeg(Method):
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
    acts_alone: ClassVar[bool] = False

    negatives: ConceptLike | Sequence[ConceptLike]
    positives: ConceptLike | Sequence[ConceptLike] = option(
        (), help="Further wishes; they add only what the prompt does not say already."
    )
    unconditional: str | tuple[str, ...] | None = option(None, help=UNCONDITIONAL_HELP)

    def __post_init__(self) -> None:
        object.__setattr__(self, "negatives", as_negatives(self.negatives, type(self).__name__, anchors=True))
        object.__setattr__(self, "positives", as_concepts(self.positives, Positive))
        object.__setattr__(self, "unconditional", as_unconditional(self.unconditional))

    def conditions(self, step: Step, state: dict[str, Any]) -> Sequence[Condition]:
        concepts = live(self._all, step)
        return (origin(self.unconditional), *wanted(concepts), *sparing(concepts)) if concepts else ()

    def prompts(self) -> Sequence[Condition]:
        conditions = wanted(self._all)
        return (origin(self.unconditional), *conditions, *sparing(self._all)) if conditions else ()

    def combine(self, guidance: Guidance, state: dict[str, Any]) -> None:
        if concepts := live(self._all, guidance.step):
            with where_said(concepts, guidance):
                self._edit(guidance, concepts)

    def _edit(self, guidance: Guidance, concepts: Sequence[Concept]) -> None:
        eps_0 = maths.widen(start_from(guidance, origin(self.unconditional)))
        d_pos = maths.widen(guidance.cond) - eps_0
        direction = maths.widen(guidance.direction)
        for concept in concepts:
            sign = 1.0 if isinstance(concept, Positive) else -1.0
            part = _perpendicular(concept, difference(guidance, concept, eps_0), d_pos, guidance.step)
            direction = direction + sign * concept.weight_in(part) * part
        guidance.direction = direction.to(guidance.cond.dtype)

    @property
    def _all(self) -> tuple[Concept, ...]:
        negatives: tuple[Concept, ...] = as_concepts(self.negatives, Negative)
        return negatives + as_concepts(self.positives, Positive)


def _perpendicular(concept: Concept, d: Tensor, d_pos: Tensor, step: Step) -> Tensor:
    if concept.mask is None:
        return maths.perpendicular(d, d_pos)
    return maths.masked_perpendicular(d, d_pos, step.resize_mask(concept.mask))
