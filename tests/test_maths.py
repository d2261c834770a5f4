"""Every formula against plain loops in float64, one sample at a time."""

from __future__ import annotations

import math

import pytest
import torch

from negguide import maths

SHAPES = [(3, 4, 8, 8), (2, 6, 16), (2, 4, 3, 5, 5)]


def draw(shape: tuple[int, ...], seed: int = 0, scales: tuple[float, ...] = (1.0, 100.0, 0.01)) -> torch.Tensor:
    """Samples of very different length, so that anything summed over the batch shows."""
    sample = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return torch.stack([row * scale for row, scale in zip(sample, scales, strict=False)])


def rows(*tensors: torch.Tensor) -> list[tuple[list[float], ...]]:
    """One tuple of flat float64 lists for each sample."""
    return list(zip(*(tensor.double().flatten(1).tolist() for tensor in tensors), strict=True))


def inner(a: list[float], b: list[float]) -> float:
    return math.fsum(x * y for x, y in zip(a, b, strict=True))


def close(result: torch.Tensor, expected: list[list[float]], tolerance: float = 1e-5) -> None:
    """Each sample within a relative tolerance of its own length."""
    for got, want in zip(result.double().flatten(1).tolist(), expected, strict=True):
        error = math.sqrt(math.fsum((x - y) ** 2 for x, y in zip(got, want, strict=True)))
        assert error <= tolerance * (math.sqrt(inner(want, want)) + 1e-12)


def loop_perpendicular(d: list[float], p: list[float]) -> list[float]:
    share = inner(d, p) / inner(p, p)
    return [x - share * y for x, y in zip(d, p, strict=True)]


@pytest.mark.parametrize("shape", SHAPES)
def test_dot_and_norm(shape: tuple[int, ...]) -> None:
    a, b = draw(shape, 0), draw(shape, 1)
    assert maths.dot(a, b).shape == (shape[0], *(1,) * (len(shape) - 1))
    for got, (x, y) in zip(maths.dot(a, b).flatten().tolist(), rows(a, b), strict=True):
        assert got == pytest.approx(inner(x, y), rel=1e-4, abs=1e-6 * math.sqrt(inner(x, x) * inner(y, y)))
    for got, (x,) in zip(maths.norm(a).flatten().tolist(), rows(a), strict=True):
        assert got == pytest.approx(math.sqrt(inner(x, x)), rel=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_perpendicular_is_per_sample(shape: tuple[int, ...]) -> None:
    d, p = draw(shape, 0) + 0.5 * draw(shape, 1), draw(shape, 1)
    result = maths.perpendicular(d, p)
    close(result, [loop_perpendicular(x, y) for x, y in rows(d, p)])
    for left, (pos,) in zip(rows(result), rows(p), strict=True):
        assert abs(inner(left[0], pos)) <= 1e-5 * math.sqrt(inner(left[0], left[0]) * inner(pos, pos))


def test_batch_row_equals_the_row_alone() -> None:
    d, p = draw(SHAPES[0], 0), draw(SHAPES[0], 1)
    for k in range(3):
        assert torch.equal(maths.perpendicular(d, p)[k : k + 1], maths.perpendicular(d[k : k + 1], p[k : k + 1]))


def test_half_precision_does_not_overflow() -> None:
    """16x128x128 values of standard deviation 2: the squared norm is about 1,000,000, float16 ends at 65,504."""
    p = (2 * torch.randn(1, 16, 128, 128, generator=torch.Generator().manual_seed(0))).half()
    d = (p.float() * 0.7 + torch.randn(p.shape, generator=torch.Generator().manual_seed(1))).half()
    assert torch.isinf((p * p).flatten(1).sum(1)).all()
    result = maths.perpendicular(d, p)
    assert result.dtype == torch.float32
    reference = d.double() - (d.double() * p.double()).sum() / (p.double() ** 2).sum() * p.double()
    assert float((result.double() - reference).abs().max()) < 1e-4
    assert maths.dot(p, p).item() == pytest.approx(float((p.double() ** 2).sum()), rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_equal_directions_cancel_exactly(dtype: torch.dtype) -> None:
    d = draw(SHAPES[0], 3).to(dtype)
    assert torch.count_nonzero(maths.perpendicular(d, d.clone())) == 0
    strided = d.to(memory_format=torch.channels_last)
    assert torch.count_nonzero(maths.perpendicular(strided, d)) == 0


@pytest.mark.parametrize("size", [0.0, 1e-30, 1e-22, 1e-12])
def test_vanishing_positive_is_stable(size: float) -> None:
    d, p = draw(SHAPES[0], 0), draw(SHAPES[0], 1) * size
    result = maths.perpendicular(d, p)
    assert torch.isfinite(result).all()
    assert (maths.norm(result) <= maths.norm(d) * (1 + 1e-5)).all()
    if size == 0:
        assert torch.equal(result, d)
    assert torch.isfinite(maths.perpendicular(torch.zeros_like(d), p)).all()


@pytest.mark.parametrize("size", [1e-3, 1e-6, 1e-12])
def test_a_short_positive_is_projected_all_the_same(size: float) -> None:
    d, p = draw(SHAPES[0], 0), draw(SHAPES[0], 1)
    assert torch.allclose(maths.perpendicular(d, p * size), maths.perpendicular(d, p), rtol=1e-4, atol=1e-5)
    assert torch.count_nonzero(maths.perpendicular(p * size, p * size)) == 0


def test_float64_stays() -> None:
    d, p = draw(SHAPES[0], 0).double(), draw(SHAPES[0], 1).double()
    assert maths.perpendicular(d, p).dtype == torch.float64


def test_perp_neg_with_three_terms() -> None:
    pos, others, weights = draw(SHAPES[0], 0), [draw(SHAPES[0], k) for k in (1, 2, 3)], [-1.5, 0.5, -0.25]
    expected = []
    for pos_row, *other_rows in rows(pos, *others):
        total = list(pos_row)
        for row, w in zip(other_rows, weights, strict=True):
            total = [t + w * x for t, x in zip(total, loop_perpendicular(row, pos_row), strict=True)]
        expected.append(total)
    close(maths.perp_neg(pos, others, weights), expected)
    assert torch.equal(maths.perp_neg(pos, [], []), pos)


def test_masked_perpendicular_stays_inside() -> None:
    d, p = draw(SHAPES[0], 0), draw(SHAPES[0], 1)
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., :4] = 1.0
    result = maths.masked_perpendicular(d, p, mask)
    assert torch.count_nonzero(result[..., 4:]) == 0
    left = maths.perpendicular(d[..., :4].contiguous(), p[..., :4].contiguous())
    assert torch.allclose(result[..., :4], left, rtol=1e-4, atol=1e-6)
    assert torch.count_nonzero(maths.masked_perpendicular(p, p, mask * 0.3)) == 0


def test_signed() -> None:
    others = [draw(SHAPES[0], 1), draw(SHAPES[0], 2)]
    expected = [[-(0.5 * x + 2.0 * y) for x, y in zip(a, b, strict=True)] for a, b in rows(*others)]
    close(maths.signed(others, [0.5, 2.0]), expected)


@pytest.mark.parametrize(
    ("weights", "coefficients"),
    [
        ([1.0], [1.0]),
        ([0.4], [0.4]),
        ([1.5], [1.5]),
        ([1.0, 1.0], [0.5, 0.5]),
        ([1.0, 0.5], [2 / 3, 1 / 3]),
        ([0.5, 0.5], [0.25, 0.25]),
        ([1.5, 1.0], [0.9, 0.6]),
        ([1.0, 0.0], [1.0, 0.0]),
        ([0.0, 0.0], [0.0, 0.0]),
    ],
)
def test_mixture(weights: list[float], coefficients: list[float]) -> None:
    assert maths.mixture(weights) == pytest.approx(coefficients)
    maps = maths.mixture([torch.full((1, 1, 2, 2), w) for w in weights])
    for tensor, coefficient in zip(maps, coefficients, strict=True):
        assert torch.allclose(torch.as_tensor(tensor), torch.tensor(coefficient))


def test_compose() -> None:
    base, a, b = draw(SHAPES[0], 0), draw(SHAPES[0], 1), draw(SHAPES[0], 2)
    expected = [
        [x + 0.9 * (y - x) + 0.6 * (z - x) for x, y, z in zip(*triple, strict=True)] for triple in rows(base, a, b)
    ]
    close(maths.compose([a, b], [1.5, 1.0], base), expected)
    mean = [[(2 * y + z) / 3 for y, z in zip(*pair, strict=True)] for pair in rows(a, b)]
    close(maths.compose([a, b], [1.0, 0.5]), mean)
    assert torch.equal(maths.compose([a], [1.0]), a)


def test_ccfg_weights() -> None:
    pos, neg = draw(SHAPES[0], 0, (1.0, 0.1, 0.0)), draw(SHAPES[0], 1, (0.1, 100.0, 0.0))
    boost, fade = maths.ccfg_weights(pos, neg, 0.2)
    for k, (p, n) in enumerate(rows(pos, neg)):
        assert boost[k].item() == pytest.approx(2 / (1 + math.exp(-0.2 * inner(p, p))), rel=1e-5)
        exponent = 0.2 * inner(n, n)
        want = 2 * math.exp(-exponent) / (1 + math.exp(-exponent)) if exponent < 700 else 0.0
        assert fade[k].item() == pytest.approx(want, rel=1e-4, abs=1e-30)
    assert fade[1].item() == 0.0
    assert boost[2].item() == fade[2].item() == 1.0
    neutral = maths.ccfg_weights(pos, neg, 0.0)
    assert torch.equal(neutral[0], torch.ones(3, 1, 1, 1))
    assert torch.equal(neutral[1], torch.ones(3, 1, 1, 1))


def test_dng_ratio_is_the_expectation_of_the_gaussian_ratio() -> None:
    """Monte Carlo: sample the guided transition and compare the two normal densities, as algorithm 1 writes them."""
    generator = torch.Generator().manual_seed(0)
    shape, sigma_t, sigma_s = (1, 3, 4, 4), 3.0, 2.0
    y, x_0, x_c, x_g = (torch.randn(shape, generator=generator).double() for _ in range(4))
    k = 1 - (sigma_s / sigma_t) ** 2
    variance = sigma_s**2 * k
    mean = {name: (1 - k) * y + k * x for name, x in (("0", x_0), ("c", x_c), ("g", x_g))}
    noise = torch.randn((40_000, *shape[1:]), generator=generator).double()
    drawn = mean["g"] + math.sqrt(variance) * noise
    far = {name: ((drawn - mean[name]) ** 2).flatten(1).sum(1) for name in ("0", "c")}
    samples = (far["0"] - far["c"]) / (2 * variance)
    ratio = maths.log_likelihood_ratio(
        maths.squared_distance(x_g, x_0),
        maths.squared_distance(x_g, x_c),
        maths.snr(sigma_t, flow=False),
        maths.snr(sigma_s, flow=False),
    )
    standard_error = samples.std() / math.sqrt(len(samples))
    assert abs(ratio.item() - samples.mean().item()) < 4 * standard_error.item()
    eps_0, eps_c, eps_g = ((y - x) / sigma_t for x in (x_0, x_c, x_g))
    in_eps = 0.5 * ((sigma_t / sigma_s) ** 2 - 1) * (((eps_g - eps_0) ** 2).sum() - ((eps_g - eps_c) ** 2).sum())
    assert ratio.item() == pytest.approx(in_eps.item(), rel=1e-9)


def test_dng_bookkeeping() -> None:
    assert maths.snr(2.0, flow=False) == 0.25
    assert maths.snr(0.5, flow=True) == 1.0
    assert maths.snr(1.0, flow=True) == 0.0
    assert maths.snr(0.0, flow=True) == math.inf
    one, zero = torch.ones(2), torch.zeros(2)
    for start, end in ((1.0, math.inf), (1.0, 1.0), (2.0, 1.0)):
        assert torch.equal(maths.log_likelihood_ratio(one, zero, start, end), zero)
    log_p = torch.tensor([math.log(0.2), math.log(0.5), math.log(0.1)])
    updated = maths.dng_update(log_p, torch.tensor([math.log(2.0), 1e30, -1e30]), 1e-6, 0.8)
    assert updated.exp().tolist() == pytest.approx([0.4, 0.8, 1e-6], rel=1e-4)
    assert maths.dng_odds(updated).tolist() == pytest.approx([2 / 3, 4.0, 1e-6], rel=1e-4)


@pytest.mark.parametrize(("eta", "r"), [(0.0, 0.0), (0.3, 0.0), (0.0, 2.0), (1.5, 5.0)])
def test_apg(eta: float, r: float) -> None:
    d, denoised = draw(SHAPES[0], 0), draw(SHAPES[0], 1)
    expected = []
    for row, onto in rows(d, denoised):
        length = math.sqrt(inner(row, row))
        shrunk = [x * (min(1.0, r / length) if r > 0 else 1.0) for x in row]
        across = loop_perpendicular(shrunk, onto)
        expected.append([a + eta * (x - a) for a, x in zip(across, shrunk, strict=True)])
    close(maths.apg(d, denoised, eta, r), expected)
    assert torch.equal(maths.apg(d, denoised, 1.0, 0.0), d)
    assert torch.count_nonzero(maths.apg(torch.zeros_like(d), denoised, eta, r)) == 0


def test_cfg_zero_star() -> None:
    cond, uncond = draw(SHAPES[0], 0) + draw(SHAPES[0], 1), draw(SHAPES[0], 1)
    for got, (c, u) in zip(maths.cfg_zero_star(cond, uncond).flatten().tolist(), rows(cond, uncond), strict=True):
        assert got == pytest.approx(inner(c, u) / inner(u, u), rel=1e-4)
    assert torch.equal(maths.cfg_zero_star(cond, cond), torch.ones(3, 1, 1, 1))
    assert torch.count_nonzero(maths.cfg_zero_star(cond, torch.zeros_like(cond))) == 0


@pytest.mark.parametrize("phi", [0.0, 0.7, 1.0])
def test_rescale(phi: float) -> None:
    guided, cond = draw(SHAPES[0], 0) + 0.2, draw(SHAPES[0], 1)

    def std(values: list[float]) -> float:
        mean = math.fsum(values) / len(values)
        return math.sqrt(math.fsum((x - mean) ** 2 for x in values) / (len(values) - 1))

    expected = [[phi * x * std(c) / std(g) + (1 - phi) * x for x in g] for g, c in rows(guided, cond)]
    close(maths.rescale(guided, cond, phi), expected)
    assert torch.count_nonzero(maths.rescale(torch.zeros_like(guided), cond, phi)) == 0
    big = (300 * torch.randn(1, 16, 64, 64, generator=torch.Generator().manual_seed(0))).half()
    assert torch.isfinite(maths.rescale(big, big, 0.7)).all()
