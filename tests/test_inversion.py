"""Inverted pictures: latents from which the model itself would make them, against other formulas and by going back."""

from __future__ import annotations

import dataclasses
from typing import Any

import families
import pytest
import torch
from diffusers import EulerDiscreteScheduler
from negtome_parts import ALWAYS, call, close, run
from torch import Tensor

from negguide.engine import Unsupported, attach
from negguide.methods import Bank, Method, NegToMe, Step
from negguide.methods.tokens import Listen, RunContext
from negguide.toybox.load import load_pipeline
from negguide.toybox.oracle import Oracle


@dataclasses.dataclass(frozen=True)
class Inverter(Method):
    """Inverts some latents at the step `at` and keeps what it gets."""

    name = "inverter"
    needs_guidance = False
    clean: Any = None
    at: int = 0
    found: list[tuple[Tensor, ...]] = dataclasses.field(default_factory=list)

    def tokens(self, tokens: Any, state: dict[str, Any]) -> None:
        raise AssertionError("it only asks")

    def listens(self, step: Step, context: RunContext, state: dict[str, Any]) -> Listen | None:
        if step.index == self.at and not self.found:
            clean = self.clean.expand(len(context.groups), *self.clean.shape)
            self.found.append(tuple(context.inverted(clean)))
        return None


def _inverted(family: str, pipe: Any, clean: Tensor, at: int = 0, **more: Any) -> tuple[tuple[Tensor, ...], float]:
    inverter = Inverter(clean, at)
    with attach(pipe, inverter) as attached:
        pipe(**call(family, images=1, **more))
    return inverter.found[0], attached.passes


@torch.no_grad()
@pytest.mark.parametrize("at", [0, 2])
def test_diffusion_equals_the_formula_of_ddim_inversion(at: int) -> None:
    pipe = families.build("sd15")
    clean = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(3))
    found, passes = _inverted("sd15", pipe, clean, at, steps=4)
    text = pipe.encode_prompt("a pet on grass", "cpu", 1, False)[0].expand(2, -1, -1)
    abar = pipe.scheduler.alphas_cumprod.double()
    times = [int(t) for t in pipe.scheduler.timesteps]
    x = abar[times[-1]].sqrt() * clean.double()
    expected = [x]
    for here, there in zip(times[:0:-1], times[-2::-1], strict=True):
        eps = pipe.unet(x.float(), here, text).sample.double()
        shift = (1 - abar[there]).sqrt() - (abar[there] * (1 - abar[here]) / abar[here]).sqrt()
        x = (abar[there] / abar[here]).sqrt() * x + shift * eps
        expected.insert(0, x)
    for ours, wanted in zip(found, expected, strict=True):
        assert torch.allclose(ours[0].double(), wanted, atol=2e-5 * float(wanted.abs().max()))
    assert passes == 4 * 2 + 3 * 2


@torch.no_grad()
def test_flow_is_followed_backwards() -> None:
    pipe = families.build("sd3")
    shape = (pipe.transformer.config.in_channels, 16, 16)
    clean = torch.randn(1, *shape, generator=torch.Generator().manual_seed(3))
    found, _ = _inverted("sd3", pipe, clean, steps=4, height=32, width=32)
    text, _, pooled, _ = pipe.encode_prompt("a pet on grass", None, None, do_classifier_free_guidance=False)
    sigmas = [float(s) for s in pipe.scheduler.sigmas[:4]]
    times = pipe.scheduler.timesteps
    x = (1 - sigmas[-1]) * clean
    for i in (3, 2, 1):
        velocity = pipe.transformer(
            x, timestep=times[i].expand(1), encoder_hidden_states=text, pooled_projections=pooled
        )
        x = x + (sigmas[i - 1] - sigmas[i]) * velocity.sample
        assert torch.allclose(found[i - 1][0], x, atol=2e-5 * float(x.abs().max()))


def test_each_group_is_inverted_under_its_own_prompt() -> None:
    pipe, prompts = families.build("sd15"), ["a pet on grass", "one red apples"]
    clean = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(3))
    both, _ = _inverted("sd15", pipe, clean, steps=3, prompt=prompts)
    for group, prompt in enumerate(prompts):
        alone, _ = _inverted("sd15", pipe, clean, steps=3, prompt=prompt)
        assert close(both[0][group], alone[0][0])
    assert not close(both[0][0], both[0][1])


@pytest.mark.parametrize("family", ["sd15", "sdxl", "sd3", "flux", "pixart", "qwen", "zimage"])
def test_pictures_ride_with_their_inverted_noise(family: str) -> None:
    found = {}
    for noise in ("fixed", "inverted"):
        with attach(families.build(family), NegToMe(families.picture(), 0.9, 0.5, ALWAYS, noise=noise)) as attached:
            found[noise] = run(family, images=2, steps=3)
        rows = attached.passes
        found[f"passes {noise}"] = rows
    assert bool(found["inverted"].isfinite().all()) and not close(found["fixed"], found["inverted"])
    assert found["passes inverted"] - found["passes fixed"] == pytest.approx(2 / 2), "two levels, a row for two images"


@pytest.mark.parametrize("scheduler", ["ddim", "euler"])
def test_going_back_and_forth_gives_the_picture_again(scheduler: str) -> None:
    pipe = load_pipeline()
    if scheduler == "euler":
        pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config)
    arguments: dict[str, Any] = {"num_inference_steps": 25, "guidance_scale": 1.0, "output_type": "latent"}
    start = torch.Generator().manual_seed(5)
    made = pipe("a red cat on grass", **{**arguments, "guidance_scale": 5.0}, generator=start).images[0]
    inverter = Inverter(made[None])
    with attach(pipe, inverter):
        pipe("a red cat on grass", **arguments)
    noise = inverter.found[0][0][0] / pipe.scheduler.init_noise_sigma
    again = pipe("a red cat on grass", **arguments, latents=noise).images[0]
    other = pipe("a red cat on grass", **arguments, generator=torch.Generator().manual_seed(6)).images[0]
    assert 0.4 < float(noise.std()) < 1.2
    assert (again - made).square().mean() < 0.15 * (other - made).square().mean()
    assert Oracle.load().judge(_pictures(pipe, again[None])).kind == ["cat"]


def _pictures(pipe: Any, latents: Tensor) -> Any:
    images = pipe.vae.decode(latents / pipe.vae.config.scaling_factor).sample
    return (images / 2 + 0.5).clamp(0, 1).mul(255).round().byte().permute(0, 2, 3, 1).detach().numpy()


def test_what_cannot_be_inverted_says_so(tmp_path: Any) -> None:
    with pytest.raises(ValueError, match="a Bank picks others"):
        NegToMe(Bank(tmp_path, clip="toybox"), noise="inverted")
    with pytest.raises(Unsupported, match="high noise"):
        pipe = families.build("wan")
        pipe.transformer_2 = pipe.transformer
        try:
            with attach(pipe, NegToMe(torch.zeros(16, 2, 2, 2), noise="inverted", window=ALWAYS)):
                run("wan", images=1)
        finally:
            pipe.transformer_2 = None
