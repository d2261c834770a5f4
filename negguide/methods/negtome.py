"""NegToMe: images keep away from each other, or from pictures. Choose this for variety, or to avoid a picture."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

from negguide import maths
from negguide.methods.bank import Bank
from negguide.methods.base import Denoised, Method, Step, Window
from negguide.methods.mask import Mask
from negguide.methods.options import check_options, option
from negguide.methods.reference_pictures import ReferencePictures, as_reference
from negguide.methods.registry import register
from negguide.methods.state import RunState, memory_of
from negguide.methods.step import as_window
from negguide.methods.tokens import Kind, Layer, Listen, Placement, RunContext, Tokens

if TYPE_CHECKING:
    from torch import Tensor


@dataclasses.dataclass(frozen=True)
class Strength:
    """What holds for a family where `NegToMe` is not told."""

    alpha: float
    threshold: float
    window: Window


ON_DIFFUSION = Strength(0.9, 0.7, Window(0.0, 0.2))
"""Stable Diffusion, SDXL, PixArt: the release's timesteps 1000 to 800 are the first fifth of the steps."""
ON_FLOW = Strength(0.9, 0.65, Window(1.0, 0.9, "sigma"))
"""Flux and other flow models: the release's timesteps 1000 to 900."""


@dataclasses.dataclass
class _Memory:
    """What is remembered in a run: the strength of this step, the layers, pictures to avoid, and the mask by token grids."""

    alpha: float = 0.0
    threshold: float = 1.0
    wants: Callable[[Layer], bool] | None = None
    pictures: ReferencePictures | None = None
    regions: dict[tuple[int, int], Tensor] = dataclasses.field(default_factory=dict)
    warned: bool = False


@register
@dataclasses.dataclass(frozen=True)
class NegToMe(Method):
    """`x_i <- (1 + alpha) x_i - alpha r_j`, r_j the reference token most similar to x_i, if more than `threshold`.

    Acts on image tokens after attention, in every branch of guidance against that branch's own reference, and needs no
    guidance. A prompt's group is the images of the same prompt in a call; groups never push each other.

    `reference`: "first": the first image of each group, which itself stays as it is; "all": all other images of the
    group, whichever matches best; pictures to avoid (a path, a PIL picture or latents, an `Avoid` with a mask, or a list);
    or a `Bank`, whose hardest pictures are picked. Pictures take no place in the result. "first" and "all" want several
    images per prompt. `alpha`, `threshold` and `window` None: the authors' values for the model (`ON_DIFFUSION`,
    `ON_FLOW`). `alpha_stop` is reached in even steps. `match`: see `negguide.maths.negtome.Match`. `placement` None: with
    match "release" in joint layers before the output projection, as the release does it, else behind it. `layers` None: the up
    blocks of UNets and all blocks of transformers; the release has `kinds` ("self", "cross", "joint"). `noise`
    "inverted": with the noise from which the model would make a picture, found once a call by DDIM inversion under the
    prompt (not for a `Bank`, whose pictures change as it goes).

    >>> NegToMe("all", alpha=1.5)
    NegToMe(reference='all', alpha=1.5, ...)
    """

    name: ClassVar[str] = "negtome"
    summary: ClassVar[str] = "pushes images of a batch from each other, or from given pictures"
    cost: ClassVar[str] = (
        "no extra pass; with pictures, one row per picture, prompt and branch at open steps; inverted: one more per step, once"
    )
    paper: ClassVar[str] = "arXiv:2412.01339"
    needs_guidance: ClassVar[bool] = False

    reference: Any = option(
        "first",
        help="What pictures are pushed from: the first of each prompt, all others of the prompt, or pictures to avoid.",
        choices=("first", "all"),
    )
    alpha: float | None = option(
        None, help="How far; 0.5 to 2 are useful, 0 is off, below 0 attracts. Empty: 0.9, the authors' value."
    )
    threshold: float | None = option(
        None,
        help="Tokens more similar than this are pushed; 1 pushes none. Empty: the authors' value for the model (0.7 or 0.65).",
        low=-1,
    )
    window: Window | Sequence[float] | None = option(
        None, help="When it acts; early steps make what the picture shows. Empty: the authors' choice for the model."
    )
    alpha_stop: float | None = option(None, help="What alpha becomes until the end of the window. Empty: it stays.")
    match: Literal["paper", "release"] = option(
        "paper", help="Which tokens are taken for similar: as the paper says, or as the authors' code does."
    )
    mask: Mask | None = option(None, help="Where in the result it acts.")
    layers: Sequence[str] | None = option(
        None, help="Parts of names of the layers it acts in, e.g. up_blocks. Empty: as released."
    )
    kinds: Sequence[Kind] = option(("self", "joint"), help="Kinds of attention it acts in.")
    noise: Literal["fixed", "clean", "inverted"] = option(
        "fixed",
        help="How pictures to avoid are shown to the model: with the same noise at each step, clean, or inverted.",
    )
    placement: Placement | None = option(
        None,
        help="Act on what attention gives, or on what the layer makes of it. Empty: with match release in joint layers the "
        "former, as the release; else the latter.",
        choices=("attention", "layer"),
    )
    seed: int = option(0, help="Seed of the noise of the pictures to avoid.", low=-(2**63), high=2**64 - 1)

    def __post_init__(self) -> None:
        object.__setattr__(self, "reference", as_reference(self.reference))
        check_options(self)
        if self.window is not None:
            object.__setattr__(self, "window", as_window(self.window))
        if self.mask is not None:
            object.__setattr__(self, "mask", Mask.of(self.mask))
        if self.layers is not None:
            object.__setattr__(self, "layers", _texts("layers", self.layers))
        object.__setattr__(self, "kinds", _texts("kinds", self.kinds))
        if not self.kinds or set(self.kinds) - {"self", "cross", "joint"}:
            raise ValueError(f"kinds is {self.kinds!r}; possible: 'self', 'cross', 'joint'")
        masked = isinstance(self.reference, tuple) and any(avoid.mask is not None for avoid in self.reference)
        if masked and self.match == "release":
            raise ValueError(
                "masks of pictures to avoid need match='paper': the release subtracts tokens beside the mask"
            )

        if isinstance(self.reference, Bank) and self.noise == "inverted":
            raise ValueError(
                "noise='inverted' needs pictures that stay the same; a Bank picks others as it goes: use 'fixed'"
            )

    @property
    def couples(self) -> bool:
        return self._in_batch

    def listens(self, step: Step, context: RunContext, state: RunState) -> Listen | None:
        strength = self._strength(step)
        alpha = self._alpha(step, strength)
        if alpha == 0 or strength.threshold >= 1 or not strength.window.is_open(step):
            return None
        memory = memory_of(state, self, _Memory)
        references = None
        if self._in_batch:
            if all(len(group) == 1 for group in context.groups):
                _warn_once(memory, cast(str, self.reference))
                return None
        elif (references := self._pictures(memory).latents(step, context)) is None:
            return None
        memory.alpha, memory.threshold = alpha, strength.threshold
        if memory.wants is None:
            memory.wants = self._wants(context)
        return Listen(memory.wants, references=references, placement=self._placement(context))

    def tokens(self, tokens: Tokens, state: RunState) -> None:
        memory = memory_of(state, self, _Memory)
        alpha, threshold = memory.alpha, memory.threshold
        region = None if self.mask is None else self._region(tokens, memory)
        for branch in tokens.branches:
            before = tokens[branch]
            after = before.clone()
            for at, group in enumerate(tokens.context.groups):
                rows = _rows(group)
                x = before[rows]
                there = after[rows]
                if not self._in_batch:
                    r = self._pictures(memory).tokens(tokens.references(branch)[at], tokens.grid)
                    maths.push_from(x, r, alpha, threshold, self.match, region, out=there)
                elif len(group) > 1 and self.reference == "all":
                    maths.push_apart(x, alpha, threshold, self.match, region, out=there)
                elif len(group) > 1:
                    maths.push_from(x[1:], x[0], alpha, threshold, self.match, region, out=there[1:])
                if not isinstance(rows, slice):
                    after[rows] = there
            tokens[branch] = after

    @property
    def sees_denoised(self) -> bool:
        return isinstance(self.reference, Bank)

    def denoised(self, denoised: Denoised, state: RunState) -> None:
        self._pictures(memory_of(state, self, _Memory)).x0 = denoised.x0

    @property
    def _in_batch(self) -> bool:
        return isinstance(self.reference, str)

    def _strength(self, step: Step) -> Strength:
        usual = ON_FLOW if step.prediction_type.startswith("flow") else ON_DIFFUSION
        return Strength(
            usual.alpha if self.alpha is None else self.alpha,
            usual.threshold if self.threshold is None else self.threshold,
            usual.window if self.window is None else as_window(self.window),
        )

    def _alpha(self, step: Step, strength: Strength) -> float:
        """Alpha at a step, between its values at both ends of the window."""
        if self.alpha_stop is None:
            return strength.alpha
        window = strength.window
        at = step.progress if window.unit == "progress" else step.sigma
        length = window.stop - window.start
        share = 0.0 if length == 0 else min(1.0, max(0.0, (at - window.start) / length))
        return strength.alpha + share * (self.alpha_stop - strength.alpha)

    def _placement(self, context: RunContext) -> Placement:
        """The authors' Flux code acts before the output projection, their code for UNets behind it."""
        joint = any(layer.kind == "joint" for layer in context.layers)
        return self.placement or ("attention" if self.match == "release" and joint else "layer")

    def _wants(self, context: RunContext) -> Callable[[Layer], bool]:
        parts = self.layers
        if parts is None:
            parts = ("up_blocks",) if any(layer.name.startswith("up_blocks") for layer in context.layers) else ("",)
        names = {
            layer.name for layer in context.layers if layer.kind in self.kinds and any(p in layer.name for p in parts)
        }
        if not names:
            there = ", ".join(f"{layer.name} ({layer.kind})" for layer in context.layers[:8])
            raise ValueError(
                f"no attention layer fits layers={self.layers!r}, kinds={self.kinds!r}; there are {there} ..."
            )

        def wanted(layer: Layer) -> bool:
            return layer.name in names

        return wanted

    def _pictures(self, memory: _Memory) -> ReferencePictures:
        if memory.pictures is None:
            memory.pictures = ReferencePictures(self.reference, self.noise, self.seed)
        return memory.pictures

    def _region(self, tokens: Tokens, memory: _Memory) -> Tensor:
        """The mask as (N,) floats on this layer's grid."""
        if tokens.grid is None:
            raise ValueError(
                f"the token grid at {tokens.layer.name} is not known (a video?), so no mask can be laid on it"
            )
        if tokens.grid not in memory.regions:
            assert self.mask is not None
            region = self.mask.tensor(*tokens.grid).flatten()
            memory.regions[tokens.grid] = region.to(tokens[tokens.branches[0]].device)
        return memory.regions[tokens.grid]


def _texts(what: str, values: Sequence[str]) -> tuple[str, ...]:
    texts = (values,) if isinstance(values, str) else tuple(values)
    if not all(isinstance(text, str) for text in texts):
        raise TypeError(f"{what} is {values!r}; texts are needed")
    return texts


def _rows(group: Sequence[int]) -> slice | list[int]:
    """A slice where the rows lie together, which needs no copy."""
    together = group[-1] - group[0] + 1 == len(group)
    return slice(group[0], group[-1] + 1) if together else list(group)


def _warn_once(memory: _Memory, reference: str) -> None:
    if not memory.warned:
        memory.warned = True
        warnings.warn(
            f"NegToMe({reference!r}) has no effect: every prompt has one image only. Ask for several "
            "(num_images_per_prompt=4), or give pictures to keep away from",
            stacklevel=2,
        )
