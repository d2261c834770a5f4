"""Single frames of a video's clean latents to pictures, through the video VAE of its pipeline or another decoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from negguide.pipeline.families import Unsupported
from negguide.pipeline.intercept import base_class
from negguide.pipeline.layout import Layout
from negguide.types import PipelineLike

_BEFORE = 1
"""Latent frames before the wanted one that are decoded with it: a causal decoder makes a frame of what came before."""
_IN_TILES = ("AutoencoderKLAllegro",)
"""VAEs that decode whole tiles of many frames only."""


def is_video(layout: Layout) -> bool:
    """Whether a sample holds several latent frames."""
    return _count(layout) > 1


def places(layout: Layout, frames: Sequence[float]) -> tuple[int, ...]:
    """The latent frames nearest to fractions of a video (0: the first, 1: the last), each once."""
    return tuple(dict.fromkeys(round(fraction * (_count(layout) - 1)) for fraction in frames))


def as_video(pipe: PipelineLike, layout: Layout, latents: Tensor) -> Tensor:
    """Latents as the scheduler holds them -> (B, C, F, H, W). Raises `Unsupported` where their packing is not known."""
    name = base_class(pipe).__name__
    if len(layout.sample_shape) == 5:
        if layout.channels_last:
            return latents.permute(0, 4, 1, 2, 3)
        return latents.transpose(1, 2) if layout.frames_axis == 1 else latents
    channels = int(pipe.vae.config.get("latent_channels") or pipe.vae.config.get("z_dim") or 0)
    if layout.grid is None or channels != latents.shape[2]:
        raise Unsupported(f"{name}: how its latents are packed is not known (tokens of {latents.shape[2]} numbers)")
    return latents.unflatten(1, (layout.frames, *layout.grid)).permute(0, 4, 1, 2, 3)


def decode_frame(vae: Any, latents: Tensor, place: int) -> Tensor:
    """Latents (B, C, F, H, W) as the VAE makes them -> pixels (B, 3, height, width) of the frame at `place`."""
    if type(vae).__name__ in _IN_TILES:
        raise Unsupported(
            f"{type(vae).__name__} decodes tiles of many frames only, so single frames cannot be looked at"
        )
    if not takes_videos(vae):
        pixels: Tensor = vae.decode(latents[:, :, place], return_dict=False)[0]
        return pixels
    clip = latents[:, :, max(0, place - _BEFORE) : place + 1]
    more = (clip.new_zeros(len(clip)),) if vae.config.get("timestep_conditioning") else ()
    pixels = vae.decode(clip, *more, return_dict=False)[0]
    return pixels[:, :, 0 if place == 0 else -1]


def takes_videos(vae: Any) -> bool:
    """Whether a decoder takes latents with an axis of frames: it has convolutions over time."""
    return any(isinstance(part, torch.nn.Conv3d) for part in vae.modules())


def _count(layout: Layout) -> int:
    return layout.sample_shape[layout.frames_axis] if len(layout.sample_shape) == 5 else layout.frames
