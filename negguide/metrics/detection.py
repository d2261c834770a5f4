"""How far a detector's scores can be trusted: a calibrated threshold, and the confusion matrix that it gives."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Sequence


@dataclasses.dataclass(frozen=True)
class Detection:
    """A detector against the truth. Shares are None where their denominator is zero."""

    threshold: float
    true_positive: int
    false_positive: int
    false_negative: int
    true_negative: int

    @property
    def precision(self) -> float | None:
        """Of what was reported, how much is there."""
        return _share(self.true_positive, self.false_positive)

    @property
    def recall(self) -> float | None:
        """Of what is there, how much was reported."""
        return _share(self.true_positive, self.false_negative)

    @property
    def specificity(self) -> float | None:
        """Of what is not there, how much was not reported."""
        return _share(self.true_negative, self.false_positive)


def calibrate(scores: Sequence[float], truth: Sequence[bool]) -> float:
    """The threshold (reported: `score > threshold`) with the best balanced accuracy; the middle of the best gap.

    `ValueError` when the truth knows only one answer.
    """
    import numpy as np

    values, shown = np.asarray(scores, dtype=float), np.asarray(truth, dtype=bool)
    if values.shape != shown.shape or values.ndim != 1:
        raise ValueError(f"{len(values)} scores and {len(shown)} truths; one each is needed")
    if shown.all() or not shown.any():
        raise ValueError("a threshold needs pictures that show the thing and pictures that do not")
    distinct = np.unique(values)
    cuts = [distinct[0] - 1e-6, *((distinct[1:] + distinct[:-1]) / 2)]
    gains = [(values[shown] > cut).mean() + (values[~shown] <= cut).mean() for cut in cuts]
    return float(cuts[int(np.argmax(gains))])


def detect(scores: Sequence[float], truth: Sequence[bool], groups: Sequence[Hashable]) -> Detection:
    """A confusion matrix that does not flatter: each half of the groups is judged by the threshold of the other half.

    `groups`: one for each picture, what must not stand in both halves (such as seeds, whose pictures are alike).
    The threshold in the result is that of all pictures. `ValueError` when a half cannot be calibrated.
    """
    order = {group: place for place, group in enumerate(dict.fromkeys(groups))}
    halves: list[list[int]] = [[], []]
    for place, group in enumerate(groups):
        halves[order[group] % 2].append(place)
    counts = {(said, shown): 0 for said in (True, False) for shown in (True, False)}
    for half, other in (halves, halves[::-1]):
        cut = calibrate([scores[place] for place in other], [truth[place] for place in other])
        for place in half:
            counts[scores[place] > cut, bool(truth[place])] += 1
    return Detection(
        calibrate(scores, truth), counts[True, True], counts[True, False], counts[False, True], counts[False, False]
    )


def _share(part: int, rest: int) -> float | None:
    return part / (part + rest) if part + rest else None
