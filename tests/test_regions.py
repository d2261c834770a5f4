"""A mask lies where the user painted it, on every layout of latents, or is refused; a misfit is told."""

from __future__ import annotations

import warnings
from typing import Any

import families
import numpy as np
import pytest
import torch

from negguide.engine import attach
from negguide.methods import Negative, PerpNeg
from negguide.methods.mask import Mask
from negguide.pipeline.layout import Layout, token_grid

SHAPES: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "sd15": ({"height": 32, "width": 64}, (16, 32)),
    "flux": ({"height": 32, "width": 64}, (8, 16)),
    "chroma": ({"height": 32, "width": 64}, (8, 16)),
    "longcat": ({"height": 32, "width": 64}, (8, 16)),
    "qwen": ({"height": 32, "width": 64}, (4, 8)),
    "klein": ({"height": 32, "width": 64}, (16, 32)),
    "ltx": ({"height": 32, "width": 64, "num_frames": 13}, (4, 8, 16)),
    "cogvideox": ({"height": 32, "width": 64, "num_frames": 9}, (3, 4, 8)),
    "wan": ({"height": 16, "width": 32, "num_frames": 5}, (2, 2, 4)),
}
"""Calls of pictures twice as wide as high, and the latents or tokens that they have, by frames, rows and columns."""


def _positions(name: str, latents: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """Change of latents (1, ...) as (frames, rows, columns), whatever the layout."""
    if latents.ndim == 3:
        return latents[0].abs().sum(-1).reshape(-1, *shape[-2:])
    if latents.ndim == 4:
        return latents[0].abs().sum(0)[None]
    return latents[0].abs().sum(1 if name == "cogvideox" else 0)


def _corner(height: int = 32, width: int = 64) -> np.ndarray:
    pixels = np.zeros((height, width), dtype=np.uint8)
    pixels[: height // 2, width // 2 :] = 255
    return pixels


@pytest.mark.parametrize("name", SHAPES)
def test_one_step_changes_the_painted_corner_of_every_frame_and_nothing_else(name: str) -> None:
    size, shape = SHAPES[name]
    plain = families.run(name, steps=1, **size)
    with attach(families.build(name), PerpNeg(Negative("cat", mask=_corner()))):
        changed = _positions(name, families.run(name, steps=1, **size) - plain, shape)
    assert tuple(changed.shape[-2:]) == shape[-2:] and len(changed) == (shape[0] if len(shape) == 3 else 1)
    rows, columns = shape[-2] // 2, shape[-1] // 2
    inside = changed[:, :rows, columns:]
    outside = changed.clone()
    outside[:, :rows, columns:] = 0
    assert float(inside.amin()) > 0
    assert float(outside.max()) < 1e-3 * float(inside.mean())


def test_channels_may_lie_behind() -> None:
    layout = Layout((1, 3, 4, 8, 16), channels_last=True)
    region = layout.mask(Mask(_corner()), torch.zeros(1)).expand(1, 3, 4, 8, 16)
    expected = torch.zeros(1, 3, 4, 8, 16)
    expected[:, :, :2, 4:] = 1
    assert torch.equal(region.round(), expected)


def test_where_tokens_lie_is_read_from_what_the_denoiser_is_told() -> None:
    image_ids = torch.cartesian_prod(torch.arange(1), torch.arange(7, 10), torch.arange(7, 12))
    assert token_grid((1, 15, 4), {"img_ids": image_ids}, {}) == (1, (3, 5))
    layers = [[(1, 3, 5), (1, 3, 5), (1, 2, 2)]]
    assert token_grid((1, 30, 4), {"img_shapes": layers}, {}) == (2, (3, 5))
    assert token_grid((1, 60, 4), {"num_frames": 4, "height": 3, "width": 5}, {}) == (4, (3, 5))
    frames = torch.cartesian_prod(torch.arange(4.0) / 25, torch.arange(3.0) * 32, torch.arange(5.0) * 32).T[None]
    assert token_grid((1, 60, 4), {"video_coords": frames}, {}) == (4, (3, 5))
    assert token_grid((1, 15, 4), {}, {"height": 48, "width": 80}) == (1, (3, 5))
    assert token_grid((1, 4, 8, 8), {}, {}) == (1, None)


@pytest.mark.parametrize(
    "arguments", [{}, {"height": 64, "width": 64, "num_frames": 13}, {"height": 40, "width": 72}, {"height": None}]
)
def test_where_nothing_tells_a_region_is_refused(arguments: dict[str, Any]) -> None:
    layout = Layout((1, 256, 8), token_grid((1, 256, 8), {}, arguments)[1])
    assert layout.grid is None
    with pytest.raises(ValueError, match="region cannot be placed"):
        layout.mask(Mask(_corner()), torch.zeros(1))


@pytest.mark.parametrize(
    ("height", "width", "tells"), [(32, 32, False), (512, 512, False), (64, 32, True), (31, 64, True)]
)
def test_another_aspect_ratio_is_told_once(height: int, width: int, tells: bool) -> None:
    method = PerpNeg([Negative("cat", mask=_corner(height, width))])
    with attach(families.build("sd15"), method), warnings.catch_warnings(record=True) as raised:
        warnings.simplefilter("always")
        families.run("sd15", steps=2)
        families.run("sd15", steps=2)
    words = [str(warning.message) for warning in raised if "aspect ratio" in str(warning.message)]
    assert len(words) == tells and all(f"{height}x{width}" in text for text in words)


def test_a_denoiser_tensor_of_other_axes_is_no_sample() -> None:
    layout = Layout((1, 12, 4))
    assert layout.core(torch.zeros(2, 1, 12, 4)).shape == (2, 12, 4)
    with pytest.raises(ValueError, match="does not contain a sample"):
        layout.core(torch.zeros(2, 4, 3, 2, 2))
