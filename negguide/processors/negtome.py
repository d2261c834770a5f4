"""NegToMe as an attention processor, for self-attention over image tokens."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from negguide import maths
from negguide.maths.negtome import Match
from negguide.methods.checks import finite
from negguide.methods.tokens import Layer
from negguide.processors.wrapping import WrappingProcessor, wrap


class NegToMeAttnProcessor(WrappingProcessor):
    """Pushes the images of a prompt apart after another processor: the same numbers as the attached method `NegToMe`.

    Args:
        wrapped: the processor of a self-attention layer over image tokens (`attn1`).
        images: images of each prompt, 2 or more, which lie together in the rows of a forward ([unconditional, prompt] may be
            stacked: each is pushed among its own).
        reference: "first" (which stays as it is) or "all" others.
        alpha: strength; 0 is neutral, below 0 pulls together.
        threshold: cosine above which two tokens are alike, -1 to 1.
        match: see `NegToMe`.

    Raises:
        ValueError: for fewer than 2 images, numbers outside those bounds, or forwards whose rows are no multiple of `images`.

    The release acts in the first fifth of the steps, in decoders of UNets only; use `paused` or `unwrap` for later steps.
    Source: arXiv:2412.01339, section 3.
    """

    def __init__(
        self,
        wrapped: object,
        images: int,
        reference: Literal["first", "all"] = "first",
        alpha: float = 0.9,
        threshold: float = 0.7,
        match: Match = "paper",
    ) -> None:
        super().__init__(wrapped)
        if isinstance(images, bool) or not isinstance(images, int) or images < 2:
            raise ValueError(f"images is {images!r}; 2 or more images of a prompt can be pushed apart")
        if reference not in ("first", "all"):
            raise ValueError(
                f"reference is {reference!r}; possible: 'first' or 'all' (pictures: negguide.attach with NegToMe)"
            )
        if match not in ("paper", "release"):
            raise ValueError(f"match is {match!r}; possible: 'paper' or 'release'")
        self.images, self.reference, self.match = images, reference, match
        self.alpha, self.threshold = finite("alpha", alpha), finite("threshold", threshold, -1, 1)

    def act(self, attn: object, named: dict[str, object]) -> Any:
        output = self.wrapped(attn, **named)
        if self.alpha == 0 or self.threshold >= 1:
            return output
        if not isinstance(output, Tensor) or output.ndim != 3 or output.shape[0] % self.images:
            got = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise ValueError(
                f"the layer gave {got}; NegToMeAttnProcessor needs tokens (rows, N, C) of images alone, rows a multiple "
                f"of images={self.images}"
            )
        pushed = output.clone()
        for x, there in zip(output.split(self.images), pushed.split(self.images), strict=True):
            if self.reference == "all":
                maths.push_apart(x, self.alpha, self.threshold, self.match, out=there)
            else:
                maths.push_from(x[1:], x[0], self.alpha, self.threshold, self.match, out=there[1:])
        return pushed


def wrap_negtome(
    denoiser: torch.nn.Module,
    images: int,
    reference: Literal["first", "all"] = "first",
    alpha: float = 0.9,
    threshold: float = 0.7,
    match: Match = "paper",
) -> list[str]:
    """Put `NegToMeAttnProcessor` around self-attention as released (UNets: the decoder's); the names of those layers.

    Args: see `NegToMeAttnProcessor`. Models whose text shares layers with the image raise `Unsupported`.
    """

    def make(layer: Layer, present: object) -> WrappingProcessor | None:
        in_decoder = not hasattr(denoiser, "up_blocks") or layer.name.startswith("up_blocks")
        if layer.kind != "self" or not in_decoder:
            return None
        return NegToMeAttnProcessor(present, images, reference, alpha, threshold, match)

    return wrap(denoiser, make)
