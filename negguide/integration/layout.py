"""The guided part of a denoiser's output: rows, channels and tokens that the scheduler gets, and masks on them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from negguide.methods.mask import Mask


def stacked(output: Any) -> Tensor:
    """A denoiser's prediction as one tensor (rows, ...), also where it came as a list of rows."""
    return torch.stack(list(output)) if isinstance(output, (list, tuple)) else output


def prediction_of(output: Any) -> Tensor:
    """The prediction in what a denoiser returned (tuple or `ModelOutput`)."""
    return stacked(output[0] if isinstance(output, tuple) else output.to_tuple()[0])


def with_prediction(output: Any, prediction: Tensor) -> Any:
    """The same kind of output, holding another prediction."""
    if isinstance(output, tuple):
        value = list(prediction.unbind(0)) if isinstance(output[0], (list, tuple)) else prediction
        return (value, *output[1:])
    first = next(iter(output.keys()))
    value = list(prediction.unbind(0)) if isinstance(output[first], (list, tuple)) else prediction
    return type(output)(**{**output, first: value})


@dataclass(frozen=True)
class Layout:
    """Where the guided part lies: the leading block of the output that has the shape of the scheduler's sample.

    Learned-sigma channels (PixArt), reference tokens (Kontext) and condition channels (inpaint, image-to-video) lie
    behind it. `grid`: (height, width) of the token grid of packed latents (B, N, C).
    """

    sample_shape: tuple[int, ...]
    grid: tuple[int, int] | None = None

    @property
    def rows(self) -> int:
        return self.sample_shape[0]

    def core(self, tensor: Tensor) -> Tensor:
        """(rows, ...) output or model input -> the part that is guided, shaped like the scheduler's sample."""
        want = self.sample_shape[1:]
        if tensor.shape[1:] == want:
            return tensor
        if tensor.ndim == len(self.sample_shape) and all(a >= b for a, b in zip(tensor.shape[1:], want, strict=True)):
            part = (slice(None), *(slice(n) for n in want))
            return tensor[part]
        if tensor[0].numel() == math.prod(want):
            return tensor.reshape(tensor.shape[0], *want)
        raise ValueError(
            f"denoiser tensor {tuple(tensor.shape)} does not contain a sample of shape {self.sample_shape}"
        )

    def placed(self, whole: Tensor, core: Tensor) -> Tensor:
        """`whole` (rows, ...) with its guided part replaced; dtype of `whole`."""
        core = core.to(whole.dtype)
        if whole.shape[1:] == core.shape[1:]:
            return core
        if whole.ndim != core.ndim:
            return core.reshape(whole.shape)
        result = whole.clone()
        part = (slice(None), *(slice(n) for n in core.shape[1:]))
        result[part] = core
        return result

    def mask(self, mask: Mask, like: Tensor) -> Tensor:
        """A region as a float tensor that broadcasts against predictions of this layout."""
        if len(self.sample_shape) == 3:
            if self.grid is None:
                raise ValueError(f"the token grid of packed latents {self.sample_shape} is not known: a mask needs it")
            return mask.tensor(*self.grid).to(like.device, like.dtype).reshape(1, -1, 1)
        height, width = self.sample_shape[-2:]
        region = mask.tensor(height, width).to(like.device, like.dtype)
        return region.reshape(*(1 for _ in self.sample_shape[:-2]), height, width)


def token_grid(shape: tuple[int, ...], call: Mapping[str, Any], arguments: Mapping[str, Any]) -> tuple[int, int] | None:
    """(height, width) in tokens of packed latents (B, N, C), from the denoiser's position arguments or the picture size."""
    if len(shape) != 3:
        return None
    tokens = shape[1]
    shapes = call.get("img_shapes")
    if shapes:
        first = shapes[0][0] if isinstance(shapes[0], list) else shapes[0]
        if first[-2] * first[-1] == tokens:
            return int(first[-2]), int(first[-1])
    ids = call.get("img_ids")
    if isinstance(ids, Tensor):
        ids = (ids[0] if ids.ndim == 3 else ids)[:tokens]
        height, width = (int(ids[:, axis].max()) + 1 for axis in (1, 2))
        if height * width == tokens:
            return height, width
    ratio = (arguments.get("height") or 1) / (arguments.get("width") or 1)
    height = max(1, round(math.sqrt(tokens * ratio)))
    return (height, tokens // height) if tokens % height == 0 else None
