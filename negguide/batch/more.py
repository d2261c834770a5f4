"""Measures that are asked for: perceptual distances, other kernels, sets against sets, references, a judge that is judged."""

from __future__ import annotations

import dataclasses
import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from negguide.batch.gather import gather
from negguide.batch.store import Record
from negguide.experiment.columns import COLUMNS, Column
from negguide.experiment.judges import ZERO_SHOT, Judge, Verdict
from negguide.experiment.pictures import Pictures
from negguide.experiment.tasks import Task
from negguide.experiment.textfile import lines_of, read_text
from negguide.metrics import Clip, Interval
from negguide.metrics.absent import Absent
from negguide.metrics.detection import Detection, detect
from negguide.metrics.distances import cmmd, fid, inception, kid
from negguide.metrics.novelty import nearest, novelty, total_variance
from negguide.metrics.registry import metrics

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

MORE_COLUMNS: tuple[Column, ...] = (
    Column(
        "novelty", "novelty", "{:.3f}", "high", "distance to the nearest baseline picture of the prompt, own seed aside"
    ),
    Column("variance", "total variance", "{:.3f}", "high", "trace of the covariance of all pictures' CLIP features"),
    Column("reference", "like references", "{:.3f}", "", "CLIP cosine to the nearest reference picture, mean"),
    Column("fid", "FID", "{:.2f}", "low", "Frechet distance to the other folder, Inception features"),
    Column("kid", "KID", "{:.4f}", "low", "kernel distance to the other folder, Inception features"),
    Column("fid_clip", "FID (CLIP)", "{:.3f}", "low", "Frechet distance to the other folder, features of the CLIP"),
    Column("kid_clip", "KID (CLIP)", "{:.4f}", "low", "kernel distance to the other folder, features of the CLIP"),
    Column("cmmd", "CMMD", "{:.2f}", "low", "CMMD to the other folder, features of the CLIP"),
    Column(
        "novelty_against", "novelty (folder)", "{:.3f}", "high", "distance to the nearest picture of the other folder"
    ),
)


def all_columns() -> tuple[Column, ...]:
    """Every column that a table may have."""
    return (*COLUMNS, *MORE_COLUMNS, *(column for metric in metrics().values() for column in metric.columns))


@dataclasses.dataclass(frozen=True)
class More:
    """What to measure beside the usual.

    Args:
        names: of metrics, with options.
        against: a folder of pictures that sets are held against.
        references: one of pictures to look for.
        truth: JSON lines `{"file": ..., "shows": [negatives]}` of looked-at pictures.
        judge: a vision-language model that is asked, "vqa:<model>" or "chat:<model>".
    """

    names: Sequence[str] = ()
    against: Path | None = None
    references: Path | None = None
    truth: Path | None = None
    judge: str | None = None

    def __post_init__(self) -> None:
        for asked in self.names:
            name, _, option = asked.partition("=")
            registered = metrics()
            if name not in registered or (option and not registered[name].options):
                raise ValueError(
                    f"unknown measure {asked!r}; possible: {'; '.join(m.asked for m in registered.values())}"
                )


class SetJudge:
    """A number for the pictures of a prompt together, where there are two or more."""

    def __init__(self, name: str, scores: Callable[[Sequence[Image]], dict[str, float]]) -> None:
        self.name, self._scores = name, scores

    def judge(self, pictures: Sequence[Image], task: Task) -> Verdict:
        return Verdict(self._scores(pictures) if len(pictures) > 1 else {})


def extra_judges(names: Sequence[str]) -> tuple[list[Judge], list[str]]:
    """Judges for the names of a `More`, and a line for each whose weights are not here."""
    judges: list[Judge] = []
    absent: list[str] = []
    for asked in names:
        name, _, option = asked.partition("=")
        try:
            judges.append(SetJudge(*metrics()[name].load(option)))
        except Absent as error:
            absent.append(str(error))
    return judges, absent


class Kept(Clip):
    """A CLIP that remembers the features of its last pictures."""

    def __init__(self, clip: Clip) -> None:
        super().__init__(clip.name, clip.model, clip.preprocess, clip.tokenizer)
        self.last: Tensor | None = None

    def images(self, pictures: Sequence[Image]) -> Tensor:
        self.last = features = super().images(pictures)
        return features


def pictures_of(folder: Path) -> Pictures:
    """All pictures of a folder that can be read. `ValueError` when there is none."""
    if not folder.is_dir():
        raise ValueError(f"there is no folder {str(folder)!r}")
    pictures, _ = Pictures.readable([folder / record["file"] for record in gather(folder)])
    if not pictures:
        raise ValueError(f"no picture in {str(folder)!r} can be read")
    return pictures


def add_novelty(
    groups: Sequence[tuple[Any, bool]], features: Mapping[tuple[str, int], Mapping[int, Tensor]], baseline: str
) -> None:
    """How far pictures are from the baseline's of the same prompt; of the same seed is never compared, also not by others,
    so that every method is held against equally many. `groups`: each with whether only its own seeds count of the baseline.
    """
    import torch

    for group, is_common in groups:
        rows, base = features.get((group.label, group.row), {}), features.get((baseline, group.row), {})
        seeds = [seed for seed in group.seeds if seed in rows]
        others = [seed for seed in base if seed in group.seeds or not is_common]
        if not seeds or not others:
            continue
        ours, theirs = torch.stack([rows[seed] for seed in seeds]), torch.stack([base[seed] for seed in others])
        is_own = torch.tensor(seeds)[:, None] == torch.tensor(others)
        with_others = ~is_own.all(1)
        if with_others.any():
            group.scores["novelty"] = float(1 - nearest(ours[with_others], theirs, is_own[with_others]).mean())


def add_references(records: Sequence[Record], groups: Sequence[object], references: Tensor) -> None:
    """How like the nearest reference each picture looks."""
    values: dict[tuple[str, int], dict[int, float]] = defaultdict(dict)
    for record in records:
        if "features" in record:
            value = float(nearest(record["features"][None], references)[0])
            record["scores"]["reference"] = value
            values[record["label"], record["row"]][record["seed"]] = value
    _add_means(groups, values, "reference")


def _add_means(groups: Sequence[Any], values: Mapping[tuple[str, int], Mapping[int, float]], name: str) -> None:
    """The mean of what is known of a group's pictures, by (label, row) and seed, as a score of it."""
    for group in groups:
        by_seed = values.get((group.label, group.row), {})
        if scores := [by_seed[seed] for seed in group.seeds if seed in by_seed]:
            group.scores[name] = sum(scores) / len(scores)


def set_scores(
    root: Path, records: Sequence[Record], against: Sequence[Image], clip: Any
) -> tuple[dict[str, dict[str, Interval]], list[str]]:
    """Scores of each label's pictures as one set, and what could not be measured. `against` may be empty, `clip` None."""
    import torch

    sets: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        if "broken" not in record:
            sets[record["label"]].append(record)
    scores_of: dict[str, dict[str, Interval]] = {label: {} for label in sets}
    absent: list[str] = []
    theirs = clip.images(against) if against and clip is not None else None
    for label, pictures in sets.items():
        rows = [record["features"] for record in pictures if "features" in record]
        if len(rows) > 1:
            ours = torch.stack(rows)
            scores = {"variance": total_variance(ours)}
            if theirs is not None:
                scores |= {"novelty_against": novelty(ours, theirs), **_distances(ours, theirs, "_clip", absent)}
            scores_of[label] |= {key: Interval(value, None, None, len(rows)) for key, value in scores.items()}
    if against:
        try:
            seen = inception()
            other = seen(against)
            for label, pictures in sets.items():
                opened = Pictures([root / record["file"] for record in pictures])
                scores = _distances(seen(opened), other, "", absent)
                scores_of[label] |= {key: Interval(value, None, None, len(opened)) for key, value in scores.items()}
        except Absent as error:
            absent.append(str(error))
    return scores_of, list(dict.fromkeys(absent))


def _distances(ours: Tensor, theirs: Tensor, ending: str, absent: list[str]) -> dict[str, float]:
    if min(len(ours), len(theirs)) < 2:
        absent.append("FID and KID need at least 2 pictures on both sides")
        return {}
    try:
        scores = {f"fid{ending}": fid(ours, theirs), f"kid{ending}": kid(ours, theirs)[0]}
        return {**scores, "cmmd": cmmd(ours, theirs)} if ending else scores
    except Absent as error:
        absent.append(str(error))
        return {}


def read_truth(file: Path, records: Sequence[Record]) -> None:
    """Note at each picture what a person saw on it. `ValueError` for lines that cannot be read or mean no picture."""
    by_file = {record["file"]: record for record in records}
    for number, line in enumerate(lines_of(read_text(file, "the truth")), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            name, shows = row["file"], {str(thing) for thing in row["shows"]}
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f'{file}, line {number}: an object like {{"file": "a/1.png", "shows": ["hat"]}} is needed'
            ) from error
        if name not in by_file:
            raise ValueError(f"{file}, line {number}: no measured picture is {name!r}; files are told from the folder")
        record = by_file[name]
        if wrong := shows - set(record["negatives"]):
            raise ValueError(
                f"{file}, line {number}: {min(wrong)!r} is no negative of it; possible: {record['negatives']}"
            )
        record["truth"] = {thing: thing in shows for thing in record["negatives"]}


def detections(records: Sequence[Record]) -> tuple[dict[str, Detection], list[str]]:
    """For each negative with a known truth, how far zero-shot CLIP can be trusted; and why it cannot be told for others."""
    by_thing, untold = {}, []
    things = dict.fromkeys(thing for record in records for thing in record.get("truth", {}))
    for thing in things:
        labelled = [r for r in records if thing in r.get("truth", {}) and ZERO_SHOT + thing in r.get("scores", {})]
        if not labelled:
            continue
        scores, truth = [r["scores"][ZERO_SHOT + thing] for r in labelled], [r["truth"][thing] for r in labelled]
        try:
            by_thing[thing] = detect(scores, truth, [r["seed"] for r in labelled])
        except ValueError as error:
            untold.append(f"trust in zero-shot {thing!r}: {error}")
    return by_thing, untold


def apply_thresholds(records: Sequence[Record], groups: Sequence[object], by_thing: Mapping[str, Detection]) -> None:
    """Replace CLIP's probabilities by yes and no at calibrated thresholds, where all negatives of a prompt have one."""
    shown: dict[tuple[str, int], dict[int, float]] = defaultdict(dict)
    for record in records:
        things = record["negatives"]
        if not things or not all(
            thing in by_thing and ZERO_SHOT + thing in record.get("scores", {}) for thing in things
        ):
            continue
        seen = {thing: record["scores"][ZERO_SHOT + thing] > by_thing[thing].threshold for thing in things}
        record["scores"] |= {f"presence of {thing}": float(value) for thing, value in seen.items()}
        record["shows_negative"] = any(seen.values())
        shown[record["label"], record["row"]][record["seed"]] = float(record["shows_negative"])
    _add_means(groups, shown, "presence")
