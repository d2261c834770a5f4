"""A judge that asks a vision-language model: is the main thing there, is what was negated, how good is the picture?"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from negguide.experiment.judges import Judge, Verdict, presence_of
from negguide.experiment.tasks import Task
from negguide.watchers import as_watcher
from negguide.watchers.protocol import Answer, Question, as_answers
from negguide.watchers.questions import about
from negguide.watchers.words import head_noun, mentions, phrases, says_yes

if TYPE_CHECKING:
    from PIL.Image import Image

QUALITY = Question("How good is this picture, from 0 (broken) to 10 (without a fault)? Answer with a number.")
SEEN, KEPT, CLEAN, GOOD = "asked_presence", "asked_subject", "asked_clean", "asked_quality"
AT_ONCE = 16
"""Pictures that are shown together."""


class AskedJudge:
    """Asks what benchmarks of negation ask, in yes or no: so what it finds are shares of pictures, as an oracle's are.

    `asked_subject`: the main thing of the prompt (its head noun) is there. `asked_presence`: something that was negated is.
    `asked_clean`: the one and not the other. `asked_quality`: from 0 to 1, by models that talk ("chat:..."). It also has the
    word on presence and subject where no oracle has it.
    """

    def __init__(self, name: str) -> None:
        """`name`: a watcher, "vqa:<model>" or "chat:<model>"; `ValueError` says what is possible."""
        self.watcher: Any = as_watcher(name)
        self.talks = name.startswith("chat")
        self.name = f"{name}, asked (subject, presence{', quality' if self.talks else ''})"

    def judge(self, pictures: Sequence[Image], task: Task) -> Verdict:
        noun = head_noun(task.prompt)
        things = [str(negative.prompt) for negative in task.negatives]
        questions = [*about([noun] if noun else []), *about(things), *([QUALITY] if self.talks else [])]
        if not questions:
            return Verdict()
        answers: list[tuple[tuple[Answer, ...], ...]] = []
        for start in range(0, len(pictures), AT_ONCE):
            part = list(pictures[start : start + AT_ONCE])
            answers += as_answers(self.watcher(part, questions), len(part), len(questions))
        columns = [[row[place] for row in answers] for place in range(len(questions))]
        verdict = Verdict()
        kept = None
        if noun:
            kept = [_is_yes(several, noun) for several in columns.pop(0)]
            verdict.scores["subject"] = verdict.scores[KEPT] = _share(kept)
        seen_in = {thing: [_is_yes(several, thing) for several in columns.pop(0)] for thing in things}
        for negative, thing in zip(task.negatives, things, strict=True):
            verdict.each[presence_of(negative)] = [float(is_there) for is_there in seen_in[thing]]
        if seen_in:
            seen = [any(is_there) for is_there in zip(*seen_in.values(), strict=True)]
            verdict.scores["presence"] = verdict.scores[SEEN] = _share(seen)
            verdict.shows_negative = seen
            if kept is not None:
                verdict.scores[CLEAN] = _share(
                    [is_there and not other for is_there, other in zip(kept, seen, strict=True)]
                )
        if self.talks:
            marks = [mark for several in columns.pop(0) if (mark := _mark(several)) is not None]
            if marks:
                verdict.scores[GOOD] = sum(marks) / len(marks)
        return verdict


def in_order(asked: Sequence[Judge], judges: Sequence[Judge]) -> list[Judge]:
    """Judges in the order in which they have the word: those that know the truth, those that ask, the others."""
    oracles = [judge for judge in judges if getattr(judge, "knows_the_truth", False)]
    return [*oracles, *asked, *(judge for judge in judges if judge not in oracles)]


def _is_yes(several: Sequence[Answer], thing: str) -> bool:
    """Whether the surest answer is yes, or names the thing."""
    if not several:
        return False
    surest = max(several, key=lambda answer: 1.0 if answer.confidence is None else answer.confidence)
    return says_yes(surest.text) or mentions(", ".join(phrases(surest.text)), thing)


def _mark(several: Sequence[Answer]) -> float | None:
    """A number from 0 to 10 as a share; None where none was named."""
    numbers = [float(number) for answer in several[:1] for number in re.findall(r"\d+(?:\.\d+)?", answer.text)]
    return numbers[0] / 10 if numbers and numbers[0] <= 10 else None


def _share(values: Sequence[bool]) -> float:
    return sum(values) / len(values)
