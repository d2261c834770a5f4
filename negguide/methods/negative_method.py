"""What the methods that take negatives share: their texts, when these act, and what has to be predicted for them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, cast

from negguide.methods.base import Condition, Guidance, Method, Step
from negguide.methods.negative import Concept, ConceptLike, Negative, as_negatives, live, wanted
from negguide.methods.options import check_options
from negguide.methods.spared import sparing, where_said
from negguide.methods.state import RunState


@dataclasses.dataclass(frozen=True)
class NegativeMethod(Method):
    """A method that takes negatives. `takes_anchors`: whether it knows what to do with `instead_of`."""

    takes_anchors: ClassVar[bool] = False

    negatives: ConceptLike | Sequence[ConceptLike]

    def __post_init__(self) -> None:
        negatives = as_negatives(self.negatives, type(self).__name__, anchors=self._takes_anchors_now)
        object.__setattr__(self, "negatives", negatives)
        check_options(self)

    @property
    def _takes_anchors_now(self) -> bool:
        return self.takes_anchors

    @property
    def _acts(self) -> bool:
        """Whether the options let it do anything at all."""
        return True

    @property
    def _all(self) -> tuple[Negative, ...]:
        return cast("tuple[Negative, ...]", self.negatives)

    def _live(self, step: Step) -> tuple[Negative, ...]:
        """The negatives that act at this step."""
        return live(self._all, step) if self._acts else ()


class EditsGuidance(NegativeMethod):
    """A method that edits guidance by the predictions of its concepts, counted from `_origin`."""

    acts_alone: ClassVar[bool] = False

    @property
    def _origin(self) -> Condition:
        """The prediction that differences are taken from."""
        raise NotImplementedError

    @property
    def _concepts(self) -> tuple[Concept, ...]:
        """All that takes part, negatives first."""
        return self._all

    def _edit(self, guidance: Guidance, concepts: Sequence[Concept], state: RunState) -> None:
        raise NotImplementedError

    def conditions(self, step: Step, state: RunState) -> Sequence[Condition]:
        return self._asked_for(live(self._concepts, step))

    def prompts(self) -> Sequence[Condition]:
        return self._asked_for(self._concepts)

    def combine(self, guidance: Guidance, state: RunState) -> None:
        if self._acts and (concepts := live(self._concepts, guidance.step)):
            with where_said(concepts, guidance):
                self._edit(guidance, concepts, state)

    def _asked_for(self, concepts: Sequence[Concept]) -> Sequence[Condition]:
        conditions = wanted(concepts) if self._acts else ()
        return (self._origin, *conditions, *sparing(concepts)) if conditions else ()
