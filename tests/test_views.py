"""Views of a thing: prompts and negatives by the paper's weights; score distillation by both references' sums."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import families
import pytest
import torch
from torch import Tensor

import negguide as ng
from negguide.maths import view_weights
from negguide.methods import PerpNeg
from negguide.sds import ScoreDistillation, sds_gradient


def negatives_of(found: ng.Views) -> dict[int, dict[str, float]]:
    """Prompt -> text -> weight, however the negatives are packed."""
    told: dict[int, dict[str, float]] = {place: {} for place in range(len(found.prompts))}
    for negative in found.negatives:
        texts = (negative.prompt,) if isinstance(negative.prompt, str) else negative.prompt
        assert isinstance(texts, tuple)
        for place, text in enumerate(texts):
            if text:
                assert text not in told[place]
                told[place][text] = negative.weight
    return told


def test_prompts_and_negatives_are_those_of_the_weights() -> None:
    angles = (0, 30, 60, 90, 180, -90)
    found = ng.views("a man", angles)
    sides = ["front", "front", "side", "side", "back", "side"]
    assert found.prompts == [f"a man, {side} view" for side in sides]
    told = negatives_of(found)
    for place, angle in enumerate(angles):
        weights = view_weights(angle)
        wanted = {"a man, front view": -weights.front_negative, "a man, side view": -weights.side_negative}
        wanted = {text: w for text, w in wanted.items() if w > 1e-4 and text != found.prompts[place]}
        assert told[place] == pytest.approx(wanted)
    assert isinstance(found.method, PerpNeg)


def test_texts_of_one_weight_share_a_pass() -> None:
    found = ng.views("a man", (0, 90, 180, 270))
    assert len(found.negatives) == 2, "2 for four views, and 1 for the back's side"
    (one,) = ng.views("a man", 90).negatives
    assert (one.prompt, one.weight) == ("a man, front view", 2.0)
    assert not ng.views("a man", (0, 90), strength=0).method.prompts(), "nothing is negated, nothing paid"
    smooth = ng.views("a cup", 180, form="threestudio", strength=0.5, phrase="{view} of {text}")
    assert smooth.prompts == ["back of a cup"]
    assert negatives_of(smooth)[0] == pytest.approx({"front of a cup": 1.967 / 2, "side of a cup": 0.394 / 2}, abs=1e-3)


@pytest.mark.parametrize(
    ("given", "says"),
    [({"text": " "}, "need a text"), ({"azimuth": ()}, "at least one azimuth"), ({"strength": -1.0}, "strength is -1"),
     ({"phrase": "{text}"}, "must have"), ({"azimuth": math.nan}, "finite angle")],
)  # fmt: skip
def test_what_cannot_be_is_told(given: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        ng.views(**{"text": "a man", "azimuth": 0, **given})


def test_each_view_of_a_call_is_the_view_alone() -> None:
    pipe = families.build("sd15")
    angles = (0, 90, 180)
    found = ng.views("a man", angles)
    with ng.attach(pipe, found.method) as attached:
        both = families.run("sd15", prompt=found.prompts)
    assert attached.passes == 4 * len(attached.trace)
    for place, angle in enumerate(angles):
        own = ng.views("a man", angle)
        with ng.attach(pipe, own.method):
            alone = families.run("sd15", prompt=own.prompts, seed=place)
        assert float((both[place] - alone[0]).abs().max() / alone.abs().max()) < 2e-4


def by_hand(
    noise: Tensor, text: Tensor, uncond: Tensor, others: Tensor, weights: Tensor, s: float, kept: Tensor
) -> Tensor:
    """The sum of both references, sample by sample, number by number."""
    rows = []
    for b in range(len(noise)):
        toward = (text[b] - uncond[b]).flatten().tolist()
        total = list(toward)
        for i in range(len(others)):
            away = (others[i, b] - uncond[b]).flatten().tolist()
            share = sum(x * y for x, y in zip(away, toward, strict=True)) / sum(x * x for x in toward)
            total = [t + float(weights[b, i]) * (x - share * y) for t, x, y in zip(total, away, toward, strict=True)]
        guided = [u + s * t for u, t in zip(uncond[b].flatten().tolist(), total, strict=True)]
        rows.append([(1 - float(kept[b])) * (g - n) for g, n in zip(guided, noise[b].flatten().tolist(), strict=True)])
    return torch.tensor(rows, dtype=torch.float64).view_as(noise)


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_gradient_is_that_of_the_references() -> None:
    noise, text, uncond = (random(4, 3, 5, 5, seed=seed) for seed in range(3))
    others, kept = random(2, 4, 3, 5, 5, seed=3), torch.tensor([0.1, 0.5, 0.9, 0.99], dtype=torch.float64)
    weights = torch.tensor([list(view_weights(a)[3:]) for a in (0, 45, 100, 180)], dtype=torch.float64)
    found = sds_gradient(noise, text, uncond, others, weights, 100.0, kept)
    torch.testing.assert_close(found, by_hand(noise, text, uncond, others, weights, 100.0, kept))
    for b in range(4):  # a batch is its samples
        part = slice(b, b + 1)
        alone = sds_gradient(noise[part], text[part], uncond[part], others[:, part], weights[part], 100.0, kept[part])
        torch.testing.assert_close(alone, found[part])
    plain = sds_gradient(noise, text, uncond, others[:0], weights[:, :0], 7.0, kept)
    torch.testing.assert_close(plain, (1 - kept).view(-1, 1, 1, 1) * (uncond + 7.0 * (text - uncond) - noise))
    assert sds_gradient(noise, text * math.inf, uncond, others, weights, 7.0, kept).isfinite().all()


class Prompts:
    """Texts of each camera as threestudio's processor gives them: prompts, empty texts, two other views of each."""

    def __init__(self, use_perp_neg: bool) -> None:
        self.use_perp_neg = use_perp_neg
        self.weights = torch.tensor([[-1.5, 0.0], [-2.0, -0.5], [-0.1, -1.0]])

    def get_text_embeddings_perp_neg(self, *where: Any) -> tuple[Tensor, Tensor]:
        text = torch.arange(3 * 4, dtype=torch.float32).view(-1, 1, 1)
        return text, self.weights

    def get_text_embeddings(self, *where: Any) -> Tensor:
        return torch.arange(6, dtype=torch.float32).view(-1, 1, 1)


class Recording:
    """A UNet whose prediction is a known function of its latents and text."""

    def __init__(self) -> None:
        self.calls: list[tuple[Tensor, Tensor, Tensor]] = []

    def __call__(self, x: Tensor, t: Tensor, encoder_hidden_states: Tensor) -> Any:
        self.calls.append((x, t, encoder_hidden_states))
        text = encoder_hidden_states.view(-1, 1, 1, 1)
        return SimpleNamespace(sample=torch.sin(x * (1 + text)) + 0.1 * text)


@pytest.mark.parametrize("use_perp_neg", [True, False])
def test_threestudio_may_call_it(use_perp_neg: bool) -> None:
    from diffusers import DDPMScheduler

    scheduler, unet, prompts = DDPMScheduler(), Recording(), Prompts(use_perp_neg)
    guidance = ScoreDistillation(unet, None, scheduler, 10.0, generator=torch.Generator().manual_seed(5))
    rgb = torch.rand(3, 4, 4, 4, generator=torch.Generator().manual_seed(1)).requires_grad_()
    angles = torch.tensor([0.0, 90.0, 180.0])
    out = guidance(rgb, prompts, angles * 0, angles, angles * 0 + 1, rgb_as_latents=True, c2w=None)
    out["loss_sds"].backward()
    ((x, t, text),) = unet.calls
    assert x.shape[0] == t.shape[0] == text.shape[0] == (12 if use_perp_neg else 6)
    assert (out["min_step"], out["max_step"]) == (20, 980) and t.min() >= 20 and t.max() <= 980
    again = torch.Generator().manual_seed(5)
    times = torch.randint(20, 981, (3,), generator=again)
    noise = torch.randn(3, 4, 4, 4, generator=again)
    noisy = scheduler.add_noise(rgb.detach().permute(0, 3, 1, 2), noise, times)

    def said(place: int, b: int) -> Tensor:
        return torch.sin(noisy[b] * (1 + place)) + 0.1 * place

    cond, uncond = (torch.stack([said(start + b, b) for b in range(3)]) for start in (0, 3))
    others = torch.zeros(0, 3, 4, 4, 4)
    if use_perp_neg:  # both other views of camera b follow each other
        others = torch.stack([torch.stack([said(6 + 2 * b + i, b) for b in range(3)]) for i in range(2)])
    weights = prompts.weights if use_perp_neg else prompts.weights[:, :0]
    kept = scheduler.alphas_cumprod[times]
    wanted = by_hand(
        noise.double(), cond.double(), uncond.double(), others.double(), weights.double(), 10.0, kept.double()
    )
    assert rgb.grad is not None
    torch.testing.assert_close(rgb.grad.permute(0, 3, 1, 2) * 3, wanted.float(), rtol=1e-3, atol=1e-3)
    assert float(out["grad_norm"]) == pytest.approx(float(wanted.norm()), rel=1e-3)


def test_pictures_are_encoded_first() -> None:
    from negguide.toybox.load import load_pipeline

    pipe = load_pipeline("sd")
    guidance = ScoreDistillation(pipe.unet, pipe.vae, pipe.scheduler, generator=torch.Generator().manual_seed(0))
    text, empty = pipe.encode_prompt(["a face, back view"], "cpu", 1, True, [""])
    prompts = SimpleNamespace(use_perp_neg=False, get_text_embeddings=lambda *where: torch.cat([text, empty]))
    size = pipe.unet.config.sample_size * 2 ** (len(pipe.vae.config.block_out_channels) - 1)
    rgb = torch.full((1, size, size, 3), 0.5, requires_grad=True)
    guidance(rgb, prompts, torch.zeros(1), torch.zeros(1), torch.ones(1))["loss_sds"].backward()
    assert rgb.grad is not None and rgb.grad.isfinite().all() and float(rgb.grad.abs().max()) > 0
