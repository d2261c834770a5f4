"""The prompt's embeddings of one step, changed by methods before the denoiser is asked."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from negguide.engine.evaluate import DenoiserCall
from negguide.engine.finite import FiniteGuard
from negguide.methods.base import Embeddings, Method, Step
from negguide.methods.state import RunState
from negguide.pipeline.families import unsupported
from negguide.pipeline.plan import Plan

_TEXTS = ("encoder_hidden_states", "encoder_hidden_states_t5", "encoder_hidden_states_llama3")
"""What denoisers call their texts, (B, L, C) or with a further axis (tokens by layers); all that a call has are changed."""


def edited(
    denoiser_call: DenoiserCall,
    plan: Plan,
    step: Step,
    methods: Sequence[Method],
    states: Sequence[RunState],
    guard: FiniteGuard,
) -> tuple[DenoiserCall, list[str]]:
    """The call with the conditional rows of its text as the methods want them, and the names of those that changed it.

    Untouched, the very call comes back. Raises `Unsupported` for denoisers that take their text in another form.
    """
    editing = [(method, state) for method, state in zip(methods, states, strict=True) if method.edits_embeddings]
    if not editing:
        return denoiser_call, []
    wholes = {name: denoiser_call.named.get(name) for name in _TEXTS}
    texts = {name: whole for name, whole in wholes.items() if isinstance(whole, Tensor) and whole.ndim in (3, 4)}
    if not texts:
        name = editing[0][0].name or type(editing[0][0]).__name__
        raise unsupported(f"{name} on {plan.family.name}", f"its denoiser takes no {_TEXTS[0]} (B, L, C)")
    names: list[str] = []
    changed = {name: _edited(name, text, plan, step, editing, guard, names) for name, text in texts.items()}
    if not names:
        return denoiser_call, []
    return denoiser_call.changed({**denoiser_call.named, **changed}), list(dict.fromkeys(names))


def _edited(
    name: str,
    whole: Tensor,
    plan: Plan,
    step: Step,
    editing: Sequence[tuple[Method, RunState]],
    guard: FiniteGuard,
    names: list[str],
) -> Tensor:
    """One text of the call as the methods want it; the names of those that changed it are added."""
    axis = plan.family.rows.axis((name,))
    rows = slice(0, plan.rows) if plan.mode != "batch" or plan.family.cond_first else slice(plan.rows, 2 * plan.rows)
    cond = whole.movedim(axis, 0)[rows]
    event, before = Embeddings(step, cond.flatten(1, -2)), len(names)
    for method, state in editing:
        seen, event.touched = event.text, False
        method.embeddings(event, state)
        if event.touched:
            names.append(method.name or type(method).__name__)
            guard.check(event.text, (seen,), names[-1], step.index)
    if len(names) == before:
        return whole
    changed = whole.movedim(axis, 0).clone()
    changed[rows] = event.text.reshape(cond.shape)
    return changed.movedim(0, axis)
