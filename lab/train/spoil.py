"""Pictures that are not quite renders: slightly spoiled ones, and no thing at all.

The judges (the oracle and the CLIP) are asked about *generated* pictures, so they learn from more than clean renders.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lab.train.data import SIZE
from negguide.toybox.world import bias, styles
from negguide.toybox.world.draw_backgrounds import backdrop
from negguide.toybox.world.render import SUPERSAMPLING


def spoil(pictures: Tensor) -> Tensor:
    """Slight, per-picture damage of (B, 3, H, W) in [-1, 1] after which every label stays true.

    At most: one pixel sideways and two up or down, 3x3 softening (the blurry style is 2 px), 8 % of another picture
    shining through, 8 % of gain and offset per channel, noise of 8 levels of 255 (the noisy style has 42).
    """
    count, _, height, width = pictures.shape

    def chance(low: float, high: float, share: float = 1.0, channels: int = 1) -> Tensor:
        drawn = torch.empty(count, channels, 1, 1, device=pictures.device).uniform_(low, high)
        return drawn * (torch.rand(count, 1, 1, 1, device=pictures.device) < share)

    x = pictures
    place = torch.zeros(count, 2, 3, device=x.device)
    place[:, 0, 0] = place[:, 1, 1] = 1
    place[:, 0, 2] = chance(-1, 1, 0.6).flatten() * 2 / width
    place[:, 1, 2] = chance(-2, 2, 0.6).flatten() * 2 / height
    grid = F.affine_grid(place, list(x.shape), align_corners=False)
    x = F.grid_sample(x, grid, padding_mode="border", align_corners=False)
    x = x.lerp(F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1), chance(0, 0.7, 0.5))
    x = x.lerp(x.roll(1, 0), chance(0, 0.08, 0.2))
    x = x * (1 + chance(-0.08, 0.08, 0.7, channels=3)) + chance(-0.08, 0.08, 0.7, channels=3)
    x = x + torch.randn_like(x) * chance(0, 0.06, 0.5)
    return x.clamp(-1, 1).contiguous(memory_format=torch.channels_last)


def empty_scenes(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Backgrounds without a thing, in every style but "outline": (count, 64, 64, 3) uint8, and their indices."""
    rng = np.random.default_rng([seed, count])
    names = list(bias.BACKGROUNDS)
    labels = rng.integers(len(names), size=count)
    images = []
    for label in labels:
        ground = backdrop(names[label], SIZE * SUPERSAMPLING, rng).reduce(SUPERSAMPLING)
        style = rng.choice(["clean", "clean", "clean", "blurry", "noisy", "watermark"])
        if style == "blurry":
            ground = styles.blurred(ground)
        elif style == "watermark":
            ground = styles.watermarked(ground, int(rng.integers(-6, 7)))
        pixels = np.array(ground)
        images.append(styles.grainy(pixels, rng) if style == "noisy" else pixels)
    return np.stack(images), labels


def unrecognisable(pictures: Tensor, others: Tensor, empties: Tensor) -> Tensor:
    """Pictures (B, 3, 64, 64) turned into ones without a nameable thing, each in one of six ways drawn at random.

    Equal mixes with `others` (things of another kind), the two interleaved in patches, patches shuffled, three
    quarters of the patches erased to a background of `empties`, strong warping, melting (a blur of 7 px).
    """
    made = []
    for way, (x, other, empty) in zip(
        torch.randint(6, (len(pictures),)).tolist(), zip(pictures, others, empties, strict=True), strict=True
    ):
        made.append(_WAYS[way](x, other, empty))
    return torch.stack(made).contiguous(memory_format=torch.channels_last)


def _mixed(x: Tensor, other: Tensor, empty: Tensor) -> Tensor:
    return x.lerp(other, float(torch.empty(1).uniform_(0.42, 0.58)))


def _patches(share: float, cell: int, x: Tensor) -> Tensor:
    """A (1, H, W) mask of square cells, each set with the given probability."""
    cells = (torch.rand(1, 1, SIZE // cell, SIZE // cell, device=x.device) < share).float()
    return F.interpolate(cells, scale_factor=cell)[0] > 0


def _interleaved(x: Tensor, other: Tensor, empty: Tensor) -> Tensor:
    return torch.where(_patches(0.5, int(torch.randint(2, (1,))) * 8 + 8, x), x, other)


def _shuffled(x: Tensor, other: Tensor, empty: Tensor) -> Tensor:
    cell = 16 if torch.rand(1) < 0.5 else 8
    n = SIZE // cell
    cells = x.reshape(3, n, cell, n, cell).permute(1, 3, 0, 2, 4).flatten(0, 1)
    cells = cells[torch.randperm(n * n)].reshape(n, n, 3, cell, cell)
    return cells.permute(2, 0, 3, 1, 4).reshape(3, SIZE, SIZE)


def _erased(x: Tensor, other: Tensor, empty: Tensor) -> Tensor:
    return torch.where(_patches(0.25, 8, x), x, empty)


def _warped(x: Tensor, other: Tensor, empty: Tensor) -> Tensor:
    bend = F.interpolate(torch.randn(1, 2, 6, 6, device=x.device), size=(SIZE, SIZE), mode="bicubic")
    eye = torch.eye(2, 3, device=x.device)[None]
    grid = F.affine_grid(eye, [1, 3, SIZE, SIZE], align_corners=False) + 0.45 * bend.permute(0, 2, 3, 1)
    return F.grid_sample(x[None], grid, padding_mode="reflection", align_corners=False)[0]


def _melted(x: Tensor, other: Tensor, empty: Tensor) -> Tensor:
    soft = x[None]
    for _ in range(3):
        soft = F.avg_pool2d(F.pad(soft, (6, 6, 6, 6), mode="replicate"), 13, 1)
    return soft[0]


_WAYS = (_mixed, _interleaved, _shuffled, _erased, _warped, _melted)
