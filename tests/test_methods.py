"""Negative methods, driven without an engine: formulas in loops, neutrality, masks, windows, weights, composition."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from negguide.methods import (
    OWN,
    UNCONDITIONAL,
    Condition,
    ContrastiveNegative,
    DynamicNegative,
    Guidance,
    Mask,
    Method,
    Negative,
    NegativePrompt,
    PerpNeg,
    Step,
    Window,
)

SHAPE = (3, 4, 8, 8)
W = 7.5
TEXTS = ["hat", "glasses", "red"]
METHODS: dict[str, Callable[..., Method]] = {
    "replace": NegativePrompt,
    "signed": lambda n, **k: NegativePrompt(n, mode="signed", **k),
    "signed_own_scale": lambda n, **k: NegativePrompt(n, mode="signed", scale=3.0, **k),
    "perp_neg": PerpNeg,
    "ccfg": lambda n, **k: ContrastiveNegative(n, tau=0.01, **k),
    "dng": lambda n, **k: DynamicNegative(n, prior=0.3, **k),
}
every_method = pytest.mark.parametrize("make", METHODS.values(), ids=METHODS)


def draw(name: str, dtype: torch.dtype = torch.float32) -> Tensor:
    """A prediction for a text; the three samples differ in length by a factor of 1000."""
    generator = torch.Generator().manual_seed(sum(map(ord, name)))
    return (torch.randn(SHAPE, generator=generator) * torch.tensor([0.3, 3.0, 0.003]).view(3, 1, 1, 1)).to(dtype)


def step_at(index: int = 0, count: int = 10, sigma: float = 2.0, prediction_type: str = "epsilon") -> Step:
    x = draw("sample")
    return Step(
        index=index,
        count=count,
        sigma=sigma,
        timestep=0.0,
        sample=x,
        prediction_type=prediction_type,
        to_denoised=lambda p: x - sigma * p,
        from_denoised=lambda x0: (x - x0) / sigma,
        resize_mask=lambda mask: mask.tensor(8, 8)[None, None],
    )


def guide(
    *methods: Method,
    step: Step | None = None,
    cond: Tensor | None = None,
    own: str | None = None,
    state: dict[str, Any] | None = None,
    **predictions: Tensor,
) -> Guidance:
    """What the runner does at one step: only what was asked for is predicted; `own` is the call's negative prompt."""
    step, state = step or step_at(), {} if state is None else state
    asked = [condition for method in methods for condition in method.conditions(step, state)]
    known: dict[Condition, Tensor] = {}
    for condition in asked:
        text = (own or "") if condition.own else condition.prompt or ""
        known[condition] = predictions.get(str(text), draw(str(text)))
    cond = draw("a portrait") if cond is None else cond
    bases = [known[condition] for condition in asked if condition.role == "base"]
    base = bases[0] if bases else predictions.get(own or "", draw(own or "")).to(cond.dtype)
    guidance = Guidance(step, cond, base, W, known)
    for method in methods:
        method.combine(guidance, state)
    return guidance


def plain(own: str = "") -> Tensor:
    return draw(own) + W * (draw("a portrait") - draw(own))


def loop(combine: Callable[..., float], *names: str) -> Tensor:
    """`combine` applied to single values in float64."""
    columns = [draw(name).double().flatten().tolist() for name in names]
    return torch.tensor([combine(*values) for values in zip(*columns, strict=True)]).view(SHAPE)


def agree(result: Tensor, expected: Tensor) -> None:
    """Within 1e-5 of each sample's own length."""
    error = (result.double() - expected.double()).flatten(1).norm(dim=1)
    assert (error <= 1e-5 * expected.double().flatten(1).norm(dim=1)).all(), error


def passes(method: Method, step: Step | None = None) -> int:
    return len(method.conditions(step or step_at(), {}))


# The formulas.


def test_replace_is_the_classical_negative_prompt() -> None:
    guidance = guide(NegativePrompt("hat"))
    assert torch.equal(guidance.result(), draw("hat") + W * (draw("a portrait") - draw("hat")))
    (condition,) = NegativePrompt("hat").conditions(step_at(), {})
    assert (condition.prompt, condition.role) == ("hat", "base")


@pytest.mark.parametrize("weight", [0.25, 0.5, 1.5])
def test_replace_with_a_weight_starts_between(weight: float) -> None:
    result = guide(NegativePrompt([("hat", weight)])).result()
    agree(result, loop(lambda u, n, c: (b := u + weight * (n - u)) + W * (c - b), "", "hat", "a portrait"))
    assert OWN in NegativePrompt([("hat", weight)]).conditions(step_at(), {})


def test_replace_mixes_negatives() -> None:
    method = NegativePrompt(["hat", ("glasses", 0.5)])
    assert {c.prompt for c in method.conditions(step_at(), {})} == {"hat", "glasses"}
    agree(
        guide(method).result(),
        loop(lambda a, b, c: (m := (2 * a + b) / 3) + W * (c - m), "hat", "glasses", "a portrait"),
    )


def test_signed() -> None:
    result = guide(NegativePrompt(["hat", ("glasses", 0.5)], mode="signed")).result()
    agree(
        result,
        loop(lambda u, c, a, b: u + W * (c - u) - W * (a - u) - 0.5 * W * (b - u), "", "a portrait", "hat", "glasses"),
    )
    result = guide(NegativePrompt([("hat", 0.5)], mode="signed", scale=4.0)).result()
    agree(result, loop(lambda u, c, a: u + W * (c - u) - 2.0 * (a - u), "", "a portrait", "hat"))


def test_perp_neg_with_negatives_and_a_positive() -> None:
    result = guide(PerpNeg([("hat", 1.5), "glasses"], positives=[("red", 0.5)])).result()
    expected = torch.empty(SHAPE, dtype=torch.float64)
    for k in range(SHAPE[0]):
        values = {name: draw(name)[k].double().flatten().tolist() for name in ("", "a portrait", *TEXTS)}
        d = {name: [x - u for x, u in zip(row, values[""], strict=True)] for name, row in values.items()}
        square = math.fsum(x * x for x in d["a portrait"])
        total = list(d["a portrait"])
        for name, w in (("hat", -1.5), ("glasses", -1.0), ("red", 0.5)):
            share = math.fsum(x * y for x, y in zip(d[name], d["a portrait"], strict=True)) / square
            total = [t + w * (x - share * p) for t, x, p in zip(total, d[name], d["a portrait"], strict=True)]
        expected[k] = torch.tensor([u + W * t for u, t in zip(values[""], total, strict=True)]).view(SHAPE[1:])
    agree(result, expected)


def test_ccfg() -> None:
    result = guide(ContrastiveNegative([("hat", 0.5)], tau=0.02, boost_positive=True)).result()
    expected = torch.empty(SHAPE, dtype=torch.float64)
    for k in range(SHAPE[0]):
        u, c, n = (draw(name)[k].double() for name in ("", "a portrait", "hat"))
        up = 2 / (1 + math.exp(-0.02 * float(((c - u) ** 2).sum())))
        down = 2 / (1 + math.exp(min(700.0, 0.02 * float(((n - u) ** 2).sum()))))
        expected[k] = u + W * up * (c - u) - 0.5 * W * down * (n - u)
    agree(result, expected)
    agree(guide(ContrastiveNegative("hat", tau=0.0)).result(), guide(NegativePrompt("hat", mode="signed")).result())


@pytest.mark.parametrize("unconditional", [None, "own", "a photo"])
def test_unconditional_of_perp_neg(unconditional: str | None) -> None:
    start = {None: "", "own": "ugly", "a photo": "a photo"}[unconditional]
    result = guide(PerpNeg("hat", unconditional=unconditional), own="ugly")
    assert torch.equal(result.base, draw(start))
    d, p = draw("hat").double() - draw(start).double(), draw("a portrait").double() - draw(start).double()
    share = (d * p).flatten(1).sum(1) / (p * p).flatten(1).sum(1)
    agree(result.result(), draw(start).double() + W * (p - (d - share.view(-1, 1, 1, 1) * p)))


# What every method keeps.


@every_method
def test_one_image_does_not_depend_on_its_neighbours(make: Callable[..., Method]) -> None:
    names = ("", "hat", "glasses")
    together = guide(make(["hat", "glasses"])).result()
    for k in range(SHAPE[0]):
        alone = guide(
            make(["hat", "glasses"]),
            cond=draw("a portrait")[k : k + 1],
            **{name: draw(name)[k : k + 1] for name in names},
        ).result()
        assert torch.equal(together[k : k + 1], alone)


@every_method
@pytest.mark.parametrize(
    "negative", [Negative("hat", 0.0), Negative("hat", window=Window(0.3, 0.3)), Negative("hat", window=Window(0.5, 1))]
)
def test_idle_negatives_cost_nothing_and_change_nothing(make: Callable[..., Method], negative: Negative) -> None:
    method = make(negative)
    assert passes(method) == 0
    guidance = guide(method, own="ugly")
    assert not guidance.touched
    assert torch.equal(guidance.result(), plain("ugly"))
    assert bool(method.prompts()) == (negative.window == Window(0.5, 1))


@every_method
def test_an_idle_negative_beside_a_live_one(make: Callable[..., Method]) -> None:
    assert torch.equal(guide(make(["hat", ("red", 0.0)])).result(), guide(make("hat")).result())
    assert passes(make(["hat", ("red", 0.0)])) == passes(make("hat"))


@every_method
def test_windows_open_and_close_each_negative(make: Callable[..., Method]) -> None:
    method = make([Negative("hat", window=Window(0, 0.4)), Negative("red", window=Window(0.4, 1))])
    for index in range(10):
        prompts = {c.prompt for c in method.conditions(step_at(index), {})} - {None}
        assert prompts == ({"hat"} if index < 4 else {"red"})
    assert {c.prompt for c in method.prompts()} - {None} == {"hat", "red"}
    by_sigma = make(Negative("hat", window=Window(5, 1, "sigma")))
    assert [passes(by_sigma, step_at(sigma=s)) > 0 for s in (6.0, 5.0, 2.0, 1.0)] == [False, True, True, False]


@every_method
def test_masks_confine(make: Callable[..., Method]) -> None:
    half = torch.zeros(8, 8)
    half[:, :4] = 1.0
    result = guide(make(Negative("hat", mask=Mask(half)))).result()
    assert torch.equal(result[..., 4:], plain()[..., 4:])
    assert not torch.allclose(result[..., :4], plain()[..., :4], rtol=1e-3)
    assert torch.equal(guide(make(Negative("hat", mask=Mask(torch.zeros(8, 8))))).result(), plain())
    agree(guide(make(Negative("hat", mask=Mask(torch.ones(8, 8))))).result(), guide(make("hat")).result())


@every_method
def test_half_precision_in_half_precision_out(make: Callable[..., Method]) -> None:
    names = ("", "hat")
    guidance = guide(make("hat"), cond=draw("a portrait", torch.float16), **{n: draw(n, torch.float16) for n in names})
    assert guidance.result().dtype == torch.float16
    assert torch.isfinite(guidance.result()).all()


@every_method
def test_finite_when_all_predictions_agree(make: Callable[..., Method]) -> None:
    same = draw("a portrait")
    result = guide(make(["hat", "red"]), cond=same, **dict.fromkeys(("", "hat", "red"), same)).result()
    assert torch.equal(result, same)


@pytest.mark.parametrize("weight", [0.5, 1.0, 3.0])
def test_negative_equal_to_positive_has_exactly_no_effect_in_perp_neg(weight: float) -> None:
    for mask in (None, Mask(torch.rand(8, 8, generator=torch.Generator().manual_seed(0)))):
        method = PerpNeg(Negative("hat", weight, mask=mask))
        assert torch.equal(guide(method, hat=draw("a portrait").clone()).result(), plain())


def test_passes() -> None:
    assert [passes(m) for m in (NegativePrompt("a"), NegativePrompt(["a", "b"]), NegativePrompt([("a", 0.5)]))] == [
        1,
        2,
        2,
    ]
    assert [passes(m) for m in (PerpNeg("a"), PerpNeg(["a", "b"]), PerpNeg(["a", "a"]))] == [2, 3, 2]
    assert PerpNeg("a").conditions(step_at(), {})[0] == UNCONDITIONAL
    assert PerpNeg("a").conditions(step_at(), {})[0].role == "base"
    assert PerpNeg("a", unconditional="own").conditions(step_at(), {})[0] == OWN
    for silent in (NegativePrompt("a", mode="signed", scale=0), ContrastiveNegative("a", scale=0)):
        assert passes(silent) == 0
        assert silent.prompts() == ()


# Composition.


def test_order_of_replace_and_perp_neg_does_not_matter() -> None:
    one = guide(NegativePrompt("red"), PerpNeg("hat")).result()
    two = guide(PerpNeg("hat"), NegativePrompt("red")).result()
    agree(one, two)
    u, c, n, r = (draw(name).double() for name in ("", "a portrait", "hat", "red"))
    share = ((n - u) * (c - u)).flatten(1).sum(1) / ((c - u) ** 2).flatten(1).sum(1)
    agree(one, r + W * (c - r - (n - u - share.view(-1, 1, 1, 1) * (c - u))))


def test_half_a_replace_starts_from_the_own_negative_prompt_or_from_an_earlier_base() -> None:
    half = NegativePrompt([("red", 0.5)])
    for order, start in (((half, PerpNeg("hat")), "ugly"), ((PerpNeg("hat"), half), "")):
        agree(guide(*order, own="ugly").base, loop(lambda own, red: (own + red) / 2, start, "red"))


def test_two_perp_negs_are_one_with_two_negatives() -> None:
    agree(guide(PerpNeg("hat"), PerpNeg(("red", 0.5))).result(), guide(PerpNeg(["hat", ("red", 0.5)])).result())


def test_signed_twice_adds_up() -> None:
    own = NegativePrompt("hat", mode="signed", scale=2.0)
    agree(
        guide(own, NegativePrompt("red", mode="signed", scale=1.0)).result(),
        loop(lambda u, c, a, b: u + W * (c - u) - 2 * (a - u) - (b - u), "", "a portrait", "hat", "red"),
    )
