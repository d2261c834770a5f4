"""Seed variance: one knob for more variety; noise on a part of the prompt's embeddings in the first steps."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

from negguide import maths
from negguide.methods.base import Embeddings, Method, Window
from negguide.methods.image_noise import generator_of, identities
from negguide.methods.options import check_options, option
from negguide.methods.registry import register
from negguide.methods.state import RunState, memory_of
from negguide.methods.step import as_window

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@register
@dataclasses.dataclass(frozen=True)
class SeedVariance(Method):
    """Pictures of one prompt differ more, also in few-step models, because each reads the prompt a little differently at first.

    `y + strength * std(y) * m * n` in the place of the prompt's embeddings y, each token brought back to its own length; n is
    standard normal and m picks a `share` of the values at random, both drawn once for each image, so that the prompt is read
    as one other prompt and not as another at each step. Only the prompt's own token embeddings are changed, as by `CADS`, whose
    noise is new at each step, on all values, and fades; the first noise of an image decides what it draws: the same call gives
    the same pictures, and an image does not depend on its neighbours.

    Source: the seed-variance nodes of ComfyUI and InvokeAI; the form is ours.

    >>> SeedVariance(0.3).strength
    5.0
    """

    name: ClassVar[str] = "seed_variance"
    summary: ClassVar[str] = "one knob for variety: noise on a part of the prompt's embeddings in the first steps"
    cost: ClassVar[str] = "no extra pass"
    paper: ClassVar[str] = "github.com/ChangeTheConstants/SeedVarianceEnhancer"
    needs_guidance: ClassVar[bool] = False

    share: float = option(
        0.3, help="Part of the embeddings' values that are changed: the knob; 0 is off.", low=0, high=1
    )
    strength: float = option(
        5.0, help="Strength of the noise, in deviations of the embeddings; 2 to 8 are useful, 0 is off.", low=0
    )
    window: Window = option(Window(0, 0.2), help="When the prompt is read so; what a picture shows is settled early.")
    seed: int = option(0, help="Seed of the noise, beside that of each picture.")

    def __post_init__(self) -> None:
        object.__setattr__(self, "window", as_window(self.window))
        check_options(self)

    @property
    def edits_embeddings(self) -> bool:
        return self.strength > 0 and self.share > 0 and not self.window.is_empty

    def embeddings(self, embeddings: Embeddings, state: RunState) -> None:
        import torch

        step = embeddings.step
        images = memory_of(state, self, lambda: identities(step.sample))
        if not self.window.is_open(step):
            return
        y = embeddings.text
        noise = torch.stack([self._noise(image, y.shape[1:]) for image in images]).to(y.device)
        embeddings.text = maths.seed_variance(y, noise, self.strength)

    def _noise(self, image: bytes, shape: torch.Size) -> Tensor:
        """Standard normal noise on the chosen share of values, 0 on the others."""
        import torch

        # two generators: a text padded longer, in a batch with others, must not shift what the second one draws
        noise = torch.randn(shape, generator=generator_of(image, f"{self.seed}:noise"))
        return noise * (torch.rand(shape, generator=generator_of(image, f"{self.seed}:share")) < self.share)
