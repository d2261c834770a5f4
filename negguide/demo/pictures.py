"""Pictures between the page and the methods: enlarged, as `data:` addresses, painted masks, uploads."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import Any

from PIL import Image, ImageChops

SHOWN, THUMB = 704, 256
"""Pixels of the longer side: what the slider shows at least, what a small picture shows at most."""


def enlarged(image: Image.Image, side: int = SHOWN) -> Image.Image:
    """A tiny picture in large pixels, without smoothing; others as they are."""
    factor = side // max(image.size)
    return (
        image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST) if factor > 1 else image
    )


def thumb(image: Image.Image) -> str:
    """A picture as a `data:` address: as it is up to `THUMB` pixels, smaller and as WebP above."""
    buffer = io.BytesIO()
    if max(image.size) <= THUMB:
        image.convert("RGB").save(buffer, "PNG")
        return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    small = image.convert("RGB")
    small.thumbnail((THUMB, THUMB))
    small.save(buffer, "WEBP", quality=85)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def png64(image: Image.Image, side: int) -> str:
    """Base64 PNG of a picture of at most `side` pixels."""
    small = image.copy()
    small.thumbnail((side, side))
    buffer = io.BytesIO()
    small.save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def from_png64(text: str) -> Image.Image:
    """Inverse of `png64`."""
    with Image.open(io.BytesIO(base64.b64decode(text)), formats=["PNG"]) as image:
        image.load()
        return image


def painted(editor: Mapping[str, Any] | None) -> Image.Image | None:
    """What was painted in an `ImageEditor`, white on black; None where nothing was."""
    layers = [layer for layer in (editor or {}).get("layers") or [] if layer is not None]
    mask: Image.Image | None = None
    for layer in layers:
        alpha = layer.convert("RGBA").getchannel("A").point(lambda value: 255 if value > 32 else 0)
        mask = alpha if mask is None or mask.size != alpha.size else ImageChops.lighter(mask, alpha)
    return mask if mask is not None and mask.getbbox() else None


def tinted(picture: Image.Image, mask: Image.Image | None) -> Image.Image:
    """A picture with what is outside of its mask paled."""
    shown = enlarged(picture.convert("RGB"), 256)
    if mask is None:
        return shown
    pale = Image.blend(shown, Image.new("RGB", shown.size, (255, 255, 255)), 0.75)
    return Image.composite(shown, pale, mask.convert("L").resize(shown.size, Image.Resampling.NEAREST))
