"""Noise that belongs to an image: the same in every batch, and for the same call the same again."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def identities(sample: Tensor) -> list[bytes]:
    """Who is who: a few coarse values of each image's first noise (B, ...), the same in every batch and precision.

    One transfer per run on accelerators.
    """
    import torch

    values = sample.flatten(1)[:, :32].float().cpu()
    coarse = (values / values.std(1, keepdim=True).clamp_min(1e-12) * 4).round().to(torch.int16)
    return [row.numpy().tobytes() for row in coarse]


def generator_of(image: bytes, words: str) -> torch.Generator:
    """A generator on the CPU that belongs to an image (see `identities`) and to what the words say, such as a seed and a step."""
    import torch

    digest = hashlib.blake2b(image + f":{words}".encode(), digest_size=7).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big"))
