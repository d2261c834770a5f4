"""The report of the bench of negatives that watch: means, differences from plain picture by picture, and the guard's rates."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lab.bench.adaptive import CREATIVE
from lab.bench.run import Row
from lab.bench.summary import interval, share
from negguide import formats

DIFFERENCES = ("dominant", "kinds", "entropy", "valid")


class AdaptiveReport:
    """Writes `adaptive.json`, `adaptive.md` and `adaptive.png`."""

    def write(self, rows: Sequence[Row], out: Path, settings: Mapping[str, Any]) -> str:
        """Returns the Markdown."""
        creative = [row for row in rows if row["part"] == "creative"]
        guard = [row for row in rows if row["part"] == "guard"]
        text = CREATIVE.write(creative, out, settings)
        found: dict[str, Any] = json.loads((out / "adaptive.json").read_text())
        found["differences"] = differences(creative)
        text += _differences_text(found["differences"])
        if any(row["strength"] for row in guard):
            found["guard"] = guards(guard)
            text += _guard_text(found["guard"])
        (out / "adaptive.json").write_text(json.dumps(formats.stamped(found), indent=1) + "\n")
        (out / "adaptive.md").write_text(text)
        return text


def differences(rows: Sequence[Row]) -> list[Row]:
    """For each arm the mean difference from plain over the prompts, the same prompts and seeds, with Student's interval."""
    plain = {row["prompt"]: row for row in rows if row["arm"] == "plain"}
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row["arm"] != "plain":
            groups[row["arm"]].append(row)
    return [
        {
            "arm": arm,
            **{name: interval([row[name] - plain[row["prompt"]][name] for row in members]) for name in DIFFERENCES},
        }
        for arm, members in groups.items()
    ]


def guards(rows: Sequence[Row]) -> list[Row]:
    """For each arm and case, and for all cases, rates over pictures with Wilson's intervals.

    `was` and `there`: the thing is in the plain picture, and in this one. `removed`: it is gone, of the pictures that had
    it. `untouched`: the picture is the plain one bit for bit, of those that never had it. `met`: the prompt is met.
    """
    groups: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        if row["strength"]:
            groups[row["arm"], row["case"]].append(row)
            groups[row["arm"], "all"].append(row)
    return [
        {
            "arm": arm,
            "case": case,
            "pictures": len(members),
            "was": share([row["was"] for row in members]),
            "there": share([row["there"] for row in members]),
            "removed": share([not row["there"] for row in members if row["was"]]),
            "untouched": share([row["same"] for row in members if not row["was"]]),
            "met": share([row["met"] for row in members]),
        }
        for (arm, case), members in groups.items()
    ]


def _differences_text(found: Sequence[Row]) -> str:
    headings = " | ".join(CREATIVE.measures[name] for name in DIFFERENCES)
    lines = [
        "",
        "Differences from plain over the same prompts and seeds, with Student's 95 % intervals over prompts:",
        "",
    ]
    lines += [f"| arm | {headings} |", "|---|" + "---|" * len(DIFFERENCES)]
    for row in found:
        cells = [f"{row[n]['mean']:+.2f} ({row[n]['low']:+.2f} to {row[n]['high']:+.2f})" for n in DIFFERENCES]
        lines.append(f"| {row['arm']} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _guard_text(found: Sequence[Row]) -> str:
    columns = {"was": "in plain pictures", "there": "with guard", "removed": "removed", "untouched": "untouched"}
    columns |= {"met": "prompt met"}
    lines = [
        "",
        "Guard: the thing that is watched for, one picture a call. Removed: of the pictures that had it. Untouched: bit ",
    ]
    lines[-1] += (
        "for bit the plain picture, of those that did not have it. Percent, with Wilson's 95 % intervals over pictures."
    )
    lines += [
        "",
        f"| arm | case | pictures | {' | '.join(columns.values())} |",
        "|---|---|---|" + "---|" * len(columns),
    ]
    for row in found:
        cells = " | ".join(_percent(row[name]) for name in columns)
        lines.append(f"| {row['arm']} | {row['case']} | {row['pictures']} | {cells} |")
    return "\n".join([*lines, ""])


def _percent(value: Mapping[str, float] | None) -> str:
    if value is None:
        return "–"
    return f"{100 * value['mean']:.0f} ({100 * value['low']:.0f}-{100 * value['high']:.0f})"
