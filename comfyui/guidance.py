"""negguide's methods in ComfyUI's sampling: one function after guidance, which works with every sampler and guider.

It takes the place of nothing: ComfyUI's own result goes on untouched, bit for bit, where no method acts, and other nodes'
functions after guidance come after this one.
"""

from __future__ import annotations

import copy
import types
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from negguide.methods.base import OWN, Condition, Denoised, EachImage, Embeddings, Guidance, Method, Step

from .lending import lent, name_of
from .negatives import Conditioning
from .steps import step_at
from .watching import Eyes, prepared

if TYPE_CHECKING:
    from torch import Tensor

_KEY = "negguide"
_AFTER_GUIDANCE = "sampler_post_cfg_function"


class Chain:
    """The methods of a MODEL, in the order of their nodes, and the conditionings that they ask for by text."""

    def __init__(
        self, methods: Sequence[Method], conditionings: Mapping[str, Conditioning], eyes: Mapping[Method, Eyes]
    ) -> None:
        self.methods = tuple(methods)
        self.eyes = dict(eyes)
        self.conditionings = dict(conditionings)
        self._state: dict[str, Any] = {}
        self._guider: Any = None

    def __deepcopy__(self, memo: Any) -> Chain:
        return self  # ComfyUI copies what a MODEL holds; a run has one state

    def around_sampling(self, executor: Any, *args: Any, **options: Any) -> Any:
        """Wrapper of ComfyUI's outer_sample: lends the guider our conditionings, so that it prepares them like its own."""
        self._state, self._guider = {}, executor.class_obj
        for eyes in self.eyes.values():
            eyes.timeline.notes, eyes.timeline.shown = self._state.setdefault("notes", []), []
        try:
            with lent(self._guider, self.conditionings):
                return executor(*args, **options)
        finally:
            self._state, self._guider = {}, None

    def around_predictions(self, executor: Any, model: Any, conds: Any, x: Any, sigma: Any, options: Any) -> Any:
        """Wrapper of ComfyUI's calc_cond_batch, for each set of predictions of which the prompt's is the first.

        Noise goes on the prompt's embeddings here, and the negative prompt's pass is left out where this step is not guided.
        """
        if self._guider is None or not conds or conds[0] is None:
            return executor(model, conds, x, sigma, options)
        step = step_at(x, sigma, options.get("transformer_options", {}), getattr(model, "model_sampling", None))
        prompt, *others = conds
        if any(method.edits_embeddings for method in self.methods):
            prompt = [self._with_embeddings(cond, step) for cond in prompt]
        acting = self._acting()
        if len(others) == 1 and acting and not all(method.guides_now(step, self._state) for method in acting):
            others = [None]
        return executor(model, [prompt, *others], x, sigma, options)

    def _with_embeddings(self, cond: dict[str, Any], step: Step) -> dict[str, Any]:
        """A conditioning of the prompt as the methods let it be read at this step."""
        held = cond["model_conds"].get("c_crossattn")
        if held is None:
            names = ", ".join(method.name for method in self.methods if method.edits_embeddings)
            raise ValueError(f"{names} changes text embeddings, and this model is given none")
        count = len(step.sample)
        text = held.cond.to(step.sample.device)
        event = Embeddings(step, text.repeat(-(-count // len(text)), 1, 1)[:count])
        for method in self.methods:
            if method.edits_embeddings:
                method.embeddings(event, self._state)
        if not event.touched:
            return cond
        changed = copy.copy(held)
        changed.cond = event.text
        return {**cond, "model_conds": {**cond["model_conds"], "c_crossattn": changed}}

    def _acting(self) -> list[Method]:
        return [method for method in self.methods if method.needs_guidance and not method.is_neutral]

    def __call__(self, args: dict[str, Any]) -> Tensor:
        """The clean estimate after guidance, (B, ...); `args` as ComfyUI hands them to such functions."""
        options = args["model_options"].get("transformer_options", {})
        step = step_at(args["input"], args["sigma"], options, getattr(args["model"], "model_sampling", None))
        denoised = self._guided(step, args)
        for method in self.methods:
            if method.sees_denoised and method.looks_at(step, self._state):
                context: Any = types.SimpleNamespace(groups=[tuple(range(len(denoised)))], encode=None)
                if (eyes := self.eyes.get(method)) is not None:
                    context = eyes.context(args["model"], self._guider.model_patcher, len(denoised))
                event = Denoised(step, denoised, context)
                method.denoised(event, self._state)
                denoised = event.x0
        return denoised

    def _guided(self, step: Step, args: dict[str, Any]) -> Tensor:
        acting = self._acting()
        if acting and args["uncond"] is None:
            raise ValueError(
                f"{acting[0].name} acts on guidance, and there is none at cfg {args['cond_scale']:g}: raise cfg above 1, "
                "or use NAG, which needs none"
            )
        plain: Tensor = args["denoised"]
        if not acting:
            return plain
        if not all(method.guides_now(step, self._state) for method in acting):
            return self._own(args, args["cond_denoised"])
        wanted = dict.fromkeys(condition for method in acting for condition in method.conditions(step, self._state))
        cond, base = step.from_denoised(args["cond_denoised"]), step.from_denoised(args["uncond_denoised"])
        predictions = {OWN: base} | self._predictions(
            [condition for condition in wanted if not condition.own], step, args
        )
        guidance = Guidance(step, cond, base, args["cond_scale"], predictions)
        for method in acting:
            method.combine(guidance, self._state)
        return self._own(args, step.to_denoised(guidance.result())) if guidance.touched else plain

    def _predictions(
        self, conditions: Sequence[Condition], step: Step, args: dict[str, Any]
    ) -> dict[Condition, Tensor]:
        """Predictions of our conditionings, in as few denoiser calls as ComfyUI finds room for."""
        if not conditions:
            return {}
        import comfy.samplers

        seen = {c: self._each(c.prompt, step, args) for c in conditions if isinstance(c.prompt, EachImage)}
        conditions = [condition for condition in conditions if condition not in seen]
        if not conditions:
            return seen
        conds = [self._guider.conds[name_of(condition.prompt)] for condition in conditions]
        # The first two places are the prompt's and the negative prompt's: patches of attention go by the place.
        estimates = comfy.samplers.calc_cond_batch(
            args["model"], [None, None, *conds], args["input"], args["sigma"], args["model_options"]
        )[2:]
        return seen | {c: step.from_denoised(estimate) for c, estimate in zip(conditions, estimates, strict=True)}

    def _each(self, prompt: EachImage, step: Step, args: dict[str, Any]) -> Tensor:
        """Predictions of a text for each image, in a call for those of one length; where there is none, the sampler's own."""
        import comfy.samplers
        import torch

        eyes = next(iter(self.eyes.values()))
        estimates = args["uncond_denoised"].clone()
        for rows, conditioning in eyes.encoded(prompt):
            at = torch.tensor(rows, device=estimates.device)
            x = args["input"][at]
            conds = [None, None, prepared(args["model"], conditioning, x)]
            sigma = args["sigma"].expand(len(estimates))[at]
            estimates[at] = comfy.samplers.calc_cond_batch(args["model"], conds, x, sigma, args["model_options"])[2]
        return step.from_denoised(estimates)

    def _own(self, args: dict[str, Any], denoised: Tensor) -> Tensor:
        if "sampler_cfg_function" in args["model_options"]:
            raise ValueError(
                "another node of this MODEL (RescaleCFG, say) brings a guidance formula of its own, which negguide's methods "
                "would overrule; take it out (negguide has Rescale, APG and CFG-Zero* as nodes that go together)"
            )
        return denoised


def with_method(model: Any, method: Method, conditionings: Mapping[str, Conditioning], eyes: Eyes | None = None) -> Any:
    """A MODEL with one method more, after those it has; a neutral method leaves the copy as it is. `eyes`: if it watches.

    Raises `ValueError` where the method cannot stand beside another one.
    """
    patched = model.clone()
    if method.is_neutral:
        return patched
    others = list(patched.model_options.get(_AFTER_GUIDANCE, ()))
    earlier = next((function for function in others if isinstance(function, Chain)), None)
    sights = {} if eyes is None else {method: eyes}
    chain = Chain([method], conditionings, sights)
    if earlier is not None:
        method.check_beside(earlier.methods)
        others.remove(earlier)
        chain = Chain(
            [*earlier.methods, method], {**earlier.conditionings, **conditionings}, {**earlier.eyes, **sights}
        )
    patched.model_options[_AFTER_GUIDANCE] = [chain, *others]
    patched.remove_wrappers_with_key("outer_sample", _KEY)
    patched.add_wrapper_with_key("outer_sample", _KEY, chain.around_sampling)
    patched.remove_wrappers_with_key("calc_cond_batch", _KEY)
    patched.add_wrapper_with_key("calc_cond_batch", _KEY, chain.around_predictions)
    return patched
