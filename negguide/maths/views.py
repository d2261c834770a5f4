"""Weights of view-dependent negatives ("front view" when looking at the back), as Perp-Neg uses them for 3D."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple


class ViewWeights(NamedTuple):
    """How much each view is wanted (mixture of text embeddings, sums to 1) and negated (Perp-Neg's w_i, 0 or below)."""

    front: float
    side: float
    back: float
    front_negative: float
    side_negative: float


def view_weights(
    azimuth: float,
    form: Literal["official", "threestudio"] = "official",
    negative_w: float = -2.0,
    front_decay: float = 2.0,
    side_decay: float = 10.0,
) -> ViewWeights:
    """View weights of Perp-Neg (arXiv:2304.04968) for an azimuth in degrees (0 front, 90 side, 180 back; wraps).

    `form="official"`: the authors' 3D code. Front to side, r = 1 - |a|/90: front `e^(-2r) negative_w` (0 for r >
    0.8), side `e^(-10(1-r)) negative_w` (0 for r < 0.2); side to back, r = 2 - |a|/90: front `negative_w`, side
    `e^(-10r) negative_w / 2` (0 for r > 0.8). It jumps at the two cut-offs (front: 0 to -0.40 at 18 degrees).
    `negative_w` 0 to -4; the decays shape it. `form="threestudio"`: `-f(r)`, `f(r) = a e^(-br) + c`, smooth
    everywhere; takes none of the three numbers. Both are continuous at 90 degrees. Users' weights for `PerpNeg` are
    these with the sign turned.
    """
    if not math.isfinite(azimuth):
        raise ValueError(f"azimuth is {azimuth}; a finite angle in degrees is needed")
    a = abs((azimuth + 180.0) % 360.0 - 180.0)
    r = 1.0 - a / 90.0 if a < 90.0 else 2.0 - a / 90.0
    wanted = (r, 1.0 - r, 0.0) if a < 90.0 else (0.0, r, 1.0 - r)
    if form == "official":
        return ViewWeights(*wanted, *_official(a < 90.0, r, negative_w, front_decay, side_decay))
    if form == "threestudio":
        if (negative_w, front_decay, side_decay) != (-2.0, 2.0, 10.0):
            raise ValueError("negative_w, front_decay and side_decay shape only form='official'; leave them out here")
        return ViewWeights(*wanted, *_threestudio(a < 90.0, r))
    raise ValueError(f"form is {form!r}; possible: 'official' (the authors' code) or 'threestudio'")


def _official(front_half: bool, r: float, w: float, front_decay: float, side_decay: float) -> tuple[float, float]:
    if front_half:
        front = 0.0 if r > 0.8 else math.exp(-front_decay * r) * w
        return front, 0.0 if r < 0.2 else math.exp(-side_decay * (1.0 - r)) * w
    return w, 0.0 if r > 0.8 else math.exp(-side_decay * r) * w / 2.0


def _threestudio(front_half: bool, r: float) -> tuple[float, float]:
    def f(r: float, a: float, b: float, c: float) -> float:
        return a * math.exp(-b * r) + c

    if front_half:
        return -f(r, 4.0, 0.5, -2.426), -f(1.0 - r, 4.0, 0.5, -2.426)
    return -f(r, 1.0, 0.5, 0.967), -f(r, 1.0, 0.5, -0.606)
