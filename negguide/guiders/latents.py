"""Guiders of methods that follow the clean estimate: they read the latents that the denoiser gets, and the scheduler."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import weakref
from collections.abc import Sequence
from typing import Any, Literal, TypeVar

import torch
from diffusers.configuration_utils import register_to_config
from torch import Tensor

from negguide.guiders.base import MethodGuidance
from negguide.methods import DynamicNegative, Method
from negguide.methods.base import Guidance, Step
from negguide.methods.finish import finished
from negguide.methods.negative import ConceptLike
from negguide.methods.tokens import RunContext
from negguide.pipeline.layout import Layout, stacked
from negguide.pipeline.schedule import Schedule, read_schedule

G = TypeVar("G", bound="LatentGuidance")


class LatentGuidance(MethodGuidance):
    """Base of guiders whose method sees clean estimates.

    diffusers shows a guider no latents: those of a step are read where the denoiser gets them, in the forward for the
    prompt, and noise levels from the scheduler of the pipeline that `encode` was called with, which is not kept alive.
    """

    def __init__(self, method: Method, guidance_scale: float, start: float, stop: float, enabled: bool) -> None:
        super().__init__(method, guidance_scale, start, stop, enabled)
        self._pipe: weakref.ref[Any] | None = None
        self._schedule: Schedule | None = None
        self._input: Tensor | None = None
        self._arguments: dict[str, Any] = {}

    def encode(self: G, pipe: object, **options: object) -> G:
        """Bind the guider to a pipeline and its scheduler, and encode its texts; see `PerpNegGuidance.encode`."""
        super().encode(pipe, **options)
        self._pipe = weakref.ref(pipe)
        return self

    def new(self, **kwargs: object) -> MethodGuidance:
        """A copy with other settings, bound to the same pipeline."""
        guider: Any = super().new(**kwargs)
        guider._pipe = self._pipe
        return guider

    def prepare_models(self, denoiser: torch.nn.Module) -> None:
        super().prepare_models(denoiser)
        if self._enabled and self.is_conditional:
            parameters = [name for name in inspect.signature(denoiser.forward).parameters if name != "self"]

            def read(module: torch.nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
                handle.remove()  # at once, so that nothing is left behind where the forward fails
                self._arguments = {**dict(zip(parameters, given, strict=False)), **named}
                self._input = stacked(self._arguments[parameters[0]])

            handle = denoiser.register_forward_pre_hook(read, prepend=True, with_kwargs=True)

    def _alone(self, pred_cond: Tensor) -> Tensor:
        return self._finished(Guidance(self._as_step(pred_cond), pred_cond, pred_cond, 1.0, {}))

    def _finished(self, guidance: Guidance) -> Tensor:
        pairs = [(self.method, self._state)] if self._enabled else []
        prediction = finished(guidance, pairs, self._context(guidance.step))
        self._input, self._arguments = None, {}
        return prediction

    def _context(self, step: Step) -> RunContext | None:
        """What the method may know of the running denoiser."""
        return None

    def _forget_step(self) -> None:
        super()._forget_step()
        self._schedule = None

    def _bound(self) -> Any:
        """The pipeline that `encode` was called with."""
        if self._pipe is None or (pipe := self._pipe()) is None:
            raise RuntimeError(
                f"{type(self).__name__} reads the scheduler of its pipeline; call guider.encode(pipe) before the pipeline"
            )
        return pipe

    def _as_step(self, prediction: Tensor) -> Step:
        step = super()._as_step(prediction)
        if not self._enabled:
            return step
        if self._schedule is None or step.index == 0:
            self._schedule = read_schedule(self._bound().scheduler, step.timestep, None)
        schedule, at = self._schedule, step.index
        sample = prediction
        if self._input is not None and prediction.numel():
            sample = schedule.held(Layout(tuple(prediction.shape)).core(self._input), at)
        return dataclasses.replace(
            step,
            sigma=schedule.sigmas[at],
            sample=sample,
            prediction_type=schedule.prediction,
            to_denoised=functools.partial(schedule.to_denoised, sample=sample, index=at),
            from_denoised=functools.partial(schedule.from_denoised, sample=sample, index=at),
        )


class DynamicNegativeGuidance(LatentGuidance):
    """Dynamic negative guidance as a guider: pushes each image as hard as it is likely to show the negative.

    `eps_0 + w d_+ - sum_i w_i s p_i / (1 - p_i) d_i`, `d = eps - eps_0`, p_i = p(negative i | x_t) of each image.

    Args:
        negatives, guidance_scale, start, stop, enabled: see `PerpNegGuidance`; call `encode` for embeddings, too.
        prior: how common the negative is among the pictures of this prompt, 0 (never acts) to `p_max`.
        temperature: 0 or more, tames how strongly a step counts as evidence; 0 keeps the prior.
        offset: nats of evidence added as the noise falls; `offset_form`: by what it is counted.
        p_min: the least probability that is kept.
        p_max: the greatest, below 1; it bounds the push to `p_max / (1 - p_max)`.
        scale: s, 0 or more; None is the guidance scale.

    Raises:
        RuntimeError: in the call, if the guider was not bound to a pipeline by `encode`.

    Source: arXiv:2410.14398.
    """

    @register_to_config
    def __init__(
        self,
        negatives: ConceptLike | Sequence[ConceptLike],
        guidance_scale: float = 7.5,
        prior: float = 0.01,
        temperature: float = 0.2,
        offset: float = 0.0,
        offset_form: Literal["per fold", "per variance"] = "per fold",
        p_min: float = 1e-6,
        p_max: float = 0.8,
        scale: float | None = None,
        start: float = 0.0,
        stop: float = 1.0,
        enabled: bool = True,
    ) -> None:
        method = DynamicNegative(
            negatives,
            prior=prior,
            temperature=temperature,
            offset=offset,
            offset_form=offset_form,
            p_min=p_min,
            p_max=p_max,
            scale=scale,
            unconditional="own",
        )
        super().__init__(method, guidance_scale, start, stop, enabled)
