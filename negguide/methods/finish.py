"""The end of a step: the guided prediction, after the methods that want its clean estimate have seen it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from negguide.methods.base import Denoised, Guidance, Method
from negguide.methods.state import RunState

if TYPE_CHECKING:
    from torch import Tensor

    from negguide.methods.tokens import RunContext


def finished(
    guidance: Guidance, methods: Sequence[tuple[Method, RunState]], context: RunContext | None = None
) -> Tensor:
    """The prediction (B, ...) that the scheduler gets, in the dtype of the prompt's.

    Args:
        guidance: after every method's `combine`.
        methods: each with its state of this run; those that look at this step see the clean estimate, in this order.
        context: what they may know of the running denoiser; None where nothing of it is known.
    """
    step = guidance.step
    prediction = guidance.result() if guidance.scale != 1.0 or guidance.touched else guidance.cond
    looking = [(m, state) for m, state in methods if m.sees_denoised and m.looks_at(step, state)]
    if looking:
        event = Denoised(step, step.to_denoised(prediction), context)
        for method, state in looking:
            method.denoised(event, state)
        prediction = step.from_denoised(event.x0) if event.touched else prediction
    return prediction.to(guidance.cond.dtype)
