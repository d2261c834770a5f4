"""Where image tokens stand: the attention layers of a denoiser, and the part of their output that is the picture.

The layers come from the files of `families`. Names are matched in full, so that text refiners, motion modules and image
encoders, whose rows are no pictures, stay out.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from negguide.methods.tokens import Layer, Placement
from negguide.pipeline.families import Unsupported, image_modules_of, rules_of, tapped
from negguide.pipeline.families.family import Place, Side
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
    projects: bool = True
    """Whether it calls its output projection itself."""

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
        if self.values == "behind":
            raise Unsupported(
                f"{self.layer.name}: each row's text ends somewhere else, so other words have no place beside it"
            )
        own = self.layer.kind == "cross" or self.values != "all"
        # Kandinsky 5 spells its projections out.
        names = ("to_v", "to_value") if own else ("add_v_proj",)
        projection = next((getattr(self.module, name) for name in names if hasattr(self.module, name)), None)
        if self.layer.kind == "self" or not isinstance(projection, torch.nn.Module):
            raise Unsupported(f"{self.layer.name} ({self.layer.kind}-attention) has no value projection of text tokens")
        return projection


def attention_layers(denoiser: torch.nn.Module) -> tuple[AttentionLayer, ...]:
    """The attention layers over image tokens, in their order in the model. Raises `Unsupported` for unknown models."""
    inner = getattr(denoiser, "_orig_mod", denoiser)
    name = base_class(inner).__name__
    rules = rules_of(name)
    layers = []
    for path, module in named_parts(inner):
        # torch.compile wraps blocks of a model too; their names then hold a step more.
        path = path.replace("_orig_mod.", "")
        rule = next((rule for rule in rules if re.fullmatch(rule.pattern, path)), None)
        if rule is not None and not path.endswith("_orig_mod"):
            layers.append((path, module, rule))
    if not layers:
        raise Unsupported(
            f"where the image tokens of {name} stand is not known, so nothing can listen to its attention. "
            f"Known: {tapped()}. A family is one file in negguide/pipeline/families"
        )
    has_text_path = text_path(inner) is not None
    return tuple(
        AttentionLayer(
            Layer(path, rule.kind, at, len(layers), has_text_path and rule.kind == "cross"),
            module,
            rule.place,
            rule.place if rule.values == "all" else rule.values,
            rule.projects,
        )
        for at, (path, module, rule) in enumerate(layers)
    )


@dataclass(frozen=True)
class SharedModules:
    """The modules of a denoiser that need not compute the image of a companion again; see `ImageModules`."""

    alone: Set[torch.nn.Module]
    stream: Set[torch.nn.Module]
    side: Side


def shared_modules(denoiser: torch.nn.Module) -> SharedModules | None:
    """Those of a denoiser; None where none are known."""
    inner = getattr(denoiser, "_orig_mod", denoiser)
    names = image_modules_of(base_class(inner).__name__)
    if names is None:
        return None
    last = len(getattr(inner, "single_transformer_blocks", ())) - 1
    unread = names.unread.replace("{last}", str(last))

    def fitting(*patterns: str) -> dict[torch.nn.Module, None]:
        whole = re.compile("|".join(filter(None, patterns)))
        paths = ((path.replace("_orig_mod.", ""), module) for path, module in named_parts(inner))
        return dict.fromkeys(module for path, module in paths if whole.fullmatch(path))

    alone = fitting(names.alone, unread).keys()
    stream = fitting(names.stream).keys() - alone if names.stream else set()
    return SharedModules(alone, stream, names.side)


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


def text_of_layers(denoiser: torch.nn.Module, text: Tensor, mask: object = None) -> tuple[Tensor, Tensor | None]:
    """A text as the cross layers get it, (B, L, C), and its attention bias (B, 1, L), None without a `mask` (B, L) of ones."""
    for module in text_path(denoiser) or ():
        text = module(text)
    # Allegro hands its text on with an axis more, which its blocks do not see.
    text = text.flatten(1, -2)
    if isinstance(mask, Tensor) and mask.ndim == 2:
        return text, ((1 - mask.to(text.dtype)) * MASKED).unsqueeze(1)
    return text, None


def _module_at(module: object, path: str) -> torch.nn.Module | None:
    for name in path.split("."):
        module = getattr(module, name, None)
    return module if isinstance(module, torch.nn.Module) else None


def _takes_raw_text(unet: torch.nn.Module) -> bool:
    """Whether a UNet's cross-attention gets the text as the UNet got it (an IP-Adapter's images come beside it)."""
    config: Mapping[str, object] = getattr(unet, "config", {})
    projected = getattr(unet, "text_encoder_hid_proj", None) is not None
    return not projected and config.get("encoder_hid_dim_type") in (None, "ip_image_proj")


@dataclass(frozen=True)
class Picture:
    """How the tokens of a forward lie: `total` image tokens of the input, the first `count` of them the sample's.

    `size`: (height, width) of UNet latents, whose token count differs from layer to layer; else None. `frames`: of the sample,
    for layers that have a row for each of them. `starts`: where the image begins in each row, for layers with the place "behind".
    """

    total: int
    count: int
    grid: tuple[int, int] | None
    size: tuple[int, int] | None = None
    rows: int = 0
    frames: int = 1
    starts: Tensor | None = None

    def cut(self, attention_layer: AttentionLayer, whole: Tensor, placement: Placement = "layer") -> Cut:
        """The picture's tokens among those that are heard of a layer, and their grid."""
        if whole.ndim > 3:
            # Heads that have not been joined yet.
            return dataclasses.replace(
                self.cut(attention_layer, whole.flatten(2), placement), heads=tuple(whole.shape[2:])
            )
        if self.frames > 1 and whole.shape[0] == self.rows * self.frames:
            joined = whole.unflatten(0, (self.rows, self.frames)).flatten(1, 2)
            return dataclasses.replace(self._cut(attention_layer, joined, placement), frames=self.frames, grid=None)
        return self._cut(attention_layer, whole, placement)

    def _cut(self, attention_layer: AttentionLayer, whole: Tensor, placement: Placement) -> Cut:
        place = attention_layer.place if placement == "layer" else attention_layer.values
        if place == "behind":
            assert self.starts is not None
            at = self.starts.to(whole.device)[:, None] + torch.arange(self.count, device=whole.device)
            return Cut(whole, at[..., None].expand(-1, -1, whole.shape[2]), self.grid)
        span, grid = self._span(attention_layer, whole.shape[1], place)
        return Cut(whole, span, grid)

    def _span(self, attention_layer: AttentionLayer, tokens: int, place: Place) -> tuple[slice, tuple[int, int] | None]:
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


@dataclass(frozen=True)
class Cut:
    """The picture's tokens inside what was heard: `whole` (rows, N, d), `at` a range of N or an index for each row."""

    whole: Tensor
    at: slice | Tensor
    grid: tuple[int, int] | None
    frames: int = 1
    """Rows of the layer for each row here."""
    heads: tuple[int, ...] | None = None
    """What d is made of in the layer."""

    @property
    def tokens(self) -> Tensor:
        """(rows, n, d)."""
        if isinstance(self.at, Tensor):
            return self.whole.gather(1, self.at)
        return self.whole if self.at == slice(0, self.whole.shape[1]) else self.whole[:, self.at]

    @property
    def is_view(self) -> bool:
        """Whether `tokens` shares its memory with what the layer gave."""
        return isinstance(self.at, slice) and self.frames == 1 and self.heads is None

    def filled(self, tokens: Tensor) -> Tensor:
        """What was heard, with other tokens in their places."""
        if isinstance(self.at, Tensor):
            result = self.whole.scatter(1, self.at, tokens)
        elif self.at == slice(0, self.whole.shape[1]):
            result = tokens
        else:
            result = torch.cat([self.whole[:, : self.at.start], tokens, self.whole[:, self.at.stop :]], dim=1)
        if self.frames > 1:
            result = result.unflatten(1, (self.frames, -1)).flatten(0, 1)
        return result if self.heads is None else result.unflatten(2, self.heads)


def picture(denoiser: torch.nn.Module, named: Mapping[str, object], value: object, layout: Layout) -> Picture:
    """The lie of the image tokens of a forward `named` with the noisy input `value`, from shapes and the patch size."""
    config: Mapping[str, Any] = getattr(getattr(denoiser, "_orig_mod", denoiser), "config", {})
    sample = layout.sample_shape
    shape: tuple[int, ...] = tuple(value.shape) if isinstance(value, Tensor) else tuple(stacked(value).shape)
    if base_class(getattr(denoiser, "_orig_mod", denoiser)).__name__.startswith(("UNet2D", "UNetMotion")):
        frames = sample[layout.frames_axis] if len(sample) == 5 else 1
        return Picture(0, 0, None, (sample[-2], sample[-1]), shape[0], frames)
    if len(sample) == 3:
        return Picture(shape[1], sample[1], layout.grid if layout.frames == 1 else None)
    patch = config.get("patch_size") or (config.get("all_patch_size") or (1,))[0]
    time, side = (patch[0], patch[-1]) if isinstance(patch, (list, tuple)) else (config.get("patch_size_t") or 1, patch)

    def tokens(size: tuple[int, ...]) -> tuple[int, int, int]:
        frames = size[layout.frames_axis] if len(size) > 4 else 1
        height, width = size[-3:-1] if layout.channels_last else size[-2:]
        return max(1, frames // time), height // side, width // side

    frames, height, width = tokens(sample)
    # Lists of rows (Z-Image) come stacked with a frame axis that the sample lacks.
    total = math.prod(tokens(shape))
    mask = named.get("encoder_attention_mask")
    starts = mask.sum(1) if isinstance(mask, Tensor) and mask.ndim == 2 else None
    grid = (height, width) if frames == 1 else None
    return Picture(total, frames * height * width, grid, None, shape[0], frames, starts)
