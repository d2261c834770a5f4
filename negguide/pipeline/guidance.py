"""How a call is guided: by the pipeline itself, by nobody, or by negguide in its stead (takeover); found out by probing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from negguide.pipeline import argument_tree
from negguide.pipeline.call import Call
from negguide.pipeline.families import Family, Unsupported, unsupported
from negguide.pipeline.probe import Probe, first_step_fails, probe

Mode = Literal["batch", "sequential", "single"]
"""How predictions are asked for: both halves in one call; conditional, then unconditional; the conditional only."""

SCALES = ("true_cfg_scale", "guidance_scale")
"""Arguments that may switch classifier-free guidance; where there are both, the second is an input of a distilled model."""

EMBEDDED = ("guidance", "guidance_scale", "timestep_cond")
"""Denoiser arguments through which a distilled model reads its guidance scale: never part of a condition, never changed."""


_FROM_LATENTS = ("residual", "controlnet", "block_samples", "mid_block", "down_block")
"""Arguments that follow the noisy latents of a step: never part of a text overlay."""


@dataclass(frozen=True)
class Reading:
    """What probes told about the guidance of a call."""

    probed: Probe
    """What the pipeline asks first in the call as it will run."""
    mode: Mode
    arguments: dict[str, object]
    """Changes to the user's arguments in the real call (guidance switched on or off)."""
    guided: Probe | None = None
    """Takeover: the same call with the pipeline's own guidance on, where it has one; shows its unconditional."""
    on: Mapping[str, object] | None = None
    """Takeover: the changes that switch that guidance on."""


def read_mode(probed: Probe, name: str) -> Mode:
    """How the pipeline asks, from the number and the rows of its denoiser calls; refuses three-way guidance."""
    assert probed.sample is not None
    rows, asked = probed.sample.shape[0], probed.asked
    shape = [call.rows for call in asked]
    if shape == [rows]:
        return "single"
    if shape == [2 * rows]:
        return "batch"
    if shape == [rows, rows]:
        return "sequential"
    why = f"for {rows} image(s) it asks its denoiser for {shape} rows per step, where one or two times {rows} is understood"
    raise unsupported(name, why)


def first_probe(pipe: object, call: Call, denoisers: Mapping[str, torch.nn.Module]) -> Probe:
    """`probe` of the call as given. What fails in the plain call, too, is raised as the pipeline raises it.

    Raises `Unsupported` where only the probe fails.
    """
    try:
        return probe(pipe, denoisers, call.probing())
    except Unsupported:
        raise
    except Exception as error:
        plain = first_step_fails(pipe, call.probing())
        if plain is not None:
            raise plain from None
        why = f"the plain call works, but fails inside the pipeline when what it asks of its denoiser is read ({_said(error)})"
        raise unsupported(call.cls.__name__, why) from error


def probe_of_text(
    pipe: object, call: Call, denoisers: Mapping[str, torch.nn.Module], arguments: Mapping[str, object]
) -> Probe:
    """`probe` of the same call with another text; `Unsupported` says what failed in it."""
    try:
        return probe(pipe, denoisers, arguments, True)
    except Unsupported:
        raise
    except Exception as error:
        text = arguments.get("negative_prompt", arguments.get("prompt"))
        why = f"the call works, but not the same call with the text {text!r} in its place ({_said(error)})"
        raise unsupported(call.cls.__name__, why) from error


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}".rstrip(". ")


def follows_latents(path: argument_tree.Path) -> bool:
    """Whether an argument of the denoiser is made of the noisy latents of its step."""
    return any(word in str(path[0]) for word in _FROM_LATENTS)


def without_embedded(overlay: Mapping[argument_tree.Path, object]) -> dict[argument_tree.Path, object]:
    """The overlay without what tells a distilled model its guidance scale."""
    return {path: value for path, value in overlay.items() if path[0] not in EMBEDDED}


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
