"""NegToMe's matching and pushing against loops over tokens in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import negguide.maths.negtome as module
from negguide.maths.negtome import best_among_others, best_match, push, push_apart, push_from


def cosine(a: Tensor, b: Tensor) -> float:
    a, b = a.double(), b.double()
    return float((a * b).sum() / math.sqrt(float((a * a).sum()) * float((b * b).sum())))


def cosines(token: Tensor, others: Tensor) -> Tensor:
    return torch.cosine_similarity(token.double(), others.double(), dim=-1)


def by_hand(x: Tensor, r: Tensor, alpha: float, threshold: float) -> Tensor:
    """Token by token: y_i = (1 + a) x_i - a r_j, j the reference token of the largest cosine, if it exceeds tau."""
    result = x.double().clone()
    for i, token in enumerate(x):
        found = cosines(token, r)
        best = int(found.argmax())
        if found[best] > threshold:
            result[i] = (1 + alpha) * token.double() - alpha * r[best].double()
    return result


def released_by_hand(x: Tensor, r: Tensor, alpha: float, threshold: float) -> Tensor:
    """Position by position: i = the source token most like r_j; y_j = (1 + a) x_j - a r_i."""
    result = x.double().clone()
    for j in range(len(r)):
        found = cosines(r[j], x)
        i = int(found.argmax())
        if found[i] > threshold:
            result[j] = (1 + alpha) * x[j].double() - alpha * r[i].double()
    return result


def tokens(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) + 0.3


@pytest.fixture(params=["one block", "many blocks"])
def blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "many blocks":
        monkeypatch.setattr(module, "_ON_CPU", (5, 3))


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("alpha", [0.9, -0.5])
@pytest.mark.parametrize("threshold", [-1.0, 0.75, 0.85])
def test_each_image_is_pushed_from_its_best_reference_tokens(alpha: float, threshold: float) -> None:
    x, r = tokens(3, 13, 6), tokens(17, 6, seed=1)
    expected = torch.stack([by_hand(image, r, alpha, threshold) for image in x])
    found = push_from(x, r, alpha, threshold)
    assert torch.allclose(found.double(), expected, atol=1e-5)
    assert threshold < 0 or not torch.allclose(found, push_from(x, r, alpha, -1.0)), "the threshold holds some back"


@pytest.mark.usefixtures("blocks")
def test_the_best_of_all_others_and_never_of_itself() -> None:
    x = tokens(3, 11, 5)
    others = [torch.cat([x[:i], x[i + 1 :]]).flatten(0, 1) for i in range(3)]
    expected = torch.stack([by_hand(x[i], others[i], 0.7, 0.2) for i in range(3)])
    assert torch.allclose(push_apart(x, 0.7, 0.2).double(), expected, atol=1e-5)
    similarity, index = best_among_others(x)
    assert not (index // 11 == torch.arange(3)[:, None]).any()
    assert torch.allclose(similarity[0], best_match(x[0], others[0])[0], atol=1e-6)


@pytest.mark.usefixtures("blocks")
def test_release_takes_the_maximum_over_the_other_axis() -> None:
    x, r = tokens(2, 12, 6), tokens(12, 6, seed=1)
    expected = torch.stack([released_by_hand(image, r, 0.9, 0.3) for image in x])
    found = push_from(x, r, 0.9, 0.3, match="release")
    assert torch.allclose(found.double(), expected, atol=1e-5)
    assert not torch.allclose(found, push_from(x, r, 0.9, 0.3), atol=1e-2)


def test_release_among_all_takes_the_image_of_the_best_similarity() -> None:
    x = tokens(3, 7, 4)
    expected = x.double().clone()
    for a in range(3):
        for j in range(7):
            best, target = -2.0, x[a, j]
            for b in (i for i in range(3) if i != a):
                found = [cosine(token, x[b, j]) for token in x[a]]
                i = max(range(7), key=lambda at: found[at])
                if found[i] > best:
                    best, target = found[i], x[b, i]
            if best > 0.2:
                expected[a, j] = 1.7 * x[a, j].double() - 0.7 * target.double()
    assert torch.allclose(push_apart(x, 0.7, 0.2, match="release").double(), expected, atol=1e-5)


def test_a_shuffled_copy_cancels_in_the_paper_and_not_in_the_release() -> None:
    """The reference holds the same content in other places: nothing to push away from (methods.md, 1.2)."""
    x = tokens(1, 16, 8)
    r = x[0].roll(4, dims=0)
    assert torch.allclose(push_from(x, r, 0.9, 0.5), x, atol=1e-5)
    assert not torch.allclose(push_from(x, r, 0.9, 0.5, match="release"), x, atol=0.5)


def test_both_agree_where_the_best_match_is_in_place() -> None:
    r = torch.eye(9) * 3 + 0.1 * tokens(9, 9)
    x = (r + 0.05 * tokens(9, 9, seed=2)).unsqueeze(0)
    assert torch.allclose(push_from(x, r, 0.9, 0.5), push_from(x, r, 0.9, 0.5, match="release"), atol=1e-6)


def test_a_region_scales_alpha() -> None:
    x, r = tokens(2, 10, 5), tokens(10, 5, seed=1)
    region = torch.tensor([0.0, 0.5, 1.0, 0.0, 1.0, 0.25, 1.0, 0.0, 1.0, 1.0])
    whole, part = push_from(x, r, 0.8, -1.0), push_from(x, r, 0.8, -1.0, region=region)
    assert torch.allclose(part, x + region[:, None] * (whole - x), atol=1e-5)
    assert torch.equal(part[:, region == 0], x[:, region == 0])


def test_neutral_settings_give_the_very_tokens() -> None:
    x, r = tokens(2, 10, 5), tokens(10, 5, seed=1)
    assert torch.equal(push_from(x, r, 0.0, 0.1), x)
    assert torch.equal(push_from(x, x[0], 0.9, 1.1), x)


def test_half_precision_is_matched_in_float32_and_stays_half() -> None:
    """Two reference tokens whose cosines differ by less than half precision can tell."""
    d = 64
    token = torch.ones(d)
    near, nearer = token.clone(), token.clone()
    near[0], nearer[0] = 1.09375, 1.0625
    x = token.half().reshape(1, 1, d) * 4
    similarity, index = best_match(x[0], torch.stack([near, nearer]).half())
    assert int(index[0]) == 1 and similarity.dtype == torch.float32
    assert push_from(x, torch.stack([near, nearer]).half(), 0.5, 0.1).dtype == torch.float16


def test_zero_tokens_stay_finite() -> None:
    x = torch.zeros(1, 4, 3)
    assert torch.equal(push_from(x, torch.zeros(4, 3), 0.9, 0.5), x)
    assert push(x, x, torch.zeros(1, 4), 1.0, 0.0).isfinite().all()


def test_release_needs_as_many_tokens() -> None:
    with pytest.raises(ValueError, match="as many reference tokens"):
        push_from(tokens(1, 4, 3), tokens(5, 3), 0.9, 0.5, match="release")
