"""View-dependent Perp-Neg weights: tabulated values, continuity, wrapping."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

from negguide.maths import view_weights

OFFICIAL = [  # azimuth, front negative, side negative at negative_w = -2, read off the authors' formulas
    (0, 0.0, -2.0),
    (18.001, -0.404, -0.271),
    (45, -0.736, -0.0135),
    (71.999, -1.341, -0.00067),
    (90, -2.0, 0.0),
    (135, -2.0, -0.0067),
    (180, -2.0, -1.0),
]
THREESTUDIO = [  # azimuth, front negative, side negative
    (0, 0.0, -1.574),
    (45, -0.689, -0.689),
    (90, -1.574, 0.0),
    (135, -1.746, -0.173),
    (180, -1.967, -0.394),
]


@pytest.mark.parametrize(("azimuth", "front", "side"), OFFICIAL)
def test_official_table(azimuth: float, front: float, side: float) -> None:
    weights = view_weights(azimuth)
    assert (weights.front_negative, weights.side_negative) == pytest.approx((front, side), rel=2e-2, abs=1e-3)


@pytest.mark.parametrize(("azimuth", "front", "side"), THREESTUDIO)
def test_threestudio_table(azimuth: float, front: float, side: float) -> None:
    weights = view_weights(azimuth, "threestudio")
    assert (weights.front_negative, weights.side_negative) == pytest.approx((front, side), abs=1e-3)


@pytest.mark.parametrize("form", ["official", "threestudio"])
def test_continuous_at_the_side(form: str) -> None:
    below, above = view_weights(90 - 1e-6, form), view_weights(90 + 1e-6, form)  # type: ignore[arg-type]
    assert tuple(below) == pytest.approx(tuple(above), abs=1e-3)


def test_threestudio_is_continuous_everywhere() -> None:
    steps = [view_weights(a / 10, "threestudio") for a in range(-1800, 1801)]
    jump = max(abs(x - y) for a, b in pairwise(steps) for x, y in zip(a, b, strict=True))
    assert jump < 0.004


@pytest.mark.parametrize("form", ["official", "threestudio"])
@pytest.mark.parametrize("azimuth", [-180, -100.5, -33, 0, 12.25, 90, 179])
def test_symmetry_wrapping_and_sums(form: str, azimuth: float) -> None:
    weights = view_weights(azimuth, form)  # type: ignore[arg-type]
    assert tuple(weights) == pytest.approx(tuple(view_weights(-azimuth, form)))  # type: ignore[arg-type]
    assert tuple(weights) == pytest.approx(tuple(view_weights(azimuth + 720, form)))  # type: ignore[arg-type]
    assert weights.front + weights.side + weights.back == pytest.approx(1.0)
    assert min(weights.front, weights.side, weights.back) >= 0
    assert max(weights.front_negative, weights.side_negative) <= 1e-3


def test_errors_teach() -> None:
    with pytest.raises(ValueError, match="'official'"):
        view_weights(0, "paper")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="finite angle"):
        view_weights(math.nan)
    with pytest.raises(ValueError, match="only form='official'"):
        view_weights(0, "threestudio", negative_w=-3)
