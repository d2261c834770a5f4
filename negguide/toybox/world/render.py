"""Render a scene: one pure function from `Scene` to pixels."""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

from negguide.toybox.world import draw_buildings, draw_faces, draw_fruits, draw_pets, draw_plants, draw_vehicles, styles
from negguide.toybox.world.draw_backgrounds import backdrop
from negguide.toybox.world.pen import Palette, Pen
from negguide.toybox.world.scene import Scene

SUPERSAMPLING = 4
REACH = {"large": 23.0, "small": 14.5}
"""Half the side of a thing, in pixels of a 64-pixel picture."""
SHIFT = {"large": 8.0, "small": 15.0}
"""How far "left" and "right" are from the centre, in the same pixels."""

DRAWINGS: dict[str, Callable[[Pen, Scene], None]] = {
    **draw_pets.DRAWINGS,
    **draw_fruits.DRAWINGS,
    **draw_vehicles.DRAWINGS,
    **draw_buildings.DRAWINGS,
    **draw_faces.DRAWINGS,
    **draw_plants.DRAWINGS,
}


def render(scene: Scene, size: int = 64) -> np.ndarray:
    """The picture of a scene: (size, size, 3) uint8 RGB, the same for the same scene, always.

    Supersampled four times and reduced; a larger `size` shows the same layout in more detail.
    """
    rng = np.random.default_rng(scene.seed)
    jitter = rng.uniform(-1, 1, (2, 5))
    pixel = size * SUPERSAMPLING / 64
    canvas = size * SUPERSAMPLING
    ground = backdrop(scene.background, canvas, rng).reduce(SUPERSAMPLING)
    thing, mask = _thing(scene, jitter, canvas, pixel)

    if scene.style == "outline":
        ground.paste((110, 110, 120), (0, 0), styles.halo(mask, 3.6 * size / 64))
        ground.paste((255, 255, 255), (0, 0), styles.halo(mask, 2.6 * size / 64))
    elif scene.background == "night":
        ground.paste((120, 130, 190), (0, 0), styles.halo(mask, 1.2 * size / 64))
    ground.paste(thing, (0, 0), mask)

    if scene.style == "blurry":
        ground = styles.blurred(ground)
    elif scene.style == "watermark":
        ground = styles.watermarked(ground, int(rng.integers(-6, 7)))
    pixels = np.asarray(ground)
    return styles.grainy(pixels, rng) if scene.style == "noisy" else pixels.copy()


def _thing(scene: Scene, jitter: np.ndarray, canvas: int, pixel: float) -> tuple[Image.Image, Image.Image]:
    """The thing or things without a background, reduced: RGB colours and an L coverage mask."""
    layer = Image.new("RGBA", (canvas, canvas), (0, 0, 0, 0))
    draw = ImageDraw.Draw(layer)
    shift = SHIFT[scene.size] * {"left": -1, "center": 0, "right": 1}[scene.position]
    places = [32 + shift] if scene.count == 1 else [16.5, 47.5]
    for x, (dx, dy, grow, shade, flip) in zip(places, jitter, strict=False):
        reach = REACH[scene.size] * (1 + 0.08 * grow) * (1.0 if scene.count == 1 else 0.9)
        low = 33.0 if scene.size == "large" else 36.0
        y = low + (3 if scene.size == "large" else 2) * dy
        if "hat" in scene.accessories:
            reach, y = reach * 0.9, y + 0.14 * reach
        wobble = 3 if scene.count == 1 else 1.5
        x = min(max(x + wobble * dx, reach), 64 - reach)
        palette = Palette.of(scene.colour, shade)
        pen = Pen(draw, (x * pixel, y * pixel), reach * pixel, flip < 0, palette, pixel)
        DRAWINGS[scene.kind](pen, scene)
    small = layer.convert("RGBa").reduce(SUPERSAMPLING).convert("RGBA")
    return small.convert("RGB"), small.getchannel("A")
