"""The prompt's embeddings of one step, changed by methods before the denoiser is asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from negguide.engine.evaluate import DenoiserCall
from negguide.engine.finite import FiniteGuard
from negguide.methods.base import Embeddings, Method, Step
from negguide.pipeline.families import unsupported
from negguide.pipeline.plan import Plan

_TEXT = "encoder_hidden_states"


def edited(
    denoiser_call: DenoiserCall,
    plan: Plan,
    step: Step,
    methods: Sequence[Method],
    states: Sequence[dict[str, Any]],
    guard: FiniteGuard,
) -> tuple[DenoiserCall, list[str]]:
    """The call with the conditional rows of its text as the methods want them, and the names of those that changed it.

    Untouched, the very call comes back. Raises `Unsupported` for denoisers that take their text in another form.
    """
    editing = [(method, state) for method, state in zip(methods, states, strict=True) if method.edits_embeddings]
    if not editing:
        return denoiser_call, []
    whole = denoiser_call.named.get(_TEXT)
    if not isinstance(whole, Tensor) or whole.ndim != 3:
        name = editing[0][0].name or type(editing[0][0]).__name__
        raise unsupported(f"{name} on {plan.family.name}", f"its denoiser takes no {_TEXT} (B, L, C)")
    rows = slice(0, plan.rows) if plan.mode != "batch" or plan.family.cond_first else slice(plan.rows, 2 * plan.rows)
    event, names = Embeddings(step, whole[rows]), []
    for method, state in editing:
        seen, event.touched = event.text, False
        method.embeddings(event, state)
        if event.touched:
            names.append(method.name or type(method).__name__)
            guard.check(event.text, (seen,), names[-1], step.index)
    if not names:
        return denoiser_call, []
    changed = whole.clone()
    changed[rows] = event.text
    return denoiser_call.changed({**denoiser_call.named, _TEXT: changed}), names
