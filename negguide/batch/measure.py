"""Measure pictures: every group by the judges, every method with intervals, and methods against each other."""

from __future__ import annotations

import dataclasses
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from negguide import formats
from negguide.batch.averages import Part, Table, by_tag, differences, means
from negguide.batch.gather import look_into
from negguide.batch.groups import Group, Judging, Pair, bundle_of
from negguide.batch.long_form import save_pictures
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
from negguide.experiment.asked import AskedJudge, in_order
from negguide.experiment.files import write
from negguide.experiment.judges import ClipJudge, Judge, judges_for
from negguide.metrics import Interval
from negguide.metrics.detection import Detection

if TYPE_CHECKING:
    from torch import Tensor

MEASURES = "measures.json"

NOTHING_MORE = More()


@dataclasses.dataclass(frozen=True)
class Share:
    """What a label's numbers rest on: its pictures and prompts, and of those the ones that the baseline has too."""

    pictures: int
    prompts: int
    paired_pictures: int = 0
    paired_prompts: int = 0


@dataclasses.dataclass
class Measures:
    """`means`: label -> score -> interval over prompts; `differences`: likewise, paired with the baseline on common seeds.

    `skipped`: files that cannot be read, or whose group could not be judged, with the reason. `absent`: measures that were
    asked for and cannot be had here. `detections`: negative -> how far zero-shot CLIP can be trusted with it. `planned`:
    pictures of the batch's plan, where there is one. `notes`: what is left out, and why. `shares`: label -> what it rests on.
    `tags`: the same for the prompts of each tag, where prompts have several.
    """

    judge: str
    baseline: str
    pictures: int
    prompts: int
    means: Table
    differences: Table
    groups: list[Group]
    skipped: list[str]
    absent: list[str] = dataclasses.field(default_factory=list)
    detections: dict[str, Detection] = dataclasses.field(default_factory=dict)
    planned: int | None = None
    notes: list[str] = dataclasses.field(default_factory=list)
    shares: dict[str, Share] = dataclasses.field(default_factory=dict)
    tags: dict[str, Part] = dataclasses.field(default_factory=dict)

    def save(self, root: Path) -> Path:
        """Write `measures.json`."""
        return write(
            root / MEASURES,
            json.dumps(formats.stamped(dataclasses.asdict(self)), ensure_ascii=False, indent=1).encode(),
        )

    @classmethod
    def load(cls, root: Path) -> Measures:
        """Read `measures.json`; `OSError` or `ValueError` if that cannot be done."""
        data = json.loads((root / MEASURES).read_text(encoding="utf-8"))
        try:
            data = formats.opened(data, [field.name for field in dataclasses.fields(cls)], MEASURES)
            tables = {name: _table(data[name]) for name in ("means", "differences")}
            tags = {
                tag: Part(part["prompts"], _table(part["means"]), _table(part["differences"]))
                for tag, part in data.get("tags", {}).items()
            }
            detections = {thing: Detection(**fields) for thing, fields in data.get("detections", {}).items()}
            groups = [Group(**{**group, "seeds": tuple(group.get("seeds", ()))}) for group in data["groups"]]
            shares = {label: Share(**fields) for label, fields in data.get("shares", {}).items()}
            return cls(**{**data, **tables, "groups": groups, "detections": detections, "shares": shares, "tags": tags})
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(
                f"{str(root / MEASURES)!r} is no {MEASURES} of this version ({type(error).__name__}: {error}); "
                "run negguide measure again"
            ) from error


def measure(
    root: Path,
    clip: str | None = None,
    baseline: str | None = None,
    prompt: str | None = None,
    negatives: Sequence[str] = (),
    judges: Sequence[Judge] | None = None,
    more: More = NOTHING_MORE,
    judging: type[Judging] | Callable[..., Judging] = Judging,
) -> Measures:
    """Judge every picture of a folder; writes `measures.json` and `measures.parquet` (a row per picture and measure) into it.

    `clip`: as in `compare --clip`; Toybox pictures have judges of their own. `baseline`: what the others are compared
    with, by default "plain" or else the first. `prompt`, `negatives`: of a foreign folder, see `gather`. `more`: what else.
    `judging`: what makes the judges look, of the folder, the judges of each bundle and the CLIP whose features are kept.
    `ValueError` if there is no picture, no such baseline, or a judge cannot be loaded.
    """
    gathered = look_into(root, prompt, negatives)
    records = gathered.records
    several = len({record["model"] for record in records}) > 1
    for record in records:
        record["label"] = f"{record['model']} · {record['label']}" if several else record["label"]
    labels = list(dict.fromkeys(record["label"] for record in records))
    baseline = _baseline(labels, baseline)
    if more.truth is not None:
        read_truth(more.truth, records)
    models = {bundle_of(record): record["model"] for record in records}
    judges_by_bundle, absent = judges_of(models, clip, more, judges)
    kept = keep_features(judges_by_bundle)
    against = pictures_of(more.against) if more.against else []
    references = kept.images(pictures_of(more.references)) if more.references and kept is not None else None
    if more.references and kept is None:
        absent.append("likeness to references needs a CLIP: name one with --clip")
    at_work = judging(root, judges_by_bundle, kept)
    groups = at_work.groups(records)
    pairs = at_work.pairs(groups, baseline)
    every = _every(groups, pairs)
    thresholds, untold = detections(records)
    if more.truth is not None:
        apply_thresholds(records, every, thresholds)
    whole = {id(group) for group in groups}
    add_novelty([(group, id(group) not in whole) for group in every], _features(records), baseline)
    if references is not None:
        add_references(records, every, references)
    sets, missing = set_scores(root, records, against, kept)
    measures = Measures(
        judge="; ".join(dict.fromkeys(judge.name for some in judges_by_bundle.values() for judge in some)),
        baseline=baseline,
        pictures=sum("broken" not in record for record in records),
        prompts=len({record["row"] for record in records}),
        means={label: {**row, **sets.get(label, {})} for label, row in means(groups, labels).items()},
        differences=differences(pairs, labels, baseline),
        groups=groups,
        skipped=at_work.skipped,
        absent=[*absent, *missing, *untold],
        detections=thresholds,
        planned=gathered.planned,
        notes=list(gathered.notes),
        shares=_shares(groups, pairs, labels),
        tags=by_tag(groups, pairs, labels, baseline),
    )
    measures.save(root)
    save_pictures(root, records)
    return measures


def _table(data: Mapping[str, Mapping[str, Any]]) -> Table:
    return {label: {key: Interval(**fields) for key, fields in row.items()} for label, row in data.items()}


def _baseline(labels: Sequence[str], wanted: str | None) -> str:
    """The label that is meant; with several models, that of the first one."""
    name = wanted or "plain"
    label_of_name = name if name in labels else next((label for label in labels if label.endswith(f" · {name}")), None)
    if label_of_name is None and wanted is not None:
        raise ValueError(f"the baseline {wanted!r} is not there; possible: {', '.join(labels)}")
    return label_of_name or labels[0]


def _every(groups: Sequence[Group], pairs: Mapping[str, Sequence[Pair]]) -> list[Group]:
    """All groups, those that were judged again on common seeds too, each once."""
    again = [group for several in pairs.values() for pair in several for group in pair]
    return list({id(group): group for group in [*groups, *again]}.values())


def _shares(groups: Sequence[Group], pairs: Mapping[str, Sequence[Pair]], labels: Sequence[str]) -> dict[str, Share]:
    shares = {}
    for label in labels:
        own = [group for group in groups if group.label == label]
        paired = [group for group, _ in pairs.get(label, ())]
        shares[label] = Share(_pictures(own), len(own), _pictures(paired), len(paired))
    return shares


def _pictures(groups: Iterable[Group]) -> int:
    return sum(len(group.seeds) for group in groups)


def judges_of(
    models: Mapping[str, str], clip: str | None, more: More, judges: Sequence[Judge] | None = None
) -> tuple[dict[str, list[Judge]], list[str]]:
    """The judges of each bundle (of which a model is named), and a line for each measure that cannot be had here."""
    extra, absent = extra_judges(more.names)
    asked = [AskedJudge(more.judge)] if more.judge else []
    judges_by_bundle = {
        bundle: [*in_order(asked, judges if judges is not None else judges_for(model, clip)), *extra]
        for bundle, model in models.items()
    }
    return judges_by_bundle, absent


def keep_features(judges: Mapping[str, Sequence[Judge]]) -> Kept | None:
    """Have the first CLIP among the judges remember its features; None without any."""
    for judge in (judge for some in judges.values() for judge in some):
        if isinstance(judge, ClipJudge):
            judge.clip = kept = Kept(judge.clip)
            return kept
    return None


def _features(records: Sequence[Record]) -> dict[tuple[str, int], dict[int, Tensor]]:
    """Features by label and row, then by seed."""
    features: dict[tuple[str, int], dict[int, Tensor]] = defaultdict(dict)
    for record in records:
        if "features" in record:
            features[record["label"], record["row"]][record["seed"]] = record["features"]
    return features
