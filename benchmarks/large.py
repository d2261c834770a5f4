"""Pipelines of the sizes that people run, with random weights: what a step costs does not hang on what the weights say.

`build(name, "real")`: SDXL's UNet, Stable Diffusion 3 medium, FLUX.1-dev and Wan 2.1 1.3B as wide and deep as published, at
1024x1024 (Wan: 480x832, 17 frames), made in bfloat16 on the GPU. `build(name, "small")`: the same classes, narrow and short,
for a CPU. The text encoders are tiny, with 77 CLIP and 256 T5 tokens: they are not what is measured.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch

sys.path.append(str(Path(__file__).parents[1] / "tests"))
import families
import families_parts as parts
import families_transformers as transformers
import families_unets as unets

POSITIONS = 77


@dataclass(frozen=True)
class Setting:
    """A pipeline, its call, and the name of its denoiser."""

    pipe: Any
    call: dict[str, Any]
    denoiser: str


def _unet(size: str) -> Any:
    real = size == "real"
    return diffusers.UNet2DConditionModel(
        sample_size=128 if real else 48,
        block_out_channels=(320, 640, 1280) if real else (32, 64, 128),
        layers_per_block=2,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2, 10) if real else (1, 1, 2),
        attention_head_dim=(5, 10, 20) if real else (2, 4, 8),
        cross_attention_dim=64,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=32 + 6 * 256,
    )


def _sd3(size: str) -> Any:
    if size == "real":
        return diffusers.SD3Transformer2DModel(128, 2, 4, 24, 64, 24, 64, 1536, 64, 4, 192)
    return diffusers.SD3Transformer2DModel(64, 2, 4, 6, 32, 8, 64, 256, 64, 4, 96)


def _flux(size: str) -> Any:
    if size == "real":
        return diffusers.FluxTransformer2DModel(1, 16, None, 19, 38, 128, 24, 32, 32, True, (16, 56, 56))
    return diffusers.FluxTransformer2DModel(1, 16, None, 2, 4, 32, 8, 32, 32, True, (8, 12, 12))


def _wan(size: str) -> Any:
    norm = "rms_norm_across_heads"
    if size == "real":
        return diffusers.WanTransformer3DModel((1, 2, 2), 12, 128, 16, 16, 32, 256, 8960, 30, True, norm)
    return diffusers.WanTransformer3DModel((1, 2, 2), 8, 32, 16, 16, 32, 256, 1024, 6, True, norm, rope_max_seq_len=64)


MODELS: dict[str, tuple[Callable[[str], Any], Callable[[], Any], str]] = {
    "sdxl": (_unet, unets.sdxl, "unet"),
    "sd3": (_sd3, transformers.sd3, "transformer"),
    "flux": (_flux, transformers.flux, "transformer"),
    "wan": (_wan, transformers.wan, "transformer"),
}
SIDES = {"real": {"sdxl": 128, "sd3": 128, "flux": 128}, "small": {"sdxl": 48, "sd3": 64, "flux": 64}}


def build(name: str, size: str, device: str, guided: bool, steps: int) -> Setting:
    """The pipeline and its usual call of one picture (or video)."""
    denoiser, whole, part = MODELS[name]
    dtype = torch.bfloat16 if size == "real" else torch.float32
    usual = torch.get_default_dtype()
    torch.manual_seed(0)
    pipe = whole()
    if name == "sdxl":
        eos = pipe.text_encoder.config.eos_token_id
        pipe.register_modules(
            text_encoder=parts.clip_text(eos=eos, positions=POSITIONS),
            text_encoder_2=parts.clip_text(projected=True, eos=eos, positions=POSITIONS),
        )
        for tokenizer in (pipe.tokenizer, pipe.tokenizer_2):
            tokenizer.model_max_length = POSITIONS
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            setattr(pipe, part, denoiser(size))
    finally:
        torch.set_default_dtype(usual)
    pipe.register_modules(**{part: getattr(pipe, part)})
    for component in pipe.components.values():
        if isinstance(component, torch.nn.Module):
            component.to(device, dtype).eval().requires_grad_(False)
            families._enliven(component)
    pipe.set_progress_bar_config(disable=True)
    call: dict[str, Any] = {"prompt": "a pet", "num_inference_steps": steps, "output_type": "latent"}
    call["guidance_scale"] = 5.0 if guided else 1.0
    if name == "wan":
        place = {"height": 480, "width": 832} if size == "real" else {"height": 192, "width": 192}
        call |= {"num_frames": 17, "max_sequence_length": 256 if size == "real" else 16, **_wan_size(pipe, place)}
    else:
        side = SIDES[size][name] * pipe.vae_scale_factor
        call |= {"height": side, "width": side}
    if name in ("sd3", "flux"):
        call["max_sequence_length"] = 256
    if name == "flux":
        call["guidance_scale"] = 3.5
    return Setting(pipe, call, part)


def _wan_size(pipe: Any, place: dict[str, int]) -> dict[str, int]:
    """Latents of the published scale, 8, whatever the tiny autoencoder's is."""
    return {side: value // 8 * pipe.vae_scale_factor_spatial for side, value in place.items()}
