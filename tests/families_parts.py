"""Tokenizers, text encoders and other parts of tiny pipelines, made without any download."""

from __future__ import annotations

import string
from typing import Any

import transformers
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    EulerDiscreteScheduler,
    UNet2DConditionModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    Qwen2Tokenizer,
    Qwen3Config,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

from negguide.versions import byte_pair_tokenizer

MODERN = int(transformers.__version__.split(".")[0]) >= 5
"""From transformers 5 on, a T5 tokenizer is made from a vocabulary; before, from a file of sentencepiece."""

LETTERS = string.ascii_letters + string.digits + string.punctuation


def clip_tokenizer() -> CLIPTokenizer:
    tokens = [*LETTERS, *(letter + "</w>" for letter in LETTERS), "<|startoftext|>", "<|endoftext|>"]
    return byte_pair_tokenizer(CLIPTokenizer, {t: i for i, t in enumerate(tokens)}, model_max_length=24)


def t5_tokenizer() -> Any:
    tokens = ["<pad>", "</s>", "<unk>", "\u2581", *LETTERS]
    vocab = [(t, -float(i > 2)) for i, t in enumerate(tokens)]
    if MODERN:
        return T5Tokenizer(vocab=vocab, extra_ids=0, model_max_length=24)
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import T5TokenizerFast

    pieces = Tokenizer(models.Unigram(vocab, unk_id=2))
    pieces.pre_tokenizer = pre_tokenizers.Metaspace()
    pieces.post_processor = processors.TemplateProcessing("$A </s>", "$A </s> $B </s>", [("</s>", 1)])
    return T5TokenizerFast(tokenizer_object=pieces, extra_ids=0, model_max_length=24)


def qwen_tokenizer() -> Qwen2Tokenizer:
    letters = [*LETTERS, "\u0120", "\u010a"]
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    vocab = {t: i for i, t in enumerate([*letters, *special])}
    tokenizer = byte_pair_tokenizer(Qwen2Tokenizer, vocab, model_max_length=512)
    tokenizer.chat_template = "{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}"
    return tokenizer


VOCABULARY = 256


def clip_text(hidden: int = 32, projected: bool = False, eos: int = 2 * len(LETTERS) + 1, positions: int = 24) -> Any:
    config = CLIPTextConfig(
        hidden_size=hidden,
        intermediate_size=37,
        num_attention_heads=4,
        num_hidden_layers=3,
        vocab_size=VOCABULARY,
        max_position_embeddings=positions,
        projection_dim=hidden,
        bos_token_id=eos - 1,
        eos_token_id=eos,
        pad_token_id=eos,
    )
    return CLIPTextModelWithProjection(config) if projected else CLIPTextModel(config)


def t5_text(width: int = 32) -> T5EncoderModel:
    return T5EncoderModel(
        T5Config(
            vocab_size=VOCABULARY, d_model=width, d_ff=37, d_kv=8, num_heads=4, num_layers=2, tie_word_embeddings=False
        )
    )


def vae(latents: int = 4, shift: float | None = None) -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(16, 32),
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D", "DownEncoderBlock2D"),
        up_block_types=("UpDecoderBlock2D", "UpDecoderBlock2D"),
        latent_channels=latents,
        norm_num_groups=8,
        shift_factor=shift or 0.0,
        scaling_factor=0.5,
        use_quant_conv=shift is None,
        use_post_quant_conv=shift is None,
    )


def unet(in_channels: int = 4, xl: bool = False, text: int = 64) -> UNet2DConditionModel:
    extra: dict[str, Any] = {}
    if xl:
        extra = {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 32 + 6 * 8,
            "use_linear_projection": True,
            "transformer_layers_per_block": (1, 2),
        }
    return UNet2DConditionModel(
        block_out_channels=(16, 32),
        layers_per_block=1,
        sample_size=16,
        in_channels=in_channels,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=text if xl else 32,
        attention_head_dim=(2, 4) if xl else 2,
        norm_num_groups=8,
        **extra,
    )


def euler() -> EulerDiscreteScheduler:
    return EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1, timestep_spacing="leading"
    )


def ddim() -> DDIMScheduler:
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def qwen3_config() -> Qwen3Config:
    return Qwen3Config(
        hidden_size=32,
        intermediate_size=37,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        vocab_size=VOCABULARY,
        max_position_embeddings=512,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
