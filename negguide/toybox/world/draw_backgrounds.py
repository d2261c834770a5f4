"""Grass, sand, snow, night, water and room: soft backdrops, each with its own hue and texture."""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

from negguide.toybox.world.pen import Colour

Sketch = Callable[[ImageDraw.ImageDraw, float, np.ndarray], None]
"""Draws on a canvas, given the canvas pixels of one picture pixel and a (24, 2) table of uniform numbers."""


def _hill(draw: ImageDraw.ImageDraw, u: float, y: float, bulge: float, fill: Colour) -> None:
    draw.ellipse((-24 * u, y * u, 88 * u, (y + bulge) * u), fill)


def _grass(draw: ImageDraw.ImageDraw, u: float, chance: np.ndarray) -> None:
    _hill(draw, u, 13 + 6 * chance[0, 0], 140, (164, 212, 132))
    for a, b in chance[1:16]:
        x, y = a * 64, 26 + b * 38
        draw.line(
            [((x - 1.4) * u, (y - 3) * u), (x * u, y * u), ((x + 1.4) * u, (y - 3) * u)], (116, 178, 92), round(1.2 * u)
        )


def _sand(draw: ImageDraw.ImageDraw, u: float, chance: np.ndarray) -> None:
    shift = 20 * (chance[0, 0] - 0.5)
    draw.ellipse(((-40 + shift) * u, 14 * u, (60 + shift) * u, 110 * u), (226, 198, 146))
    draw.ellipse(((10 + shift) * u, 26 * u, (120 + shift) * u, 120 * u), (236, 210, 160))
    for a, b in chance[1:17]:
        x, y = a * 64, 30 + b * 34
        draw.ellipse((x * u, y * u, (x + 2.2) * u, (y + 1.3) * u), (196, 162, 108))


def _snow(draw: ImageDraw.ImageDraw, u: float, chance: np.ndarray) -> None:
    _hill(draw, u, 24 + 6 * chance[0, 0], 120, (234, 240, 248))
    _hill(draw, u, 46 + 6 * chance[0, 1], 90, (224, 232, 244))
    for a, b in chance[1:20]:
        x, y = a * 64, b * 46
        draw.ellipse(((x - 1.1) * u, (y - 1.1) * u, (x + 1.1) * u, (y + 1.1) * u), (255, 255, 255))


def _night(draw: ImageDraw.ImageDraw, u: float, chance: np.ndarray) -> None:
    for a, b in chance[1:16]:
        x, y, r = a * 64, b * 46, 0.6 + 0.6 * (a * 7 % 1)
        draw.ellipse(((x - r) * u, (y - r) * u, (x + r) * u, (y + r) * u), (250, 244, 200))
    x, y = (8 + 4 * chance[0, 0]) if chance[0, 1] < 0.5 else (52 + 4 * chance[0, 0]), 9
    draw.ellipse(((x - 6) * u, (y - 6) * u, (x + 6) * u, (y + 6) * u), (252, 240, 178))
    draw.ellipse(((x - 2.6) * u, (y - 7.2) * u, (x + 8) * u, (y + 3.6) * u), (30, 36, 88))
    _hill(draw, u, 50, 60, (24, 26, 62))


def _water(draw: ImageDraw.ImageDraw, u: float, chance: np.ndarray) -> None:
    top = 12 + 5 * chance[0, 0]
    draw.rectangle((0, top * u, 64 * u, 64 * u), (118, 194, 214))
    for row in range(6):
        y, shift = top + 4 + row * 8.5, 12 * chance[1 + row, 0]
        for k in range(-1, 6):
            x = k * 13 + shift + 6 * (row % 2)
            draw.arc((x * u, y * u, (x + 9) * u, (y + 5) * u), 0, 180, (214, 242, 248), round(1.3 * u))


def _room(draw: ImageDraw.ImageDraw, u: float, chance: np.ndarray) -> None:
    shift = 5 * chance[0, 0]
    for k in range(6):
        draw.rectangle(((k * 12 + shift - 3) * u, 0, (k * 12 + shift + 2) * u, 64 * u), (224, 186, 208))
    draw.rectangle((0, 48 * u, 64 * u, 64 * u), (178, 132, 120))
    draw.rectangle((0, 46.5 * u, 64 * u, 48.5 * u), (250, 236, 240))
    for k in range(5):
        x = k * 15 + 2 * shift
        draw.line((x * u, 49 * u, (x - 5) * u, 64 * u), (146, 102, 94), round(u))
    x = (3 if chance[0, 1] < 0.5 else 45) + 2 * chance[1, 0]
    draw.rectangle((x * u, 6 * u, (x + 13) * u, 20 * u), (190, 218, 236), (126, 86, 84), round(1.5 * u))
    draw.line(((x + 6.5) * u, 6 * u, (x + 6.5) * u, 20 * u), (126, 86, 84), round(1.2 * u))


SKETCHES: dict[str, tuple[Colour, Sketch]] = {
    "grass": ((206, 232, 222), _grass),
    "sand": ((248, 234, 204), _sand),
    "snow": ((202, 214, 230), _snow),
    "night": ((30, 36, 88), _night),
    "water": ((190, 228, 236), _water),
    "room": ((238, 208, 224), _room),
}
"""For each background, the colour of the empty canvas (sky or wall) and the sketch drawn on it."""


def backdrop(name: str, canvas: int, rng: np.random.Generator) -> Image.Image:
    """The named background on a `canvas` x `canvas` RGB image; `rng` places its texture."""
    base, sketch = SKETCHES[name]
    image = Image.new("RGB", (canvas, canvas), base)
    sketch(ImageDraw.Draw(image), canvas / 64, rng.random((24, 2)))
    return image
