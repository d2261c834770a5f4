"""The guided part of a denoiser's output: rows, channels and tokens that the scheduler gets, and masks on them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from negguide.pipeline.families.registry import unsupported

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
    behind it. `grid`: (height, width) of the token grid of packed latents (B, N, C), which holds `frames` of them, one
    after the other. `frames_axis`: dimension of the frames in samples of five. `channels_last`: (B, F, H, W, C).
    """

    sample_shape: tuple[int, ...]
    grid: tuple[int, int] | None = None
    frames: int = 1
    frames_axis: int = 2
    channels_last: bool = False

    @property
    def rows(self) -> int:
        return self.sample_shape[0]

    @property
    def size(self) -> tuple[int, int] | None:
        """(height, width) of a frame, in latents or tokens; None where it is not known."""
        if len(self.sample_shape) == 3:
            return self.grid
        return self.sample_shape[-3:-1] if self.channels_last else self.sample_shape[-2:]  # type: ignore[return-value]

    def core(self, tensor: Tensor) -> Tensor:
        """(rows, ...) output or model input -> the part that is guided, shaped like the scheduler's sample."""
        want = self.sample_shape[1:]
        if tensor.shape[1:] == want:
            return tensor
        if tensor.ndim == len(self.sample_shape) and all(a >= b for a, b in zip(tensor.shape[1:], want, strict=True)):
            return tensor[self._block(want)]
        if [n for n in tensor.shape[1:] if n != 1] == [n for n in want if n != 1]:
            return tensor.reshape(tensor.shape[0], *want)
        raise unsupported(
            f"a denoiser tensor {tuple(tensor.shape)}", f"it does not contain a sample of shape {self.sample_shape}"
        )

    def placed(self, whole: Tensor, core: Tensor) -> Tensor:
        """`whole` (rows, ...) with its guided part replaced; dtype of `whole`."""
        core = core.to(whole.dtype)
        if whole.shape[1:] == core.shape[1:]:
            return core
        if whole.ndim != core.ndim:
            return core.reshape(whole.shape)
        result = whole.clone()
        result[self._block(core.shape[1:])] = core
        return result

    @staticmethod
    def _block(shape: tuple[int, ...]) -> tuple[slice, ...]:
        return tuple(slice(None) if n is None else slice(n) for n in (None, *shape))

    def mask(self, mask: Mask, like: Tensor) -> Tensor:
        """A region as a float tensor that broadcasts against predictions of this layout; in every frame the same."""
        if self.size is None:
            raise ValueError(
                f"how the tokens of packed latents {self.sample_shape} lie in the picture is not known here, so a region "
                "cannot be placed; use the negative without its mask"
            )
        region = mask.tensor(*self.size).to(like.device, like.dtype)
        if len(self.sample_shape) == 3:
            return region.flatten().repeat(self.frames).reshape(1, -1, 1)
        if self.channels_last:
            return region.reshape(*(1 for _ in self.sample_shape[:-3]), *self.size, 1)
        return region.reshape(*(1 for _ in self.sample_shape[:-2]), *self.size)

    def misfit(self, mask: Mask) -> str | None:
        """What to tell of a mask of another aspect ratio than the picture's, or None; within half a latent they are equal."""
        if self.size is None:
            return None
        height, width = self.size
        ratio = mask.size[0] / mask.size[1]
        if (height - 0.5) / (width + 0.5) <= ratio <= (height + 0.5) / (width - 0.5):
            return None
        return (
            f"a mask of {mask.size[0]}x{mask.size[1]} (height x width) is stretched over a picture of {height}x{width} "
            "latents, which has another aspect ratio; give a mask in the picture's proportions"
        )


class PlacedMasks:
    """The regions of one run in the form of its predictions, each resized once: every step asks for the same ones."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._placed: dict[tuple[Mask, torch.device, torch.dtype], Tensor] = {}

    def __call__(self, mask: Mask, like: Tensor) -> Tensor:
        """`Layout.mask`; nobody may change the tensor, which others get too."""
        key = mask, like.device, like.dtype
        if key not in self._placed:
            self._placed[key] = self._layout.mask(mask, like)
        return self._placed[key]


def token_grid(
    shape: tuple[int, ...], call: Mapping[str, object], arguments: Mapping[str, object]
) -> tuple[int, tuple[int, int] | None]:
    """(frames, (height, width)) in tokens of packed latents (B, N, C), from what the denoiser is told of positions.

    Or else, for pictures, from the size in the call; (1, None) where nothing tells.
    """
    if len(shape) != 3:
        return 1, None
    tokens = shape[1]
    for frames, height, width in _candidates(tokens, call, arguments):
        if frames * height * width == tokens:
            return frames, (height, width)
    return 1, None


def _candidates(tokens: int, call: Mapping[str, Any], arguments: Mapping[str, Any]) -> Iterator[tuple[int, int, int]]:
    """What may be (frames, height, width), the best source first."""
    shapes = call.get("img_shapes")
    if shapes:
        several = shapes[0] if isinstance(shapes[0], list) else shapes
        height, width = several[0][-2:]
        like = [part for part in several if tuple(part[-2:]) == (height, width)]
        yield from ((n, int(height), int(width)) for n in range(1, len(like) + 1))
    sizes = [call.get(name) for name in ("num_frames", "height", "width")]
    if all(isinstance(n, int) for n in sizes):
        yield sizes[0], sizes[1], sizes[2]  # type: ignore[misc]
    coordinates = call.get("video_coords")
    if isinstance(coordinates, Tensor) and coordinates.ndim == 3 and coordinates.shape[-1] >= tokens:
        frames, height, width = (int(axis[:tokens].unique().numel()) for axis in coordinates[0])
        yield frames, height, width
    ids = call.get("img_ids")
    if isinstance(ids, Tensor):
        ids = (ids[0] if ids.ndim == 3 else ids)[:tokens]
        yield 1, int(ids[:, 1].unique().numel()), int(ids[:, 2].unique().numel())
    pixels = [arguments.get(name) for name in ("height", "width")]
    if all(isinstance(n, int) and n > 0 for n in pixels) and (arguments.get("num_frames") or 1) == 1:
        side = math.isqrt(pixels[0] * pixels[1] // tokens)  # type: ignore[operator]
        if side and not any(n % side for n in pixels):  # type: ignore[operator]
            yield 1, pixels[0] // side, pixels[1] // side  # type: ignore[operator]
