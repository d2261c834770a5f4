"""The report of a batch: one HTML file that opens from disk, and the tables as Markdown and CSV."""

from __future__ import annotations

import dataclasses
import shlex
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from negguide.batch import tables
from negguide.batch.gather import gather
from negguide.batch.latex import latex
from negguide.batch.long_form import read_pictures
from negguide.batch.measure import MEASURES, Measures
from negguide.batch.plan import Plan
from negguide.batch.plot import plots
from negguide.batch.read import PLAN_FILE, load_plan
from negguide.batch.store import Record, Store
from negguide.experiment.files import write
from negguide.experiment.html import REPORT, data_uri, environment
from negguide.experiment.recipe import versions

TEMPLATE = "batch.html.jinja"
MARKDOWN, CSV, LATEX, BY_TAG = "summary.md", "summary.csv", "summary.tex", "summary-by-tag.csv"
PICTURES = 2000
"""At most so many pictures are embedded; further prompts are counted, not shown."""
LARGEST, THUMBNAIL, ROOM = 512, 256, 24 * 2**20
"""Pixels of the longer side of what is embedded, and of the thumbnails where that would need more than `ROOM` bytes."""
A_PICTURE = 75_000
"""Bytes of a picture of `LARGEST` pixels, roughly."""


@dataclasses.dataclass(frozen=True)
class Section:
    """One prompt: its methods, each with a picture (or None) for every seed."""

    text: str
    seeds: list[int]
    rows: list[tuple[str, list[dict[str, object] | None]]]
    is_tiny: bool


def write_report(root: Path, pictures: int = PICTURES, pixels: int | None = None) -> Path:
    """Write `report.html` and the tables of a folder that was measured; the page's path.

    Args:
        root: the folder.
        pictures: how many are embedded at most.
        pixels: of their longer side, at most; None: 512, or 256 where there are many. The viewer shows the pictures themselves
            where the page lies beside them.

    Raises:
        ValueError: the folder was not measured.
    """
    try:
        measures = Measures.load(root)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{str(root)!r} has no readable {MEASURES} ({error}): run negguide measure {shlex.quote(str(root))} first"
        ) from error
    write_tables(root, measures)
    return write(root / REPORT, render(root, measures, pictures, pixels).encode())


def write_tables(root: Path, measures: Measures) -> None:
    """Write `summary.md`, `summary.csv` and `summary.tex`; with several tags `summary-by-tag.csv` too."""
    write(root / MARKDOWN, tables.markdown(measures).encode())
    write(root / CSV, tables.comma_separated(measures).encode())
    write(root / LATEX, latex(measures).encode())
    if measures.tags:
        write(root / BY_TAG, tables.comma_separated_by_tag(measures).encode())


def render(root: Path, measures: Measures, pictures: int = PICTURES, pixels: int | None = None) -> str:
    """The page as text; pictures that cannot be read are left out."""
    records = _records(root)
    shown, left_out = _sections(root, records, pictures, pixels)
    plan = load_plan(root) if (root / PLAN_FILE).is_file() else None
    labels = list(measures.means)
    failures = [] if plan is None else _failures(root)
    by_tag = tables.rows_by_tag(measures)
    return (
        environment("negguide.batch", "negguide.experiment")
        .get_template(TEMPLATE)
        .render(
            title=(plan.title if plan else None) or f"{measures.prompts} prompts, {len(labels)} methods",
            measures=measures,
            labels=labels,
            size=tables.size(measures),
            notes=tables.notes(measures),
            least=tables.LEAST,
            columns=tables.columns(measures),
            rows=tables.rows(measures),
            tagged={f"{tables.tag_in_words(tag)} ({measures.tags[tag].prompts})": rows for tag, rows in by_tag.items()},
            plots=plots(
                measures, {r["label"]: (r.get("family") or r["label"], r.get("strength") or "") for r in records}
            ),
            sections=shown,
            left_out=left_out,
            failures=failures,
            again=f"negguide generate {shlex.quote(str(root))}" if plan else "",
            facts=_facts(measures, plan),
        )
    )


def _records(root: Path) -> list[Record]:
    """The pictures that were measured, with what the judges said of them."""
    judged = read_pictures(root)
    return [{**record, **judged[record["file"]]} for record in gather(root) if record["file"] in judged]


def _sections(root: Path, records: Sequence[Record], limit: int, pixels: int | None) -> tuple[list[Section], int]:
    """Prompts in order until `limit` pictures are embedded, and how many prompts are left out."""
    prompts: dict[int, list[Record]] = defaultdict(list)
    for record in records:
        prompts[record["row"]].append(record)
    if pixels is None:
        pixels = LARGEST if min(len(records), limit) * A_PICTURE <= ROOM else THUMBNAIL
    sections: list[Section] = []
    embedded = 0
    for of_prompt in prompts.values():
        if sections and embedded + len(of_prompt) > limit:
            break
        embedded += len(of_prompt)
        sections.append(_section(root, of_prompt, pixels))
    return sections, len(prompts) - len(sections)


def _section(root: Path, records: Sequence[Record], pixels: int) -> Section:
    seeds = sorted({record["seed"] for record in records})
    rows: dict[str, list[dict[str, Any] | None]] = {}
    for record in records:
        row = rows.setdefault(record["label"], [None] * len(seeds))
        row[seeds.index(record["seed"])] = _picture(root, record, pixels)
    sizes = [picture["width"] for row in rows.values() for picture in row if picture]
    folder = records[0]["file"].rpartition("/")[0]
    return Section(
        records[0]["text"] or folder or "pictures", seeds, list(rows.items()), bool(sizes) and max(sizes) <= 128
    )


def _picture(root: Path, record: Record, pixels: int) -> dict[str, object] | None:
    loaded = data_uri(root / record["file"], pixels, bare=True, quality=80)
    if loaded is None:
        return None
    uri, width, height = loaded
    caption = [record["file"]]
    if record.get("key"):
        caption.append(f"negguide generate {shlex.quote(str(root))} --only {record['key'][:12]} --out again")
    caption += [f"{name} {value:.3g}" for name, value in record["scores"].items()]
    caption += [f"{name} {record[name]:.3g}" for name in ("passes", "seconds") if record.get(name) is not None]
    whole = quote(record["file"]) if max(width, height) > pixels else ""
    return {**record, "uri": uri, "width": width, "height": height, "again": "\n".join(caption), "whole": whole}


def _failures(root: Path) -> list[str]:
    """What could not be made and still is not there."""
    there = {tuple(record[name] for name in _PICTURE) for record in gather(root)}
    return [
        f"{failure['label']} on {failure['text']!r}: {failure['error']}"
        for failure in Store(root).failures.values()
        if tuple(failure[name] for name in _PICTURE) not in there
    ]


_PICTURE = ("model", "label", "text", "seed")


def _facts(measures: Measures, plan: Plan | None) -> list[tuple[str, str]]:
    facts = [("pictures", tables.size(measures)), ("judges", measures.judge)]
    facts.append(("baseline", measures.baseline))
    if plan is not None:
        facts.append(("models", ", ".join(model.name for model in plan.models)))
        facts.append(
            (
                "settings",
                f"steps {_or_default(plan.steps)}, guidance {_or_default(plan.guidance)}",
            )
        )
    facts.append(("versions", ", ".join(f"{name} {version}" for name, version in versions().items())))
    return facts


def _or_default(value: object) -> object:
    return "default" if value is None else value
