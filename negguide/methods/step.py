"""Where sampling stands, when something is switched on, and which predictions can be asked for: the ground of all methods."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch import Tensor

    from negguide.methods.mask import Mask


NUMBER = r"(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
"""A number of 0 or more as it is typed, for regular expressions."""

_WINDOW = re.compile(rf"\s*({NUMBER})\s*-\s*({NUMBER})\s*(sigma)?\s*")


@dataclasses.dataclass(frozen=True)
class Window:
    """When something is switched on, in units that do not depend on scheduler, shift or resolution.

    `unit="progress"`: fractions of sampling; step `i` of `n` is inside when `start <= i / n < stop`
    (`Window(0, 0.4)` with 25 steps: steps 0 to 9). Where a base and a refiner share one schedule (`denoising_end`,
    `denoising_start`), the steps of both count. `unit="sigma"`: noise level, counted downwards; inside when
    `start >= sigma > stop` (`Window(14.6, 1.0, "sigma")`). An empty window (`start == stop`) is never open.

    Raises `ValueError` for values that are not finite, outside [0, 1] (progress) or in the wrong order.
    """

    start: float = 0.0
    stop: float = 1.0
    unit: Literal["progress", "sigma"] = "progress"

    def __post_init__(self) -> None:
        if self.unit not in ("progress", "sigma"):
            raise ValueError(f"window unit is {self.unit!r}; possible: 'progress' (fractions of sampling) or 'sigma'")
        finite = all(value == value and abs(value) != float("inf") for value in (self.start, self.stop))
        if not finite:
            raise ValueError(f"window ({self.start}, {self.stop}) is not finite")
        if self.unit == "progress" and not 0.0 <= self.start <= self.stop <= 1.0:
            raise ValueError(f"progress window ({self.start}, {self.stop}) must satisfy 0 <= start <= stop <= 1")
        if self.unit == "sigma" and not self.start >= self.stop >= 0.0:
            raise ValueError(f"sigma window ({self.start}, {self.stop}) must satisfy start >= stop >= 0 (noise falls)")

    @classmethod
    def parse(cls, text: str) -> Window | None:
        """The window that a text names, `0-0.4` in fractions or `14.6-1sigma`; None where it is not written so."""
        match = _WINDOW.fullmatch(text)
        return cls(float(match[1]), float(match[2]), "sigma" if match[3] else "progress") if match else None

    def is_open(self, step: Step) -> bool:
        if self.unit == "progress":
            return self.start <= step.progress < self.stop
        return self.start >= step.sigma > self.stop

    @property
    def is_empty(self) -> bool:
        return self.start == self.stop


def as_window(value: Window | Sequence[float] | Mapping[str, Any] | str) -> Window:
    """A `Window`, a `(start, stop)` pair in fractions of sampling, the dict of its JSON form, or "0-0.4", "14.6-1sigma"."""
    if isinstance(value, Window):
        return value
    if isinstance(value, str) and (window := Window.parse(value.strip("()"))) is not None:
        return window
    if isinstance(value, Mapping):
        return Window(**value)
    if isinstance(value, Sequence) and not isinstance(value, str) and 2 <= len(value) <= 3:
        return Window(*value)  # type: ignore[arg-type]  # (start, stop) or (start, stop, unit)
    raise TypeError(
        f"window is {value!r}; possible: Window(0, 0.4), the pair (0, 0.4) in fractions of sampling, or as text "
        "0-0.4 or 14.6-1sigma"
    )


@dataclasses.dataclass(frozen=True)
class EachImage:
    """One text for each image of the call, in the order of its rows: prompt by prompt, `num_images_per_prompt` of each.

    None where an image has none: there the prediction is the one for what the pipeline has in the negative place.
    """

    texts: tuple[str | None, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "texts", tuple(self.texts))
        wrong = any(text is not None and not isinstance(text, str) for text in self.texts)
        if wrong or all(text is None for text in self.texts):
            raise ValueError(
                f"one text per image is needed, None for images without, and one at least; got {self.texts!r}"
            )


@dataclasses.dataclass(frozen=True, eq=False)
class Embedded:
    """Text embeddings in the place of a text, as the pipeline takes them in `prompt_embeds`.

    Args:
        embeds: (L, C), or (1, L, C), or (P, L, C) with a row for each of the call's P prompts; any number of tokens L.
        pooled: (D,), (1, D) or (P, D), for pipelines that take `pooled_prompt_embeds` (SDXL, SD3, Flux); else None.

    Raises:
        TypeError: If these are no floating-point tensors.
        ValueError: For other shapes.
    """

    embeds: Tensor
    pooled: Tensor | None = None

    def __post_init__(self) -> None:
        given = [("embeds", self.embeds, 3, "(L, C)")]
        given += [] if self.pooled is None else [("pooled", self.pooled, 2, "(D,)")]
        for name, value, ndim, shape in given:
            if not hasattr(value, "is_floating_point") or not value.is_floating_point():
                raise TypeError(
                    f"{name} is {type(value).__name__}; a floating-point tensor {shape} or with rows is needed"
                )
            if value.ndim not in (ndim - 1, ndim) or 0 in value.shape:
                raise ValueError(
                    f"{name} has shape {tuple(value.shape)}; possible: {shape}, or the same with rows before it"
                )

    @classmethod
    def of(cls, embeds: Any, pooled: Any = None) -> Embedded:
        """Embeddings as they are given: tensors, or what compel returns (a tensor, a pair with the pooled one, an object)."""
        if isinstance(embeds, Embedded):
            return embeds
        if pooled is None and isinstance(embeds, (tuple, list)) and len(embeds) == 2:
            embeds, pooled = embeds
        elif pooled is None and hasattr(embeds, "embeds"):
            embeds, pooled = embeds.embeds, getattr(embeds, "pooled_embeds", None)
        return cls(embeds, pooled)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Embedded):
            return NotImplemented
        return _same(self.embeds, other.embeds) and _same(self.pooled, other.pooled)

    def __hash__(self) -> int:
        return hash((tuple(self.embeds.shape), None if self.pooled is None else tuple(self.pooled.shape)))

    def __repr__(self) -> str:
        pooled = "" if self.pooled is None else f", pooled {tuple(self.pooled.shape)}"
        return f"Embedded({tuple(self.embeds.shape)}{pooled})"


def _same(first: Tensor | None, second: Tensor | None) -> bool:
    if first is None or second is None or first is second:
        return first is second
    alike = (first.shape, first.dtype, first.device) == (second.shape, second.dtype, second.device)
    return alike and bool((first == second).all())


@dataclasses.dataclass(frozen=True)
class OtherWeights:
    """Weights that make a prediction instead of the pipeline's own: one of the two.

    `adapter`: the name of a PEFT adapter (LoRA) that the pipeline has loaded, at `weight`; it is then at work in these predictions
    and in no other. `model`: another denoiser that takes the same arguments, or the folder or hub id of one.
    """

    adapter: str | None = None
    weight: float = 1.0
    model: Any = None


@dataclasses.dataclass(frozen=True)
class Condition:
    """A prediction that a method wants at a step. Equal conditions of several methods share one denoiser pass.

    `prompt`: the text (a tuple: one text per prompt of the call, None where the pipeline's own stays; `EachImage`: one per
    image), fed as this pipeline feeds a negative prompt; `None` is the *true unconditional*, built as the pipeline builds
    it when the user gives no negative prompt.
    `role="base"` says that the prediction stands where the pipeline's own unconditional / negative prompt stood, which
    then costs no pass unless `OWN` is asked for too. `weights`: who predicts, if not the pipeline's denoiser as it is; only
    then `of_prompt` may be true, which asks for the prompt itself.
    """

    prompt: str | tuple[str | None, ...] | EachImage | Embedded | None
    role: Literal["extra", "base"] = dataclasses.field(default="extra", compare=False)
    own: bool = False
    weights: OtherWeights | None = None
    of_prompt: bool = False


UNCONDITIONAL = Condition(None)
"""The true unconditional; free when the pipeline's own negative prompt is empty (its own rows serve)."""

OWN = Condition(None, own=True)
"""What the pipeline itself put in the negative place (the call's `negative_prompt`, or its default)."""


@dataclasses.dataclass(frozen=True)
class Step:
    """Where sampling stands. `sample` is x_t (B, ...) as the scheduler holds it, not scaled for the model input."""

    index: int
    count: int
    sigma: float
    timestep: float
    sample: Tensor
    prediction_type: str
    to_denoised: Callable[[Tensor], Tensor]
    """Prediction (B, ...) -> exact clean estimate x0 (B, ...) for epsilon, v_prediction, sample and flow models."""
    from_denoised: Callable[[Tensor], Tensor]
    """Clean estimate (B, ...) -> the prediction that means it; inverse of `to_denoised`."""
    resize_mask: Callable[[Mask], Tensor]
    """Mask -> float tensor in [0, 1] that broadcasts against the predictions (packed, image or video latents)."""
    before: int = 0
    whole: int = 0
    """Where this run is a part of a schedule (`denoising_end`, `denoising_start`): steps before it, and in all; else 0."""

    @property
    def progress(self) -> float:
        """Fraction of sampling that lies before this step."""
        return self.fraction(self.index)

    def fraction(self, index: int) -> float:
        """The same of any step of this run."""
        return (self.before + index) / (self.whole or self.count)
