"""The autoencoder that the bundled pipelines carry: 128x128 pictures from and to the latents of the first, 64x64, one.

The denoisers were trained on the latents of the first autoencoder (`vae.py`) and stay as they are. A new encoder learns to
give the same latents for a picture of twice the side; a larger decoder learns to draw at 128x128 what they mean: from the
encoder's latents with a little noise, and from latents that the pipeline has made itself, out of renders noised part of
the way (the idea of SDEdit, arXiv:2108.01073), for which the render is the truth. At the end a small discriminator of
patches (arXiv:1611.07004) sees that contours come out sharp.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from lab.generate import GUIDANCE_SCALE
from lab.train.common import Settings, Trainer, autocast, device, to_model
from lab.train.data import Dataset
from lab.train.vae import LATENT_CHANNELS, reconstruction_loss
from negguide.toybox.tokenizer import MAX_LENGTH

SIZE = 128
SETTINGS = Settings(steps=7200, batch=64, lr=2e-3, ema=0.999, warmup=200, decay_from=0.3, seed=21)
"""Half of a batch goes through the encoder, the other half are latents that the pipeline made."""
UNTIL = 6000
"""The training ends here, before its schedule does: the time on the machine was over."""
PICTURES = 40_000
ANCHOR_WEIGHT = 1.0
"""Of the squared distance to the first autoencoder's latents, in units of their variance."""
SPREAD_WEIGHT = 0.01
"""Of the squared error of the posterior's log variance."""
LATENT_NOISE = 0.15
"""The largest noise on a picture's latents, in units of their standard deviation."""
EARLIEST, LATEST, SUBSTEPS = 80, 420, 6
"""Timesteps between which the pipeline begins to draw a render anew, and its steps of DDIM from there."""
SHARPEN_FROM = 0.4
"""Fraction of the training at which the discriminator begins to count."""
BEFORE = "before_sharpening.pt"
"""The averaged weights at that point, kept to compare."""
SHARPNESS = 0.35
"""Size of the discriminator's gradient at a picture, relative to that of the reconstruction."""


def make_large_vae() -> AutoencoderKL:
    """About 2.9 M parameters; factor 8, 32 channels at full size."""
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(32, 64, 96, 96),
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=8,
        sample_size=SIZE,
    )


def make_discriminator() -> nn.Module:
    """Pictures (B, 3, 128, 128) to the verdicts (B, 1, 14, 14) on patches of 34 pixels; above zero is "a render"."""
    widths = (3, 48, 96, 128)
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [spectral_norm(nn.Conv2d(before, after, 4, 2, 1)), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, spectral_norm(nn.Conv2d(widths[-1], 1, 3, 1, 0)))


@torch.no_grad()
def redrawn(pipe: StableDiffusionPipeline, latents: Tensor, captions: list[str], seed: int, chunk: int = 250) -> Tensor:
    """Scaled latents (N, 8, 16, 16) noised part of the way and drawn to the end by the guided pipeline; float16."""
    generator = torch.Generator().manual_seed(seed)
    alphas = pipe.scheduler.alphas_cumprod.to(device())
    padding = {"padding": "max_length", "max_length": MAX_LENGTH, "truncation": True, "return_tensors": "pt"}
    made = torch.empty(latents.shape, dtype=torch.float16, device=latents.device)
    for start in range(0, len(latents), chunk):
        part = latents[start : start + chunk].float().to(device())
        ids = pipe.tokenizer(["", *captions[start : start + chunk]], **padding).input_ids.to(device())
        with autocast():
            words = pipe.text_encoder(ids).last_hidden_state
        words = torch.cat([words[:1].expand(len(part), -1, -1), words[1:]])
        first = int(torch.randint(EARLIEST, LATEST, (), generator=generator))
        times = torch.linspace(first, 0, SUBSTEPS + 1).round().long().tolist()
        noise = torch.randn(part.shape, generator=generator).to(device())
        state = alphas[first].sqrt() * part + (1 - alphas[first]).sqrt() * noise
        for now, then in pairwise(times):
            with autocast():
                free, told = pipe.unet(state.repeat(2, 1, 1, 1), now, words).sample.float().chunk(2)
            predicted = free + GUIDANCE_SCALE * (told - free)
            clean = (state - (1 - alphas[now]).sqrt() * predicted) / alphas[now].sqrt()
            end = alphas[then] if then > 0 else torch.ones_like(alphas[0])
            state = end.sqrt() * clean + (1 - end).sqrt() * predicted
        made[start : start + chunk] = state.half()
    return made


@torch.no_grad()
def moments(vae: AutoencoderKL, images: np.ndarray, chunk: int = 250) -> tuple[Tensor, Tensor]:
    """Posterior means and log variances (N, 8, 16, 16) of pictures (N, 64, 64, 3), not scaled."""
    means, spreads = [], []
    for start in range(0, len(images), chunk):
        with autocast():
            posterior = vae.encode(to_model(images[start : start + chunk])).latent_dist
        means.append(posterior.mean.float())
        spreads.append(posterior.logvar.float())
    return torch.cat(means), torch.cat(spreads)


def pictures_of(images: Tensor, index: Tensor) -> Tensor:
    """Chosen pictures (B, 3, H, W) in [-1, 1] on the training device of all (N, H, W, 3) uint8."""
    chosen = images[index.to(images.device)].to(device())
    return chosen.permute(0, 3, 1, 2).float().div_(127.5).sub_(1).contiguous(memory_format=torch.channels_last)


def train_large_vae(
    first: AutoencoderKL,
    pipe: StableDiffusionPipeline,
    small: Dataset,
    large: Dataset,
    folder: Path,
    settings: Settings = SETTINGS,
) -> AutoencoderKL:
    """Train (or resume) it.

    Args:
        first: the 64x64 autoencoder, whose latents are kept.
        pipe: the pipeline `sd`; its denoiser makes the latents that the decoder must bear.
        small, large: the same scenes, rendered at 64x64 and at 128x128.
    """
    first, pipe = nn.Module.to(first, device()).eval(), pipe.to(device())
    means, spreads = moments(first, small.images)
    scale = float(first.config["scaling_factor"])
    drawn = redrawn(pipe, means * scale, small.captions, settings.seed)
    images = torch.from_numpy(np.asarray(large.images))
    if device().type == "cuda":
        images = images.to(device())

    torch.manual_seed(settings.seed)
    vae, judge = make_large_vae(), make_discriminator()
    vae.register_to_config(scaling_factor=scale)
    trainer = Trainer(nn.ModuleDict({"vae": nn.Module.to(vae, memory_format=torch.channels_last)}), settings, folder)
    rival = Trainer(nn.ModuleDict({"judge": judge}), _rivals(settings), folder / "discriminator")
    while trainer.step < min(settings.steps, UNTIL):
        generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + trainer.step)
        half = settings.batch // 2
        index = torch.randint(len(images), (settings.batch,), generator=generator)
        pictures = pictures_of(images, index)
        told, remade = index[:half].to(means.device), index[half:].to(means.device)
        noise = torch.randn(settings.batch, LATENT_CHANNELS, 16, 16, generator=generator).to(device())
        noise *= LATENT_NOISE / scale * torch.linspace(0, 1, half, device=device()).repeat(2)[:, None, None, None]
        with autocast():
            posterior = vae.encode(pictures[:half]).latent_dist
            latents = torch.cat([posterior.mean.float(), drawn[remade].float() / scale])
            made = vae.decode(latents + noise).sample.float()
        leaf = made.detach().requires_grad_()
        rec = reconstruction_loss(leaf, pictures)
        (slope,) = torch.autograd.grad(rec, leaf)
        figures = {"rec": rec, "mse": F.mse_loss(leaf[:half], pictures[:half])}
        if trainer.step >= SHARPEN_FROM * settings.steps:
            with autocast():
                verdict = -judge(leaf).mean()
            (push,) = torch.autograd.grad(verdict, leaf)
            slope = slope + SHARPNESS * slope.norm() / push.norm().clamp(min=1e-12) * push
            with autocast():
                seen, fooled = judge(pictures), judge(leaf.detach())
            told_apart = F.relu(1 - seen.float()).mean() + F.relu(1 + fooled.float()).mean()
            rival.update({"hinge": told_apart}, told_apart)
        moved = F.mse_loss(posterior.mean.float(), means[told]) * scale**2
        spread = F.mse_loss(posterior.logvar.float(), spreads[told])
        (ANCHOR_WEIGHT * moved + SPREAD_WEIGHT * spread + (made * slope).sum()).backward()
        trainer.apply({**figures, "moved": moved, "spread": spread})
        if trainer.step == round(SHARPEN_FROM * settings.steps):
            torch.save(trainer.average, folder / BEFORE)
    rival.save()
    trainer.finish()
    return nn.Module.to(vae, memory_format=torch.contiguous_format)


def _rivals(settings: Settings) -> Settings:
    steps = round(settings.steps * (1 - SHARPEN_FROM))
    return Settings(steps=steps, batch=settings.batch, lr=settings.lr / 4, ema=0.0, warmup=100, seed=settings.seed)
