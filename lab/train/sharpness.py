"""How sharp the edges of pictures are."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def sharpness(pictures: Tensor) -> Tensor:
    """Mean squared Laplacian (B,) of the grey pictures (B, 3, H, W) in [-1, 1]."""
    kernel = torch.tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]], device=pictures.device)[None, None]
    grey = pictures.float().mean(1, keepdim=True)
    return F.conv2d(grey, kernel).square().flatten(1).mean(1)
