"""The oracle's network: a small residual CNN over 64x64 pictures with one linear head per attribute."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from negguide.toybox.phrases import NONE
from negguide.toybox.world import bias

HEADS: Final[dict[str, tuple[str | int, ...]]] = {
    "kind": (*bias.CATEGORY_OF, NONE),
    "colour": bias.COLOURS,
    "background": tuple(bias.BACKGROUNDS),
    "accessories": tuple(bias.ACCESSORIES),
    "view": tuple(bias.VIEWS),
    "style": tuple(bias.STYLES),
    "count": tuple(bias.COUNTS),
    "size": tuple(bias.SIZES),
    "position": tuple(bias.POSITIONS),
}
"""Each head and the meaning of its outputs. "accessories" are independent (sigmoid), the others exclusive (softmax)."""


class Block(nn.Module):
    """Two 3x3 convolutions with batch norm beside a short cut; the first may halve the picture."""

    def __init__(self, inner: int, outer: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(inner, outer, 3, stride, 1, bias=False), nn.BatchNorm2d(outer))
        self.second = nn.Sequential(nn.Conv2d(outer, outer, 3, 1, 1, bias=False), nn.BatchNorm2d(outer))
        self.short: nn.Module = nn.Identity()
        if (inner, stride) != (outer, 1):
            self.short = nn.Sequential(nn.Conv2d(inner, outer, 1, stride, bias=False), nn.BatchNorm2d(outer))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.second(F.relu(self.first(x))) + self.short(x))


class OracleNet(nn.Module):
    """Pictures (B, 3, 64, 64) in [-1, 1] -> logits of every head, each (B, values).

    The stem folds 2x2 pixels into channels, so that no pixel is skipped, and adds the two coordinates, without which
    global pooling would forget where a thing stands.

    Args:
        widths: channels of the stages, at 32, 16, 8 and 4 pixels.
        depths: residual blocks of each stage.
        heads: outputs of each head; by default those of `HEADS`.
    """

    def __init__(
        self,
        widths: Sequence[int] = (32, 64, 96, 128),
        depths: Sequence[int] = (1, 2, 2, 1),
        heads: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__()
        self.widths, self.depths = tuple(widths), tuple(depths)
        self.stem = nn.Sequential(
            nn.Conv2d(3 * 4 + 2, widths[0], 3, 1, 1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU()
        )
        blocks: list[nn.Module] = []
        inner = widths[0]
        for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            for place in range(depth):
                blocks.append(Block(inner, width, 2 if stage and not place else 1))
                inner = width
        self.blocks = nn.Sequential(*blocks)
        sizes = heads if heads is not None else {name: len(values) for name, values in HEADS.items()}
        self.heads = nn.ModuleDict({name: nn.Linear(2 * inner, size) for name, size in sizes.items()})

    def forward(self, pictures: Tensor) -> dict[str, Tensor]:
        x = F.pixel_unshuffle(pictures, 2)
        x = self.stem(torch.cat([x, coordinates(x)], 1))
        x = self.blocks(x)
        pooled = torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1).float()
        return {name: head(pooled) for name, head in self.heads.items()}


def coordinates(x: Tensor) -> Tensor:
    """(B, 2, H, W): how far down and how far right each place is, from -1 to 1."""
    down = torch.linspace(-1, 1, x.shape[2], device=x.device, dtype=x.dtype)
    right = torch.linspace(-1, 1, x.shape[3], device=x.device, dtype=x.dtype)
    return torch.stack(torch.meshgrid(down, right, indexing="ij")).expand(x.shape[0], -1, -1, -1)
