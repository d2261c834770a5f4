"""Measure pictures: every group by the judges, every method with intervals, and methods against each other."""

from __future__ import annotations

import dataclasses
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from negguide.batch.gather import gather, open_picture
from negguide.batch.store import Record
from negguide.compare.judges import Judge, Verdict, judge_all, judges_for
from negguide.compare.models import TOYBOX
from negguide.compare.records import mean_scores, write
from negguide.compare.request import Task, make_tasks
from negguide.metrics import Interval, bootstrap, mss, pixels, vendi

if TYPE_CHECKING:
    from PIL.Image import Image

MEASURES, MEASURED = "measures.json", "measures.parquet"
COSTS = ("passes", "seconds")


@dataclasses.dataclass(frozen=True)
class Group:
    """The pictures of one prompt under one method of one model, and what was found on them."""

    label: str
    row: int
    text: str
    scores: dict[str, float]


@dataclasses.dataclass
class Measures:
    """`means`: label -> score -> interval over prompts; `differences`: likewise, paired with the baseline's prompts.

    `skipped`: files that cannot be read, or whose group could not be judged, with the reason.
    """

    judge: str
    baseline: str
    pictures: int
    prompts: int
    means: dict[str, dict[str, Interval]]
    differences: dict[str, dict[str, Interval]]
    groups: list[Group]
    skipped: list[str]

    def save(self, root: Path) -> Path:
        """Write `measures.json`."""
        return write(root / MEASURES, json.dumps(dataclasses.asdict(self), ensure_ascii=False, indent=1).encode())

    @classmethod
    def load(cls, root: Path) -> Measures:
        """Read `measures.json`; `OSError` or `ValueError` if that cannot be done."""
        data = json.loads((root / MEASURES).read_text(encoding="utf-8"))
        tables = {
            name: {label: {key: Interval(**one) for key, one in row.items()} for label, row in data[name].items()}
            for name in ("means", "differences")
        }
        return cls(**{**data, **tables, "groups": [Group(**group) for group in data["groups"]]})


class PixelJudge:
    """Diversity of pixels, where no CLIP is at hand."""

    name = "pixels (diversity)"

    def judge(self, pictures: Sequence[Image], task: Task) -> Verdict:
        if len(pictures) < 2:
            return Verdict()
        features = pixels(pictures)
        return Verdict({"vendi": vendi(features), "mss": mss(features)})


def measure(
    root: Path,
    clip: str | None = None,
    baseline: str | None = None,
    prompt: str | None = None,
    negatives: Sequence[str] = (),
    judges: Sequence[Judge] | None = None,
) -> Measures:
    """Judge every picture of a folder; writes `measures.json` and `measures.parquet` (one row per picture) into it.

    `clip`: as in `compare --clip`; Toybox pictures have judges of their own. `baseline`: what the others are compared
    with, by default "plain" or else the first. `prompt`, `negatives`: of a foreign folder, see `gather`.
    `ValueError` if there is no picture, no such baseline, or a judge cannot be loaded.
    """
    records = gather(root, prompt, negatives)
    several = len({record["model"] for record in records}) > 1
    for record in records:
        record["label"] = f"{record['model']} · {record['label']}" if several else record["label"]
    labels = list(dict.fromkeys(record["label"] for record in records))
    baseline = _baseline(labels, baseline)
    toybox = {record["model"] == TOYBOX for record in records}
    found = {kind: judges if judges is not None else _judges(kind, clip) for kind in toybox}
    groups, skipped = _groups(root, records, found)
    measures = Measures(
        judge="; ".join(dict.fromkeys(judge.name for some in found.values() for judge in some)),
        baseline=baseline,
        pictures=sum("broken" not in record for record in records),
        prompts=len({record["row"] for record in records}),
        means=means(groups, labels),
        differences=differences(groups, labels, baseline),
        groups=groups,
        skipped=skipped,
    )
    measures.save(root)
    _save_pictures(root, records)
    return measures


def _baseline(labels: Sequence[str], wanted: str | None) -> str:
    """The label that is meant; with several models, that of the first one."""
    name = wanted or "plain"
    found = name if name in labels else next((label for label in labels if label.endswith(f" · {name}")), None)
    if found is None and wanted is not None:
        raise ValueError(f"the baseline {wanted!r} is not there; possible: {', '.join(labels)}")
    return found or labels[0]


def means(groups: Sequence[Group], labels: Sequence[str]) -> dict[str, dict[str, Interval]]:
    """Each label's scores, averaged over its prompts."""
    return {label: _intervals([group.scores for group in groups if group.label == label]) for label in labels}


def differences(groups: Sequence[Group], labels: Sequence[str], baseline: str) -> dict[str, dict[str, Interval]]:
    """Each label's scores less the baseline's on the same prompt, averaged over the prompts that both have."""
    base = {group.row: group.scores for group in groups if group.label == baseline}
    found = {}
    for label in labels:
        mine = [group for group in groups if group.label == label and group.row in base]
        pairs = [(group.scores, base[group.row]) for group in mine]
        found[label] = _intervals([{key: a[key] - b[key] for key in a if key in b} for a, b in pairs])
    return {label: row for label, row in found.items() if label != baseline}


def _intervals(rows: Sequence[Mapping[str, float]]) -> dict[str, Interval]:
    keys = dict.fromkeys(key for row in rows for key in row)
    return {key: bootstrap([row[key] for row in rows if key in row]) for key in keys}


def _judges(is_toybox: bool, clip: str | None) -> list[Judge]:
    found = judges_for(is_toybox, clip)
    return found or [PixelJudge()]


def _groups(
    root: Path, records: Sequence[Record], judges: Mapping[bool, Sequence[Judge]]
) -> tuple[list[Group], list[str]]:
    """Every group judged; what a judge says of a picture is added to its record."""
    members: dict[tuple[str, int], list[Record]] = defaultdict(list)
    for record in records:
        members[record["label"], record["row"]].append(record)
    groups, skipped = [], []
    for (label, row), mine in members.items():
        opened = [(record, open_picture(root / record["file"])) for record in mine]
        for record, image in opened:
            if image is None:
                record["broken"] = True
                skipped.append(f"{record['file']}: it cannot be read as a picture")
        good = [(record, image) for record, image in opened if image is not None]
        if not good:
            continue
        try:
            scores = _judge([r for r, _ in good], [i for _, i in good], judges[mine[0]["model"] == TOYBOX])
        except Exception as error:  # a judge that fails on one group must not cost the others
            skipped.append(f"{label} on {mine[0]['text']!r}: {type(error).__name__}: {error}")
            scores = {}
        costs = mean_scores([{key: record[key] for key in COSTS if record.get(key) is not None} for record, _ in good])
        groups.append(Group(label, row, mine[0]["text"] or mine[0]["file"].rpartition("/")[0], {**scores, **costs}))
    return groups, skipped


def _judge(records: Sequence[Record], images: Sequence[Image], judges: Sequence[Judge]) -> dict[str, float]:
    text = records[0]["text"]
    (task,) = make_tasks([text], []) if text.strip() and records[0]["prompt"] else (Task("", ()),)
    verdict = judge_all(judges, images, task)
    for place, record in enumerate(records):
        record["note"] = verdict.notes[place] if verdict.notes else ""
        record["shows_negative"] = verdict.shows_negative[place] if verdict.shows_negative else None
        record["scores"] = {name: values[place] for name, values in verdict.each.items()}
    scores = dict(verdict.scores)
    if not task.prompt:
        scores.pop("alignment", None)
    for name, values in verdict.each.items():
        if name.startswith("presence of ") and len(task.negatives) > 1:
            scores[name] = sum(values) / len(values)
    return scores


def _save_pictures(root: Path, records: Sequence[Record]) -> None:
    import pyarrow
    import pyarrow.parquet

    names = ("file", "model", "label", "prompt", "seed", "note", "shows_negative", "passes", "seconds")
    rows: list[dict[str, Any]] = [{name: record.get(name) for name in names} for record in records]
    more = dict.fromkeys(name for record in records for name in record.get("scores", {}))
    for row, record in zip(rows, records, strict=True):
        row.update({name: record.get("scores", {}).get(name) for name in more})
    buffer = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), buffer)
    write(root / MEASURED, buffer.getvalue().to_pybytes())
