"""Who judges the pictures: those that know their world, such as the Toybox oracle, or zero-shot CLIP, which guesses for any."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import reduce
from typing import TYPE_CHECKING, Protocol

from negguide.experiment.tasks import Task
from negguide.methods import Negative
from negguide.metrics import Clip, alignment, mss, pixels, presence, vendi
from negguide.metrics.presence import NEUTRAL, TEMPLATE
from negguide.names import bundled_model, find_bundle

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
    """Anything that can judge pictures. One with `knows_the_truth = True` is an oracle that others are held against."""

    name: str

    def judge(self, pictures: Sequence[Image], task: Task) -> Verdict:
        """Judge at least one picture of this prompt."""
        ...


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
            presences = [presence(features, thing, neutral, self.clip.scale) for thing in things]
            for negative, each in zip(task.negatives, presences, strict=True):
                verdict.each[presence_of(negative)] = verdict.each[f"{ZERO_SHOT}{negative.prompt}"] = each.tolist()
            likely = reduce(torch.maximum, presences)
            verdict.scores["presence"] = float(likely.mean())
            verdict.shows_negative = (likely > 0.5).tolist()
        return verdict


class PixelJudge:
    """Diversity of pixels, where no CLIP is at hand."""

    name = "pixels (diversity; a CLIP, --clip ViT-B-32/laion2b_s34b_b79k, also judges alignment and presence)"

    def judge(self, pictures: Sequence[Image], task: Task) -> Verdict:
        if len(pictures) < 2:
            return Verdict()
        features = pixels(pictures)
        return Verdict({"vendi": vendi(features), "mss": mss(features)})


def choose_judges(model: Model, clip: str | None) -> list[Judge]:
    """The judges for a model: those of its bundle if it has one (the Toybox's oracle and CLIP), and the CLIP of that name;
    without any, pixels.

    `clip`: a name that `load_clip` takes, for any model. `ValueError` if a judge cannot be loaded.
    """
    return judges_for(model.name, clip)


def judges_for(model_name: str, clip: str | None) -> list[Judge]:
    """`choose_judges` for pictures whose model is not loaded."""
    bundled = bundled_model(model_name)
    bundle = bundled.bundle if bundled else None
    judges: list[Judge] = list(bundle.judges()) if bundle and bundle.judges else []
    name = clip or (bundle.name if bundle and bundle.clip else None)
    if name is not None:
        judges.append(ClipJudge(load_clip(name)))
    return judges or [PixelJudge()]


def load_clip(name: str) -> Clip:
    """A CLIP by name: that of a bundle ("toybox"), or what `negguide.metrics.clip.Clip.load` takes."""
    bundle = find_bundle(name)
    if bundle is None or bundle.clip is None:
        return Clip.load(name)
    try:
        return bundle.clip()
    except (OSError, ValueError) as error:
        raise ValueError(
            f"the CLIP of {name!r} is missing: reinstall negguide, or leave judging out (--no-judge)"
        ) from error


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


def presence_of(negative: Negative) -> str:
    """The name under which a judge says, of each picture, whether a negative is there."""
    return f"presence of {negative.prompt}"
