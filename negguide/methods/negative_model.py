"""A negative model: other weights predict what to go away from. Choose this with weights that were made to be worse."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from negguide.methods.base import Condition, Guidance, Method, Step, Window
from negguide.methods.checks import encodable
from negguide.methods.negative import move_base
from negguide.methods.options import check_options, option
from negguide.methods.registry import register
from negguide.methods.state import RunState
from negguide.methods.step import OtherWeights, as_window


@register
@dataclasses.dataclass(frozen=True)
class NegativeModel(Method):
    """`eps'_n + w (eps_c - eps'_n)`: guidance starts from what other weights predict (the dash), and goes away from it.

    `adapter`: the name of an adapter (LoRA) that the pipeline has loaded, `weight` times as strong as it was loaded; it acts in
    the negative's rows and nowhere else, whatever `set_adapters` says. Or `model`: another denoiser that takes the same arguments,
    as a module or as its folder or hub id (or those of a pipeline that has it). One of the two.

    `reads`: what the other weights are asked. "negative": what the pipeline has in the negative place, as with weights that were
    trained to prefer the worse (Diffusion-NPO, Self-NPO). "prompt": the prompt itself, as in autoguidance (arXiv:2406.02507),
    whose other model is a smaller or less trained one; a negative prompt of the call is then without effect. Or "text": the
    text `prompt`.

    Other methods build on it: attach it before them, and their guidance starts there too. Neutral, without a pass: weight 0, an
    empty window.

    >>> NegativeModel("npo", reads="negative").adapter
    'npo'
    """

    name: ClassVar[str] = "negative_model"
    summary: ClassVar[str] = (
        "guidance goes away from what other weights predict: an adapter on the negative alone, or a worse model"
    )
    cost: ClassVar[str] = "2"
    paper: ClassVar[str] = "arXiv:2505.11245"
    acts_alone: ClassVar[bool] = False

    adapter: str | None = option(
        None, help="An adapter of the pipeline, by name, that acts in the negative's rows alone."
    )
    model: Any = option(None, help="Another denoiser instead: a module, its folder or its hub id.")
    weight: float = option(1.0, help="Strength of the adapter, times that at which it was loaded; 0 is off.", low=0)
    reads: Literal["negative", "prompt", "text"] = option(
        "negative", help="What the other weights are asked: what stands in the negative place, the prompt, or a text."
    )
    prompt: str | None = option(None, help="The text, with reads=text.")
    window: Window = option(default_factory=Window, help="When they are asked, in fractions of sampling or in sigma.")

    def __post_init__(self) -> None:
        object.__setattr__(self, "window", as_window(self.window))
        check_options(self)
        if (self.adapter is None) == (self.model is None):
            raise ValueError("NegativeModel takes either adapter='name' or model=..., one of the two")
        if self.model is not None and not isinstance(self.model, str) and not hasattr(self.model, "parameters"):
            raise TypeError(f"model is {self.model!r}; possible: a denoiser (a torch module), its folder or its hub id")
        if self.model is not None and self.weight != 1:
            raise ValueError("weight is that of an adapter; of another model there is no more and no less")
        if (self.reads == "text") != (self.prompt is not None):
            raise ValueError("prompt goes with reads='text', and that needs it")
        if self.prompt is not None:
            encodable("the prompt", self.prompt)

    def check_beside(self, others: Sequence[Method]) -> None:
        if any(isinstance(other, NegativeModel) for other in others):
            raise ValueError("two NegativeModels want the place of the unconditional, and only one can have it")

    def conditions(self, step: Step, state: RunState) -> Sequence[Condition]:
        return (self._condition,) if self._acts and self.window.is_open(step) else ()

    def prompts(self) -> Sequence[Condition]:
        return (self._condition,) if self._acts else ()

    def combine(self, guidance: Guidance, state: RunState) -> None:
        if self._acts and self.window.is_open(guidance.step):
            move_base(guidance, guidance[self._condition])

    @property
    def _acts(self) -> bool:
        return self.weight != 0 and not self.window.is_empty

    @property
    def _condition(self) -> Condition:
        weights = OtherWeights(self.adapter, self.weight, self.model)
        if self.reads == "text":
            return Condition(self.prompt, role="base", weights=weights)
        of_prompt = self.reads == "prompt"
        return Condition(None, role="base", own=not of_prompt, weights=weights, of_prompt=of_prompt)
