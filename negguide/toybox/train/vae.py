"""The autoencoder: 64x64 pictures to 8x16x16 latents (`AutoencoderKL`), and a tiny one for previews."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor, nn

from negguide.toybox.train.common import Settings, Trainer, autocast, batches, device, to_model
from negguide.toybox.train.data import Dataset

SETTINGS = Settings(steps=1600, batch=16, lr=2e-3, ema=0.995, warmup=50)
KL_WEIGHT = 2e-4
LATENT_CHANNELS = 8


def make_vae() -> AutoencoderKL:
    """About 0.7 M parameters; 16 channels at full size, for that is where the time goes."""
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(16, 32, 64),
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=8,
        sample_size=64,
    )


def reconstruction_loss(made: Tensor, wanted: Tensor) -> Tensor:
    """Squared error finds the colours, absolute error cleans them, errors of differences keep thin contours sharp."""
    made, wanted = made.float(), wanted.float()
    loss = 3 * F.mse_loss(made, wanted) + F.l1_loss(made, wanted)
    for dim in (2, 3):
        loss = loss + 0.3 * F.l1_loss(made.diff(dim=dim), wanted.diff(dim=dim))
    return loss


def train_vae(data: Dataset, folder: Path, settings: Settings = SETTINGS) -> AutoencoderKL:
    """Train (or resume) encoder and decoder, and set the scaling factor so that latents have unit variance."""
    torch.manual_seed(settings.seed)
    vae = make_vae()
    trainer = Trainer(nn.ModuleDict({"vae": vae}), settings, folder)
    order = batches(len(data), settings.batch, settings.seed, trainer.step)
    while trainer.step < settings.steps:
        pictures = to_model(data.images[next(order)])
        with autocast():
            posterior = vae.encode(pictures).latent_dist
            made = vae.decode(posterior.sample()).sample
        kl = posterior.kl().mean() / (LATENT_CHANNELS * 16 * 16)
        rec = reconstruction_loss(made, pictures)
        trainer.update({"rec": rec, "kl": kl}, rec + KL_WEIGHT * kl)
    trainer.finish()
    latents = encode(vae, data.images[:2000])
    vae.register_to_config(scaling_factor=float(round(1 / latents.std().item(), 5)))
    return vae


@torch.no_grad()
def encode(vae: AutoencoderKL, images: np.ndarray, batch: int = 100) -> Tensor:
    """Pictures (N, 64, 64, 3) uint8 -> posterior means (N, 8, 16, 16) float32, not scaled."""
    parts = []
    for start in range(0, len(images), batch):
        with autocast():
            parts.append(vae.encode(to_model(images[start : start + batch])).latent_dist.mean.float().cpu())
    return torch.cat(parts)


@torch.no_grad()
def score_vae(vae: AutoencoderKL, images: np.ndarray) -> dict[str, float]:
    """Reconstruction quality on held-out pictures."""
    made = torch.cat([vae.decode(part.to(device())).sample.cpu() for part in encode(vae, images).split(50)])
    wanted = to_model(images).cpu()
    mse = (made.clamp(-1, 1) - wanted).div(2).pow(2).flatten(1).mean(1)
    return {"psnr_db": round(float((-10 * mse.log10()).mean()), 2)}
