"""What pipelines do to a guided prediction after their affine formula, so that it is done inside ours.

On the T that is handed back the pipeline's own step then changes nothing: it measures T against T.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

Post = Callable[[Tensor, Tensor, Mapping[str, Any]], Tensor]
"""(guided, cond, arguments of the call) -> guided, all (B, ...)."""


def rescale(guided: Tensor, cond: Tensor, arguments: Mapping[str, Any]) -> Tensor:
    """`guidance_rescale` as the pipelines do it (arXiv:2305.08891, section 3.4), per image."""
    strength = arguments.get("guidance_rescale") or 0.0
    if strength <= 0.0:
        return guided
    dims = list(range(1, guided.ndim))
    size = guided.std(dim=dims, keepdim=True)
    rescaled = _scaled(guided, cond.std(dim=dims, keepdim=True), size)
    return torch.where(size > 0, strength * rescaled + (1 - strength) * guided, rescaled)


def norm_of_cond(guided: Tensor, cond: Tensor, arguments: Mapping[str, object]) -> Tensor:
    """Every token keeps the norm of the conditional prediction (Qwen-Image; also where an argument switches that)."""
    switches = [arguments[name] for name in ("cfg_normalization", "cfg_normalize") if name in arguments]
    if not all(switches):
        return guided
    return _scaled(guided, cond.norm(dim=-1, keepdim=True), guided.norm(dim=-1, keepdim=True))


def norm_of_channels(guided: Tensor, cond: Tensor, arguments: Mapping[str, object]) -> Tensor:
    """The conditional's norm along the third dimension, its channels (JoyImage)."""
    ratio = cond.norm(dim=2, keepdim=True) / guided.norm(dim=2, keepdim=True).clamp_min(1e-6)
    return guided * ratio


def norm_at_most(guided: Tensor, cond: Tensor, arguments: Mapping[str, Any]) -> Tensor:
    """The norm of an image is limited to a multiple of the conditional's (Z-Image, `cfg_normalization`)."""
    factor = float(arguments.get("cfg_normalization") or 0.0)
    if factor <= 0.0:
        return guided
    dims = list(range(1, guided.ndim))
    limit = torch.linalg.vector_norm(cond.float(), dim=dims, keepdim=True) * factor
    norm = torch.linalg.vector_norm(guided.float(), dim=dims, keepdim=True)
    return guided * torch.where(norm > limit, limit / norm, torch.ones_like(norm)).to(guided.dtype)


def norm_between(guided: Tensor, cond: Tensor, arguments: Mapping[str, Any]) -> Tensor:
    """Every token is shortened to the norm of the conditional's, by `cfg_renorm_min` at most (LongCat-Image)."""
    if not arguments.get("enable_cfg_renorm"):
        return guided
    ratio = cond.norm(dim=-1, keepdim=True) / (guided.norm(dim=-1, keepdim=True) + 1e-8)
    return guided * ratio.clamp(min=float(arguments.get("cfg_renorm_min") or 0.0), max=1.0)


def of_first_channels(guided: Tensor, cond: Tensor, arguments: Mapping[str, object]) -> Tensor:
    """Only the first three channels are guided (Lumina-Next), as in the DiT that it was made from."""
    return torch.cat([guided[:, :3], cond[:, 3:]], dim=1)


def _scaled(guided: Tensor, wanted: Tensor, size: Tensor) -> Tensor:
    """`guided * wanted / size`; an exact zero (CFG-Zero*'s first steps) becomes a negligible ramp instead.

    The pipeline will divide by the size of what it gets: 0 / 0 there would be NaN.
    """
    ramp = torch.linspace(-1e-6, 1e-6, guided.shape[-1], device=guided.device, dtype=guided.dtype)
    return torch.where(size > 0, guided * (wanted / size), ramp)
