"""Tables and plots of the benches whose rows hold one figure per prompt: means with intervals."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.bench.run import Row
from lab.bench.summary import interval
from negguide import formats


@dataclass(frozen=True)
class Report:
    """What a bench reports. `measures`: key -> heading; `meanings`: method -> what its strength means.

    `across` and `upward`: the measures of the plot's axes, one panel for each of the latter.
    """

    name: str
    measures: Mapping[str, str]
    meanings: Mapping[str, str]
    across: str
    upward: Sequence[str]

    def write(self, rows: Sequence[Row], out: Path, settings: Mapping[str, Any]) -> str:
        """Write `<name>.json`, `<name>.md` and `<name>.png` into `out`; returns the Markdown."""
        table = self.summarise(rows)
        text = self.markdown(table, settings)
        (out / f"{self.name}.json").write_text(
            json.dumps(formats.stamped({"settings": dict(settings), "table": table}), indent=1) + "\n"
        )
        (out / f"{self.name}.md").write_text(text)
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
            for method in dict.fromkeys(row["method"] for row in table if row["method"] != "plain"):
                line = [plain, *(row for row in table if row["method"] == method)]
                points = [(row[self.across]["mean"], row[what]["mean"]) for row in line]
                axis.plot(*zip(*points, strict=True), "o-", label=method, markersize=4)
            axis.plot(plain[self.across]["mean"], plain[what]["mean"], "k*", markersize=12, label="plain")
            axis.set_xlabel(self.measures[self.across])
            axis.set_ylabel(self.measures[what])
            axis.grid(alpha=0.3)
        axes[0][0].legend(fontsize=8)
        figure.savefig(file, dpi=110)
        plt.close(figure)
