"""APG, CFG-Zero*, rescale and interval: formulas, neutral settings, and together with negatives."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from negguide.methods import (
    APG,
    UNCONDITIONAL,
    CFGZeroStar,
    Condition,
    Guidance,
    Interval,
    Method,
    PerpNeg,
    Rescale,
    Step,
    Window,
)

SHAPE = (3, 4, 8, 8)
W = 6.0
A, B = 0.6, 0.8


def draw(seed: int) -> Tensor:
    scales = torch.tensor([1.0, 30.0, 0.05]).view(3, 1, 1, 1)
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed)) * scales


def step_at(index: int = 0, kind: str = "epsilon", sigma: float = 0.5) -> Step:
    x = draw(9)
    if kind == "flow":
        return Step(index, 50, sigma, 0.0, x, kind, lambda v: x - sigma * v, lambda x0: (x - x0) / sigma, lambda m: x)
    if kind == "v_prediction":
        return Step(index, 50, sigma, 0.0, x, kind, lambda v: A * x - B * v, lambda x0: (A * x - x0) / B, lambda m: x)
    return Step(index, 50, sigma, 0.0, x, kind, lambda e: (x - B * e) / A, lambda x0: (x - A * x0) / B, lambda m: x)


def guide(*methods: Method, step: Step | None = None, state: dict[str, Any] | None = None) -> Guidance:
    predictions = {UNCONDITIONAL: draw(1), Condition("hat"): draw(2)}
    guidance = Guidance(step or step_at(), draw(0), draw(1), W, predictions)
    for method in methods:
        method.combine(guidance, {} if state is None else state)
    return guidance


def plain() -> Tensor:
    return draw(1) + W * (draw(0) - draw(1))


def agree(result: Tensor, expected: Tensor, tolerance: float = 1e-4) -> None:
    error = (result.double() - expected.double()).flatten(1).norm(dim=1)
    assert (error <= tolerance * expected.double().flatten(1).norm(dim=1)).all(), error


@pytest.mark.parametrize(
    "method",
    [
        APG(eta=1, norm_threshold=0, momentum=0),
        CFGZeroStar(optimal_scale=False, zero_init_steps=0),
        Rescale(0),
        Interval(Window()),
    ],
)
def test_neutral_settings_leave_guidance_untouched(method: Method) -> None:
    for kind in ("epsilon", "flow"):
        guidance = guide(method, step=step_at(kind=kind))
        assert not guidance.touched
        assert torch.equal(guidance.result(), plain())
        assert method.conditions(guidance.step, {}) == method.prompts() == ()


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "flow"])
@pytest.mark.parametrize(("eta", "r", "momentum"), [(0.0, 0.0, 0.0), (0.5, 4.0, 0.0), (0.0, 3.0, -0.5)])
def test_apg_over_three_steps(kind: str, eta: float, r: float, momentum: float) -> None:
    """D_c + (w - 1) d' with d' made of clean estimates, one sample at a time."""
    state: dict[str, Any] = {}
    method = APG(eta, r, momentum)
    average = [torch.zeros(SHAPE[1:], dtype=torch.float64) for _ in range(3)]
    for index in range(3):
        step = step_at(index, kind)
        result = guide(method, step=step, state=state).result()
        clean_c, clean_u = step.to_denoised(draw(0).double()), step.to_denoised(draw(1).double())
        expected = []
        for k in range(3):
            average[k] = clean_c[k] - clean_u[k] + momentum * average[k]
            d = average[k] * (min(1.0, r / float(average[k].norm())) if r else 1.0)
            along = (d * clean_c[k]).sum() / (clean_c[k] ** 2).sum() * clean_c[k]
            expected.append(clean_c[k] + (W - 1) * (d - along + eta * along))
        agree(step.to_denoised(result), torch.stack(expected), 1e-3)


def test_apg_acts_on_what_negatives_made() -> None:
    step = step_at()
    guided = guide(PerpNeg("hat"), step=step)
    target = guided.base + guided.direction
    result = guide(PerpNeg("hat"), APG(eta=0, norm_threshold=0, momentum=0), step=step).result()
    clean_c = step.to_denoised(draw(0)).double()
    d = step.to_denoised(target).double() - step.to_denoised(draw(1)).double()
    share = (d * clean_c).flatten(1).sum(1) / (clean_c**2).flatten(1).sum(1)
    expected = step.to_denoised(target) + (W - 1) * (d - share.view(3, 1, 1, 1) * clean_c)
    agree(step.to_denoised(result), expected, 1e-3)


def test_cfg_zero_star() -> None:
    result = guide(CFGZeroStar()).result()
    expected = []
    for c, u in zip(draw(0).double(), draw(1).double(), strict=True):
        s = (c * u).sum() / (u * u).sum()
        expected.append(s * u + W * (c - s * u))
    agree(result, torch.stack(expected))
    both = guide(PerpNeg("hat"), CFGZeroStar())
    before = guide(PerpNeg("hat"))
    agree(both.base + both.direction, before.base + before.direction)


def test_zero_init() -> None:
    for index in range(4):
        flow = guide(CFGZeroStar(), step=step_at(index, "flow")).result()
        assert (torch.count_nonzero(flow) == 0) == (index < 2)  # 4 % of 50 steps
        assert torch.count_nonzero(guide(CFGZeroStar(), step=step_at(index)).result()) > 0
        counted = guide(CFGZeroStar(optimal_scale=False, zero_init_steps=1), step=step_at(index, "flow"))
        assert counted.touched == (index == 0)
    with pytest.raises(ValueError, match=r"needs a flow model.*'epsilon'"):
        guide(CFGZeroStar(zero_init_steps=1))
    assert torch.isfinite(guide(CFGZeroStar(), Rescale(0.7), step=step_at(0, "flow")).result()).all()


@pytest.mark.parametrize("phi", [0.3, 1.0])
def test_rescale(phi: float) -> None:
    result = guide(Rescale(phi)).result()
    guided = plain().double()
    expected = [g * (phi * c.std() / g.std() + 1 - phi) for g, c in zip(guided, draw(0).double(), strict=True)]
    agree(result, torch.stack(expected))


def test_interval() -> None:
    for index in (0, 4, 5, 24, 25, 49):
        assert Interval((0.1, 0.5)).guides(step_at(index)) == (5 <= index < 25)
    sigma = Interval(Window(5.42, 0.28, "sigma"))
    assert [sigma.guides(step_at(sigma=s)) for s in (6.0, 5.42, 1.0, 0.28)] == [False, True, True, False]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: APG(eta=-1), "eta is -1; possible: at least 0"),
        (lambda: APG(norm_threshold=float("inf")), "finite"),
        (lambda: APG(momentum=1.5), "momentum is 1.5; possible: more than -1, less than 1"),
        (lambda: Rescale(1.2), "guidance_rescale is 1.2; possible: from 0 to 1"),
        (lambda: CFGZeroStar(zero_init_steps=0.5), "whole number"),
        (lambda: Interval((0.5, 0.1)), "0 <= start <= stop <= 1"),
    ],
)
def test_errors_teach(build: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()
    with pytest.raises(TypeError, match=r"window is 0\.4; possible"):
        Interval(0.4)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="a number is needed"):
        Rescale("much")  # type: ignore[arg-type]
