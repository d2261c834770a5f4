"""Means over prompts with intervals, and paired differences to the baseline: of all prompts, and of those of each tag."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from negguide.batch.groups import Group, Pair
from negguide.metrics import Interval
from negguide.metrics.intervals import rate, student

RATES = ("presence", "subject", "match", "valid", "asked_presence", "asked_subject", "asked_clean")
EACH = "presence of "

Table = dict[str, dict[str, Interval]]
"""Label -> score -> interval over prompts."""


@dataclasses.dataclass(frozen=True)
class Part:
    """The prompts of one tag: how many, their means, and their differences to the baseline."""

    prompts: int
    means: Table
    differences: Table


def means(groups: Sequence[Group], labels: Sequence[str]) -> Table:
    """Each label's scores, averaged over its prompts."""
    return {label: _means([group for group in groups if group.label == label]) for label in labels}


def differences(pairs: Mapping[str, Sequence[Pair]], labels: Sequence[str], baseline: str) -> Table:
    """Each label's scores less the baseline's on the same prompt and seeds, averaged over the prompts that both have."""
    intervals = {}
    for label in labels:
        both = [(own.scores, base.scores) for own, base in pairs.get(label, ())]
        intervals[label] = _intervals([{key: a[key] - b[key] for key in a if key in b} for a, b in both])
    return {label: row for label, row in intervals.items() if label != baseline}


def by_tag(
    groups: Sequence[Group], pairs: Mapping[str, Sequence[Pair]], labels: Sequence[str], baseline: str
) -> dict[str, Part]:
    """The same for the prompts of each tag; nothing where all prompts have one tag, or none."""
    tags = list(dict.fromkeys(group.tag for group in groups))
    if len(tags) < 2:
        return {}
    by_value = {}
    for tag in tags:
        own = [group for group in groups if group.tag == tag]
        there = [label for label in labels if any(group.label == label for group in own)]
        both = {label: [pair for pair in several if pair[0].tag == tag] for label, several in pairs.items()}
        compared = {label: row for label, row in differences(both, there, baseline).items() if row}
        by_value[tag] = Part(len({group.row for group in own}), means(own, there), compared)
    return by_value


def _means(groups: Sequence[Group]) -> dict[str, Interval]:
    """Student's interval over prompts; Wilson's where every value is a share of pictures."""
    intervals = {}
    for key in dict.fromkeys(key for group in groups for key in group.scores):
        those = [group for group in groups if key in group.scores]
        values, counts = [group.scores[key] for group in those], [len(group.seeds) for group in those]
        is_share = key in RATES or key.startswith(EACH)
        if is_share and all(_is_share(value, count) for value, count in zip(values, counts, strict=True)):
            intervals[key] = rate(values, counts)
        else:
            intervals[key] = dataclasses.replace(student(values), p=None)
    return intervals


def _is_share(value: float, count: int) -> bool:
    """Whether a value can be the share of so many pictures, and is no mean of probabilities."""
    return 0 <= value <= 1 and abs(value * count - round(value * count)) < 1e-6


def _intervals(rows: Sequence[Mapping[str, float]]) -> dict[str, Interval]:
    keys = dict.fromkeys(key for row in rows for key in row)
    return {key: student([row[key] for row in rows if key in row]) for key in keys}
