"""Flower, tree, cactus, mushroom and palm."""

from math import cos, radians, sin

from negguide.toybox.world.pen import BROWN, CREAM, LEAF, Colour, Pen
from negguide.toybox.world.scene import Scene

STALK: Colour = (52, 138, 62)
CLAY: Colour = (196, 112, 74)


def flower(pen: Pen, scene: Scene) -> None:
    """Six petals around a round heart, on a stem with two leaves."""
    c = pen.colours
    pen.tube([(0, -0.2), (0.02, 0.96)], STALK, 3)
    pen.petal(-0.32, 0.66, 0.32, 0.13, 28, LEAF)
    pen.petal(0.36, 0.56, 0.32, 0.13, -28, LEAF)
    for angle in range(0, 360, 60):
        x, y = 0.42 * cos(radians(angle + 30)), -0.36 + 0.42 * sin(radians(angle + 30))
        pen.oval(x, y, 0.26, 0.26, c.main)
    pen.oval(0, -0.36, 0.25, 0.25, BROWN if scene.colour in ("yellow", "orange") else (252, 206, 60))


def tree(pen: Pen, scene: Scene) -> None:
    """A thick trunk under a round cloud of foliage."""
    c = pen.colours
    pen.shape([(-0.16, 0.1), (0.16, 0.1), (0.2, 0.84), (0.34, 0.98), (-0.34, 0.98), (-0.2, 0.84)], BROWN)
    puffs = (
        (0, -0.64),
        (-0.46, -0.46),
        (0.46, -0.46),
        (-0.58, -0.04),
        (0.58, -0.04),
        (-0.22, 0.1),
        (0.22, 0.1),
        (0, -0.2),
    )
    for x, y in puffs:
        pen.oval(x, y, 0.36, 0.33, c.main)
    for x, y in puffs:
        pen.spot(x, y, 0.3, 0.27, c.main)
    for x, y in ((-0.38, -0.42), (0.28, -0.58), (0.44, -0.02), (-0.2, 0.04)):
        pen.arc(x, y, 0.24, 0.22, (190, 330), c.light, 2.4)
    for x, y in ((0.02, -0.22), (0.5, -0.34), (-0.54, 0.0)):
        pen.arc(x, y, 0.2, 0.18, (20, 150), c.dark, 2)


def cactus(pen: Pen, scene: Scene) -> None:
    """A ribbed column with two raised arms, in a clay pot."""
    c = pen.colours
    pen.tube([(0.05, 0.3), (0.6, 0.28), (0.66, 0.1), (0.66, -0.3)], c.main, 6.5)
    pen.tube([(-0.05, 0.06), (-0.6, 0.04), (-0.66, -0.14), (-0.66, -0.52)], c.main, 6.5)
    for x, y in ((0.66, -0.32), (-0.66, -0.54)):
        pen.dome(x, y + 0.03, 0.17, 0.17, c.main)
        pen.bar(x - 0.12, y + 0.0, x + 0.12, y + 0.1, c.main)
    pen.box(-0.3, -0.98, 0.3, 0.7, c.main, 0.3)
    for x in (-0.1, 0.12):
        pen.line([(x, -0.76), (x, 0.5)], c.dark, 1.6)
    for y in (-0.6, -0.2, 0.2):
        pen.line([(-0.2, y), (-0.08, y)], c.light, 1.6)
        pen.line([(0.1, y + 0.18), (0.22, y + 0.18)], c.light, 1.6)
    pen.shape([(-0.44, 0.58), (0.44, 0.58), (0.34, 0.98), (-0.34, 0.98)], CLAY)
    pen.box(-0.52, 0.5, 0.52, 0.66, CLAY)


def mushroom(pen: Pen, scene: Scene) -> None:
    """A broad domed cap with dots on a fat pale stem."""
    c = pen.colours
    pen.blob([(-0.28, 0.0), (0.28, 0.0), (0.3, 0.5), (0.42, 0.92), (0, 0.98), (-0.42, 0.92), (-0.3, 0.5)], CREAM)
    pen.dome(0, 0.16, 0.96, 1.06, c.main)
    dots = c.dark if scene.colour == "white" else (250, 244, 236)
    for x, y, r in ((-0.5, -0.18, 0.16), (0.04, -0.5, 0.2), (0.54, -0.14, 0.16), (0.02, -0.02, 0.12)):
        pen.spot(x, y, r, r * 0.9, dots)


def palm(pen: Pen, scene: Scene) -> None:
    """A bent bare trunk with drooping fronds and two coconuts."""
    c = pen.colours
    pen.tube([(-0.26, 0.96), (-0.14, 0.4), (0.04, -0.06), (0.12, -0.4)], BROWN, 5)
    for x, y in ((-0.2, 0.66), (-0.11, 0.34), (0.0, 0.04)):
        pen.line([(x - 0.1, y), (x + 0.12, y + 0.04)], (94, 56, 30), 1.5)
    fronds = ((-0.92, 0.06, -0.5), (0.98, 0.06, -0.46), (-0.86, -0.5, -0.86), (0.96, -0.46, -0.82), (0.2, -1.0, -0.9))
    for x, y, lift in fronds:
        middle = (0.12 + x) / 2
        pen.blob(
            [(0.08, -0.5), (middle - 0.04, lift - 0.02), (x, y), (middle + 0.02, lift + 0.26), (0.14, -0.36)], c.main
        )
        pen.curve([(0.1, -0.44), (middle, lift + 0.1), (x * 0.9, y - 0.06)], c.dark, 1.4)
    pen.oval(0.0, -0.3, 0.12, 0.12, (104, 64, 36))
    pen.oval(0.22, -0.28, 0.12, 0.12, (104, 64, 36))


DRAWINGS = {"flower": flower, "tree": tree, "cactus": cactus, "mushroom": mushroom, "palm": palm}
