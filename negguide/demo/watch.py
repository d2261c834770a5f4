"""Looks over the shoulder of a run: the clean estimate of each step, as small pictures, without changing anything."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from negguide.methods.base import Denoised, Method
from negguide.methods.state import RunState

if TYPE_CHECKING:
    from PIL.Image import Image

PREVIEW = 192
"""Pixels of the longer side, at most."""

See = Callable[[int, int, Callable[[], "list[Image]"]], None]
"""Told the step, their number, and how to get the pictures of now (which costs a decoding)."""


@dataclasses.dataclass(frozen=True)
class Onlooker(Method):
    """Tells `see` of every step. `decoder`: hub id or folder of a tiny autoencoder; None: the pipeline's own VAE."""

    name: ClassVar[str] = "onlooker"
    summary: ClassVar[str] = "sees the picture form"
    cost: ClassVar[str] = "no extra pass"
    needs_guidance: ClassVar[bool] = False
    acts_alone: ClassVar[bool] = False

    see: See
    decoder: str | None = None

    def denoised(self, denoised: Denoised, state: RunState) -> None:
        x0, decode, step = denoised.x0, denoised.context.decode, denoised.step

        def pictures() -> list[Image]:
            previews: list[Image] = decode(x0, longest=PREVIEW, vae=self.decoder)
            return previews

        self.see(step.index, step.count, pictures)
