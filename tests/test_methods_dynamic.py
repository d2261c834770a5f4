"""Dynamic negative guidance over a whole run, against a loop in plain Python."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from negguide import maths
from negguide.methods import UNCONDITIONAL, Condition, Denoised, DynamicNegative, Guidance, Mask, Negative, Step, Window

SHAPE = (2, 2, 4, 4)
W = 3.0


def noise(seed: int) -> Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed)) * torch.tensor([0.1, 0.4]).view(2, 1, 1, 1)


def step_at(index: int, sigma: float, sample: Tensor, flow: bool = False) -> Step:
    return Step(
        index, 9, sigma, 0.0, sample, "flow" if flow else "epsilon",
        lambda p: sample - sigma * p, lambda x0: (sample - x0) / sigma, lambda mask: mask.tensor(4, 4)[None, None],
    )  # fmt: skip


def run(method: DynamicNegative, sigmas: list[float], flow: bool = False, scale: float = 1.0) -> list[Tensor]:
    """The push `(plain - result) / W / d` of each step, (B,) each."""
    state: dict[str, Any] = {}
    sample, pushes = noise(99), []
    for index, sigma in enumerate(sigmas):
        u, c, n = (scale * noise(3 * index + k) for k in range(3))
        step = step_at(index, sigma, sample, flow)
        asked = method.conditions(step, state)
        known = {key: {None: u, "cat": n}[key.prompt] for key in asked}  # type: ignore[index]
        guidance = Guidance(step, c, u, W, known)
        method.combine(guidance, state)
        pushes.append((((u + W * (c - u)) - guidance.result()) / W / (n - u)).flatten(1).median(1).values)
        method.denoised(Denoised(step, step.to_denoised(guidance.result())), state)
    return pushes


@pytest.mark.parametrize("flow", [False, True])
def test_posterior_follows_bayes(flow: bool) -> None:
    sigmas = [1.0, 0.8, 0.6, 0.4] if flow else [4.0, 3.0, 2.0, 1.0]
    method = DynamicNegative(("cat", 1.0), prior=0.2, temperature=0.7, offset=0.1, p_max=0.9)
    pushes = run(method, sigmas, flow)
    sample = noise(99).double()
    for image in range(2):
        p = 0.2
        for index, sigma in enumerate(sigmas):
            assert pushes[index][image].item() == pytest.approx(p / (1 - p), rel=1e-3)
            if index + 1 == len(sigmas):
                break
            u, c, n = (noise(3 * index + k)[image].double() for k in range(3))
            guided = u + W * (c - u) - W * p / (1 - p) * (n - u)
            x_g, x_u, x_n = (sample[image] - sigma * e for e in (guided, u, n))
            ratios = [((1 - s) / s) ** 2 if flow else 1 / s**2 for s in (sigma, sigmas[index + 1])]
            gap = float(((x_g - x_u) ** 2).sum() - ((x_g - x_n) ** 2).sum())
            folds = 0.5 * math.log(ratios[1] / ratios[0]) if ratios[0] > 0 else 0.0
            p = min(0.9, max(1e-6, p * math.exp(0.7 * 0.5 * (ratios[1] - ratios[0]) * gap + 0.1 * folds)))


def test_the_authors_offset_is_that_of_their_chain() -> None:
    """Their 1000 steps, with the betas from which their code computes it."""
    betas = np.linspace(1e-4, 2e-2, 1000)
    kept = np.cumprod(1 - betas)
    total, nats = 0.0, []
    for t in range(999, 0, -1):
        variance = (1 - kept[t - 1]) / (1 - kept[t]) * betas[t]
        theirs = 2e-4 / (2 * variance)
        snr_t, snr_s = (kept[at] / (1 - kept[at]) for at in (t, t - 1))
        assert maths.dng_drift(2e-4, snr_t, snr_s, "per variance") == pytest.approx(theirs, rel=1e-6)
        total += theirs
        nats.append(maths.dng_drift(1.0, snr_t, snr_s))
    assert total > 10 and sum(nats) == pytest.approx(
        math.log(math.sqrt((1 - kept[-1]) / kept[-1] * kept[0] / (1 - kept[0])))
    )
    assert maths.dng_drift(1.0, 2.0, math.inf, "per variance") == maths.dng_drift(1.0, 2.0, 1.0, "per variance") == 0.0
    assert maths.dng_drift(3.0, 0.0, 1.0, "per variance") == pytest.approx(3.0)


def test_both_forms_of_the_offset_raise_the_posterior() -> None:
    def pushed(**options: Any) -> list[float]:
        return [
            float(push[0])
            for push in run(DynamicNegative("cat", prior=0.1, temperature=0.0, **options), [4.0, 2.0, 1.0])
        ]

    # From sigma 4 to 2 (SNR 1/16 to 1/4): noise shares 16/17 and 4/5, signal shares 1/17 and 1/5.
    variance = (4 / 5) / (16 / 17) * (1 - (1 / 17) / (1 / 5))
    p = 0.1 * math.exp(0.2 / (2 * variance))
    assert pushed(offset=0.2, offset_form="per variance")[1] == pytest.approx(p / (1 - p), rel=1e-3)
    p = 0.1 * 2**0.2
    assert pushed(offset=0.2)[1] == pytest.approx(p / (1 - p), rel=1e-3)
    with pytest.raises(ValueError, match="offset_form"):
        DynamicNegative("cat", offset_form="nats")  # type: ignore[arg-type]


@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e4, 1e12])
def test_stays_finite_and_bounded(scale: float) -> None:
    pushes = run(DynamicNegative("cat", prior=0.3, temperature=1.0), [14.6, 5.0, 1.0, 0.03, 0.0], scale=scale)
    assert all(torch.isfinite(push).all() for push in pushes)
    assert max(float(push.max()) for push in pushes) <= 4.0 * 1.01


def test_temperature_zero_keeps_the_prior() -> None:
    for push in run(DynamicNegative("cat", prior=0.5, temperature=0.0), [4.0, 2.0, 1.0]):
        assert push.tolist() == pytest.approx([1.0, 1.0], rel=1e-3)


def test_towards_the_negative_is_pushed_harder() -> None:
    """One image is guided to the negative, the other away from it."""
    state: dict[str, Any] = {}
    method, n = DynamicNegative("cat", prior=0.1), noise(1)
    u, cond = torch.zeros(SHAPE), torch.stack([n[0], -n[1]])
    for index, sigma in enumerate((4.0, 2.0)):
        step = step_at(index, sigma, noise(99))
        guidance = Guidance(step, cond, u, W, {UNCONDITIONAL: u, Condition("cat"): n})
        method.combine(guidance, state)
        method.denoised(Denoised(step, step.to_denoised(guidance.result())), state)
    (memory,) = state.values()
    (log_p,) = memory.log_p.values()
    assert log_p[0] > math.log(0.1) > log_p[1]


def test_prior_zero_is_neutral() -> None:
    method = DynamicNegative("cat", prior=0.0)
    step = step_at(0, 4.0, noise(99))
    guidance = Guidance(step, noise(0), noise(1), W, {})
    method.combine(guidance, {})
    assert not guidance.touched
    assert method.conditions(step, {}) == method.prompts() == ()


def test_state_belongs_to_one_run_and_one_method() -> None:
    first, second = DynamicNegative("cat", prior=0.2), DynamicNegative("cat", prior=0.2)
    once = run(first, [4.0, 2.0, 1.0])
    assert all(torch.equal(a, b) for a, b in zip(once, run(first, [4.0, 2.0, 1.0]), strict=True))
    state: dict[str, Any] = {}
    step = step_at(0, 4.0, noise(99))
    for method in (first, second):
        guidance = Guidance(step, noise(0), noise(1), W, {UNCONDITIONAL: noise(1), Condition("cat"): noise(2)})
        method.combine(guidance, state)
    assert len(state) == 2


def test_a_mask_looks_only_at_its_region() -> None:
    left = torch.zeros(4, 4)
    left[:, :2] = 1.0
    method = DynamicNegative(Negative("cat", mask=Mask(left)), prior=0.2)
    posteriors = []
    for outside in (0.0, 5.0):
        state: dict[str, Any] = {}
        for index, sigma in enumerate((4.0, 2.0)):
            n = noise(2)
            n[..., 2:] += outside
            step = step_at(index, sigma, noise(99))
            guidance = Guidance(step, noise(0), noise(1), W, {UNCONDITIONAL: noise(1), Condition("cat"): n})
            method.combine(guidance, state)
            method.denoised(Denoised(step, step.to_denoised(guidance.result())), state)
        posteriors.append(next(iter(next(iter(state.values())).log_p.values())))
    assert torch.equal(posteriors[0], posteriors[1])
    assert not torch.allclose(posteriors[0], torch.tensor(math.log(0.2)))


def test_a_closed_window_ends_quietly() -> None:
    method = DynamicNegative(Negative("cat", window=Window(0, 0.3)), prior=0.2)
    state: dict[str, Any] = {}
    for index in range(9):
        step = step_at(index, 9.0 - index, noise(99))
        known = dict.fromkeys(method.conditions(step, state), noise(2))
        guidance = Guidance(step, noise(0), noise(1), W, known)
        method.combine(guidance, state)
        method.denoised(Denoised(step, noise(5)), state)
        assert guidance.touched == (index < 3)
