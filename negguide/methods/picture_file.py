"""Pictures from strangers: nothing is decoded before its header says that it is small."""

from __future__ import annotations

import base64
import binascii
import io
import os
import struct
import zlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

SIDE = 16_384
"""Most pixels a side of a picture that is decoded, where nobody says otherwise: larger ones are accidents or bombs."""
_PICTURE = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_DAMAGED = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error)
"""What PIL raises for files that are none of its formats, or damaged."""


def read_picture(source: bytes | str | os.PathLike[str], side: int = SIDE, formats: Sequence[str] = ("PNG",)) -> Any:
    """Read a picture completely, after its header has said that it is small.

    Args:
        source: the bytes of the file, or its path.
        side: most pixels of its longer side, at least 1.
        formats: names of the formats that PIL may try.

    Returns:
        The PIL picture, decoded, in the mode of the file.

    Raises:
        ValueError: it is too large, or no picture of these formats, or damaged.
    """
    from PIL import Image

    damaged = f"this is no {' or '.join(formats)} picture, or it is damaged"
    try:
        opened = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=list(formats))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(f"the picture is far too large; at most {side} pixels a side") from error
    except _DAMAGED as error:
        raise ValueError(damaged) from error
    with opened as image:
        if max(image.size) > side:
            raise ValueError(f"the picture is {image.width}x{image.height} pixels; at most {side} a side")
        try:
            image.load()
        except _DAMAGED as error:
            raise ValueError(damaged) from error
        return image


def read_base64(text: Any, side: int = SIDE) -> Any:
    """The PIL picture of a base64 PNG; `ValueError` as `read_picture`, and for what is no base64."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, TypeError, ValueError) as error:
        raise ValueError("this is not the base64 text of a PNG picture") from error
    return read_picture(_bare(data), side)


def _bare(data: bytes) -> bytes:
    """A PNG without what is not the picture: texts and profiles, which unpack to far more, and further frames."""
    kept, place = [data[:8]], 8
    while place + 8 <= len(data):
        (length,) = struct.unpack(">I", data[place : place + 4])
        end = place + 12 + length
        if data[place + 4 : place + 8] in _PICTURE:
            kept.append(data[place:end])
        place = end
    return b"".join(kept)


@lru_cache(maxsize=16)
def rgb_png(text: str) -> bytes:
    """The picture of a base64 PNG as the PNG of its RGB, made once for equal texts; `ValueError` as `read_base64`."""
    buffer = io.BytesIO()
    read_base64(text).convert("RGB").save(buffer, format="PNG")
    return buffer.getvalue()
