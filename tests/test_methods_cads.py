"""CADS: formulas against loops in float64; noise that belongs to the image; what the denoiser really gets."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import families
import pytest
import torch
from torch import Tensor

from negguide import maths
from negguide.engine import Unsupported, attach
from negguide.methods import CADS, Embeddings, Interval, Method, NegativePrompt, PerpNeg, Window, from_json, to_json


def loop_cads(y: Tensor, n: Tensor, gamma: float, s: float, psi: float) -> list[list[float]]:
    rows = []
    for a, b in zip(y.double().flatten(1).tolist(), n.double().flatten(1).tolist(), strict=True):
        noisy = [math.sqrt(gamma) * p + s * math.sqrt(1 - gamma) * q for p, q in zip(a, b, strict=True)]
        (mean, std), (mean_y, std_y) = moments(noisy), moments(a)
        rows.append([psi * ((v - mean) / std * std_y + mean_y) + (1 - psi) * v for v in noisy])
    return rows


def moments(values: list[float]) -> tuple[float, float]:
    mean = math.fsum(values) / len(values)
    return mean, math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1))


@pytest.mark.parametrize(("gamma", "psi"), [(0.0, 1.0), (0.3, 1.0), (0.3, 0.4), (0.9, 0.0), (1.0, 0.5)])
def test_cads_is_its_formula_for_each_image(gamma: float, psi: float) -> None:
    draw = torch.Generator().manual_seed(0)
    y = torch.randn(3, 7, 5, generator=draw) * torch.tensor([1.0, 20.0, 0.1]).view(3, 1, 1) + 2
    n = torch.randn(3, 7, 5, generator=draw)
    found = maths.cads(y, n, gamma, 0.25, psi).double().flatten(1).tolist()
    for row, want in zip(found, loop_cads(y, n, gamma, 0.25, psi), strict=True):
        assert row == pytest.approx(want, rel=1e-4, abs=1e-4)


def test_gamma() -> None:
    table = {1.0: 0.0, 0.9: 0.0, 0.8: 1 / 3, 0.75: 0.5, 0.7: 2 / 3, 0.6: 1.0, 0.0: 1.0}
    for t, gamma in table.items():
        assert maths.cads_gamma(t, 0.6, 0.9) == pytest.approx(gamma)
    assert maths.cads_gamma(0.5, 0.5, 0.5) == 1.0 and maths.cads_gamma(0.51, 0.5, 0.5) == 0.0


def test_options_are_checked_and_kept() -> None:
    config = CADS(0.1, tau_1=0.5, tau_2=0.8, psi=0.5, seed=3)
    assert from_json(to_json(config)) == config
    with pytest.raises(ValueError, match=r"tau_1 \(at most tau_2\) is 0.9; possible: from 0 to 0.8"):
        CADS(tau_1=0.9, tau_2=0.8)
    with pytest.raises(ValueError, match="psi is 2; possible: from 0 to 1"):
        CADS(psi=2)
    with pytest.raises(TypeError, match=r"seed is 1.5; an integer"):
        CADS(seed=1.5)  # type: ignore[arg-type]


@dataclasses.dataclass(frozen=True)
class Set(Method):
    """Puts a constant in the place of the prompt's embeddings, and remembers what was there."""

    needs_guidance = False
    value: float | None = None
    seen: list[Tensor] = dataclasses.field(default_factory=list)

    def embeddings(self, embeddings: Embeddings, state: dict[str, Any]) -> None:
        self.seen.append(embeddings.text)
        if self.value is not None:
            embeddings.text = torch.full_like(embeddings.text, self.value)


TEXTED = ["sd15", "sdxl", "sd3", "flux", "pixart", "wan", "qwen", "klein", "controlnet"]


@pytest.mark.parametrize("name", TEXTED)
def test_only_the_conditional_text_is_shown_and_changed(name: str) -> None:
    pipe, plain = families.build(name), families.run(name)
    denoiser = getattr(pipe, families.FAMILIES[name].denoiser)
    got: list[Tensor] = []

    def watch(module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        got.extend(kwargs["encoder_hidden_states"])

    looking = Set()
    with attach(pipe, looking):
        assert torch.equal(families.run(name), plain), "looking changes nothing"
    handle = denoiser.register_forward_pre_hook(watch, with_kwargs=True)
    with attach(pipe, Set(0.5)) as attached:
        assert not torch.equal(families.run(name), plain)
        assert attached.passes == 2 * len(attached.trace) and attached.trace[0].methods == ("Set",)
    handle.remove()
    ours = [bool((row == 0.5).all()) for row in got]
    assert sum(ours) == 3 and len(ours) == 6, "three steps: three conditional rows, three that are left alone"
    assert looking.seen[0].shape[0] == 1 and not (looking.seen[0] == 0.5).all()
    assert torch.equal(families.run(name), plain), "detached"


@pytest.mark.parametrize("name", TEXTED)
def test_an_image_does_not_depend_on_its_neighbours(name: str) -> None:
    prompts = ["a pet on grass", "one red apple"]
    with attach(families.build(name), CADS()):
        both = families.run(name, prompt=prompts)
        again = families.run(name, prompt=prompts)
        assert torch.equal(both, again), "the same call gives the same pictures"
        for i in range(2):
            alone = families.run(name, prompt=prompts[i], seed=i)
            assert float((both[i : i + 1] - alone).abs().max() / alone.abs().max()) < 2e-4
    with attach(families.build(name), CADS(seed=1)):
        assert not torch.equal(families.run(name, prompt=prompts), both)


def test_the_text_comes_back() -> None:
    looking = Set()
    with attach(families.build("sd15"), CADS(tau_1=0.5, tau_2=0.9), looking):
        families.run("sd15", steps=10, num_images_per_prompt=2)
    with attach(families.build("sd15"), plain := Set()):
        families.run("sd15", steps=1)
    y = plain.seen[0][0]
    far = [float((text[0] - y).norm() / y.norm()) for text in looking.seen]
    assert far[0] > 0.5 and all(f == 0 for f in far[5:]), "whole once t = 1 - progress has come to tau_1"
    assert not torch.equal(looking.seen[0][0], looking.seen[0][1]), "each image has noise of its own"
    assert not torch.equal(looking.seen[0][0], looking.seen[1][0]), "and each step"
    assert float(looking.seen[0][0].std()) == pytest.approx(float(y.std()), rel=1e-3)


@pytest.mark.parametrize("neutral", [CADS(0.0), CADS(tau_1=1.0, tau_2=1.0)])
def test_neutral_is_bit_equal(neutral: CADS) -> None:
    for name in ("sd15", "flux", "zimage"):
        plain = families.run(name)
        with attach(families.build(name), neutral) as attached:
            assert torch.equal(families.run(name), plain)
            assert attached.trace[0].methods == ()


def test_beside_others_without_guidance_and_in_an_interval() -> None:
    with attach(families.build("sd3"), PerpNeg("cat"), NegativePrompt("hat"), CADS()) as attached:
        assert families.run("sd3").isfinite().all()
        assert set(attached.trace[0].methods) == {"perp_neg", "negative", "cads"}
    plain = families.run("flux", true_cfg_scale=1.0)
    with attach(families.build("flux"), CADS()) as attached:
        assert not torch.equal(families.run("flux", true_cfg_scale=1.0), plain)
        assert attached.passes == len(attached.trace)
    with attach(families.build("sd15"), Interval(Window(0.5, 1.0)), CADS()) as attached:
        families.run("sd15")
        assert attached.trace[0].methods == ("interval", "cads") and attached.trace[0].passes == 1


def test_errors_teach() -> None:
    with attach(families.build("zimage"), CADS()), pytest.raises(Unsupported, match="cads on Z-Image is not supported"):
        families.run("zimage")
    with attach(families.build("sd15"), Set(math.inf)), pytest.raises(FloatingPointError, match="Set made NaN"):
        families.run("sd15")
    with pytest.raises(ValueError, match=r"\(1, 2, 3\) cannot become \(1, 2\)"):
        Embeddings(None, torch.zeros(1, 2, 3)).text = torch.zeros(1, 2)  # type: ignore[arg-type]
