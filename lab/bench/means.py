"""Tables and plots of the benches whose rows hold one figure per prompt: means with intervals."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.bench import export
from lab.bench.run import Row
from lab.bench.styles import style
from lab.bench.summary import interval
from negguide import formats
from negguide.metrics.intervals import LEAST, holm, student


@dataclass(frozen=True)
class Report:
    """What a bench reports. `measures`: key -> heading; `meanings`: method -> what its strength means.

    `across` and `upward`: the measures of the plot's axes, one panel for each of the latter. `compared`: measures whose
    differences from plain are told.
    """

    name: str
    measures: Mapping[str, str]
    meanings: Mapping[str, str]
    across: str
    upward: Sequence[str]
    compared: Sequence[str] = ()

    def write(self, rows: Sequence[Row], out: Path, settings: Mapping[str, Any]) -> str:
        """Write `<name>.json`, `.md`, `.csv`, `.tex` and `.png` into `out`; returns the Markdown."""
        table = self.summarise(rows)
        against = differences(rows, self.compared)
        text = self.markdown(table, settings) + self._told(against)
        found = {"settings": dict(settings), "table": table, **({"differences": against} if against else {})}
        (out / f"{self.name}.json").write_text(json.dumps(formats.stamped(found), indent=1) + "\n")
        (out / f"{self.name}.md").write_text(text)
        export.save(found, out, self.name)
        self.plot(table, out / f"{self.name}.png")
        return text

    def summarise(self, rows: Sequence[Row]) -> list[Row]:
        """One row per arm: the mean of every measure over the prompts, with Student's 95 % interval."""
        groups: dict[str, list[Row]] = defaultdict(list)
        for row in rows:
            groups[row["arm"]].append(row)
        return [
            {
                "arm": arm,
                "method": members[0]["method"],
                "strength": members[0]["strength"],
                "prompts": len(members),
                **{name: interval([row[name] for row in members]) for name in self.measures},
                "seconds": round(members[0]["seconds"], 4),
            }
            for arm, members in groups.items()
        ]

    def markdown(self, table: Sequence[Row], settings: Mapping[str, Any]) -> str:
        """The table, with intervals."""
        stated = ", ".join(f"{name} {value}" for name, value in settings.items())
        lines = [f"Settings: {stated}. Means over prompts, with Student's 95 % intervals.", ""]
        headings = " | ".join(self.measures.values())
        lines += [f"| arm | {headings} | s/picture |", "|---|" + "---|" * (len(self.measures) + 1)]
        for row in table:
            cells = [f"{row[n]['mean']:.2f} ({row[n]['low']:.2f}-{row[n]['high']:.2f})" for n in self.measures]
            lines.append(f"| {row['arm']} | {' | '.join(cells)} | {row['seconds']:.3f} |")
        meanings = "; ".join(f"`{name}`: {meaning}" for name, meaning in self.meanings.items())
        return "\n".join([*lines, "", f"Strength means: {meanings}.", ""])

    def _told(self, against: Sequence[Row]) -> str:
        """The differences as a table; nothing where none are wanted."""
        if not against:
            return ""
        titles = " | ".join(self.measures[name] for name in self.compared)
        lines = [
            "",
            "Against plain, over the same prompts and seeds, with Student's 95 % intervals over prompts; a star where it is clear "
            "after Holm's correction over this table.",
            "",
            f"| arm | {titles} |",
            "|---|" + "---|" * len(self.compared),
        ]
        lines += [f"| {row['arm']} | {' | '.join(_signed(row[name]) for name in self.compared)} |" for row in against]
        return "\n".join([*lines, ""])

    def plot(self, table: Sequence[Row], file: Path) -> None:
        """A line per method from plain to its strongest arm; nothing, and a word about it, without matplotlib."""
        try:
            import matplotlib
        except ImportError:
            print('no plot: matplotlib is missing; pip install "negguide[lab]"')
            return
        matplotlib.use("Agg")
        from matplotlib import pyplot as plt

        count = len(self.upward)
        figure, axes = plt.subplots(1, count, figsize=(5.5 * count, 4.5), layout="constrained", squeeze=False)
        plain = next(row for row in table if row["method"] == "plain")
        for axis, what in zip(axes[0], self.upward, strict=True):
            methods = dict.fromkeys(row["method"] for row in table if row["method"] != "plain")
            for place, method in enumerate(methods):
                line = [plain, *(row for row in table if row["method"] == method)]
                points = [(row[self.across]["mean"], row[what]["mean"]) for row in line]
                axis.plot(*zip(*points, strict=True), label=method, **style(place))
            axis.plot(plain[self.across]["mean"], plain[what]["mean"], "k*", markersize=12, label="plain")
            axis.set_xlabel(self.measures[self.across])
            axis.set_ylabel(self.measures[what])
            axis.grid(alpha=0.3)
        axes[0][0].legend(fontsize=8)
        figure.savefig(file, dpi=110)
        plt.close(figure)


def differences(rows: Sequence[Row], measures: Sequence[str]) -> list[Row]:
    """What each arm has more than plain on the same prompts: means, Student's 95 % intervals, Holm's p values over all of them."""
    plain = {row["prompt"]: row for row in rows if row["arm"] == "plain"}
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row["arm"] != "plain" and row["prompt"] in plain:
            groups[row["arm"]].append(row)
    cells = [(arm, name) for arm in groups for name in measures]
    found = {
        (arm, name): student([row[name] - plain[row["prompt"]][name] for row in groups[arm]]) for arm, name in cells
    }
    p_values = holm([1.0 if one.p is None else one.p for one in found.values()])
    told = {
        place: {
            "mean": round(one.mean, 4),
            "low": None if one.low is None else round(one.low, 4),
            "high": None if one.high is None else round(one.high, 4),
            "p": round(p, 5),
            "clear": p < 0.05 and one.cases >= LEAST,
        }
        for (place, one), p in zip(found.items(), p_values, strict=True)
    }
    return [{"arm": arm, **{name: told[arm, name] for name in measures}} for arm in groups if measures]


def _signed(cell: Mapping[str, Any]) -> str:
    if cell["low"] is None:
        return f"{cell['mean']:+.2f}"
    return f"{cell['mean']:+.2f} ({cell['low']:+.2f} to {cell['high']:+.2f}){'*' if cell['clear'] else ''}"
