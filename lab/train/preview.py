"""The tiny autoencoder (`AutoencoderTiny`) that shows a watcher what forms, at a sixth of the cost of the real decoder."""

from __future__ import annotations

import json
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny
from torch import Tensor, nn

from lab.train.common import Settings, Trainer, autocast, batches, device, to_model
from lab.train.data import Dataset
from lab.train.vae import LATENT_CHANNELS, reconstruction_loss

SETTINGS = Settings(steps=2000, batch=16, lr=3e-3, ema=0.995, warmup=50, decay_from=0.3, seed=6)
LATENT_NOISE = 0.1
"""Largest standard deviation of the noise on the latents, which have about unit variance."""


def make_preview() -> AutoencoderTiny:
    """About 40 thousand parameters; scaled latents (8, 16, 16) to pictures of 64x64 pixels. The encoder is never used."""
    return AutoencoderTiny(
        latent_channels=LATENT_CHANNELS,
        encoder_block_out_channels=(16, 16, 16),
        num_encoder_blocks=(0, 0, 0),
        decoder_block_out_channels=(16, 16, 16),
        num_decoder_blocks=(3, 2, 0),
    )


def train_preview(data: Dataset, latents: Tensor, folder: Path, settings: Settings = SETTINGS) -> AutoencoderTiny:
    """Train (or resume) the decoder to draw the renders from their scaled latents (N, 8, 16, 16)."""
    torch.manual_seed(settings.seed)
    preview = make_preview()
    decoder = preview.decoder.to(memory_format=torch.channels_last)
    trainer = Trainer(nn.ModuleDict({"decoder": decoder}), settings, folder)
    torch.manual_seed(settings.seed + trainer.step)
    order = batches(len(data), settings.batch, settings.seed, trainer.step)
    while trainer.step < settings.steps:
        index = next(order)
        seen = latents[torch.from_numpy(index)].float().to(device())
        seen = seen + torch.rand(len(seen), 1, 1, 1, device=seen.device) * LATENT_NOISE * torch.randn_like(seen)
        wanted = to_model(data.images[index])
        with autocast():
            made = decoder(seen.contiguous(memory_format=torch.channels_last))
        loss = reconstruction_loss(made, wanted)
        trainer.update({"rec": loss, "mse": F.mse_loss(made.float(), wanted)}, loss)
    trainer.finish()
    return preview.eval()


def save_preview(preview: AutoencoderTiny, folder: Path) -> None:
    """Write it in the public format, float16."""
    preview.half().save_pretrained(folder, safe_serialization=True)
    preview.float()
    config = json.loads((folder / "config.json").read_text())
    for name in ("block_out_channels", "_name_or_path"):  # the class writes the first, and warns of it when it reads it
        config.pop(name, None)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    for file in folder.iterdir():
        file.chmod(0o644)


@torch.no_grad()
def show(preview: AutoencoderTiny, latents: Tensor, batch: int = 64) -> Tensor:
    """Scaled latents (N, 8, 16, 16) -> pictures (N, 64, 64, 3) uint8."""
    parts = []
    for part in latents.split(batch):
        made = preview.decode(part.to(device()).float()).sample.clamp(-1, 1).add(1).mul(127.5).round()
        parts.append(made.to(torch.uint8).permute(0, 2, 3, 1).cpu())
    return torch.cat(parts)
