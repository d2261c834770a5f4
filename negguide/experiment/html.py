"""What the self-contained HTML reports share: templates, and pictures as `data:` addresses."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    from jinja2 import Environment

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


def data_uri(file: Path, largest: int = LARGEST, bare: bool = False) -> tuple[str, int, int] | None:
    """A picture as a `data:` address, with its width and height; None if it cannot be read.

    `bare`: without the texts that a small picture's file holds.
    """
    try:
        with Image.open(file) as image:
            width, height = image.size
            if max(width, height) <= AS_IT_IS:
                data = _png(image.convert("RGB")) if bare else file.read_bytes()
                return f"data:image/png;base64,{base64.b64encode(data).decode()}", width, height
            small = image.convert("RGB")
            small.thumbnail((largest, largest))
    except OSError:
        return None
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=90)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}", width, height


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
