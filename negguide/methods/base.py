"""What a method is: a frozen config that answers the events of a sampling step.

The runner (`negguide.integration`) owns the loop, the passes and the pipeline; a method only says which extra
conditions it wants predicted at a step and how it edits the guidance made of them. It knows no model by name.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

if TYPE_CHECKING:
    from torch import Tensor

    from negguide.methods.mask import Mask
    from negguide.methods.tokens import Listen, Model, Tokens, Values


@dataclasses.dataclass(frozen=True)
class Window:
    """When something is switched on, in units that do not depend on scheduler, shift or resolution.

    `unit="progress"`: fractions of sampling; step `i` of `n` is inside when `start <= i / n < stop`
    (`Window(0, 0.4)` with 25 steps: steps 0 to 9). `unit="sigma"`: noise level, counted downwards; inside when
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

    def is_open(self, step: Step) -> bool:
        if self.unit == "progress":
            return self.start <= step.index / step.count < self.stop
        return self.start >= step.sigma > self.stop

    @property
    def is_empty(self) -> bool:
        return self.start == self.stop


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


@dataclasses.dataclass(frozen=True)
class Condition:
    """A prediction that a method wants at a step. Equal conditions of several methods share one denoiser pass.

    `prompt`: the text (a tuple: one text per prompt of the call; `EachImage`: one per image), fed as this pipeline feeds
    a negative prompt; `None` is the *true unconditional*, built as the pipeline builds it when the user gives no negative prompt.
    `role="base"` says that the prediction stands where the pipeline's own unconditional / negative prompt stood, which
    then costs no pass unless `OWN` is asked for too.
    """

    prompt: str | tuple[str, ...] | EachImage | None
    role: Literal["extra", "base"] = dataclasses.field(default="extra", compare=False)
    own: bool = False


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

    @property
    def progress(self) -> float:
        return self.index / self.count


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

    def __init__(self, step: Step, x0: Tensor, model: Model | None = None) -> None:
        self.step = step
        self._x0 = x0
        self._model = model
        self.touched = False

    @property
    def model(self) -> Model:
        """What is known of the running denoiser: groups of images, pictures to latents and back."""
        if self._model is None:
            raise RuntimeError("this clean estimate was made outside a run")
        return self._model

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


@dataclasses.dataclass(frozen=True)
class Method:
    """Base of all methods: a frozen, JSON-able config; override the events it answers.

    A method holds no state of a run: what it must remember between steps goes into `state`, a dict that the runner
    makes anew for each call of the pipeline and hands to every event. What it appends to `state["notes"]` (a list, of
    JSON-able dicts) is handed on in the record of the step.
    """

    name: ClassVar[str] = ""
    """Registry name, as used on the command line and in JSON."""
    summary: ClassVar[str] = ""
    """One line for `negguide methods`."""
    cost: ClassVar[str] = ""
    """Denoiser passes per step in words, e.g. '2 + K (live negatives)'."""
    paper: ClassVar[str] = ""
    """Where it comes from, e.g. 'arXiv:2304.04968'."""
    needs_guidance: ClassVar[bool] = True
    """Whether it acts on classifier-free guidance (an error explains when the pipeline runs without)."""

    acts_alone: ClassVar[bool] = True
    """Whether its `combine` may do something at a step for which it asked no condition."""

    def conditions(self, step: Step, state: dict[str, Any]) -> Sequence[Condition]:
        """Conditions wanted at this step. Nothing wanted, nothing paid: answer () when the window is closed."""
        return ()

    def prompts(self) -> Sequence[Condition]:
        """Every condition it may ever ask for, so that all texts are encoded once, before the first step."""
        return ()

    def check_beside(self, others: Sequence[Method]) -> None:
        """Raise `ValueError`, with the remedy, when it cannot work together with one of the other attached methods."""

    def guides(self, step: Step) -> bool:
        """Whether this step is guided at all. Where any method says no, the prediction is the prompt's alone: one pass,
        and no method's `conditions` and `combine` are asked.
        """
        return True

    def companions(self) -> Sequence[Condition]:
        """Every condition whose text it may ever want inside the denoiser (see `Listen`), encoded before the first step."""
        return ()

    def listens(self, step: Step, model: Model, state: dict[str, Any]) -> Listen | None:
        """Whether, and after which attention layers, it wants to hear this step. None costs nothing."""
        return None

    def tokens(self, tokens: Tokens, state: dict[str, Any]) -> None:
        """See or change image tokens right after one of the layers it listens to."""

    def values(self, values: Values, state: dict[str, Any]) -> None:
        """See or change the values of the text tokens in one of the cross or joint layers it listens to."""

    @property
    def edits_embeddings(self) -> bool:
        """Whether `embeddings` is to be called."""
        return type(self).embeddings is not Method.embeddings

    def embeddings(self, embeddings: Embeddings, state: dict[str, Any]) -> None:
        """See or change the prompt's embeddings of this step, before any prediction."""

    def combine(self, guidance: Guidance, state: dict[str, Any]) -> None:
        """Edit the guidance of this step; leave it untouched to change nothing, bit for bit."""

    @property
    def sees_denoised(self) -> bool:
        """Whether `denoised` is to be called; where no method says so, no clean estimate is computed."""
        return type(self).denoised is not Method.denoised

    def denoised(self, denoised: Denoised, state: dict[str, Any]) -> None:
        """See or change the clean estimate, per image."""
