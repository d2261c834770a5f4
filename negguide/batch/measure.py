"""Measure pictures: every group by the judges, every method with intervals, and methods against each other."""

from __future__ import annotations

import dataclasses
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from negguide.batch.gather import gather, open_picture
from negguide.batch.more import (
    Kept,
    More,
    add_novelty,
    add_references,
    apply_thresholds,
    detections,
    extra_judges,
    pictures_of,
    read_truth,
    set_scores,
)
from negguide.batch.store import Record
from negguide.experiment.columns import mean_scores
from negguide.experiment.files import write
from negguide.experiment.judges import ClipJudge, Judge, Verdict, judge_all, judges_for
from negguide.experiment.tasks import Task, make_tasks
from negguide.metrics import Interval, bootstrap, mss, pixels, vendi
from negguide.metrics.detection import Detection
from negguide.names import bundled_model

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

MEASURES, MEASURED = "measures.json", "measures.parquet"
COSTS = ("passes", "seconds")
FACTS = ("file", "model", "label", "prompt", "seed", "note", "shows_negative", *COSTS)
"""Columns of `measures.parquet` that are no scores."""

NOTHING_MORE = More()


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

    `skipped`: files that cannot be read, or whose group could not be judged, with the reason. `absent`: measures that were
    asked for and cannot be had here. `detections`: negative -> how far zero-shot CLIP can be trusted with it.
    """

    judge: str
    baseline: str
    pictures: int
    prompts: int
    means: dict[str, dict[str, Interval]]
    differences: dict[str, dict[str, Interval]]
    groups: list[Group]
    skipped: list[str]
    absent: list[str] = dataclasses.field(default_factory=list)
    detections: dict[str, Detection] = dataclasses.field(default_factory=dict)

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
        detections = {thing: Detection(**one) for thing, one in data.get("detections", {}).items()}
        groups = [Group(**group) for group in data["groups"]]
        return cls(**{**data, **tables, "groups": groups, "detections": detections})


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
    more: More = NOTHING_MORE,
) -> Measures:
    """Judge every picture of a folder; writes `measures.json` and `measures.parquet` (one row per picture) into it.

    `clip`: as in `compare --clip`; Toybox pictures have judges of their own. `baseline`: what the others are compared
    with, by default "plain" or else the first. `prompt`, `negatives`: of a foreign folder, see `gather`. `more`: what else.
    `ValueError` if there is no picture, no such baseline, or a judge cannot be loaded.
    """
    records = gather(root, prompt, negatives)
    several = len({record["model"] for record in records}) > 1
    for record in records:
        record["label"] = f"{record['model']} · {record['label']}" if several else record["label"]
    labels = list(dict.fromkeys(record["label"] for record in records))
    baseline = _baseline(labels, baseline)
    if more.truth is not None:
        read_truth(more.truth, records)
    extra, absent = extra_judges(more.names)
    models = {_bundle(record): record["model"] for record in records}
    found = {
        bundle: [*(judges if judges is not None else _judges(model, clip)), *extra] for bundle, model in models.items()
    }
    kept = _keep_features(found)
    against = pictures_of(more.against) if more.against else []
    references = kept.images(pictures_of(more.references)) if more.references and kept is not None else None
    if more.references and kept is None:
        absent.append("likeness to references needs a CLIP: name one with --clip")
    groups, skipped = _groups(root, records, found, kept)
    known, untold = detections(records)
    if more.truth is not None:
        apply_thresholds(records, groups, known)
    add_novelty(groups, _features(records), baseline)
    if references is not None:
        add_references(records, groups, references)
    sets, missing = set_scores(root, records, against, kept)
    measures = Measures(
        judge="; ".join(dict.fromkeys(judge.name for some in found.values() for judge in some)),
        baseline=baseline,
        pictures=sum("broken" not in record for record in records),
        prompts=len({record["row"] for record in records}),
        means={label: {**row, **sets.get(label, {})} for label, row in means(groups, labels).items()},
        differences=differences(groups, labels, baseline),
        groups=groups,
        skipped=skipped,
        absent=[*absent, *missing, *untold],
        detections=known,
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


def _bundle(record: Record) -> str:
    """The bundle that a picture's model belongs to, whose judges know its pictures; "" for any other model."""
    bundled = bundled_model(record["model"])
    return bundled.bundle.name if bundled else ""


def _judges(model: str, clip: str | None) -> list[Judge]:
    return judges_for(model, clip) or [PixelJudge()]


def _keep_features(judges: Mapping[str, Sequence[Judge]]) -> Kept | None:
    """Have the first CLIP among the judges remember its features; None without any."""
    for judge in (judge for some in judges.values() for judge in some):
        if isinstance(judge, ClipJudge):
            judge.clip = kept = Kept(judge.clip)
            return kept
    return None


def _features(records: Sequence[Record]) -> dict[tuple[str, int], dict[int, Tensor]]:
    """Features by label and row, then by seed."""
    found: dict[tuple[str, int], dict[int, Tensor]] = defaultdict(dict)
    for record in records:
        if "features" in record:
            found[record["label"], record["row"]][record["seed"]] = record["features"]
    return found


def _groups(
    root: Path, records: Sequence[Record], judges: Mapping[str, Sequence[Judge]], kept: Kept | None
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
            mine_judges = judges[_bundle(mine[0])]
            scores = _judge([r for r, _ in good], [i for _, i in good], mine_judges, kept)
        except Exception as error:  # a judge that fails on one group must not cost the others
            skipped.append(f"{label} on {mine[0]['text']!r}: {type(error).__name__}: {error}")
            scores = {}
        costs = mean_scores([{key: record[key] for key in COSTS if record.get(key) is not None} for record, _ in good])
        groups.append(Group(label, row, mine[0]["text"] or mine[0]["file"].rpartition("/")[0], {**scores, **costs}))
    return groups, skipped


def _judge(
    records: Sequence[Record], images: Sequence[Image], judges: Sequence[Judge], kept: Kept | None
) -> dict[str, float]:
    text = records[0]["text"]
    (task,) = make_tasks([text], []) if text.strip() and records[0]["prompt"] else (Task("", ()),)
    if kept is not None:
        kept.last = None
    verdict = judge_all(judges, images, task)
    knows = any(getattr(judge, "knows_the_truth", False) for judge in judges)
    for place, record in enumerate(records):
        record["note"] = verdict.notes[place] if verdict.notes else ""
        record["shows_negative"] = verdict.shows_negative[place] if verdict.shows_negative else None
        record["scores"] = {name: values[place] for name, values in verdict.each.items()}
        if kept is not None and kept.last is not None:
            record["features"] = kept.last[place]
        if knows:
            shown = {thing: verdict.each.get(f"presence of {thing}") for thing in record["negatives"]}
            record["truth"] = {thing: bool(values[place]) for thing, values in shown.items() if values is not None}
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

    rows: list[dict[str, Any]] = [{name: record.get(name) for name in FACTS} for record in records]
    more = dict.fromkeys(name for record in records for name in record.get("scores", {}))
    for row, record in zip(rows, records, strict=True):
        row.update({name: record.get("scores", {}).get(name) for name in more})
    buffer = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), buffer)
    write(root / MEASURED, buffer.getvalue().to_pybytes())
