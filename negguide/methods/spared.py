"""Images of a call that have no text of a negative: nothing happens to them, and their own negative prompt stays at work."""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from negguide.methods.base import OWN, Condition, Guidance
from negguide.methods.negative import Concept, is_base_chosen
from negguide.methods.rows import chosen_rows, guidance_of_rows


def sparing(concepts: Sequence[Concept]) -> tuple[Condition, ...]:
    """What is needed besides for images that have no text of a concept: the pipeline's own prediction stays theirs."""
    return () if all(all(concept.is_said) for concept in concepts) else (OWN,)


@contextmanager
def where_said(concepts: Sequence[Concept], guidance: Guidance) -> Iterator[None]:
    """Within it guidance may be edited; images that have no text of any of `concepts` are then as if there were none."""
    weights = [concept.weight_in(guidance.cond) for concept in concepts]
    maps = [weight.flatten() != 0 for weight in weights if not isinstance(weight, float | int)]
    on = functools.reduce(operator.or_, maps) if len(maps) == len(weights) else None
    if on is not None and OWN in guidance.predictions and not is_base_chosen(guidance):
        guidance.begin_at(chosen_rows(on, guidance.plain_base, guidance[OWN]))
    with guidance_of_rows(guidance, on):
        yield
