"""Man, woman, baby, clown and robot: a head and shoulders, from the front, the side or the back.

The side view looks to the right before mirroring. The main colour is that of the clothes.
"""

from negguide.toybox.world import draw_accessories as wear
from negguide.toybox.world.pen import DARK, WHITE, Colour, Pen
from negguide.toybox.world.scene import Scene

SKINS: tuple[Colour, ...] = ((250, 212, 180), (240, 194, 154), (198, 142, 100))
BLUSH: Colour = (244, 150, 140)
LIPS: Colour = (206, 48, 72)
SHORT_HAIR: Colour = (84, 54, 38)
LONG_HAIR: Colour = (168, 92, 42)
TUFT: Colour = (255, 122, 26)
PAINT: Colour = (255, 250, 244)
METAL: Colour = (176, 190, 204)
STEEL: Colour = (118, 132, 150)
LAMP: Colour = (90, 236, 250)


def _skin(scene: Scene) -> Colour:
    return SKINS[scene.seed % len(SKINS)]


def _torso(pen: Pen, scene: Scene, skin: Colour) -> None:
    """Neck, shoulders and scarf; narrower from the side."""
    c = pen.colours
    half = 0.56 if scene.view == "side" else 0.88
    pen.box(-0.2, 0.2, 0.2, 0.66, skin)
    pen.blob(
        [(-0.3, 0.44), (0, 0.52), (0.3, 0.44), (half, 0.66), (half + 0.04, 1.04), (-half - 0.04, 1.04), (-half, 0.66)],
        c.main,
    )
    for s in (-1, 1):
        pen.line([(s * half * 0.66, 0.78), (s * half * 0.68, 0.98)], c.dark, 2)
    if scene.view == "front":
        pen.shape([(-0.24, 0.46), (0, 0.72), (0.24, 0.46)], skin)
    elif scene.view == "back":
        pen.box(-0.28, 0.42, 0.28, 0.56, c.light, 0.06)
    else:
        pen.curve([(0.0, 0.64), (0.1, 0.8), (0.06, 0.98)], c.dark, 2)


def _scarf(pen: Pen, scene: Scene) -> None:
    if "scarf" in scene.accessories:
        wear.scarf(pen, 0, 0.5, 0.42 if scene.view == "side" else 0.52)


def _head(
    pen: Pen, scene: Scene, skin: Colour, rx: float = 0.5, y: float = -0.2, ry: float = 0.56, snout: float = 0.2
) -> None:
    """The bare head with its ears (front and back) or nose and ear (side)."""
    if scene.view == "side":
        nose = [(rx * 0.86, y - 0.12), (rx + snout, y + 0.13), (rx * 0.8, y + 0.2)]
        pen.shape(nose, skin)
        pen.oval(0, y, rx, ry, skin)
        pen.patch([(rx * 0.76, y - 0.08), (rx + snout - 0.1, y + 0.11), (rx * 0.74, y + 0.16)], skin)
        return
    for s in (-1, 1):
        pen.oval(s * rx, y + 0.04, 0.12, 0.15, skin)
    pen.oval(0, y, rx, ry, skin)


def _eyes(pen: Pen, scene: Scene, y: float, apart: float = 0.21) -> None:
    """Eyes, or glasses over them."""
    on = "glasses" in scene.accessories
    if scene.view == "side":
        if on:
            wear.side_glasses(pen, 0.3, y, 0.24, -0.16)
        else:
            wear.eye(pen, 0.27, y, 0.095)
    elif on:
        wear.glasses(pen, -apart - 0.04, apart + 0.04, y, 0.23)
    else:
        for s in (-1, 1):
            wear.eye(pen, s * apart, y, 0.095)


def _hat(pen: Pen, scene: Scene, y: float = -0.56, reach: float = 0.56) -> None:
    if "hat" in scene.accessories:
        wear.hat(pen, -0.04 if scene.view == "side" else 0, y, reach)


def _ear(pen: Pen, skin: Colour, y: float = -0.14) -> None:
    pen.oval(-0.1, y, 0.11, 0.15, skin)


def man(pen: Pen, scene: Scene) -> None:
    """Short dark hair and a full beard with a moustache."""
    skin, hair = _skin(scene), SHORT_HAIR
    _torso(pen, scene, skin)
    _scarf(pen, scene)
    _head(pen, scene, skin)
    if scene.view == "back":
        pen.blob(
            [(-0.5, -0.2), (-0.46, -0.62), (0, -0.84), (0.46, -0.62), (0.5, -0.2), (0.34, 0.2), (-0.34, 0.2)], hair
        )
        pen.arc(0, -0.3, 0.26, 0.3, (20, 160), (120, 84, 62), 2)
    elif scene.view == "side":
        pen.blob([(-0.1, 0.02), (0.14, 0.06), (0.5, 0.1), (0.46, 0.36), (0.2, 0.46), (-0.16, 0.3)], hair)
        pen.line([(0.32, 0.15), (0.48, 0.15)], LIPS, 2)
        top = [(0.44, -0.5), (0.2, -0.84), (-0.2, -0.84), (-0.54, -0.5), (-0.54, 0.06), (-0.3, 0.2), (-0.16, -0.1)]
        pen.blob([*top, (-0.06, -0.46)], hair)
        _ear(pen, skin)
    else:
        pen.blob([(-0.5, -0.06), (-0.3, 0.08), (0.3, 0.08), (0.5, -0.06), (0.42, 0.3), (0, 0.5), (-0.42, 0.3)], hair)
        pen.spot(0, 0.18, 0.15, 0.06, LIPS)
        pen.blob(
            [(-0.52, -0.3), (-0.4, -0.72), (0, -0.86), (0.4, -0.72), (0.52, -0.3), (0.34, -0.5), (-0.3, -0.5)], hair
        )
        pen.oval(0, -0.04, 0.09, 0.11, skin)
    if scene.view != "back":
        _eyes(pen, scene, -0.24)
    _hat(pen, scene)


def woman(pen: Pen, scene: Scene) -> None:
    """Long hair that falls on the shoulders, red lips and a smooth face."""
    skin, hair = _skin(scene), LONG_HAIR
    shine = (204, 130, 70)
    if scene.view == "front":
        pen.blob(
            [
                (0, -0.92),
                (0.56, -0.66),
                (0.7, -0.1),
                (0.78, 0.64),
                (0.3, 0.7),
                (-0.3, 0.7),
                (-0.78, 0.64),
                (-0.7, -0.1),
                (-0.56, -0.66),
            ],
            hair,
        )
    _torso(pen, scene, skin)
    if scene.view == "back":
        _scarf(pen, scene)
        pen.blob(
            [
                (0, -0.92),
                (0.56, -0.64),
                (0.66, -0.1),
                (0.7, 0.44),
                (0.3, 0.52),
                (-0.3, 0.52),
                (-0.7, 0.44),
                (-0.66, -0.1),
                (-0.56, -0.64),
            ],
            hair,
        )
        for x in (-0.3, 0.0, 0.3):
            pen.curve([(x * 0.7, -0.6), (x, -0.1), (x * 1.2, 0.4)], shine, 2)
        if "scarf" in scene.accessories:
            wear.scarf(pen, 0, 0.5, 0.66)
    elif scene.view == "side":
        _scarf(pen, scene)
        _head(pen, scene, skin, snout=0.13)
        pen.spot(0.34, 0.16, 0.1, 0.07, LIPS)
        pen.blob(
            [
                (0.42, -0.54),
                (0.1, -0.9),
                (-0.36, -0.84),
                (-0.66, -0.4),
                (-0.74, 0.6),
                (-0.3, 0.7),
                (-0.12, 0.2),
                (0.02, -0.36),
            ],
            hair,
        )
        pen.curve([(-0.2, -0.6), (-0.42, -0.1), (-0.46, 0.5)], shine, 2)
        _eyes(pen, scene, -0.2)
    else:
        _scarf(pen, scene)
        pen.oval(0, -0.2, 0.48, 0.56, skin)
        for s in (-1, 1):
            pen.blob(
                [(0, -0.84), (s * 0.44, -0.76), (s * 0.56, -0.2), (s * 0.46, 0.1), (s * 0.38, -0.36), (s * 0.04, -0.6)],
                hair,
            )
            pen.spot(s * 0.28, 0.04, 0.08, 0.06, BLUSH)
        pen.spot(0, 0.16, 0.14, 0.08, LIPS)
        _eyes(pen, scene, -0.18)
    _hat(pen, scene, -0.6)


def baby(pen: Pen, scene: Scene) -> None:
    """A big round bald head with one curl and a dummy."""
    skin = SKINS[scene.seed % 2]
    _torso(pen, scene, skin)
    _scarf(pen, scene)
    _head(pen, scene, skin, 0.62, -0.18, 0.58, snout=0.1)
    pen.curve([(0, -0.74), (0.12, -0.98), (-0.1, -0.98), (-0.06, -0.84)], (146, 92, 40), 2.6)
    if scene.view == "back":
        pen.curve([(-0.16, 0.24), (0, 0.18), (0.16, 0.24)], (208, 150, 112), 2)
        _hat(pen, scene)
        return
    front = scene.view == "front"
    x = 0.0 if front else 0.48
    if not front:
        _ear(pen, skin)
    pen.spot(-0.42 if front else 0.16, 0.08, 0.12, 0.09, BLUSH)
    if front:
        pen.spot(0.42, 0.08, 0.12, 0.09, BLUSH)
        pen.arc(0, -0.06, 0.08, 0.07, (0, 180), (180, 110, 84), 1.5)
    pen.oval(x, 0.19, 0.25 if front else 0.16, 0.17, (60, 190, 236))
    pen.oval(x + (0 if front else 0.18), 0.2, 0.12, 0.12, (255, 226, 70))
    _eyes(pen, scene, -0.18, 0.25)
    _hat(pen, scene)


def clown(pen: Pen, scene: Scene) -> None:
    """A white face with a red ball nose, a painted mouth, orange tufts and a ruff."""
    side = scene.view == "side"
    _torso(pen, scene, PAINT)
    for k in range(-3, 4):
        pen.oval(k * (0.14 if side else 0.19), 0.5, 0.15, 0.14, WHITE if scene.colour != "white" else (255, 170, 190))
    _scarf(pen, scene)
    tufts = ((-0.5, -0.42), (-0.62, -0.14), (-0.44, 0.1)) if side else ((0.52, -0.5), (0.7, -0.22), (0.56, 0.04))
    for s in (1,) if side else (-1, 1):
        for x, y in tufts:
            pen.oval(s * x, y, 0.25, 0.24, TUFT)
    pen.oval(0, -0.2, 0.5, 0.56, PAINT)
    if scene.view == "back":
        for x, y in ((-0.34, 0.02), (0.34, 0.02), (0, 0.12)):
            pen.oval(x, y, 0.24, 0.22, TUFT)
        pen.arc(0, -0.42, 0.2, 0.16, (200, 340), (214, 200, 196), 2)
    elif side:
        pen.oval(-0.24, -0.06, 0.22, 0.24, TUFT)
        pen.oval(0.54, -0.06, 0.17, 0.17, (232, 30, 40))
        pen.blob([(0.08, 0.12), (0.42, 0.1), (0.4, 0.26), (0.2, 0.28)], LIPS)
        pen.patch([(0.2, -0.32), (0.28, -0.54), (0.36, -0.32)], (60, 120, 230))
        _eyes(pen, scene, -0.24)
    else:
        pen.blob([(-0.36, 0.06), (0, 0.12), (0.36, 0.06), (0.24, 0.3), (-0.24, 0.3)], LIPS)
        pen.spot(0, 0.2, 0.18, 0.05, WHITE)
        for s in (-1, 1):
            pen.patch([(s * 0.13, -0.32), (s * 0.22, -0.58), (s * 0.31, -0.32)], (60, 120, 230))
        _eyes(pen, scene, -0.24, 0.22)
        pen.oval(0, -0.04, 0.17, 0.17, (232, 30, 40))
    _hat(pen, scene, -0.6, 0.5)


def robot(pen: Pen, scene: Scene) -> None:
    """A square metal head with an antenna, glowing eyes and a grille; a box for a body."""
    c = pen.colours
    half = 0.56 if scene.view == "side" else 0.84
    pen.box(-0.18, 0.2, 0.18, 0.6, STEEL)
    pen.box(-half, 0.46, half, 1.08, c.main, 0.06)
    if scene.view == "back":
        pen.box(-0.36, 0.62, 0.36, 0.96, c.dark)
    elif scene.view == "front":
        for x, lamp in ((-0.36, (250, 80, 80)), (0.0, (250, 220, 80)), (0.36, (90, 220, 110))):
            pen.oval(x, 0.78, 0.11, 0.11, lamp)
    else:
        pen.oval(0, 0.8, 0.17, 0.17, c.dark)
    _scarf(pen, scene)
    pen.line([(0, -0.7), (0, -0.92)], w=2.4)
    pen.oval(0, -0.94, 0.11, 0.11, (240, 70, 70))
    if scene.view == "side":
        pen.box(0.42, -0.14, 0.7, 0.06, STEEL)
        pen.box(-0.5, -0.72, 0.52, 0.3, METAL, 0.06)
        pen.oval(-0.16, -0.18, 0.16, 0.16, STEEL)
        pen.box(0.12, 0.08, 0.5, 0.2, DARK)
    else:
        for s in (-1, 1):
            pen.oval(s * 0.6, -0.2, 0.14, 0.18, STEEL)
        pen.box(-0.6, -0.72, 0.6, 0.3, METAL, 0.06)
    if scene.view == "back":
        for y in (-0.42, -0.22, -0.02):
            pen.line([(-0.34, y), (0.34, y)], STEEL, 2.6)
    elif "glasses" in scene.accessories:
        _eyes(pen, scene, -0.3, 0.22)
    else:
        for x in (0.3,) if scene.view == "side" else (-0.26, 0.26):
            pen.box(x - 0.15, -0.46, x + 0.15, -0.2, LAMP)
            pen.bar(x - 0.05, -0.39, x + 0.05, -0.27, DARK)
    if scene.view == "front":
        pen.box(-0.34, 0.0, 0.34, 0.18, WHITE)
        for x in (-0.17, 0, 0.17):
            pen.line([(x, 0.02), (x, 0.16)], w=1.3)
    _hat(pen, scene, -0.62, 0.54)


DRAWINGS = {"man": man, "woman": woman, "baby": baby, "clown": clown, "robot": robot}
