"""Guidance rescale: brings back the contrast of a strongly guided picture. Choose 0.7 with zero-SNR models."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from negguide import maths
from negguide.methods.base import Guidance, Method
from negguide.methods.options import check_options, option
from negguide.methods.registry import register
from negguide.methods.state import RunState


@register
@dataclasses.dataclass(frozen=True)
class Rescale(Method):
    """`phi (eps std(eps_+) / std(eps)) + (1 - phi) eps` on the finished prediction, per image.

    `guidance_rescale` is phi, from 0 (off) to 1 (the contrast of the prompt's own prediction); 0.7 in the paper. It
    is the same as the pipelines' argument of that name, for pipelines that lack it, and acts after the negatives,
    whatever they are.
    """

    name: ClassVar[str] = "rescale"
    summary: ClassVar[str] = "gives the guided prediction the contrast of the prompt's own"
    cost: ClassVar[str] = "no extra pass"
    paper: ClassVar[str] = "arXiv:2305.08891"

    guidance_rescale: float = option(
        0.7, help="0 is off, 1 gives the contrast of the prompt's own prediction; 0.7 in the paper.", low=0, high=1
    )

    def __post_init__(self) -> None:
        check_options(self)

    @property
    def is_neutral(self) -> bool:
        return self.guidance_rescale == 0

    def combine(self, guidance: Guidance, state: RunState) -> None:
        if self.guidance_rescale != 0:
            cond, phi = guidance.cond, self.guidance_rescale
            guidance.add_post(lambda guided: maths.rescale(guided, cond, phi).to(guided.dtype))
