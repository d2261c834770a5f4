"""What the events of a sampling step hand to a method: the guidance, the clean estimate, the prompt's embeddings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from negguide.methods.step import Condition, Step
    from negguide.methods.tokens import RunContext


class Guidance:
    """The guidance of one step, edited by the methods in the order the user attached them.

    The result is `base + scale * direction + offset`, then every function of `post` in order. Untouched, the runner hands
    the pipeline its own predictions back, so that neutral settings are bit-equal and free. All tensors are (B, ...) with
    one row per image, in the model's dtype, and hold only the part of the prediction that is guided.
    """

    def __init__(
        self,
        step: Step,
        cond: Tensor,
        base: Tensor,
        scale: float,
        predictions: Mapping[Condition, Tensor],
    ) -> None:
        self.step = step
        self.cond = cond
        self.predictions = predictions
        self.plain_scale = scale
        self.plain_base = base
        self._base = base
        self._scale: float | Tensor = scale
        self._direction: Tensor | None = None
        self._offset: Tensor | None = None
        self.post: list[Callable[[Tensor], Tensor]] = []
        self.touched = False

    def __getitem__(self, condition: Condition) -> Tensor:
        """The prediction for a condition that was asked for at this step; `KeyError` otherwise."""
        return self.predictions[condition]

    @property
    def base(self) -> Tensor:
        """Where guidance starts: the unconditional, or what a method put in its place."""
        return self._base

    @base.setter
    def base(self, value: Tensor) -> None:
        """Replace the base; an unedited direction follows it (`cond - base`)."""
        self._base, self.touched = value, True

    def begin_at(self, base: Tensor) -> None:
        """Say what stood in the place of the unconditional before any method; this is no edit."""
        self.plain_base = self._base = base

    @property
    def direction_edited(self) -> bool:
        """Whether a method has set the direction; an unedited one follows the base."""
        return self._direction is not None

    @property
    def direction(self) -> Tensor:
        """What is scaled and added to the base; starts as `cond - base`."""
        return self.cond - self._base if self._direction is None else self._direction

    @direction.setter
    def direction(self, value: Tensor) -> None:
        self._direction, self.touched = value, True

    @property
    def scale(self) -> float | Tensor:
        """Guidance scale w of `base + w * direction` (the pipeline's, in this convention); float or (B, 1, ...)."""
        return self._scale

    @scale.setter
    def scale(self, value: float | Tensor) -> None:
        self._scale, self.touched = value, True

    @property
    def offset(self) -> Tensor | None:
        """A term with its own scale, e.g. of signed negatives."""
        return self._offset

    @offset.setter
    def offset(self, value: Tensor | None) -> None:
        self._offset, self.touched = value, True

    def add_post(self, function: Callable[[Tensor], Tensor]) -> None:
        """Append a function of the finished prediction (rescale, norm)."""
        self.post.append(function)
        self.touched = True

    def result(self) -> Tensor:
        """The finished prediction, (B, ...)."""
        prediction = self.base + self.scale * self.direction
        if self._offset is not None:
            prediction = prediction + self._offset
        for function in self.post:
            prediction = function(prediction)
        return prediction


class Denoised:
    """The clean estimate of one step, shown to methods after guidance; setting `x0` changes what the sampler does."""

    def __init__(self, step: Step, x0: Tensor, context: RunContext | None = None) -> None:
        self.step = step
        self._x0 = x0
        self._context = context
        self.touched = False

    @property
    def context(self) -> RunContext:
        """What is known of the running denoiser: groups of images, pictures to latents and back."""
        if self._context is None:
            raise RuntimeError("this clean estimate was made outside a run")
        return self._context

    @property
    def x0(self) -> Tensor:
        """Clean estimate (B, ...) in latent space, one row per image."""
        return self._x0

    @x0.setter
    def x0(self, value: Tensor) -> None:
        self._x0, self.touched = value, True


class Embeddings:
    """The prompt's embeddings at one step, shown to methods before any prediction; setting `text` changes what is read."""

    def __init__(self, step: Step, text: Tensor) -> None:
        self.step = step
        self._text = text
        self.touched = False

    @property
    def text(self) -> Tensor:
        """Token embeddings (B, L, C) of the prompt, one row per image; never those of other conditions."""
        return self._text

    @text.setter
    def text(self, value: Tensor) -> None:
        if value.shape != self._text.shape:
            raise ValueError(f"embeddings of shape {tuple(self._text.shape)} cannot become {tuple(value.shape)}")
        self._text, self.touched = value.to(self._text.dtype), True
