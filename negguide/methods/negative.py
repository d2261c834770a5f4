"""What is negated: a text with a weight, a window and a region; and the helpers that all negative methods share."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from negguide import maths
from negguide.methods.anchors import as_anchor, condition_of
from negguide.methods.base import OWN, Condition, EachImage, Guidance, Step, Window
from negguide.methods.checks import encodable, finite
from negguide.methods.emphasis import literal, weighted
from negguide.methods.mask import Mask
from negguide.methods.step import Embedded, as_window

if TYPE_CHECKING:
    from torch import Tensor


Prompt = str | tuple[str, ...] | EachImage | Embedded
"""What says what is meant: a text, one for each prompt, one for each image, or embeddings."""


@dataclasses.dataclass(frozen=True)
class Concept:
    """A text that takes part in guidance; see `Negative` and `Positive`."""

    prompt: str | tuple[str, ...] | EachImage | Embedded = ""
    weight: float = 1.0
    window: Window = dataclasses.field(default_factory=Window)
    mask: Mask | None = None
    embeds: dataclasses.InitVar[object] = None
    pooled: dataclasses.InitVar[object] = None

    def __post_init__(self, embeds: object, pooled: object) -> None:
        kind = type(self).__name__.lower()
        if embeds is not None:
            if self.prompt != "":
                raise ValueError(f"a {kind} has a prompt {self.prompt!r} and embeddings; give one of the two")
            object.__setattr__(self, "prompt", Embedded.of(embeds, pooled))
        elif pooled is not None:
            raise ValueError(
                f"a {kind} has pooled embeddings and no others; give both: {type(self).__name__}(embeds=..., pooled=...)"
            )
        prompt = _texts(self.prompt, kind)
        prompt, factor = (prompt, 1.0) if isinstance(prompt, EachImage | Embedded) else weighted(prompt)
        object.__setattr__(self, "prompt", prompt)
        object.__setattr__(self, "weight", factor * finite(f"the weight of {kind} {self.prompt!r}", self.weight))
        object.__setattr__(self, "window", as_window(self.window))
        object.__setattr__(self, "mask", None if self.mask is None else Mask.of(self.mask))
        if self.weight < 0:
            raise ValueError(
                f"{kind} {self.prompt!r} has weight {self.weight:g}; weights are 0 or more: a negative of weight 1 is "
                "pushed away (papers write -1 for it); what is wanted goes into the prompt or PerpNeg(positives=...)"
            )

    @property
    def condition(self) -> Condition:
        """The prediction it needs."""
        prompt = self.prompt
        if isinstance(prompt, EachImage):
            return Condition(EachImage(tuple(text if text and text.strip() else None for text in prompt.texts)))
        if isinstance(prompt, Embedded):
            return Condition(prompt)
        if isinstance(prompt, str):
            return Condition(literal(prompt))
        return Condition(tuple(literal(text) if text.strip() else None for text in prompt))

    @property
    def is_idle(self) -> bool:
        """Whether it can never act: weight 0, an empty window, or a text for no image."""
        return self.weight == 0 or self.window.is_empty or not any(self.is_said)

    @property
    def is_said(self) -> tuple[bool, ...]:
        """Whether it has a text: for all, for each prompt, or for each image."""
        if isinstance(self.prompt, Embedded):
            return (True,)
        texts = self.prompt.texts if isinstance(self.prompt, EachImage) else self.prompt
        return tuple(bool(text and text.strip()) for text in ((texts,) if isinstance(texts, str) else texts))

    def weight_in(self, like: Tensor) -> float | Tensor:
        """Its weight; where some of the images of `like` (B, ...) have no text of it, (B, 1, ...) with zeros there."""
        said = self.is_said
        if all(said):
            return self.weight
        rows = [self.weight * is_here for is_here in said for _ in range(like.shape[0] // len(said))]
        return like.new_tensor(rows).float().view(-1, *(1 for _ in like.shape[1:]))


@dataclasses.dataclass(frozen=True)
class Negative(Concept):
    r"""Something that is not wanted.

    `prompt`: its text, or a tuple with one text for each prompt of the call (an empty text there: no negative for
    that prompt), or `EachImage` with one for each image. `weight`: 0 (no effect, no pass) or more; choose 1 first, 0.5
    to 2 is the useful range, and Perp-Neg bears more. `window`: when it holds; `Window(0, 0.5)` keeps most of the
    effect at half the extra cost. `mask`: where it holds (`Mask`, PIL picture, array or tensor; white = holds).

    A prompt that is weighted as a whole, as web UIs and compel write it (`(cat:1.5)`, `((cat))`, `[cat]`, `cat++`), is read as
    such, and a warning says so; `\(` stands for the bracket itself.

    `embeds`, `pooled`: embeddings instead of a prompt, (L, C) or (P, L, C) for P prompts, of any length L, and (D,) or (P, D)
    where the pipeline takes `pooled_prompt_embeds` (SDXL, SD3, Flux); or as `embeds` alone what compel returns. They have
    no JSON form, and VSF, which picks words, needs a text.

    Wherever negatives are taken, a string stands for `Negative(string)` and a pair `("hat", 0.8)` for
    `Negative("hat", 0.8)`.

    `instead_of`: what should stand in its place (or a tuple, one text for each prompt). What is removed is then what "cat"
    says *more than* "pet", `eps_cat - eps_pet`, so that what both share stays. It costs a pass of its own; `PerpNeg`, `NAG`,
    `Recommended`, signed `NegativePrompt` and `ContrastiveNegative` take it, other methods say that they do not.

    >>> Negative("hat", weight=0.8, window=Window(0, 0.4))
    Negative(prompt='hat', weight=0.8, window=Window(start=0, stop=0.4, unit='progress'), mask=None, instead_of=None)
    """

    instead_of: str | tuple[str, ...] | None = dataclasses.field(default=None, kw_only=True)

    def __post_init__(self, embeds: object, pooled: object) -> None:
        super().__post_init__(embeds, pooled)
        object.__setattr__(self, "instead_of", as_anchor(self.instead_of, self.prompt))


@dataclasses.dataclass(frozen=True)
class Positive(Concept):
    """Something that is wanted besides the prompt, with a weight of 0 or more, a window and a region; see `PerpNeg`."""


ConceptLike = str | Concept | tuple[str, float] | Mapping[str, Any]
"""What stands for one negative: a text, a `Negative`, a (text, weight) pair, or the dict of its JSON form."""

C = TypeVar("C", bound=Concept)


def as_concepts(values: ConceptLike | Sequence[ConceptLike], kind: type[C]) -> tuple[C, ...]:
    """One or many of what `ConceptLike` allows -> a tuple of `kind`. `TypeError` names what is possible."""
    if isinstance(values, str | Concept | Mapping) or _is_pair(values):
        values = (values,)  # type: ignore[assignment]
    if hasattr(values, "shape"):
        values = (values,)  # type: ignore[assignment]
    if not isinstance(values, Sequence):
        raise TypeError(f"{kind.__name__.lower()}s are {values!r}; {_possible(kind)}, or a list of them")
    return tuple(_as_concept(value, kind) for value in values)  # type: ignore[arg-type]


def as_negatives(
    values: ConceptLike | Sequence[ConceptLike], method: str, anchors: bool = False
) -> tuple[Negative, ...]:
    """As `as_concepts`, and at least one; with `instead_of` only where the method knows `anchors`."""
    negatives = as_concepts(values, Negative)
    if not negatives:
        raise ValueError(
            f"{method} got no negative; give at least one, e.g. {method}('hat') or {method}(['hat', 'glasses'])"
        )
    if not anchors and (
        anchored := next((anchored for anchored in negatives if anchored.instead_of is not None), None)
    ):
        raise ValueError(
            f"{method} cannot take {anchored.prompt!r} instead_of={anchored.instead_of!r}; PerpNeg, NAG, Recommended, "
            "ContrastiveNegative and NegativePrompt(mode='signed') can"
        )
    return negatives


def live(concepts: Sequence[C], step: Step) -> tuple[C, ...]:
    """Those that act at this step: window open and weight not 0."""
    return tuple(concept for concept in concepts if not concept.is_idle and concept.window.is_open(step))


def wanted(concepts: Sequence[Concept]) -> tuple[Condition, ...]:
    """The conditions of those that can ever act, and of what stands in their place, each once."""
    asked = [
        needed for concept in concepts if not concept.is_idle for needed in (concept.condition, anchor_of(concept))
    ]
    return tuple(dict.fromkeys(condition for condition in asked if condition is not None))


def anchor_of(concept: Concept) -> Condition | None:
    """The prediction of what should stand in the place of a negative, where it says so."""
    return condition_of(concept.instead_of) if isinstance(concept, Negative) else None


def difference(guidance: Guidance, concept: Concept, eps_0: Tensor) -> Tensor:
    """`eps_i - eps_0` of a concept, `eps_i - eps_a` where it stands instead of a; (B, ...) in float32 or wider."""
    anchor = anchor_of(concept)
    start = eps_0 if anchor is None else maths.widen(guidance[anchor])
    return maths.widen(guidance[concept.condition]) - start


def strength(concept: Concept, step: Step) -> float | Tensor:
    """Its weight, for each image if need be, times its mask (a tensor that broadcasts against predictions)."""
    weight = concept.weight_in(step.sample)
    return weight if concept.mask is None else weight * step.resize_mask(concept.mask).float()


def origin(unconditional: str | tuple[str, ...] | None) -> Condition:
    """What differences are taken from: the true unconditional (None), the pipeline's own ("own"), or a text."""
    return OWN if unconditional == "own" else Condition(unconditional, role="base")


UNCONDITIONAL_HELP = (
    "What guidance starts from; empty: the true unconditional, own: what the pipeline has in the negative place (which keeps "
    "the call's negative prompt at work), or a text."
)


def as_unconditional(value: str | Sequence[str] | None) -> str | tuple[str, ...] | None:
    """Validates an `unconditional` option."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, Sequence) and value and all(isinstance(text, str) for text in value):
        return tuple(value)
    raise TypeError(
        f"unconditional is {value!r}; possible: None (the true unconditional), 'own' (what the pipeline has in the "
        "negative place), a text, or a tuple with one text per prompt"
    )


def start_from(guidance: Guidance, condition: Condition) -> Tensor:
    """Let guidance start at `condition`, unless an earlier method chose the base; returns its prediction (B, ...)."""
    prediction = guidance[condition]
    if not is_base_chosen(guidance):
        move_base(guidance, prediction)
    return prediction


def subtract(guidance: Guidance, term: Tensor, scale: float | None) -> None:
    """Add `term` (negatives, already signed) to guidance, with the guidance scale (None) or a scale of its own."""
    if scale is None:
        guidance.direction = (maths.widen(guidance.direction) + term).to(guidance.cond.dtype)
    else:
        before = 0.0 if guidance.offset is None else maths.widen(guidance.offset)
        guidance.offset = (before + scale * term).to(guidance.cond.dtype)


def move_base(guidance: Guidance, base: Tensor) -> None:
    """Replace the base so that `base + direction` stays where it is, also after a method has edited the direction."""
    if guidance.direction_edited:  # an unedited direction follows the base by itself, and without rounding
        moved = maths.widen(guidance.direction) + maths.widen(guidance.base) - maths.widen(base)
        guidance.direction = moved.to(guidance.direction.dtype)
    guidance.base = base.view_as(base)  # never the very object of `plain_base`, see `is_base_chosen`


def is_base_chosen(guidance: Guidance) -> bool:
    """Whether a method has said where guidance starts (perhaps at the very prediction that stood there)."""
    return guidance.base is not guidance.plain_base


def _as_concept(value: ConceptLike, kind: type[C]) -> C:
    if isinstance(value, kind):
        return value
    if isinstance(value, str):
        return kind(value)
    if isinstance(value, Mapping):
        fields = [field.name for field in dataclasses.fields(kind)]
        if unknown := sorted(set(value) - set(fields)):
            raise ValueError(
                f"{kind.__name__.lower()} has no {', '.join(map(repr, unknown))}; possible: {', '.join(fields)}"
            )
        return kind(**value)
    if _is_pair(value):
        return kind(*value)  # type: ignore[misc]
    if (shape := getattr(value, "shape", None)) is not None:
        raise TypeError(f"a {kind.__name__.lower()} is a tensor {tuple(shape)}; write {kind.__name__}(embeds=...)")
    raise TypeError(f"a {kind.__name__.lower()} is {value!r}; {_possible(kind)}")


def _is_pair(value: object) -> bool:
    """Whether it is a (text, weight) pair. Two texts are two concepts."""
    return isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str) and hasattr(value[1], "__float__")


def _possible(kind: type[Concept]) -> str:
    return f"possible: a text, a pair like ('hat', 0.8), or {kind.__name__}('hat', weight=0.8, window=Window(0, 0.4))"


def _texts(prompt: object, kind: str) -> Prompt:
    if isinstance(prompt, Embedded):
        return prompt
    if isinstance(prompt, EachImage):
        for text in prompt.texts:
            encodable(f"the {kind}", text or "")
        return prompt
    if isinstance(prompt, str):
        if not prompt.strip():
            raise ValueError(
                f"a {kind} has the empty text {prompt!r}; say in words what it is, or leave the {kind} out"
            )
        return encodable(f"the {kind}", prompt)
    if isinstance(prompt, Sequence) and prompt and all(isinstance(text, str) for text in prompt):
        if not any(text.strip() for text in prompt):
            raise ValueError(f"all texts of a {kind} are empty; at least one of {len(prompt)} must say something")
        return tuple(encodable(f"the {kind}", text) for text in prompt)
    raise TypeError(
        f"a {kind} has the prompt {prompt!r}; possible: a text, or a tuple with one text for each prompt of the call"
    )
