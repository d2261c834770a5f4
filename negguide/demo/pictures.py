"""Pictures between the page and the methods: enlarged, as `data:` addresses, painted masks, uploads."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageChops

from negguide.methods.picture_file import read_base64, read_picture

if TYPE_CHECKING:
    import gradio as gr

SHOWN, THUMB = 704, 256
"""Pixels of the longer side: what the slider shows at least, what a small picture shows at most."""
SIDE, DROPPED = 512, 2048
"""Most pixels a side of a picture that is decoded: inside settings (the page makes them no larger), dropped on the page."""
UPLOADS = ("PNG", "JPEG", "WEBP")


def enlarged(image: Image.Image, side: int = SHOWN) -> Image.Image:
    """A small picture enlarged smoothly until its longer side is `side`; others as they are."""
    longest = max(image.size)
    if longest >= side:
        return image
    width, height = (round(length * side / longest) for length in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS)


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


@lru_cache(maxsize=16)
def from_png64(text: str) -> Image.Image:
    """Inverse of `png64`, decoded once for equal texts; not to be changed. `ValueError` for what is none, or too large."""
    picture: Image.Image = read_base64(text, SIDE)
    return picture


def keep_raw(editor: gr.ImageEditor) -> gr.ImageEditor:
    """Let an `ImageEditor` hand on its files undecoded, so that nothing is decoded before `dropped` has seen how large it is."""

    def undecoded(file: Any, flatten_on_white: bool = False) -> str | bytes | None:
        return file if file is None or isinstance(file, bytes) else str(file.path)

    editor.convert_and_format_image = undecoded  # type: ignore[method-assign, assignment]  # in place of gradio's own, on purpose
    return editor


def dropped(source: Image.Image | bytes | str | None) -> Image.Image | None:
    """A picture from an editor of the page; None where there is none. `ValueError` for what is none, or too large."""
    if source is None or isinstance(source, Image.Image):
        return source
    picture: Image.Image = read_picture(source if isinstance(source, bytes) else Path(source), DROPPED, UPLOADS)
    return picture


def painted(editor: Mapping[str, Any] | None) -> Image.Image | None:
    """What was painted in an `ImageEditor`, white on black; None where nothing was. `ValueError` as `dropped`."""
    layers = [dropped(layer) for layer in (editor or {}).get("layers") or [] if layer is not None]
    mask: Image.Image | None = None
    for layer in (layer for layer in layers if layer is not None):
        alpha = layer.convert("RGBA").getchannel("A").point(lambda value: 255 if value > 32 else 0)
        mask = alpha if mask is None or mask.size != alpha.size else ImageChops.lighter(mask, alpha)
    return mask if mask is not None and mask.getbbox() else None


def on_white(picture: Image.Image) -> Image.Image:
    """RGB of a picture, what is transparent in it white."""
    if "A" not in picture.getbands() and "transparency" not in picture.info:
        return picture.convert("RGB")
    whole = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", whole.size, "white"), whole).convert("RGB")


def tinted(picture: Image.Image, mask: Image.Image | None) -> Image.Image:
    """A picture with what is outside of its mask paled."""
    shown = enlarged(picture.convert("RGB"), 256)
    if mask is None:
        return shown
    pale = Image.blend(shown, Image.new("RGB", shown.size, (255, 255, 255)), 0.75)
    return Image.composite(shown, pale, mask.convert("L").resize(shown.size, Image.Resampling.NEAREST))
