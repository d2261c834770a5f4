"""What the self-contained HTML reports share: templates, and pictures as `data:` addresses."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from negguide.experiment.pictures import as_rgb

if TYPE_CHECKING:
    from jinja2 import Environment

REPORT = "report.html"
"""The report of a comparison or a batch, in its folder."""
AS_IT_IS, LARGEST = 256, 1024
"""Pictures up to `AS_IT_IS` pixels are embedded losslessly; larger ones as WebP of at most `LARGEST` pixels."""


def environment(*packages: str) -> Environment:
    """Templates of these packages, the first one that has a name wins."""
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=ChoiceLoader([PackageLoader(package, "templates") for package in packages]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def data_uri(file: Path, largest: int = LARGEST, bare: bool = False, quality: int = 90) -> tuple[str, int, int] | None:
    """A picture as a `data:` address, with the width and height it is meant to be seen in; None if it cannot be read.

    Args:
        file: the picture.
        largest: pixels of the longer side of what is embedded of a large one, at most.
        bare: without the texts that a small picture's file holds.
        quality: of a large one's WebP, 1 to 100.
    """
    try:
        with Image.open(file) as image:
            if max(image.size) <= AS_IT_IS and not bare and image.format == "PNG":
                return _uri("png", file.read_bytes()), image.width, image.height
            whole = as_rgb(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    width, height = whole.size
    if max(width, height) <= min(AS_IT_IS, largest):
        return _uri("png", _png(whole)), width, height
    whole.thumbnail((largest, largest))
    buffer = io.BytesIO()
    whole.save(buffer, "WEBP", quality=quality)
    return _uri("webp", buffer.getvalue()), width, height


def _uri(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
