"""Make pairs from the same seed, with and without a thing, and keep those that the judges confirm."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from negguide.experiment.arms import Arm
from negguide.experiment.judges import Judge, judge_all
from negguide.experiment.models import Model
from negguide.experiment.sampling import Settings, make
from negguide.experiment.tasks import Task
from negguide.methods import Negative

if TYPE_CHECKING:
    from PIL.Image import Image

WITH, WITHOUT = "{prompt} with {thing}", "{prompt} without {thing}"


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two pictures of one seed that differ in a thing.

    `caption_with` and `caption_without` say what each shows: each is the *hard negative* of the other, since one word tells them
    apart. `kept`: whether the judges confirm it; `reason`: why, or why not.
    """

    prompt: str
    thing: str
    seed: int
    with_it: Image
    without: Image
    caption_with: str
    caption_without: str
    kept: bool
    reason: str


def pairs(
    model: Model,
    tasks: Sequence[Task],
    seeds: Sequence[int],
    arm: Arm,
    judges: Sequence[Judge],
    settings: Settings,
    batch: int = 4,
    say: str = "{prompt}",
    captions: tuple[str, str] = (WITH, WITHOUT),
    tell: Callable[[str, float], None] = lambda what, pictures: None,
) -> Iterator[Pair]:
    """A pair for each task, negative and seed, in this order.

    Args:
        model: makes the pictures.
        tasks: prompts with what is to be with and without.
        seeds: one pair each.
        arm: the methods that take the thing out.
        judges: say whether the thing is there, and whether the subject is; without either, nothing is kept.
        settings: of sampling.
        batch: pictures of a call.
        say: what the picture with the thing is asked for; "{prompt} with {thing}" where it is rarely there by itself.
        captions: how pictures with the thing and without it are described.
        tell: hears what is made, and how many pictures more are done.
    """
    for task in tasks:
        for negative in task.negatives:
            thing, asked = str(negative.prompt), said(say, task.prompt, str(negative.prompt))
            for start in range(0, len(seeds), batch):
                part = list(seeds[start : start + batch])

                def count(pictures: float, what: str = f"{thing} · {task.prompt}") -> None:
                    tell(what, pictures)

                plain = make(model, settings, asked, (), part, count).images
                other = make(model, settings, task.prompt, arm.build((negative,)), part, count).images
                for seed, with_it, without in zip(part, plain, other, strict=True):
                    kept, reason = verdict_on(judges, task.prompt, negative, with_it, without)
                    yield Pair(
                        task.prompt,
                        thing,
                        seed,
                        with_it,
                        without,
                        said(captions[0], task.prompt, thing),
                        said(captions[1], task.prompt, thing),
                        kept,
                        reason,
                    )


def said(form: str, prompt: str, thing: str) -> str:
    """A prompt and a thing in words: "a face with glasses"; a thing in the singular gets its article."""
    bare = thing.split()[0].lower() in ("a", "an", "the", "some") or thing.lower().endswith("s") or " " in thing
    article = "" if bare else "an " if thing[:1].lower() in "aeiou" else "a "
    return form.replace("{prompt}", prompt).replace("{thing}", f"{article}{thing}")


def verdict_on(
    judges: Sequence[Judge], prompt: str, negative: Negative, with_it: Image, without: Image
) -> tuple[bool, str]:
    """(whether a pair is one, why): the thing is in the first and not in the second, and the subject in both."""
    task = Task(prompt, (negative,))
    first, second = (judge_all(judges, [picture], task) for picture in (with_it, without))
    if first.shows_negative is None or second.shows_negative is None:
        return False, f"no judge can say whether {negative.prompt} is there"
    if not first.shows_negative[0]:
        return False, f"{negative.prompt} is not in the picture that should have it"
    if second.shows_negative[0]:
        return False, f"{negative.prompt} is still there"
    for what, verdict in (("with", first), ("without", second)):
        if verdict.scores.get("subject", 1.0) < 0.5:
            return False, f"the subject is gone in the picture {what} {negative.prompt}"
    subject = ", the subject in both" if "subject" in first.scores else ""
    return True, f"{negative.prompt} is in the one and not in the other{subject}"
