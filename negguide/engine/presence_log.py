"""A callback that only looks: what a watcher sees in the forming pictures of a plain pipeline, step by step."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from negguide.engine import latents as of_latents
from negguide.pipeline.families import Unsupported
from negguide.pipeline.layout import Layout
from negguide.types import PipelineLike
from negguide.watchers import Answer, Watcher, as_watcher
from negguide.watchers.protocol import as_answers
from negguide.watchers.questions import about
from negguide.watchers.words import says_yes


@dataclasses.dataclass(frozen=True)
class Presence:
    """How sure a watcher was, after a step, that each thing is in each picture.

    `scores[image][thing]`: 1 surely there, 0 surely not; None where the watcher gave no answer.
    """

    step: int
    timestep: float
    scores: tuple[dict[str, float | None], ...]


class PresenceLog:
    """A `callback_on_step_end` that writes down what is in the pictures and changes nothing; no pipeline is attached.

        log = negguide.PresenceLog(watcher, ["hat", "glasses"], every=5)
        pipe("a portrait of a person", callback_on_step_end=log)
        log.entries[-1].scores[0]["hat"]

    It sees the latents as a step leaves them, with their noise: early looks see little. Methods that watch through `attach`
    see the clean estimate instead. The last step is always looked at; a new call begins a new log.

    Args:
        watcher: a watcher, its name or its JSON form; asked a yes-or-no question for each thing.
        things: what to look for.
        every: steps from one look to the next.
        longest: most pixels at the longer side of what the watcher gets; None: the full size.

    Raises:
        ValueError: for no things, or `every` below 1.
        Unsupported: in the call, where latents are no (B, C, H, W) (packed ones, videos).
    """

    def __init__(
        self, watcher: object, things: str | Sequence[str], every: int = 1, longest: int | None = None
    ) -> None:
        self.watcher: Watcher = as_watcher(watcher)
        self.things = (things,) if isinstance(things, str) else tuple(things)
        if not self.things or not all(thing.strip() for thing in self.things):
            raise ValueError(f"things is {things!r}; say what to look for, e.g. ['hat']")
        if every < 1:
            raise ValueError(f"every={every}: looks are at least one step apart")
        self.every, self.longest = every, longest
        self.entries: list[Presence] = []

    def __call__(
        self, pipe: PipelineLike, step: int, timestep: Any, callback_kwargs: dict[str, Any]
    ) -> dict[str, object]:
        """One look, if it is time for one; gives nothing back that changes the run."""
        if step == 0:
            self.entries = []
        last = step + 1 >= (getattr(pipe, "num_timesteps", None) or len(pipe.scheduler.timesteps))
        if step % self.every and not last:
            return {}
        if "latents" not in callback_kwargs:
            raise ValueError("PresenceLog looks at latents: leave 'latents' in callback_on_step_end_tensor_inputs")
        scores = self._scores(pipe, callback_kwargs["latents"])
        self.entries.append(Presence(step, float(torch.as_tensor(timestep).flatten()[0]), scores))
        return {}

    def _scores(self, pipe: object, latents: Tensor) -> tuple[dict[str, float | None], ...]:
        if latents.ndim != 4:
            raise Unsupported(
                f"PresenceLog reads latents (B, C, H, W), this pipeline has {tuple(latents.shape)}; attach a method that "
                "watches, e.g. negguide.AdaptiveNegatives"
            )
        pictures = of_latents.decode(pipe, Layout(tuple(latents.shape)), latents.detach(), longest=self.longest)
        questions = about(self.things)
        rows = as_answers(self.watcher(pictures, questions), len(pictures), len(questions))
        return tuple(
            {thing: _sureness(answers) for thing, answers in zip(self.things, row, strict=True)} for row in rows
        )


def _sureness(answers: Sequence[Answer]) -> float | None:
    """How sure it is that the thing is there; the surest of several answers."""
    if not answers:
        return None
    best = max(answers, key=lambda answer: 1.0 if answer.confidence is None else answer.confidence)
    sure = 1.0 if best.confidence is None else best.confidence
    return sure if says_yes(best.text) else 1.0 - sure
