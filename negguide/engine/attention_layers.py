"""Where image tokens stand: the attention layers of a denoiser, and the part of their output that is the picture.

The layers come from the files of `families`. Names are matched in full, so that text refiners, motion modules and image
encoders, whose rows are no pictures, stay out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from negguide.methods.tokens import Layer, Placement
from negguide.pipeline.families import Unsupported, image_modules_of, rules_of, tapped
from negguide.pipeline.families.family import Place
from negguide.pipeline.families.parts import named_parts
from negguide.pipeline.intercept import base_class
from negguide.pipeline.layout import Layout, stacked


@dataclass(frozen=True)
class AttentionLayer:
    """A layer and its module."""

    layer: Layer
    module: torch.nn.Module
    place: Place
    values: Place = "all"
    """Where image tokens are inside attention: among the values, if `to_v` makes those of the text too, and in what attention
    gives before the output projection."""

    def text_values(self) -> torch.nn.Module:
        """The projection that makes the values of the text tokens. Raises `Unsupported` where it is fused."""
        processor = type(getattr(self.module, "processor", None)).__name__
        # Older layers keep the mark after `unfuse_qkv_projections`; there the processor alone says which projections run.
        marked = hasattr(self.module, "unfuse_projections") and getattr(self.module, "fused_projections", False)
        if marked or processor.startswith("Fused"):
            raise Unsupported(
                f"{self.layer.name} has fused query, key and value projections, so the values of its text cannot be "
                "reached; call pipe.unfuse_qkv_projections() before"
            )
        own = self.layer.kind == "cross" or self.values != "all"
        found = getattr(self.module, "to_v" if own else "add_v_proj", None)
        if self.layer.kind == "self" or not isinstance(found, torch.nn.Module):
            raise Unsupported(f"{self.layer.name} ({self.layer.kind}-attention) has no value projection of text tokens")
        return found


def attention_layers(denoiser: torch.nn.Module) -> tuple[AttentionLayer, ...]:
    """The attention layers over image tokens, in their order in the model. Raises `Unsupported` for unknown models."""
    inner = getattr(denoiser, "_orig_mod", denoiser)
    name = base_class(inner).__name__
    rules = rules_of(name)
    found = []
    for path, module in named_parts(inner):
        # torch.compile wraps blocks of a model too; their names then hold a step more.
        path = path.replace("_orig_mod.", "")
        rule = next((rule for rule in rules if re.fullmatch(rule.pattern, path)), None)
        if rule is not None and not path.endswith("_orig_mod"):
            found.append((path, module, rule))
    if not found:
        raise Unsupported(
            f"where the image tokens of {name} stand is not known, so nothing can listen to its attention. "
            f"Known: {tapped()}. A family is one file in negguide/pipeline/families"
        )
    known = text_path(inner) is not None
    return tuple(
        AttentionLayer(
            Layer(path, rule.kind, at, len(found), known and rule.kind == "cross"),
            module,
            rule.place,
            rule.place if rule.values == "all" else rule.values,
        )
        for at, (path, module, rule) in enumerate(found)
    )


def image_modules(denoiser: torch.nn.Module) -> tuple[torch.nn.Module, ...]:
    """The modules of a denoiser that see image tokens alone; none where that is not known."""
    inner = getattr(denoiser, "_orig_mod", denoiser)
    pattern = image_modules_of(base_class(inner).__name__)
    if pattern is None:
        return ()
    fitting = re.compile(pattern)
    return tuple(module for path, module in named_parts(inner) if fitting.fullmatch(path.replace("_orig_mod.", "")))


def text_path(denoiser: torch.nn.Module) -> tuple[torch.nn.Module, ...] | None:
    """The modules through which the denoiser's text goes on its way to the cross layers; None where that is not known."""
    inner = getattr(denoiser, "_orig_mod", denoiser)
    name = base_class(inner).__name__
    paths = [rule.text_path for rule in rules_of(name) if rule.kind == "cross"]
    if not paths or paths[0] is None:
        return None
    if name.startswith("UNet2D") and not _takes_raw_text(inner):
        return None
    modules = (_module_at(inner, path) for path in paths[0])
    return tuple(module for module in modules if module is not None)


MASKED = -10000.0
"""What diffusers' transformers add to the attention of text tokens that are masked."""


def text_of_layers(denoiser: torch.nn.Module, text: Tensor, mask: Any = None) -> tuple[Tensor, Tensor | None]:
    """A text as the cross layers get it, (B, L, C), and its attention bias (B, 1, L), None without a `mask` (B, L) of ones."""
    for module in text_path(denoiser) or ():
        text = module(text)
    # Allegro hands its text on with an axis more, which its blocks do not see.
    text = text.flatten(1, -2)
    if isinstance(mask, Tensor) and mask.ndim == 2:
        return text, ((1 - mask.to(text.dtype)) * MASKED).unsqueeze(1)
    return text, None


def _module_at(module: Any, path: str) -> torch.nn.Module | None:
    for name in path.split("."):
        module = getattr(module, name, None)
    return module if isinstance(module, torch.nn.Module) else None


def _takes_raw_text(unet: torch.nn.Module) -> bool:
    """Whether a UNet's cross-attention gets the text as the UNet got it (an IP-Adapter's images come beside it)."""
    config: Mapping[str, Any] = getattr(unet, "config", {})
    projected = getattr(unet, "text_encoder_hid_proj", None) is not None
    return not projected and config.get("encoder_hid_dim_type") in (None, "ip_image_proj")


@dataclass(frozen=True)
class Picture:
    """How the tokens of a forward lie: `total` image tokens of the input, the first `count` of them the sample's.

    `size`: (height, width) of UNet latents, whose token count differs from layer to layer; else None.
    """

    total: int
    count: int
    grid: tuple[int, int] | None
    size: tuple[int, int] | None = None

    def span(
        self, attention_layer: AttentionLayer, tokens: int, placement: Placement = "layer"
    ) -> tuple[slice, tuple[int, int] | None]:
        """Which of the `tokens` that are heard of a layer are the picture's, and their grid."""
        place = attention_layer.place if placement == "layer" else attention_layer.values
        if self.size is not None:
            return slice(0, tokens), self._level(tokens)
        start = tokens - self.total if place == "last" else 0
        exact = tokens == self.total if place == "all" else tokens >= self.total
        if not exact or start < 0:
            raise Unsupported(
                f"{attention_layer.layer.name} gave {tokens} tokens where the picture has {self.total}: "
                "where its image tokens stand is not known"
            )
        return slice(start, start + self.count), self.grid

    def _level(self, tokens: int) -> tuple[int, int] | None:
        assert self.size is not None
        height, width = self.size
        while height * width > tokens:
            height, width = math.ceil(height / 2), math.ceil(width / 2)
        return (height, width) if height * width == tokens else None


def picture(denoiser: torch.nn.Module, value: Any, layout: Layout) -> Picture:
    """The lie of the image tokens of a forward with the noisy input `value`, from shapes and the patch size."""
    config: Mapping[str, Any] = getattr(getattr(denoiser, "_orig_mod", denoiser), "config", {})
    sample = layout.sample_shape
    shape: tuple[int, ...] = tuple(value.shape) if isinstance(value, Tensor) else tuple(stacked(value).shape)
    if base_class(getattr(denoiser, "_orig_mod", denoiser)).__name__.startswith("UNet2D"):
        return Picture(0, 0, None, (sample[-2], sample[-1]))
    if len(sample) == 3:
        return Picture(shape[1], sample[1], layout.grid if layout.frames == 1 else None)
    patch = config.get("patch_size") or (config.get("all_patch_size") or (1,))[0]
    time, side = (patch[0], patch[-1]) if isinstance(patch, (list, tuple)) else (config.get("patch_size_t") or 1, patch)

    def tokens(size: tuple[int, ...]) -> tuple[int, int, int]:
        frames = size[layout.frames_axis] if len(size) > 4 else 1
        return max(1, frames // time), size[-2] // side, size[-1] // side

    frames, height, width = tokens(sample)
    # Lists of rows (Z-Image) come stacked with a frame axis that the sample lacks.
    total = math.prod(tokens(shape))
    return Picture(total, frames * height * width, (height, width) if frames == 1 else None)
