"""Tiny pipelines whose text encoder is a Qwen-VL, or a model of its kind."""

from __future__ import annotations

from typing import Any

from diffusers import (
    AutoencoderKLQwenImage,
    AutoencoderKLWan,
    FlowMatchEulerDiscreteScheduler,
)
from families_parts import (
    VOCABULARY,
    qwen3_config,
    qwen_tokenizer,
)
from transformers import Qwen3ForCausalLM


def qwen_processor() -> Any:
    """A tokenizer called as a processor of pictures and texts is."""
    tokenizer = qwen_tokenizer()
    kind: Any = type(tokenizer)

    class Processor(kind):  # type: ignore[misc]
        def __call__(self, text: Any = None, images: Any = None, videos: Any = None, **more: Any) -> Any:
            return super().__call__(text, **more)

    tokenizer.__class__ = Processor
    return tokenizer


def _qwen_vae() -> Any:
    return AutoencoderKLQwenImage(
        base_dim=24,
        z_dim=4,
        dim_mult=[1, 2, 4],
        num_res_blocks=1,
        temperal_downsample=[False, True],
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
    )


def qwen3_vl_config() -> Any:
    from transformers import Qwen3VLConfig

    text = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "intermediate_size": 37,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "rope_parameters": {"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 1e4},
    }
    vision = {
        "depth": 1,
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_heads": 2,
        "out_hidden_size": 32,
        "deepstack_visual_indexes": [0],
    }
    ids = {name: 250 + at for at, name in enumerate(("image_token_id", "video_token_id", "vision_start_token_id"))}
    return Qwen3VLConfig(text_config=text, vision_config=vision, **ids)


def krea2() -> Any:
    from diffusers import Krea2Pipeline, Krea2Transformer2DModel
    from transformers import Qwen3VLModel

    transformer = Krea2Transformer2DModel(
        in_channels=16,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=37,
        timestep_embed_dim=16,
        text_hidden_dim=32,
        num_text_layers=2,
        text_num_attention_heads=4,
        text_num_key_value_heads=4,
        text_intermediate_size=37,
        num_layerwise_text_blocks=1,
        num_refiner_text_blocks=1,
        axes_dims_rope=(4, 2, 2),
    )
    pipe = Krea2Pipeline(
        transformer=transformer,
        vae=_qwen_vae(),
        text_encoder=Qwen3VLModel(qwen3_vl_config()),
        tokenizer=qwen_tokenizer(),
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        text_encoder_select_layers=(1, 3),
    )
    pipe.prompt_template_encode_prefix, pipe.prompt_template_encode_start_idx = "Draw:", 5
    pipe.prompt_template_encode_suffix, pipe.prompt_template_encode_num_suffix_tokens = "!!", 2
    return pipe


def bria_fibo() -> Any:
    from diffusers import BriaFiboPipeline, BriaFiboTransformer2DModel

    transformer = BriaFiboTransformer2DModel(
        patch_size=1,
        in_channels=4,
        num_layers=2,
        num_single_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=16,
        axes_dims_rope=[2, 2, 4],
        text_encoder_dim=8,
    )
    auto = AutoencoderKLWan(
        base_dim=4,
        z_dim=4,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
        is_residual=True,
        in_channels=12,
        out_channels=12,
        patch_size=2,
        scale_factor_spatial=16,
    )
    config = qwen3_config()
    # The pipeline gives an empty text one token, of this number.
    config.hidden_size, config.vocab_size = 8, 128001
    return BriaFiboPipeline(
        transformer=transformer,
        vae=auto,
        text_encoder=Qwen3ForCausalLM(config),
        tokenizer=qwen_tokenizer(),
        scheduler=FlowMatchEulerDiscreteScheduler(),
    )


def nucleus() -> Any:
    from diffusers import NucleusMoEImagePipeline, NucleusMoEImageTransformer2DModel
    from transformers import Qwen3VLForConditionalGeneration

    transformer = NucleusMoEImageTransformer2DModel(
        patch_size=2,
        in_channels=16,
        out_channels=4,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        axes_dims_rope=(8, 4, 4),
        moe_enabled=False,
        capacity_factors=[8.0, 8.0],
    )
    pipe = NucleusMoEImagePipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=_qwen_vae(),
        text_encoder=Qwen3VLForConditionalGeneration(qwen3_vl_config()),
        processor=qwen_processor(),
    )
    pipe._format_prompt = "Draw:{}!!".format
    return pipe
