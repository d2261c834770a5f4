"""Builders of tiny pipelines around a UNet: real classes, small configs, random weights."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    ControlNetModel,
    StableDiffusionControlNetPipeline,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
)
from families_parts import (
    clip_text,
    clip_tokenizer,
    ddim,
    euler,
    unet,
    vae,
)


def sd(cls: type, in_channels: int = 4, **more: Any) -> Any:
    return cls(
        unet=unet(in_channels),
        vae=vae(),
        text_encoder=clip_text(),
        tokenizer=clip_tokenizer(),
        scheduler=ddim(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
        **more,
    )


def sd15() -> Any:
    return sd(StableDiffusionPipeline)


def img2img() -> Any:
    return sd(StableDiffusionImg2ImgPipeline)


def inpaint() -> Any:
    return sd(StableDiffusionInpaintPipeline, 9)


def controlnet() -> Any:
    control = ControlNetModel(
        block_out_channels=(16, 32),
        layers_per_block=1,
        in_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        cross_attention_dim=32,
        conditioning_embedding_out_channels=(8, 16),
        norm_num_groups=8,
        attention_head_dim=2,
    )
    for block in control.controlnet_down_blocks:
        torch.nn.init.normal_(block.weight, std=0.3)
    return sd(StableDiffusionControlNetPipeline, controlnet=control)


def sdxl() -> Any:
    return StableDiffusionXLPipeline(
        unet=unet(xl=True),
        vae=vae(),
        text_encoder=clip_text(),
        text_encoder_2=clip_text(projected=True),
        tokenizer=clip_tokenizer(),
        tokenizer_2=clip_tokenizer(),
        scheduler=euler(),
        add_watermarker=False,
    )
