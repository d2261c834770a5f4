"""A guider of diffusers around a method: which predictions it wants at a step, and what it makes of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, NoReturn, TypeVar

import torch
from torch import Tensor

from negguide.methods import Method
from negguide.methods.base import OWN, Condition, Guidance, Step
from negguide.methods.checks import finite
from negguide.methods.negative import Concept
from negguide.methods.step import Embedded

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

_TEXT = {
    "prompt_embeds": "embeds",
    "encoder_hidden_states": "embeds",
    "text_embeds": "pooled",
    "pooled_projections": "pooled",
}
"""What the denoising blocks call the two kinds of text."""
_AS_UNCONDITIONAL = frozenset({"time_ids", "image_embeds", "hidden_states"})
"""What a negative shares with the unconditional."""


class MethodGuidance(BaseGuidance):
    """Base of negguide's guiders: one denoiser call for the prompt, one for the unconditional, one for each live negative.

    Differences are taken from what the pipeline has in the negative place: its unconditional, or the call's
    `negative_prompt`; that is `unconditional="own"` of the attached methods.
    """

    _input_predictions: ClassVar[list[str]] = ["pred_cond", "pred_uncond"]

    def __init__(self, method: Method, guidance_scale: float, start: float, stop: float, enabled: bool) -> None:
        super().__init__(start, stop, enabled)
        self.method = method
        self.guidance_scale = finite("guidance_scale", guidance_scale)
        self._texts: dict[str, Embedded] = {}
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

    def encode(self: G, pipe: object) -> G:
        """Encode the texts of all negatives with the text block of a modular pipeline; returns the guider.

        Call it again when the text encoders change. Raises `TypeError` for what is no modular pipeline with a text block.
        """
        from diffusers.modular_pipelines import PipelineState

        block = getattr(getattr(pipe, "blocks", None), "sub_blocks", {}).get("text_encoder")
        if block is None:
            raise TypeError(
                f"encode needs a modular pipeline with a block 'text_encoder', got {type(pipe).__name__}; otherwise give "
                "Negative(embeds=..., pooled=...)"
            )
        for concept in self._concepts:
            if isinstance(concept.prompt, str):
                state = PipelineState()
                state.set("prompt", concept.condition.prompt)
                with torch.no_grad():
                    block(pipe, state)
                self._texts[concept.prompt] = Embedded(state.get("prompt_embeds"), state.get("pooled_prompt_embeds"))
        return self

    def new(self, **kwargs: object) -> MethodGuidance:
        """A copy with other settings; texts that were encoded stay encoded."""
        guider: MethodGuidance = super().new(**kwargs)
        guider._texts = dict(self._texts)
        return guider

    def prepare_inputs(self, data: Mapping[str, object]) -> list[Any]:
        batches = [self._prepare_batch(data, 0, "pred_cond")]
        if not self._is_guiding:
            return batches
        batches.append(self._prepare_batch(data, 1, "pred_uncond"))
        for at, condition in enumerate(self._extras()):
            batch = self._prepare_batch(data, 1, f"pred_negative_{at}")
            for name, value in self._overlay(data, condition).items():
                setattr(batch, name, value)
            batches.append(batch)
        return batches

    def prepare_inputs_from_block_state(self, data: Any, input_fields: Mapping[str, Any]) -> list[Any]:
        def look_up(field: Any) -> Any:
            return (
                tuple(getattr(data, name, None) for name in field)
                if isinstance(field, tuple)
                else getattr(data, field, None)
            )

        return self.prepare_inputs({name: look_up(field) for name, field in input_fields.items()})

    def forward(self, pred_cond: Tensor, pred_uncond: Tensor | None = None, **negatives: Tensor) -> Any:
        """The guided prediction (B, ...) of those for the prompt, the unconditional and `pred_negative_i`, as ordered."""
        if pred_uncond is None:
            return GuiderOutput(pred=pred_cond, pred_cond=pred_cond, pred_uncond=None)
        step = self._as_step(pred_cond)
        predictions = {OWN: pred_uncond}
        predictions |= {condition: negatives[f"pred_negative_{at}"] for at, condition in enumerate(self._extras(step))}
        guidance = Guidance(step, pred_cond, pred_uncond, self.guidance_scale, predictions)
        self.method.combine(guidance, {})
        return GuiderOutput(pred=guidance.result(), pred_cond=pred_cond, pred_uncond=pred_uncond)

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

    def _extras(self, step: Step | None = None) -> tuple[Condition, ...]:
        """The conditions of this step beyond the unconditional; of all steps before the first."""
        began = self._step is not None
        wanted = self.method.conditions(step or self._as_step(torch.empty(0)), {}) if began else self.method.prompts()
        return tuple(dict.fromkeys(condition for condition in wanted if condition != OWN))

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

    def _overlay(self, data: Mapping[str, Any], condition: Condition) -> dict[str, Tensor]:
        """The text of a condition under the names that the denoising block uses, with a row for each image."""
        text = condition.prompt
        embedded = text if isinstance(text, Embedded) else self._embedded(condition)
        unknown = [
            name
            for name, value in data.items()
            if name not in _TEXT and name not in _AS_UNCONDITIONAL and isinstance(value, tuple)
        ]
        if unknown or not any(_TEXT.get(name) == "embeds" for name in data):
            raise NotImplementedError(
                f"this pipeline hands its text over as {', '.join(data)}, and how a negative fills {', '.join(unknown) or 'them'} "
                "is not known; use negguide.attach with the pipeline class of the model"
            )
        overlay = {}
        for name, value in data.items():
            if name in _TEXT:
                like = next(part for part in reversed(value) if part is not None) if isinstance(value, tuple) else value
                given = getattr(embedded, _TEXT[name])
                if given is None:
                    raise ValueError(f"{embedded} has no pooled embeddings; this pipeline needs them: pooled=...")
                given = given if given.ndim == like.ndim else given.unsqueeze(0)
                if given.shape[0] not in (1, like.shape[0]):
                    raise ValueError(f"{embedded} has {given.shape[0]} rows for {like.shape[0]} images; give one row")
                overlay[name] = given.to(like).expand(like.shape[0], *given.shape[1:])
        return overlay

    def _embedded(self, condition: Condition) -> Embedded:
        for concept in self._concepts:
            if concept.condition == condition and concept.prompt in self._texts:
                return self._texts[str(concept.prompt)]
        raise RuntimeError(f"{condition.prompt!r} is not encoded yet; call guider.encode(pipe) before the pipeline")


def embeds_in(overlay: Mapping[str, Tensor]) -> Tensor:
    """The token embeddings (B, L, C) of a text laid over what a block hands to the denoiser."""
    return next(value for name, value in overlay.items() if _TEXT[name] == "embeds")


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


def _jsonable(concept: Concept) -> dict[str, Any]:
    if isinstance(concept.prompt, Embedded):
        return {"embeds": str(concept.prompt), "weight": concept.weight}
    return {"prompt": concept.prompt, "weight": concept.weight, "window": dataclasses.asdict(concept.window)}


def _unknown(value: object) -> NoReturn:
    raise NotImplementedError("a guider knows neither latents nor noise levels; use negguide.attach")
