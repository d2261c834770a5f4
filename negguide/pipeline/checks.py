"""What is checked of a pipeline of which nothing is known beforehand: better refused, with the reason, than silently wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor

from negguide.pipeline import argument_tree
from negguide.pipeline.families import unsupported
from negguide.pipeline.guidance import measured_scale
from negguide.pipeline.probe import Probe

if TYPE_CHECKING:
    from negguide.pipeline.plan_data import PlanData


def halves_of_answers(plan: PlanData, probed: Probe) -> tuple[Tensor, Tensor]:
    """(conditional, unconditional) answers that a probe gave a pipeline that guides."""
    first = plan.layout.core(probed.asked[0].answer)
    if plan.mode == "sequential":
        return first, plan.layout.core(probed.asked[1].answer)
    halves = first[: plan.rows], first[plan.rows :]
    return halves if plan.family.cond_first else (halves[1], halves[0])


def checked_formula(plan: PlanData, probed: Probe, call: Mapping[str, object]) -> tuple[float, float]:
    """(w, sign) of the pipeline's guidance, see `measured_scale`.

    Raises `Unsupported` where it is not what is known of it: `sign * post(uncond + w (cond - uncond))` of the two answers.
    """
    assert probed.guided is not None
    name, (cond, uncond) = plan.call.cls.__name__, halves_of_answers(plan, probed)
    guided = plan.layout.core(probed.guided)
    scale, sign = measured_scale(guided, cond, uncond)
    if scale < 0:
        why = f"its guidance comes out with the scale {scale:g}, as if conditional and unconditional stood in each other's place"
        raise unsupported(name, why)
    guided, cond, uncond = (t.detach().float().cpu() for t in (guided, cond, uncond))
    affine = uncond + scale * (cond - uncond)
    expected = (affine, plan.family.post(affine, cond, call))
    error = min(float((guided - sign * candidate).norm() / guided.norm().clamp_min(1e-12)) for candidate in expected)
    if error > 1e-2:
        why = "it does something to its guided prediction that is not known here (a norm, a threshold, a rescaling)"
        raise unsupported(name, why)
    return scale, sign


def check_rows(plan: PlanData, overlay: Mapping[argument_tree.Path, object]) -> None:
    """Refuse batched guidance in which a text stands in an argument without a known row for each image and half.

    What only follows the length of a text (positions, numbers) may be without rows.
    """
    named, rows = plan.reference.named, 2 * plan.rows
    if plan.mode != "batch":
        return
    for path, value in overlay.items():
        before = argument_tree.at(named, path)
        if argument_tree.has_rows(path, before, rows, plan.family.rows) or not isinstance(before, Tensor):
            continue
        in_list = len(path) > 1 and isinstance(argument_tree.at(named, path[:-1]), (list, tuple))
        if in_list or (before.is_floating_point() and isinstance(value, Tensor) and value.shape == before.shape):
            where, shape = ".".join(map(str, path)), tuple(before.shape)
            why = (
                f"its denoiser argument {where} {shape} depends on the text, but where it holds a row for each of "
                f"{rows} predictions is not known"
            )
            raise unsupported(plan.call.cls.__name__, why)


def check_foreseen(name: str, index: int, count: int) -> None:
    """Refuse scheduler steps behind those that were set before the first."""
    if index >= count:
        why = f"its scheduler makes more steps than the {count} that were set before the first; methods would not act in them"
        raise unsupported(name, why)
