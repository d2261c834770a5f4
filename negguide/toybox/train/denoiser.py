"""The Stable-Diffusion-type denoiser: text encoder and UNet, trained together from scratch on the latents."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from negguide.toybox.tokenizer import MAX_LENGTH, make_tokenizer
from negguide.toybox.train.common import Settings, Trainer, autocast, batches, device
from negguide.toybox.train.data import Dataset
from negguide.toybox.train.vae import LATENT_CHANNELS, encode

SETTINGS = Settings(steps=10_000, batch=32, lr=1e-3, ema=0.9990, warmup=200, decay_from=0.6)
UNCONDITIONAL_SHARE = 0.1
"""Share of samples whose caption is replaced by the empty text, for classifier-free guidance."""
MIN_SNR_GAMMA = 5.0
"""Weighting of arXiv:2303.09556: min(SNR, gamma) / SNR for epsilon prediction."""
TEXT_WIDTH = 128
WORKERS = 2
"""Threads that each take an equal share of a batch; on CPUs faster than the threads inside the operators."""
BETA_END = 0.012
"""Stable Diffusion's schedule."""
TUNING = Settings(steps=1200, batch=32, lr=6e-4, ema=0.995, warmup=50, decay_from=0.5, seed=1)
TUNING_OFFSET = 0.6
"""A second stage with much offset noise: a constant of this standard deviation is added to the noise of each channel. On
latents as small as 16x16 the mean of the noisy latent otherwise says whether it is night, so that the words "at night"
need not be learned, and are not: then the starting noise decides."""
PHASES = ((3840, 0.012, 0.0), (5839, 0.025, 0.0), (SETTINGS.steps, 0.012, 0.15))
"""(until step, beta_end, offset noise) of the first stage of the released run, as it was before that was understood: it is
part of the recipe. More noise at the end of the schedule gave pale pictures, for epsilon then says next to nothing about
x0; offset noise of 0.15 was too little."""


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


def make_text_encoder(vocab_size: int) -> CLIPTextModel:
    """Three layers of width 128 over at most 32 tokens."""
    config = CLIPTextConfig(
        vocab_size=vocab_size,
        hidden_size=TEXT_WIDTH,
        intermediate_size=4 * TEXT_WIDTH,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=MAX_LENGTH,
        projection_dim=TEXT_WIDTH,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    return CLIPTextModel(config)


def make_scheduler(beta_end: float = BETA_END) -> DDIMScheduler:
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


Phase = Callable[[int], tuple[float, float]]
"""Step of training -> `beta_end` and offset noise."""


def first_stage(step: int) -> tuple[float, float]:
    """The phases of the first stage."""
    return next((beta_end, offset) for until, beta_end, offset in PHASES if step < until)


def second_stage(step: int) -> tuple[float, float]:
    """The same throughout."""
    return BETA_END, TUNING_OFFSET


def latents_of(vae: AutoencoderKL, data: Dataset, file: Path) -> Tensor:
    """Scaled latents (N, 8, 16, 16) float16 of all pictures, encoded once, by two threads, and kept in `file`."""
    if not file.exists():
        latents = np.zeros((len(data), LATENT_CHANNELS, 16, 16), np.float16)

        def fill(start: int) -> None:
            part = encode(vae, data.images[start : start + 1000]) * vae.config.scaling_factor
            latents[start : start + 1000] = part.numpy().astype(np.float16)

        with ThreadPoolExecutor(2) as threads:
            list(threads.map(fill, range(0, len(data), 1000)))
        with file.with_suffix(".tmp").open("wb") as stream:
            np.save(stream, latents)
        file.with_suffix(".tmp").rename(file)
    return torch.from_numpy(np.load(file))


def train_denoiser(data: Dataset, vae: AutoencoderKL, folder: Path) -> StableDiffusionPipeline:
    """Train (or resume) both stages and return the finished pipeline with averaged weights."""
    torch.manual_seed(SETTINGS.seed)
    folder.mkdir(parents=True, exist_ok=True)
    latents = latents_of(vae, data, folder / "latents.npy")
    modules = nn.ModuleDict({"unet": make_unet(), "text_encoder": make_text_encoder(len(make_tokenizer()))})
    train_stage(modules, latents, data.captions, folder, SETTINGS, first_stage)
    train_stage(modules, latents, data.captions, folder / "tuning", TUNING, second_stage)
    return make_pipeline(vae, modules["text_encoder"], modules["unet"])


def train_stage(
    modules: nn.ModuleDict, latents: Tensor, captions: list[str], folder: Path, settings: Settings, phase: Phase
) -> None:
    """Train (or resume) one stage in place; `folder` keeps its state."""
    unet, text_encoder = modules["unet"], modules["text_encoder"]
    tokenizer = make_tokenizer()
    padding = {"padding": "max_length", "max_length": MAX_LENGTH, "truncation": True, "return_tensors": "pt"}
    texts = tokenizer(captions, **padding).input_ids
    empty = tokenizer("", **padding).input_ids[0]
    trainer = Trainer(modules.train(), settings, folder)
    schedulers: dict[float, DDIMScheduler] = {}

    def gradients(x0: Tensor, noise: Tensor, t: Tensor, ids: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        scheduler = schedulers[phase(trainer.step)[0]]
        alphas = scheduler.alphas_cumprod.to(t.device)
        with autocast():
            words = text_encoder(ids).last_hidden_state
            prediction = unet(scheduler.add_noise(x0, noise, t), t, words).sample
        snr = alphas[t] / (1 - alphas[t])
        weight = snr.clamp(max=MIN_SNR_GAMMA) / snr
        error = (prediction.float() - noise).square().flatten(1).mean(1)
        return error.detach().mean(), torch.autograd.grad(
            (weight * error).mean(), trainer.parameters, allow_unused=True
        )

    order = batches(len(latents), settings.batch, settings.seed, trainer.step)
    with ThreadPoolExecutor(WORKERS) as workers:
        while trainer.step < settings.steps:
            beta_end, offset = phase(trainer.step)
            schedulers.setdefault(beta_end, make_scheduler(beta_end))
            chosen = torch.from_numpy(next(order))
            chosen = chosen[torch.randperm(len(chosen), generator=torch.Generator().manual_seed(trainer.step))]
            generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + trainer.step)
            x0 = latents[chosen].to(device(), torch.float32)
            noise = torch.randn(x0.shape, generator=generator)
            noise += offset * torch.randn(*x0.shape[:2], 1, 1, generator=generator)
            t = torch.randint(1000, (len(chosen),), generator=generator).to(device())
            dropped = torch.rand(len(chosen), generator=generator) < UNCONDITIONAL_SHARE
            ids = torch.where(dropped[:, None], empty, texts[chosen]).to(device())
            parts = [part.chunk(WORKERS) for part in (x0, noise.to(x0), t, ids)]
            errors, slopes = zip(*workers.map(gradients, *parts), strict=True)
            for parameter, *shares in zip(trainer.parameters, *slopes, strict=True):
                parameter.grad = None if shares[0] is None else torch.stack(shares).mean(0)
            trainer.apply({"mse": torch.stack(errors).mean()})
    trainer.finish()


def make_pipeline(
    vae: AutoencoderKL, text_encoder: CLIPTextModel, unet: UNet2DConditionModel
) -> StableDiffusionPipeline:
    """The stock pipeline of the three parts, without a safety checker."""
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=make_tokenizer(),
        unet=unet,
        scheduler=make_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
