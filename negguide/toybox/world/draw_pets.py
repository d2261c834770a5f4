"""Cat, dog, rabbit, bird and turtle."""

from negguide.toybox.world import draw_accessories as wear
from negguide.toybox.world.pen import DARK, WHITE, Colour, Pen
from negguide.toybox.world.scene import Scene

PINK: Colour = (246, 150, 168)
BEAK: Colour = (255, 176, 32)


def _eyes(pen: Pen, scene: Scene, x: float, y: float, reach: float = 0.12) -> None:
    for side in (-x, x):
        wear.eye(pen, side, y, reach, on_dark=scene.colour == "black")


def _sitting_body(pen: Pen, scene: Scene, neck: float) -> None:
    c = pen.colours
    pen.blob([(-0.34, 0.15), (0.34, 0.15), (0.6, 0.75), (0.4, 0.98), (-0.4, 0.98), (-0.6, 0.75)], c.main)
    pen.spot(0, 0.66, 0.26, 0.26, c.light)
    pen.oval(-0.27, 0.9, 0.24, 0.12, c.main)
    pen.oval(0.27, 0.9, 0.24, 0.12, c.main)
    if "scarf" in scene.accessories:
        wear.scarf(pen, 0, neck, 0.5)


def cat(pen: Pen, scene: Scene) -> None:
    """Sitting, with pointed ears, whiskers and a curled tail."""
    c = pen.colours
    pen.tube([(0.4, 0.86), (0.82, 0.8), (0.92, 0.45), (0.78, 0.25)], c.main, 4.4)
    _sitting_body(pen, scene, 0.4)
    for s in (-1, 1):
        pen.shape([(s * 0.66, -0.22), (s * 0.64, -0.98), (s * 0.1, -0.6)], c.main)
        pen.patch([(s * 0.56, -0.4), (s * 0.55, -0.76), (s * 0.28, -0.56)], PINK)
    pen.oval(0, -0.2, 0.7, 0.52, c.main)
    pen.spot(0, 0.06, 0.3, 0.2, c.light)
    for s in (-1, 1):
        pen.line([(s * 0.3, 0.0), (s * 0.92, -0.1)], w=1.2)
        pen.line([(s * 0.3, 0.07), (s * 0.92, 0.14)], w=1.2)
    _eyes(pen, scene, 0.29, -0.22, 0.13)
    pen.patch([(-0.1, -0.06), (0.1, -0.06), (0, 0.05)], (214, 70, 100))
    pen.arc(-0.09, 0.08, 0.09, 0.09, (0, 180), DARK, 1.2)
    pen.arc(0.09, 0.08, 0.09, 0.09, (0, 180), DARK, 1.2)
    if "glasses" in scene.accessories:
        wear.glasses(pen, -0.31, 0.31, -0.24, 0.28)
    if "hat" in scene.accessories:
        wear.hat(pen, 0, -0.56, 0.46)


def dog(pen: Pen, scene: Scene) -> None:
    """Sitting, with long hanging ears, a big muzzle with a dark nose, and the tongue out."""
    c = pen.colours
    pen.tube([(0.45, 0.82), (0.8, 0.66), (0.9, 0.36)], c.main, 4.4)
    _sitting_body(pen, scene, 0.42)
    pen.blob([(-0.44, -0.7), (0, -0.84), (0.44, -0.7), (0.54, -0.2), (0.4, 0.26), (-0.4, 0.26), (-0.54, -0.2)], c.main)
    pen.spot(0.24, -0.38, 0.2, 0.22, c.light)
    for s in (-1, 1):
        pen.blob([(s * 0.36, -0.8), (s * 0.66, -0.7), (s * 0.86, -0.1), (s * 0.68, 0.2), (s * 0.5, -0.08)], c.dark)
    pen.oval(0.02, 0.3, 0.1, 0.16, (238, 84, 106))
    pen.oval(0, 0.06, 0.36, 0.24, c.light)
    pen.spot(0, -0.06, 0.17, 0.12, (28, 24, 30))
    pen.line([(0, 0), (0, 0.16)], DARK, 1.3)
    _eyes(pen, scene, 0.25, -0.36)
    if "glasses" in scene.accessories:
        wear.glasses(pen, -0.28, 0.28, -0.36, 0.26)
    if "hat" in scene.accessories:
        wear.hat(pen, 0, -0.68, 0.5)


def rabbit(pen: Pen, scene: Scene) -> None:
    """Sitting, with tall upright ears, round cheeks and two teeth; a hat spreads the ears."""
    c = pen.colours
    pen.oval(0.56, 0.78, 0.17, 0.17, c.light)
    _sitting_body(pen, scene, 0.5)
    lean = 34 if "hat" in scene.accessories else 10
    foot = 0.34 if "hat" in scene.accessories else 0.24
    for s in (-1, 1):
        x, y = s * (foot + 0.008 * lean), -0.62 + 0.004 * lean
        pen.petal(x, y, 0.17, 0.42, s * lean, c.main)
        pen.petal(x, y + 0.02, 0.07, 0.28, s * lean, PINK)
    pen.blob([(-0.3, -0.36), (0.3, -0.36), (0.54, 0.06), (0.36, 0.36), (-0.36, 0.36), (-0.54, 0.06)], c.main)
    pen.spot(0, 0.16, 0.27, 0.17, c.light)
    pen.bar(-0.09, 0.2, 0.09, 0.36, DARK)
    pen.bar(-0.065, 0.2, 0.065, 0.335, WHITE)
    pen.line([(0, 0.2), (0, 0.33)], DARK, 1.2)
    pen.spot(0, 0.08, 0.11, 0.08, (232, 92, 120))
    _eyes(pen, scene, 0.25, -0.08)
    if "glasses" in scene.accessories:
        wear.glasses(pen, -0.27, 0.27, -0.1, 0.25)
    if "hat" in scene.accessories:
        wear.hat(pen, 0, -0.34, 0.42)


def bird(pen: Pen, scene: Scene) -> None:
    """Standing in profile, with a pointed beak, a folded wing, a fanned tail and thin legs."""
    c = pen.colours
    for x in (-0.12, 0.16):
        pen.line([(x, 0.6), (x, 0.94)], (214, 120, 20), 2.4)
        pen.line([(x - 0.02, 0.94), (x + 0.2, 0.94)], (214, 120, 20), 2.4)
    pen.shape([(-0.45, 0.2), (-1.0, -0.12), (-1.02, 0.14), (-0.94, 0.36), (-0.4, 0.48)], c.dark)
    pen.blob([(0.1, -0.3), (0.56, 0.02), (0.5, 0.5), (0, 0.72), (-0.5, 0.5), (-0.62, 0.2), (-0.3, -0.06)], c.main)
    pen.spot(0.26, 0.4, 0.24, 0.24, c.light)
    pen.blob([(0.1, 0.1), (0.08, 0.42), (-0.3, 0.5), (-0.72, 0.3), (-0.3, 0.08)], c.dark)
    if "scarf" in scene.accessories:
        wear.scarf(pen, 0.24, -0.04, 0.42)
    pen.shape([(0.62, -0.56), (1.02, -0.36), (0.62, -0.2)], BEAK)
    pen.oval(0.3, -0.42, 0.44, 0.4, c.main)
    wear.eye(pen, 0.44, -0.46, 0.12, on_dark=scene.colour == "black")
    if "glasses" in scene.accessories:
        wear.glasses(pen, 0.1, 0.56, -0.46, 0.24)
    if "hat" in scene.accessories:
        wear.hat(pen, 0.24, -0.72, 0.46)


def turtle(pen: Pen, scene: Scene) -> None:
    """Walking in profile under a high domed shell with plates."""
    c = pen.colours
    pen.shape([(-0.8, 0.36), (-1.02, 0.56), (-0.7, 0.56)], c.light)
    for x in (-0.6, 0.14):
        pen.box(x, 0.4, x + 0.34, 0.8, c.light, 0.1)
    pen.blob([(0.3, 0.2), (0.55, 0.0), (0.9, 0.2), (0.7, 0.48), (0.3, 0.56)], c.light)
    if "scarf" in scene.accessories:
        wear.scarf(pen, 0.56, 0.34, 0.3, 0.4)
    pen.oval(0.7, -0.06, 0.33, 0.33, c.light)
    pen.dome(-0.22, 0.44, 0.76, 0.96, c.main)
    pen.shape([(-0.44, -0.28), (0.0, -0.28), (0.14, 0.04), (-0.22, 0.24), (-0.58, 0.04)], c.dark)
    pen.line([(-0.22, 0.24), (-0.22, 0.4)])
    pen.line([(-0.58, 0.04), (-0.86, 0.12)])
    pen.line([(0.14, 0.04), (0.42, 0.12)])
    pen.box(-1.0, 0.36, 0.56, 0.52, c.dark, 0.08)
    wear.eye(pen, 0.8, -0.1, 0.11)
    pen.arc(0.8, 0.04, 0.16, 0.12, (20, 130), w=1.3)
    if "glasses" in scene.accessories:
        wear.glasses(pen, 0.52, 0.9, -0.1, 0.22)
    if "hat" in scene.accessories:
        wear.hat(pen, 0.66, -0.34, 0.4)


DRAWINGS = {"cat": cat, "dog": dog, "rabbit": rabbit, "bird": bird, "turtle": turtle}
