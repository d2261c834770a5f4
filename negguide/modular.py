"""Blocks for diffusers' modular pipelines: one encodes the negatives of a call, one watches the pictures form.

>>> from diffusers.modular_pipelines import StableDiffusionXLAutoBlocks  # doctest: +SKIP
>>> from negguide.modular import EncodeNegativesStep
>>> blocks = StableDiffusionXLAutoBlocks()  # doctest: +SKIP
>>> blocks.sub_blocks.insert("negatives", EncodeNegativesStep(), 1)  # doctest: +SKIP
>>> pipe = blocks.init_pipeline("stabilityai/stable-diffusion-xl-base-1.0")  # doctest: +SKIP
>>> pipe(prompt="a portrait", negatives=["glasses", ("hat", 0.5)], output="images")  # doctest: +SKIP
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from negguide.engine.presence_log import PresenceLog
from negguide.guiders import (
    ContrastiveGuidance,
    DynamicNegativeGuidance,
    NAGGuidance,
    PerpNegGuidance,
    SignedNegativeGuidance,
)
from negguide.guiders.base import MethodGuidance
from negguide.methods.negative import ConceptLike

try:
    from diffusers.guiders.classifier_free_guidance import ClassifierFreeGuidance
    from diffusers.modular_pipelines.modular_pipeline import (
        BlockState,
        LoopSequentialPipelineBlocks,
        ModularPipeline,
        ModularPipelineBlocks,
        PipelineState,
    )
    from diffusers.modular_pipelines.modular_pipeline_utils import InputParam
except ImportError as error:
    raise ImportError(
        f"negguide.modular needs a diffusers with modular pipelines ({error}); use negguide.attach with the pipeline class"
    ) from error

__all__ = ["EncodeNegativesStep", "WatchStep", "watch"]

METHODS: dict[str, type[MethodGuidance]] = {
    "perp_neg": PerpNegGuidance,
    "negative": SignedNegativeGuidance,
    "ccfg": ContrastiveGuidance,
    "nag": NAGGuidance,
    "dng": DynamicNegativeGuidance,
}
"""What `negative_method` may be: methods whose guider takes negatives alone."""


class EncodeNegativesStep(ModularPipelineBlocks):
    """A text block whose call takes negatives; it goes behind the block `text_encoder`.

    The call's `negatives` act through a guider for this call alone: of the pipeline's own class if that is one of
    `negguide.guiders`, with its other settings; else of `negative_method`, with the scale and window of the pipeline's
    `ClassifierFreeGuidance`. A call without them has the pipeline's guider again. A guider of `negguide.guiders` that stands in the
    pipeline, e.g. one that was loaded with it, is encoded here, too.

    Inputs of the call:
        negatives: texts, (text, weight) pairs or `Negative`s; None leaves the pipeline's guider as it is.
        negative_method: "perp_neg" (default), "negative" (signed), "ccfg", "nag" or "dng", where the pipeline's guider is
            diffusers' own.
        negative_options: further arguments of that guider, e.g. `{"scale": 4.0}` for NAG.

    Raises:
        ValueError: for a method or guider that it does not know, a guider that rescales, and options without negatives.
    """

    @property
    def description(self) -> str:
        return "Encodes the negatives of a call and has the guider act on them"

    @property
    def inputs(self) -> list[InputParam]:
        return [
            InputParam(
                "negatives", default=None, description="What should not be there: texts or (text, weight) pairs"
            ),
            InputParam("negative_method", default=None, description=f"How they act: {', '.join(METHODS)}"),
            InputParam("negative_options", default=None, description="Further arguments of that method's guider"),
        ]

    def __call__(self, components: Any, state: PipelineState) -> tuple[ModularPipeline, PipelineState]:
        call: Any = self.get_block_state(state)  # a BlockState, whatever diffusers' annotation says
        own = getattr(components.guider, "stands_for", None) or components.guider
        options = dict(call.negative_options or {})
        if call.negatives is None and (options or call.negative_method):
            raise ValueError("negative_method and negative_options do nothing without negatives; give negatives=[...]")
        guider = own if call.negatives is None else _for_call(own, call.negatives, call.negative_method, options)
        if isinstance(guider, MethodGuidance):
            guider.encode(components, **_of_text_block(components, state))
        components.guider = guider
        self.set_block_state(state, call)
        return components, state


class WatchStep(ModularPipelineBlocks):
    """A block at the end of a denoising loop that writes down what is in the forming pictures and changes nothing.

    Args:
        log: a `negguide.PresenceLog`; it looks at the latents of each step, as it does as a `callback_on_step_end`.
    """

    def __init__(self, log: PresenceLog) -> None:
        super().__init__()
        self.log = log

    def __deepcopy__(self, memo: object) -> WatchStep:
        """Pipelines copy their blocks; the copy writes into the same log."""
        return WatchStep(self.log)

    @property
    def description(self) -> str:
        return "Writes down what is in the forming pictures"

    def __call__(
        self, components: ModularPipeline, block_state: Any, i: int, t: Tensor
    ) -> tuple[ModularPipeline, BlockState]:
        self.log(components, i, t, {"latents": block_state.latents})
        return components, block_state


def watch(blocks: ModularPipelineBlocks, log: PresenceLog) -> ModularPipelineBlocks:
    """Have a log look at each step of a modular pipeline's blocks, before `init_pipeline`; gives the blocks back.

    Args:
        blocks: blocks with a denoising loop somewhere within; each loop gets a `WatchStep` named "watch" at its end.
        log: what looks.

    Raises `ValueError` where no loop is found.
    """
    loops = [block for block in _within(blocks) if isinstance(block, LoopSequentialPipelineBlocks)]
    if not loops:
        raise ValueError(f"{type(blocks).__name__} has no denoising loop (LoopSequentialPipelineBlocks) to watch")
    for loop in loops:
        loop.sub_blocks.insert("watch", WatchStep(log), len(loop.sub_blocks))
    return blocks


def _within(block: ModularPipelineBlocks) -> list[ModularPipelineBlocks]:
    return [block, *(inner for part in block.sub_blocks.values() for inner in _within(part))]


def _for_call(own: object, negatives: ConceptLike, method: str | None, options: Mapping[str, object]) -> MethodGuidance:
    """The guider of a call with negatives, which stands for the pipeline's own."""
    if isinstance(own, MethodGuidance):
        if method is not None or not hasattr(own.method, "negatives"):
            raise ValueError(
                f"the pipeline's guider is {type(own).__name__}"
                + ("; negative_method is for pipelines with diffusers' own" if method else ", which takes no negatives")
            )
        guider = type(own)(**{**_settings(own), "negatives": negatives, **options})
    else:
        kind: Any = _method(method)
        guider = kind(negatives, **{**_of_guidance(own), **options})
    guider.stands_for = own
    return guider


def _method(name: str | None) -> type[MethodGuidance]:
    if name is not None and name not in METHODS:
        raise ValueError(
            f"negative_method is {name!r}; possible: {', '.join(METHODS)}; others by negguide.attach(pipe, ...)"
        )
    return METHODS[name or "perp_neg"]


def _settings(guider: MethodGuidance) -> dict[str, Any]:
    return {
        name: guider.config[name]
        for name in inspect.signature(type(guider).__init__).parameters
        if name in guider.config
    }


def _of_guidance(guider: Any) -> dict[str, object]:
    """Scale and window of diffusers' guidance, where its formula is the usual one."""
    if type(guider) is not ClassifierFreeGuidance or guider.guidance_rescale or guider.use_original_formulation:
        raise ValueError(
            f"negatives= needs a guider of negguide.guiders or a ClassifierFreeGuidance without rescale and original "
            f"formulation; this one is {type(guider).__name__}"
        )
    return {
        "guidance_scale": guider.guidance_scale,
        "start": guider._start,
        "stop": guider._stop,
        "enabled": guider._enabled,
    }


def _of_text_block(components: ModularPipeline, state: PipelineState) -> dict[str, object]:
    """What the call says to its text block beside the texts, e.g. `max_sequence_length`."""
    inputs = {given.name for given in components.blocks.sub_blocks["text_encoder"].inputs if given.name}
    inputs = {name for name in inputs if not name.startswith(("prompt", "negative_prompt"))}
    return {name: state.get(name) for name in inputs if state.get(name) is not None}
