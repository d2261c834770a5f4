"""Takeover: negguide guides in the pipeline's stead, and changes nothing else that the user said."""

from __future__ import annotations

import copy
from typing import Any

import diffusers
import families
import families_parts as parts
import pytest
import torch
from test_families_relatives import RELATIVES, run_relative

from negguide.engine import attach
from negguide.methods import APG, Negative, NegativePrompt, PerpNeg, Rescale

W = 5.0
KNOWN = {**families.FAMILIES, **families.MORE}
COUNTED_FROM_0 = ("zimage", "krea2")
"""Their guidance scale counts from the prompt on: `cond + s (cond - uncond)`."""
GUIDED = [*(name for name, tiny in KNOWN.items() if tiny.scale), *RELATIVES]
"""Whose calls take a scale; those that own a guider are tried in test_families_guiders.py."""


def _pipe(name: str) -> Any:
    return families.build(name) if name in KNOWN else RELATIVES[name].build()


def _run(name: str, pipe: Any, guided: bool = True, **more: Any) -> torch.Tensor:
    if name in KNOWN:
        tiny = KNOWN[name]
        return families.run(name, pipe, **({} if guided else {tiny.scale: tiny.off}) | more)
    scale = "true_cfg_scale" if "true_cfg_scale" in RELATIVES[name].arguments else "guidance_scale"
    off = 0.0 if name.startswith(COUNTED_FROM_0) else 1.0
    return run_relative(name, pipe, **({} if guided else {scale: off}) | more)


def _scale(name: str) -> float:
    """That of the calls, as `uncond + w (cond - uncond)`; those of `COUNTED_FROM_0` are one less."""
    w = KNOWN[name].w if name in KNOWN else W
    return w + 1 if name.startswith(COUNTED_FROM_0) else w


def _takes_negative(name: str) -> bool:
    return name != "klein"


def _close(found: torch.Tensor, expected: torch.Tensor) -> bool:
    return float((found - expected).abs().max()) < 5e-5 * float(expected.abs().max())


@pytest.mark.parametrize("name", GUIDED)
def test_takeover_is_the_pipelines_own_guidance(name: str) -> None:
    """Also with a negative prompt of the call, whether the call has its own guidance on or off."""
    pipe = _pipe(name)
    w = _scale(name)
    calls: list[dict[str, Any]] = [{}, {"negative_prompt": "a cat"}] if _takes_negative(name) else [{}]
    for more in calls:
        expected = _run(name, pipe, **more)
        for guided in (False, True):
            with attach(pipe, guidance_scale=w) as attached:
                found = _run(name, pipe, guided, **more)
            assert attached.passes == 2 * len(attached.trace)
            assert _close(found, expected), (more, guided)


@pytest.mark.parametrize("name", GUIDED)
def test_neutral_takeover_is_the_call_without_guidance(name: str) -> None:
    pipe = _pipe(name)
    plain = _run(name, pipe, guided=False)
    for method in (PerpNeg(Negative("cat", 0.0)), Rescale(0.0)):
        with attach(pipe, method, guidance_scale=1.0) as attached:
            assert torch.equal(_run(name, pipe, guided=False), plain)
            assert attached.passes == len(attached.trace)
            assert torch.equal(_run(name, pipe), plain)


@pytest.mark.filterwarnings("ignore:the call's own negative_prompt")
@pytest.mark.parametrize("name", GUIDED)
def test_a_method_by_takeover_is_the_method_within_the_pipelines_guidance(name: str) -> None:
    pipe = _pipe(name)
    w = _scale(name)
    more = {"negative_prompt": "a hat"} if _takes_negative(name) else {}
    for method in (PerpNeg("cat"), PerpNeg("cat", unconditional="own"), NegativePrompt(("cat", 0.6))):
        with attach(pipe, method):
            expected = _run(name, pipe, **more)
        with attach(pipe, method, guidance_scale=w):
            assert _close(_run(name, pipe, guided=False, **more), expected), method


def lcm() -> Any:
    unet = diffusers.UNet2DConditionModel(
        **{**parts.unet().config, "time_cond_proj_dim": 16, "_use_default_values": None, "_name_or_path": None}
    )
    return diffusers.LatentConsistencyModelPipeline(
        unet=unet,
        vae=parts.vae(),
        text_encoder=parts.clip_text(),
        tokenizer=parts.clip_tokenizer(),
        scheduler=diffusers.LCMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def flux2_dev() -> Any:
    """The real class, but for its text encoder of 24 billion weights, and for the embedded guidance of its transformer."""
    klein = families.build("klein")

    class Flux2Pipeline(diffusers.Flux2Pipeline):
        def encode_prompt(self, prompt: Any, **rest: Any) -> Any:
            return klein.encode_prompt(prompt, max_sequence_length=32, text_encoder_out_layers=(1, 2, 3))

    return Flux2Pipeline(
        transformer=diffusers.Flux2Transformer2DModel(**{**klein.transformer.config, "guidance_embeds": True}),
        vae=klein.vae,
        text_encoder=None,
        tokenizer=None,
        scheduler=klein.scheduler,
    )


def sana_sprint() -> Any:
    sana = families.build("sana")
    config = {**sana.transformer.config, "guidance_embeds": True, "qk_norm": "rms_norm_across_heads"}
    return diffusers.SanaSprintPipeline(
        tokenizer=sana.tokenizer,
        text_encoder=sana.text_encoder,
        vae=sana.vae,
        transformer=diffusers.SanaTransformer2DModel(**config),
        scheduler=diffusers.SCMScheduler(),
    )


SPRINT = {"use_resolution_binning": False, "complex_human_instruction": None, "max_sequence_length": 24}
DISTILLED = {
    "lcm": (lcm, {"guidance_scale": 8.0}),
    "flux2_dev": (flux2_dev, {"guidance_scale": 2.5}),
    "sana_sprint": (sana_sprint, {"guidance_scale": 4.5, **SPRINT}),
    "flux": (lambda: families.build("flux"), {"guidance_scale": 3.5, "max_sequence_length": 24}),
}


@pytest.mark.parametrize("name", DISTILLED)
def test_embedded_guidance_stays_what_the_user_said(name: str) -> None:
    """The guided picture is that of a loop around the very calls that the plain pipeline makes."""
    build, more = DISTILLED[name]
    torch.manual_seed(0)
    pipe = build()
    part = pipe.unet if hasattr(pipe, "unet") else pipe.transformer
    families._enliven(part.eval().requires_grad_(False))
    pipe.set_progress_bar_config(disable=True)
    call = {"height": 32, "width": 32, "num_inference_steps": 2, "output_type": "latent", **more}
    heard: list[torch.Tensor] = []

    def listen(module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        heard.extend(kwargs[key].flatten()[:1] for key in ("guidance", "timestep_cond") if kwargs.get(key) is not None)

    def run() -> tuple[torch.Tensor, list[torch.Tensor]]:
        heard.clear()
        images = pipe(prompt="a pet on grass", generator=torch.Generator().manual_seed(0), **call).images
        return images, list(dict.fromkeys(float(value) for value in heard))

    hook = part.register_forward_pre_hook(listen, with_kwargs=True)
    try:
        plain, said = run()
        with attach(pipe, PerpNeg(Negative("cat", 0.0)), guidance_scale=1.0):
            assert torch.equal(run()[0], plain)
        with attach(pipe, NegativePrompt("cat"), guidance_scale=1.5) as attached:
            guided, told = run()
        assert len(said) == 1 and told == said
        assert attached.passes == 2 * len(attached.trace) and not torch.equal(guided, plain)
    finally:
        hook.remove()


def test_a_negative_prompt_works_where_the_model_can_never_be_guided() -> None:
    """Stable Diffusion with a UNet that reads its scale has no guidance of its own, but takes a negative prompt."""
    torch.manual_seed(0)
    unet = diffusers.UNet2DConditionModel(**{**parts.unet().config, "time_cond_proj_dim": 16})
    pipe = diffusers.StableDiffusionPipeline(**{**families.build("sd15").components, "unet": unet.eval()})
    pipe.set_progress_bar_config(disable=True)

    def run(**more: Any) -> torch.Tensor:
        call = {"height": 32, "width": 32, "num_inference_steps": 2, "output_type": "latent", "guidance_scale": 6.0}
        return pipe("a pet", **call, generator=torch.Generator().manual_seed(0), **more).images

    with attach(pipe, NegativePrompt("a cat"), guidance_scale=3.0):
        expected = run()
    embeds, _ = pipe.encode_prompt("a cat", "cpu", 1, False)
    with attach(pipe, guidance_scale=3.0):
        assert torch.equal(run(negative_prompt="a cat"), expected)
        assert torch.equal(run(negative_prompt_embeds=embeds), expected)
        assert not torch.equal(run(), expected)


def test_unused_negative_prompt_is_told_under_takeover() -> None:
    pipe = families.build("sd15")
    with attach(pipe, PerpNeg("hat"), guidance_scale=3.0), pytest.warns(UserWarning, match="negative_prompt had no"):
        families.run("sd15", guidance_scale=1.0, negative_prompt="a cat")


def test_own_guidance_that_stays_on_is_refused() -> None:
    class Stubborn(diffusers.StableDiffusionPipeline):
        @property
        def do_classifier_free_guidance(self) -> bool:
            return True

    pipe = Stubborn(**copy.copy(families.build("sd15").components), requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    with attach(pipe, APG(), guidance_scale=3.0), pytest.raises(ValueError, match="still guides with guidance_scale=1"):
        families.run("sd15", pipe)


def test_a_scale_that_guides_and_is_read_by_the_model_is_not_changed() -> None:
    """Switching it off would tell the model of another scale: refused, unless the call itself is unguided."""

    class Both(diffusers.StableDiffusionPipeline):
        @property
        def do_classifier_free_guidance(self) -> bool:
            return self._guidance_scale > 1

    torch.manual_seed(0)
    unet = diffusers.UNet2DConditionModel(**{**parts.unet().config, "time_cond_proj_dim": 16})
    pipe = Both(**{**families.build("sd15").components, "unet": unet.eval()}, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    with attach(pipe, guidance_scale=3.0):
        with pytest.raises(ValueError, match=r"still guides with guidance_scale=1\.0, guidance_scale=0\.0"):
            families.run("sd15", pipe, steps=1)
        assert families.run("sd15", pipe, steps=1, guidance_scale=1.0).isfinite().all()
