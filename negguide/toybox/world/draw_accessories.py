"""Hat, glasses and scarf, each drawn where its wearer's anatomy asks for it; and the bare eye they must not resemble.

A bare eye is a small dark bead, so that the pale blue lenses in thick frames are unmistakable even at 64 pixels.
"""

from negguide.toybox.world.pen import Colour, Pen

FELT: Colour = (58, 44, 66)
BAND: Colour = (252, 206, 44)
FRAME: Colour = (22, 20, 26)
LENS: Colour = (168, 226, 252)
WOOL: Colour = (238, 62, 150)
STRIPE: Colour = (255, 244, 250)
EDGE: Colour = (150, 138, 158)


def hat(pen: Pen, x: float, y: float, reach: float) -> None:
    """A top hat whose brim is centred at (x, y) and reaches `reach` to both sides."""
    crown = 0.62 * reach
    height = 0.95 * reach
    pen.box(x - crown - 0.03, y - height - 0.03, x + crown + 0.03, y + 0.02, FELT, 0.05, EDGE)
    pen.bar(x - crown, y - 0.42 * reach, x + crown, y - 0.08 * reach, BAND)
    pen.box(x - reach, y - 0.08, x + reach, y + 0.08, FELT, 0.08, EDGE)


def glasses(pen: Pen, left: float, right: float, y: float, reach: float) -> None:
    """Round glasses around eyes at (left, y) and (right, y), lenses of radius `reach`, pupils seen through."""
    for x in (left, right):
        pen.spot(x, y, reach, reach, FRAME)
        pen.spot(x, y, reach - 0.08, reach - 0.08, LENS)
        pen.spot(x, y + 0.01, 0.06, 0.07, FRAME)
    pen.line([(left + reach - 0.04, y - 0.02), (right - reach + 0.04, y - 0.02)], FRAME, 2.2)


def eye(pen: Pen, x: float, y: float, reach: float, on_dark: bool = False) -> None:
    """A bare eye: a dark bead with a glint, or a yellow one with a pupil on dark fur."""
    if on_dark:
        pen.spot(x, y, reach, reach, (236, 206, 70))
        pen.spot(x, y, reach * 0.45, reach * 0.8, FRAME)
        return
    pen.spot(x, y, reach, reach * 1.2, FRAME)
    pen.spot(x + 0.35 * reach, y - 0.45 * reach, reach * 0.4, reach * 0.4, (255, 255, 255))


def side_glasses(pen: Pen, x: float, y: float, reach: float, ear: float) -> None:
    """Glasses in profile: one lens at (x, y) and the temple that runs back to `ear`."""
    pen.line([(ear, y - 0.04), (x - reach + 0.04, y - 0.02)], FRAME, 2.2)
    pen.spot(x, y, reach * 0.85, reach, FRAME)
    pen.spot(x, y, reach * 0.85 - 0.085, reach - 0.085, LENS)
    pen.spot(x + 0.03, y + 0.01, 0.06, 0.075, FRAME)


def scarf(pen: Pen, x: float, y: float, reach: float, end: float = 0.42) -> None:
    """A striped scarf wound at (x, y), `reach` to both sides, one end hanging down by `end`."""
    ink = (96, 20, 66)
    tail = x + 0.3 * reach
    pen.box(tail, y, tail + 0.26, y + end, WOOL, 0.04, ink)
    pen.bar(tail + 0.05, y + 0.66 * end, tail + 0.21, y + 0.82 * end, STRIPE)
    pen.box(x - reach, y - 0.14, x + reach, y + 0.14, WOOL, 0.13, ink)
    for k in (-0.62, -0.12, 0.38):
        pen.patch(
            [
                (x + k * reach, y - 0.08),
                (x + k * reach + 0.1, y - 0.08),
                (x + k * reach + 0.16, y + 0.08),
                (x + k * reach + 0.06, y + 0.08),
            ],
            STRIPE,
        )
