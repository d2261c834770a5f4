"""Contact sheets: many small pictures on one large one."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw


def contact_sheet(
    images: Sequence[np.ndarray], columns: int, scale: int = 4, labels: Sequence[str] | None = None
) -> Image.Image:
    """Lay (H, W, 3) uint8 pictures of one shape out in rows, enlarged `scale` times without smoothing.

    Args:
        images: the pictures, in reading order; at least one.
        columns: pictures per row.
        scale: whole enlargement factor.
        labels: one line of text under each picture, or None for none.

    Raises:
        ValueError: if there is no picture, or the number of labels differs.
    """
    if not len(images):
        raise ValueError("a contact sheet needs at least one image")
    if labels is not None and len(labels) != len(images):
        raise ValueError(f"got {len(labels)} labels for {len(images)} images; give one each")
    height, width = images[0].shape[0] * scale, images[0].shape[1] * scale
    gap, text = 4, 14 if labels is not None else 0
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * (width + gap) + gap, rows * (height + gap + text) + gap), "white")
    draw = ImageDraw.Draw(sheet)
    for k, image in enumerate(images):
        x, y = gap + k % columns * (width + gap), gap + k // columns * (height + gap + text)
        sheet.paste(Image.fromarray(image).resize((width, height), Image.Resampling.NEAREST), (x, y))
        if labels is not None:
            draw.text((x + 1, y + height), labels[k], fill="black")
    return sheet
