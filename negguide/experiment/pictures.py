"""Pictures from files as they are meant to be seen: turned upright, all of their range, what is transparent on white."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import overload

from PIL import Image, ImageOps

ENDINGS = (".png", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif")
"""Of files that are opened; of an animation, the first frame."""
OTHERS = (".heic", ".heif", ".jxl", ".jp2", ".svg", ".psd", ".exr", ".hdr", ".dng", ".ppm", ".tga", ".ico", ".apng")
"""Of pictures that are not."""
ROOM = 2**28
"""Bytes of decoded pictures that `Pictures` keeps."""


def open_picture(file: Path) -> Image.Image | None:
    """A picture as RGB (see `as_rgb`), or None if it cannot be read."""
    try:
        with Image.open(file) as image:
            return as_rgb(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def as_rgb(image: Image.Image) -> Image.Image:
    """8 bits of red, green and blue: upright by its EXIF orientation, more bits scaled down, transparency on white."""
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I") or upright.mode == "F":
        return _from_deep(upright)
    if upright.has_transparency_data:
        whole = upright.convert("RGBA")
        paper = Image.new("RGBA", whole.size, "white")
        return Image.alpha_composite(paper, whole).convert("RGB")
    return upright.convert("RGB")


def _from_deep(image: Image.Image) -> Image.Image:
    """A grey picture of 16 or 32 bits, or of floats in [0, 1], [0, 255] or [0, 65535]."""
    import numpy as np

    values = np.nan_to_num(np.asarray(image).astype(np.float64))
    brightest = float(values.max(initial=0.0))
    if image.mode == "F" and brightest <= 255:
        full = 1.0 if brightest <= 1 else 255.0
    else:
        full = 65535.0 if brightest <= 65535 else 2.0**32 - 1 if brightest > 2**31 - 1 else 2.0**31 - 1
    grey = (values * (255 / full)).round().clip(0, 255).astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")


class Pictures(Sequence[Image.Image]):
    """Pictures of files that can be read, opened when they are asked for; the first `room` bytes of them are kept.

    A set of any size costs that much memory and no more. `IndexError` and `OSError` as of a list and of files that went.
    """

    def __init__(self, files: Sequence[Path], room: int = ROOM, kept: dict[Path, Image.Image] | None = None) -> None:
        self.files = list(files)
        self._room = room
        self._kept: dict[Path, Image.Image] = {} if kept is None else kept

    @classmethod
    def readable(cls, files: Sequence[Path], room: int = ROOM) -> tuple[Pictures, list[int]]:
        """(the pictures that can be read, the places of those that cannot)."""
        kept: dict[Path, Image.Image] = {}
        left, good, broken = room, [], []
        for place, file in enumerate(files):
            image = open_picture(file)
            if image is None:
                broken.append(place)
                continue
            good.append(file)
            left -= 3 * image.width * image.height
            if left >= 0:
                kept[file] = image
        return cls(good, room, kept), broken

    def __len__(self) -> int:
        return len(self.files)

    @overload
    def __getitem__(self, place: int) -> Image.Image: ...
    @overload
    def __getitem__(self, place: slice) -> Pictures: ...
    def __getitem__(self, place: int | slice) -> object:
        if isinstance(place, slice):
            return Pictures(self.files[place], self._room, self._kept)
        file = self.files[place]
        image = self._kept.get(file) or open_picture(file)
        if image is None:
            raise OSError(f"{str(file)!r} cannot be read any more")
        return image

    def __iter__(self) -> Iterator[Image.Image]:
        return (self[place] for place in range(len(self)))
