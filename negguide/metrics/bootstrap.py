"""How sure a mean is: bootstrap intervals over independent cases, such as prompts."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

DRAWS, LEVEL = 2000, 0.95


@dataclasses.dataclass(frozen=True)
class Interval:
    """A mean with the bounds of its 95 % interval; None where one case alone cannot give any. `cases`: how many.

    `p`: of a mean of zero, where that was asked.
    """

    mean: float
    low: float | None
    high: float | None
    cases: int
    p: float | None = None

    @property
    def is_clear(self) -> bool:
        """Whether the interval lies on one side of zero."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


def bootstrap(values: Sequence[float], seed: int = 0) -> Interval:
    """Mean of the values with its percentile bootstrap interval; the same seed gives the same interval.

    For paired differences give the differences. `ValueError` for no value at all.
    """
    import numpy as np
    from scipy.stats import bootstrap as resample

    if not len(values):
        raise ValueError("the mean of no values is not defined")
    sample = np.asarray(values, dtype=float)
    if len(sample) == 1:
        return Interval(float(sample[0]), None, None, 1)
    resampled = resample(
        (sample,), np.mean, n_resamples=DRAWS, confidence_level=LEVEL, method="percentile", rng=seed, vectorized=True
    ).confidence_interval
    return Interval(float(sample.mean()), float(resampled.low), float(resampled.high), len(sample))
