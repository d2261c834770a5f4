"""From rows to figures: rates with intervals, keeping compared at equal presence, diversity of kinds."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

Row = dict[str, Any]


def rate(values: Sequence[bool], seed: int = 0, draws: int = 1000) -> dict[str, float] | None:
    """Mean of yes/no values with a 95 % bootstrap interval over pictures; None when there are none."""
    if not values:
        return None
    sample = np.asarray(values, dtype=float)
    means = np.random.default_rng(seed).choice(sample, (draws, len(sample))).mean(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return {"mean": round(float(sample.mean()), 4), "low": round(float(low), 4), "high": round(float(high), 4)}


def summarise(rows: Iterable[Row]) -> list[Row]:
    """One row per arm and split.

    `presence`: the negated thing is there, over pairs where it can be. `kept`: the subject is there, over the same
    pairs. `match`: everything asked is there, likewise. `specificity`: everything asked is there although a negative
    was given that had nothing to remove. `kinds`: entropy in bits of the kinds under prompts that name a category
    only, averaged over the categories.
    """
    groups: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["arm"], row["split"]].append(row)
    table = []
    for (arm, split), members in groups.items():
        removable = [row for row in members if row["present"] is not None]
        idle = [row for row in members if row["present"] is None]
        table.append(
            {
                "arm": arm,
                "method": members[0]["method"],
                "strength": members[0]["strength"],
                "split": split,
                "pictures": len(members),
                "presence": rate([row["present"] for row in removable]),
                "kept": rate([row["kept"] for row in removable]),
                "match": rate([row["match"] for row in removable]),
                "specificity": rate([row["match"] for row in idle]),
                "kinds": kind_entropy([row for row in members if row["theme"] == "dominant kind"]),
                "seconds": round(members[0]["seconds"], 4),
            }
        )
    return table


def kind_entropy(rows: Sequence[Row]) -> float | None:
    """Entropy (bits) of the kinds drawn for each prompt's category noun, averaged over the nouns."""
    by_noun: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        by_noun[row["prompt"].split()[1]][row["kind"]] += 1
    if not by_noun:
        return None
    entropies = []
    for counts in by_noun.values():
        shares = np.array(list(counts.values())) / counts.total()
        entropies.append(float(-(shares * np.log2(shares)).sum()))
    return round(float(np.mean(entropies)), 3)


def curve(table: Sequence[Row], method: str, split: str, what: str) -> list[tuple[float, float]]:
    """(presence, `what`) of a method from plain (strength 0) to its strongest arm."""
    chosen = [row for row in table if row["split"] == split and row["method"] in ("plain", method)]
    chosen.sort(key=lambda row: row["strength"])
    return [(row["presence"]["mean"], row[what]["mean"]) for row in chosen if row["presence"] and row[what]]


def at_presence(points: Sequence[tuple[float, float]], presence: float) -> float | None:
    """The best value on a curve of (presence, value) at this presence, by linear interpolation between neighbours.

    None when the curve never comes that low: then the two methods cannot be compared at this presence.
    """
    values = [value for here, value in points if here == presence]
    for (p1, v1), (p2, v2) in pairwise(points):
        if min(p1, p2) <= presence <= max(p1, p2) and p1 != p2:
            values.append(v1 + (v2 - v1) * (presence - p1) / (p2 - p1))
    return max(values) if values else None


def equal_presence(table: Sequence[Row], split: str, what: str = "kept", reference: str = "negative 1") -> Row:
    """What each method keeps at the presence that the reference arm reaches, in percent."""
    goal = next(row for row in table if row["arm"] == reference and row["split"] == split)["presence"]["mean"]
    methods = dict.fromkeys(row["method"] for row in table if row["method"] != "plain")
    kept = {method: at_presence(curve(table, method, split, what), goal) for method in methods}
    return {
        "split": split,
        "measure": what,
        "presence": goal,
        "kept": {method: None if value is None else round(value, 4) for method, value in kept.items()},
    }
