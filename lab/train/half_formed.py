"""Half-formed pictures: what the pipeline's clean estimate shows in the middle of sampling, with the truth known."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
from torch import Tensor

from lab.generate import GUIDANCE_SCALE
from lab.train.common import autocast, device
from lab.train.data import Dataset
from lab.train.vae import LATENT_CHANNELS
from negguide.toybox.tokenizer import MAX_LENGTH
from negguide.toybox.world.captions import caption

COUNT = 12_000
OPEN_SHARE = 0.7
"""Share of the captions that leave the kind open, as the prompts do under which a watcher is of most use."""
EARLIEST, LATEST = 0.02, 0.85
"""Fractions of sampling between which the pictures lie."""


@dataclass(frozen=True)
class HalfFormed:
    """`latents` (N, 8, 16, 16) float16, scaled; of which picture (N,) int64 each is; `progress` (N,), its fraction of sampling."""

    latents: Tensor
    index: Tensor
    progress: Tensor


@torch.no_grad()
def estimates(pipe: StableDiffusionPipeline, latents: Tensor, captions: list[str], progress: Tensor) -> Tensor:
    """The guided clean estimates (B, 8, 16, 16) of clean latents that are noised to a fraction of sampling (B,) each.

    One step of the denoiser from a noised render stands for the many that sampling would have taken to come there.
    """
    scheduler, count = pipe.scheduler, len(latents)
    t = ((1 - progress) * (scheduler.config.num_train_timesteps - 1)).round().long()
    alpha = scheduler.alphas_cumprod[t].view(-1, 1, 1, 1).to(latents.device)
    noised = scheduler.add_noise(latents, torch.randn_like(latents), t.to(latents.device))
    padding = {"padding": "max_length", "max_length": MAX_LENGTH, "truncation": True, "return_tensors": "pt"}
    ids = pipe.tokenizer(["", *captions], **padding).input_ids.to(latents.device)
    with autocast():
        words = pipe.text_encoder(ids).last_hidden_state
        words = torch.cat([words[:1].expand(count, -1, -1), words[1:]])
        free, told = pipe.unet(noised.repeat(2, 1, 1, 1), t.repeat(2).to(latents.device), words).sample.float().chunk(2)
    return (noised - (1 - alpha).sqrt() * (free + GUIDANCE_SCALE * (told - free))) / alpha.sqrt()


def half_formed(
    pipe: StableDiffusionPipeline, latents: Tensor, data: Dataset, file: Path, count: int = COUNT, seed: int = 0
) -> HalfFormed:
    """`count` of them, of pictures chosen by `seed`, made once and kept in `file`."""
    if not file.exists():
        rng = np.random.default_rng([seed, count, 12])
        torch.manual_seed(seed)
        index = rng.integers(len(data), size=count)
        progress = torch.from_numpy(rng.uniform(EARLIEST, LATEST, count)).float()
        made = torch.empty(count, LATENT_CHANNELS, 16, 16, dtype=torch.float16)
        pipe.to(device())
        for start in range(0, count, 32):
            part = slice(start, start + 32)
            texts = [
                caption(data.scenes[i], rng, named=False) if rng.random() < OPEN_SHARE else data.captions[i]
                for i in index[part]
            ]
            clean = latents[torch.from_numpy(index[part])].float().to(device())
            made[part] = estimates(pipe, clean, texts, progress[part]).half().cpu()
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.with_suffix(".tmp").open("wb") as stream:
            np.savez(stream, latents=made.numpy(), index=index, progress=progress.numpy())
        file.with_suffix(".tmp").rename(file)
    found = np.load(file)
    return HalfFormed(*(torch.from_numpy(found[name]) for name in ("latents", "index", "progress")))
