"""The decoder of 128x128 trained further, also on what the pipelines draw from nothing but words.

`enlarge.py` shows the decoder renders, and renders that were noised part of the way and drawn anew. What pipelines make out of
pure noise is different: spots that no render has, for which there is no truth either. Here a discriminator of patches judges
those as well, while their colours and shapes are held at what the decoder drew before, a quarter of the size. How much the
discriminator counts there is steered by how sharp drawn pictures are beside the renders of the same captions. The encoder
and every denoiser stay as they are.

python -m lab.train.crisp [--work .train] [--minutes 4]

Writes the autoencoder into WORK/crisp/model; an interrupted training goes on. `negguide toybox train crisp` also puts it into the
bundled pipelines.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
from torch import Tensor, nn

from lab.train.common import Settings, Trainer, autocast, device
from lab.train.data import HELD_OUT, HELD_OUT_PICTURES, TRAIN, Dataset, make_dataset
from lab.train.enlarge import SIZE, make_discriminator, moments, pictures_of, redrawn
from lab.train.sharpness import sharpness
from lab.train.vae import LATENT_CHANNELS, reconstruction_loss, score_vae
from negguide.toybox.load import PIPELINES, load_pipeline
from negguide.types import Pipeline

SETTINGS = Settings(steps=3600, batch=64, lr=5e-4, ema=0.998, warmup=50, decay_from=0.3, seed=22, save_every_s=30.0)
"""Of a batch, a quarter are the encoder's latents, a quarter redrawn renders, a half what pipelines drew."""
PICTURES = 12_000
"""Renders, of which the last `REDRAWN` are redrawn by the pipeline."""
REDRAWN = 4000
DRAWN = {"sd": 4000, "sd3": 2000, "few-step": 4000}
"""Latents that each pipeline draws from captions of clean renders."""
LATENT_NOISE = 0.1
"""The largest noise on the encoder's latents, in units of their standard deviation."""
COARSE = 4
"""Side of the squares whose mean colour a drawn picture keeps."""
PRESSURE = 0.35
"""Size of the discriminator's gradient at a picture whose render is known, relative to that of the reconstruction."""
STEERED = (0.2, 4.0)
"""Bounds of the same at a drawn picture, relative to the gradient that holds its colours."""
WANTED = 0.88
"""Sharpness of drawn pictures, as a share of the renders' of the same captions, at which the pressure is held."""
PATIENCE = 0.01
"""How much the pressure grows or falls in a step."""
JUDGED_FROM = 100
"""Steps that the discriminator, which begins anew, has to itself."""
CHUNK = 250 if torch.cuda.is_available() else 24
"""Pictures that are drawn or decoded at once."""


@torch.no_grad()
def drawn_latents(pipes: dict[str, Pipeline], captions: list[str], seed: int, batch: int = CHUNK) -> Tensor:
    """Latents (N, 8, 16, 16) as the decoder takes them, of pictures that the pipelines draw; picture i from seed `seed` + i."""
    parts, place = [], 0
    for name, pipe in pipes.items():
        usual, end = PIPELINES[name], place + DRAWN[name]
        pipe.set_progress_bar_config(disable=True)
        for start in range(place, end, batch):
            seeds = range(start, min(start + batch, end))
            with autocast():
                latents = pipe(
                    [captions[i % len(captions)] for i in seeds],
                    num_inference_steps=usual.steps,
                    guidance_scale=usual.guidance_scale,
                    generator=[torch.Generator().manual_seed(seed * 1_000_003 + i) for i in seeds],
                    output_type="latent",
                    **usual.more,
                ).images
            parts.append(latents.float() / pipe.vae.config["scaling_factor"] + (pipe.vae.config.shift_factor or 0))
        place = end
    return torch.cat(parts)


def clean_ones(renders: Dataset) -> list[int]:
    """Places of the renders that are neither blurred nor grainy: drawn latent i belongs to the caption of number i of these."""
    return [place for place, scene in enumerate(renders.scenes) if scene.style == "clean"]


def _coarse(pictures: Tensor) -> Tensor:
    return F.avg_pool2d(pictures, COARSE)


@torch.no_grad()
def _decoded(vae: AutoencoderKL, latents: Tensor, chunk: int = CHUNK) -> Tensor:
    """What a decoder makes of them, at a quarter of the size."""
    parts = []
    for part in latents.split(chunk):
        with autocast():
            parts.append(_coarse(vae.decode(part).sample.float().clamp(-1, 1)))
    return torch.cat(parts)


def _prepared(
    vae: AutoencoderKL, pipes: dict[str, Pipeline], renders: Dataset, folder: Path, seed: int
) -> dict[str, Tensor]:
    """Latents of every sort, made once: of all renders, of the redrawn ones, of drawn pictures with these at a quarter."""
    file = folder / "latents.pt"
    if not file.exists():
        means, _ = moments(vae, renders.images)
        scale, redone = float(vae.config["scaling_factor"]), slice(len(renders) - REDRAWN, None)
        sd = pipes["sd"]
        assert isinstance(sd, StableDiffusionPipeline)
        again = redrawn(sd, means[redone] * scale, renders.captions[redone], seed, chunk=2 * CHUNK).float() / scale
        drawn = drawn_latents(pipes, [renders.captions[place] for place in clean_ones(renders)], seed)
        parts = {"means": means, "again": again, "drawn": drawn, "coarse": _decoded(vae, drawn)}
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(parts, file.with_suffix(".tmp"))
        file.with_suffix(".tmp").replace(file)
    return torch.load(file, weights_only=True, map_location=device())


def _sharpened(gradient: Tensor, push: Tensor, pressure: float) -> Tensor:
    """A gradient at pictures and the discriminator's, which counts `pressure` times as much."""
    return gradient + pressure * gradient.norm() / push.norm().clamp(min=1e-12) * push


class Steering(nn.Module):
    """How much the discriminator counts at drawn pictures: more while they are less sharp than wanted, less after that."""

    pressure: Tensor
    share: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("pressure", torch.tensor(PRESSURE))
        self.register_buffer("share", torch.tensor(0.0))

    def forward(self, drawn: Tensor, renders: Tensor) -> float:
        """The pressure after pictures (B, 3, H, W) that were drawn from the captions of these renders."""
        share = sharpness(drawn).mean() / sharpness(renders).mean()
        self.share.copy_(torch.lerp(self.share, share, 0.05) if self.share > 0 else share)
        factor = 1 + PATIENCE if self.share < WANTED else 1 / (1 + PATIENCE)
        self.pressure.mul_(factor).clamp_(*STEERED)
        return float(self.pressure)


def train_crisp(
    vae: AutoencoderKL,
    pipes: dict[str, Pipeline],
    renders: Dataset,
    folder: Path,
    settings: Settings = SETTINGS,
    minutes: float = float("inf"),
) -> AutoencoderKL:
    """Train (or resume) the decoder of `vae`, in place.

    Args:
        vae: the autoencoder of 128x128, as `enlarge` leaves it.
        pipes: the bundled pipelines named in `DRAWN`.
        renders: pictures of 128x128 of the training split.
        minutes: it ends then, if its schedule does not end before.
    """
    vae = nn.Module.to(vae, device()).requires_grad_(False)
    latents = _prepared(vae, pipes, renders, folder, settings.seed)
    images = torch.from_numpy(np.array(renders.images)).to(device())
    torch.manual_seed(settings.seed)
    assert vae.post_quant_conv is not None
    decoder, judge = nn.ModuleList([vae.post_quant_conv, vae.decoder]).requires_grad_(True), make_discriminator()
    trainer = Trainer(nn.ModuleDict({"decoder": decoder.to(memory_format=torch.channels_last)}), settings, folder)
    steering = Steering()
    rival = Trainer(nn.ModuleDict({"judge": judge, "steering": steering}), _rivals(settings), folder / "discriminator")
    part, spread = settings.batch // 4, LATENT_NOISE / float(vae.config["scaling_factor"])
    end, clean = time.monotonic() + 60 * minutes, torch.tensor(clean_ones(renders))
    while trainer.step < settings.steps and time.monotonic() < end:
        generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + trainer.step)
        index = torch.randint(len(images), (part,), generator=generator)
        redone = torch.randint(REDRAWN, (part,), generator=generator)
        free = torch.randint(len(latents["drawn"]), (settings.batch - 2 * part,), generator=generator)
        truth = pictures_of(images, torch.cat([index, len(images) - REDRAWN + redone]))
        other = pictures_of(images, clean[free % len(clean)])
        noise = (
            torch.randn(part, LATENT_CHANNELS, 16, 16, generator=generator)
            * torch.linspace(0, spread, part)[:, None, None, None]
        )
        given = torch.cat(
            [latents["means"][index] + noise.to(device()), latents["again"][redone], latents["drawn"][free]]
        )
        with autocast():
            made = vae.decode(given).sample.float()
        leaf = made.detach().requires_grad_()
        known, drawn = leaf.split([len(truth), len(free)])
        rec = reconstruction_loss(known, truth)
        kept, before = _coarse(drawn), latents["coarse"][free]
        held = 3 * F.mse_loss(kept, before) + F.l1_loss(kept, before)
        (slope,) = torch.autograd.grad(rec + held, leaf)
        figures = {"rec": rec, "held": held, "mse": F.mse_loss(known[:part], truth[:part])}
        if trainer.step >= JUDGED_FROM:
            with autocast():
                verdict = -judge(leaf).mean()
            (push,) = torch.autograd.grad(verdict, leaf)
            pressure, cut = steering(drawn.detach(), other), len(truth)
            slope = torch.cat(
                [_sharpened(slope[:cut], push[:cut], PRESSURE), _sharpened(slope[cut:], push[cut:], pressure)]
            )
            figures |= {name: value.clone() for name, value in steering.named_buffers()}
        with autocast():
            real, fake = judge(torch.cat([truth, other])).float(), judge(leaf.detach()).float()
        told_apart = F.relu(1 - real).mean() + F.relu(1 + fake).mean()
        rival.update({"hinge": told_apart}, told_apart)
        (made * slope).sum().backward()
        trainer.apply(figures)
    rival.save()
    trainer.finish()
    return nn.Module.to(vae, memory_format=torch.contiguous_format)


def _rivals(settings: Settings) -> Settings:
    return Settings(steps=settings.steps, batch=settings.batch, lr=settings.lr, ema=0.0, warmup=20, seed=settings.seed)


def make_crisp(work: Path, minutes: float = float("inf")) -> AutoencoderKL:
    """The bundled autoencoder with its decoder trained further, or gone on with, in `work`."""
    renders = make_dataset(work / "data", PICTURES, TRAIN, os.cpu_count() or 2, SIZE)
    pipes = {name: load_pipeline(name).to(device()) for name in DRAWN}
    held_out = make_dataset(work / "data", HELD_OUT_PICTURES, HELD_OUT, size=SIZE).images[:1000]
    vae = load_pipeline("sd").vae.to(device())
    print("before:", score_vae(vae, held_out), flush=True)
    vae = train_crisp(vae, pipes, renders, work / "crisp", minutes=minutes)
    print("after:", score_vae(vae, held_out), flush=True)
    return vae


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path(".train"), help="folder of data and checkpoints")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="end the training then")
    given = parser.parse_args()
    torch.set_num_threads(1)
    make_crisp(given.work, given.minutes).cpu().save_pretrained(given.work / "crisp" / "model")


if __name__ == "__main__":
    main()
