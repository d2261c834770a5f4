"""When a watcher looks: marks along a run, dense where the picture takes shape."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from negguide.methods.base import Step
from negguide.methods.checks import finite

Unit = Literal["progress", "sigma"]
_EARLY, _LAST = 0.4, 0.8
"""Most looks come before the first, none after the second: what a picture shows is settled by then."""


def dense(count: int, at_once: bool = True) -> tuple[float, ...]:
    """`count` marks in fractions of sampling: three quarters of them spread over the first 40 %, the others up to 80 %.

    `at_once`: with four or more the first look is at the first step: what is seen there acts from the second on, when most
    is still open. A guess at that point is often wrong, though.

    >>> [round(mark, 3) for mark in dense(4)]
    [0.0, 0.133, 0.267, 0.6]
    """
    early = math.ceil(0.75 * count)
    late = count - early
    shift = 0.0 if at_once and count >= 4 else 0.5
    first = [_EARLY * (k + shift) / early for k in range(early)]
    return (*first, *(_EARLY + (_LAST - _EARLY) * (k + 0.5) / late for k in range(late)))


def as_looks(value: object, unit: Unit, at_once: bool = True) -> tuple[float, ...]:
    """Marks from their number (`dense`) or as given, in the order in which a run meets them. Errors say what is possible."""
    if unit not in ("progress", "sigma"):
        raise ValueError(f"looks_unit is {unit!r}; possible: 'progress' (fractions of sampling) or 'sigma'")
    if isinstance(value, int) and not isinstance(value, bool):
        if value < 0 or unit == "sigma":
            raise ValueError(f"looks={value} with looks_unit={unit!r}; a number of looks is 0 or more, of progress")
        return dense(value, at_once)
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise TypeError(f"looks is {value!r}; possible: how many (8), or marks like (0.05, 0.1, 0.2, 0.4)")
    marks = [finite("a look", mark, low=0.0, high=1.0 if unit == "progress" else float("inf")) for mark in value]
    return tuple(sorted(marks, reverse=unit == "sigma"))


def as_fractions(value: object) -> tuple[float, ...]:
    """Fractions of a video from one or several numbers."""
    several = value if isinstance(value, Sequence) and not isinstance(value, str) else (value,)
    marks = tuple(sorted({finite("frames", fraction, low=0.0, high=1.0) for fraction in several}))
    if not marks:
        raise ValueError("frames is empty; possible: fractions of the video like (0, 0.5, 1), or one")
    return marks


def passed(marks: Sequence[float], unit: Unit, step: Step) -> int:
    """How many marks a run has met at a step; it looks at the first step at or after a mark."""
    if unit == "sigma":
        return sum(step.sigma <= mark for mark in marks)
    return sum(mark <= step.progress for mark in marks)
