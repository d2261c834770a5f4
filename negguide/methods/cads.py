"""CADS: noise on the prompt's embeddings, strong at first and then fading, so that seeds differ more."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

from negguide import maths
from negguide.methods.base import Embeddings, Method
from negguide.methods.checks import finite
from negguide.methods.image_noise import generator_of, identities
from negguide.methods.options import check_options, option
from negguide.methods.registry import register
from negguide.methods.state import RunState, memory_of

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@register
@dataclasses.dataclass(frozen=True)
class CADS(Method):
    """`sqrt(gamma) y + s sqrt(1 - gamma) n` in the place of the prompt's embeddings y; gamma rises from 0 to 1.

    With t = 1 - progress, gamma is 0 while t >= `tau_2`, 1 once t <= `tau_1`, linear between: smaller taus let the
    prompt in later, for more diversity and less of the prompt. `scale` is s (0.025 to 0.25; 0: off). `psi` in [0, 1]
    mixes in the embeddings brought back to the mean and deviation of y; 1, the default, keeps them in the range that the
    model knows. Only the prompt's own token embeddings are noised: not its pooled vector, not other conditions, not a
    ControlNet's text. Noise is drawn anew at each step, on the CPU, from `seed` and from the image's first noise: the
    same call gives the same pictures, and an image does not depend on its neighbours. No extra pass.

    >>> CADS(scale=0.1, tau_1=0.5).psi
    1.0
    """

    name: ClassVar[str] = "cads"
    summary: ClassVar[str] = "noise on the prompt's embeddings that fades: more diverse pictures"
    cost: ClassVar[str] = "no extra pass"
    paper: ClassVar[str] = "arXiv:2310.17347"
    needs_guidance: ClassVar[bool] = False

    scale: float = option(0.25, help="Strength of the noise; 0.025 to 0.25 are useful, 0 is off.", low=0)
    tau_1: float = option(
        0.6,
        help="The noise is gone once less than this part of sampling is left; at most tau_2. Smaller: more diversity, "
        "less of the prompt.",
        low=0,
        high=1,
    )
    tau_2: float = option(0.9, help="The noise is whole while more than this part of sampling is left.", low=0, high=1)
    psi: float = option(
        1.0, help="How far the noised embeddings are brought back to the range that the model knows.", low=0, high=1
    )
    seed: int = option(0, help="Seed of the noise, beside that of each picture.")

    def __post_init__(self) -> None:
        check_options(self)
        finite("tau_1 (at most tau_2)", self.tau_1, low=0.0, high=self.tau_2)

    @property
    def edits_embeddings(self) -> bool:
        return self.scale > 0 and self.tau_1 < 1.0

    def embeddings(self, embeddings: Embeddings, state: RunState) -> None:
        import torch

        step = embeddings.step
        images = memory_of(state, self, lambda: identities(step.sample))
        gamma = maths.cads_gamma(1.0 - step.progress, self.tau_1, self.tau_2)
        if gamma == 1.0:
            return
        y = embeddings.text
        noise = torch.stack([self._noise(image, step.index, y.shape[1:]) for image in images]).to(y.device)
        embeddings.text = maths.cads(y, noise, gamma, self.scale, self.psi)

    def _noise(self, image: bytes, index: int, shape: torch.Size) -> Tensor:
        """Standard normal noise that belongs to an image and a step."""
        import torch

        return torch.randn(shape, generator=generator_of(image, f"{self.seed}:{index}"))
