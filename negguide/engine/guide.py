"""`guide`: methods for a sampling loop of one's own, with no pipeline of diffusers and nothing patched."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from negguide.methods.base import OWN, Condition, Guidance, Method, Step
from negguide.methods.finish import finished
from negguide.methods.state import RunState
from negguide.methods.step import Embedded
from negguide.pipeline.layout import Layout
from negguide.pipeline.schedule import Schedule, read_schedule


def guide(
    predict: Callable[[Tensor, Any, Any], Tensor],
    *methods: Method,
    prompt: str,
    encode: Callable[[str], object],
    scheduler: object,
    guidance_scale: float,
    negative_prompt: str = "",
) -> GuidedDenoiser:
    """Let methods guide a hand-written loop; call the result where the loop asks its denoiser and guides.

        guided = negguide.guide(predict, negguide.PerpNeg("glasses"), prompt="a portrait", encode=encode,
                                scheduler=scheduler, guidance_scale=7.5)
        for t in scheduler.timesteps:
            latents = scheduler.step(guided(latents, t), t, latents).prev_sample

    Make a new one for each run: it counts the steps, and methods remember things from step to step.

    Args:
        predict: `predict(sample, timestep, text)`, the denoiser's prediction (B, ...) for one text; scales the model's input
            where the scheduler wants that. `text` is what `encode` gave, or the `embeds` of a `Negative`.
        methods: those that act on predictions or clean estimates, in this order.
        prompt: the text to draw.
        encode: makes of a text whatever `predict` reads; asked once for each text.
        scheduler: a scheduler of diffusers after `set_timesteps`; only read.
        guidance_scale: w of `uncond + w (cond - uncond)`.
        negative_prompt: what stands in the negative place where no method puts something else there.

    Raises:
        ValueError: for methods that exclude each other, that work inside the denoiser or on embeddings, and at the first
            step for one text per prompt or image.
    """
    for method in methods:
        method.check_beside([other for other in methods if other is not method])
        inside = type(method).listens is not Method.listens or bool(method.companions())
        if inside or method.edits_embeddings:
            name = method.name or type(method).__name__
            raise ValueError(
                f"{name} works inside the denoiser or on embeddings, which a prediction does not show: use "
                "negguide.processors (NAG, NegToMe), or negguide.attach with a pipeline"
            )
    return GuidedDenoiser(predict, methods, prompt, encode, scheduler, guidance_scale, negative_prompt)


class GuidedDenoiser:
    """The denoiser of one run of a loop, guided. `passes`: predictions asked for so far."""

    def __init__(
        self,
        predict: Callable[[Tensor, Any, Any], Tensor],
        methods: tuple[Method, ...],
        prompt: str,
        encode: Callable[[str], object],
        scheduler: object,
        guidance_scale: float,
        negative_prompt: str,
    ) -> None:
        self.passes = 0
        self._predict = predict
        self._methods: list[tuple[Method, RunState]] = [(method, {}) for method in methods]
        self._prompt, self._negative = prompt, negative_prompt
        self._encoded = functools.cache(encode)
        self._scheduler, self._scale = scheduler, guidance_scale
        self._schedule: Schedule | None = None
        self._index = 0

    def __call__(self, sample: Tensor, timestep: object) -> Tensor:
        """The guided prediction (B, ...) at a step, for the scheduler. `sample`: as the scheduler holds it, not scaled."""
        step = self._step(sample, timestep)
        ask = functools.cache(functools.partial(self._asked, sample, timestep))
        cond = ask(self._prompt)
        if not all(method.guides_now(step, state) for method, state in self._methods):
            return finished(Guidance(step, cond, cond, 1.0, {}), self._methods)
        wanted = [c for method, state in self._methods for c in method.conditions(step, state)]
        bases = [condition for condition in wanted if condition.role == "base"]
        predictions = {condition: ask(self._text(condition)) for condition in wanted}
        if not wanted and self._scale == 1.0:
            return finished(Guidance(step, cond, cond, 1.0, {}), self._methods)
        base = ask(self._text(bases[0] if bases else OWN))
        guidance = Guidance(step, cond, base, self._scale, predictions)
        for method, state in self._methods:
            method.combine(guidance, state)
        return finished(guidance, self._methods)

    def _asked(self, sample: Tensor, timestep: object, text: str | Embedded) -> Tensor:
        self.passes += 1
        given = text.embeds if isinstance(text, Embedded) else self._encoded(text)
        return self._predict(sample, timestep, given)

    def _text(self, condition: Condition) -> str | Embedded:
        if condition.own:
            return self._negative
        if condition.prompt is None:
            return ""
        if not isinstance(condition.prompt, (str, Embedded)):
            raise ValueError(f"guide takes one text for all images, not {condition.prompt!r}; use negguide.attach")
        return condition.prompt

    def _step(self, sample: Tensor, timestep: object) -> Step:
        if self._schedule is None:
            self._schedule = read_schedule(self._scheduler, float(torch.as_tensor(timestep).flatten()[0]), None)
        schedule, at = self._schedule, self._index
        if at >= len(schedule.timesteps):
            raise ValueError(f"step {at + 1} of {len(schedule.timesteps)}: make a new negguide.guide(...) for each run")
        self._index += 1
        return Step(
            index=at,
            count=len(schedule.timesteps),
            sigma=schedule.sigmas[at],
            timestep=schedule.timesteps[at],
            sample=sample,
            prediction_type=schedule.prediction,
            to_denoised=functools.partial(schedule.to_denoised, sample=sample, index=at),
            from_denoised=functools.partial(schedule.from_denoised, sample=sample, index=at),
            resize_mask=functools.partial(Layout(tuple(sample.shape)).mask, like=sample),
        )
