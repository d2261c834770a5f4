"""The tables of a bench for spreadsheets and papers: CSV with a line per arm and measure, LaTeX with a table per split.

python -m lab.bench.export docs/bench/distinct.json    writes distinct.csv and distinct.tex beside it
"""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from negguide.metrics.intervals import LEAST

Row = dict[str, Any]
TITLES = (
    "arm",
    "split",
    "measure",
    "mean",
    "low",
    "high",
    "difference",
    "difference low",
    "difference high",
    "p (Holm)",
)


def save(report: Mapping[str, Any], out: Path, name: str) -> None:
    """Write `<name>.csv` and `<name>.tex` into a folder."""
    rows = long_form(report)
    (out / f"{name}.csv").write_text(comma_separated(rows), encoding="utf-8")
    (out / f"{name}.tex").write_text(latex(rows), encoding="utf-8")


def long_form(report: Mapping[str, Any]) -> list[Row]:
    """A row per arm, split and measure that has an interval, with its difference from the arm that others are held against."""
    against = {(row["arm"], row["split"], row["measure"]): row for row in _differences(report.get("differences", ()))}
    found = []
    for row in report["table"]:
        for measure, value in row.items():
            if isinstance(value, Mapping) and "mean" in value:
                split = row.get("split", "")
                other = against.get((row["arm"], split, measure), {})
                numbers = {"mean": value["mean"], "low": value["low"], "high": value["high"]}
                numbers |= {"difference": other.get("mean"), "difference low": other.get("low")}
                numbers |= {"difference high": other.get("high"), "p (Holm)": other.get("p")}
                clear = bool(other.get("clear", (other.get("p") or 1.0) < 0.05 and other.get("pairs", 0) >= LEAST))
                found.append({"arm": row["arm"], "split": split, "measure": measure, **numbers, "clear": clear})
    return found


def _differences(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """A row per measure, also where a row holds all measures of an arm."""
    flat: list[Mapping[str, Any]] = []
    for row in rows:
        if "measure" in row:
            flat.append(row)
        else:
            flat += [
                {"arm": row["arm"], "split": "", "measure": name, **cell} for name, cell in row.items() if name != "arm"
            ]
    return flat


def comma_separated(rows: Sequence[Row]) -> str:
    """One line per row; nothing where there is no number."""
    buffer = io.StringIO()
    table = csv.writer(buffer, lineterminator="\n")
    table.writerow(TITLES)
    table.writerows([row[title] for title in TITLES] for row in rows)
    return buffer.getvalue()


def latex(rows: Sequence[Row]) -> str:
    """A booktabs table per split: means with intervals, a star where the difference is clear."""
    parts = []
    for split in dict.fromkeys(row["split"] for row in rows):
        own = {(row["arm"], row["measure"]): row for row in rows if row["split"] == split}
        measures = list(dict.fromkeys(measure for _, measure in own))
        lines = [rf"% {split}" if split else "%", rf"\begin{{tabular}}{{l{'r' * len(measures)}}}", r"\toprule"]
        lines += [" & ".join(["arm", *map(_escaped, measures)]) + r" \\", r"\midrule"]
        for arm in dict.fromkeys(arm for arm, _ in own):
            cells = [_cell(own.get((arm, measure))) for measure in measures]
            lines.append(" & ".join([_escaped(arm), *cells]) + r" \\")
        parts.append("\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""]))
    return "\n".join(parts)


def _cell(row: Row | None) -> str:
    if row is None:
        return "--"
    star = "$^*$" if row["clear"] else ""
    return rf"{row['mean']:.2f}{star} {{\scriptsize({row['low']:.2f} to {row['high']:.2f})}}"


def _escaped(text: str) -> str:
    return text.replace("_", r"\_").replace("%", r"\%").replace("&", r"\&")


if __name__ == "__main__":
    for given in map(Path, sys.argv[1:]):
        save(json.loads(given.read_text(encoding="utf-8")), given.parent, given.stem)
        print(f"{given.with_suffix('.csv')} {given.with_suffix('.tex')}")
