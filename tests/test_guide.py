"""`guide` in a loop written by hand, beside `attach` on the pipeline that has the same loop."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import families
import pytest
import torch
from torch import Tensor

import negguide as ng


@dataclasses.dataclass(frozen=True)
class Dimmed(ng.Method):
    """Makes the estimate of the clean picture smaller in the first two steps."""

    def denoised(self, denoised: Any, state: dict[str, Any]) -> None:
        if denoised.step.index < 2:
            denoised.x0 = 0.8 * denoised.x0


def loop(*methods: Any, scale: float = 5.0, **more: Any) -> tuple[Tensor, Any]:
    """Latents of a run of three steps, and the guided denoiser."""
    pipe = families.build("sd15")
    scheduler = copy.deepcopy(pipe.scheduler)
    scheduler.set_timesteps(3)
    size = 32 // pipe.vae_scale_factor
    latents = torch.randn(1, 4, size, size, generator=torch.Generator().manual_seed(0)) * scheduler.init_noise_sigma

    def predict(sample: Tensor, t: Any, text: Tensor) -> Tensor:
        given: Tensor = pipe.unet(scheduler.scale_model_input(sample, t), t, text, return_dict=False)[0]
        return given

    def encode(text: str) -> Tensor:
        embeds: Tensor = pipe.encode_prompt(text, "cpu", 1, False)[0]
        return embeds

    settings: dict[str, Any] = {"prompt": "a pet on grass", "encode": encode, "guidance_scale": scale, **more}
    guided = ng.guide(predict, *methods, scheduler=scheduler, **settings)
    with torch.no_grad():
        for t in scheduler.timesteps:
            latents = scheduler.step(guided(latents, t), t, latents, return_dict=False)[0]
    return latents, guided


def close(found: Tensor, expected: Tensor) -> bool:
    return float((found - expected).abs().max()) < 1e-5 * float(expected.abs().max())


@pytest.mark.parametrize(
    "methods",
    [
        [ng.PerpNeg(["cat", ng.Negative("hat", 0.5, ng.Window(0, 0.5))])],
        [ng.NegativePrompt("cat")],
        [ng.DynamicNegative("cat", prior=0.5)],
        [ng.PerpNeg(ng.Negative("cat", mask=ng.Mask.of(families.region()))), ng.APG()],
        [ng.ContrastiveNegative("cat"), ng.Interval((0.0, 0.5))],
        [ng.PerpNeg("cat", unconditional="own")],
        [ng.PerpNeg("cat"), Dimmed()],
    ],
    ids=["perp_neg", "negative_prompt", "dynamic", "mask and apg", "interval", "own", "denoised"],
)
def test_guide_equals_attach(methods: list[Any]) -> None:
    with ng.attach(families.build("sd15"), *methods) as attached:
        expected = families.run("sd15", negative_prompt="grey")
    found, guided = loop(*methods, negative_prompt="grey")
    assert close(found, expected) and not close(found, families.run("sd15", negative_prompt="grey"))
    assert guided.passes == attached.passes


def test_without_methods_it_is_plain_guidance() -> None:
    assert close(loop()[0], families.run("sd15"))
    found, guided = loop(scale=1.0)
    assert close(found, families.run("sd15", guidance_scale=1.0)) and guided.passes == 3


def test_a_method_acts_at_scale_1() -> None:
    """Where guidance alone does nothing."""
    with ng.attach(families.build("sd15"), ng.PerpNeg("cat"), guidance_scale=1.0):
        expected = families.run("sd15", guidance_scale=1.0)
    found, guided = loop(ng.PerpNeg("cat"), scale=1.0)
    assert close(found, expected) and not close(found, families.run("sd15", guidance_scale=1.0))
    assert guided.passes == 9


def test_a_text_is_encoded_once() -> None:
    pipe, asked = families.build("sd15"), []
    encoded = pipe.encode_prompt("a pet", "cpu", 1, False)[0]

    def encode(text: str) -> Tensor:
        asked.append(text)
        return encoded

    loop(ng.PerpNeg("cat"), encode=encode)
    assert sorted(asked) == ["", "a pet on grass", "cat"]


def test_what_it_cannot_do_is_said() -> None:
    for method in (ng.NAG("cat"), ng.NegToMe(), ng.CADS()):
        with pytest.raises(ValueError, match=r"negguide\.processors"):
            loop(method)
    with pytest.raises(ValueError, match=r"one text for all images"):
        loop(ng.PerpNeg(ng.Negative(("cat", "hat"))))
    _, guided = loop()
    with pytest.raises(ValueError, match="for each run"):
        guided(torch.zeros(1, 4, 16, 16), 1)
