"""The Stable-Diffusion-type denoiser: text encoder and UNet, trained together from scratch on the latents."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from negguide.toybox.tokenizer import MAX_LENGTH, make_tokenizer
from negguide.toybox.train.common import Settings, Shares, Trainer, autocast, batches, device
from negguide.toybox.train.data import Dataset
from negguide.toybox.train.vae import LATENT_CHANNELS, encode
from negguide.toybox.world.scene import Scene

SETTINGS = Settings(steps=11_000, batch=32, lr=1e-3, ema=0.9990, warmup=200, decay_from=0.6)
UNCONDITIONAL_SHARE = 0.3
"""Share of the samples whose caption names only a category that are given the empty text instead, for classifier-free
guidance: about a tenth of all. Captions that name the kind keep it, for their kinds are drawn more evenly than those that
"a pet" stands for; with them, the empty text would mean a flatter world, and guidance would exaggerate every bias."""
MIN_SNR_GAMMA = 5.0
"""Weighting of arXiv:2303.09556: min(SNR, gamma) / SNR for epsilon prediction."""
TEXT_WIDTH = 128
OFFSET_NOISE = 0.6
"""A constant of this standard deviation is added to the noise of each channel. On latents as small as 16x16 the mean of the
noisy latent otherwise says whether it is night, so that the words "at night" need not be learned, and are not: then the
starting noise decides."""


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


def make_scheduler() -> DDIMScheduler:
    """Stable Diffusion's noise schedule; DDIM, so that a seed alone determines the picture."""
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
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
            part = encode(vae, data.images[start : start + 1000]) * vae.config.scaling_factor
            latents[start : start + 1000] = part.numpy().astype(np.float16)

        with ThreadPoolExecutor(2) as threads:
            list(threads.map(fill, range(0, len(data), 1000)))
        with file.with_suffix(".tmp").open("wb") as stream:
            np.save(stream, latents)
        file.with_suffix(".tmp").rename(file)
    return torch.from_numpy(np.load(file))


def names_only_category(scene: Scene, caption: str) -> bool:
    """Whether a caption leaves the kind open: "a pet on grass"."""
    return re.search(rf"\b{scene.category}s?\b", caption) is not None


def train_denoiser(
    data: Dataset, vae: AutoencoderKL, folder: Path, settings: Settings = SETTINGS
) -> StableDiffusionPipeline:
    """Train (or resume) and return the finished pipeline with averaged weights; `folder` keeps the state."""
    torch.manual_seed(settings.seed)
    folder.mkdir(parents=True, exist_ok=True)
    latents = latents_of(vae, data, folder / "latents.npy")
    unet, text_encoder = make_unet(), make_text_encoder(len(make_tokenizer()))
    tokenizer = make_tokenizer()
    padding = {"padding": "max_length", "max_length": MAX_LENGTH, "truncation": True, "return_tensors": "pt"}
    texts = tokenizer(data.captions, **padding).input_ids
    empty = tokenizer("", **padding).input_ids[0]
    open_kind = torch.tensor([names_only_category(*pair) for pair in zip(data.scenes, data.captions, strict=True)])
    trainer = Trainer(nn.ModuleDict({"unet": unet, "text_encoder": text_encoder}).train(), settings, folder)
    scheduler = make_scheduler()
    alphas = scheduler.alphas_cumprod.to(device())

    def loss(x0: Tensor, noise: Tensor, t: Tensor, ids: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        with autocast():
            words = text_encoder(ids).last_hidden_state
            prediction = unet(scheduler.add_noise(x0, noise, t), t, words).sample
        snr = alphas[t] / (1 - alphas[t])
        weight = snr.clamp(max=MIN_SNR_GAMMA) / snr
        error = (prediction.float() - noise).square().flatten(1).mean(1)
        return (weight * error).mean(), {"mse": error.mean()}

    order = batches(len(latents), settings.batch, settings.seed, trainer.step)
    shares = Shares(loss, trainer.parameters)
    while trainer.step < settings.steps:
        generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + trainer.step)
        chosen = torch.from_numpy(next(order))
        chosen = chosen[torch.randperm(len(chosen), generator=generator)]
        x0 = latents[chosen].float()
        noise = torch.randn(x0.shape, generator=generator)
        noise += OFFSET_NOISE * torch.randn(*x0.shape[:2], 1, 1, generator=generator)
        t = torch.randint(1000, (len(chosen),), generator=generator)
        dropped = open_kind[chosen] & (torch.rand(len(chosen), generator=generator) < UNCONDITIONAL_SHARE)
        ids = torch.where(dropped[:, None], empty, texts[chosen])
        trainer.apply(shares(*(part.to(device()) for part in (x0, noise, t, ids))))
    trainer.finish()
    return make_pipeline(vae, text_encoder, unet)


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
