"""The negative to take where nobody chooses: what did best on the bundled models, in the form that the pipeline at hand takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, ClassVar, cast

from negguide.methods.base import Condition, Method, Step, Window
from negguide.methods.nag import NAG, kind_of
from negguide.methods.negative import ConceptLike, wanted
from negguide.methods.negative_method import NegativeMethod
from negguide.methods.perp_neg import PerpNeg
from negguide.methods.registry import register
from negguide.methods.state import RunState, memory_of
from negguide.methods.tokens import Kind, Listen, RunContext, Tokens

if TYPE_CHECKING:
    from collections.abc import Mapping

EARLY = Window(0, 0.5)
"""When a negative acts beside guidance, where it has no window of its own: what a picture shows is settled early."""

BESIDE_GUIDANCE: Mapping[Kind, dict[str, float]] = {
    "cross": {"scale": 4.0, "alpha": 0.5},
    "joint": {"scale": 5.0, "alpha": 0.25},
}
"""Options of `NAG` beside guidance, by the kind of layers in which image tokens meet the text; see docs/defaults.md."""


@register
@dataclasses.dataclass(frozen=True)
class Recommended(NegativeMethod):
    """A negative by the method, strength and window that did best on the bundled models, for the pipeline at hand.

    Where the attention of a model is known it is `NAG`: beside guidance in the first half of sampling, without guidance at the
    family's own strength throughout. Elsewhere it is `PerpNeg`. A negative's own window stays (the whole of
    sampling counts as none; (0, 0.999) is as good as it). Which figures this rests on, and
    what the papers recommend: docs/defaults.md. `negguide.negatives("cat")` is short for it.

    >>> Recommended(["glasses", ("hat", 0.5)])  # doctest: +ELLIPSIS
    Recommended(...)
    """

    name: ClassVar[str] = "recommended"
    summary: ClassVar[str] = "the negative that did best on the bundled models, as the pipeline at hand takes it"
    cost: ClassVar[str] = "as nag; where attention is not known, as perp_neg"
    paper: ClassVar[str] = "arXiv:2505.21179"
    needs_guidance: ClassVar[bool] = False
    takes_anchors: ClassVar[bool] = True

    def for_layers(self, kinds: Collection[Kind]) -> Method:
        return self if set(kinds) - {"self"} else PerpNeg(self.negatives)

    def companions(self) -> Sequence[Condition]:
        return wanted(self._all)

    def listens(self, step: Step, context: RunContext, state: RunState) -> Listen | None:
        return self._nag(context, state).listens(step, context, state)

    def tokens(self, tokens: Tokens, state: RunState) -> None:
        self._nag(tokens.context, state).tokens(tokens, state)

    def _nag(self, context: RunContext, state: RunState) -> NAG:
        return memory_of(state, self, lambda: self._nag_for(context))

    def _nag_for(self, context: RunContext) -> NAG:
        if not context.guided:
            return NAG(self._all)
        early = [
            dataclasses.replace(negative, window=EARLY) if negative.window == Window() else negative
            for negative in self._all
        ]
        beside = BESIDE_GUIDANCE[kind_of(context)]
        return NAG(early, scale=beside["scale"], alpha=beside["alpha"])


def negatives(*texts: ConceptLike | Sequence[ConceptLike]) -> Recommended:
    """What should not be in the picture, by the recommended method for the pipeline at hand.

    Args:
        texts: one or several negatives, each a text, `(text, weight)` or a `Negative`; also as one list.

    Returns:
        A method to attach: `negguide.attach(pipe, negguide.negatives("glasses", ("hat", 0.5)))`.
    """
    if len(texts) == 1:
        return Recommended(texts[0])
    return Recommended(cast("Sequence[ConceptLike]", texts))
