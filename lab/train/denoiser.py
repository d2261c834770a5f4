"""The Stable-Diffusion-type denoiser: text encoder and UNet, trained together from scratch on the latents."""

from __future__ import annotations

from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from lab.train.common import Settings, Shares, Trainer, attention_kernels, autocast, device
from lab.train.data import Dataset
from lab.train.samples import Phase, Stage, samples
from lab.train.vae import LATENT_CHANNELS, encode
from negguide.toybox.tokenizer import MAX_LENGTH, make_tokenizer

MIN_SNR_GAMMA = 5.0
"""Weighting of arXiv:2303.09556: min(SNR, gamma) / SNR for epsilon prediction."""
TEXT_WIDTH = 128


STAGES = {
    "first": Stage(
        Settings(steps=10_000, batch=32, lr=1e-3, ema=0.999, warmup=200, decay_from=0.6),
        (Phase(3840), Phase(5839, beta_end=0.025), Phase(10_000, offset=0.15)),
    ),
    "offset": Stage(
        Settings(steps=1200, batch=32, lr=6e-4, ema=0.995, warmup=50, decay_from=0.5, seed=1),
        (Phase(1200, offset=0.6),),
    ),
    "last": Stage(
        Settings(steps=5000, batch=32, lr=7e-4, ema=0.999, warmup=100, decay_from=0.4, seed=2),
        (Phase(5000, offset=0.6),),
        drop=0.3,
        drop_open_only=True,
    ),
    "words": Stage(
        Settings(steps=400, batch=64, lr=2e-3, ema=0.98, warmup=20, decay_from=0.2, weight_decay=0.0, seed=14),
        (Phase(400, offset=0.6),),
        words={"pet": 1.0, "face": 0.25},
    ),
}
"""What made the released weights, one after the other; `docs/training.md` says why it is not simply one stage."""


def make_unet() -> UNet2DConditionModel:
    """About 5 M parameters; attention at 8x8 and 4x4, which is where a 64x64 drawing's parts are one token."""
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=(64, 96, 128),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=4,
        norm_num_groups=16,
    )


def text_config(vocab_size: int, width: int, layers: int, heads: int) -> CLIPTextConfig:
    """A small CLIP text encoder over at most 32 tokens of the world's tokenizer."""
    return CLIPTextConfig(
        vocab_size=vocab_size,
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        max_position_embeddings=MAX_LENGTH,
        projection_dim=width,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )


def make_text_encoder(vocab_size: int) -> CLIPTextModel:
    """Three layers of width 128."""
    return CLIPTextModel(text_config(vocab_size, TEXT_WIDTH, layers=3, heads=4))


def make_scheduler(beta_end: float = 0.012) -> DDIMScheduler:
    """Stable Diffusion's noise schedule; DDIM, so that a seed alone determines the picture."""
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=beta_end,
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        timestep_spacing="trailing",
    )


def latents_of(vae: AutoencoderKL, data: Dataset, file: Path) -> Tensor:
    """Scaled latents (N, 8, 16, 16) float16 of all pictures, encoded once, by two threads, and kept in `file`."""
    if not file.exists():
        latents = np.zeros((len(data), LATENT_CHANNELS, 16, 16), np.float16)

        def fill(start: int) -> None:
            part = encode(vae, data.images[start : start + 1000]) * vae.config["scaling_factor"]
            latents[start : start + 1000] = part.numpy().astype(np.float16)

        with ThreadPoolExecutor(2) as threads:
            list(threads.map(fill, range(0, len(data), 1000)))
        with file.with_suffix(".tmp").open("wb") as stream:
            np.save(stream, latents)
        file.with_suffix(".tmp").rename(file)
    return torch.from_numpy(np.load(file))


def train_denoiser(data: Dataset, vae: AutoencoderKL, folder: Path) -> StableDiffusionPipeline:
    """Train (or resume) all stages and return the finished pipeline with averaged weights; `folder` keeps the states."""
    torch.manual_seed(STAGES["first"].settings.seed)
    folder.mkdir(parents=True, exist_ok=True)
    latents = latents_of(vae, data, folder / "latents.npy")
    modules = nn.ModuleDict({"unet": make_unet(), "text_encoder": make_text_encoder(len(make_tokenizer()))})
    for name, stage in STAGES.items():
        train_stage(modules, latents, data, folder / name, stage)
    return make_pipeline(vae, cast(CLIPTextModel, modules["text_encoder"]), cast(UNet2DConditionModel, modules["unet"]))


def train_stage(modules: nn.ModuleDict, latents: Tensor, data: Dataset, folder: Path, stage: Stage) -> None:
    """Train (or resume) one stage in place; `folder` keeps its state. A stage of words is the last one: the rest is left frozen."""
    unet, text_encoder = modules["unet"], modules["text_encoder"]
    modules.train()
    if stage.words:
        modules.requires_grad_(False)
        free_words(cast(CLIPTextModel, text_encoder), stage.words)
    trainer = Trainer(modules, stage.settings, folder)
    schedulers = {phase.beta_end: make_scheduler(phase.beta_end) for phase in stage.phases}

    def loss(x0: Tensor, noise: Tensor, t: Tensor, ids: Tensor, share: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        scheduler = schedulers[stage.phase(trainer.step).beta_end]
        alphas = scheduler.alphas_cumprod.to(t.device)
        with autocast():
            words = text_encoder(ids).last_hidden_state
            prediction = unet(scheduler.add_noise(x0, noise, cast(torch.IntTensor, t)), t, words).sample
        snr = alphas[t] / (1 - alphas[t])
        weight = share * snr.clamp(max=MIN_SNR_GAMMA) / snr
        error = (prediction.float() - noise).square().flatten(1).mean(1)
        return (weight * error).mean(), {"mse": error.mean()}

    shares = Shares(loss, trainer.parameters)
    draws = samples(stage, latents, data, trainer.step)
    with attention_kernels():
        while trainer.step < stage.settings.steps:
            trainer.apply(shares(*(part.to(device()) for part in next(draws))))
    trainer.finish()


def free_words(text_encoder: CLIPTextModel, categories: Collection[str]) -> None:
    """Let the vectors of the words for these categories be trained, and no other row of theirs."""
    words = [f"{category}{end}</w>" for category in categories for end in ("", "s")]
    vectors = cast(nn.Parameter, text_encoder.get_input_embeddings().weight)
    chosen = torch.zeros(len(vectors), 1, device=vectors.device)
    chosen[make_tokenizer().convert_tokens_to_ids(words)] = 1
    vectors.requires_grad_().register_hook(lambda slope: slope * chosen)


def make_pipeline(
    vae: AutoencoderKL, text_encoder: CLIPTextModel, unet: UNet2DConditionModel
) -> StableDiffusionPipeline:
    """The stock pipeline of the three parts, without a safety checker."""
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=make_tokenizer(),
        unet=unet,
        scheduler=make_scheduler(),  # type: ignore[arg-type]  # diffusers names an enum of schedulers for them
        safety_checker=None,  # type: ignore[arg-type]  # diffusers takes None and does not say so
        feature_extractor=None,  # type: ignore[arg-type]  # the same
        requires_safety_checker=False,
    )
