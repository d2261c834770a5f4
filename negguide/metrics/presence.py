"""Whether a thing is on a picture, by zero-shot CLIP."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

NEUTRAL = ("a picture", "a picture of something", "a picture of a thing", "an image")
"""What a text is held against. CLIP does not understand "no cat", so the alternative must be neutral, not negated."""

TEMPLATE = "a picture of {}"


def presence(images: Tensor, thing: Tensor, neutral: Tensor, scale: float = 100.0) -> Tensor:
    """Zero-shot probability that a picture shows the thing rather than anything else, (N,) float32 in [0, 1].

    `images`: features (N, C). `thing`: features (C,) of its text. `neutral`: (K, C) of `NEUTRAL`; their mean
    is the alternative. `scale`: CLIP's logit scale. It is a weak judge: compare methods with it, not models.
    """
    from torch.nn.functional import normalize

    if images.ndim != 2 or thing.ndim != 1 or neutral.ndim != 2:
        raise ValueError(
            f"features are {tuple(images.shape)}, {tuple(thing.shape)}, {tuple(neutral.shape)}; "
            "possible: (N, C), (C,) and (K, C)"
        )
    images, thing = normalize(images.float(), dim=1), normalize(thing.float(), dim=0)
    other = normalize(normalize(neutral.float(), dim=1).mean(0), dim=0)
    return (scale * (images @ thing - images @ other)).sigmoid()
