"""Pictures of one prompt under one method, and what judges find on them; pairs of such groups on the same seeds."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from negguide.batch.more import Kept
from negguide.batch.store import Record
from negguide.experiment.columns import mean_scores
from negguide.experiment.judges import Judge, judge_all
from negguide.experiment.pictures import Pictures
from negguide.experiment.tasks import Task, make_tasks
from negguide.names import bundled_model

if TYPE_CHECKING:
    from PIL.Image import Image

COSTS = ("passes", "seconds")


@dataclasses.dataclass(frozen=True)
class Group:
    """The pictures of these seeds of one prompt under one method of one model, and what was found on them."""

    label: str
    row: int
    text: str
    scores: dict[str, float]
    seeds: tuple[int, ...] = ()
    tag: str = ""
    """What the prompts file calls prompts of its kind; empty where it does not."""


Key = tuple[str, int, tuple[int, ...]]


def _key(group: Group, seeds: tuple[int, ...]) -> Key:
    return group.label, group.row, seeds


Pair = tuple[Group, Group]
"""A method's group and the baseline's, of the same prompt and the same seeds."""


def bundle_of(record: Record) -> str:
    """The bundle that a picture's model belongs to, whose judges know its pictures; "" for any other model."""
    bundled = bundled_model(record["model"])
    return bundled.bundle.name if bundled else ""


class Judging:
    """Judges at work on a folder. `skipped`: what could not be read or judged, with the reason."""

    def __init__(self, root: Path, judges: Mapping[str, Sequence[Judge]], kept: Kept | None) -> None:
        self.root, self._judges, self._kept = root, judges, kept
        self.skipped: list[str] = []
        self._members: dict[tuple[str, int], dict[int, Record]] = defaultdict(dict)

    def groups(self, records: Sequence[Record]) -> list[Group]:
        """Every group judged; what a judge says of a picture is added to its record, `broken` to those without a picture."""
        members: dict[tuple[str, int], list[Record]] = defaultdict(list)
        for record in records:
            members[record["label"], record["row"]].append(record)
        groups = []
        for (label, row), group in zip(members, self.judged(list(members.values())), strict=True):
            good = [record for record in members[label, row] if "broken" not in record]
            if group is not None:
                self._members[label, row] = {record["seed"]: record for record in good}
                groups.append(group)
        return groups

    def judged(self, groups: Sequence[Sequence[Record]]) -> list[Group | None]:
        """The groups of these records, in their order; None where no picture of one can be read. Notes as in `groups`."""
        return [self._judged(records) for records in groups]

    def _judged(self, records: Sequence[Record]) -> Group | None:
        pictures, broken = Pictures.readable([self.root / record["file"] for record in records])
        for place in broken:
            records[place]["broken"] = True
            self.skipped.append(f"{records[place]['file']}: it cannot be read as a picture")
        good = [record for record in records if "broken" not in record]
        return self._group(good, pictures) if good else None

    def pairs(self, groups: Sequence[Group], baseline: str) -> dict[str, list[Pair]]:
        """Each label's groups beside the baseline's, judged again on the seeds that both have where one has others."""
        base = {group.row: group for group in groups if group.label == baseline}
        beside: list[tuple[Group, Group, tuple[int, ...]]] = []
        for group in groups:
            if group.label == baseline or group.row not in base:
                continue
            common = tuple(sorted(seed for seed in group.seeds if seed in base[group.row].seeds))
            if common:
                beside.append((group, base[group.row], common))
        parts = {_key(group, seeds) for *pair, seeds in beside for group in pair if set(seeds) != set(group.seeds)}
        again = dict(zip(sorted(parts), self.judged([self._records(*key) for key in sorted(parts)]), strict=True))
        pairs: dict[str, list[Pair]] = defaultdict(list)
        for *pair, seeds in beside:
            first, second = (again.get(_key(group, seeds)) or group for group in pair)
            pairs[first.label].append((first, second))
        return pairs

    def _records(self, label: str, row: int, seeds: tuple[int, ...]) -> list[Record]:
        return [self._members[label, row][seed] for seed in seeds]

    def _group(self, records: Sequence[Record], pictures: Sequence[Image]) -> Group:
        first = records[0]
        try:
            judges = self._judges[bundle_of(first)]
            scores = self._judge(records, pictures, judges)
        except Exception as error:  # a judge that fails on one group must not cost the others
            self.skipped.append(f"{first['label']} on {first['text']!r}: {type(error).__name__}: {error}")
            scores = {}
        costs = mean_scores([{key: record[key] for key in COSTS if record.get(key) is not None} for record in records])
        text = first["text"] or first["file"].rpartition("/")[0]
        seeds = tuple(record["seed"] for record in records)
        tag = (first.get("metadata") or {}).get("tag")
        return Group(first["label"], first["row"], text, {**scores, **costs}, seeds, "" if tag is None else str(tag))

    def _judge(self, records: Sequence[Record], images: Sequence[Image], judges: Sequence[Judge]) -> dict[str, float]:
        text = records[0]["text"]
        (task,) = make_tasks([text], []) if text.strip() and records[0]["prompt"] else (Task("", ()),)
        kept = self._kept
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
