"""Words that stand for less of one kind: what "a pet" and "a face" show in the pipelines that came after `sd`.

The stage `words` of the denoiser moved the vectors of four words until "a pet" was no longer nearly always a cat. The flow-matching
model gets a stage of that sort of its own; the student, which was taught before that stage with the teacher's text encoder, has its
vectors moved where the teacher's went, and further, for without guidance a word says less. Later come two more categories of the
flow-matching model, in a second stage, and one of the student, whose word is moved away from that of its dominant kind.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import cast

import torch
from diffusers.pipelines.stable_diffusion_3.pipeline_stable_diffusion_3 import StableDiffusion3Pipeline
from torch import Tensor, nn
from transformers import CLIPTextModel

from lab.train.common import Settings, Shares, Trainer, attention_kernels, autocast, device
from lab.train.data import Dataset
from lab.train.denoiser import free_words
from lab.train.mmdit import encode_texts
from lab.train.samples import Phase, Stage, names_only_category, samples
from negguide.toybox.tokenizer import make_tokenizer

FLOW = Stage(
    Settings(steps=400, batch=64, lr=4e-3, ema=0.98, warmup=20, decay_from=0.2, weight_decay=0.0, seed=31),
    (Phase(400),),
    words={"pet": 1.4, "face": 0.95},
)
"""The flow-matching model's; see `samples.Stage`."""
FLOW_LATER = Stage(
    Settings(steps=400, batch=64, lr=4e-3, ema=0.98, warmup=20, decay_from=0.2, weight_decay=0.0, seed=32),
    (Phase(400),),
    words={"fruit": 0.9, "vehicle": 0.65},
)
"""A second one, on the latents of the bundled autoencoder, for two more categories."""
FOLLOWING = {"pet": 1.25, "face": 2.2}
"""How many times as far as the teacher's the student's words move; chosen on 100 pictures of other seeds than the card's."""

AWAY = {"plant": ("flower", 0.15)}
"""How far a word of the student's moves away from that of a kind, in units of their distance; chosen like `FOLLOWING`."""


def naming(data: Dataset, categories: Collection[str]) -> Dataset:
    """The pictures of these categories whose captions leave the kind open."""
    pairs = enumerate(zip(data.scenes, data.captions, strict=True))
    some = [at for at, (scene, text) in pairs if scene.category in categories and names_only_category(scene, text)]
    return Dataset(data.images[some], [data.scenes[at] for at in some], [data.captions[at] for at in some])


def train_flow_words(
    pipe: StableDiffusion3Pipeline, latents: Tensor, data: Dataset, folder: Path, stage: Stage = FLOW
) -> None:
    """Train (or resume) the vectors of `stage.words` in both text encoders; all else stays bit for bit."""
    names = ("transformer", "text_encoder", "text_encoder_2")
    modules = nn.ModuleDict({name: getattr(pipe, name) for name in names}).train().requires_grad_(False)
    for name in names[1:]:
        free_words(cast(CLIPTextModel, modules[name]), stage.words)
    trainer = Trainer(modules, stage.settings, folder)

    def loss(x0: Tensor, noise: Tensor, t: Tensor, ids: Tensor, share: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        sigma = t.float() / 1000
        level = sigma[:, None, None, None]
        with autocast():
            words, pooled = encode_texts(modules, ids)
            velocity = modules["transformer"]((1 - level) * x0 + level * noise, words, pooled, 1000 * sigma).sample
        error = (velocity.float() - (noise - x0)).square().flatten(1).mean(1)
        return (share * error).mean(), {"mse": error.mean()}

    shares = Shares(loss, trainer.parameters)
    draws = samples(stage, latents, data, trainer.step)
    with attention_kernels():
        while trainer.step < stage.settings.steps:
            trainer.apply(shares(*(part.to(device()) for part in next(draws))))
    trainer.finish()


def _embeddings(encoder: nn.Module) -> Tensor:
    embedding: nn.Embedding = encoder.get_input_embeddings()  # type: ignore[operator]
    return embedding.weight


@torch.no_grad()
def follow(encoder: nn.Module, teacher: nn.Module, times: Mapping[str, float]) -> None:
    """Move the words for these categories, in place, from where they are towards the teacher's, `times` as far."""
    own, aim = (_embeddings(module) for module in (encoder, teacher))
    for category, factor in times.items():
        rows = make_tokenizer().convert_tokens_to_ids([f"{category}{end}</w>" for end in ("", "s")])
        own[rows] = torch.lerp(own[rows], aim[rows].to(own), factor)


@torch.no_grad()
def away(encoder: nn.Module, moves: Mapping[str, tuple[str, float]]) -> None:
    """Move the words for these categories, in place, away from the word for a kind."""
    vectors, tokenizer = _embeddings(encoder), make_tokenizer()
    for category, (kind, factor) in moves.items():
        rows = tokenizer.convert_tokens_to_ids([f"{category}{end}</w>" for end in ("", "s")])
        vectors[rows] += factor * (vectors[rows] - vectors[tokenizer.convert_tokens_to_ids(f"{kind}</w>")])
