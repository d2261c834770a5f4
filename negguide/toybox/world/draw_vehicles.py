"""Car, bus, boat, plane and bicycle."""

from math import cos, pi, sin

from negguide.toybox.world.pen import BROWN, DARK, GLASS, WHITE, Colour, Pen
from negguide.toybox.world.scene import Scene

RUBBER: Colour = (44, 42, 50)
RIM: Colour = (200, 204, 214)
LAMP: Colour = (255, 238, 130)


def _wheel(pen: Pen, x: float, y: float, reach: float) -> None:
    pen.oval(x, y, reach, reach, RUBBER, (20, 20, 24))
    pen.spot(x, y, reach * 0.5, reach * 0.5, RIM)


def car(pen: Pen, scene: Scene) -> None:
    """Low, with a rounded cabin, two side windows and two big wheels."""
    c = pen.colours
    pen.shape([(-0.62, 0.0), (-0.44, -0.46), (-0.3, -0.54), (0.22, -0.54), (0.36, -0.46), (0.62, 0.0)], c.main)
    pen.shape([(-0.46, 0.0), (-0.32, -0.38), (-0.08, -0.38), (-0.08, 0.0)], GLASS)
    pen.shape([(0.06, 0.0), (0.06, -0.38), (0.24, -0.38), (0.44, 0.0)], GLASS)
    body = [(-0.98, 0.08), (-0.9, -0.06), (0.66, -0.06), (0.92, 0.06), (1.0, 0.24), (0.98, 0.46), (-0.98, 0.46)]
    pen.shape(body, c.main)
    pen.bar(-0.92, 0.28, 0.92, 0.38, c.dark)
    pen.line([(-0.02, 0.0), (-0.02, 0.4)])
    pen.oval(0.88, 0.16, 0.1, 0.09, LAMP)
    _wheel(pen, -0.54, 0.48, 0.27)
    _wheel(pen, 0.54, 0.48, 0.27)


def bus(pen: Pen, scene: Scene) -> None:
    """A long tall box with a row of windows, a door and two wheels."""
    c = pen.colours
    pen.box(-1.0, -0.66, 1.0, 0.56, c.main, 0.12)
    pen.bar(-0.94, 0.14, 0.94, 0.26, c.light)
    for x in (-0.88, -0.5, -0.12, 0.26):
        pen.box(x, -0.48, x + 0.32, 0.02, GLASS, 0.04)
    pen.box(0.64, -0.48, 0.94, 0.46, GLASS, 0.04)
    pen.line([(0.79, -0.44), (0.79, 0.44)])
    _wheel(pen, -0.54, 0.56, 0.22)
    _wheel(pen, 0.4, 0.56, 0.22)


def boat(pen: Pen, scene: Scene) -> None:
    """A hull under a mast with a large and a small sail."""
    c = pen.colours
    pen.line([(0, -0.98), (0, 0.5)], BROWN, 3)
    pen.shape([(0.08, -0.86), (0.08, 0.3), (0.84, 0.3)], c.main)
    pen.shape([(-0.08, -0.6), (-0.08, 0.3), (-0.66, 0.3)], c.light)
    pen.shape([(-0.98, 0.42), (0.98, 0.42), (0.66, 0.9), (-0.6, 0.9)], c.main)
    pen.bar(-0.8, 0.54, 0.8, 0.64, WHITE if scene.colour != "white" else c.dark)


def plane(pen: Pen, scene: Scene) -> None:
    """An airliner in profile: round nose, tail fin, swept wings and a row of windows."""
    c = pen.colours
    pen.shape([(-0.98, -0.72), (-0.72, -0.72), (-0.42, -0.1), (-0.84, -0.06)], c.main)
    pen.shape([(0.06, -0.12), (-0.24, -0.62), (-0.04, -0.62), (0.42, -0.12)], c.dark)
    nose = [
        (0.5, -0.26),
        (0.86, -0.14),
        (1.0, 0.04),
        (0.84, 0.22),
        (0.4, 0.28),
        (-0.4, 0.24),
        (-0.98, 0.0),
        (-0.9, -0.18),
    ]
    pen.blob([(-0.4, -0.24), *nose], c.main)
    for x in (-0.5, -0.24, 0.02, 0.28):
        pen.spot(x, -0.04, 0.08, 0.08, WHITE if scene.colour != "white" else (90, 150, 210))
    pen.shape([(0.58, -0.2), (0.8, -0.12), (0.86, 0.0), (0.58, 0.0)], GLASS)
    pen.shape([(0.2, 0.14), (-0.16, 0.14), (-0.5, 0.76), (-0.22, 0.76)], c.light)
    pen.shape([(-0.66, 0.02), (-0.86, 0.02), (-0.98, 0.26), (-0.8, 0.26)], c.light)


def bicycle(pen: Pen, scene: Scene) -> None:
    """Two spoked wheels, a diamond frame, a saddle and handlebars."""
    c = pen.colours
    for x in (-0.56, 0.56):
        for k in range(3):
            u, v = 0.38 * cos(k * pi / 3 + 0.3), 0.38 * sin(k * pi / 3 + 0.3)
            pen.line([(x - u, 0.38 - v), (x + u, 0.38 + v)], (90, 90, 100), 0.8)
        pen.arc(x, 0.38, 0.46, 0.46, (0, 360), RUBBER, 2.4)
        pen.arc(x, 0.38, 0.38, 0.38, (0, 360), c.main, 2.6)
        pen.arc(x, 0.38, 0.28, 0.28, (0, 360), c.ink, 1.2)
    tubes = (
        [(-0.56, 0.38), (-0.24, -0.24), (0.38, -0.24)],
        [(-0.56, 0.38), (0.0, 0.38), (-0.28, -0.4)],
        [(0.0, 0.38), (0.4, -0.24)],
        [(0.56, 0.38), (0.36, -0.52)],
    )
    for tube in tubes:
        pen.line(tube, c.ink, 5.4)
    for tube in tubes:
        pen.line(tube, c.main, 3.2)
    pen.oval(-0.3, -0.44, 0.22, 0.09, RUBBER)
    pen.line([(0.36, -0.52), (0.52, -0.64), (0.7, -0.56)], DARK, 3)
    pen.oval(0, 0.38, 0.11, 0.11, RIM)


DRAWINGS = {"car": car, "bus": bus, "boat": boat, "plane": plane, "bicycle": bicycle}
