"""What an adaptive method remembers of one run: looks under way, what holds for each image, and the method that acts."""

from __future__ import annotations

import dataclasses
import threading
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

from negguide.methods.adaptive.config import AdaptiveOptions
from negguide.methods.adaptive.policy import (
    POLICIES,
    Held,
    Sight,
    as_held,
    distinct,
    fitted,
    is_of_groups,
    new_in,
    seen_in,
)
from negguide.methods.base import Denoised, EachImage, Method, Step
from negguide.methods.looks import passed
from negguide.methods.state import RunState
from negguide.watchers import questions as asking
from negguide.watchers.asking import Look, Outcome
from negguide.watchers.protocol import Answer, Question, Watcher

if TYPE_CHECKING:
    from torch import Tensor

    from negguide.methods.tokens import RunContext


@dataclasses.dataclass
class Inner:
    """The method that acts now, its own state, and for which images."""

    method: Method
    texts: tuple[str | None, ...]
    state: RunState = dataclasses.field(default_factory=dict)

    _on: Tensor | None = None

    def guides(self, step: Step) -> bool:
        """Whether the method that acts wants this step guided."""
        return self.method.guides_now(step, self.state)

    def looks_at(self, step: Step) -> bool:
        """Whether the method that acts wants the clean estimate of this step."""
        return self.method.sees_denoised and self.method.looks_at(step, self.state)

    def on(self, like: Tensor) -> Tensor | None:
        """(B,) bool on the device of `like`: whether an image has a negative; None where every one has."""
        import torch

        if None not in self.texts:
            return None
        if self._on is None or self._on.device != like.device:
            self._on = torch.tensor([text is not None for text in self.texts], device=like.device)
        return self._on


@dataclasses.dataclass
class _Visit:
    """A look, the step that was looked at, and what is needed to make something of it."""

    look: Look
    step: Step
    questions: tuple[tuple[Question, ...], ...]
    model: RunContext
    lasting: bool
    """Whether what is held was at work in what is looked at."""


class Session:
    """One run of `AdaptiveNegatives`."""

    def __init__(self, config: AdaptiveOptions, watcher: Watcher | None) -> None:
        self.config = config
        self.watcher = watcher
        self.inner: Inner | None = None
        self.plain: Tensor | None = None
        """Guidance of this step without the negative, where it is known at no cost."""
        self._held: list[tuple[Held, ...]] = []
        self._under_way: list[_Visit] = []
        self._late: Look | None = None
        self._passed = 0
        self._lost: list[dict[str, object]] = []
        self._turn = threading.Lock()
        self._warned: set[str] = set()
        self._surest, self._has_seen = 0.0, False
        """How sure the watcher was of anything at most, and whether it saw something."""

    def warn_once(self, message: str) -> None:
        """Warn, and say the like (by its first words) only once in a run."""
        if (like := " ".join(message.split()[:2])) not in self._warned:
            self._warned.add(like)
            warnings.warn(message, stacklevel=3)

    @property
    def _lag(self) -> int:
        """Steps from the one that is looked at to the first that is changed."""
        return 2 if self.config.asynchronous else 1

    def is_due(self, step: Step) -> bool:
        """Whether this step is looked at: a mark is met, and a step is left that could be changed."""
        config = self.config
        due = self._met(step) > self._passed
        acts_from = step.index + self._lag
        window = config.window
        open_then = window.unit == "sigma" or step.fraction(acts_from) < window.stop
        return due and acts_from < step.count and open_then

    def _met(self, step: Step) -> int:
        return passed(cast("Sequence[float]", self.config.looks), self.config.looks_unit, step)

    def look(self, denoised: Denoised) -> None:
        """Show the clean estimates of a step to the watcher; `collect` brings what it says."""
        config, step, model = self.config, denoised.step, denoised.context
        self._passed = self._met(step)
        if is_of_groups(config.policy) and all(len(group) == 1 for group in model.groups):
            self.warn_once(
                f"{config.name}: this policy looks at all pictures of a prompt, and this call makes one of each, so it does "
                "nothing; give num_images_per_prompt=4"
            )
            return
        if self._late is not None and self._late.is_running:
            self._lost.append(self._note(step, asked=False, error="the watcher is still busy with an earlier look"))
            return
        x0 = denoised.x0 if self.plain is None else step.to_denoised(self.plain)
        images = model.decode(x0, vae=config.preview, longest=config.preview_size, frames=config.frames)
        assert self.watcher is not None
        questions = tuple(self._questions(prompt) for prompt in model.prompts)
        # Of a video several frames are shown, each asked what its video is asked.
        asked = tuple(several for several in questions for _ in range(len(images) // len(questions)))
        threaded = config.asynchronous or config.timeout is not None
        look = Look(self.watcher, images, asked, self._turn if threaded else None)
        self._under_way.append(_Visit(look, step, questions, model, self.inner is not None and self.plain is None))
        if not config.asynchronous:
            look.outcome(config.timeout)

    def collect(self, step: Step) -> Iterator[dict[str, object]]:
        """Put into force what is due at a step; a note for each look that came to its end."""
        yield from self._lost
        self._lost = []
        while self._under_way and self._under_way[0].step.index + self._lag <= step.index:
            visit = self._under_way.pop(0)
            outcome = visit.look.outcome(self.config.timeout)
            if visit.look.is_running:
                self._late = visit.look
            yield self._note(visit.step, error=outcome.error) if outcome.error else self._decide(visit, outcome)

    def _questions(self, prompt: str) -> tuple[Question, ...]:
        config = self.config
        if config.questions:
            return asking.filled(cast("Sequence[Question]", config.questions), prompt)
        if config.watch:
            return asking.about(config.watch)
        return asking.of_category(config.category) if config.category else asking.of_prompt(prompt)

    def _decide(self, visit: _Visit, outcome: Outcome) -> dict[str, object]:
        """Let the policy decide for every image, and make the method that acts from now on."""
        self._held = self._held or [()] * len(visit.questions)
        by_image = _of_images(outcome.answers, len(visit.questions))
        sights = [
            self._sight(image, questions, answers, visit)
            for image, (questions, answers) in enumerate(zip(visit.questions, by_image, strict=True))
        ]
        rows = []
        for sight, wanted in zip(sights, self._wanted(sights, visit.model.groups), strict=True):
            image = sight.image
            kept, dropped = self._fitted(sight, wanted, visit.model)
            questions, answers = visit.questions[image], by_image[image]
            self._held[image] = kept
            rows.append(
                {
                    "image": image,
                    "asked": [question.text for question in questions],
                    "answered": [[_plain(answer) for answer in several] for several in answers],
                    "seen": [_plain(each) for each in sight.seen],
                    "negatives": [each.text for each in kept],
                    **({"left_out": [each.text for each in dropped]} if dropped else {}),
                }
            )
        self._act(visit.model)
        self._tell_if_never_sure(visit, by_image)
        return {**self._note(visit.step, seconds=round(outcome.seconds, 4)), "images": rows}

    def _tell_if_never_sure(self, visit: _Visit, by_image: Sequence[Sequence[Sequence[Answer]]]) -> None:
        """After the last look: warn where something was seen, and the watcher was never as sure of anything as is asked for."""
        least = self.config.min_confidence or 0.0
        answers = [answer for image in by_image for several in image for answer in several]
        self._surest = max([self._surest, *(1.0 if a.confidence is None else a.confidence for a in answers)])
        self._has_seen |= any(
            seen_in(questions, several, visit.step.index, 0.0)
            for questions, several in zip(visit.questions, by_image, strict=True)
        )
        is_last = self._met(visit.step) >= len(cast("Sequence[float]", self.config.looks))
        if is_last and self._has_seen and self._surest < least:
            self.warn_once(
                f"{self.config.name}: what the watcher saw had no effect, since it was never surer than {self._surest:.2f} and "
                f"min_confidence is {least:g}; give a lower min_confidence"
            )

    def _sight(
        self, image: int, questions: tuple[Question, ...], answers: Sequence[Sequence[Answer]], visit: _Visit
    ) -> Sight:
        """What was seen on one image, as a policy is told it."""
        config, step, prompt = self.config, visit.step, visit.model.prompts[image]
        synonyms = cast("tuple[tuple[str, ...], ...]", config.synonyms)
        seen = seen_in(questions, answers, step.index, config.min_confidence or 0.0)
        new = new_in(seen, self._held[image], (prompt, *config.keep), synonyms)
        watch, held = tuple(config.watch), self._held[image]
        return Sight(image, step.index, step.progress, prompt, seen, new, held, watch, synonyms, visit.lasting)

    def _wanted(self, sights: Sequence[Sight], groups: Sequence[Sequence[int]]) -> list[Sequence[object]]:
        """What the policy decides for each image, by itself or together with the others of its prompt."""
        policy: Any = POLICIES[self.config.policy] if isinstance(self.config.policy, str) else self.config.policy
        if not is_of_groups(self.config.policy):
            return [policy(sight) for sight in sights]
        wanted: list[Sequence[object]] = [()] * len(sights)
        for group in groups:
            decided = policy([sights[image] for image in group])
            if isinstance(decided, str) or not isinstance(decided, Sequence) or len(decided) != len(group):
                raise TypeError(
                    f"a policy for groups returned {decided!r}; needed: one list for each of {len(group)} pictures"
                )
            for image, own in zip(group, decided, strict=True):
                wanted[image] = own
        return wanted

    def _fitted(
        self, sight: Sight, wanted: Sequence[object], model: RunContext
    ) -> tuple[tuple[Held, ...], tuple[Held, ...]]:
        """(what holds from now on, what was left out) for one image."""
        config, image = self.config, sight.image
        named = distinct(as_held(wanted, sight.step), sight.synonyms)
        return fitted(named, lambda held: model.fits(self._text(held, image, model)), config.most, config.drop)

    def _text(self, held: Sequence[Held], image: int, context: RunContext) -> str:
        """The negative of an image in words; in the unconditional's place the call's own negative prompt stays at work."""
        own = context.own_negatives[image] if self.config.kind_at_work == "replace" else ""
        return ", ".join(text for text in (own, *(negative.text for negative in held)) if text.strip())

    def _act(self, context: RunContext) -> None:
        texts = tuple(self._text(held, image, context) if held else None for image, held in enumerate(self._held))
        if not any(texts):
            self.inner = None
        elif self.inner is None or self.inner.texts != texts:
            self.inner = Inner(self.config.steering(EachImage(texts)), texts)

    def _note(self, step: Step, **more: object) -> dict[str, object]:
        return {"method": self.config.name, "looked_at": step.index, "acts_from": step.index + self._lag, **more}


def _of_images(answers: Sequence[Sequence[Sequence[Answer]]], images: int) -> list[tuple[tuple[Answer, ...], ...]]:
    """The answers of each image by question, of several frames together, from those of each picture shown."""
    each = len(answers) // images
    shown = (answers[image * each : (image + 1) * each] for image in range(images))
    return [
        tuple(tuple(answer for frame in column for answer in frame) for column in zip(*frames, strict=True))
        for frames in shown
    ]


def _plain(answer: Answer | Held) -> dict[str, Any]:
    return {"text": answer.text, "confidence": None if answer.confidence is None else round(answer.confidence, 4)}
