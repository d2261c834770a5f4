"""Adaptive projected guidance: high guidance scales without burnt colours. Choose this when guidance over-saturates."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

from negguide import maths
from negguide.methods.base import Guidance, Method
from negguide.methods.options import check_options, option
from negguide.methods.registry import register
from negguide.methods.state import RunState, memory_of

if TYPE_CHECKING:
    from torch import Tensor


@dataclasses.dataclass
class _Memory:
    """What is remembered in a run: the update of the last step, (B, ...), with its momentum."""

    update: Tensor | None = None


@register
@dataclasses.dataclass(frozen=True)
class APG(Method):
    """`D + (w - 1) (d_perp + eta d_par)`, d split against the clean estimate of the prompt, clipped, with momentum.

    Works on what the methods before it have made: D is `base + direction`, d the direction, both as clean estimates.

    `eta` (0 or more): how much of the saturating part stays; 0 removes it (paper), 1 keeps it. `norm_threshold` (0:
    off): the longest update allowed, r = 15 for SDXL and 2.5 to 10 for smaller latents in the paper. `momentum` in
    (-1, 1): below 0 damps what recent steps pushed already (paper: -0.5 to -0.75); 0 is off. Neutral: `APG(eta=1,
    norm_threshold=0, momentum=0)`.
    """

    name: ClassVar[str] = "apg"
    summary: ClassVar[str] = "removes the saturating part of guidance; clips and damps it"
    cost: ClassVar[str] = "no extra pass"
    paper: ClassVar[str] = "arXiv:2410.02416"

    eta: float = option(0.0, help="How much of the saturating part of guidance stays; 0 removes it, 1 keeps it.", low=0)
    norm_threshold: float = option(
        0.0, help="The longest update allowed; 0 is off. 15 suits SDXL, 2.5 to 10 smaller latents.", low=0
    )
    momentum: float = option(
        -0.5,
        help="Below 0 damps what recent steps pushed already (-0.5 to -0.75); 0 is off.",
        low=-1,
        high=1,
        above=True,
        below=True,
    )

    def __post_init__(self) -> None:
        check_options(self)

    def combine(self, guidance: Guidance, state: RunState) -> None:
        if self.eta == 1 and self.norm_threshold == 0 and self.momentum == 0:
            return
        step, base = guidance.step, maths.widen(guidance.base)
        target = base + maths.widen(guidance.direction)
        d_0, d_c = step.to_denoised(base), step.to_denoised(target)
        update = d_c - d_0
        if self.momentum != 0:
            memory = memory_of(state, self, _Memory)
            update = update if memory.update is None else update + self.momentum * memory.update
            memory.update = update
        update = maths.apg(update, step.to_denoised(maths.widen(guidance.cond)), self.eta, self.norm_threshold)
        direction = step.from_denoised(d_0 + update) - step.from_denoised(d_0)
        dtype = guidance.cond.dtype
        guidance.base, guidance.direction = (target - direction).to(dtype), direction.to(dtype)
