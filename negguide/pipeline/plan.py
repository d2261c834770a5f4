"""The plan of one pipeline call: how it guides, with what scale, and what its denoiser gets for each condition."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import torch

from negguide.methods.base import Condition
from negguide.methods.step import Embedded, OtherWeights
from negguide.pipeline import argument_tree, each_image, given, takeover
from negguide.pipeline.call import Call
from negguide.pipeline.checks import check_rows, checked_formula
from negguide.pipeline.families import Family, Unsupported
from negguide.pipeline.guidance import Reading, probe_of_text, read_mode
from negguide.pipeline.layout import Layout, token_grid
from negguide.pipeline.plan_data import OWN_KEY, PlanData
from negguide.pipeline.probe import Probe, main_input
from negguide.pipeline.schedule import is_part, read_schedule


class Plan(PlanData):
    """How to ask for other conditions than those of the pipeline's own call."""

    def rest(self) -> None:
        """Until the next run: let go of the pipeline, of what the user gave, and of what follows from the noise."""
        self.call = self.pipe = None  # type: ignore[assignment]
        self.denoisers = {}
        self.overlays, self.keys, self.others = {}, {}, {}
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
        if condition.weights is not None:
            return self._of_other_weights(condition, condition.weights)
        if condition.own or (condition.prompt is None and not self.call.has_negative and self.guides):
            return OWN_KEY
        prompt = condition.prompt
        overlay = given.overlay(self, prompt) if isinstance(prompt, Embedded) else each_image.overlay(self, prompt)
        for key, own_overlay in self.overlays.items():
            if key not in self.others and _equal(own_overlay, overlay):
                if key == OWN_KEY and prompt is not None and not isinstance(prompt, Embedded):
                    each_image.refuse_silence(self, prompt)
                return key
        return self._added(overlay)

    def _of_other_weights(self, condition: Condition, weights: OtherWeights) -> int:
        """The key of what other weights predict; it shares the overlay of the same condition under the pipeline's own."""
        stock = dataclasses.replace(condition, weights=None, of_prompt=False)
        key = self._added({} if condition.of_prompt else self.overlays[self.key(stock)])
        self.others[key] = weights
        if condition.of_prompt:
            self.of_prompt.add(key)
        return key

    def _added(self, overlay: dict[argument_tree.Path, object]) -> int:
        key = 1 + max(self.overlays, default=OWN_KEY)
        # A text for all images is held once, not for each of them.
        self.overlays[key] = {path: argument_tree.folded(value) for path, value in overlay.items()}
        return key

    def probe_of(self, prompt: str | None) -> Probe:
        """What the pipeline asks for one text, the same for all images; None: as if none had been given."""
        if self.through == "prompt":
            return self.probe_with({**self.call.with_prompt("" if prompt is None else prompt), **self.arguments})
        changes = self.changes
        if prompt is None:
            result = self.probe_with({**self.call.with_negative(None), **changes})
            # Some pipelines guide only when a negative prompt is given: their unconditional is the empty text.
            if read_mode(result, self.call.cls.__name__) == self.asks:
                return result
            prompt = ""
        return self.probe_with({**self.call.with_negative(prompt), **changes})

    def probe_of_texts(self, texts: Sequence[str]) -> Probe:
        """What the pipeline asks for as many images as there are texts, one for each."""
        if self.through == "prompt":
            changes = {key: value for key, value in self.arguments.items() if key != "negative_prompt"}
            return self.probe_with({**self.call.with_prompts(texts), **changes})
        return self.probe_with({**self.call.with_negatives(texts), **self.changes})

    def probe_with(self, arguments: Mapping[str, object]) -> Probe:
        try:
            probed = probe_of_text(self.pipe, self.call, self.denoisers, arguments)
        except Unsupported:
            if self.call.complete.get("prompt_embeds") is None or "prompt_embeds" not in arguments:
                raise
            probed = given.texts_alone(self, arguments)
        self.cuts += [cut for cut in probed.cuts if cut not in self.cuts]
        return probed

    def overlay_of(self, probed: Probe) -> dict[argument_tree.Path, object]:
        """What to lay over the reference call to ask for the texts of a probe of this call."""
        batches = self.family.rows.batches
        texts = self.texts_in(probed, self.rows)
        there = self.half(self.reference.named, "uncond") if self.mode == "batch" else self.reference.named
        overlay = self.text_part(argument_tree.diff(there, texts, batches))
        check_rows(self, overlay)
        if self.mode == "batch" and self.through == "prompt":
            # Halves differ in more than their texts (a picture that only the prompt's half gets).
            changed = {**argument_tree.diff(self.stood(), texts, batches), **self.text_paths}
            return {path: value for path, value in overlay.items() if path in changed}
        return overlay


def _equal(first: Mapping[argument_tree.Path, object], second: Mapping[argument_tree.Path, object]) -> bool:
    return first.keys() == second.keys() and all(argument_tree.same(first[path], second[path]) for path in first)


def make_plan(
    pipe: object,
    call: Call,
    family: Family,
    denoisers: Mapping[str, torch.nn.Module],
    reading: Reading,
    scale: float | None,
    caching: bool,
) -> Plan:
    """The plan of a call from its probes. `scale`: w where negguide guides in the pipeline's stead (takeover)."""
    probed, mode = reading.probed, reading.mode
    assert probed.sample is not None and probed.guided is not None
    complete = {**call.complete, **reading.arguments}
    reference = probed.asked[0]
    shape = tuple(probed.sample.shape)
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
        schedule=read_schedule(probed.scheduler, probed.timestep, probed.count, is_part(call.complete)),
        scale=1.0,
        sign=1.0,
        takeover=scale is not None,
        caching=caching,
        arguments=reading.arguments,
        reference=reference,
        through="negative_prompt" if takes_negative else "prompt",
        property_scale=probed.property_scale,
        settings=probed.settings,
        lent=scale is None and bool(reading.arguments),
        main=main_input(reference.named)[0],
        on=reading.on,
    )
    if mode != "single":
        plan.scale, plan.sign = checked_formula(plan, probed, complete)
        if mode == "sequential":
            plan.own = plan.text_part(argument_tree.diff(reference.named, probed.asked[1].named, family.rows.batches))
    else:
        plan.scale = 1.0 if scale is None else scale
        plan.sign = 1.0 if float((layout.core(probed.guided) * layout.core(reference.answer)).sum()) > 0 else -1.0
        if plan.takeover:
            takeover.set_own(plan, reading.guided)
    return plan
