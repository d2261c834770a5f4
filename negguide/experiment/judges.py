"""Who judges the pictures: the Toybox oracle, which knows its world, or zero-shot CLIP, which guesses for any."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import reduce
from typing import TYPE_CHECKING, Any, Protocol

from negguide.experiment.tasks import Task
from negguide.methods import Negative
from negguide.metrics import Clip, alignment, distinct, entropy, mss, presence, vendi
from negguide.metrics.presence import NEUTRAL, TEMPLATE

if TYPE_CHECKING:
    from PIL.Image import Image

    from negguide.experiment.models import Model


ZERO_SHOT = "zero-shot "
"""What the name of CLIP's own score of a negative begins with, also where an oracle has the word on its presence."""


@dataclasses.dataclass
class Verdict:
    """What was found on N pictures of one prompt. `notes`, `shows_negative`: one each; None where nothing can be said.

    `each`: name of a score -> its value on every picture; "presence of cat" for each negative.
    """

    scores: dict[str, float] = dataclasses.field(default_factory=dict)
    notes: list[str] | None = None
    shows_negative: list[bool] | None = None
    each: dict[str, list[float]] = dataclasses.field(default_factory=dict)


class Judge(Protocol):
    """Anything that can judge pictures."""

    name: str

    def judge(self, pictures: Sequence[Image], task: Task) -> Verdict:
        """Judge at least one picture of this prompt."""
        ...


class OracleJudge:
    """The Toybox oracle. Leaves out what the texts say in words that are not of its world."""

    name = "Toybox oracle (presence, subject, match, kinds)"

    def __init__(self, oracle: Any) -> None:
        self.oracle = oracle

    def judge(self, pictures: Sequence[Image], task: Task) -> Verdict:
        from negguide.toybox.phrases import parse

        seen = self.oracle.judge(list(pictures))
        verdict = Verdict({"valid": float((seen.kind != "none").mean())})
        kinds = [str(kind) for kind in seen.kind]
        verdict.scores |= {"kinds": float(distinct([k for k in kinds if k != "none"])), "entropy": entropy(kinds)}
        verdict.notes = [_note(row) for row in seen.rows()]
        try:
            asked = parse(task.prompt)
            verdict.scores["match"] = float(seen.has(task.prompt).mean())
            if asked.kinds is not None:
                verdict.scores["subject"] = sum(kind in asked.kinds for kind in kinds) / len(kinds)
        except ValueError:
            pass
        try:
            shown = [seen.has(str(negative.prompt)) for negative in task.negatives]
        except ValueError:
            return verdict
        if shown:
            verdict.shows_negative = [any(bool(one[i]) for one in shown) for i in range(len(kinds))]
            verdict.scores["presence"] = sum(verdict.shows_negative) / len(kinds)
            for negative, found in zip(task.negatives, shown, strict=True):
                verdict.each[_presence_of(negative)] = [float(value) for value in found]
        return verdict


class ClipJudge:
    """Alignment, diversity and zero-shot presence by CLIP."""

    def __init__(self, clip: Clip) -> None:
        self.clip = clip
        self.name = f"CLIP {clip.name} (alignment, diversity, zero-shot presence where no oracle judges)"

    def judge(self, pictures: Sequence[Image], task: Task) -> Verdict:
        import torch

        features = self.clip.images(pictures)
        aligned = alignment(features, self.clip.texts([task.prompt]))
        verdict = Verdict({"alignment": float(aligned.mean())}, each={"alignment": aligned.tolist()})
        if len(pictures) > 1:
            verdict.scores |= {"vendi": vendi(features), "mss": mss(features)}
        if task.negatives:
            neutral = self.clip.texts(NEUTRAL)
            things = self.clip.texts([TEMPLATE.format(negative.prompt) for negative in task.negatives])
            found = [presence(features, thing, neutral, self.clip.scale) for thing in things]
            for negative, one in zip(task.negatives, found, strict=True):
                verdict.each[_presence_of(negative)] = verdict.each[f"{ZERO_SHOT}{negative.prompt}"] = one.tolist()
            likely = reduce(torch.maximum, found)
            verdict.scores["presence"] = float(likely.mean())
            verdict.shows_negative = (likely > 0.5).tolist()
        return verdict


def choose_judges(model: Model, clip: str | None) -> list[Judge]:
    """The judges for a model: oracle and Toybox CLIP for the Toybox, the CLIP of that name (if any) for the others.

    `clip="toybox"` asks for the Toybox CLIP on any model. `ValueError` if a judge cannot be loaded.
    """
    return judges_for(model.is_toybox, clip)


def judges_for(is_toybox: bool, clip: str | None) -> list[Judge]:
    """`choose_judges` for pictures whose model is not loaded."""
    judges: list[Judge] = []
    if is_toybox:
        from negguide.toybox.oracle import Oracle

        try:
            judges.append(OracleJudge(Oracle.load()))
        except FileNotFoundError as error:
            raise ValueError(
                f"the Toybox oracle is missing ({error}); leave the judging out with --no-judge"
            ) from error
    name = clip or ("toybox" if is_toybox else None)
    if name is not None:
        judges.append(ClipJudge(load_clip(name)))
    return judges


def load_clip(name: str) -> Clip:
    """A CLIP by name; "toybox" is the bundled one."""
    if name != "toybox":
        return Clip.load(name)
    from negguide.toybox import clip as toybox_clip

    try:
        return Clip("toybox", *toybox_clip.load_clip())
    except (OSError, ValueError) as error:
        raise ValueError("the Toybox CLIP is missing: reinstall negguide, or leave judging out (--no-judge)") from error


def judge_all(judges: Sequence[Judge], pictures: Sequence[Image], task: Task) -> Verdict:
    """The verdicts of all judges as one; the first that says something about a score has the word."""
    together = Verdict()
    for judge in judges:
        verdict = judge.judge(pictures, task)
        together.scores = {**verdict.scores, **together.scores}
        together.each = {**verdict.each, **together.each}
        together.notes = together.notes or verdict.notes
        if together.shows_negative is None:
            together.shows_negative = verdict.shows_negative
    return together


def _presence_of(negative: Negative) -> str:
    return f"presence of {negative.prompt}"


def _note(row: dict[str, Any]) -> str:
    """One picture in words: "orange cat with hat, grass"."""
    if row["kind"] == "none":
        return f"nothing known, {row['background']}"
    count = "two " if row["count"] == 2 else ""
    worn = f" with {' and '.join(row['accessories'])}" if row["accessories"] else ""
    view = f", {row['view']} view" if row["view"] != "front" else ""
    style = f", {row['style']}" if row["style"] != "clean" else ""
    return f"{count}{row['colour']} {row['kind']}{worn}, {row['background']}{view}{style}"
