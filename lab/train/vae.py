"""The autoencoder: 64x64 pictures to 8x16x16 latents (`AutoencoderKL`), and a tiny one for previews."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor, nn

from lab.train.common import Loss, Settings, Shares, Trainer, autocast, batches, device, to_model
from lab.train.data import Dataset
from lab.train.sharpness import sharpness

SETTINGS = Settings(steps=1600, batch=16, lr=2e-3, ema=0.995, warmup=50)
"""First encoder and decoder together, not for long: see `docs/training.md`."""
SHARPENING = Settings(steps=2600, batch=16, lr=1.5e-3, ema=0.998, warmup=50, decay_from=0.25, seed=1)
"""Then again, with the latents held near those of the first stage, so that a denoiser of those needs little to follow."""
KL_WEIGHT = 2e-4
ANCHOR_WEIGHT = 0.1
"""In the second stage, of the squared distance to the first stage's latents, in units of their variance."""
LATENT_NOISE = 0.15
"""In the second stage, the largest noise on a picture's latents, in units of their standard deviation."""
LATENT_CHANNELS = 8
RECONSTRUCTED = 2000
"""Held-out renders whose reconstructions the judges are measured on."""


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


def train_vae(data: Dataset, folder: Path) -> AutoencoderKL:
    """Both stages, trained or resumed."""
    torch.manual_seed(SETTINGS.seed)
    vae = make_vae()
    train_both(vae, data, folder)
    sharpen(vae, data, folder / "sharpening")
    return vae


def train_both(vae: AutoencoderKL, data: Dataset, folder: Path, settings: Settings = SETTINGS) -> None:
    """Train encoder and decoder, and set the scaling factor so that latents have unit variance."""
    trainer = Trainer(nn.ModuleDict({"vae": vae}), settings, folder)

    def loss(pictures: Tensor, noise: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        with autocast():
            posterior = vae.encode(pictures).latent_dist
            made = vae.decode(posterior.mean + posterior.std * noise).sample
        kl = posterior.kl().mean() / noise[0].numel()
        rec = reconstruction_loss(made, pictures)
        return rec + KL_WEIGHT * kl, {"rec": rec, "kl": kl}

    _train(trainer, data, loss)
    latents = encode(vae, data.images[:2000])
    vae.register_to_config(scaling_factor=float(round(1 / latents.std().item(), 5)))


def sharpen(vae: AutoencoderKL, data: Dataset, folder: Path, settings: Settings = SHARPENING) -> None:
    """Train encoder and decoder further, close to the latents that the encoder gives now."""
    before = nn.Module.to(copy.deepcopy(vae), device()).requires_grad_(False)
    trainer = Trainer(nn.ModuleDict({"vae": vae.train()}), settings, folder)
    spread = 1 / vae.config["scaling_factor"]

    def loss(pictures: Tensor, noise: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        strength = LATENT_NOISE * spread * torch.linspace(0, 1, len(noise), device=noise.device)
        with autocast():
            with torch.no_grad():
                anchors = before.encode(pictures).latent_dist.mean.float()
            latents = vae.encode(pictures).latent_dist.mean.float()
            made = vae.decode(latents + strength.view(-1, 1, 1, 1) * noise).sample
        rec = reconstruction_loss(made, pictures)
        moved = F.mse_loss(latents, anchors) / spread**2
        return rec + ANCHOR_WEIGHT * moved, {"rec": rec, "mse": F.mse_loss(made.float(), pictures), "moved": moved}

    _train(trainer, data, loss)


def _train(trainer: Trainer, data: Dataset, loss: Loss) -> None:
    settings = trainer.settings
    order = batches(len(data), settings.batch, settings.seed, trainer.step)
    shares = Shares(loss, trainer.parameters)
    while trainer.step < settings.steps:
        generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + trainer.step)
        noise = torch.randn(settings.batch, LATENT_CHANNELS, 16, 16, generator=generator).to(device())
        chosen = torch.from_numpy(next(order))[torch.randperm(settings.batch, generator=generator)]
        trainer.apply(shares(to_model(data.images[chosen.numpy()]), noise))
    trainer.finish()


def load_vae(work: Path) -> AutoencoderKL:
    """The trained autoencoder of a work folder, whose latents the denoisers learn."""
    return AutoencoderKL.from_pretrained(work / "vae" / "model").eval()


@torch.no_grad()
def encode(vae: AutoencoderKL, images: np.ndarray, batch: int = 100) -> Tensor:
    """Pictures (N, H, W, 3) uint8 -> posterior means (N, 8, 16, 16) float32, not scaled."""
    parts = []
    for start in range(0, len(images), batch):
        with autocast():
            parts.append(vae.encode(to_model(images[start : start + batch])).latent_dist.mean.float().cpu())
    return torch.cat(parts)


@torch.no_grad()
def reconstruct(vae: AutoencoderKL, images: np.ndarray) -> np.ndarray:
    """Pictures (N, H, W, 3) uint8 through the autoencoder: uint8 of the same shape."""
    made = np.empty(images.shape, np.uint8)
    for start in range(0, len(images), 50):
        with autocast():
            decoded = vae.decode(vae.encode(to_model(images[start : start + 50])).latent_dist.mean).sample.float()
        levels = decoded.clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)
        made[start : start + 50] = levels.permute(0, 2, 3, 1).cpu().numpy()
    return made


@torch.no_grad()
def score_vae(vae: AutoencoderKL, images: np.ndarray) -> dict[str, float]:
    """Of held-out pictures through the autoencoder: PSNR, and edge sharpness relative to the pictures'."""
    psnr, edges = [], []
    for start in range(0, len(images), 50):
        wanted = to_model(images[start : start + 50])
        made = vae.decode(vae.encode(wanted).latent_dist.mean).sample.float().clamp(-1, 1)
        psnr.append(-10 * (made - wanted).div(2).square().flatten(1).mean(1).log10())
        edges.append(torch.stack([sharpness(made), sharpness(wanted)]))
    reached, true = torch.cat(edges, 1).mean(1).tolist()
    return {"psnr_db": round(float(torch.cat(psnr).mean()), 2), "sharpness": round(reached / true, 3)}
