"""Guidance that is on only for a while, or only for the sake of a method: followed at every step, in every kind of pipeline."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import diffusers
import families
import pytest
import torch
from listeners import Listener

from negguide.engine import attach
from negguide.methods import (
    APG,
    AdaptiveNegatives,
    ContrastiveNegative,
    DynamicNegative,
    Interval,
    Method,
    Negative,
    NegativePrompt,
    PerpNeg,
    Rescale,
    Window,
)
from negguide.watchers import register_watcher

register_watcher("always_dog", lambda images, questions: [["dog"] * len(questions)] * len(images))

Change = Callable[[Any, int], None]


def off_after_first(pipe: Any, step: int) -> None:
    pipe._guidance_scale = 1.0


def raised(pipe: Any, step: int) -> None:
    pipe._guidance_scale = 6.0 + 2 * step


def off_then_on(pipe: Any, step: int) -> None:
    pipe._guidance_scale = 1.0 if step == 0 else 3.0


CHANGES: list[Change] = [off_after_first, raised, off_then_on]


class ReadsEachStep(diffusers.StableDiffusionPipeline):
    """A sequential pipeline that looks at its properties at each step, as CogView4 does."""

    @torch.no_grad()
    def __call__(
        self,
        prompt: str,
        negative_prompt: str | None = None,
        guidance_scale: float = 5.0,
        callback_on_step_end: Any = None,
        steps: int = 4,
    ) -> Any:
        self._guidance_scale = guidance_scale
        cond, uncond = self.encode_prompt(prompt, "cpu", 1, True, negative_prompt or "")
        latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
        self.scheduler.set_timesteps(steps)
        for i, t in enumerate(self.scheduler.timesteps):
            guided = self.unet(latents, t, encoder_hidden_states=cond, return_dict=False)[0]
            if self.do_classifier_free_guidance:
                u = self.unet(latents, t, encoder_hidden_states=uncond, return_dict=False)[0]
                guided = u + self.guidance_scale * (guided - u)
            latents = self.scheduler.step(guided, t, latents, return_dict=False)[0]
            if callback_on_step_end is not None:
                callback_on_step_end(self, i, t, {})
        return latents


def each_step() -> Any:
    return ReadsEachStep(**families.build("sd15").components, requires_safety_checker=False)


def callback(change: Change) -> Callable[..., dict[str, Any]]:
    def call(pipe: Any, step: int, timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
        change(pipe, step)
        return values

    return call


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", ["wan", "wan22", "each_step"])
def test_a_callback_that_changes_guidance_is_followed(name: str, change: Change) -> None:
    """Wan reads its scale once, and at each step whether it guides; the other reads both at each step."""

    def run(**more: Any) -> torch.Tensor:
        if name == "each_step":
            return pipe("a pet", callback_on_step_end=callback(change), **more)
        return families.run(name, steps=4, callback_on_step_end=callback(change), **more)

    pipe = each_step() if name == "each_step" else families.build(name)
    calls: list[int] = []
    parts = [part for part in (pipe.components.get(n) for n in ("unet", "transformer", "transformer_2")) if part]
    hooks = [part.register_forward_pre_hook(lambda *_: calls.append(1)) for part in parts]
    try:
        plain = run()
        paid, expected = len(calls), run(negative_prompt="a cat")
        with attach(pipe, PerpNeg(Negative("cat", 0.0))) as attached:
            assert torch.equal(run(), plain) and attached.passes == paid
        with attach(pipe, NegativePrompt("a cat")) as attached:
            found = run()
            assert attached.passes == paid
        assert float((found - expected).abs().max()) < 5e-5 * float(expected.abs().max())
        with attach(pipe, PerpNeg("cat")) as attached:
            run()
        assert [record.passes for record in attached.trace] == (
            [3.0] * 4
            if change is raised
            else [3.0, 1.0, 1.0, 1.0]
            if change is off_after_first
            else [3.0, 1.0, 3.0, 3.0]
        )
    finally:
        for hook in hooks:
            hook.remove()


def test_methods_that_need_no_guidance_act_after_it_was_switched_off() -> None:
    pipe, listener = each_step(), Listener()
    with attach(pipe, listener) as attached:
        pipe("a pet", callback_on_step_end=callback(off_after_first))
    heard = {(tokens.step.index, branch) for tokens in listener.heard for branch in tokens.branches}
    assert heard == {(0, "cond"), (0, "uncond"), (1, "cond"), (2, "cond"), (3, "cond")}
    assert attached.passes == 5


def test_a_batched_pipeline_of_which_nothing_is_known_is_followed() -> None:
    pipe = families.build("sd15")
    with attach(pipe, PerpNeg("cat")):
        expected = families.run("sd15", callback_on_step_end=callback(raised))
        steady = families.run("sd15")
    unknown = copy.copy(pipe)  # no plan of it is remembered
    with attach(unknown, PerpNeg("cat")) as attached:
        attached._family = dataclasses.replace(attached._family, live_scale=False)
        found = families.run("sd15", unknown, callback_on_step_end=callback(raised))
    assert torch.allclose(found, expected, atol=1e-4) and not torch.allclose(found, steady, atol=1e-2)


NEUTRAL: list[Method] = [
    PerpNeg(Negative("cat", 0.0)),
    PerpNeg(Negative("cat", window=Window(0.5, 0.5))),
    PerpNeg(Negative("cat", window=Window(1e-7, 1e-8, "sigma"))),
    NegativePrompt(Negative("cat", 0.0)),
    NegativePrompt("cat", mode="signed", scale=0.0),
    ContrastiveNegative("cat", scale=0.0),
    DynamicNegative("cat", prior=0.0),
    AdaptiveNegatives("always_dog", weight=0.0),
    Rescale(0.0),
    Interval(Window()),
]


@pytest.mark.parametrize("name", ["flux", "qwen"])
def test_neutral_methods_switch_no_guidance_on(name: str) -> None:
    """These pipelines guide only if a negative prompt is given, whatever their scale is."""
    pipe, call = families.build(name), families.arguments(name)
    del call["negative_prompt"]

    def run() -> torch.Tensor:
        return pipe(**call | {"generator": torch.Generator().manual_seed(0)}).images

    plain = run()
    for method in NEUTRAL:
        with attach(pipe, method) as attached:
            assert torch.equal(run(), plain), method
        assert attached.passes == len(attached.trace), method


@pytest.mark.parametrize("name", ["flux", "qwen"])
def test_a_method_has_guidance_for_as_long_as_it_acts(name: str) -> None:
    pipe, call = families.build(name), families.arguments(name, steps=4)
    del call["negative_prompt"]

    def run(**more: Any) -> torch.Tensor:
        return pipe(**call | {"generator": torch.Generator().manual_seed(0)} | more).images

    for always in (APG(), Rescale(0.7)):
        with attach(pipe, always) as attached:
            found = run()
        with attach(pipe, always):
            assert torch.equal(run(negative_prompt=""), found)
        assert attached.passes == 2 * len(attached.trace)
    with attach(pipe, PerpNeg("cat")):
        assert torch.allclose(run(), run(negative_prompt=""), atol=1e-5)
    with attach(pipe, PerpNeg(Negative("cat", window=Window(0.0, 0.5)))) as attached:
        found = run()
    assert [record.passes for record in attached.trace] == [3.0, 3.0, 1.0, 1.0]
    with attach(pipe, PerpNeg(Negative("cat", window=Window(0.0, 0.5))), Interval((0.0, 0.5))):
        assert torch.equal(run(negative_prompt=""), found)


def test_neutral_methods_change_nothing_where_there_is_no_guidance() -> None:
    pipe = families.build("sd15")
    plain = families.run("sd15", guidance_scale=1.0)
    for method in NEUTRAL:
        if not method.is_neutral:
            continue  # its window is open at some noise level, if at none of this schedule
        with attach(pipe, method) as attached:
            assert torch.equal(families.run("sd15", guidance_scale=1.0), plain), method
        assert attached.passes == len(attached.trace)
