"""Negative prompts as known, K of them, with weights, windows and regions. Choose this first; it is cheap."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING, ClassVar, Literal

from negguide import maths
from negguide.methods.base import OWN, Condition, Guidance, Method, Step
from negguide.methods.negative import (
    UNCONDITIONAL_HELP,
    Concept,
    Negative,
    as_unconditional,
    difference,
    is_base_chosen,
    move_base,
    origin,
    start_from,
    strength,
    subtract,
    wanted,
)
from negguide.methods.negative_method import EditsGuidance
from negguide.methods.options import option
from negguide.methods.registry import register, register_preset
from negguide.methods.state import RunState

if TYPE_CHECKING:
    from torch import Tensor


@register
@dataclasses.dataclass(frozen=True)
class NegativePrompt(EditsGuidance):
    """Push away from negative texts, in one of two ways. For negatives that overlap with the prompt prefer `PerpNeg`.

    `mode="replace"`: `eps_n + w (eps_+ - eps_n)`; the negative stands where the unconditional stood. This is the
    negative prompt of every pipeline and costs nothing extra. K negatives are mixed in proportion to their weights,
    the largest weight says how far the mixture stands from what the pipeline had there (`negguide.maths.compose`):
    one of weight 1 is the classical negative prompt, two of weight 1 are averaged, 0.5 goes half the way, 1.5 beyond.
    With a weight other than 1 as the largest, or with a mask, the pipeline's own negative (usually the unconditional)
    is needed too, which costs one pass. Outside windows and masks, that own prediction stands. After another method
    that chose a base, the mixture starts from that base.

    `mode="signed"`: `eps_0 + w (eps_+ - eps_0) - sum_i w_i s (eps_i - eps_0)` (arXiv:2206.01714; the own scale as in
    VL-DNP, arXiv:2510.26052). The negative has its own strength and the unconditional stays: precise, but strong
    scales tear at what the negative shares with the prompt. `scale` is s; None means the guidance scale w, so that
    weight 1 subtracts in full. `unconditional` is eps_0, see `PerpNeg`; only here.

    >>> NegativePrompt("blurry")
    >>> NegativePrompt([("hat", 0.8), Negative("glasses", window=Window(0, 0.4))], mode="signed", scale=5.0)
    """

    name: ClassVar[str] = "negative"
    summary: ClassVar[str] = "the negative stands in the place of the unconditional; K are mixed by weight"
    cost: ClassVar[str] = "2 (one negative of weight 1); 1 + K (largest weight 1); 2 + K otherwise or with masks"
    paper: ClassVar[str] = "arXiv:2207.12598"

    mode: Literal["replace", "signed"] = option(
        "replace", help="Whether the negative stands where the unconditional stood, or is subtracted from it."
    )
    scale: float | None = option(None, help="Strength of the negatives, signed only; empty: the guidance scale.", low=0)
    unconditional: str | tuple[str, ...] | None = option(None, help=f"Signed only. {UNCONDITIONAL_HELP}")

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "unconditional", as_unconditional(self.unconditional))
        if self.mode not in ("replace", "signed"):
            raise ValueError(
                f"mode is {self.mode!r}; possible: 'replace' (stands where the unconditional stood) "
                "or 'signed' (subtracted from it)"
            )
        if self.mode == "replace" and (self.scale is not None or self.unconditional is not None):
            raise ValueError("scale and unconditional act only with mode='signed'; with mode='replace' use the weights")

    def check_beside(self, others: Sequence[Method]) -> None:
        rivals = [other for other in others if isinstance(other, NegativePrompt) and other.mode == "replace"]
        if self.mode == "replace" and any(
            _meet(ours, theirs) for other in rivals for ours, theirs in product(self._all, other._all)
        ):
            raise ValueError(
                "two NegativePrompt(mode='replace') want the whole place of the unconditional at the same steps, and only "
                "the last would have it: give all negatives to one NegativePrompt([...]), or let their windows not meet"
            )

    def conditions(self, step: Step, state: RunState) -> Sequence[Condition]:
        negatives = self._live(step)
        if self.mode == "signed" or not negatives:
            return super().conditions(step, state)
        if _fills(negatives):
            return tuple(dataclasses.replace(condition, role="base") for condition in wanted(negatives))
        return (OWN, *wanted(negatives))

    def prompts(self) -> Sequence[Condition]:
        if not (negatives := wanted(self._all)) or not self._acts:
            return ()
        return (self._origin, *negatives)

    def _edit(self, guidance: Guidance, concepts: Sequence[Concept], state: RunState) -> None:
        (self._subtract if self.mode == "signed" else self._replace)(guidance, concepts)

    def _replace(self, guidance: Guidance, negatives: Sequence[Concept]) -> None:
        predictions = [guidance[negative.condition] for negative in negatives]
        if _fills(negatives) and len(negatives) == 1:
            base = predictions[0]
        else:
            weights = [strength(negative, guidance.step) for negative in negatives]
            base = maths.compose(predictions, weights, base=None if _fills(negatives) else _stood_there(guidance))
        move_base(guidance, base.to(guidance.cond.dtype))

    def _subtract(self, guidance: Guidance, negatives: Sequence[Concept]) -> None:
        eps_0 = maths.widen(start_from(guidance, self._origin))
        others = [difference(guidance, negative, eps_0) for negative in negatives]
        term = maths.signed(others, [strength(negative, guidance.step) for negative in negatives])
        subtract(guidance, term, self.scale)

    @property
    def _takes_anchors_now(self) -> bool:
        return self.mode == "signed"

    @property
    def _acts(self) -> bool:
        return self.scale != 0

    @property
    def _origin(self) -> Condition:
        return origin(self.unconditional) if self.mode == "signed" else OWN


def _stood_there(guidance: Guidance) -> Tensor:
    """What an earlier method put in the place of the unconditional, or else what the pipeline has there."""
    return guidance.base if is_base_chosen(guidance) else guidance[OWN]


def _meet(negative: Negative, other: Negative) -> bool:
    """Whether both take the whole place at some step, as far as their windows tell."""
    if not (_fills([negative]) and _fills([other])) or negative.is_idle or other.is_idle:
        return False
    if negative.window.unit != other.window.unit:
        return False
    pairs = sorted(sorted((n.window.start, n.window.stop)) for n in (negative, other))
    return pairs[1][0] < pairs[0][1]


def _fills(negatives: Sequence[Concept]) -> bool:
    """Whether the mixture takes the whole place, so that nothing of the prediction that stood there is needed."""
    return max(negative.weight for negative in negatives) == 1 and all(negative.mask is None for negative in negatives)


register_preset(
    "signed",
    NegativePrompt,
    summary="the negative is subtracted from the unconditional, in full or with its own scale",
    cost="2 + K (live negatives)",
    paper="arXiv:2206.01714",
    mode="signed",
)
