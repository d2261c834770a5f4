"""How well pictures fit a text, by CLIP."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def alignment(images: Tensor, texts: Tensor) -> Tensor:
    """CLIPScore (arXiv:2104.08718) without its factor: `max(cos(image, text), 0)` for each picture, (N,) float32.

    `images`: features (N, C). `texts`: features (N, C), or (1, C) for one text for all.
    """
    from torch.nn.functional import cosine_similarity

    if images.ndim != 2 or texts.ndim != 2 or images.shape[1] != texts.shape[1] or len(texts) not in (1, len(images)):
        raise ValueError(
            f"features are {tuple(images.shape)} and {tuple(texts.shape)}; possible: (N, C) with (N, C) or (1, C)"
        )
    return cosine_similarity(images.float(), texts.float(), dim=1).clamp(min=0)
