"""The tiny pipelines are what they should be, and each family is understood as it really guides."""

from __future__ import annotations

import copy
import math

import families
import pytest
import torch

from negguide.engine import attach
from negguide.methods import APG, Condition, Negative, PerpNeg
from negguide.pipeline.call import Call
from negguide.pipeline.families import FAMILIES, GENERIC, family_of

MODES = {
    "batch": ["sd15", "img2img", "inpaint", "controlnet", "sdxl", "sd3", "pixart", "sana", "zimage"],
    "sequential": ["flux", "wan", "wan22", "qwen", "klein"],
}
VARIABLE_LENGTH = ["qwen"]
"""Texts keep their own lengths, so that their calls cannot be joined into one."""


@pytest.mark.parametrize("name", families.FAMILIES)
def test_text_and_seed_matter_and_runs_repeat(name: str) -> None:
    first = families.run(name)
    assert torch.equal(first, families.run(name)) and first.isfinite().all()
    others = [families.run(name, prompt="an apple"), families.run(name, seed=1)]
    if not families.FAMILIES[name].needs_negative and name != "klein":
        others.append(families.run(name, negative_prompt="a cat"))
    assert all(float((first - other).abs().max()) > 1e-4 for other in others)


@pytest.mark.parametrize("name", families.FAMILIES)
def test_forwards_per_step(name: str) -> None:
    pipe = families.build(name)
    calls: list[int] = []
    parts = [pipe.components.get(part) for part in ("unet", "transformer", "transformer_2")]
    hooks = [part.register_forward_pre_hook(lambda *_: calls.append(1)) for part in parts if part is not None]
    try:
        for method in (PerpNeg(Negative("cat", 0.0)), PerpNeg("cat"), PerpNeg(["cat", "hat"])):
            calls.clear()
            with attach(pipe, method) as attached:
                families.run(name)
            # Two predictions at a time where the pipeline itself asks for two, else one.
            rows = 2 if name in MODES["batch"] else 1
            assert len(calls) == sum(math.ceil(step.passes / rows) for step in attached.trace), method
        calls.clear()
        with attach(pipe, PerpNeg(["cat", "hat"]), one_call=True) as attached:
            families.run(name)
        joined = name not in VARIABLE_LENGTH
        assert len(calls) == (1 if joined else 4) * len(attached.trace)
    finally:
        for hook in hooks:
            hook.remove()


TEXTS = {
    "sdxl": {"encoder_hidden_states", "added_cond_kwargs.text_embeds"},
    "sd3": {"encoder_hidden_states", "pooled_projections"},
    "flux": {"encoder_hidden_states", "pooled_projections"},
    "pixart": {"encoder_hidden_states", "encoder_attention_mask"},
    "sana": {"encoder_hidden_states", "encoder_attention_mask"},
    "zimage": {"cap_feats"},
}
"""Denoiser arguments that depend on a text; elsewhere only `encoder_hidden_states`."""


@pytest.mark.parametrize("name", families.FAMILIES)
def test_an_overlay_holds_what_depends_on_the_text_and_nothing_of_the_latents(name: str) -> None:
    with attach(families.build(name), PerpNeg("cat")) as attached:
        call = Call(type(attached.pipe), (), families.arguments(name))
        plan = attached._plan(call, attached._denoisers())
    key = plan.key(Condition("cat"))
    paths = {".".join(map(str, path)) for path in plan.overlays[key]}
    if name == "qwen":
        paths -= {"encoder_hidden_states_mask", "txt_seq_lens.0"}  # which older diffusers give the denoiser too
    assert key == 1 and paths == TEXTS.get(name, {"encoder_hidden_states"})


@pytest.mark.parametrize("name", ["sd15", "sd3", "flux", "qwen", "wan", "zimage", "klein", "pixart"])
def test_takeover_equals_intercept(name: str) -> None:
    pipe = families.build(name)
    method = PerpNeg(["cat", Negative("hat", 0.6)], unconditional="")
    with attach(pipe, method):
        expected = families.run(name)
    w = 6.0 if name == "zimage" else 5.0
    with attach(pipe, method, guidance_scale=w) as attached:
        found = families.run(name)
        assert attached.passes == 4 * len(attached.trace)
    assert float((found - expected).abs().max()) < 2e-5 * float(expected.abs().max())


def test_takeover_guides_a_distilled_model() -> None:
    pipe = copy.copy(families.build("klein"))
    pipe.register_to_config(is_distilled=True)
    guided = families.run("klein")
    plain = families.run("klein", pipe)
    assert not torch.equal(plain, guided), "a distilled model runs without guidance"
    with attach(pipe, APG()), pytest.raises(ValueError, match="guidance_scale= to attach"):
        families.run("klein", pipe)
    with attach(pipe, PerpNeg(Negative("cat", 0.0)), guidance_scale=5.0) as attached:
        found = families.run("klein", pipe)
        assert attached.passes == 6
    assert torch.allclose(found, guided, atol=1e-5)
    with attach(pipe, PerpNeg("cat"), guidance_scale=5.0) as attached:
        assert not torch.equal(families.run("klein", pipe), found) and attached.passes == 9


def test_the_longest_prefix_wins() -> None:
    names = {name: family_of(type(families.build(name))).name for name in families.FAMILIES}
    assert names["sdxl"] == "Stable Diffusion XL" and names["sd3"] == "Stable Diffusion 3"
    assert names["sd15"] == names["controlnet"] == "Stable Diffusion 1/2"
    assert names["klein"] == "Flux.2" and names["flux"] == "Flux"
    assert family_of(int) is GENERIC
    assert len({family.name for family in FAMILIES}) == len(FAMILIES)
