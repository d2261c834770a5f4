"""Masks: every source, resizing, identity, JSON."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import numpy
import pytest
import torch
from PIL import Image

from negguide.methods import Mask

GREY = [[0, 51, 102], [153, 204, 255]]


def test_every_source_gives_the_same_mask() -> None:
    bytes_ = numpy.array(GREY, dtype=numpy.uint8)
    image = Image.fromarray(bytes_)
    floats = torch.tensor(GREY) / 255
    sources: list[Any] = [
        bytes_,
        bytes_[..., None],
        numpy.repeat(bytes_[..., None], 3, axis=2),
        torch.tensor(GREY, dtype=torch.uint8)[None].repeat(3, 1, 1),
        bytes_ / 255.0,
        image,
        image.convert("RGB"),
        torch.tensor(GREY, dtype=torch.uint8),
        floats,
        floats[None],
        floats[..., None].repeat(1, 1, 3),
        floats.half(),
        bytes_[:, ::-1][:, ::-1],
    ]
    for source in sources:
        mask = Mask(source)
        assert mask == Mask(bytes_)
        assert hash(mask) == hash(Mask(bytes_))
        assert mask.pixels.tolist() == GREY
        assert mask.size == (2, 3)


def test_alpha_bool_and_modes() -> None:
    rgba = Image.new("RGBA", (2, 1), (255, 255, 255, 255))
    rgba.putpixel((0, 0), (255, 255, 255, 0))
    assert Mask(rgba).pixels.tolist() == [[0, 255]]
    assert Mask(numpy.array(rgba)).pixels.tolist() == [[0, 255]]
    assert Mask(Image.new("1", (2, 1), 1)).pixels.tolist() == [[255, 255]]
    assert Mask(numpy.array([[True, False]])).pixels.tolist() == [[255, 0]]
    assert Mask(Image.new("RGB", (1, 1), (255, 0, 0))) == Mask(numpy.array([[[255, 0, 0]]], dtype=numpy.uint8))


def test_resizing_down_is_the_mean_of_what_is_covered() -> None:
    pixels = torch.zeros(64, 96)
    pixels[:32] = 1.0
    small = Mask(pixels).tensor(8, 12)
    assert small.shape == (8, 12)
    assert small.dtype == torch.float32
    assert small[0].tolist() == pytest.approx([1.0] * 12)
    assert small[-1].tolist() == pytest.approx([0.0] * 12)
    noisy = torch.rand(512, 512, generator=torch.Generator().manual_seed(0))
    tiny = Mask(noisy).tensor(8, 8)
    assert (tiny - 0.5).abs().max() < 0.05  # without anti-aliasing single pixels, from 0 to 1, come through
    assert 0.0 <= float(tiny.min()) <= float(tiny.max()) <= 1.0


def test_resizing_up_and_not_at_all() -> None:
    mask = Mask(torch.tensor(GREY, dtype=torch.uint8))
    assert torch.equal(mask.tensor(2, 3), torch.tensor(GREY) / 255)
    assert mask.tensor(20, 30).shape == (20, 30)
    assert torch.equal(Mask(torch.ones(3, 3)).tensor(17, 5), torch.ones(17, 5))
    with pytest.raises(ValueError, match="0x5"):
        mask.tensor(0, 5)


def test_immutable_equal_and_hashable() -> None:
    source = numpy.array(GREY, dtype=numpy.uint8)
    mask = Mask(source)
    source[:] = 0
    mask.pixels[:] = 0
    assert mask.pixels.tolist() == GREY
    assert mask != Mask(torch.zeros(2, 3))
    assert Mask(torch.zeros(2, 3)) != Mask(torch.zeros(3, 2))
    assert mask != "mask"
    with pytest.raises(AttributeError, match="immutable"):
        mask._bytes = b""
    assert pickle.loads(pickle.dumps(mask)) == copy.deepcopy(mask) == mask
    assert repr(mask) == "Mask(2x3, 50% covered)"


def test_json() -> None:
    noise = torch.randint(0, 256, (33, 17), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    data = Mask(noise).to_dict()
    assert set(data) == {"png"}
    assert Mask.from_dict(data) == Mask.of(data) == Mask(noise)
    for broken in ({"png": "not base64!"}, {"png": "aGVsbG8="}, {"png": 3}):
        with pytest.raises(ValueError, match="a mask's 'png'"):
            Mask.from_dict(broken)
    with pytest.raises(ValueError, match="needs exactly 'png'"):
        Mask.from_dict({"jpg": ""})


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ("mask.png", TypeError, "made from str; possible: PIL picture"),
        (io.BytesIO(), TypeError, "made from BytesIO"),
        (torch.zeros(2, 3, 4, 5), ValueError, r"shape \(2, 3, 4, 5\) is not possible"),
        (torch.zeros(2, 3, 7), ValueError, "1, 3 or 4 channels"),
        (torch.zeros(0, 3), ValueError, "not possible"),
        (torch.full((2, 2), 255.0), ValueError, "divide by 255"),
        (torch.full((2, 2), float("nan")), ValueError, "finite"),
        (torch.ones(2, 2, dtype=torch.int64), ValueError, "ambiguous; possible: bool, uint8"),
    ],
)
def test_errors_teach(source: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Mask(source)
