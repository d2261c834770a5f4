"""The picture styles: blur, grain, watermark and sticker outline."""

from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

GRAIN = 42.0
"""Standard deviation of the noisy style, in levels of 255 per channel."""


def blurred(picture: Image.Image) -> Image.Image:
    """Gaussian blur of 2 px at 64 px."""
    return picture.filter(ImageFilter.GaussianBlur(2 * picture.width / 64))


def grainy(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Strong independent RGB noise on (size, size, 3) uint8 pixels, in squares of one pixel of 64."""
    noise = rng.standard_normal((64, 64, 3), dtype=np.float32) * GRAIN
    cells = np.arange(len(pixels)) * 64 // len(pixels)
    grained: np.ndarray = np.clip(pixels + noise[cells][:, cells], 0, 255).astype(np.uint8)
    return grained


@lru_cache(maxsize=32)
def _stamp(size: int, shift: int) -> tuple[Image.Image, Image.Image]:
    """The watermark's colours and its opacity mask; `shift` moves it, in picture pixels of 64."""
    u = size * 4 / 64
    colours = Image.new("RGB", (size * 4, size * 4), (250, 250, 250))
    mask = Image.new("L", colours.size, 0)
    ink, veil = ImageDraw.Draw(colours), ImageDraw.Draw(mask)
    y = 32 + shift
    veil.rectangle((-20 * u, (y - 7) * u, 84 * u, (y + 7) * u), 140)
    for edge in (y - 7, y + 6):
        ink.rectangle((-20 * u, edge * u, 84 * u, (edge + 1.2) * u), (90, 90, 100))
        veil.rectangle((-20 * u, edge * u, 84 * u, (edge + 1.2) * u), 170)
    for k in range(-2, 11):
        x = k * 8
        strokes = ((x, y + 4, x + 2.5, y - 4), (x + 2.5, y - 4, x + 5, y + 4), (x + 1, y + 1, x + 4, y + 1))
        for ax, ay, bx, by in strokes if k % 2 else (strokes[0], (x, y - 4, x + 5, y - 4), (x, y + 4, x + 5, y + 4)):
            ink.line((ax * u, ay * u, bx * u, by * u), (84, 84, 96), round(1.5 * u))
            veil.line((ax * u, ay * u, bx * u, by * u), 190, round(1.5 * u))
    turned = [
        layer.rotate(28, Image.Resampling.BICUBIC, fillcolor=empty) for layer, empty in ((colours, "white"), (mask, 0))
    ]
    return turned[0].reduce(4), turned[1].reduce(4)


def watermarked(picture: Image.Image, shift: int) -> Image.Image:
    """A semi-transparent diagonal band with marks like letters, moved down by `shift` pixels of 64."""
    colours, mask = _stamp(picture.width, shift)
    picture.paste(colours, (0, 0), mask)
    return picture


def halo(mask: Image.Image, reach: float) -> Image.Image:
    """A thing's mask grown by about `reach` pixels with round corners."""
    radius = reach * 0.8
    return mask.filter(ImageFilter.GaussianBlur(radius)).point(
        [min(255, max(0, level - 16) * 12) for level in range(256)]
    )
