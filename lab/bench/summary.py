"""From rows to figures: rates with intervals, keeping compared at equal presence, diversity of kinds."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from negguide.metrics import intervals

Row = dict[str, Any]


def rate(rows: Sequence[Row], what: str) -> dict[str, float] | None:
    """Share of rows that say yes to `what`, with Wilson's 95 % interval over prompts; None when there are no rows."""
    if not rows:
        return None
    by_prompt: dict[tuple[str, str], list[bool]] = defaultdict(list)
    for row in rows:
        by_prompt[row["prompt"], row["negative"]].append(bool(row[what]))
    shares = [sum(values) / len(values) for values in by_prompt.values()]
    return _rounded(intervals.rate(shares, [len(values) for values in by_prompt.values()]))


def share(values: Sequence[bool]) -> dict[str, float] | None:
    """Share of yes among independent pictures, with Wilson's 95 % interval; None when there are none."""
    if not values:
        return None
    return _rounded(intervals.rate([float(value) for value in values], [1] * len(values)))


def differences(rows: Sequence[Row], split: str, what: str, reference: str) -> list[Row]:
    """How each arm differs from the reference in `what`, over the same pairs and seeds; fractions.

    A pair of prompt and negative is one observation (its seeds are averaged); Student's interval, and p values after Holm's
    correction over all arms of the split.
    """
    chosen = [row for row in rows if row["split"] == split and row.get(what) is not None]
    cells: dict[str, dict[tuple[str, str], list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in chosen:
        cells[row["arm"]][row["prompt"], row["negative"]].append(float(row[what]))
    if reference not in cells:
        return []
    means = {arm: {pair: sum(v) / len(v) for pair, v in pairs.items()} for arm, pairs in cells.items()}
    table: list[Row] = []
    p_values: list[float | None] = []
    for arm, pairs in means.items():
        if arm == reference:
            continue
        common = [pair for pair in pairs if pair in means[reference]]
        found = intervals.student([pairs[pair] - means[reference][pair] for pair in common])
        table.append(
            {
                "arm": arm,
                "split": split,
                "measure": what,
                "pairs": len(common),
                "mean": round(found.mean, 4),
                "low": None if found.low is None else round(found.low, 4),
                "high": None if found.high is None else round(found.high, 4),
            }
        )
        p_values.append(found.p)
    adjusted = intervals.holm([1.0 if p is None else p for p in p_values])
    return [{**row, "p": round(p, 5)} for row, p in zip(table, adjusted, strict=True)]


def interval(values: Sequence[float]) -> dict[str, float]:
    """Mean of at least one value, with Student's 95 % interval; without width where there is one value."""
    return _rounded(intervals.student(values))


def _rounded(found: intervals.Interval) -> dict[str, float]:
    low, high = (found.mean if end is None else end for end in (found.low, found.high))
    return {"mean": round(found.mean, 4), "low": round(low, 4), "high": round(high, 4)}


def summarise(rows: Iterable[Row]) -> list[Row]:
    """One row per arm and split.

    `presence`: the negated thing is there, over pairs where it can be. `kept`: the subject is there, over the same
    pairs. `match`: everything asked is there, likewise. `specificity`: everything asked is there although a negative
    was given that had nothing to remove. `kinds`: entropy in bits of the kinds under prompts that name a category
    only, averaged over the categories. `clean`: the thing is gone and the subject kept.
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
                "presence": rate(removable, "present"),
                "kept": rate(removable, "kept"),
                "clean": rate(told_clean(removable), "clean"),
                "match": rate(removable, "match"),
                "specificity": rate(idle, "match"),
                "kinds": kind_entropy([row for row in members if row["theme"] == "dominant kind"]),
                "seconds": round(members[0]["seconds"], 4),
            }
        )
    return table


def told_clean(rows: Iterable[Row]) -> list[Row]:
    """Rows with "clean" (gone and kept) and "unharmed" (match where nothing was to be removed); None where it does not apply."""
    return [
        {
            **row,
            "clean": None if row["present"] is None else row["kept"] and not row["present"],
            "unharmed": row["match"] if row["present"] is None else None,
        }
        for row in rows
    ]


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


def equal_presence(
    rows: Sequence[Row], split: str, what: str = "kept", draws: int = 500, reference: str = "negative 1"
) -> Row:
    """What each method keeps at the presence that the reference arm reaches, interpolated on its sweep; fractions.

    `gain`: that, less what the reference keeps, with a 95 % bootstrap interval over pairs of prompt and negative
    (the same pairs and seeds under every arm); None where a method never comes so low, in the sample or in more than
    a twentieth of the draws.
    """
    cells = _by_case([row for row in rows if row["split"] == split and row["present"] is not None], what)
    methods = list(dict.fromkeys(row["method"] for row in rows if row["method"] != "plain"))
    presence, kept = _at_reference(cells, methods, reference, slice(None))
    rng = np.random.default_rng(0)
    count = next(iter(cells.values()))[1].shape[1]
    gains: dict[str, list[float]] = {method: [] for method in methods}
    for _ in range(draws):
        _, drawn = _at_reference(cells, methods, reference, rng.integers(count, size=count))
        for method in methods:
            if drawn[method] is not None:
                gains[method].append(drawn[method] - drawn[reference])
    return {
        "split": split,
        "measure": what,
        "presence": round(presence, 4),
        "kept": {name: None if kept[name] is None else round(kept[name], 4) for name in methods},
        "gain": {name: _gain(kept[name], kept[reference], gains[name], draws) for name in methods},
    }


def _gain(value: float | None, reference: float, draws: Sequence[float], count: int) -> Row | None:
    if value is None or len(draws) < 0.95 * count:
        return None
    low, high = np.quantile(draws, [0.025, 0.975])
    return {"mean": round(value - reference, 4), "low": round(float(low), 4), "high": round(float(high), 4)}


Cells = dict[tuple[str, float], tuple[str, np.ndarray]]
"""(method, strength) -> name of the arm, and (2, cases) of presence and the measure, cases in one order."""


def _by_case(rows: Sequence[Row], what: str) -> Cells:
    found: dict[tuple[str, float, str], dict[Any, tuple[bool, bool]]] = defaultdict(dict)
    for row in rows:
        case = (row["prompt"], row["negative"], row["seed"])
        found[row["method"], row["strength"], row["arm"]][case] = (row["present"], row[what])
    order = sorted(next(iter(found.values())))
    return {
        (method, strength): (arm, np.array([cells[case] for case in order], dtype=float).T)
        for (method, strength, arm), cells in sorted(found.items(), key=lambda item: item[0][1])
    }


def _at_reference(cells: Cells, methods: Sequence[str], reference: str, chosen: Any) -> tuple[float, dict[str, Any]]:
    """Presence of the reference arm, and what every method (and the reference itself) keeps there."""
    means = {key: tuple(values[:, chosen].mean(1)) for key, (_, values) in cells.items()}
    (goal, own) = next(means[key] for key, (arm, _) in cells.items() if arm == reference)
    kept = {
        method: at_presence([point for key, point in means.items() if key[0] in ("plain", method)], goal)
        for method in methods
    }
    return float(goal), {**kept, reference: own}
