"""Pipelines without a row of their own are checked, not trusted: refused with the reason, or right."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import diffusers
import families
import pytest
import torch
from torch import Tensor

from negguide.engine import Unsupported, attach
from negguide.methods import APG, DynamicNegative, NegativePrompt, PerpNeg
from negguide.pipeline.argument_tree import RowLayout
from negguide.pipeline.families import GENERIC
from negguide.pipeline.own_rescale import norm_of_cond

SECTIONS, STEPS, W = 2, 3, 4.0


class InSections(diffusers.StableDiffusionPipeline):
    """A sequential pipeline of nobody's, which draws a latent in two sections, the second from the first and noise."""

    sections, restarts, distortion = SECTIONS, True, 0.0

    @torch.no_grad()
    def __call__(self, prompt: str, negative_prompt: str | None = None, guidance_scale: float = W) -> Any:
        self._guidance_scale = guidance_scale
        cond, uncond = self.encode_prompt(prompt, "cpu", 1, True, negative_prompt or "")
        latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
        self.scheduler.set_timesteps(STEPS)
        for section in range(self.sections):
            if section and self.restarts:
                self.scheduler.set_timesteps(STEPS)
                latents = latents / latents.std()
            for t in self.scheduler.timesteps:
                c = self.unet(latents, t, encoder_hidden_states=cond, return_dict=False)[0]
                u = self.unet(latents, t, encoder_hidden_states=uncond, return_dict=False)[0]
                guided = u + guidance_scale * (c - u)
                if t < self.scheduler.timesteps[0]:
                    guided = guided + self.distortion * guided.abs().mean()
                latents = self.scheduler.step(guided, t, latents, return_dict=False)[0]
        return latents


def in_sections(**settings: Any) -> Any:
    pipe = InSections(**families.build("sd15").components, requires_safety_checker=False)
    for name, value in settings.items():
        setattr(pipe, name, value)
    return pipe


def by_hand(negative: str | None, sections: int = SECTIONS) -> Tensor:
    """The same latents with Perp-Neg, written out."""
    pipe = families.build("sd15")
    scheduler = copy.deepcopy(pipe.scheduler)
    texts = ["a pet", "", *([negative] if negative else [])]
    embeds = [pipe.encode_prompt(text, "cpu", 1, False)[0] for text in texts]
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    for section in range(sections):
        scheduler.set_timesteps(STEPS)
        latents = latents / latents.std() if section else latents
        for t in scheduler.timesteps:
            with torch.no_grad():
                c, u, *others = (pipe.unet(latents, t, encoder_hidden_states=e, return_dict=False)[0] for e in embeds)
            direction, d = c - u, c - u
            for n in others:
                direction = direction - ((n - u) - ((n - u) * d).sum() / (d * d).sum() * d)
            latents = scheduler.step(u + W * direction, t, latents, return_dict=False)[0]
    return latents


def test_methods_act_in_every_section_of_a_long_video() -> None:
    pipe = in_sections()
    assert torch.allclose(pipe("a pet"), by_hand(None), atol=1e-4)
    with attach(pipe, PerpNeg("cat")) as attached:
        found = pipe("a pet")
        assert torch.allclose(found, by_hand("cat"), atol=1e-3)
        assert torch.equal(pipe("a pet"), found), "a repeated call starts at the first section's schedule"
    assert [record.index for record in attached.trace] == [0, 1, 2] * SECTIONS
    assert all(record.passes == 3 for record in attached.trace)
    with attach(pipe, DynamicNegative("cat", prior=0.0)):
        assert torch.equal(pipe("a pet"), pipe("a pet"))


def test_states_of_methods_begin_anew_in_every_section() -> None:
    class Counting(PerpNeg):
        def conditions(self, step: Any, state: dict[str, Any]) -> Any:
            state["seen"] = state.get("seen", 0) + 1
            seen.append(state["seen"])
            return super().conditions(step, state)

    seen: list[int] = []
    pipe = in_sections()
    with attach(pipe, Counting("cat")):
        pipe("a pet")
    assert seen == [1, 2, 3] * SECTIONS


def test_steps_that_were_not_foreseen_are_refused() -> None:
    pipe = in_sections(restarts=False)
    pipe("a pet")
    with attach(pipe, PerpNeg("cat")), pytest.raises(Unsupported, match="more steps than the 3"):
        pipe("a pet")


def test_a_prediction_that_is_changed_on_its_way_is_refused() -> None:
    """The probe sees the first step only; the run sees the others."""
    pipe = in_sections(distortion=0.5)
    with attach(pipe, PerpNeg("cat")), pytest.raises(Unsupported, match="before its scheduler gets it"):
        pipe("a pet")


@pytest.mark.parametrize(("name", "row", "why"), [
    ("qwen", {"post": GENERIC.post}, "a norm, a threshold"),
    ("zimage", {"cond_first": False}, "in each other's place"),
    ("sd15", {"cond_first": True}, "in each other's place"),
    ("sd15", {"post": lambda guided, cond, call: norm_of_cond(guided, cond, {})}, None),
    ("sd15", {"rows": RowLayout(shared=("encoder_hidden_states",))}, "encoder_hidden_states"),
    ("zimage", {"rows": RowLayout()}, "cap_feats"),
])  # fmt: skip
def test_wrong_rows_are_found_out(name: str, row: dict[str, Any], why: str | None) -> None:
    """Families as they would be if nothing were known of them; a norm that the pipeline does not have does no harm."""
    pipe = copy.copy(families.build(name))  # no plan of it is remembered
    with attach(pipe, PerpNeg("cat")) as attached:
        attached._family = dataclasses.replace(attached._family, **row)
        if why is None:
            assert families.run(name, pipe).isfinite().all()
            return
        with pytest.raises(Unsupported, match=why):
            families.run(name, pipe)


def test_a_probe_that_fails_says_that_the_plain_call_works() -> None:
    class Picky(diffusers.StableDiffusionPipeline):
        def prepare_latents(self, *args: Any, **kwargs: Any) -> Any:
            if type(self.unet) is not diffusers.UNet2DConditionModel:
                raise RuntimeError("not my UNet")
            return super().prepare_latents(*args, **kwargs)

    pipe = Picky(**families.build("sd15").components, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    plain = families.run("sd15", pipe)
    with attach(pipe, PerpNeg("cat")):
        with pytest.raises(Unsupported, match=r"plain call works.*RuntimeError: not my UNet"):
            families.run("sd15", pipe)
        with pytest.raises(ValueError, match="divisible"):
            families.run("sd15", pipe, height=33)
    assert torch.equal(families.run("sd15", pipe), plain)


def test_a_text_that_fails_is_named() -> None:
    class Literal(diffusers.StableDiffusionPipeline):
        def encode_prompt(self, prompt: Any, *args: Any, **kwargs: Any) -> Any:
            if "cat" in str((args, kwargs)):
                raise LookupError("unknown word")
            return super().encode_prompt(prompt, *args, **kwargs)

    pipe = Literal(**families.build("sd15").components, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    with attach(pipe, PerpNeg("cat")), pytest.raises(Unsupported, match=r"the text 'cat'.*LookupError: unknown word"):
        families.run("sd15", pipe)


def test_a_negative_that_is_not_read_is_refused() -> None:
    class Deaf(diffusers.StableDiffusionPipeline):
        def encode_prompt(self, prompt: Any, *args: Any, **kwargs: Any) -> Any:
            return super().encode_prompt(prompt, *args[:3], None, **kwargs)

    pipe = Deaf(**families.build("sd15").components, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    plain = families.run("sd15", pipe)
    for method in (PerpNeg("cat"), NegativePrompt(["cat", "hat"])):
        with attach(pipe, method), pytest.raises(ValueError, match=r"'cat' changes nothing"):
            families.run("sd15", pipe)
    with attach(pipe, APG()):
        assert families.run("sd15", pipe).isfinite().all()
    assert torch.equal(families.run("sd15", pipe), plain)


@pytest.mark.filterwarnings("ignore:the call's own negative_prompt")
@pytest.mark.parametrize("name", ["sd15", "wan"])
def test_texts_that_say_the_same_are_fine(name: str) -> None:
    """A negative that is the call's own, or the prompt itself."""
    for negative, own in (("a cat", "a cat"), ("a pet on grass", "a cat")):
        with attach(families.build(name), NegativePrompt(negative)):
            assert families.run(name, negative_prompt=own).isfinite().all()


def test_a_text_goes_in_as_the_prompt_where_batched_guidance_takes_no_negative() -> None:
    class PromptOnly(diffusers.StableDiffusionPipeline):
        def __call__(self, prompt: str, guidance_scale: float = W, generator: Any = None) -> Any:  # type: ignore[override]
            call = {"height": 32, "width": 32, "num_inference_steps": 2, "output_type": "latent"}
            return super().__call__(prompt, guidance_scale=guidance_scale, generator=generator, **call)

    pipe = PromptOnly(**families.build("sd15").components, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    expected = families.run("sd15", prompt="a pet", steps=2, guidance_scale=W, negative_prompt="a cat")
    with attach(pipe, NegativePrompt("a cat")):
        found = pipe("a pet", generator=torch.Generator().manual_seed(0)).images
    assert torch.allclose(found, expected, atol=1e-5)
