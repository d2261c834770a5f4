"""Builders of tiny text-to-image pipelines around other transformers: small configs, random weights."""

from __future__ import annotations

from typing import Any

from diffusers import (
    AutoencoderKL,
    ChromaPipeline,
    ChromaTransformer2DModel,
    DDPMScheduler,
    FlowMatchEulerDiscreteScheduler,
    HiDreamImagePipeline,
    HiDreamImageTransformer2DModel,
    HunyuanDiT2DModel,
    HunyuanDiTPipeline,
    Lumina2Pipeline,
    Lumina2Transformer2DModel,
    LuminaNextDiT2DModel,
    LuminaPipeline,
)
from families_llms import qwen_image, qwen_vl
from families_parts import VOCABULARY, clip_text, clip_tokenizer, qwen_tokenizer, t5_text, t5_tokenizer, vae
from transformers import BertConfig, BertModel, Gemma2Config, Gemma2Model, LlamaConfig, LlamaForCausalLM


def chroma() -> Any:
    transformer = ChromaTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        axes_dims_rope=(4, 4, 8),
        approximator_hidden_dim=32,
        approximator_layers=1,
        approximator_num_channels=16,
    )
    return ChromaPipeline(
        transformer=transformer,
        vae=vae(4, 0.05),
        text_encoder=t5_text(),
        tokenizer=t5_tokenizer(),
        scheduler=FlowMatchEulerDiscreteScheduler(),
    )


def bria() -> Any:
    from diffusers import BriaPipeline, BriaTransformer2DModel

    transformer = BriaTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=None,
        axes_dims_rope=[0, 4, 4],
    )
    return BriaPipeline(
        transformer=transformer,
        vae=vae(4, 0.05),
        text_encoder=t5_text(),
        tokenizer=t5_tokenizer(),
        scheduler=FlowMatchEulerDiscreteScheduler(),
    )


def hidream() -> Any:
    transformer = HiDreamImageTransformer2DModel(
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=8,
        num_attention_heads=4,
        caption_channels=[32, 16],
        text_emb_dim=64,
        num_routed_experts=4,
        num_activated_experts=2,
        axes_dims_rope=(4, 2, 2),
        max_resolution=(32, 32),
        llama_layers=[0, 1],
        force_inference_output=True,
    )
    llama = LlamaForCausalLM(
        LlamaConfig(
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            vocab_size=VOCABULARY,
            max_position_embeddings=128,
        )
    )
    llama.generation_config.pad_token_id = 0
    llama_tokenizer = qwen_tokenizer()
    llama_tokenizer.pad_token = "<|endoftext|>"
    pipe = HiDreamImagePipeline(
        transformer=transformer,
        vae=vae(4, 0.05),
        text_encoder=clip_text(projected=True),
        text_encoder_2=clip_text(projected=True),
        text_encoder_3=t5_text(),
        text_encoder_4=llama,
        tokenizer=clip_tokenizer(),
        tokenizer_2=clip_tokenizer(),
        tokenizer_3=t5_tokenizer(),
        tokenizer_4=llama_tokenizer,
        scheduler=FlowMatchEulerDiscreteScheduler(),
    )
    # Pictures are brought to the area of this many latents.
    pipe.default_sample_size = 16
    return pipe


def _gemma(width: int = 8) -> Any:
    return Gemma2Model(
        Gemma2Config(
            head_dim=8,
            hidden_size=width,
            initializer_range=0.5,
            intermediate_size=32,
            num_attention_heads=2,
            num_hidden_layers=2,
            num_key_value_heads=2,
            vocab_size=VOCABULARY,
            max_position_embeddings=512,
        )
    )


def lumina2() -> Any:
    transformer = Lumina2Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=4,
        hidden_size=8,
        num_layers=2,
        num_attention_heads=1,
        num_kv_heads=1,
        multiple_of=16,
        axes_dim_rope=(4, 2, 2),
        axes_lens=(300, 64, 64),
        cap_feat_dim=8,
    )
    return Lumina2Pipeline(
        transformer=transformer,
        vae=vae(4, 0.05),
        text_encoder=_gemma(),
        tokenizer=qwen_tokenizer(),
        scheduler=FlowMatchEulerDiscreteScheduler(),
    )


def lumina() -> Any:
    transformer = LuminaNextDiT2DModel(
        sample_size=4,
        patch_size=2,
        in_channels=4,
        hidden_size=24,
        num_layers=2,
        num_attention_heads=3,
        num_kv_heads=1,
        multiple_of=16,
        learn_sigma=True,
        qk_norm=True,
        cross_attention_dim=8,
    )
    return LuminaPipeline(
        transformer=transformer,
        vae=vae(),
        text_encoder=_gemma(),
        tokenizer=t5_tokenizer(),
        scheduler=FlowMatchEulerDiscreteScheduler(),
    )


def _vae_by_eight() -> Any:
    """Its pipeline counts on latents of an eighth of the picture."""
    return AutoencoderKL(
        block_out_channels=(8, 8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        norm_num_groups=8,
    )


def hunyuan_dit() -> Any:
    transformer = HunyuanDiT2DModel(
        sample_size=16,
        num_layers=2,
        patch_size=2,
        attention_head_dim=8,
        num_attention_heads=3,
        in_channels=4,
        cross_attention_dim=32,
        cross_attention_dim_t5=32,
        pooled_projection_dim=16,
        hidden_size=24,
        activation_fn="gelu-approximate",
    )
    bert = BertModel(
        BertConfig(
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=37,
            vocab_size=VOCABULARY,
            max_position_embeddings=128,
        )
    )
    return HunyuanDiTPipeline(
        transformer=transformer,
        vae=_vae_by_eight(),
        text_encoder=bert,
        tokenizer=qwen_tokenizer(),
        text_encoder_2=t5_text(),
        tokenizer_2=t5_tokenizer(),
        scheduler=DDPMScheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def longcat() -> Any:
    from diffusers import LongCatImagePipeline, LongCatImageTransformer2DModel

    transformer = LongCatImageTransformer2DModel(
        patch_size=1,
        in_channels=64,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        pooled_projection_dim=16,
        axes_dims_rope=[4, 4, 8],
    )
    pipe = LongCatImagePipeline(
        transformer=transformer,
        vae=vae(16, 0.05),
        text_encoder=qwen_vl(),
        tokenizer=qwen_tokenizer(),
        text_processor=None,
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
    )
    pipe.tokenizer_max_length = 32
    return pipe


def cogview4() -> Any:
    from diffusers import CogView4Pipeline, CogView4Transformer2DModel
    from transformers import GlmConfig, GlmForCausalLM

    transformer = CogView4Transformer2DModel(
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        attention_head_dim=4,
        num_attention_heads=4,
        text_embed_dim=32,
        time_embed_dim=8,
        condition_dim=4,
        rope_axes_dim=(16, 16),
    )
    glm = GlmForCausalLM(
        GlmConfig(
            hidden_size=32,
            intermediate_size=8,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=8,
            vocab_size=VOCABULARY,
            pad_token_id=0,
            eos_token_id=2,
        )
    )
    tokenizer = t5_tokenizer()
    tokenizer.padding_side = "left"
    return CogView4Pipeline(
        transformer=transformer,
        vae=vae(),
        text_encoder=glm.model,
        tokenizer=tokenizer,
        scheduler=FlowMatchEulerDiscreteScheduler(base_shift=0.25, max_shift=0.75, use_dynamic_shifting=True),
    )


def qwen_controlnet() -> Any:
    from diffusers import QwenImageControlNetModel, QwenImageControlNetPipeline

    control = QwenImageControlNetModel(
        patch_size=2,
        in_channels=16,
        out_channels=4,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=3,
        joint_attention_dim=16,
        axes_dims_rope=(8, 4, 4),
    )
    parts = qwen_image().components
    pipe = QwenImageControlNetPipeline(**parts, controlnet=control)
    pipe.prompt_template_encode, pipe.prompt_template_encode_start_idx = "Draw:{}!!", 5
    return pipe
