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
        for (label, row), several in members.items():
            pictures, broken = Pictures.readable([self.root / record["file"] for record in several])
            for place in broken:
                several[place]["broken"] = True
                self.skipped.append(f"{several[place]['file']}: it cannot be read as a picture")
            good = [record for record in several if "broken" not in record]
            if good:
                self._members[label, row] = {record["seed"]: record for record in good}
                groups.append(self._group(good, pictures))
        return groups

    def pairs(self, groups: Sequence[Group], baseline: str) -> dict[str, list[Pair]]:
        """Each label's groups beside the baseline's, judged again on the seeds that both have where one has others."""
        base = {group.row: group for group in groups if group.label == baseline}
        again: dict[tuple[str, int, tuple[int, ...]], Group] = {}
        pairs: dict[str, list[Pair]] = defaultdict(list)
        for group in groups:
            if group.label == baseline or group.row not in base:
                continue
            common = tuple(seed for seed in group.seeds if seed in base[group.row].seeds)
            if common:
                both = [self._on(judged, common, again) for judged in (group, base[group.row])]
                pairs[group.label].append((both[0], both[1]))
        return pairs

    def _on(self, group: Group, seeds: tuple[int, ...], again: dict[tuple[str, int, tuple[int, ...]], Group]) -> Group:
        if set(seeds) == set(group.seeds):
            return group
        key = (group.label, group.row, tuple(sorted(seeds)))
        if key not in again:
            records = [self._members[group.label, group.row][seed] for seed in key[2]]
            again[key] = self._group(records, Pictures([self.root / record["file"] for record in records]))
        return again[key]

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
