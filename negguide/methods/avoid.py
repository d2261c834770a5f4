"""Pictures to avoid, each with a mask of what in it is meant."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from negguide.methods import reference as _reference
from negguide.methods.mask import Mask
from negguide.methods.reference import Reference
from negguide.methods.tensor import is_tensor

if TYPE_CHECKING:
    from torch import Tensor


@dataclasses.dataclass(frozen=True)
class Avoid:
    """A picture (path, PIL picture, latents) and, optionally, where in it stands what is to be avoided (white).

    >>> Avoid("refs/starry.png")
    Avoid(picture=Reference('refs/starry.png'), mask=None)
    """

    picture: Any
    mask: Mask | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "picture", Reference.of(self.picture))
        if self.mask is not None:
            object.__setattr__(self, "mask", Mask.of(self.mask))

    def to_dict(self) -> dict[str, object]:
        """Its JSON form: `{"picture": ..., "mask": ...}`, without a mask where there is none."""
        data = {"picture": self.picture.to_dict()}
        return data if self.mask is None else {**data, "mask": self.mask.to_dict()}


def as_avoided(values: object) -> tuple[Avoid, ...]:
    """One or many pictures -> a tuple. `TypeError` for what is no picture, `ValueError` for none at all."""
    single = is_tensor(values) or isinstance(values, str | os.PathLike | Reference | Avoid | Mapping)
    if single or hasattr(values, "convert") or hasattr(values, "__array__"):
        values = (values,)
    if not isinstance(values, Sequence):
        raise TypeError(
            f"reference is {values!r:.80}; possible: 'first', 'all', a picture (path, PIL, array, latents), an Avoid with "
            "a mask, a list of them, or a Bank"
        )
    if not values:
        raise ValueError("reference is an empty list; give at least one picture, or 'first', 'all' or a Bank")
    return tuple(_avoid(value) for value in values)


def latents_of(avoided: Sequence[Avoid], encode: Callable[[Sequence[Any]], Tensor], like: Tensor) -> Tensor:
    """Clean latents (R, ...) of the pictures, each encoded once."""
    return _reference.latents_of([avoid.picture for avoid in avoided], encode, like)


def kept_tokens(avoided: Sequence[Avoid], grid: tuple[int, int] | None) -> Tensor:
    """Indices, among the R * h * w tokens of the pictures, of those that are to be avoided; (M,) on the CPU.

    A mask keeps the tokens that it covers by half, or, where it is too thin for the grid, those it covers most.
    """
    import torch

    if grid is None:
        raise ValueError("the token grid is not known (a video?), so no mask can be laid on the pictures to avoid")
    height, width = grid
    parts = []
    for at, avoid in enumerate(avoided):
        covered = torch.ones(height, width) if avoid.mask is None else avoid.mask.tensor(height, width)
        if not bool(covered.any()):
            raise ValueError(f"the mask of {avoid.picture!r} is black: nothing in it is to be avoided")
        kept = covered.flatten() >= min(0.5, 0.9 * float(covered.max()))
        parts.append(torch.nonzero(kept).flatten() + at * height * width)
    return torch.cat(parts)


def _avoid(value: Any) -> Avoid:
    if isinstance(value, Avoid):
        return value
    if isinstance(value, Mapping) and "picture" in value:
        return Avoid(value["picture"], value.get("mask"))
    if hasattr(value, "__array__") and not is_tensor(value) and not hasattr(value, "convert"):
        from PIL import Image

        value = Image.fromarray(value)
    return Avoid(value)
