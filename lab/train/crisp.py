"""The decoder of 128x128 trained further, also on what the pipelines draw from nothing but words.

`enlarge.py` shows the decoder renders, and renders that were noised part of the way and drawn anew. What pipelines make out of
pure noise is different: spots that no render has, for which there is no truth either. Here a discriminator of patches judges
those as well, while their colours and shapes are held at what the decoder drew before, a quarter of the size. The encoder
and every denoiser stay as they are.

python -m lab.train.crisp [--work .train] [--pressure 0.6]

Writes the autoencoder into WORK/crisp/model; an interrupted training goes on. The bundled one stays: `docs/training.md` says why.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DiffusionPipeline, StableDiffusionPipeline
from torch import Tensor, nn

from lab.train.common import Settings, Trainer, autocast, device
from lab.train.data import HELD_OUT, TRAIN, Dataset, make_dataset
from lab.train.enlarge import SIZE, make_discriminator, moments, pictures_of, redrawn
from lab.train.vae import LATENT_CHANNELS, reconstruction_loss, score_vae
from negguide.toybox.load import PIPELINES, load_pipeline

SETTINGS = Settings(steps=200, batch=16, lr=5e-4, ema=0.97, warmup=10, decay_from=0.4, seed=22, save_every_s=60.0)
"""Of a batch, a quarter are the encoder's latents, a quarter redrawn renders, a half what pipelines drew."""
PICTURES = 4000
"""Renders, of which the last `REDRAWN` are redrawn by the pipeline."""
REDRAWN = 1000
DRAWN = {"sd": 600, "few-step": 1200}
"""Latents that each pipeline draws from captions of the renders."""
LATENT_NOISE = 0.1
"""The largest noise on the encoder's latents, in units of their standard deviation."""
COARSE = 4
"""Side of the squares whose mean colour a drawn picture keeps."""
PRESSURE = 0.6
"""How much the discriminator counts."""
JUDGED_FROM = 30
"""Steps that the discriminator, which begins anew, has to itself."""


@torch.no_grad()
def drawn_latents(pipes: dict[str, DiffusionPipeline], captions: list[str], seed: int, batch: int = 24) -> Tensor:
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
            parts.append(latents.float() / pipe.vae.config.scaling_factor + (pipe.vae.config.shift_factor or 0))
        place = end
    return torch.cat(parts)


def _coarse(pictures: Tensor) -> Tensor:
    return F.avg_pool2d(pictures, COARSE)


@torch.no_grad()
def _decoded(vae: AutoencoderKL, latents: Tensor, chunk: int = 20) -> Tensor:
    """What a decoder makes of them, at a quarter of the size."""
    parts = []
    for part in latents.split(chunk):
        with autocast():
            parts.append(_coarse(vae.decode(part).sample.float().clamp(-1, 1)))
    return torch.cat(parts)


def _prepared(
    vae: AutoencoderKL, pipes: dict[str, DiffusionPipeline], renders: Dataset, folder: Path, seed: int
) -> dict[str, Tensor]:
    """Latents of every sort, made once: of all renders, of the redrawn ones, of drawn pictures with these at a quarter."""
    file = folder / "latents.pt"
    if not file.exists():
        means, _ = moments(vae, renders.images)
        scale, redone = float(vae.config.scaling_factor), slice(len(renders) - REDRAWN, None)
        sd = pipes["sd"]
        assert isinstance(sd, StableDiffusionPipeline)
        again = redrawn(sd, means[redone] * scale, renders.captions[redone], seed, chunk=50).float() / scale
        drawn = drawn_latents(pipes, renders.captions, seed)
        parts = {"means": means, "again": again, "drawn": drawn, "coarse": _decoded(vae, drawn)}
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(parts, file.with_suffix(".tmp"))
        file.with_suffix(".tmp").replace(file)
    return torch.load(file, weights_only=True, map_location=device())


def train_crisp(
    vae: AutoencoderKL,
    pipes: dict[str, DiffusionPipeline],
    renders: Dataset,
    folder: Path,
    settings: Settings = SETTINGS,
    pressure: float = PRESSURE,
) -> AutoencoderKL:
    """Train (or resume) the decoder of `vae`, in place.

    Args:
        vae: the autoencoder of 128x128, as `enlarge` leaves it.
        pipes: the bundled pipelines named in `DRAWN`.
        renders: pictures of 128x128 of the training split.
        pressure: size of the discriminator's gradient at a picture, relative to that of the reconstruction.
    """
    vae = vae.to(device()).requires_grad_(False)
    latents = _prepared(vae, pipes, renders, folder, settings.seed)
    images = torch.from_numpy(np.array(renders.images))
    torch.manual_seed(settings.seed)
    decoder, judge = nn.ModuleList([vae.post_quant_conv, vae.decoder]).requires_grad_(True), make_discriminator()
    trainer = Trainer(nn.ModuleDict({"decoder": decoder}), settings, folder)
    rival = Trainer(nn.ModuleDict({"judge": judge}), _rivals(settings), folder / "discriminator")
    part, spread = settings.batch // 4, LATENT_NOISE / float(vae.config.scaling_factor)
    while trainer.step < settings.steps:
        generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + trainer.step)
        index = torch.randint(len(images), (part,), generator=generator)
        redone = torch.randint(REDRAWN, (part,), generator=generator)
        free = torch.randint(len(latents["drawn"]), (settings.batch - 2 * part,), generator=generator)
        truth = pictures_of(images, torch.cat([index, len(images) - REDRAWN + redone]))
        other = pictures_of(images, torch.randint(len(images), (len(free),), generator=generator))
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
        if trainer.step >= JUDGED_FROM:
            with autocast():
                verdict = -judge(leaf).mean()
            (push,) = torch.autograd.grad(verdict, leaf)
            slope = slope + pressure * slope.norm() / push.norm().clamp(min=1e-12) * push
        with autocast():
            real, fake = judge(torch.cat([truth, other])).float(), judge(leaf.detach()).float()
        told_apart = F.relu(1 - real).mean() + F.relu(1 + fake).mean()
        rival.update({"hinge": told_apart}, told_apart)
        (made * slope).sum().backward()
        trainer.apply({"rec": rec, "held": held, "mse": F.mse_loss(known[:part], truth[:part])})
    rival.save()
    trainer.finish()
    return vae


def _rivals(settings: Settings) -> Settings:
    return Settings(
        steps=settings.steps, batch=settings.batch, lr=settings.lr * 2, ema=0.0, warmup=20, seed=settings.seed
    )


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path(".train"), help="folder of data and checkpoints")
    parser.add_argument("--pressure", type=float, default=PRESSURE, help="how much the discriminator counts")
    given = parser.parse_args()
    work = given.work
    torch.set_num_threads(1)
    renders = make_dataset(work / "data", PICTURES, TRAIN, size=SIZE)
    pipes = {name: load_pipeline(name) for name in DRAWN}
    vae = load_pipeline("sd").vae
    held_out = make_dataset(work / "data", 1000, HELD_OUT, size=SIZE).images
    print("before:", score_vae(vae, held_out), flush=True)
    vae = train_crisp(vae, pipes, renders, work / "crisp", pressure=given.pressure)
    vae.save_pretrained(work / "crisp" / "model")
    print("after:", score_vae(vae, held_out))


if __name__ == "__main__":
    main()
