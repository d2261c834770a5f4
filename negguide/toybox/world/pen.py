"""The pen: draws filled, contoured shapes in the coordinates of one thing, on a supersampled canvas.

A thing lives in the square [-1, 1] x [-1, 1], x to the right and y down; the pen places, scales and mirrors it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import cos, pi, radians, sin

from PIL import ImageDraw

Colour = tuple[int, int, int]
Point = tuple[float, float]

INK: Colour = (38, 30, 42)
WHITE: Colour = (248, 248, 248)
DARK: Colour = (40, 40, 48)
BROWN: Colour = (134, 84, 48)
LEAF: Colour = (70, 160, 74)
GLASS: Colour = (190, 228, 246)
CREAM: Colour = (247, 232, 200)

MAIN: dict[str, Colour] = {
    "red": (222, 42, 42),
    "orange": (246, 134, 28),
    "yellow": (250, 217, 45),
    "green": (44, 160, 66),
    "blue": (44, 94, 222),
    "purple": (142, 62, 192),
    "black": (50, 50, 57),
    "white": (246, 246, 246),
}


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """The colour `share` of the way from `first` to `second`."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


@dataclass(frozen=True)
class Palette:
    """The shades of one main colour: `main`, `light` and `dark` fills, `ink` for contours."""

    main: Colour
    light: Colour
    dark: Colour
    ink: Colour

    @classmethod
    def of(cls, colour: str, shade: float) -> "Palette":
        """Shades of a named colour, `shade` in [-1, 1] making it slightly darker or lighter."""
        main = mix(MAIN[colour], WHITE if shade > 0 else (0, 0, 0), 0.1 * abs(shade))
        if colour == "black":
            return cls(main, (108, 108, 118), (30, 30, 36), (112, 112, 124))
        if colour == "white":
            return cls(mix(MAIN[colour], (200, 206, 218), 0.12 * abs(shade)), (255, 255, 255), (196, 202, 216), INK)
        return cls(main, mix(main, WHITE, 0.5), mix(main, (20, 10, 30), 0.3), INK)


class Pen:
    """Draws in thing coordinates; widths `w` are in pixels of a 64-pixel picture for a large thing."""

    def __init__(
        self,
        draw: ImageDraw.ImageDraw,
        centre: Point,
        reach: float,
        mirror: bool,
        palette: Palette,
        pixel: float,
    ) -> None:
        """A pen whose square is centred at `centre` and reaches `reach` canvas pixels; `pixel` = canvas/64."""
        self.draw = draw
        self.centre = centre
        self.reach = reach
        self.flip = -1 if mirror else 1
        self.colours = palette
        self.pixel = pixel
        self.contour = self.width(1.5)

    def width(self, w: float) -> int:
        """Canvas pixels of a line `w` wide, never thinner than 1.2 pixels of the picture."""
        return max(1, round(self.pixel * max(1.2, w * self.reach / (23 * self.pixel))))

    def at(self, x: float, y: float) -> Point:
        """The canvas position of a point."""
        return self.centre[0] + self.flip * x * self.reach, self.centre[1] + y * self.reach

    def frame(self, x: float, y: float, rx: float, ry: float) -> tuple[float, float, float, float]:
        """The canvas bounding box of an axis-aligned ellipse or box."""
        cx, cy = self.at(x, y)
        return cx - rx * self.reach, cy - ry * self.reach, cx + rx * self.reach, cy + ry * self.reach

    def oval(self, x: float, y: float, rx: float, ry: float, fill: Colour, ink: Colour | None = None) -> None:
        """An ellipse with a contour."""
        self.draw.ellipse(self.frame(x, y, rx, ry), fill, ink or self.colours.ink, self.contour)

    def spot(self, x: float, y: float, rx: float, ry: float, fill: Colour) -> None:
        """An ellipse without a contour."""
        self.draw.ellipse(self.frame(x, y, rx, ry), fill)

    def shape(self, points: Sequence[Point], fill: Colour, ink: Colour | None = None) -> None:
        """A polygon with a contour."""
        corners = [self.at(*point) for point in points]
        self.draw.polygon(corners, fill)
        self.draw.line([*corners, *corners[:2]], ink or self.colours.ink, self.contour, joint="curve")

    def patch(self, points: Sequence[Point], fill: Colour) -> None:
        """A polygon without a contour."""
        self.draw.polygon([self.at(*point) for point in points], fill)

    def blob(self, points: Sequence[Point], fill: Colour, ink: Colour | None = None) -> None:
        """A smooth closed shape through the points, with a contour."""
        self.shape(spline([points[-1], *points, *points[:2]]), fill, ink)

    def box(
        self, x0: float, y0: float, x1: float, y1: float, fill: Colour, bend: float = 0.0, ink: Colour | None = None
    ) -> None:
        """A box with a contour and corners rounded by `bend`."""
        frame = self.frame((x0 + x1) / 2, (y0 + y1) / 2, (x1 - x0) / 2, (y1 - y0) / 2)
        self.draw.rounded_rectangle(frame, bend * self.reach, fill, ink or self.colours.ink, self.contour)

    def bar(self, x0: float, y0: float, x1: float, y1: float, fill: Colour) -> None:
        """A box without a contour."""
        self.draw.rectangle(self.frame((x0 + x1) / 2, (y0 + y1) / 2, (x1 - x0) / 2, (y1 - y0) / 2), fill)

    def petal(self, x: float, y: float, rx: float, ry: float, angle: float, fill: Colour) -> None:
        """An ellipse turned clockwise by `angle` degrees, with a contour."""
        c, s = cos(radians(angle)), sin(radians(angle))
        ring = [(rx * cos(k * pi / 10), ry * sin(k * pi / 10)) for k in range(20)]
        self.shape([(x + c * u - s * v, y + s * u + c * v) for u, v in ring], fill)

    def line(self, points: Sequence[Point], colour: Colour | None = None, w: float = 1.5) -> None:
        """A broken line."""
        self.draw.line([self.at(*p) for p in points], colour or self.colours.ink, self.width(w), joint="curve")

    def curve(self, points: Sequence[Point], colour: Colour | None = None, w: float = 1.5) -> None:
        """A smooth line through the points."""
        self.line(spline([points[0], *points, points[-1]]), colour, w)

    def tube(self, points: Sequence[Point], fill: Colour, w: float) -> None:
        """A smooth thick line with a contour."""
        self.curve(points, self.colours.ink, w + 2.6)
        self.curve(points, fill, w)

    def arc(
        self, x: float, y: float, rx: float, ry: float, span: Point, colour: Colour | None = None, w: float = 1.5
    ) -> None:
        """A part of an ellipse's line, from `span[0]` to `span[1]` degrees clockwise from the right."""
        start, end = span if self.flip > 0 else (180 - span[1], 180 - span[0])
        self.draw.arc(self.frame(x, y, rx, ry), start, end, colour or self.colours.ink, self.width(w))

    def dome(self, x: float, y: float, rx: float, ry: float, fill: Colour, ink: Colour | None = None) -> None:
        """The upper half of an ellipse with a contour; y is its flat lower edge."""
        self.shape([(x - rx * cos(k * pi / 14), y - ry * sin(k * pi / 14)) for k in range(15)], fill, ink)


def spline(points: Sequence[Point], steps: int = 5) -> list[Point]:
    """Catmull-Rom curve through all points but the first and last, which only steer it."""
    path: list[Point] = []
    for (ax, ay), (bx, by), (cx, cy), (dx, dy) in zip(points, points[1:], points[2:], points[3:], strict=False):
        for k in range(steps):
            t = k / steps
            a, b, c, d = -t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, t**3 - t**2
            path.append(((a * ax + b * bx + c * cx + d * dx) / 2, (a * ay + b * by + c * cy + d * dy) / 2))
    path.append(points[-2])
    return path
