"""The few-step student: the SD pipeline's UNet, taught to make in 4 steps without guidance what it makes in 12 with it.

The teacher's guided trajectories are cut into four stretches; the student learns to cross each in one step of DDIM (the
idea of progressive distillation, arXiv:2202.00512, in one go and with guidance distilled as in arXiv:2210.03142).
"""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from torch import Tensor, nn

from lab.generate import GUIDANCE_SCALE
from lab.train.common import Settings, Shares, Trainer, autocast, batches, device
from lab.train.data import Dataset
from lab.train.denoiser import make_pipeline
from lab.train.vae import LATENT_CHANNELS
from negguide.toybox.load import load_pipeline
from negguide.toybox.tokenizer import MAX_LENGTH

SETTINGS = Settings(steps=2000, batch=32, lr=4e-4, ema=0.998, warmup=50, decay_from=0.3, seed=4)
UNTIL = 1200
"""The training ends here, before its schedule does: it was good enough."""
STEPS, SUBSTEPS = 4, 3
"""Stretches of a trajectory, and steps of the teacher's solver (DPM-Solver++) in each."""
SHARD, SHARDS, CHUNK = 512, 10, 64
"""Trajectories in a file, files, and trajectories that are made together."""
COUNT = SHARD * SHARDS
HUBER = 0.1


def teacher_scheduler(pipe: StableDiffusionPipeline) -> DPMSolverMultistepScheduler:
    """Second order, its times those of DDIM with `STEPS` steps, each stretch cut in `SUBSTEPS`."""
    return DPMSolverMultistepScheduler.from_config(
        pipe.scheduler.config, algorithm_type="dpmsolver++", timestep_spacing="trailing", final_sigmas_type="zero"
    )


def make_shard(captions: list[str], shard: int, file: Path) -> None:
    """Write (SHARD, STEPS + 1, 8, 16, 16) float16: the latents at the ends of the stretches, from noise to picture."""
    torch.set_num_threads(1)
    pipe = load_pipeline("sd").to(device())
    pipe.scheduler = teacher_scheduler(pipe)
    parts = []
    for start in range(0, SHARD, CHUNK):
        generator = torch.Generator().manual_seed(SETTINGS.seed * 1_000_003 + shard * SHARD + start)
        noise = torch.randn(CHUNK, LATENT_CHANNELS, 16, 16, generator=generator)
        states = [noise]

        def keep(_: Any, step: int, __: Any, values: dict[str, Tensor], states: list[Tensor] = states) -> dict:
            if (step + 1) % SUBSTEPS == 0:
                states.append(values["latents"].float().cpu())
            return {}

        with autocast():
            pipe(
                captions[start : start + CHUNK],
                num_inference_steps=STEPS * SUBSTEPS,
                guidance_scale=GUIDANCE_SCALE,
                latents=noise.to(device()),
                output_type="latent",
                callback_on_step_end=keep,
            )
        parts.append(torch.stack(states, 1).half())
    with file.with_suffix(".tmp").open("wb") as stream:
        np.save(stream, torch.cat(parts).numpy())
    file.with_suffix(".tmp").rename(file)


def trajectories(data: Dataset, folder: Path, workers: int = 2) -> tuple[Tensor, list[str]]:
    """The teacher's trajectories, made by `workers` processes and kept in `folder`, and their captions."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{shard:03}.npy" for shard in range(SHARDS)]
    captions = data.captions[:COUNT]
    todo = [shard for shard, file in enumerate(files) if not file.exists()]
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        parts = [captions[shard * SHARD : (shard + 1) * SHARD] for shard in todo]
        list(pool.map(make_shard, parts, todo, [files[shard] for shard in todo]))
    return torch.cat([torch.from_numpy(np.load(file)) for file in files]), captions


def stretches(scheduler: DDIMScheduler) -> tuple[Tensor, Tensor, Tensor]:
    """Times (4,) int64 at which the stretches begin, and the cumulative alphas (4,) at their begins and ends."""
    scheduler.set_timesteps(STEPS)
    times = scheduler.timesteps
    alphas = scheduler.alphas_cumprod[times]
    return times, alphas, torch.cat([alphas[1:], scheduler.final_alpha_cumprod[None]])


def jump(begin: Tensor, end: Tensor, alpha_begin: Tensor, alpha_end: Tensor) -> Tensor:
    """The noise with which one step of DDIM leads from `begin` to `end` (B, C, H, W); the alphas are (B, 1, 1, 1)."""
    slope = (alpha_end / alpha_begin).sqrt()
    return (end - slope * begin) / ((1 - alpha_end).sqrt() - slope * (1 - alpha_begin).sqrt())


def train_student(data: Dataset, folder: Path) -> StableDiffusionPipeline:
    """Train (or resume) it; `folder` keeps trajectories and state. The text encoder stays the teacher's."""
    states, captions = trajectories(data, folder / "trajectories")
    pipe = load_pipeline("sd")
    pipe.text_encoder.requires_grad_(False)
    texts = pipe.tokenizer(
        captions, padding="max_length", max_length=MAX_LENGTH, truncation=True, return_tensors="pt"
    ).input_ids
    times, alphas, ends = stretches(pipe.scheduler)
    torch.manual_seed(SETTINGS.seed)
    trainer = Trainer(nn.ModuleDict({"unet": pipe.unet.train()}), SETTINGS, folder)
    encoder = pipe.text_encoder.to(device())

    def loss(begin: Tensor, noise: Tensor, part: Tensor, ids: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        with autocast():
            with torch.no_grad():
                words = encoder(ids).last_hidden_state
            predicted = pipe.unet(begin, times.to(part.device)[part], words).sample.float()
        alpha = alphas.to(part.device)[part][:, None, None, None]
        error = ((1 - alpha) / alpha).sqrt() * (predicted - noise)
        return ((error.square() + HUBER**2).sqrt() - HUBER).mean(), {"mse of x0": error.square().mean()}

    order = batches(len(states) * STEPS, SETTINGS.batch, SETTINGS.seed, trainer.step)
    shares = Shares(loss, trainer.parameters)
    while trainer.step < UNTIL:
        chosen = torch.from_numpy(next(order))
        chosen = chosen[torch.randperm(len(chosen), generator=torch.Generator().manual_seed(trainer.step))]
        row, part = chosen // STEPS, chosen % STEPS
        begin, end = states[row, part].float(), states[row, part + 1].float()
        noise = jump(begin, end, alphas[part][:, None, None, None], ends[part][:, None, None, None])
        trainer.apply(shares(*(value.to(device()) for value in (begin, noise, part, texts[row]))))
    trainer.finish()
    return make_pipeline(pipe.vae, pipe.text_encoder, cast(UNet2DConditionModel, trainer.modules["unet"]))
