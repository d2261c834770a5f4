"""Diversity of a set of labels, such as the kinds that an oracle saw."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence


def entropy(labels: Sequence[Hashable]) -> float:
    """Shannon entropy of the labels in bits: 0 when all are equal, log2(k) for k equally frequent ones.

    `ValueError` for no label at all.
    """
    if not labels:
        raise ValueError("the entropy of no labels is not defined")
    shares = [count / len(labels) for count in Counter(labels).values()]
    return max(0.0, -sum(share * math.log2(share) for share in shares))


def distinct(labels: Sequence[Hashable]) -> int:
    """How many different labels there are."""
    return len(set(labels))
