"""The plan of one pipeline call: how it guides, with what scale, and what its denoiser gets for each condition."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from negguide.engine import argument_tree, each_image, given, takeover
from negguide.engine.call import Call
from negguide.engine.checks import check_rows, checked_formula
from negguide.engine.families import Family, Unsupported
from negguide.engine.guidance import Mode, Reading, follows_latents, probe_of_text, read_mode, without_embedded
from negguide.engine.layout import Layout, token_grid
from negguide.engine.probe import Probe, RecordedCall, main_input
from negguide.engine.schedule import Schedule, is_part, read_schedule
from negguide.engine.unread import Cut
from negguide.methods.base import Condition
from negguide.methods.step import Embedded

OWN_KEY = 0
"""Key of what the pipeline itself puts in the negative place."""


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
    reference: RecordedCall
    through: Literal["negative_prompt", "prompt"]
    property_scale: float | None
    settings: Mapping[str, Any]
    """What the pipeline kept of the call's guidance when it was probed."""
    main: str
    lent: bool = False
    """Whether guidance is on only for the sake of the methods: steps at which none of them acts are the plain call's."""
    on: Mapping[str, Any] | None = None
    """Takeover: changes to the arguments under which the pipeline would guide by itself; None: it never does."""
    guided: Mode = "single"
    """Takeover: how it would then ask."""
    silenced: dict[argument_tree.Path, Any] = field(default_factory=dict)
    """Takeover: what the pipeline leaves out of its unconditional although it follows the latents (guess mode): zeros."""
    own: dict[argument_tree.Path, Any] = field(default_factory=dict)
    """Overlay of the pipeline's unconditional as probed; `overlays[0]` follows the running call."""
    overlays: dict[int, dict[argument_tree.Path, Any]] = field(default_factory=dict)
    keys: dict[Condition, int] = field(default_factory=dict)
    texts: dict[str | None, each_image.Text] = field(default_factory=dict)
    """Texts that were encoded, also in earlier calls; None: as if no negative had been given."""
    first_schedule: Schedule | None = None
    """That of the first section, in later ones of a video that is made in sections."""
    checked: set[str | None] = field(default_factory=set)
    """Those of them that were encoded in this call, or would be encoded alike now."""
    cuts: list[Cut] = field(default_factory=list)
    """Texts that a tokenizer of the pipeline did not read to the end."""
    text_paths: dict[argument_tree.Path, None] = field(default_factory=dict)
    """Where arguments of the denoiser follow from a text."""

    def __post_init__(self) -> None:
        if self.mode == "batch":
            cond, uncond = self.half(self.reference.named, "cond"), self.half(self.reference.named, "uncond")
            self.text_paths |= dict.fromkeys(self.text_part(argument_tree.diff(cond, uncond, self.family.rows.batches)))

    @property
    def rows(self) -> int:
        """Images of the call: rows of one denoiser pass."""
        return self.layout.rows

    @property
    def guides(self) -> bool:
        """Whether there is guidance, the pipeline's or ours."""
        return self.mode != "single" or self.takeover

    def begin(self, call: Call, pipe: Any, denoisers: Mapping[str, torch.nn.Module], caching: bool) -> None:
        """Make ready for a run, which may be a repetition: forget what callbacks did to the last one."""
        self.call, self.pipe, self.denoisers, self.caching = call, pipe, denoisers, caching
        self.overlays, self.keys = {OWN_KEY: dict(self.own)}, {}
        self.schedule, self.first_schedule = self.first_schedule or self.schedule, None

    def rest(self) -> None:
        """Until the next run: let go of the pipeline, of what the user gave, and of what follows from the noise."""
        self.call = self.pipe = None  # type: ignore[assignment]
        self.denoisers = {}
        self.overlays, self.keys = {}, {}
        self.checked.clear()
        each_image.forget_old(self)
        named = {name: value for name, value in self.reference.named.items() if self.is_text((name,))}
        self.reference = dataclasses.replace(self.reference, named=named)

    def prepare(self, conditions: Iterable[Condition]) -> None:
        """Encode the texts of several conditions together."""
        prompts = [condition.prompt for condition in conditions if not condition.own]
        texts = (text for p in prompts if not isinstance(p, Embedded | None) for text in each_image.spread(self, p))
        each_image.learn(self, [text for text in texts if text is not None])

    def key(self, condition: Condition) -> int:
        """Key of a condition, probing the pipeline for its text if it is new (also while the pipeline runs)."""
        if condition not in self.keys:
            self.keys[condition] = self._resolve(condition)
        return self.keys[condition]

    def _resolve(self, condition: Condition) -> int:
        if condition.own or (condition.prompt is None and not self.call.has_negative and self.guides):
            return OWN_KEY
        prompt = condition.prompt
        overlay = given.overlay(self, prompt) if isinstance(prompt, Embedded) else each_image.overlay(self, prompt)
        for key, known in self.overlays.items():
            if _equal(known, overlay):
                if key == OWN_KEY and prompt is not None and not isinstance(prompt, Embedded):
                    each_image.refuse_silence(self, prompt)
                return key
        key = 1 + max(self.overlays, default=OWN_KEY)
        self.overlays[key] = overlay
        return key

    def probe_of(self, prompt: str | None) -> Probe:
        """What the pipeline asks for one text, the same for all images; None: as if none had been given."""
        if self.through == "prompt":
            return self._run({**self.call.with_prompt("" if prompt is None else prompt), **self.arguments})
        changes = self.changes
        if prompt is None:
            result = self._run({**self.call.with_negative(None), **changes})
            # Some pipelines guide only when a negative prompt is given: their unconditional is the empty text.
            if read_mode(result, self.call.cls.__name__) == self.asks:
                return result
            prompt = ""
        return self._run({**self.call.with_negative(prompt), **changes})

    def probe_of_texts(self, texts: Sequence[str]) -> Probe:
        """What the pipeline asks for as many images as there are texts, one for each."""
        if self.through == "prompt":
            changes = {key: value for key, value in self.arguments.items() if key != "negative_prompt"}
            return self._run({**self.call.with_prompts(texts), **changes})
        return self._run({**self.call.with_negatives(texts), **self.changes})

    @property
    def asks(self) -> Mode:
        """How the pipeline asks when it guides by itself."""
        return self.guided if self.takeover else self.mode

    @property
    def changes(self) -> dict[str, Any]:
        """What makes the pipeline guide by itself, but for the negative prompt."""
        changes = self.arguments if self.on is None else self.on
        return {key: value for key, value in changes.items() if key != "negative_prompt"}

    def asked_rows(self, count: int) -> int:
        """Rows of a denoiser call of a probe of texts for `count` images."""
        asks = self.mode if self.through == "prompt" else self.asks
        return count * (2 if asks == "batch" else 1)

    def _run(self, arguments: Mapping[str, Any]) -> Probe:
        try:
            found = probe_of_text(self.pipe, self.call, self.denoisers, arguments)
        except Unsupported:
            if self.call.complete.get("prompt_embeds") is None or "prompt_embeds" not in arguments:
                raise
            found = given.texts_alone(self, arguments)
        self.cuts += [cut for cut in found.cuts if cut not in self.cuts]
        return found

    def stood(self) -> dict[str, Any]:
        """The part of the reference call that stands where `texts_in` finds other texts."""
        if self.mode == "batch":
            return self.half(self.reference.named, "cond" if self.through == "prompt" else "uncond")
        return self.reference.named

    def texts_in(self, found: Probe, count: int) -> dict[str, Any]:
        """The part of what a probe of `count` images asked that holds their texts."""
        if self.through == "negative_prompt":
            return self.unconditional_of(found, count)
        return self.half(found.asked[0].named, "cond", count) if self.mode == "batch" else found.asked[0].named

    def unconditional_of(self, found: Probe, count: int | None = None) -> dict[str, Any]:
        """The unconditional part of what a guided pipeline asked (for `count` images, if not those of the plan)."""
        return self.half(found.asked[0].named, "uncond", count) if self.asks == "batch" else found.asked[-1].named

    def overlay_of(self, found: Probe) -> dict[argument_tree.Path, Any]:
        """What to lay over the reference call to ask for the texts of a probe of this call."""
        batches = self.family.rows.batches
        texts = self.texts_in(found, self.rows)
        there = self.half(self.reference.named, "uncond") if self.mode == "batch" else self.reference.named
        overlay = self.text_part(argument_tree.diff(there, texts, batches))
        check_rows(self, overlay)
        if self.mode == "batch" and self.through == "prompt":
            # Halves differ in more than their texts (a picture that only the prompt's half gets).
            changed = {**argument_tree.diff(self.stood(), texts, batches), **self.text_paths}
            return {path: value for path, value in overlay.items() if path in changed}
        return overlay

    def refresh_own(self, named: Mapping[str, Any]) -> bool:
        """Follow the pipeline's real unconditional call (callbacks may change it); whether it differs from the plan."""
        own, changed = self.overlays[OWN_KEY], False
        for path, known in own.items():
            now = argument_tree.at(named, path)
            if now is not known:
                changed |= not argument_tree.same(now, known)
                own[path] = now
        return changed

    def text_part(self, overlay: Mapping[argument_tree.Path, Any]) -> dict[argument_tree.Path, Any]:
        """The overlay without what follows from the latents of a step."""
        texts = {
            path: value
            for path, value in without_embedded(overlay).items()
            if path[0] != self.main and not follows_latents(path)
        }
        return {**texts, **self.silenced}

    def is_text(self, path: argument_tree.Path) -> bool:
        """Whether an argument may follow from a text."""
        return path not in self.silenced and path in self.text_part({path: None})

    def half(
        self, named: Mapping[str, Any], which: Literal["cond", "uncond"], rows: int | None = None
    ) -> dict[str, Any]:
        """The call for one half of a batched guidance call (of `rows` images, if not those of the plan)."""
        rows = self.rows if rows is None else rows
        first = (which == "cond") == self.family.cond_first
        part = slice(0, rows) if first else slice(rows, 2 * rows)
        result: dict[str, Any] = argument_tree.take(named, part, 2 * rows, self.family.rows)
        return result


def _equal(first: Mapping[argument_tree.Path, Any], second: Mapping[argument_tree.Path, Any]) -> bool:
    return first.keys() == second.keys() and all(argument_tree.same(first[path], second[path]) for path in first)


def make_plan(
    pipe: Any,
    call: Call,
    family: Family,
    denoisers: Mapping[str, torch.nn.Module],
    reading: Reading,
    scale: float | None,
    caching: bool,
) -> Plan:
    """The plan of a call from its probes. `scale`: w where negguide guides in the pipeline's stead (takeover)."""
    found, mode = reading.found, reading.mode
    assert found.sample is not None and found.guided is not None
    complete = {**call.complete, **reading.arguments}
    reference = found.asked[0]
    shape = tuple(found.sample.shape)
    frames, grid = token_grid(shape, reference.named, complete)
    layout = Layout(shape, grid, frames, family.frames_axis, family.channels_last)
    takes_negative = "negative_prompt" in call.parameters and (mode != "single" or reading.on is not None)
    plan = Plan(
        mode=mode,
        family=family,
        call=call,
        pipe=pipe,
        denoisers=denoisers,
        layout=layout,
        schedule=read_schedule(found.scheduler, found.timestep, found.count, is_part(call.complete)),
        scale=1.0,
        sign=1.0,
        takeover=scale is not None,
        caching=caching,
        arguments=reading.arguments,
        reference=reference,
        through="negative_prompt" if takes_negative else "prompt",
        property_scale=found.property_scale,
        settings=found.settings,
        lent=scale is None and bool(reading.arguments),
        main=main_input(reference.named)[0],
        on=reading.on,
    )
    if mode != "single":
        plan.scale, plan.sign = checked_formula(plan, found, complete)
        if mode == "sequential":
            plan.own = plan.text_part(argument_tree.diff(reference.named, found.asked[1].named, family.rows.batches))
    else:
        plan.scale = 1.0 if scale is None else scale
        plan.sign = 1.0 if float((layout.core(found.guided) * layout.core(reference.answer)).sum()) > 0 else -1.0
        if plan.takeover:
            takeover.set_own(plan, reading.guided)
    return plan
