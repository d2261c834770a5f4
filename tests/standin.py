"""A tiny Stable Diffusion pipeline of the real classes with random weights, where tests need no trained one."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from negguide.toybox.tokenizer import MAX_LENGTH, make_tokenizer


def make_standin() -> StableDiffusionPipeline:
    """64x64 pictures from 4x16x16 latents; the same weights every time, silent, on the CPU."""
    torch.manual_seed(0)
    tokenizer = make_tokenizer()
    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=MAX_LENGTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    unet = UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=32,
        attention_head_dim=8,
        norm_num_groups=8,
    )
    vae = AutoencoderKL(
        block_out_channels=(8, 8, 16),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=64,
    )
    pipe = StableDiffusionPipeline(
        vae=vae,
        text_encoder=CLIPTextModel(text),
        tokenizer=tokenizer,
        unet=unet,
        scheduler=DDIMScheduler(
            beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False, steps_offset=1
        ),
        safety_checker=None,
        feature_extractor=None,
        image_encoder=None,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


@cache
def standin_folder() -> str:
    """The stand-in saved as a folder, once per process; removed when the process ends."""
    folder = tempfile.TemporaryDirectory(prefix="negguide-standin-")
    _kept.append(folder)
    make_standin().save_pretrained(Path(folder.name) / "sd")
    return str(Path(folder.name) / "sd")


_kept: list[tempfile.TemporaryDirectory[str]] = []
