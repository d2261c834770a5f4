"""SPELL and particle guidance: formulas against loops in float64, and their effect in real pipelines."""

from __future__ import annotations

import math
from typing import Any

import families
import pytest
import torch
from torch import Tensor

from negguide import maths
from negguide.engine import attach
from negguide.methods import (
    SPELL,
    NegativePrompt,
    ParticleGuidance,
    PerpNeg,
    Reference,
    Window,
    from_json,
    radius_from,
    to_json,
)

Point = list[float]


def points(count: int, seed: int = 0, shape: tuple[int, ...] = (3, 4, 5)) -> Tensor:
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed))


def flat(x: Tensor) -> list[Point]:
    rows: list[Point] = x.double().flatten(1).tolist()
    return rows


def distance(a: Point, b: Point) -> float:
    return math.sqrt(math.fsum((p - q) ** 2 for p, q in zip(a, b, strict=True)))


def loop_spell(x: Tensor, others: Tensor, sees: Tensor, r: float, factor: float) -> list[Point]:
    result = []
    for i, a in enumerate(flat(x)):
        push = [0.0] * len(a)
        for k, z in enumerate(flat(others)):
            d = distance(a, z)
            if sees[i, k] and 0 < d < r:
                push = [total + factor * (r / d - 1) * (p - q) for total, p, q in zip(push, a, z, strict=True)]
        result.append(push)
    return result


def loop_particles(x: Tensor, others: Tensor, sees: Tensor) -> list[Point]:
    result = []
    for i, a in enumerate(flat(x)):
        seen = [z for k, z in enumerate(flat(others)) if sees[i, k]]
        far = sorted(distance(a, z) for z in seen)
        push = [0.0] * len(a)
        for z in seen:
            h = far[(len(far) - 1) // 2] ** 2 / math.log(len(seen) + 1)
            k = math.exp(-(distance(a, z) ** 2) / h)
            push = [total + k * (p - q) for total, p, q in zip(push, a, z, strict=True)]
        result.append(push)
    return result


def close(got: Tensor, want: list[Point], tolerance: float = 1e-5) -> None:
    for row, expected in zip(flat(got), want, strict=True):
        assert row == pytest.approx(expected, rel=tolerance, abs=tolerance)


SEES = torch.tensor([[False, True, True, True], [True, False, False, True], [False, False, False, False]])


@pytest.mark.parametrize("r", [5.0, 11.0, 30.0])
def test_spell_is_its_formula(r: float) -> None:
    x, others = points(3), points(4, seed=1)
    found = maths.spell(x, others, SEES, r, 1.6)
    want = loop_spell(x, others, SEES, r, 1.6)
    close(found, want)
    assert not found[2].any(), "an image that sees nothing is not pushed"
    assert bool(found.any()) == (r > 5), "at 5 all are further apart than the radius"


def test_spell_with_one_point_leads_to_the_surface() -> None:
    x, z = points(2), points(1, seed=1)
    moved = x + maths.spell(x, z, torch.ones(2, 1, dtype=torch.bool), 20.0, 1.0)
    assert maths.distances(moved, z).flatten().tolist() == pytest.approx([20.0, 20.0], rel=1e-5)
    same = maths.spell(x[:1], x[:1], torch.ones(1, 1, dtype=torch.bool), 20.0, 1.6)
    assert torch.equal(same, torch.zeros_like(x[:1])), "no direction leads away from the very point"


def test_spell_is_exact_for_near_twins() -> None:
    x = points(1).double() * 100
    z = x + 1e-6 * points(1, seed=2).double()
    close(maths.spell(x, z, torch.ones(1, 1, dtype=torch.bool), 3.0, 1.6), loop_spell(x, z, torch.ones(1, 1), 3.0, 1.6))


def test_particle_guidance_is_its_formula() -> None:
    x, others = points(3), points(4, seed=1)
    found = maths.particle_guidance(x, others, SEES)
    close(found, loop_particles(x, others, SEES))
    assert found[0].any() and not found[2].any()
    assert not maths.particle_guidance(x[:1], x[:1], torch.ones(1, 1, dtype=torch.bool)).any(), "twins: 0, not NaN"


def test_particle_guidance_is_the_gradient_of_the_potential() -> None:
    x = points(3).double().requires_grad_()
    sees = ~torch.eye(3, dtype=torch.bool)
    far = torch.stack([(x[i] - x[j]).norm() for i in range(3) for j in range(3)]).view(3, 3).detach()
    found = maths.particle_guidance(x.detach(), x.detach(), sees)
    for i in range(3):
        h = sorted(far[i][sees[i]].tolist())[0] ** 2 / math.log(3)
        others = [x[j].detach() for j in range(3) if j != i]
        log_phi = -sum((-(x[i] - z).square().sum() / h).exp() for z in others)
        (gradient,) = torch.autograd.grad(log_phi, x)
        assert torch.allclose(found[i], gradient[i] * h / 2, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_summed_in_float32(dtype: torch.dtype) -> None:
    x = (points(2, shape=(16, 128, 128)) * 2).to(dtype)
    sees = ~torch.eye(2, dtype=torch.bool)
    for found in (maths.spell(x, x, sees, 2000.0), maths.particle_guidance(x, x, sees)):
        assert found.dtype == torch.float32 and found.isfinite().all()
    d = float((x[0].double() - x[1].double()).norm())
    assert float(maths.distances(x, x)[0, 1]) == pytest.approx(d, rel=1e-5)


def test_radius_from_data() -> None:
    x = points(5).double()
    rows = flat(x)
    near = sorted(min(distance(a, b) for b in rows if b is not a) for a in rows)
    assert radius_from(x) == pytest.approx(near[2] / math.sqrt(60))
    assert radius_from(x, 0.0) == pytest.approx(near[0] / math.sqrt(60))
    with pytest.raises(ValueError, match=r"\(1, 3, 4, 5\); at least two pictures"):
        radius_from(x[:1])
    with pytest.raises(ValueError, match="quantile is 2"):
        radius_from(x, 2.0)


def test_references_in_every_form() -> None:
    latents = points(1)[0]
    forms: list[Any] = ["some/where.png", families.picture(8), latents, Reference(latents)]
    config = SPELL(references=forms)
    again = from_json(to_json(config))
    assert again == config and hash(again) == hash(config)
    assert torch.equal(again.references[2].latents(), latents)
    assert list(again.references[1].picture().getdata()) == list(families.picture(8).getdata())
    assert SPELL(references=latents) == SPELL(references=[latents])
    with pytest.raises(TypeError, match="a reference is 3; possible: a path, a PIL picture"):
        SPELL(references=[3])
    with pytest.raises(ValueError, match=r"keys \['url'\]; possible: path"):
        Reference.of({"url": "x"})
    with pytest.raises(ValueError, match="not finite"):
        Reference(latents * math.nan)
    with pytest.raises(FileNotFoundError):
        Reference("no/such.png").picture()


def test_options_are_checked() -> None:
    with pytest.raises(ValueError, match=r"within=False.*nothing to keep away from"):
        SPELL(within=False)
    with pytest.raises(ValueError, match="radius is -1"):
        SPELL(-1.0)
    with pytest.raises(ValueError, match="scale is -1"):
        ParticleGuidance(-1.0)


def rms(x: Tensor) -> float:
    """How far the first two are apart: a length that fits the random weights."""
    return radius_from(x[:2]) if len(x) > 1 else 2 * float(x.square().mean().sqrt())


METHODS: dict[str, Any] = {
    "spell": lambda plain, **more: SPELL(1.5 * rms(plain), **more),
    "particle_guidance": lambda plain, **more: ParticleGuidance(0.3, **more),
}
SPREADING = ["sd15", "sdxl", "sd3", "flux", "pixart", "qwen", "zimage"]


def four(name: str, **more: Any) -> Tensor:
    """Two prompts of two images each."""
    return families.run(name, prompt=["a pet on grass", "one red apple"], num_images_per_prompt=2, **more)


def spread(x: Tensor) -> tuple[float, float, float]:
    """Distances within the first, within the second prompt, and between the two."""
    d = maths.distances(x, x)
    return float(d[0, 1]), float(d[2, 3]), float(d[:2, 2:].mean())


@pytest.mark.parametrize("name", SPREADING)
@pytest.mark.parametrize("method", METHODS)
def test_pictures_of_a_prompt_move_apart(method: str, name: str) -> None:
    pipe = families.build(name)
    plain = four(name)
    with attach(pipe, METHODS[method](plain)) as attached:
        found = four(name)
        assert attached.passes == 2 * len(attached.trace), "no extra pass"
    first, second, _ = spread(found)
    before, before_second, _ = spread(plain)
    assert first > 1.02 * before and second > 1.02 * before_second
    assert torch.equal(four(name), plain), "detached"


@pytest.mark.parametrize("name", ["sd15", "sd3", "flux"])
@pytest.mark.parametrize("method", METHODS)
def test_prompts_do_not_repel_each_other(method: str, name: str) -> None:
    plain = four(name)
    apples = {"prompt": "one red apple", "num_images_per_prompt": 2, "seed": 2}
    families.skip_where_stock_mixes_prompts(name, plain[2:], [families.run(name, **apples)], 2e-4)
    with attach(families.build(name), METHODS[method](plain)):
        both = four(name)
        alone = families.run(name, **apples)
    error = float((both[2:] - alone).abs().max() / alone.abs().max())
    assert error < 2e-4


@pytest.mark.parametrize("name", ["sd15", "sdxl", "sd3", "flux"])
@pytest.mark.parametrize("method", METHODS)
def test_away_from_references(method: str, name: str) -> None:
    pipe, plain = families.build(name), families.run(name)
    target = plain + 0.5 * torch.randn(plain.shape, generator=torch.Generator().manual_seed(9))
    with attach(pipe, METHODS[method](plain, references=target[0], within=False)):
        found = families.run(name)
    assert float((found - target).norm()) > 1.02 * float((plain - target).norm())
    with attach(pipe, METHODS[method](plain, references=families.picture())):
        assert not torch.equal(families.run(name), plain), "a picture is encoded"


@pytest.mark.parametrize(
    "neutral",
    [
        lambda: SPELL(0.0),
        lambda: SPELL(2.0, overcompensation=0.0),
        lambda: SPELL(2.0, window=Window(0.5, 0.5)),
        lambda: SPELL(1e-6),
        lambda: ParticleGuidance(0.0),
        lambda: ParticleGuidance(0.5, window=(0.3, 0.3)),
    ],
)
def test_neutral_is_bit_equal(neutral: Any) -> None:
    for name in ("sd15", "sd3"):
        plain = four(name)
        with attach(families.build(name), neutral()):
            found = four(name)
        assert torch.equal(found, plain) or (neutral().sees_denoised and torch.allclose(found, plain, atol=1e-4))
    assert not SPELL(0.0).sees_denoised and not ParticleGuidance(0.0).sees_denoised


@pytest.mark.parametrize("method", METHODS)
def test_works_without_guidance_and_beside_others(method: str) -> None:
    pipe, plain = families.build("sd3"), four("sd3")
    with attach(pipe, METHODS[method](plain)) as attached:
        found = families.run("sd3", num_images_per_prompt=2, guidance_scale=1.0)
        assert attached.passes == len(attached.trace)
    assert not torch.equal(found, families.run("sd3", num_images_per_prompt=2, guidance_scale=1.0))
    with attach(pipe, PerpNeg("cat"), NegativePrompt("hat"), METHODS[method](plain)) as attached:
        assert four("sd3").isfinite().all()
        assert {"perp_neg", "negative", method} == set(attached.trace[0].methods)


def test_a_wrong_shape_and_nan_are_told() -> None:
    pipe = families.build("sd15")
    with (
        attach(pipe, SPELL(references=torch.zeros(4, 3, 3))),
        pytest.raises(ValueError, match=r"\(4, 3, 3\), those of this run \(4, 16, 16\)"),
    ):
        families.run("sd15")
    with attach(pipe, SPELL(1e38, overcompensation=1e38)), pytest.raises(FloatingPointError, match="spell"):
        families.run("sd15", num_images_per_prompt=2)
