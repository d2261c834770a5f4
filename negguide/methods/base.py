"""What a method is: a frozen config that answers the events of a sampling step.

The runner (`negguide.integration`) owns the loop, the passes and the pipeline; a method only says which extra
conditions it wants predicted at a step and how it edits the guidance made of them. It knows no model by name.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from negguide.methods.events import Denoised, Embeddings, Guidance

__all__ = [
    "OWN",
    "UNCONDITIONAL",
    "Condition",
    "Denoised",
    "EachImage",
    "Embeddings",
    "Guidance",
    "Method",
    "Step",
    "Window",
]

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

    @property
    def couples(self) -> bool:
        """Whether the pictures of a call look at each other. Where no method says so, picture i of a batch is picture i
        alone, so that a batch may be split; what couples must also be given the same companions to be made again.
        """
        return False

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
        """Whether `denoised` is called at all; where no method says so, no clean estimate is computed."""
        return type(self).denoised is not Method.denoised

    def looks_at(self, step: Step, state: dict[str, Any]) -> bool:
        """Whether `denoised` is to be called at this step; asked after `conditions`, if `sees_denoised`."""
        return True

    def denoised(self, denoised: Denoised, state: dict[str, Any]) -> None:
        """See or change the clean estimate, per image."""
