"""How a call is guided: by the pipeline itself, by nobody, or by negguide in its stead (takeover); found out by probing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from negguide.integration import tree
from negguide.integration.call import Call
from negguide.integration.families import Family, unsupported
from negguide.integration.probe import Probe, probe

Mode = Literal["batch", "sequential", "single"]
"""How predictions are asked for: both halves in one call; conditional, then unconditional; the conditional only."""

_SCALES = ("true_cfg_scale", "guidance_scale")
"""Arguments that may switch classifier-free guidance; where there are both, the second is an input of a distilled model."""

_EMBEDDED = ("guidance", "guidance_scale", "timestep_cond")
"""Denoiser arguments through which a distilled model reads its guidance scale: never part of a condition, never changed."""


@dataclass(frozen=True)
class Reading:
    """What probes told about the guidance of a call."""

    found: Probe
    """What the pipeline asks first in the call as it will run."""
    mode: Mode
    arguments: dict[str, Any]
    """Changes to the user's arguments in the real call (guidance switched on or off)."""
    guided: Probe | None = None
    """Takeover: the same call with the pipeline's own guidance on, where it has one; shows its unconditional."""
    on: Mapping[str, Any] | None = None
    """Takeover: the changes that switch that guidance on."""


def read_mode(found: Probe, name: str) -> Mode:
    """How the pipeline asks, from the number and the rows of its denoiser calls; refuses three-way guidance."""
    assert found.sample is not None
    rows, asked = found.sample.shape[0], found.asked
    shape = [call.rows for call in asked]
    if shape == [rows]:
        return "single"
    if shape == [2 * rows]:
        return "batch"
    if shape == [rows, rows]:
        return "sequential"
    why = f"for {rows} image(s) it asks its denoiser for {shape} rows per step, where one or two times {rows} is understood"
    raise unsupported(name, why)


def read_takeover(pipe: Any, call: Call, family: Family, denoisers: Mapping[str, torch.nn.Module]) -> Reading:
    """The call with the pipeline's own classifier-free guidance off, and what that guidance would have been.

    A call that is not guided is left as it is: what its `guidance_scale` says to a distilled model is the user's choice.
    """
    name = call.cls.__name__
    found = probe(pipe, denoisers, call.probing())
    assert found.sample is not None
    if read_mode(found, name) == "single":
        guided, on = _switched_on(pipe, call, denoisers)
        return Reading(found, "single", {}, guided, on)
    tried = []
    for off in _switches_off(family, call):
        alone = probe(pipe, denoisers, call.probing(off))
        if [asked.rows for asked in alone.asked] == [found.sample.shape[0]] and _tells_the_same(found, alone):
            return Reading(alone, "single", off, found, {})
        tried.append(" and ".join(f"{key}={value}" for key, value in off.items()))
    raise ValueError(f"takeover: {name} still guides with {', '.join(tried)}; call it with its own guidance off")


def _switches_off(family: Family, call: Call) -> Iterator[dict[str, Any]]:
    """Changes that may switch the pipeline's own guidance off, the likeliest first."""
    known = {key: value for key, value in family.cfg_off.items() if key in call.parameters}
    seen: list[dict[str, Any]] = [{}]
    for changes in (known, *({key: off} for key in _SCALES for off in (1.0, 0.0) if key in call.parameters)):
        if changes not in seen and ("true_cfg_scale" in changes or "true_cfg_scale" not in call.parameters):
            seen.append(changes)
            yield changes


def _switched_on(
    pipe: Any, call: Call, denoisers: Mapping[str, torch.nn.Module]
) -> tuple[Probe | None, dict[str, Any] | None]:
    """A probe of the call with the pipeline's own guidance, and the changes for it; (None, None) where it has none."""
    for changes in _switches_on(call):
        try:
            found = probe(pipe, denoisers, call.probing(changes))
            if read_mode(found, call.cls.__name__) != "single":
                return found, changes
        except Exception:  # whatever a pipeline says to a scale that is not the user's
            continue
    return None, None


def _switches_on(call: Call) -> Iterator[dict[str, Any]]:
    negative = {"negative_prompt": call.texts("")}
    for key in _SCALES:
        if key not in call.parameters:
            continue
        if key == "guidance_scale" or call.has_negative:
            yield {key: 2.0}
        if "negative_prompt" in call.parameters and not call.has_negative:
            yield {key: 2.0, **negative}


def _tells_the_same(guided: Probe, alone: Probe) -> bool:
    """Whether the denoiser hears of the same embedded guidance."""
    before, after = guided.asked[0].named, alone.asked[0].named
    return all(tree.same(_first_row(before.get(name)), _first_row(after.get(name))) for name in _EMBEDDED)


def _first_row(value: Any) -> Any:
    return value[:1] if isinstance(value, Tensor) and value.ndim else value


def without_embedded(overlay: Mapping[tree.Path, Any]) -> dict[tree.Path, Any]:
    """The overlay without what tells a distilled model its guidance scale."""
    return {path: value for path, value in overlay.items() if path[0] not in _EMBEDDED}


def measured_scale(guided: Tensor, cond: Tensor, uncond: Tensor) -> tuple[float, float]:
    """(w, sign) of a pipeline whose formula is sign * k * (uncond + w (cond - uncond)), k > 0 (rescale, norms).

    Solved by least squares for each vector along the last dimension, so that a factor k of each token does not matter; the
    median over all vectors. Raises `Unsupported` when the prediction is no combination of the two.
    """
    o, c, u = (t.detach().double().cpu().flatten(0, -2) for t in (guided, cond, uncond))
    cc, uu, cu = (c * c).sum(-1), (u * u).sum(-1), (c * u).sum(-1)
    oc, ou = (o * c).sum(-1), (o * u).sum(-1)
    determinant = (cc * uu - cu * cu).clamp_min(1e-12)
    a, b = (oc * uu - ou * cu) / determinant, (ou * cc - oc * cu) / determinant
    total = a + b
    error = (o - a[:, None] * c - b[:, None] * u).norm(dim=-1) / o.norm(dim=-1).clamp_min(1e-12)
    if float(error.median()) > 1e-2:
        why = "what reaches its scheduler is not a combination of the conditional and unconditional prediction"
        raise unsupported("this pipeline's guidance", why)
    return float(f"{float((a / total).median()):.6g}"), 1.0 if float(total.median()) > 0 else -1.0


def why_unguided(name: str, needing: list[str], family: Family, call: Call) -> str:
    """What to say where methods act on guidance that a call does not have."""
    scales = [key for key in ("true_cfg_scale", "guidance_scale") if key in call.parameters]
    given = f" ({scales[0]}={call.complete[scales[0]]!r})" if scales else ""
    above = family.cfg_off.get(scales[0], 1.0) if scales else 1.0
    if "negative_prompt" in call.parameters and scales:
        advice = f"call it with {scales[0]} above {above:g}, or give guidance_scale= to attach"
    else:
        advice = "give guidance_scale= to attach, which then guides in the pipeline's stead"
    return f"{', '.join(needing)} acts on classifier-free guidance, but {name} runs without it{given}: {advice}"
