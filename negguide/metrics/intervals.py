"""How sure a rate or a paired difference is: Wilson's and Student's intervals over prompts, Holm's correction for many of them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from negguide.metrics.bootstrap import LEVEL, Interval

LEAST = 6
"""Prompts from which a difference may be called clear: with fewer, no assignment of signs is rarer than 5 %."""


def student(values: Sequence[float]) -> Interval:
    """Mean of independent values with Student's interval, and the p value of a mean of zero (None below two values).

    The p value is never below that of the rarest assignment of signs, 2 / 2^n, so that few equal values prove nothing.
    `ValueError` for no value at all.
    """
    import numpy as np
    from scipy.stats import t

    if not len(values):
        raise ValueError("the mean of no values is not defined")
    sample = np.asarray(values, dtype=float)
    count, mean = len(sample), float(sample.mean())
    if count == 1:
        return Interval(mean, None, None, 1)
    error = float(sample.std(ddof=1)) / math.sqrt(count)
    half = float(t.ppf(0.5 + LEVEL / 2, count - 1)) * error
    p = 2 * float(t.sf(abs(mean) / error, count - 1)) if error > 0 else float(mean == 0)
    return Interval(mean, mean - half, mean + half, count, max(p, min(1.0, 2.0 ** (1 - count))))


def rate(shares: Sequence[float], counts: Sequence[int]) -> Interval:
    """Mean of the prompts' shares with Wilson's interval, which has a width also at 0 and 1.

    Args:
        shares: of each prompt, 0 to 1.
        counts: pictures that each share is of.

    Pictures of a prompt resemble each other: the interval is that of so many independent ones as would give the spread
    that is seen between prompts (Kish's effective size), at least one a prompt. `ValueError` for no share at all.
    """
    import numpy as np
    from scipy.stats import norm

    if not len(shares):
        raise ValueError("the mean of no values is not defined")
    sample = np.asarray(shares, dtype=float)
    prompts, pictures, mean = len(sample), float(sum(counts)), float(sample.mean())
    spread = float(sample.var(ddof=1)) / prompts if prompts > 1 else 0.0
    size = pictures if spread == 0 else min(max(mean * (1 - mean) / spread, prompts), pictures)
    z = float(norm.ppf(0.5 + LEVEL / 2))
    middle = (mean + z * z / (2 * size)) / (1 + z * z / size)
    half = z / (1 + z * z / size) * math.sqrt(mean * (1 - mean) / size + z * z / (4 * size * size))
    low, high = (
        min(max(0.0, middle - half), mean),
        max(min(1.0, middle + half), mean),
    )  # rounding must not leave out 0 or 1
    return Interval(mean, low, high, prompts)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p values, in the given order: below 5 % where a comparison stands among all of them."""
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    adjusted, so_far = [1.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        so_far = max(so_far, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = so_far
    return adjusted
