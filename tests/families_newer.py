"""Builders of tiny text-to-image pipelines around newer transformers, and of Kolors: small configs, random weights."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    AuraFlowPipeline,
    AuraFlowTransformer2DModel,
    CogVideoXDDIMScheduler,
    CogView3PlusPipeline,
    CogView3PlusTransformer2DModel,
    FlowMatchEulerDiscreteScheduler,
    KolorsPipeline,
)
from families_llms import qwen_vl
from families_parts import (
    VOCABULARY,
    clip_text,
    clip_tokenizer,
    euler,
    t5_text,
    t5_tokenizer,
    unet,
    vae,
)
from families_qwen import qwen_processor
from transformers import UMT5Config, UMT5EncoderModel


def aura_flow() -> Any:
    transformer = AuraFlowTransformer2DModel(
        sample_size=16,
        patch_size=1,
        in_channels=4,
        num_mmdit_layers=1,
        num_single_dit_layers=1,
        attention_head_dim=8,
        num_attention_heads=4,
        joint_attention_dim=32,
        caption_projection_dim=32,
        out_channels=4,
        pos_embed_max_size=256,
    )
    for name, parameter in transformer.named_parameters():
        if "norm1" in name and name.endswith("linear.weight"):
            # Gates that let the text through.
            torch.nn.init.normal_(parameter, std=4.0)
    text = UMT5EncoderModel(UMT5Config(vocab_size=VOCABULARY, d_model=32, d_ff=37, d_kv=8, num_heads=4, num_layers=2))
    return AuraFlowPipeline(
        transformer=transformer,
        vae=vae(),
        text_encoder=text,
        tokenizer=t5_tokenizer(),
        scheduler=FlowMatchEulerDiscreteScheduler(),
    )


def cogview3() -> Any:
    transformer = CogView3PlusTransformer2DModel(
        patch_size=2,
        in_channels=4,
        num_layers=2,
        attention_head_dim=4,
        num_attention_heads=4,
        out_channels=4,
        text_embed_dim=32,
        time_embed_dim=8,
        condition_dim=2,
        pos_embed_max_size=16,
        sample_size=8,
    )
    return CogView3PlusPipeline(
        transformer=transformer,
        vae=vae(),
        text_encoder=t5_text(),
        tokenizer=t5_tokenizer(),
        scheduler=CogVideoXDDIMScheduler(),
    )


class _ChatTokenizer:
    """A tokenizer that also says where tokens stand, as ChatGLM's does."""

    def __init__(self) -> None:
        self.inner = t5_tokenizer()
        self.model_max_length = 24
        self.all_special_ids = self.inner.all_special_ids

    def __call__(self, text: Any, **more: Any) -> Any:
        found = self.inner(text, **more)
        if isinstance(found["input_ids"], torch.Tensor):
            mask = found["attention_mask"]
            found["position_ids"] = (mask.cumsum(1) - 1).clamp(min=0)
        return found


def kolors() -> Any:
    from diffusers.pipelines.kolors.text_encoder import ChatGLMConfig, ChatGLMModel

    text = ChatGLMModel(
        ChatGLMConfig(
            num_layers=2,
            padded_vocab_size=VOCABULARY,
            hidden_size=32,
            ffn_hidden_size=37,
            kv_channels=8,
            num_attention_heads=4,
            seq_length=64,
            multi_query_attention=True,
            multi_query_group_num=2,
            add_bias_linear=False,
            add_qkv_bias=True,
            original_rope=True,
            use_cache=True,
            torch_dtype="float32",
        )
    )
    for name, parameter in text.named_parameters():
        if "norm" in name:
            torch.nn.init.ones_(parameter)
        else:
            torch.nn.init.normal_(parameter, std=0.3)
    pipe = KolorsPipeline(
        vae=vae(),
        text_encoder=text,
        tokenizer=t5_tokenizer(),
        unet=unet(xl=True, text=32),
        scheduler=euler(),
        force_zeros_for_empty_prompt=False,
    )
    pipe.tokenizer = _ChatTokenizer()
    return pipe


def kandinsky5() -> Any:
    from diffusers import Kandinsky5T2IPipeline

    pipe = Kandinsky5T2IPipeline(
        transformer=kandinsky5_transformer(),
        vae=vae(),
        text_encoder=qwen_vl(),
        tokenizer=qwen_processor(),
        text_encoder_2=clip_text(positions=77),
        tokenizer_2=clip_tokenizer(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=5.0),
    )
    pipe.prompt_template, pipe.prompt_template_encode_start_idx = "Draw:{}!!", 5
    pipe.resolutions = [(32, 32)]
    return pipe


def kandinsky5_transformer() -> Any:
    from diffusers import Kandinsky5Transformer3DModel

    return Kandinsky5Transformer3DModel(
        in_visual_dim=4,
        in_text_dim=16,
        in_text_dim2=32,
        time_dim=16,
        out_visual_dim=4,
        patch_size=(1, 2, 2),
        model_dim=24,
        ff_dim=32,
        num_text_blocks=1,
        num_visual_blocks=2,
        axes_dims=(4, 4, 4),
    )


def prx() -> Any:
    from diffusers import PRXPipeline, PRXTransformer2DModel

    transformer = PRXTransformer2DModel(
        in_channels=4,
        patch_size=2,
        context_in_dim=32,
        hidden_size=16,
        mlp_ratio=2.0,
        num_heads=2,
        depth=2,
        axes_dim=[4, 4],
    )
    torch.nn.init.normal_(transformer.txt_in.weight, std=1.0)
    return PRXPipeline(
        transformer=transformer,
        vae=vae(4, 0.05),
        text_encoder=t5_text(),
        tokenizer=t5_tokenizer(),
        scheduler=FlowMatchEulerDiscreteScheduler(),
        default_sample_size=32,
    )
