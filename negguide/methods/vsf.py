"""VSF and negative weights: words of a negative stand inside the prompt, with their values turned round."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

from negguide import maths
from negguide.methods.base import Condition, Step
from negguide.methods.negative import wanted
from negguide.methods.negative_method import NegativeMethod
from negguide.methods.options import option
from negguide.methods.registry import register, register_preset
from negguide.methods.state import RunState
from negguide.methods.step import Embedded
from negguide.methods.tokens import Listen, RunContext, Values

_SCALES = {"cross": 1.5, "joint": 3.5}


@register
@dataclasses.dataclass(frozen=True)
class VSF(NegativeMethod):
    """`softmax(q [k_pos, k_neg]) [v_pos, -alpha w v_neg]`: image tokens that look at the negative move away from it.

    The negatives' words (no padding, no begin or end mark) are appended to the prompt's embeddings, and the values of
    their tokens are multiplied by `-scale * weight`. `scale` is alpha: None takes 3.5 where text and image share
    attention (the authors' for SD3.5-Turbo and Flux-schnell) and 1.5 elsewhere (theirs for Wan is 1.7); 0 is off. A
    negative acts where it is looked at, that is, where it would appear. Use it without guidance or with little: only
    the prompt's prediction is edited. The authors find no effect on Flux-dev.

    It is not continuous at 0: the negative's tokens take their share of attention whatever their values are, so that
    a weight or scale near 0 leaves 20 to 31 % of the change at weight 1 (measured on the Toybox's sd and sd3,
    weight 1e-4); exactly 0 is off. Use `window` rather than small weights to soften it.

    One text for all prompts, no masks. Of the paper, the attention bias (-beta) and, in shared attention, the mask that
    hides the negative from the prompt's own tokens are left out, since stock attention gives no way in.

    >>> VSF(["glasses", ("hat", 0.5)], scale=3.0).scale
    3.0
    """

    name: ClassVar[str] = "vsf"
    summary: ClassVar[str] = "the negative's words stand in the prompt with their values turned round"
    cost: ClassVar[str] = "no extra pass; a few text tokens more"
    paper: ClassVar[str] = "arXiv:2508.10931"
    needs_guidance: ClassVar[bool] = False

    scale: float | None = option(
        None,
        help="How strongly the negative's values are turned round; 0 is off. Empty: 3.5 or 1.5, by the model.",
        low=0,
        high=1e6,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for negative in self._all:
            if isinstance(negative.prompt, Embedded):
                raise ValueError(
                    "VSF picks the words of a negative, which embeddings do not show; use NAG or PerpNeg for that"
                )
            if not isinstance(negative.prompt, str):
                raise ValueError("VSF takes one text for all images, not one for each; use NAG or PerpNeg for that")
            if negative.mask is not None:
                raise ValueError(f"VSF cannot confine {negative.prompt!r} to a mask; use NAG or PerpNeg for that")

    def companions(self) -> Sequence[Condition]:
        return wanted(self._all) if self._acts else ()

    def listens(self, step: Step, context: RunContext, state: RunState) -> Listen | None:
        if not (negatives := self._live(step)):
            return None
        return Listen(lambda layer: layer.kind != "self", appended=wanted(negatives))

    def values(self, values: Values, state: RunState) -> None:
        import torch

        if "cond" not in values:
            return
        scale = _SCALES[values.layer.kind] if self.scale is None else self.scale
        v = values["cond"]
        weights = torch.ones(v.shape[1], device=v.device)
        for negative in self._live(values.step):
            weights[values.part(negative.condition)] = -scale * negative.weight
        values["cond"] = maths.flip_values(v, weights).to(v.dtype)

    @property
    def _acts(self) -> bool:
        return self.scale != 0


register_preset(
    "negative_weight",
    VSF,
    summary="the negative's words in the prompt with negative weights, (hat:-1.2), as NegPiP writes them",
    cost="no extra pass; a few text tokens more",
    paper="github.com/hako-mikan/sd-webui-negpip",
    scale=1.0,
)
