"""The plan of one pipeline call: how it guides, with what scale, and what its denoiser gets for each condition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from negguide.integration import each_image, tree
from negguide.integration.call import Call
from negguide.integration.families import Family, unsupported
from negguide.integration.layout import Layout, token_grid
from negguide.integration.probe import Asked, Probe, main_input, probe
from negguide.integration.schedule import Schedule, read_schedule
from negguide.methods.base import Condition, EachImage

Mode = Literal["batch", "sequential", "single"]
"""How predictions are asked for: both halves in one call; conditional, then unconditional; the conditional only."""

OWN_KEY = 0
"""Key of what the pipeline itself puts in the negative place."""

_FROM_LATENTS = ("residual", "controlnet", "block_samples", "mid_block", "down_block")
"""Arguments that follow the noisy latents of a step: never part of a text overlay."""


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


@dataclass
class Plan:
    """What one call of a pipeline asks of its denoiser, and how to ask for other conditions.

    `overlays[key]`: what to lay over the reference call (batch: the unconditional rows; else the conditional call) to
    ask for a condition; key 0 is the pipeline's own unconditional. `keys` maps conditions to keys; conditions that this
    pipeline encodes alike share one.
    """

    mode: Mode
    family: Family
    call: Call
    pipe: Any
    denoisers: Mapping[str, torch.nn.Module]
    layout: Layout
    schedule: Schedule
    scale: float
    sign: float
    takeover: bool
    caching: bool
    arguments: dict[str, Any]
    """Changes to the user's arguments in the real call (guidance switched on or off)."""
    reference: Asked
    through: Literal["negative_prompt", "prompt"]
    property_scale: float | None
    main: str
    own: dict[tree.Path, Any] = field(default_factory=dict)
    """Overlay of the pipeline's unconditional as probed; `overlays[0]` follows the running call."""
    overlays: dict[int, dict[tree.Path, Any]] = field(default_factory=dict)
    keys: dict[Condition, int] = field(default_factory=dict)
    texts: each_image.Texts = field(default_factory=dict)
    """Single texts of images, encoded once."""

    @property
    def rows(self) -> int:
        """Images of the call: rows of one denoiser pass."""
        return self.layout.rows

    def begin(self, call: Call, caching: bool) -> None:
        """Make ready for a run, which may be a repetition: forget what callbacks did to the last one."""
        self.call, self.caching = call, caching
        self.overlays[OWN_KEY] = dict(self.own)
        for condition in [one for one in self.keys if isinstance(one.prompt, EachImage)]:
            key = self.keys.pop(condition)
            if key not in self.keys.values():
                self.overlays.pop(key, None)

    def key(self, condition: Condition) -> int:
        """Key of a condition, probing the pipeline for its text if it is new (also while the pipeline runs)."""
        if condition not in self.keys:
            self.keys[condition] = self._resolve(condition)
        return self.keys[condition]

    def _resolve(self, condition: Condition) -> int:
        guided = self.mode != "single" or self.takeover
        if condition.own or (condition.prompt is None and not self.call.has_negative and guided):
            return OWN_KEY
        if isinstance(condition.prompt, EachImage):
            overlay = each_image.overlay(self, condition.prompt.texts)
        else:
            overlay = self._overlay(self._probe_of(condition.prompt))
        for key, known in self.overlays.items():
            if _equal(known, overlay):
                return key
        key = 1 + max(self.overlays, default=OWN_KEY)
        self.overlays[key] = overlay
        return key

    def _probe_of(self, prompt: str | tuple[str, ...] | None) -> Probe:
        if self.through == "prompt":
            return self._run({**self.call.with_prompt("" if prompt is None else prompt), **self.arguments})
        changes = {key: value for key, value in self.arguments.items() if key != "negative_prompt"}
        if prompt is None:
            result = self._run({**self.call.with_negative(None), **changes})
            # Some pipelines guide only when a negative prompt is given: their unconditional is the empty text.
            if len(result.asked) == self._calls and result.asked[-1].rows == self.reference.rows:
                return result
            prompt = ""
        return self._run({**self.call.with_negative(prompt), **changes})

    def overlay_of_texts(self, texts: Sequence[str]) -> dict[tree.Path, Any]:
        """What to lay over the reference call to ask for one text per image, as the pipeline encodes them together."""
        changes = {key: value for key, value in self.arguments.items() if key != "negative_prompt"}
        if self.through == "prompt":
            return self._overlay(self._run({**self.call.with_prompts(texts), **changes}))
        return self._overlay(self._run({**self.call.with_negatives(texts), **changes}))

    @property
    def _calls(self) -> int:
        return 2 if self.mode == "sequential" else 1

    def _run(self, arguments: Mapping[str, Any]) -> Probe:
        return probe(self.pipe, self.denoisers, arguments)

    def _overlay(self, found: Probe) -> dict[tree.Path, Any]:
        batches = self.family.rows.batches
        if self.mode == "batch":
            before, after = (self.half(asked.named, "uncond") for asked in (self.reference, found.asked[0]))
        else:
            other = found.asked[-1] if self.through == "negative_prompt" else found.asked[0]
            before, after = self.reference.named, other.named
        return self.text_part(tree.diff(before, after, batches))

    def refresh_own(self, named: Mapping[str, Any]) -> bool:
        """Follow the pipeline's real unconditional call (callbacks may change it); whether it differs from the plan."""
        own, changed = self.overlays[OWN_KEY], False
        for path, known in own.items():
            now = tree.at(named, path)
            if now is not known:
                changed |= not tree.same(now, known)
                own[path] = now
        return changed

    def text_part(self, overlay: Mapping[tree.Path, Any]) -> dict[tree.Path, Any]:
        """The overlay without what follows from the latents of a step."""
        return {
            path: value
            for path, value in overlay.items()
            if path[0] != self.main and not any(word in str(path[0]) for word in _FROM_LATENTS)
        }

    def half(self, named: Mapping[str, Any], which: Literal["cond", "uncond"]) -> dict[str, Any]:
        """The call for one half of a batched guidance call."""
        first = (which == "cond") == self.family.cond_first
        part = slice(0, self.rows) if first else slice(self.rows, 2 * self.rows)
        result: dict[str, Any] = tree.take(named, part, 2 * self.rows, self.family.rows)
        return result


def _equal(first: Mapping[tree.Path, Any], second: Mapping[tree.Path, Any]) -> bool:
    return first.keys() == second.keys() and all(tree.same(first[path], second[path]) for path in first)


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


def make_plan(
    pipe: Any,
    call: Call,
    family: Family,
    denoisers: Mapping[str, torch.nn.Module],
    found: Probe,
    mode: Mode,
    arguments: dict[str, Any],
    scale: float | None,
    caching: bool,
) -> Plan:
    """The plan of a call from its probe. `scale`: w where negguide guides in the pipeline's stead (takeover)."""
    assert found.sample is not None and found.guided is not None
    complete = {**call.complete, **arguments}
    reference = found.asked[0]
    layout = Layout(tuple(found.sample.shape), token_grid(tuple(found.sample.shape), reference.named, complete))
    takeover = scale is not None
    has_negative = "negative_prompt" in call.parameters
    plan = Plan(
        mode=mode,
        family=family,
        call=call,
        pipe=pipe,
        denoisers=denoisers,
        layout=layout,
        schedule=read_schedule(found.scheduler, found.timestep, found.count),
        scale=1.0,
        sign=1.0,
        takeover=takeover,
        caching=caching,
        arguments=arguments,
        reference=reference,
        through="prompt" if mode == "single" or not has_negative else "negative_prompt",
        property_scale=found.property_scale,
        main=main_input(reference.named)[0],
    )
    first = layout.core(reference.answer)
    if mode == "batch":
        halves = (first[: plan.rows], first[plan.rows :])
        cond, uncond = halves if family.cond_first else halves[::-1]
        plan.scale, plan.sign = measured_scale(layout.core(found.guided), cond, uncond)
    elif mode == "sequential":
        plan.scale, plan.sign = measured_scale(layout.core(found.guided), first, layout.core(found.asked[1].answer))
        plan.own = plan.text_part(tree.diff(reference.named, found.asked[1].named, family.rows.batches))
    else:
        plan.scale = 1.0 if scale is None else scale
        plan.sign = 1.0 if float((layout.core(found.guided) * first).sum()) > 0 else -1.0
        plan.own = plan._overlay(plan._probe_of(None)) if takeover else {}
    return plan
