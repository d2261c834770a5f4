"""The flow-matching denoiser: two text encoders and an MMDiT in the format of Stable Diffusion 3, on the same latents."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import cast

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel
from diffusers.pipelines.stable_diffusion_3.pipeline_stable_diffusion_3 import StableDiffusion3Pipeline
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from lab.train.common import Settings, Shares, Trainer, attention_kernels, autocast, batches, device
from lab.train.data import Dataset
from lab.train.denoiser import TEXT_WIDTH, latents_of, text_config
from lab.train.samples import names_only_category
from lab.train.vae import LATENT_CHANNELS
from negguide.toybox.tokenizer import MAX_LENGTH, make_tokenizer

STAGES = {
    "mmdit": Settings(steps=8000, batch=32, lr=1e-3, ema=0.999, warmup=300, decay_from=0.4, seed=3),
    "mmdit/second": Settings(steps=2000, batch=32, lr=6e-4, ema=0.998, warmup=50, seed=6),
    "mmdit/third": Settings(steps=5000, batch=64, lr=1e-3, ema=0.999, warmup=100, decay_from=0.3, seed=8),
}
"""One after the other; each begins with the averaged weights of the one before."""
SECOND_WIDTH = 64
"""Of the second text encoder; the first has the architecture of the SD pipeline's and starts from its weights."""
DROP = 0.3
"""Share of the captions naming only a category that become the empty text; see `denoiser.Stage`."""
T5_TOKENS, T5_SHARE = 256, 0.03
"""The pipeline without a T5 encoder appends this many zero tokens to each text; in this share of the steps we do too."""


def make_transformer() -> SD3Transformer2DModel:
    """About 6.5 M parameters: 7 joint blocks of width 160 over 8x8 tokens of 2x2 latents."""
    return SD3Transformer2DModel(
        sample_size=16,
        patch_size=2,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        num_layers=7,
        attention_head_dim=32,
        num_attention_heads=5,
        joint_attention_dim=TEXT_WIDTH + SECOND_WIDTH,
        caption_projection_dim=160,
        pooled_projection_dim=TEXT_WIDTH + SECOND_WIDTH,
        pos_embed_max_size=8,
        qk_norm="rms_norm",
    )


def make_second_text_encoder(vocab_size: int) -> CLIPTextModelWithProjection:
    """Two layers of width 64."""
    return CLIPTextModelWithProjection(text_config(vocab_size, SECOND_WIDTH, layers=2, heads=2))


def with_projection(encoder: CLIPTextModel) -> CLIPTextModelWithProjection:
    """The same weights, and a projection of the pooled state that begins as the identity."""
    config = copy.deepcopy(encoder.config)
    config.projection_dim = config.hidden_size
    grown = CLIPTextModelWithProjection(config)
    weights = encoder.state_dict()
    if not any(name.startswith("text_model.") for name in weights):
        weights = {f"text_model.{name}": value for name, value in weights.items()}
    grown.load_state_dict({**weights, "text_projection.weight": torch.eye(config.hidden_size)})
    return grown


def encode_texts(modules: nn.ModuleDict, ids: Tensor, zeros: int = 0) -> tuple[Tensor, Tensor]:
    """What `StableDiffusion3Pipeline.encode_prompt` makes of token ids (B, L) when there is no third encoder.

    Returns:
        Words (B, L + zeros, 192) and the pooled texts (B, 192).
    """
    first, second = (modules[name](ids, output_hidden_states=True) for name in ("text_encoder", "text_encoder_2"))
    words = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], -1)
    if zeros:
        words = torch.cat([words, words.new_zeros(len(ids), zeros, words.shape[-1])], 1)
    return words, torch.cat([first.text_embeds, second.text_embeds], -1)


def train_mmdit(data: Dataset, base: nn.Module, vae: AutoencoderKL, folder: Path) -> StableDiffusion3Pipeline:
    """Train (or resume) it and return the finished pipeline with averaged weights.

    Args:
        base: text encoder of the SD pipeline, from whose weights the first one starts.
        vae: whose latents it learns.
        folder: named "mmdit"; keeps the states, and the latents, which are encoded once.
    """
    torch.manual_seed(STAGES["mmdit"].seed)
    folder.mkdir(parents=True, exist_ok=True)
    latents = latents_of(vae, data, folder / "latents.npy")
    modules = nn.ModuleDict(
        {
            "transformer": make_transformer(),
            "text_encoder": with_projection(cast(CLIPTextModel, base)),
            "text_encoder_2": make_second_text_encoder(len(make_tokenizer())),
        }
    )
    for name, settings in STAGES.items():
        train_flow(modules, latents, data, folder.parent / name, settings)
    return make_pipeline(vae, modules)


def train_flow(modules: nn.ModuleDict, latents: Tensor, data: Dataset, folder: Path, settings: Settings) -> None:
    """Rectified flow (arXiv:2403.03206): between picture and noise on a straight line, learn its direction.

    Times are drawn logit-normally, as there; `modules` are left with the averaged weights.
    """
    tokenizer = make_tokenizer()
    padding = {"padding": "max_length", "max_length": MAX_LENGTH, "truncation": True, "return_tensors": "pt"}
    texts = tokenizer(data.captions, **padding).input_ids
    empty = tokenizer("", **padding).input_ids[0]
    pairs = zip(data.scenes, data.captions, strict=True)
    droppable = torch.tensor([names_only_category(scene, caption) for scene, caption in pairs])
    trainer = Trainer(modules.train(), settings, folder)
    zeros = 0

    def loss(x0: Tensor, noise: Tensor, sigma: Tensor, ids: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        level = sigma[:, None, None, None]
        with autocast():
            words, pooled = encode_texts(modules, ids, zeros)
            velocity = modules["transformer"]((1 - level) * x0 + level * noise, words, pooled, 1000 * sigma).sample
        error = (velocity.float() - (noise - x0)).square().mean()
        return error, {"mse": error}

    order = batches(len(latents), settings.batch, settings.seed, trainer.step)
    shares = Shares(loss, trainer.parameters)
    with attention_kernels():
        while trainer.step < settings.steps:
            generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + trainer.step)
            chosen = torch.from_numpy(next(order))
            chosen = chosen[torch.randperm(len(chosen), generator=generator)]
            x0 = latents[chosen].float()
            noise = torch.randn(x0.shape, generator=generator)
            sigma = torch.randn(len(chosen), generator=generator).sigmoid()
            dropped = droppable[chosen] & (torch.rand(len(chosen), generator=generator) < DROP)
            ids = torch.where(dropped[:, None], empty, texts[chosen])
            zeros = T5_TOKENS * int(torch.rand((), generator=generator) < T5_SHARE)
            trainer.apply(shares(*(part.to(device()) for part in (x0, noise, sigma, ids))))
    trainer.finish()


def make_pipeline(vae: AutoencoderKL, modules: nn.ModuleDict) -> StableDiffusion3Pipeline:
    """The stock pipeline of the parts, without a T5 encoder."""
    vae = copy.deepcopy(vae)
    vae.register_to_config(shift_factor=0.0)
    return StableDiffusion3Pipeline(
        transformer=cast(SD3Transformer2DModel, modules["transformer"]),
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=vae,
        text_encoder=cast(CLIPTextModelWithProjection, modules["text_encoder"]),
        tokenizer=make_tokenizer(),
        text_encoder_2=cast(CLIPTextModelWithProjection, modules["text_encoder_2"]),
        tokenizer_2=make_tokenizer(),
        text_encoder_3=None,  # type: ignore[arg-type]  # diffusers takes None and does not say so
        tokenizer_3=None,
    )
