"""Tiny pipelines of the classes that own a guider of diffusers, which here is plain classifier-free guidance."""

from __future__ import annotations

from typing import Any

from families_parts import VOCABULARY, qwen_tokenizer, t5_text, t5_tokenizer


def _qwen_text() -> Any:
    from transformers import Qwen2_5_VLTextConfig, Qwen2_5_VLTextModel

    return Qwen2_5_VLTextModel(
        Qwen2_5_VLTextConfig(
            vocab_size=VOCABULARY,
            hidden_size=32,
            intermediate_size=37,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=2,
            rope_parameters={"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e4},
            pad_token_id=0,
        )
    )


def _with_short_texts(pipe: Any, start: int) -> Any:
    """Texts of 24 tokens behind a template that takes `start`."""
    pipe.tokenizer_max_length, pipe.tokenizer_2_max_length = 24, 16
    pipe.prompt_template_encode_start_idx = start
    return pipe


def hunyuan_image() -> Any:
    from diffusers import (
        AutoencoderKLHunyuanImage,
        ClassifierFreeGuidance,
        FlowMatchEulerDiscreteScheduler,
        HunyuanImagePipeline,
        HunyuanImageTransformer2DModel,
    )

    transformer = HunyuanImageTransformer2DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=8,
        num_layers=2,
        num_single_layers=2,
        num_refiner_layers=1,
        text_embed_dim=32,
        text_embed_2_dim=32,
        rope_axes_dim=(4, 4),
    )
    auto = AutoencoderKLHunyuanImage(
        in_channels=3,
        out_channels=3,
        latent_channels=4,
        block_out_channels=(32, 64, 64, 64),
        layers_per_block=1,
        spatial_compression_ratio=8,
        sample_size=64,
        scaling_factor=0.5,
    )
    pipe = HunyuanImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=auto,
        text_encoder=_qwen_text(),
        tokenizer=qwen_tokenizer(),
        text_encoder_2=t5_text(),
        tokenizer_2=t5_tokenizer(),
        transformer=transformer,
        guider=ClassifierFreeGuidance(5.0),
    )
    pipe.prompt_template_encode = "Draw:{}!!"
    return _with_short_texts(pipe, 5)


def hunyuan_video_15() -> Any:
    from diffusers import (
        AutoencoderKLHunyuanVideo15,
        ClassifierFreeGuidance,
        FlowMatchEulerDiscreteScheduler,
        HunyuanVideo15Pipeline,
        HunyuanVideo15Transformer3DModel,
    )

    transformer = HunyuanVideo15Transformer3DModel(
        in_channels=9,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=8,
        num_layers=2,
        num_refiner_layers=1,
        text_embed_dim=32,
        text_embed_2_dim=32,
        image_embed_dim=12,
        rope_axes_dim=(2, 2, 4),
        target_size=16,
        task_type="t2v",
    )
    auto = AutoencoderKLHunyuanVideo15(
        latent_channels=4,
        block_out_channels=(16, 16),
        layers_per_block=1,
        spatial_compression_ratio=4,
        temporal_compression_ratio=2,
        downsample_match_channel=False,
        upsample_match_channel=False,
    )
    pipe = HunyuanVideo15Pipeline(
        text_encoder=_qwen_text(),
        tokenizer=qwen_tokenizer(),
        transformer=transformer,
        vae=auto,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=7.0),
        text_encoder_2=t5_text(),
        tokenizer_2=t5_tokenizer(),
        guider=ClassifierFreeGuidance(5.0),
    )
    pipe.system_message, pipe.vision_num_semantic_tokens = "Film", 4
    # This tokenizer takes the template letter by letter.
    return _with_short_texts(pipe, 38)


def motif_video() -> Any:
    from diffusers import (
        AutoencoderKLWan,
        ClassifierFreeGuidance,
        FlowMatchEulerDiscreteScheduler,
        MotifVideoPipeline,
        MotifVideoTransformer3DModel,
    )

    transformer = MotifVideoTransformer3DModel(
        in_channels=9,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=8,
        num_layers=1,
        num_single_layers=3,
        num_decoder_layers=1,
        patch_size=1,
        text_embed_dim=32,
        rope_axes_dim=(2, 2, 4),
        enable_text_cross_attention_dual=True,
        enable_text_cross_attention_single=True,
    )
    auto = AutoencoderKLWan(
        base_dim=3,
        z_dim=4,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
    )
    return MotifVideoPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=auto,
        text_encoder=t5_text(),
        tokenizer=t5_tokenizer(),
        transformer=transformer,
        guider=ClassifierFreeGuidance(5.0),
    )
