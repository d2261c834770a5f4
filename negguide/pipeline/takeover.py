"""Takeover: negguide guides in the pipeline's stead, whose own classifier-free guidance is off and serves as the model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from negguide.pipeline import argument_tree
from negguide.pipeline.call import Call
from negguide.pipeline.families import Family
from negguide.pipeline.guidance import EMBEDDED, SCALES, Reading, first_probe, follows_latents, read_mode
from negguide.pipeline.probe import Probe, probe

if TYPE_CHECKING:
    from negguide.pipeline.plan_data import PlanData


def read_takeover(pipe: object, call: Call, family: Family, denoisers: Mapping[str, torch.nn.Module]) -> Reading:
    """The call with the pipeline's own classifier-free guidance off, and what that guidance would have been.

    A call that is not guided is left as it is: what its `guidance_scale` says to a distilled model is the user's choice.
    """
    name = call.cls.__name__
    probed = first_probe(pipe, call, denoisers)
    assert probed.sample is not None
    if read_mode(probed, name) == "single":
        guided, on = _switched_on(pipe, call, denoisers)
        return Reading(probed, "single", {}, guided, on)
    tried = []
    for off in _switches_off(family, call):
        alone = probe(pipe, denoisers, call.probing(off))
        if [asked.rows for asked in alone.asked] == [probed.sample.shape[0]] and _tells_the_same(probed, alone):
            return Reading(alone, "single", off, probed, {})
        tried.append(" and ".join(f"{key}={value}" for key, value in off.items()))
    if not tried:
        raise ValueError(
            f"takeover: {name} guides by a guider of its own; switch that off first: pipe.guider.disable()"
        )
    raise ValueError(f"takeover: {name} still guides with {', '.join(tried)}; call it with its own guidance off")


def _switches_off(family: Family, call: Call) -> Iterator[dict[str, object]]:
    """Changes that may switch the pipeline's own guidance off, the likeliest first."""
    accepted = {key: value for key, value in family.cfg_off.items() if key in call.parameters}
    seen: list[dict[str, object]] = [{}]
    for changes in (accepted, *({key: off} for key in SCALES for off in (1.0, 0.0) if key in call.parameters)):
        if changes not in seen and ("true_cfg_scale" in changes or "true_cfg_scale" not in call.parameters):
            seen.append(changes)
            yield changes


def _switched_on(
    pipe: object, call: Call, denoisers: Mapping[str, torch.nn.Module]
) -> tuple[Probe | None, dict[str, object] | None]:
    """A probe of the call with the pipeline's own guidance, and the changes for it; (None, None) where it has none."""
    for changes in _switches_on(call):
        try:
            probed = probe(pipe, denoisers, call.probing(changes))
            if read_mode(probed, call.cls.__name__) != "single":
                return probed, changes
        except Exception:  # whatever a pipeline says to a scale that is not the user's
            continue
    return None, None


def _switches_on(call: Call) -> Iterator[dict[str, object]]:
    negative = {"negative_prompt": call.texts("")}
    for key in SCALES:
        if key not in call.parameters:
            continue
        if key == "guidance_scale" or call.has_negative:
            yield {key: 2.0}
        if "negative_prompt" in call.parameters and not call.has_negative:
            yield {key: 2.0, **negative}


def _tells_the_same(guided: Probe, alone: Probe) -> bool:
    """Whether the denoiser hears of the same embedded guidance."""
    before, after = guided.asked[0].named, alone.asked[0].named
    return all(argument_tree.same(_first_row(before.get(name)), _first_row(after.get(name))) for name in EMBEDDED)


def _first_row(value: object) -> object:
    return value[:1] if isinstance(value, Tensor) and value.ndim else value


def set_own(plan: PlanData, guided: Probe | None) -> None:
    """What the pipeline would have in the negative place if it guided; where it never does, as if that were its prompt."""
    if guided is None:
        plan.own = plan.overlay_of(plan.probe_with({**plan.call.with_own_negative_as_prompt(), **plan.arguments}))
        return
    plan.guided = read_mode(guided, plan.call.cls.__name__)
    own = plan.unconditional_of(guided)
    there = plan.half(guided.asked[0].named, "cond") if plan.guided == "batch" else guided.asked[0].named
    for path, value in argument_tree.diff(there, own, plan.family.rows.batches).items():
        if follows_latents(path) and isinstance(value, torch.Tensor) and not value.any():
            plan.silenced[path] = value
    plan.own = plan.text_part(argument_tree.diff(plan.reference.named, own, plan.family.rows.batches))
