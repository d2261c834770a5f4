"""The bench as files: `bench.json`, `bench.md` and the Pareto plot `bench.png`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lab.bench import export
from lab.bench.arms import reference, sweeps
from lab.bench.styles import style
from lab.bench.summary import Row, curve, differences, equal_presence, summarise, told_clean
from negguide import formats
from negguide.metrics.intervals import LEAST

SPLITS = ("hard", "easy")
COLUMNS = {
    "presence": "negated thing present",
    "kept": "subject kept",
    "clean": "gone and kept",
    "match": "prompt match",
    "specificity": "match when nothing to remove",
}


def write_report(rows: Sequence[Row], out: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Summarise the rows and write the files of the bench into `out`; returns what `bench.json` holds.

    `settings`: what is told of the run; its "model" is the bundled pipeline.
    """
    table = summarise(rows)
    than = reference(settings["model"])
    equal = [equal_presence(rows, split, what, reference=than) for split in SPLITS for what in ("kept", "match")]
    told = told_clean(rows)
    against = [differences(told, split, what, than) for split in SPLITS for what in ("clean", "unharmed")]
    report = {
        "settings": settings,
        "table": table,
        "differences": [row for part in against for row in part],
        "equal presence": equal,
        "themes": _themes(rows),
    }
    (out / "bench.json").write_text(json.dumps(formats.stamped(report), indent=1) + "\n")
    (out / "bench.md").write_text(markdown(report))
    export.save(report, out, "bench")
    plot(table, out / "bench.png")
    return report


def markdown(report: dict[str, Any]) -> str:
    """Tables of both splits, what is kept at equal presence, and every theme, in percent."""
    settings = ", ".join(f"{name} {value}" for name, value in report["settings"].items())
    lines = [f"Settings: {settings}. Percent, with Wilson's 95 % intervals over prompts.", ""]
    for split in SPLITS:
        lines += [
            f"### {split.capitalize()} negatives",
            "",
            f"| arm | {' | '.join(COLUMNS.values())} | kinds (bits) | s/picture |",
        ]
        lines += ["|---|" + "---|" * (len(COLUMNS) + 2)]
        for row in report["table"]:
            if row["split"] == split:
                cells = [_interval(row[name]) for name in COLUMNS]
                lines.append(f"| {row['arm']} | {' | '.join(cells)} | {row['kinds'] or ''} | {row['seconds']:.3f} |")
        lines.append("")
    than = reference(report["settings"]["model"])
    lines += [
        f"### Against `{than}`",
        "",
        "Points more (or fewer) on the same pairs and seeds, with Student's 95 % interval over pairs; a star where it is "
        "clear after Holm's correction over the arms of a column.",
        "",
        "| arm | hard: gone and kept | hard: match when nothing to remove | easy: gone and kept | "
        "easy: match when nothing to remove |",
        "|---|---|---|---|---|",
    ]
    found = {(row["arm"], row["split"], row["measure"]): row for row in report["differences"]}
    for arm in dict.fromkeys(row["arm"] for row in report["differences"]):
        texts = [_difference(found.get((arm, split, what))) for split in SPLITS for what in ("clean", "unharmed")]
        lines.append(f"| {arm} | {' | '.join(texts)} |")
    lines += [
        "",
        "### At equal presence",
        "",
        f"What is kept at the presence that `{than}` reaches (interpolated on each method's sweep), and the gain over it "
        "with a 95 % bootstrap interval over pairs.",
        "",
    ]
    methods = list(report["equal presence"][0]["kept"])
    lines += [f"| split | measure | presence | {' | '.join(methods)} |", "|---|---|---|" + "---|" * len(methods)]
    for row in report["equal presence"]:
        cells = [_gained(row["kept"][name], row["gain"][name]) for name in methods]
        name = {"kept": "subject kept", "match": "prompt match"}[row["measure"]]
        lines.append(f"| {row['split']} | {name} | {100 * row['presence']:.1f} | {' | '.join(cells)} |")
    lines += ["", "### Themes", "", "Presence of the negated thing / prompt match.", ""]
    arms = list(next(iter(report["themes"].values())))
    lines += [f"| theme | {' | '.join(arms)} |", "|---|" + "---|" * len(arms)]
    for theme, cells in report["themes"].items():
        lines.append(f"| {theme} | {' | '.join(cells[arm] for arm in arms)} |")
    meanings = "; ".join(
        f"`{name}`: {meaning}" for name, (_, _, meaning) in sweeps(report["settings"]["model"]).items()
    )
    lines += ["", f"Strength means: {meanings}.", ""]
    return "\n".join(lines)


def _interval(value: dict[str, float] | None) -> str:
    if value is None:
        return ""
    return f"{100 * value['mean']:.1f} ({100 * value['low']:.0f}-{100 * value['high']:.0f})"


def _difference(row: Row | None) -> str:
    if row is None or row["low"] is None:
        return ""
    star = "*" if row["p"] < 0.05 and row["pairs"] >= LEAST else ""
    return f"{100 * row['mean']:+.1f} ({100 * row['low']:+.0f} to {100 * row['high']:+.0f}){star}"


def _gained(kept: float | None, gain: dict[str, float] | None) -> str:
    if kept is None:
        return "not reached"
    if gain is None:
        return f"{100 * kept:.1f}"
    return f"{100 * kept:.1f} ({100 * gain['mean']:+.1f}, {100 * gain['low']:+.0f} to {100 * gain['high']:+.0f})"


def _themes(rows: Sequence[Row]) -> dict[str, dict[str, str]]:
    """Presence / match of every theme under every arm, percent."""
    themes: dict[str, dict[str, list[Row]]] = {}
    for row in rows:
        themes.setdefault(row["theme"], {}).setdefault(row["arm"], []).append(row)
    return {theme: {arm: _both(members) for arm, members in cells.items()} for theme, cells in themes.items()}


def _both(rows: Sequence[Row]) -> str:
    match = 100 * sum(row["match"] for row in rows) / len(rows)
    if rows[0]["present"] is None:
        return f"- / {match:.0f}"
    return f"{100 * sum(row['present'] for row in rows) / len(rows):.0f} / {match:.0f}"


def plot(table: Sequence[Row], file: Path) -> None:
    """Subject kept and prompt match against the negated thing gone; up and to the right is better."""
    try:
        import matplotlib
    except ImportError:
        print('no plot: matplotlib is missing; pip install "negguide[lab]"')
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(10, 8), sharex="col", layout="constrained")
    methods = dict.fromkeys(row["method"] for row in table if row["method"] != "plain")
    for column, split in enumerate(SPLITS):
        for line, what in enumerate(("kept", "match")):
            axis = axes[line][column]
            for place, method in enumerate(methods):
                points = curve(table, method, split, what)
                gone, kept = [100 - 100 * p for p, _ in points], [100 * v for _, v in points]
                axis.plot(gone, kept, label=method, **style(place))
            plain = curve(table, "plain", split, what)[:1]
            axis.plot(
                [100 - 100 * p for p, _ in plain], [100 * v for _, v in plain], "k*", markersize=12, label="plain"
            )
            axis.set_title(f"{split} negatives")
            axis.set_ylabel(f"{COLUMNS[what]} (%)")
            axis.grid(alpha=0.3)
            if line:
                axis.set_xlabel("negated thing gone (%)")
    axes[0][0].legend()
    figure.savefig(file, dpi=110)
    plt.close(figure)
