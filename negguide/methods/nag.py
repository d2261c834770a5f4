"""NAG: the negative works inside attention, so that models without guidance, and few steps, take it too."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

from negguide import maths
from negguide.methods.base import Condition, Step
from negguide.methods.negative import Negative, anchor_of, wanted
from negguide.methods.negative_method import NegativeMethod
from negguide.methods.options import option
from negguide.methods.registry import register
from negguide.methods.state import RunState, memory_of
from negguide.methods.tokens import Kind, Listen, Placement, Pooled, RunContext, Tokens

if TYPE_CHECKING:
    from torch import Tensor


class _Strength(NamedTuple):
    scale: float
    tau: float
    alpha: float


class _Now(NamedTuple):
    """What acts at a step; every layer asks."""

    step: Step
    negatives: Sequence[Negative]
    conditions: Sequence[Condition]
    """Of each of them."""
    anchors: Sequence[Condition | None]
    """Of what should stand in their places."""
    wanted: Sequence[Condition]
    """All of these, each once."""


@dataclasses.dataclass
class _Memory:
    """What is remembered in a run."""

    now: _Now | None = None


_USUAL = {"cross": _Strength(3.0, 2.5, 0.5), "joint": _Strength(5.0, 2.5, 0.25)}


@register
@dataclasses.dataclass(frozen=True)
class NAG(NegativeMethod):
    """Pushes the picture from a negative inside the attention to text, so that it needs no guidance and works in few steps.

    `z = s z_pos - (s - 1) z_neg`, shortened to `tau |z_pos|` and blended by `alpha`, for every image token of every layer that
    attends to text; z are attention outputs of the prompt and of the negative for the same image tokens, norms are L1. Only the
    prompt's prediction is edited. K negatives are mixed first, as `NegativePrompt` mixes them: `z_neg = z_pos + sum_i c_i (z_i -
    z_pos)`, `c_i = w_i / sum w * max w`, so that `scale` keeps its meaning. Neutral, and without cost: scale 1, alpha 0, weights 0,
    closed windows.

    Scale, tau and alpha left out are the family's: 3, 2.5, 0.5 (Stable Diffusion), 5, 2.5, 0.25 (Flux), 9, 2.5, 0.25 (Wan), as in
    the releases (Wan: its scale); elsewhere 3, 2.5, 0.5 where text has layers of its own and 5, 2.5, 0.25 where it shares them
    with the image, which is our choice. A mask confines a negative to its region (pictures only).

    `Negative("cat", instead_of="dog")`: `z_pos + z_cat - z_dog` takes the place of z_cat, for one text more.
    `part="orthogonal"`: per token only what z_neg has beside z_pos, as in orthogonal negative guidance (arXiv:2605.29390,
    after its abstract; without tau and alpha: tau=1e6, alpha=1).

    Cost: where text has layers of its own (UNets, PixArt, Sana, Wan, LTX, ...) its keys and values and one more attention for
    each negative, a few percent of a pass. Where it shares them with the image its own tokens and their attention; what image
    tokens are and say to each other is computed once (SD3, Qwen-Image, Z-Image, Chroma, HunyuanVideo, ...; in Flux not in the
    single blocks, unless `pooled="prompt"`). In some families one row more (HiDream, Lumina 2, Mochi, ...).

    Source: arXiv:2505.21179, section 3.

    >>> NAG(["glasses", ("hat", 0.5)], scale=4.0).alpha is None
    True
    """

    name: ClassVar[str] = "nag"
    summary: ClassVar[str] = "the negative works inside attention: also without guidance and in few steps"
    cost: ClassVar[str] = "text layers of their own: one more attention to text per negative; joint ones: its tokens"
    paper: ClassVar[str] = "arXiv:2505.21179"
    needs_guidance: ClassVar[bool] = False
    takes_anchors: ClassVar[bool] = True

    scale: float | None = option(
        None,
        help="How far attention moves from the negative; raise it first, up to 11. Empty: the family's (3, 5 or 9).",
        low=1,
        high=1e6,
    )
    tau: float | None = option(
        None, help="How long the moved attention may become; lower it against artefacts. Empty: 2.5.", low=1, high=1e6
    )
    alpha: float | None = option(
        None, help="How much of it is blended in. Empty: the family's (0.5 or 0.25).", low=0, high=1
    )
    placement: Placement = option(
        "attention", help="Act on what attention gives, as the releases do, or on what the layer makes of it."
    )
    pooled: Pooled | None = option(
        None,
        help="Whose pooled text vector the negative has, its own or the prompt's. Empty: its own for Flux and SD3.",
        choices=("own", "prompt"),
    )
    part: Literal["all", "orthogonal"] = option(
        "all", help="What of the negative acts: all of it, or what is orthogonal to the prompt's features (ONG)."
    )

    def companions(self) -> Sequence[Condition]:
        return wanted(self._all) if self._acts else ()

    def listens(self, step: Step, context: RunContext, state: RunState) -> Listen | None:
        if not (negatives := self._live(step)):
            return None
        kind = kind_of(context)
        companions = (
            () if all(layer.reads_any_text for layer in context.layers if layer.kind == kind) else wanted(negatives)
        )
        return Listen(
            lambda layer: layer.kind == kind,
            companions=companions,
            placement=self.placement,
            same_image=True,
            pooled=self.pooled or context.defaults.get(self.name, {}).get("pooled", "prompt"),
        )

    def tokens(self, tokens: Tokens, state: RunState) -> None:
        if "cond" not in tokens:
            return
        memory = memory_of(state, self, _Memory)
        if memory.now is None or memory.now.step is not tokens.step:
            memory.now = self._now(tokens.step)
        now = memory.now
        z_pos, asked = tokens["cond"], tokens.layer.reads_any_text
        outputs = {condition: tokens.attend_to(condition) if asked else tokens[condition] for condition in now.wanted}
        weights = [_weight(negative, z_pos, tokens) for negative in now.negatives]
        ends = [
            outputs[condition] if anchor is None else maths.widen(z_pos) + outputs[condition] - outputs[anchor]
            for condition, anchor in zip(now.conditions, now.anchors, strict=True)
        ]
        z_neg = maths.compose(ends, weights, base=z_pos)
        if self.part == "orthogonal":
            z_neg = maths.orthogonal_end(z_pos, z_neg)
        guided = maths.nag(z_pos, z_neg, *self._strength(tokens.context, tokens.layer.kind)).to(z_pos.dtype)
        # The companions' image tokens must stay those of the prompt, so that the next layer compares like with like.
        tokens["cond"] = guided
        for condition in () if asked else now.wanted:
            tokens[condition] = guided

    def _now(self, step: Step) -> _Now:
        negatives = self._live(step)
        conditions = [negative.condition for negative in negatives]
        return _Now(step, negatives, conditions, [anchor_of(negative) for negative in negatives], wanted(negatives))

    def _strength(self, context: RunContext, kind: str) -> _Strength:
        """The user's numbers, else the family's, else those usual for this kind of layer."""
        own = {"scale": self.scale, "tau": self.tau, "alpha": self.alpha}
        set_here = {option: value for option, value in own.items() if value is not None}
        of_family = {k: v for k, v in context.defaults.get(self.name, {}).items() if k in own}
        return _USUAL[kind]._replace(**{**of_family, **set_here})

    @property
    def _acts(self) -> bool:
        return self.scale != 1 and self.alpha != 0


def kind_of(context: RunContext) -> Kind:
    """Where image tokens meet the text: in layers of their own, or else together with the image."""
    kinds = {layer.kind for layer in context.layers}
    if kinds == {"self"}:
        raise ValueError(
            f"no known layer of {context.family} attends to text, so a negative cannot work inside attention"
        )
    return "cross" if "cross" in kinds else "joint"


def _weight(negative: Negative, like: Tensor, tokens: Tokens) -> float | Tensor:
    """Weight of a negative, times its mask on the layer's token grid, (1, N, 1)."""
    if negative.mask is None:
        return negative.weight_in(like)
    if tokens.grid is None:
        raise ValueError(
            f"the tokens of {tokens.layer.name} have no grid (videos), so the mask of {negative.prompt!r} cannot be "
            "laid on them; leave the mask out"
        )
    return negative.weight_in(like) * negative.mask.tensor(*tokens.grid).to(like.device).reshape(1, -1, 1)
