"""Pictures to latents and back through a pipeline's own VAE, in the shape in which its scheduler holds them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from negguide.engine import videos
from negguide.pipeline.families import Unsupported
from negguide.pipeline.intercept import base_class
from negguide.pipeline.layout import Layout
from negguide.types import PipelineLike

_MOST_LATENTS = 4 * 128 * 128
"""Positions that are decoded together: four pictures of 1024 pixels."""


def encode(pipe: PipelineLike, layout: Layout, pictures: Sequence[Any], like: Tensor) -> Tensor:
    """PIL pictures of any size -> clean latents (R, ...), the mode of the VAE's posterior; device and dtype of `like`.

    Pictures are resized to that of the call. Raises `Unsupported` for videos and for latents that are no plain VAE ones.
    """
    channels, height, width = _shape(pipe, layout)
    factor = int(_factor(pipe) or 1)
    processor = _processor(pipe)
    pixels = processor.preprocess([p.convert("RGB") for p in pictures], height=height * factor, width=width * factor)
    rows = []
    with torch.no_grad(), _safe(pipe.vae) as vae:
        for row in pixels.to(like.device, vae.dtype).split(1):
            output = vae.encode(row.unsqueeze(2) if _has_frames(vae) else row)
            raw = output.latent_dist.mode() if hasattr(output, "latent_dist") else output.latent
            rows.append(raw.squeeze(2) if _has_frames(vae) else raw)
    raw = torch.cat(rows).float()
    if tuple(raw.shape[1:]) != (channels, height, width):
        raise Unsupported(
            f"{base_class(pipe).__name__}: its VAE makes latents {tuple(raw.shape[1:])} where the sample is "
            f"{(channels, height, width)}, so pictures cannot be references here"
        )
    shift, scale = _affine(pipe.vae, raw)
    latents = (raw - shift) * scale
    if len(layout.sample_shape) == 3:
        latents = _packed(latents) if layout.sample_shape[2] != channels else latents.flatten(2).transpose(1, 2)
        mean, spread = _token_statistics(pipe.vae, latents)
        latents = (latents - mean) / spread
    return latents.reshape(-1, *layout.sample_shape[1:]).to(like.device, like.dtype)


def decode(
    pipe: Any,
    layout: Layout,
    latents: Tensor,
    vae: object = None,
    longest: int | None = None,
    frames: Sequence[float] = (),
) -> list[Any]:
    """Clean latents (B, ...) -> PIL pictures.

    `vae`: another decoder of the same latents (a tiny autoencoder: a module, or its hub id or folder). `longest`: a look is
    enough, of at most so many pixels at the longer side: larger latents are brought to that by area, and a tiny autoencoder
    in the folder `preview` of the pipeline's own folder decodes them, if there is one and no `vae` is given.
    `frames`: of a video the frames at these fractions of it (0: the first, 1: the last), image by image; each frame once.
    """
    if frames and (videos.is_video(layout) or layout.channels_last):
        return _decode_frames(pipe, layout, latents, vae, longest, frames)
    channels, height, width = _shape(pipe, layout)
    if len(layout.sample_shape) == 3:
        mean, spread = _token_statistics(pipe.vae, latents)
        latents = latents * spread + mean
        packed = layout.sample_shape[2] != channels
        latents = _unpacked(latents, height, width) if packed else latents.transpose(1, 2)
    latents = latents.reshape(latents.shape[0], -1, height, width).float()
    if longest is not None:
        latents = _at_most(latents, max(1, longest // int(_factor(pipe) or 1)))
    if vae is None and longest is not None:
        vae = _beside(pipe)
    decoder = previewer(vae) if isinstance(vae, str) else vae or pipe.vae
    shift, scale = _affine(decoder, latents)
    raw = latents / scale + shift
    pictures: list[object] = []
    with torch.no_grad(), _safe(decoder) as safe:
        device, dtype = safe.device if decoder is not pipe.vae else raw.device, safe.dtype
        for part in raw.split(max(1, _MOST_LATENTS // (raw.shape[2] * raw.shape[3]))):
            part = part.to(device, dtype)
            pixels = safe.decode(part.unsqueeze(2) if _has_frames(safe) else part, return_dict=False)[0]
            pixels = pixels[:, :, 0] if pixels.ndim == 5 else pixels
            pictures += _processor(pipe).postprocess(pixels.float().cpu(), output_type="pil")
    return pictures


def _decode_frames(
    pipe: PipelineLike, layout: Layout, latents: Tensor, vae: object, longest: int | None, frames: Sequence[float]
) -> list[object]:
    if getattr(pipe, "vae", None) is None:
        raise Unsupported(f"{base_class(pipe).__name__} has no VAE that turns latents into pictures")
    video = videos.as_video(pipe, layout, latents).float()
    if longest is not None:
        count = video.shape[2]
        video = _at_most(video.transpose(1, 2).flatten(0, 1), max(1, longest // int(_factor(pipe) or 1)))
        video = video.unflatten(0, (-1, count)).transpose(1, 2)
    decoder = previewer(vae) if isinstance(vae, str) else vae or pipe.vae
    shift, scale = _affine(decoder, video)
    raw = video / scale + shift
    rows: list[list[object]] = [[] for _ in raw]
    with torch.no_grad(), _safe(decoder) as safe:
        raw = raw.to(safe.device if decoder is not pipe.vae else raw.device, safe.dtype)
        for place in videos.places(layout, frames):
            for pictures, raw_of_image in zip(rows, raw.split(1), strict=True):
                pixels = videos.decode_frame(safe, raw_of_image, place).float().cpu()
                pictures += _processor(pipe).postprocess(pixels, output_type="pil")
    return [picture for pictures in rows for picture in pictures]


@lru_cache(maxsize=1)
def previewer(name: str) -> Any:
    """A tiny autoencoder by hub id or folder, e.g. "madebyollin/taesd", on the accelerator if there is one; kept."""
    from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny

    device = "cuda" if torch.cuda.is_available() else "cpu"
    loaded = AutoencoderTiny.from_pretrained(name).to(device).eval().requires_grad_(False)
    return loaded.to(memory_format=torch.channels_last)


def _beside(pipe: PipelineLike) -> str | None:
    """The folder of the tiny autoencoder that lies in the pipeline's own, or None."""
    folder = Path(str(pipe.config.get("_name_or_path") or "")) / "preview"
    return str(folder) if (folder / "config.json").is_file() else None


def _at_most(latents: Tensor, longest: int) -> Tensor:
    """(B, C, h, w) with at most `longest` rows and columns; smaller ones as they are."""
    size = latents.shape[2:]
    if max(size) <= longest:
        return latents
    smaller = [max(1, round(side * longest / max(size))) for side in size]
    return torch.nn.functional.interpolate(latents, smaller, mode="area")


def _shape(pipe: PipelineLike, layout: Layout) -> tuple[int, int, int]:
    """(channels, height, width) of the VAE's latents for a sample; packed samples hold 2 x 2 of them in a token, or one."""
    sample, name = layout.sample_shape, base_class(pipe).__name__
    if getattr(pipe, "vae", None) is None:
        raise Unsupported(f"{name} has no VAE that turns pictures into latents and back")
    if layout.frames > 1 or (len(sample) == 5 and sample[layout.frames_axis] != 1):
        frames = layout.frames if len(sample) == 3 else sample[layout.frames_axis]
        raise Unsupported(
            f"{name} makes a video of {frames} latent frames here, and single pictures only can be compared with "
            "references; use a method that needs none"
        )
    if _factor(pipe) is None or layout.channels_last or (len(sample) == 5 and not _has_frames(pipe.vae)):
        raise Unsupported(f"{name}: how its VAE's latents lie in a sample is not known")
    if len(sample) == 3:
        if layout.grid is None:
            raise Unsupported(f"{name}: how its latents are packed is not known")
        if sample[2] == _latent_channels(pipe.vae):
            return sample[2], layout.grid[0], layout.grid[1]
        if sample[2] != 4 * _latent_channels(pipe.vae):
            raise Unsupported(f"{name}: how its latents are packed is not known (tokens of {sample[2]} numbers)")
        return sample[2] // 4, 2 * layout.grid[0], 2 * layout.grid[1]
    return sample[3 - layout.frames_axis if len(sample) == 5 else 1], sample[-2], sample[-1]


def _factor(pipe: object) -> int | None:
    """Pixels of a picture's side for each of its latents."""
    for name in (
        "vae_scale_factor",
        "vae_scale_factor_spatial",
        "vae_spatial_scale_factor",
        "vae_spatial_compression_ratio",
    ):
        if isinstance(value := getattr(pipe, name, None), int):
            return value
    return None


def _latent_channels(vae: Any) -> int:
    """Channels of a VAE's latents."""
    return int(vae.config.get("latent_channels") or vae.config.get("z_dim") or 0)


def _processor(pipe: object) -> Any:
    """The pipeline's own, or one that only brings pictures to size and to [-1, 1]."""
    processor = getattr(pipe, "image_processor", None)
    if processor is not None:
        return processor
    from diffusers.image_processor import VaeImageProcessor

    return VaeImageProcessor(vae_scale_factor=_factor(pipe) or 1)


def _has_frames(vae: object) -> bool:
    return "Wan" in type(vae).__name__ or "QwenImage" in type(vae).__name__


def _affine(vae: Any, like: Tensor) -> tuple[Tensor | float, Tensor | float]:
    """(shift, scale): what pipelines take from, and multiply with, a VAE's own latents."""
    config = vae.config
    scale = float(config.get("scaling_factor") or 1.0)
    # LTX's VAE has them as buffers.
    buffers = getattr(vae, "_buffers", {})
    mean, std = (config.get(name) or buffers.get(name) for name in ("latents_mean", "latents_std"))
    if mean is None or std is None:
        return float(config.get("shift_factor") or 0.0), scale
    shape = (1, -1, *(1 for _ in like.shape[2:]))
    return torch.as_tensor(mean).view(shape).to(like), scale / torch.as_tensor(std).view(shape).to(like)


def _token_statistics(vae: Any, like: Tensor) -> tuple[Tensor | float, Tensor | float]:
    """(mean, spread) of the numbers of packed tokens where a VAE has them (Flux.2's)."""
    norm = getattr(vae, "bn", None)
    if norm is None:
        return 0.0, 1.0
    return norm.running_mean.to(like), (norm.running_var + vae.config.batch_norm_eps).sqrt().to(like)


def _packed(latents: Tensor) -> Tensor:
    """(B, C, 2h, 2w) -> (B, h w, 4 C)."""
    return latents.unflatten(3, (-1, 2)).unflatten(2, (-1, 2)).permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


def _unpacked(latents: Tensor, height: int, width: int) -> Tensor:
    """(B, h w, 4 C) -> (B, C, 2h, 2w)."""
    blocks = latents.unflatten(2, (-1, 2, 2)).unflatten(1, (height // 2, width // 2))
    return blocks.permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)


@contextmanager
def _safe(vae: Any) -> Iterator[Any]:
    """The VAE in a precision in which it does not overflow (SDXL's in float16 does)."""
    overflows = vae.config.get("force_upcast") and vae.dtype == torch.float16
    if overflows:
        vae.to(torch.float32)
    try:
        yield vae
    finally:
        if overflows:
            vae.to(torch.float16)
