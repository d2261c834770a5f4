"""House, castle, tower, tent and windmill."""

from math import cos, radians, sin

from negguide.toybox.world.pen import BROWN, CREAM, DARK, GLASS, Colour, Pen
from negguide.toybox.world.scene import Scene

ROOF: Colour = (150, 72, 58)
LIT: Colour = (255, 236, 140)
DOOR: Colour = (104, 62, 40)


def house(pen: Pen, scene: Scene) -> None:
    """Walls under a wide gabled roof, with a chimney, a door and two windows."""
    c = pen.colours
    pen.box(0.4, -0.84, 0.62, -0.3, ROOF)
    pen.box(-0.76, -0.16, 0.76, 0.92, c.main)
    pen.shape([(-0.98, -0.1), (0, -0.92), (0.98, -0.1)], c.dark)
    pen.bar(-0.7, -0.06, 0.7, 0.04, c.light)
    pen.box(-0.18, 0.34, 0.2, 0.92, DOOR)
    for x in (-0.62, 0.32):
        pen.box(x, 0.2, x + 0.32, 0.54, LIT)
        pen.line([(x + 0.16, 0.24), (x + 0.16, 0.5)], w=1.2)
    pen.oval(0, -0.42, 0.14, 0.14, LIT)


def castle(pen: Pen, scene: Scene) -> None:
    """Two round towers with flags around a battlemented wall with an arched gate."""
    c = pen.colours
    for x in (-0.66, 0.66):
        pen.line([(x, -0.6), (x, -1.0)], w=1.5)
        pen.patch([(x, -1.0), (x + 0.28, -0.9), (x, -0.8)], (230, 60, 60) if scene.colour != "red" else LIT)
    pen.box(-0.5, -0.1, 0.5, 0.94, c.main)
    for x in (-0.36, -0.09, 0.18):
        pen.box(x, -0.3, x + 0.19, -0.04, c.main)
    for x in (-0.66, 0.66):
        pen.box(x - 0.27, -0.42, x + 0.27, 0.94, c.main)
        for k in (-0.34, -0.1, 0.14):
            pen.box(x + k, -0.72, x + k + 0.2, -0.4, c.main)
        pen.box(x - 0.34, -0.52, x + 0.34, -0.3, c.main)
        pen.bar(x - 0.28, -0.46, x + 0.28, -0.36, c.dark)
        pen.box(x - 0.08, -0.1, x + 0.08, 0.2, DARK, 0.06)
    pen.dome(0, 0.56, 0.22, 0.3, DOOR)
    pen.bar(-0.2, 0.52, 0.2, 0.92, DOOR)
    pen.line([(-0.22, 0.56), (-0.22, 0.94)])
    pen.line([(0.22, 0.56), (0.22, 0.94)])
    pen.line([(0, 0.3), (0, 0.92)], w=1.2)


def tower(pen: Pen, scene: Scene) -> None:
    """A narrow skyscraper with an antenna and a grid of lit windows."""
    c = pen.colours
    pane = (96, 156, 216) if scene.colour in ("white", "yellow") else LIT
    pen.line([(0, -1.06), (0, -0.7)], w=2)
    pen.box(-0.24, -0.84, 0.24, -0.6, c.dark)
    pen.box(-0.44, -0.68, 0.44, 0.98, c.main)
    pen.bar(0.24, -0.62, 0.38, 0.92, c.dark)
    for y in (-0.54, -0.26, 0.02, 0.3, 0.58):
        for x in (-0.32, -0.07, 0.18):
            pen.bar(x, y, x + 0.15, y + 0.18, DARK)
            pen.bar(x + 0.02, y + 0.02, x + 0.13, y + 0.16, pane)


def tent(pen: Pen, scene: Scene) -> None:
    """A wide striped triangle with an open entrance and a small flag."""
    c = pen.colours
    pen.line([(0, -0.6), (0, -0.96)], w=1.6)
    pen.patch([(0, -0.98), (0.3, -0.86), (0, -0.74)], c.main)
    pen.shape([(0, -0.7), (1.0, 0.8), (-1.0, 0.8)], c.main)
    for s in (-1, 1):
        pen.patch([(0, -0.62), (s * 0.5, 0.75), (s * 0.74, 0.75)], c.light if scene.colour != "white" else c.dark)
    pen.shape([(0, -0.2), (0.34, 0.8), (-0.34, 0.8)], (64, 48, 52))
    pen.shape([(0, -0.2), (0.08, 0.8), (0.36, 0.8)], CREAM)


def windmill(pen: Pen, scene: Scene) -> None:
    """A tapering tower with a cap and four latticed blades."""
    c = pen.colours
    pen.shape([(-0.26, -0.4), (0.26, -0.4), (0.46, 0.98), (-0.46, 0.98)], c.main)
    pen.bar(-0.33, 0.24, 0.33, 0.34, c.dark)
    pen.box(-0.14, 0.6, 0.14, 0.98, DOOR)
    pen.dome(0, -0.34, 0.34, 0.36, c.dark)
    for angle in (38, 128, 218, 308):
        u, v = cos(radians(angle)), sin(radians(angle))
        start, end, near, far = 0.2, 0.96, 0.0, 0.24
        corners = ((start, near), (end, near), (end, far), (start, far))
        pen.shape([(a * u - b * v, -0.34 + a * v + b * u) for a, b in corners], CREAM)
        for a in (0.45, 0.7):
            pen.line([(a * u, -0.34 + a * v), (a * u - far * v, -0.34 + a * v + far * u)], w=1.2)
        pen.line([(0, -0.34), (0.96 * u, -0.34 + 0.96 * v)], BROWN, 2.6)
    pen.oval(0, -0.34, 0.12, 0.12, GLASS)


DRAWINGS = {"house": house, "castle": castle, "tower": tower, "tent": tent, "windmill": windmill}
