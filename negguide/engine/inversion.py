"""Inverted pictures: the noisy latents from which this run's own denoiser, unguided, would make a given picture.

DDIM inversion (arXiv:2010.02502, section 4.3) for any scheduler whose samples are a x0 + b eps: the ordinary differential
equation of sampling, followed backwards from one level of the run to the noisier one before it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from negguide.engine.attention_hooks import COND, groups_of
from negguide.pipeline import argument_tree
from negguide.pipeline.families import unsupported
from negguide.pipeline.layout import prediction_of, stacked

if TYPE_CHECKING:
    from negguide.engine.evaluate import DenoiserCall, Evaluator

_TIMES = ("timestep", "t")


@torch.no_grad()
def invert(evaluator: Evaluator, denoiser_call: DenoiserCall, index: int, clean: Tensor) -> tuple[Tensor, ...]:
    """Latents (P, R, ...) at every step of the run, as the scheduler holds them, of pictures `clean` (P, R, ...).

    Each picture is inverted under the text of its group, without guidance. At the last step, the least noisy, it is taken
    to be clean; from there each level costs a row per picture, which `passes` counts. `index`: the step of `ask`.
    """
    plan = evaluator.plan
    schedule, layout, family = plan.schedule, plan.layout, plan.family
    if getattr(plan.pipe, "transformer_2", None) is not None:
        raise unsupported(
            f"{family.name}: inverting pictures", "it has one denoiser for high noise and one for low noise"
        )
    groups, count = groups_of(plan), clean.shape[1]
    rows = [group[0] for group in groups for _ in range(count)]
    call = argument_tree.extended(evaluator.call(denoiser_call, COND), rows, plan.rows, family.rows)
    call = argument_tree.take(call, slice(plan.rows, None), plan.rows + len(rows), family.rows)
    name = next((name for name in _TIMES if name in call), None)
    if name is None or schedule.timesteps[index] == 0:
        raise unsupported(f"{family.name}: inverting pictures", "the denoiser's argument for the time is not known")
    value = call[plan.main]
    wide = torch.promote_types(clean.dtype, torch.float32)
    last = len(schedule.timesteps) - 1
    held = schedule.coefficients(last)[0] * clean.flatten(0, 1).to(wide)
    latents_by_step = [held]
    for at in range(last, 0, -1):
        latents = layout.placed(stacked(value), schedule.model_input(held, at).to(clean.dtype))
        named = {
            **call,
            plan.main: list(latents.unbind(0)) if isinstance(value, (list, tuple)) else latents,
            name: _moved(call[name], schedule.timesteps[at] / schedule.timesteps[index]),
        }
        x0 = schedule.to_denoised(_predicted(evaluator, denoiser_call, named, at, len(rows)), held, at, plan.sign)
        a, b = schedule.coefficients(at)
        held = schedule.noised(x0, (held - a * x0) / b, at - 1) if b else held
        latents_by_step.append(held)
    return tuple(x.to(clean.dtype).unflatten(0, clean.shape[:2]) for x in reversed(latents_by_step))


def _moved(time: Tensor, ratio: float) -> Tensor:
    """The time of another step; pipelines give it as it is, or as a fraction of a thousand, or counted backwards from there."""
    moved = time.double() * ratio
    return (moved if time.is_floating_point() else moved.round()).to(time.dtype)


def _predicted(
    evaluator: Evaluator, denoiser_call: DenoiserCall, named: dict[str, object], at: int, rows: int
) -> Tensor:
    evaluator.passes += rows / evaluator.plan.rows
    with evaluator.context(denoiser_call.module, "inversion", at):
        return evaluator.plan.layout.core(prediction_of(denoiser_call.repeated(named)))
