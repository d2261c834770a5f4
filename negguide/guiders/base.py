"""A guider of diffusers around a method: which predictions it wants at a step, and what it makes of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import torch
from torch import Tensor

from negguide.guiders.texts import Encoded, encode, laid_over
from negguide.methods import Method
from negguide.methods.base import OWN, Condition, Guidance, Step
from negguide.methods.checks import finite
from negguide.methods.negative import Concept
from negguide.methods.state import RunState
from negguide.methods.step import Embedded

if TYPE_CHECKING:
    from diffusers.modular_pipelines.modular_pipeline import BlockState

try:
    from diffusers.guiders.guider_utils import BaseGuidance, GuiderOutput

    if not hasattr(BaseGuidance, "prepare_inputs_from_block_state"):
        raise ImportError("its guiders have another form")
except ImportError as error:
    import diffusers

    raise ImportError(
        f"negguide.guiders needs guiders as diffusers has them from 0.36 on; this is diffusers {diffusers.__version__} "
        f"({error}). Use negguide.attach with the pipeline class of the model, or a newer diffusers"
    ) from error

G = TypeVar("G", bound="MethodGuidance")


class MethodGuidance(BaseGuidance):
    """Base of negguide's guiders: one denoiser call for the prompt, one for the unconditional, one for each live negative.

    Differences are taken from what the pipeline has in the negative place: its unconditional, or the call's
    `negative_prompt`; that is `unconditional="own"` of the attached methods.
    """

    _input_predictions = ["pred_cond", "pred_uncond"]  # type: ignore[assignment]  # noqa: RUF012 - as diffusers has it

    def __init__(self, method: Method, guidance_scale: float, start: float, stop: float, enabled: bool) -> None:
        super().__init__(start, stop, enabled)
        self.method = method
        self.guidance_scale = finite("guidance_scale", guidance_scale)
        self.stands_for: object = None
        self._texts: dict[str, Encoded] = {}
        self._state: RunState = {}
        self._wanted: tuple[Condition, ...] | None = None
        for concept in self._concepts:
            _check(concept)
        # The config holds the settings in the form of JSON; embeddings have none, and are refused when it is loaded.
        # Arguments given by position count as defaults for diffusers' `from_config`, which then drops them.
        self.register_to_config(
            _use_default_values=[],
            **{
                name: [_jsonable(concept) for concept in getattr(method, name)]
                for name in ("negatives", "positives")
                if hasattr(method, name)
            },
        )

    def encode(self: G, pipe: object, **options: object) -> G:
        """Encode the texts of all negatives with the pipeline's own text encoders; returns the guider.

        Call it again when the text encoders change.

        Args:
            pipe: a modular pipeline with a text block, or a pipeline class that owns a guider.
            options: what else the text block takes and the call is given, e.g. `max_sequence_length=128`, `clip_skip=1`.

        Raises:
            TypeError: for any other pipeline, and for options that it does not take.
        """
        self._forget_step()
        for concept in self._concepts:
            if isinstance(concept.prompt, str):
                self._texts[concept.prompt] = encode(pipe, concept.prompt, options)
        return self

    def new(self, **kwargs: object) -> MethodGuidance:
        """A copy with other settings; texts that were encoded stay encoded."""
        guider: MethodGuidance = super().new(**kwargs)
        guider._texts = dict(self._texts)
        return guider

    def set_state(self, step: int, num_inference_steps: int, timestep: torch.LongTensor) -> None:
        """Come to a step, as the denoising loop says; the first one begins a new run."""
        super().set_state(step, num_inference_steps, timestep)
        self._wanted = None
        if step == 0:
            self._state = {}

    def prepare_inputs(  # type: ignore[override]  # diffusers names a BlockState, and hands over a dict
        self, data: dict[str, tuple[Tensor, Tensor]]
    ) -> list[BlockState]:
        batches = [self._prepare_batch(data, 0, "pred_cond")]
        if not self._is_guiding:
            return batches
        batches.append(self._prepare_batch(data, 1, "pred_uncond"))
        for at, condition in enumerate(self._extras()):
            batch = self._prepare_batch(data, 1, f"pred_negative_{at}")
            for name, value in self._laid(data, condition).items():
                setattr(batch, name, value)
            batches.append(batch)
        return batches

    def prepare_inputs_from_block_state(
        self, data: BlockState, input_fields: dict[str, str | tuple[str, str]]
    ) -> list[BlockState]:
        def look_up(field: str | tuple[str, str]) -> Any:
            return (
                tuple(getattr(data, name, None) for name in field)
                if isinstance(field, tuple)
                else getattr(data, field, None)
            )

        return self.prepare_inputs({name: look_up(field) for name, field in input_fields.items()})

    def forward(self, pred_cond: Tensor, pred_uncond: Tensor | None = None, **negatives: Tensor) -> Any:
        """The guided prediction (B, ...) of those for the prompt, the unconditional and `pred_negative_i`, as ordered."""
        output = self._guided(pred_cond, pred_uncond, negatives)
        if self._step is not None and self._step + 1 == self._num_inference_steps:  # the run is over
            # A pipeline asks before its first step whether the unconditional is wanted: not of the last step of the last run.
            self._forget_step()
        return output

    def _guided(self, pred_cond: Tensor, pred_uncond: Tensor | None, negatives: Mapping[str, Tensor]) -> object:
        if pred_uncond is None:
            return GuiderOutput(pred=self._alone(pred_cond), pred_cond=pred_cond, pred_uncond=None)
        step = self._as_step(pred_cond)
        predictions = {OWN: pred_uncond}
        predictions |= {condition: negatives[f"pred_negative_{at}"] for at, condition in enumerate(self._extras())}
        guidance = Guidance(step, pred_cond, pred_uncond, self.guidance_scale, predictions)
        self.method.combine(guidance, self._state)
        return GuiderOutput(pred=self._finished(guidance), pred_cond=pred_cond, pred_uncond=pred_uncond)

    def _alone(self, pred_cond: Tensor) -> Tensor:
        """What the scheduler gets of a step without guidance."""
        return pred_cond

    def _finished(self, guidance: Guidance) -> Tensor:
        """What the scheduler gets of a guided step."""
        return guidance.result()

    def _forget_step(self) -> None:
        nothing: Any = None
        self._step = self._num_inference_steps = nothing
        self._wanted, self._state = None, {}

    @property
    def is_conditional(self) -> bool:
        return bool(self._count_prepared == 1)

    @property
    def num_conditions(self) -> int:
        return 2 + len(self._extras()) if self._is_guiding else 1

    @property
    def _concepts(self) -> tuple[Concept, ...]:
        method: Any = self.method
        return (*method.negatives, *getattr(method, "positives", ()))

    @property
    def _is_guiding(self) -> bool:
        """Whether the unconditional is wanted at this step; before the first step, whether it ever may be."""
        if not self._enabled or (self.guidance_scale == 1 and not self._extras()):
            return False
        if self._step is None:
            return True
        count = self._num_inference_steps
        return bool(int(self._start * count) <= self._step < int(self._stop * count))

    def _extras(self) -> tuple[Condition, ...]:
        """The conditions of this step beyond the unconditional; of all steps before the first."""
        if self._step is None:
            return _without_own(self.method.prompts())
        if self._wanted is None:
            self._wanted = _without_own(self.method.conditions(self._as_step(torch.empty(0)), self._state))
        return self._wanted

    def _as_step(self, prediction: Tensor) -> Step:
        return Step(
            index=self._step,
            count=self._num_inference_steps,
            sigma=float("nan"),
            timestep=float(self._timestep),
            sample=prediction,
            prediction_type="unknown",
            to_denoised=_unknown,
            from_denoised=_unknown,
            resize_mask=_unknown,
        )

    def _laid(self, data: Mapping[str, Any], condition: Condition) -> dict[str, Any]:
        """A condition's text under the names of the denoising loop, with a row for each image."""
        return laid_over(data, self._encoded(condition))

    def _encoded(self, condition: Condition) -> Encoded | Embedded:
        if isinstance(condition.prompt, Embedded):
            return condition.prompt
        for concept in self._concepts:
            if concept.condition == condition and concept.prompt in self._texts:
                return self._texts[str(concept.prompt)]
        raise RuntimeError(f"{condition.prompt!r} is not encoded yet; call guider.encode(pipe) before the pipeline")


def _without_own(conditions: Sequence[Condition]) -> tuple[Condition, ...]:
    return tuple(dict.fromkeys(condition for condition in conditions if condition != OWN))


def _check(concept: Concept) -> None:
    kind = type(concept).__name__.lower()
    instead = "use negguide.attach with the pipeline class of the model"
    if getattr(concept, "instead_of", None) is not None:
        raise ValueError(f"a guider takes no {kind} with instead_of; {instead}")
    if not isinstance(concept.prompt, (str, Embedded)):
        raise ValueError(f"a guider takes one text per {kind}, not one for each prompt or image; {instead}")
    if concept.mask is not None or concept.window.unit == "sigma":
        raise ValueError(
            f"{kind} {concept.prompt!r} has a mask or a window of noise levels, and a guider knows neither latents nor "
            f"noise levels; {instead}"
        )


def _jsonable(concept: Concept) -> dict[str, object]:
    if isinstance(concept.prompt, Embedded):
        return {"embeds": str(concept.prompt), "weight": concept.weight}
    return {"prompt": concept.prompt, "weight": concept.weight, "window": dataclasses.asdict(concept.window)}


def _unknown(value: object) -> NoReturn:
    raise NotImplementedError("a guider knows neither latents nor noise levels; use negguide.attach")
