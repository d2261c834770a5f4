"""Region masks: where in the picture a negative holds."""

from __future__ import annotations

import base64
import dataclasses
import io
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from negguide.methods.picture_file import read_base64

if TYPE_CHECKING:
    from torch import Tensor


class Mask:
    """A region of the picture: white (255 or 1.0) where a negative holds, black where it does not, grey in between.

    Made from a PIL picture (any mode; its luminance, times its alpha where it has one), a numpy array or a torch
    tensor of shape (H, W), with channels (H, W, 1/3/4) or (1/3/4, H, W), where both fit the
    former for arrays and the latter for tensors: bool, uint8, or float in [0, 1]. It stands
    for the whole picture, whatever its size: it is resized to the latents. Kept as (H, W) bytes: immutable,
    comparable, hashable.

    Raises `TypeError` for anything else (a path: open it with PIL), `ValueError` for a wrong shape or range.
    """

    __slots__ = ("_bytes", "_size")
    _bytes: bytes
    _size: tuple[int, int]

    def __init__(self, source: object) -> None:
        pixels = _luminance(source)
        height, width = pixels.shape
        object.__setattr__(self, "_size", (int(height), int(width)))
        object.__setattr__(self, "_bytes", pixels.contiguous().numpy().tobytes())

    @classmethod
    def of(cls, value: object) -> Mask:
        """A mask as it is, the dict of its JSON form, or anything that the constructor takes."""
        if isinstance(value, Mask):
            return value
        return cls.from_dict(value) if isinstance(value, Mapping) else cls(value)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the mask itself."""
        return self._size

    @property
    def pixels(self) -> Tensor:
        """(H, W) uint8 tensor, a copy."""
        import torch

        return torch.frombuffer(bytearray(self._bytes), dtype=torch.uint8).view(self._size)

    def tensor(self, height: int, width: int) -> Tensor:
        """(height, width) float32 in [0, 1] on the CPU; a value is the mean of what it covers."""
        import torch

        if height < 1 or width < 1:
            raise ValueError(f"mask size {height}x{width} (height x width) must be at least 1x1")
        pixels = self.pixels.float() / 255
        if self._size != (height, width):
            # Means of whole areas: a filter with soft ends would reach over the painted edge.
            pixels = torch.nn.functional.adaptive_avg_pool2d(pixels[None], (height, width))[0]
        return pixels.clamp(0.0, 1.0)

    def to_dict(self) -> dict[str, str]:
        """`{"png": <base64 of an 8-bit grey PNG>}`."""
        from PIL import Image

        buffer = io.BytesIO()
        Image.frombytes("L", self._size[::-1], self._bytes).save(buffer, format="PNG", optimize=True)
        return {"png": base64.b64encode(buffer.getvalue()).decode("ascii")}

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> Mask:
        """Inverse of `to_dict`; `ValueError` when the data is no PNG."""
        if set(data) != {"png"}:
            raise ValueError(f"a mask has the keys {sorted(data)}; it needs exactly 'png', a base64 PNG")
        try:
            return cls(read_base64(data["png"]))
        except ValueError as error:
            raise ValueError(f"a mask's 'png' cannot be read: {error}") from error

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"masks are immutable; make a new one instead of setting {name!r}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mask) and (self._size, self._bytes) == (other._size, other._bytes)

    def __hash__(self) -> int:
        return hash((self._size, self._bytes))

    def __reduce__(self) -> tuple[object, ...]:
        return Mask.of, (self.to_dict(),)

    def __repr__(self) -> str:
        height, width = self._size
        covered = sum(self._bytes) / (255 * height * width)
        return f"Mask({height}x{width}, {covered:.0%} covered)"


def masks_in(config: object) -> Iterator[Mask]:
    """Every mask that a method, a negative, or a list of them holds."""
    if isinstance(config, Mask):
        yield config
    elif dataclasses.is_dataclass(config) and not isinstance(config, type):
        for field in dataclasses.fields(config):
            yield from masks_in(getattr(config, field.name))
    elif isinstance(config, (list, tuple)):
        for item in config:
            yield from masks_in(item)


def _luminance(source: object) -> Tensor:
    """(H, W) uint8 of a picture, array or tensor."""
    import torch

    if hasattr(source, "convert") and hasattr(source, "getbands"):
        import numpy

        pixels = torch.from_numpy(numpy.array(source.convert("RGBA" if _has_alpha(source) else "L")))
    elif isinstance(source, torch.Tensor):
        pixels = source.detach().cpu()
    elif hasattr(source, "__array__"):
        import numpy

        pixels = torch.from_numpy(numpy.array(source))
    else:
        raise TypeError(
            f"a mask is made from {type(source).__name__}; possible: PIL picture, numpy array or torch tensor"
        )
    return _grey(_as_bytes(pixels), channels_first=isinstance(source, torch.Tensor))


def _has_alpha(image: Any) -> bool:
    return "A" in image.getbands() or "transparency" in image.info


def _as_bytes(pixels: Tensor) -> Tensor:
    import torch

    if pixels.dtype == torch.bool:
        return pixels.to(torch.uint8) * 255
    if pixels.dtype == torch.uint8:
        return pixels
    if not pixels.is_floating_point():
        raise ValueError(f"a mask of {pixels.dtype} is ambiguous; possible: bool, uint8 (0 to 255) or float (0 to 1)")
    pixels = pixels.float()
    if pixels.numel() and not bool(((pixels >= 0) & (pixels <= 1)).all()):
        raise ValueError("a float mask must lie in [0, 1] and be finite; divide by 255, or give uint8")
    return (pixels * 255).round().to(torch.uint8)


def _grey(pixels: Tensor, channels_first: bool) -> Tensor:
    """(H, W) of (H, W), (H, W, C) or (C, H, W) bytes; `channels_first` decides where both are possible."""
    import torch

    shape = tuple(pixels.shape)
    if pixels.ndim == 3 and shape[0] in (1, 3, 4) and (channels_first or shape[2] not in (1, 3, 4)):
        pixels = pixels.permute(1, 2, 0)
    if pixels.ndim not in (2, 3) or 0 in shape or (pixels.ndim == 3 and pixels.shape[2] not in (1, 3, 4)):
        raise ValueError(
            f"a mask of shape {shape} is not possible; give (H, W), or (H, W, C) / (C, H, W) with 1, 3 or 4 channels"
        )
    if pixels.ndim == 2 or pixels.shape[2] == 1:
        return pixels.reshape(pixels.shape[:2])
    values = pixels.float()
    grey = values[..., :3] @ torch.tensor([0.299, 0.587, 0.114])
    if values.shape[2] == 4:
        grey = grey * values[..., 3] / 255
    return grey.round().clamp(0, 255).to(torch.uint8)
