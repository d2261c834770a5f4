"""The report: one HTML file that holds everything, opens from disk and asks nothing of the network."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from negguide.compare.plot import plot
from negguide.compare.records import Comparison, Results, Row
from negguide.experiment.columns import COLUMNS, Column, best, used
from negguide.experiment.files import write
from negguide.experiment.html import REPORT, data_uri, environment

TEMPLATE = "report.html.jinja"


@dataclasses.dataclass(frozen=True)
class Cell:
    """One number of the table. `ratio` compares it with the plain pipeline, where that means something."""

    text: str
    is_best: bool
    ratio: str = ""


def write_report(out: Path, results: Results) -> Path:
    """Write `report.html` for results that lie in `out`."""
    return write(out / REPORT, render(out, results).encode())


def render(out: Path, results: Results) -> str:
    """The page as text; pictures that cannot be read are left out."""
    tables = {"": _table(results.totals)}
    tables |= {c.slug: _table({row.label: row.scores for row in c.rows}) for c in results.comparisons}
    template = environment("negguide.compare", "negguide.experiment").get_template(TEMPLATE)
    return template.render(
        results=results,
        tables=tables,
        plot=plot(results.totals),
        columns=COLUMNS,
        grids=[_grid(out, comparison, results.seeds) for comparison in results.comparisons],
        facts=_facts(results),
    )


def _grid(out: Path, comparison: Comparison, seeds: list[int]) -> dict[str, object]:
    rows = [(row, _pictures(out, row, seeds)) for row in comparison.rows]
    sizes = [picture["width"] for _, pictures in rows for picture in pictures if picture]
    timelines = [(row, _timeline(out, row)) for row in comparison.rows if row.looks]
    return {
        "comparison": comparison,
        "rows": rows,
        "tiny": bool(sizes) and max(sizes) <= 128,
        "timelines": timelines,
    }


def _timeline(out: Path, row: Row) -> list[tuple[int, list[dict[str, object]]]]:
    """(seed, its looks in order) for every picture of a row; each look says which negatives came and went."""
    by_step: dict[int, list[dict[str, Any]]] = {}
    for look in row.looks:
        for seed, glance in zip(look.seeds, look.glances, strict=True):
            looks = by_step.setdefault(seed, [])
            before = looks[-1]["negatives"] if looks else []
            loaded = data_uri(out / glance.preview) if glance.preview else None
            looks.append(
                {
                    "look": look,
                    "said": list(zip(glance.asked, glance.answered, strict=True)),
                    "negatives": before if look.error else glance.negatives,
                    "added": []
                    if look.error
                    else [negative for negative in glance.negatives if negative not in before],
                    "gone": [] if look.error else [negative for negative in before if negative not in glance.negatives],
                    "uri": loaded[0] if loaded else None,
                }
            )
    return list(by_step.items())


def _pictures(out: Path, row: Row, seeds: list[int]) -> list[dict[str, Any] | None]:
    """One entry per seed; None where there is no picture."""
    by_seed = {picture.seed: picture for picture in row.pictures}
    cells: list[dict[str, object] | None] = []
    for seed in seeds:
        picture = by_seed.get(seed)
        loaded = data_uri(out / picture.file) if picture else None
        if picture is None or loaded is None:
            cells.append(None)
            continue
        cells.append({"picture": picture, "uri": loaded[0], "width": loaded[1], "height": loaded[2]})
    return cells


def _table(rows: Mapping[str, Mapping[str, float]]) -> dict[str, object]:
    columns = used(rows.values())
    plain = rows.get("plain", {})
    body = [(label, [_cell(column, scores, rows, plain) for column in columns]) for label, scores in rows.items()]
    return {"columns": columns, "body": body}


def _cell(
    column: Column, scores: Mapping[str, float], rows: Mapping[str, Mapping[str, float]], plain: Mapping[str, float]
) -> Cell:
    value = scores.get(column.key)
    top = best(column, rows.values())
    is_best = value is not None and top is not None and column.write(value) == column.write(top)
    ratio = ""
    if column.key in ("passes", "seconds") and value and plain.get(column.key):
        ratio = f"{value / plain[column.key]:.2f}×"
    return Cell(column.write(value), is_best, ratio)


def _facts(results: Results) -> list[tuple[str, str]]:
    """What the page says about the run, in words."""
    settings = {
        name.replace("_", " "): value for name, value in results.settings.items() if value != "pipeline default"
    }
    return [
        ("model", f"{results.model} ({results.pipeline})"),
        ("settings", ", ".join(f"{name} {value}" for name, value in settings.items())),
        ("judges", results.judge),
        ("made", f"{results.started}, in {results.seconds:.1f} s" + ("" if results.finished else " (not finished)")),
        ("versions", ", ".join(f"{name} {version}" for name, version in results.versions.items())),
    ]
