"""What methods may know of the running denoiser (`negguide.methods.tokens.Model`), made for one step."""

from __future__ import annotations

import functools

from negguide.engine import inversion, latents
from negguide.engine.attention_hooks import COND, AttentionHooks, groups_of
from negguide.engine.evaluate import DenoiserCall, Evaluator
from negguide.methods.base import Condition, Step
from negguide.methods.tokens import Branch, RunContext
from negguide.pipeline import text_tokens
from negguide.pipeline.plan import OWN_KEY


def run_context(
    evaluator: Evaluator, attention_hooks: AttentionHooks, denoiser_call: DenoiserCall, step: Step
) -> RunContext:
    """The model as it stands at a step of a run."""
    plan = evaluator.plan

    def key(branch: Branch) -> int:
        if isinstance(branch, Condition):
            return plan.key(branch)
        return branch[1] if isinstance(branch, tuple) else {"cond": COND, "uncond": OWN_KEY}[branch]

    return RunContext(
        family=plan.family.name,
        defaults=plan.family.defaults,
        find_layers=lambda: tuple(
            attention_layer.layer for attention_layer in attention_hooks.layers(denoiser_call.name)
        ),
        groups=groups_of(plan),
        guided=plan.guides,
        text=functools.cache(lambda branch: evaluator.layer_text(denoiser_call, key(branch))),
        noised=functools.partial(plan.schedule.noised, index=step.index),
        inverted=functools.partial(inversion.invert, evaluator, denoiser_call, step.index),
        encode=lambda images: latents.encode(plan.pipe, plan.layout, images, step.sample),
        decode=functools.partial(latents.decode, plan.pipe, plan.layout),
        prompts=tuple(plan.call.own_prompts(plan.rows)),
        own_negatives=tuple(plan.call.own_negatives(plan.rows)),
        fits=functools.partial(text_tokens.fits, plan.pipe, plan.call.complete),
    )
