"""Apple, banana, grapes, pineapple and cherry."""

from negguide.toybox.world.pen import BROWN, LEAF, Pen
from negguide.toybox.world.scene import Scene


def apple(pen: Pen, scene: Scene) -> None:
    """A dimpled round fruit with a short stem and one leaf."""
    c = pen.colours
    half = [(0.0, -0.42), (0.42, -0.58), (0.84, -0.3), (0.86, 0.22), (0.54, 0.8), (0.22, 0.92), (0.0, 0.84)]
    pen.blob([*half, *[(-x, y) for x, y in reversed(half[1:-1])]], c.main)
    pen.spot(-0.44, -0.12, 0.16, 0.24, c.light)
    pen.arc(0, 0.1, 0.66, 0.66, (10, 80), c.dark, 3)
    pen.tube([(0, -0.4), (0.02, -0.7), (0.1, -0.9)], BROWN, 2.6)
    pen.petal(0.4, -0.76, 0.34, 0.16, -22, LEAF)


def banana(pen: Pen, scene: Scene) -> None:
    """A thick crescent with brown ends."""
    c = pen.colours
    outer = [(-0.94, -0.5), (-0.86, 0.06), (-0.5, 0.56), (0.04, 0.74), (0.56, 0.54), (0.94, 0.1)]
    inner = [(0.82, -0.06), (0.5, 0.06), (0.1, 0.06), (-0.3, -0.12), (-0.6, -0.42), (-0.72, -0.66)]
    pen.blob(outer + inner, c.main)
    pen.curve([(-0.8, -0.3), (-0.6, 0.1), (-0.2, 0.38), (0.3, 0.42), (0.72, 0.18)], c.dark, 2.4)
    pen.shape([(-0.97, -0.5), (-1.0, -0.8), (-0.78, -0.86), (-0.68, -0.6)], BROWN)
    pen.oval(0.9, 0.0, 0.11, 0.11, BROWN)


def grapes(pen: Pen, scene: Scene) -> None:
    """A hanging bunch of ten round berries under a leaf."""
    c = pen.colours
    pen.tube([(0, -0.5), (0.0, -0.98)], BROWN, 2.6)
    pen.petal(0.4, -0.76, 0.36, 0.18, 14, LEAF)
    for row, (y, berries) in enumerate(((-0.42, 4), (-0.06, 3), (0.32, 2), (0.68, 1))):
        for k in range(berries):
            x = (k - (berries - 1) / 2) * 0.46
            pen.oval(x, y, 0.28, 0.27, c.main if (row + k) % 2 else c.dark)
            pen.spot(x - 0.08, y - 0.08, 0.08, 0.07, c.light)


def pineapple(pen: Pen, scene: Scene) -> None:
    """A tall oval with a diamond hatch under a crown of spiky leaves."""
    c = pen.colours
    for x, y in ((-0.5, -0.74), (0.5, -0.74), (-0.26, -0.94), (0.26, -0.94), (0, -1.0)):
        pen.shape([(-0.18 + 0.3 * x, -0.22), (x, y), (0.18 + 0.3 * x, -0.22)], LEAF)
    pen.oval(0, 0.34, 0.56, 0.64, c.main)
    for y, x in ((0.06, 0.42), (0.34, 0.48), (0.62, 0.42)):
        pen.line([(-x, y - 0.2), (x, y + 0.2)], c.dark, 1.6)
        pen.line([(x, y - 0.2), (-x, y + 0.2)], c.dark, 1.6)
    for x, y in ((0, -0.1), (0, 0.2), (0, 0.48), (0, 0.78), (-0.34, 0.2), (0.34, 0.2), (-0.34, 0.48), (0.34, 0.48)):
        pen.spot(x, y, 0.06, 0.06, c.light)


def cherry(pen: Pen, scene: Scene) -> None:
    """Two balls on long stems that meet under a leaf."""
    c = pen.colours
    pen.curve([(-0.5, 0.3), (-0.3, -0.3), (0.14, -0.84)], (92, 122, 40), 2.6)
    pen.curve([(0.52, 0.36), (0.46, -0.2), (0.14, -0.84)], (92, 122, 40), 2.6)
    pen.petal(0.5, -0.78, 0.4, 0.18, 8, LEAF)
    for x, y in ((-0.5, 0.46), (0.52, 0.54)):
        pen.oval(x, y, 0.44, 0.42, c.main)
        pen.spot(x - 0.14, y - 0.13, 0.12, 0.1, c.light)
        pen.arc(x, y, 0.3, 0.29, (10, 90), c.dark, 2.4)


DRAWINGS = {"apple": apple, "banana": banana, "grapes": grapes, "pineapple": pineapple, "cherry": cherry}
