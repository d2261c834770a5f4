"""Metrics against oracles that are written differently: plain loops, closed forms, entropies of eigenvalues."""

from __future__ import annotations

import math

import numpy
import pytest
import torch
from PIL import Image

from negguide.metrics import Clip, alignment, distinct, entropy, mss, presence, vendi
from negguide.metrics.diversity import cosines


def test_vendi_counts_what_is_different() -> None:
    assert vendi(torch.eye(5)) == pytest.approx(5)
    assert vendi(torch.ones(5, 3)) == pytest.approx(1)
    assert vendi(torch.eye(2).repeat(3, 1) * 7) == pytest.approx(2)
    assert vendi(torch.ones(1, 4)) == pytest.approx(1)


@pytest.mark.parametrize(("pictures", "width"), [(1, 3), (4, 2), (8, 512), (40, 6), (64, 64)])
def test_vendi_is_that_of_the_package_of_its_authors(pictures: int, width: int) -> None:
    reference = pytest.importorskip("vendi_score.vendi")
    features = torch.randn(pictures, width) + 0.5
    rows = features.double().numpy()
    rows = rows / numpy.linalg.norm(rows, axis=1, keepdims=True)
    assert vendi(features) == pytest.approx(float(reference.score_K(rows @ rows.T)), rel=1e-9)


def test_vendi_is_the_exponential_of_the_entropy_of_the_singular_values() -> None:
    features = torch.randn(7, 12)
    rows = torch.nn.functional.normalize(features.double(), dim=1) / math.sqrt(7)
    shares = torch.linalg.svdvals(rows).square()
    expected = math.exp(-sum(float(share) * math.log(float(share)) for share in shares))
    assert vendi(features) == pytest.approx(expected, rel=1e-9)


def test_mss_is_the_mean_over_all_pairs() -> None:
    features = torch.randn(5, 8)
    found = []
    for i in range(5):
        for j in range(i):
            a, b = features[i].double(), features[j].double()
            found.append(float(a @ b) / math.sqrt(float(a @ a) * float(b @ b)))
    assert mss(features) == pytest.approx(sum(found) / len(found), rel=1e-9)
    assert mss(torch.ones(3, 2)) == pytest.approx(1)


def test_diversity_of_half_precision_is_computed_in_double() -> None:
    features = torch.randn(4, 6)
    assert vendi(features.half()) == pytest.approx(vendi(features), abs=1e-2)
    assert cosines(features.half()).dtype == torch.float64


@pytest.mark.parametrize("features", [torch.zeros(3, 2), torch.full((3, 2), math.nan), torch.ones(3), torch.ones(0, 2)])
def test_features_without_a_direction_are_refused(features: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="features"):
        vendi(features)


def test_mss_needs_a_pair() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        mss(torch.ones(1, 2))


def test_alignment_is_the_cosine_and_never_negative() -> None:
    images, texts = torch.randn(4, 6), torch.randn(4, 6)
    expected = [max(0.0, math.cos(_angle(a, b))) for a, b in zip(images.tolist(), texts.tolist(), strict=True)]
    assert alignment(images, texts).tolist() == pytest.approx(expected, abs=1e-5)
    assert alignment(images, -images[:1]).min() == 0
    assert alignment(images, images[:1])[0] == pytest.approx(1)
    with pytest.raises(ValueError, match=r"\(4, 6\) and \(3, 6\)"):
        alignment(images, texts[:3])


def test_presence_is_a_two_way_softmax() -> None:
    images, thing, neutral = torch.randn(3, 5), torch.randn(5), torch.randn(1, 5)
    for image, found in zip(images, presence(images, thing, neutral, scale=10.0), strict=True):
        yes = math.exp(10 * math.cos(_angle(image.tolist(), thing.tolist())))
        no = math.exp(10 * math.cos(_angle(image.tolist(), neutral[0].tolist())))
        assert float(found) == pytest.approx(yes / (yes + no), abs=1e-4)
    with pytest.raises(ValueError, match="possible"):
        presence(images, thing[None], neutral)


def test_entropy_and_distinct() -> None:
    assert entropy(["cat"] * 4) == 0
    assert entropy(list("abcd")) == pytest.approx(2)
    assert entropy(["cat", "cat", "dog", "bird"]) == pytest.approx(1.5)
    assert distinct(["cat", "cat", "dog"]) == 2
    with pytest.raises(ValueError, match="no labels"):
        entropy([])


def test_clip_encodes_in_parts_and_normalises() -> None:
    clip = Clip("fake", _Colours(), _mean_colour, lambda texts: torch.tensor([_COLOURS[text] for text in texts]))
    pictures = [Image.new("RGB", (4, 4), colour) for colour in ("red", "lime", "blue")] * 30
    images = clip.images(pictures)
    assert images.shape == (90, 3) and images.dtype == torch.float32
    assert torch.equal(images[:3], torch.eye(3)) and torch.equal(images[87:], torch.eye(3))
    assert torch.equal(clip.texts(["blue", "red"]), torch.eye(3)[[2, 0]])
    assert clip.scale == pytest.approx(100)


@pytest.mark.parametrize("name", ["ViT-B-32", "no-such/weights", "local-dir:/no/such/folder"])
def test_clip_that_cannot_be_had_says_what_is_possible(name: str) -> None:
    with pytest.raises(ValueError, match=r"possible: 'toybox'"):
        Clip.load(name)


_COLOURS = {"red": [1.0, 0.0, 0.0], "green": [0.0, 1.0, 0.0], "blue": [0.0, 0.0, 1.0]}


class _Colours(torch.nn.Module):
    """Features are the colour, doubled so that normalisation shows."""

    def __init__(self) -> None:
        super().__init__()
        self.logit_scale = torch.nn.Parameter(torch.tensor(math.log(100.0)))

    def encode_image(self, pictures: torch.Tensor) -> torch.Tensor:
        return 2 * pictures

    def encode_text(self, texts: torch.Tensor) -> torch.Tensor:
        return 2 * texts


def _mean_colour(picture: Image.Image) -> torch.Tensor:
    red, green, blue = picture.getpixel((0, 0))
    return torch.tensor([red, green, blue]) / 255


def _angle(a: list[float], b: list[float]) -> float:
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return math.acos(max(-1.0, min(1.0, dot / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b)))))
